"""Time a prompt and greedy decoding of GPT-2 124M with random weights, for turns with others.

    python decode_peer.py transformers FOLDER [--threads 2]      # writes the folder if it is not there
    python decode_peer.py llama.cpp MODEL.gguf [--threads 2]

For every line "PROMPT NEW" of standard input: a line of JSON with the milliseconds of a prompt of PROMPT tokens (its last logits
included) and of each of NEW tokens after it. The key and value cache starts empty.
"""

import argparse
import json
import pathlib
import resource
import sys
import time


def transformers(folder, threads):
    """Returns a function from (prompt, number of tokens) to seconds of the prompt and of the tokens."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    if not (folder / "model.safetensors").is_file():
        GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    model = GPT2LMHeadModel.from_pretrained(folder).eval()

    def run(prompt, new):
        begun = time.perf_counter()
        out = model(torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1:].argmax(-1)
        after_prompt = time.perf_counter()
        for _ in range(new):
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[:, -1:].argmax(-1)
        return after_prompt - begun, time.perf_counter() - after_prompt

    return run


def llama_cpp(path, threads):
    import llama_cpp
    import numpy

    llama = llama_cpp.Llama(str(path), n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
    vocabulary = llama.n_vocab()

    def best():
        logits = llama_cpp.llama_get_logits_ith(llama.ctx, -1)
        return int(numpy.ctypeslib.as_array(logits, shape=(vocabulary,)).argmax())

    def run(prompt, new):
        llama.reset()
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(llama.ctx), True)
        begun = time.perf_counter()
        llama.eval(prompt)
        token = best()
        after_prompt = time.perf_counter()
        for _ in range(new):
            llama.eval([token])
            token = best()
        return after_prompt - begun, time.perf_counter() - after_prompt

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=["transformers", "llama.cpp"])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    run = {"transformers": transformers, "llama.cpp": llama_cpp}[args.peer](args.model, args.threads)
    run([1, 2, 3], 3)
    print("ready", flush=True)
    for line in sys.stdin:
        prompt, new = map(int, line.split())
        prompt_s, tokens_s = run(list(range(prompt)), new)
        report = {
            "prompt_ms": 1e3 * prompt_s,
            "token_ms": 1e3 * tokens_s / max(new, 1),
            "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
