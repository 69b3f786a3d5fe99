//! Named configurations: TOML that is laid over the defaults.

use crate::config::{ConfigError, Place, Preset, hint};

/// The default preset.
pub const DEFAULT_PRESET: &str = "tales";

/// All presets.
///
/// The learning rates, batch sizes and decays of GPT-1 are those of Radford et al. 2018, those of GPT-2 nanoGPT's (Radford et al. 2019 do not give
/// them), those of GPT-3 of Brown et al. 2020, table 2.1, those of SmolLM2 135M of its published training configuration (Ben Allal et al. 2025),
/// whose schedule is constant with a final decay where this one is a cosine. GPT-3 XL is printed there with 24 heads of 128, which does not match its
/// width of 2048: it has 16 heads here. The paper's larger models (2.7B and up) are left out: their moments alone would take over 20 GB.
pub const PRESETS: &[Preset] = &[
    Preset { name: DEFAULT_PRESET, about: "a small model that learns to tell tales in about two minutes", toml: TALES },
    Preset { name: "tales-llama", about: "the same with a Llama model of that size", toml: TALES_LLAMA },
    Preset { name: "nanogpt-char-cpu", about: "nanoGPT's character model for a CPU", toml: NANOGPT_CHAR_CPU },
    Preset { name: "gpt1-117m", about: "GPT-1", toml: GPT1 },
    Preset { name: "gpt2-124m", about: "GPT-2 small", toml: GPT2_SMALL },
    Preset { name: "gpt2-355m", about: "GPT-2 medium", toml: GPT2_MEDIUM },
    Preset { name: "gpt2-774m", about: "GPT-2 large", toml: GPT2_LARGE },
    Preset { name: "gpt2-1558m", about: "GPT-2 XL", toml: GPT2_XL },
    Preset { name: "gpt3-125m", about: "GPT-3 small, every second block banded", toml: GPT3_SMALL },
    Preset { name: "gpt3-350m", about: "GPT-3 medium", toml: GPT3_MEDIUM },
    Preset { name: "gpt3-760m", about: "GPT-3 large", toml: GPT3_LARGE },
    Preset { name: "gpt3-1.3b", about: "GPT-3 XL", toml: GPT3_XL },
    Preset { name: "smollm2-135m", about: "SmolLM2 135M, a small Llama", toml: SMOLLM2 },
];

/// The default preset of a training on dialogues.
pub const DEFAULT_SFT_PRESET: &str = "sft";

/// Presets of trainings on dialogues. That of InstructGPT has the values of Ouyang et al. 2022, appendix C.1, for 1.3 billion parameters.
pub const SFT_PRESETS: &[Preset] = &[
    Preset { name: DEFAULT_SFT_PRESET, about: "three passes over dialogues at a small learning rate", toml: SFT },
    Preset { name: "instructgpt-sft", about: "sixteen passes over dialogues, as InstructGPT", toml: INSTRUCTGPT_SFT },
];

/// The preset of that name.
///
/// # Errors
/// There is none; the message names the nearest.
pub fn find(name: &str) -> Result<&'static Preset, ConfigError> {
    let all = || PRESETS.iter().chain(SFT_PRESETS);
    all().find(|preset| preset.name == name).ok_or_else(|| ConfigError::Unknown {
        place: Place::Flag("--preset"),
        what: "preset",
        key: name.to_owned(),
        hint: hint(name, all().map(|preset| preset.name)),
    })
}

const TALES: &str = r#"
data = { tokenizer = "bpe", tokenizer_vocab_size = 512 }
train = { steps = 800, lr = 3e-3 }
"#;

const TALES_LLAMA: &str = r#"
model = { model_type = "llama" }
data = { tokenizer = "bpe", tokenizer_vocab_size = 512 }
train = { steps = 800, lr = 3e-3 }
"#;

const NANOGPT_CHAR_CPU: &str = r#"
model = { n_positions = 64, n_embd = 128, n_layer = 4, n_head = 4, bias = false, activation_function = "gelu" }
data = { tokenizer = "char", order = "random" }
[train]
steps = 2000
batch_size = 12
block_size = 64
lr = 1e-3
min_lr = 1e-4
warmup_steps = 100
beta2 = 0.99
weight_decay = 0.1
grad_clip = 1.0
dropout = 0.0
eval_every = 250
checkpoint_every = 500
"#;

