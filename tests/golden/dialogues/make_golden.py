"""Records what jinja2 and transformers make of dialogues: texts of chat templates with the parts that the assistant says, token ids, and losses.

Made with torch 2.15.0, transformers 5.24.0, tokenizers 0.23.3, jinja2 3.1.6, safetensors 0.8.0. Usage, in this folder: python make_golden.py
"""

import json
import pathlib

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

HERE = pathlib.Path(__file__).parent
BUILT_IN = HERE / "../../../std-runtime/src/dialogue/templates"

# Templates of our own that use what chat templates of model folders use.
SOURCES = {
    "header blocks with a default for the system": """\
{% if messages[0]['role'] == 'system' %}
    {% set loop_messages = messages[1:] %}
    {% set system_message = messages[0]['content'].strip() %}
{% else %}
    {% set loop_messages = messages %}
    {% set system_message = 'Be brief.' %}
{% endif %}
{{ bos_token }}<|system|>
{{ system_message }}
{% for message in loop_messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Roles must alternate: user, assistant, user') }}
    {% endif %}
<|{{ message['role'] }}|>
{{ message['content'] | trim }}{{ eos_token }}
{% endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% endif %}
""",
    "instruction brackets": """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' + message.content + ' [/INST]' }}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + message.content | trim + eos_token }}
    {%- else %}
        {{- raise_exception('Only user and assistant are known, not ' + message.role) }}
    {%- endif %}
{%- endfor %}""",
    "a namespace, methods of strings, reasoning cut from history": """\
{%- set ns = namespace(last=-1, seen=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' and '</think>' in content and loop.index0 < ns.last %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- set ns.seen = ns.seen + 1 %}
    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ content.rstrip() ~ '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}""",
    "generation blocks on lines of their own": """\
{% for message in messages %}
    {% if message.role == 'assistant' %}
<start>model
{% generation %}
{{ message.content }}<end>
{% endgeneration %}
    {% else %}
<start>{{ message.role.upper() }}
{{ message.content }}<end>
    {% endif %}
{% endfor %}
{%- if add_generation_prompt -%}
<start>model
{% endif %}""",
    "a macro, dictionaries, JSON": """\
{%- macro say(who, what) -%}
{{ who.title() }}: {{ what }}
{% endmacro -%}
{%- for message in messages -%}
    {{- say(message.role, message.content) -}}
    {%- for key, value in message.items() if key not in ['role', 'content'] -%}
        {{- key ~ '=' ~ (value | tojson) ~ ';' ~ (value | tojson(indent=2)) ~ '\\n' -}}
    {%- endfor -%}
{%- endfor -%}
{%- if tools is not defined or not tools -%}no tools{%- endif -%}
{{- messages | map(attribute='role') | join(',') -}}
{{- messages | selectattr('role', 'equalto', 'user') | list | length -}}""",
    "the day, loops with breaks, tests": """\
{{- 'Today is ' + strftime_now('%d %B %Y') + '.' -}}
{%- for message in messages -%}
    {%- if loop.index > 3 -%}{%- break -%}{%- endif -%}
    {%- if message.content is string and message.content is not none -%}
        {{- '\\n' ~ loop.index ~ (' last ' if loop.last else ' ') ~ message.content.replace('\\n', ' ') -}}
    {%- else -%}{%- continue -%}{%- endif -%}
{%- endfor -%}
{%- if messages[-1].role != 'assistant' and not add_generation_prompt -%} (open){%- endif -%}""",
}

DIALOGUES = {
    "one answer": [("user", "Who are you?"), ("assistant", "A model.")],
    "two answers": [("user", " Hi \n"), ("assistant", "Hello!\nHow are you?"), ("user", "Fine & <well>"), ("assistant", "Good, \"really\".")],
    "system first": [("system", " Speak like a poet. "), ("user", "é ü 🍁"), ("assistant", "<think>\nhm\n</think>\n\nLeaves fall."), ("user", "More"), ("assistant", "")],
    "open end": [("system", "S"), ("user", "Only a question")],
    "two questions": [("user", "a"), ("user", "b"), ("assistant", "c")],
}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def messages(dialogue):
    turns = [{"role": role, "content": content} for role, content in dialogue]
    if len(turns) > 1:
        turns[1]["calls"] = [{"name": "add", "arguments": {"b": 1, "a": [1.5, None, True, "é\n\u0001\"/"]}}, {}]
    return turns