const GPT1: &str = r#"
model = { model_type = "openai-gpt", vocab_size = 40478, n_positions = 512, n_embd = 768, n_layer = 12, n_head = 12 }
data = { tokenizer = "bpe", tokenizer_vocab_size = 40478, order = "shuffled" }
[train]
steps = 1000000
batch_size = 4
grad_accumulation = 16
block_size = 512
lr = 2.5e-4
min_lr = 0.0
warmup_steps = 2000
beta2 = 0.999
weight_decay = 0.01
dropout = 0.1
eval_every = 1000
eval_batches = 200
checkpoint_every = 1000
"#;

/// A GPT-2: width, layers, heads, learning rate.
macro_rules! gpt2 {
    ($width:literal, $layers:literal, $heads:literal, $lr:literal) => {
        concat!(
            "[model]\nvocab_size = 50257\nn_positions = 1024\nn_embd = ",
            $width,
            "\nn_layer = ",
            $layers,
            "\nn_head = ",
            $heads,
            "\n[data]\ntokenizer = \"bpe\"\ntokenizer_vocab_size = 50257\n[train]\nlr = ",
            $lr,
            "
steps = 600000
batch_size = 4
grad_accumulation = 120
block_size = 1024
warmup_steps = 2000
beta2 = 0.95
weight_decay = 0.1
eval_every = 1000
eval_batches = 200
checkpoint_every = 1000
"
        )
    };
}

const GPT2_SMALL: &str = gpt2!(768, 12, 12, "6e-4");
const GPT2_MEDIUM: &str = gpt2!(1024, 24, 16, "3e-4");
const GPT2_LARGE: &str = gpt2!(1280, 36, 20, "2.5e-4");
const GPT2_XL: &str = gpt2!(1600, 48, 25, "2e-4");

/// A GPT-3: width, layers, heads, rows of 2048 tokens in a batch, learning rate.
macro_rules! gpt3 {
    ($width:literal, $layers:literal, $heads:literal, $rows:literal, $lr:literal) => {
        concat!(
            "[model]\nvocab_size = 50257\nn_positions = 2048\nwindow_size = 256\nn_embd = ",
            $width,
            "\nn_layer = ",
            $layers,
            "\nn_head = ",
            $heads,
            "\n[data]\ntokenizer = \"bpe\"\ntokenizer_vocab_size = 50257\n[train]\nlr = ",
            $lr,
            "\ngrad_accumulation = ",
            $rows,
            "
steps = 600000
batch_size = 1
block_size = 2048
warmup_steps = 750
beta2 = 0.95
weight_decay = 0.1
eval_every = 1000
eval_batches = 200
checkpoint_every = 1000
"
        )
    };
}

const GPT3_SMALL: &str = gpt3!(768, 12, 12, 256, "6e-4");
const GPT3_MEDIUM: &str = gpt3!(1024, 24, 16, 256, "3e-4");
const GPT3_LARGE: &str = gpt3!(1536, 24, 16, 256, "2.5e-4");
const GPT3_XL: &str = gpt3!(2048, 24, 16, 512, "2e-4");

const SMOLLM2: &str = r#"
[model]
model_type = "llama"
vocab_size = 49152
max_position_embeddings = 8192
hidden_size = 576
intermediate_size = 1536
num_hidden_layers = 30
num_attention_heads = 9
num_key_value_heads = 3
rope_theta = 100000.0
initializer_range = 0.041666666666666664
[data]
tokenizer = "bpe"
tokenizer_vocab_size = 49152
order = "shuffled"
[train]
steps = 2000000
batch_size = 1
grad_accumulation = 512
block_size = 2048
lr = 3e-3
min_lr = 0.0
warmup_steps = 2000
beta2 = 0.95
weight_decay = 0.01
eval_every = 1000
eval_batches = 200
checkpoint_every = 1000
"#;

const SFT: &str = r#"
dialogue = { epochs = 3.0 }
[train]
batch_size = 8
block_size = 1024
lr = 2e-5
min_lr = 0.0
warmup_steps = 0
schedule = "linear"
beta2 = 0.999
weight_decay = 0.0
eval_every = 100
checkpoint_every = 100
"#;

const INSTRUCTGPT_SFT: &str = r#"
dialogue = { epochs = 16.0 }
[train]
batch_size = 8
grad_accumulation = 4
block_size = 2048
lr = 9.65e-6
min_lr = 9.65e-7
warmup_steps = 0
beta2 = 0.95
weight_decay = 0.0
dropout = 0.2
eval_every = 100
checkpoint_every = 100
"#;