def render(source, turns, add_generation_prompt):
    marked = "generation %}" in source or "generation -%}" in source
    texts, spans = render_jinja_template(
        [turns], chat_template=source, return_assistant_tokens_mask=marked, add_generation_prompt=add_generation_prompt, **TOKENS)
    return texts[0], [list(map(int, span)) for span in spans[0]] if marked else None


def templates():
    sources = {name: (source, None) for name, source in SOURCES.items()}
    sources |= {path.stem: (path.read_text(), path.stem) for path in sorted(BUILT_IN.glob("*.jinja"))}
    cases = []
    for name, (source, built_in) in sources.items():
        for what, dialogue in DIALOGUES.items():
            for add in [False, True]:
                turns = messages(dialogue)
                case = {"template": name, "dialogue": what, "messages": turns, "add_generation_prompt": add}
                try:
                    text, spans = render(source, turns, add)
                    if "strftime_now" in source:
                        # The day is not that of the recording.
                        from datetime import datetime
                        text = text.replace(datetime.now().strftime("%d %B %Y"), "29 February 2024")
                    case |= {"text": text} | ({"spans": spans} if spans is not None else {})
                except Exception as error:
                    case |= {"error": str(error).split("\n")[0]}
                cases.append(case)
    kept = {name: source for name, (source, built_in) in sources.items() if built_in is None}
    return {"tokens": TOKENS, "today": "2024-02-29", "sources": kept, "cases": cases}


def model():
    """A byte-level BPE with ChatML's tokens, and a tiny GPT-2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    corpus = (HERE / "../tokenizer/corpus.txt").read_text()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=specials, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(corpus.splitlines(keepends=True), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", model_max_length=192)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=320, n_positions=192, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
                        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.3)
    lm = GPT2LMHeadModel(config).eval()
    lm.save_pretrained(HERE / "model")
    fast.save_pretrained(HERE / "model")
    return fast, lm


ROWS = [
    {"prompt": "The sky is", "completion": " blue today."},
    {"prompt": "Say <|endoftext|> please:", "completion": " <|im_end|> is text"},
    {"prompt": "Count: one two", "completion": " three four five six seven eight nine ten"},
    {"prompt": "", "completion": "Alone."},
]
CHATS = [
    {"messages": [{"role": role, "content": content} for role, content in dialogue]}
    for dialogue in [DIALOGUES["one answer"], DIALOGUES["two answers"], DIALOGUES["system first"]]
]


def loss_of(lm, ids, labels):
    width = max(map(len, ids))
    pad = lambda rows, value: torch.tensor([row + [value] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
    with torch.no_grad():
        return lm(input_ids=pad(ids, 0), attention_mask=mask, labels=pad(labels, -100)).loss.item()


def losses(tokenizer, lm):
    """Prompt and completion encoded apart, texts of special tokens as text; one end-of-text token behind each answer."""
    # What `split_special_tokens` does to texts of special tokens, said to the tokenizer itself.
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.encode_special_tokens = True
    encode = lambda text: plain.encode(text, add_special_tokens=False).ids
    pairs = []
    for row in ROWS:
        prompt, completion = encode(row["prompt"]), encode(row["completion"]) + [tokenizer.eos_token_id]
        pairs.append({"ids": prompt + completion, "labels": [-100] * len(prompt) + completion})
    chats = []
    # The end-of-text token of this folder is not that of a turn: the template writes both.
    source = (BUILT_IN / "chatml.jinja").read_text()
    for row in CHATS:
        encoded = tokenizer.apply_chat_template(
            row["messages"], chat_template=source, return_dict=True, return_assistant_tokens_mask=True, tokenize=True)
        ids, mask = encoded["input_ids"], encoded["assistant_masks"]
        chats.append({"ids": ids, "labels": [i if m else -100 for i, m in zip(ids, mask)]})
    out = {}
    for name, rows, cases in [("pairs", ROWS, pairs), ("chats", CHATS, chats)]:
        ids, labels = [case["ids"] for case in cases], [case["labels"] for case in cases]
        out[name] = {"rows": rows, "cases": cases, "loss": loss_of(lm, ids, labels), "each": [loss_of(lm, [i], [l]) for i, l in zip(ids, labels)]}
    return out


if __name__ == "__main__":
    write = lambda name, value: (HERE / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    write("templates.json", templates())
    write("losses.json", losses(*model()))
