//! The configuration of a training: layers, errors, presets, limits.

use std::path::Path;

use samara_core::graph::{Momentum, Rule};
use samara_core::params::{ParamInfo, Registry};

use super::config::RunConfig;
use super::presets::{PRESETS, find};
use crate::config::{ConfigError, Layers, conflicts, differences, to_toml};
use crate::data::config::TokenizerChoice;
use crate::kernels::gemm::Gemm;
use crate::model::ModelConfig;

fn merged(file: &str, sets: &[&str]) -> Result<RunConfig, String> {
    let mut layers = Layers::<RunConfig>::new();
    let text = |error: ConfigError| error.to_string();
    layers.text(Path::new("run.toml"), file).map_err(text)?;
    sets.iter().try_for_each(|set| layers.set(set)).map_err(text)?;
    layers.finish().map_err(text)
}

#[test]
fn later_layers_win() {
    let mut layers = Layers::<RunConfig>::new();
    layers.preset(find("nanogpt-char-cpu").unwrap()).unwrap();
    layers.text(Path::new("a.toml"), "[train]\nsteps = 7\nlr = 1e-4\nmin_lr = 0\n").unwrap();
    layers.set("train.lr=0.5").unwrap();
    layers.flag("--seed", "train.seed", "9");
    let config = layers.finish().unwrap();
    assert_eq!((config.train.steps, config.train.lr, config.train.seed, config.train.min_lr), (7, 0.5, 9, Some(0.0)));
    let ModelConfig::Gpt(model) = &config.model else { panic!("{:?}", config.model) };
    assert_eq!((model.n_embd, model.bias, config.train.block_size), (128, false, 64));
    assert_eq!(config.data.tokenizer, TokenizerChoice::Char);
}

#[test]
fn a_run_ends_by_steps_or_tokens_or_operations() {
    let steps = |sets: &[&str]| merged("", sets).map(|config| config.train.steps_of(100, 1000));
    assert_eq!(steps(&["train.steps=7"]), Ok(7));
    assert_eq!(steps(&["train.tokens=701", "train.steps=3"]), Ok(8));
    assert_eq!(steps(&["train.flops=7e5"]), Ok(7));
    let error = steps(&["train.flops=7e5", "train.tokens=1"]).unwrap_err();
    assert!(error.contains("train.tokens: expected 0, because train.flops"), "{error}");
}

#[test]
fn set_takes_text_without_quotes() {
    let config =
        merged("", &["data.path=a b/c.jsonl", "data.text_field=2020", "generate.prompt=\"x\\n\"", "train.gemm=portable"])
            .unwrap();
    assert_eq!(config.data.path.as_deref(), Some(Path::new("a b/c.jsonl")));
    assert_eq!((config.data.text_field.as_str(), config.generate.prompt.as_str()), ("2020", "x\n"));
    assert_eq!(config.train.gemm, Gemm::Portable);
}

#[test]
#[allow(clippy::too_many_lines, reason = "a list of cases")]
fn errors_say_where_what_and_what_instead() {
    for (file, expected) in [
        ("[train]\nlr = 1e-3\n  stesp = 30\n", "run.toml:3:3: unknown key `train.stesp`; did you mean `steps`?"),
        ("[train]\nsteps = \"many\"\n", "run.toml:2:9: train.steps: expected an integer from 1 to 1000000000, found \"many\""),
        ("[train]\nsteps = 0", "run.toml:2:9: train.steps: expected a number from 1 to 1000000000, found 0"),
        ("[train]\nsteps = -3", "run.toml:2:9: train.steps: expected an integer from 1 to 1000000000, found -3"),
        ("[train]\nsteps = 99999999999999999999999", "found 99999999999999999999999"),
        ("[train]\nlr = nan", "run.toml:2:6: train.lr: expected a number from 0 to 1000, found nan"),
        ("[train]\nlr = inf", "train.lr: expected a number from 0 to 1000, found inf"),
        ("[train]\nlr = -1.0", "train.lr: expected a number from 0 to 1000, found -1.0"),
        (
            "[train]\nignore_extra = true",
            "run.toml:2:16: train.ignore_extra: expected no value; it applies to the tensors of train.init",
        ),
        ("[model]\nn_layer = 0", "run.toml:2:11: model.n_layer: expected a number from 1 to 4096, found 0"),
        ("[model]\nbias = 1", "run.toml:2:8: model.bias: expected true or false, found 1"),
        ("[model]\nactivation_function = \"swish\"", "expected one of \"gelu_new\", \"gelu\", \"relu\""),
        ("[model]\nn_head = 5", "defaults: model.n_embd: expected a multiple of model.n_head = 5, found 128"),
        ("[model]\nn_embd = 130", "run.toml:2:10: model.n_embd: expected a multiple of model.n_head = 4, found 130"),
        ("[train]\nblock_size = 4096", "run.toml:2:14: train.block_size: expected at most model.n_positions = 128, found 4096"),
        ("[train]\nbatch_size = 1000000", "run.toml:2:14: train.batch_size: expected at most 32767 rows"),
        (
            "[model]\nn_embd = 65536\nn_layer = 4096",
            "run.toml:3:11: model.n_layer: expected a model of at most 68719476720 parameters",
        ),
        ("[train]\nmin_lr = 0.5", "run.toml:2:10: train.min_lr: expected at most train.lr = 0.001, found 0.5"),
        (
            "[train]\noptimizer = \"sgd\"\nbeta1 = 0.95",
            "run.toml:3:9: train.beta1: expected no value; train.optimizer = \"sgd\" uses train.momentum instead, or set",
        ),
        (
            "[train]\nmomentum = 0.9",
            "run.toml:2:12: train.momentum: expected no value; train.optimizer = \"adamw\" uses train.beta1",
        ),
        (
            "[train]\noptimizer = \"sgd\"\nnesterov = true",
            "run.toml:3:12: train.nesterov: expected no value; Nesterov's momentum needs a train.momentum above 0, found true",
        ),
        ("[train]\noptimizer = \"adam\"", "run.toml:2:13: train.optimizer: expected one of \"adamw\", \"sgd\", found \"adam\""),
        ("steps = 3", "run.toml:1:1: unknown table `steps`; did you mean `train.steps`?"),
        ("[trian]\nsteps = 3", "run.toml:1:2: unknown table `trian`; did you mean `train`?"),
        ("train = 3", "run.toml:1:1: train: expected a table [train], found 3"),
        ("[data]\nn_embd = 3", "run.toml:2:1: unknown key `data.n_embd`; did you mean `model.n_embd`?"),
        (
            "[model]\nhidden_size = 8",
            "run.toml:2:1: unknown key `model.hidden_size`, a key of llama, mistral, qwen2 models, in a model of type gpt2; did you mean `n_embd`?",
        ),
        (
            "[model]\nmodel_type = \"bert\"",
            "run.toml:2:14: model.model_type: expected one of \"gpt2\", \"openai-gpt\", \"llama\"",
        ),
        ("[train]\nsteps = = 3", "run.toml:2:9: not TOML"),
        ("[train]\nsteps = 3\nsteps = 4", "run.toml:3:1: not TOML"),
        ("[train\n", "not TOML"),
        ("[data]\npath = \"\"", "run.toml:2:8: data.path: expected a path in quotes, found \"\""),
        ("[model]\nmodel_type = \"openai-gpt\"\nactivation_function = \"gelu\"", "run.toml:3:23: model.activation_function"),
        ("# \u{fc}\u{fc}\n[train] # \u{fc}\nlr = 1\nx\u{fc} = 1", "not TOML"),
        ("[train]\n\"\u{fc}\" = 1", "run.toml:2:1: unknown key `train.\u{fc}`"),
    ] {
        let error = merged(file, &[]).expect_err(file);
        assert!(error.contains(expected), "{file:?}\n got {error}\nwant {expected}");
    }
    for (set, expected) in [
        ("train.stesp=3", "--set train.stesp=3: unknown key `train.stesp`; did you mean `steps`?"),
        ("steps=3", "--set steps=3: unknown table `steps`; did you mean `train.steps`?"),
        ("train.steps", "--set train.steps: --set: expected key=value"),
        (
            "model.rms_norm_eps=1",
            "unknown key `model.rms_norm_eps`, a key of llama, mistral, qwen2 models, in a model of type gpt2; did you mean `layer_norm_epsilon`?",
        ),
        ("train.steps=", "--set train.steps=: train.steps: expected an integer"),
        ("train.lr=-1", "--set train.lr=-1: train.lr: expected a number from 0 to 1000, found -1"),
    ] {
        let error = merged("", &[set]).expect_err(set);
        assert!(error.contains(expected), "{set:?}\n got {error}");
    }
}

/// A default in a file may be without effect, as in a complete configuration file; a default that the user sets may not.
#[test]
fn defaults_of_a_file_may_stay_unread() {
    let file = "[train]\noptimizer = \"sgd\"\nbeta1 = 0.9";
    assert!(merged(file, &[]).is_ok());
    let error = merged(file, &["train.beta1=0.9"]).unwrap_err();
    assert!(error.starts_with("--set train.beta1=0.9: train.beta1: expected no value"), "{error}");
}

/// Values of a preset for AdamW do not prevent another optimizer, and are not written.
#[test]
fn a_preset_goes_with_another_optimizer() {
    let mut layers = Layers::<RunConfig>::new();
    layers.preset(find("gpt2-124m").unwrap()).unwrap();
    for set in ["train.optimizer=sgd", "train.momentum=0.9", "train.nesterov=true"] {
        layers.set(set).unwrap();
    }
    let config = layers.finish().unwrap();
    assert_eq!(config.train.rule(), Rule::Sgd(Momentum::Nesterov));
    let text = to_toml(&config);
    assert!(text.contains("\nmomentum = 0.9\n") && text.contains("\n# beta2 =\n"), "{text}");
    assert_eq!(conflicts(&merged(&text, &[]).unwrap(), &config), []);
}

#[test]
fn every_preset_is_valid_and_survives_being_written() {
    for preset in PRESETS {
        let mut layers = Layers::<RunConfig>::new();
        layers.preset(preset).unwrap();
        let config = layers.finish().unwrap();
        let mut again = Layers::<RunConfig>::new();
        again.text(Path::new("run.toml"), &to_toml(&config)).unwrap();
        assert_eq!(again.finish().unwrap(), config, "{}", preset.name);
    }
}

#[test]
fn unusual_values_survive_being_written() {
    let sets = [
        "model.vocab_size=300",
        "model.n_inner=77",
        "data.path=a \"b\"\\c.txt",
        "data.tokenizer=some/tokenizer.json",
        "train.min_lr=1e-30",
        "train.lr=3",
        "generate.prompt=\"line\\none\\u0000 \u{1f341}\"",
        "train.recompute=blocks",
        "train.schedule=constant",
        "train.seed=9007199254740991",
    ];
    let config = merged("", &sets).unwrap();
    assert_eq!(merged(&to_toml(&config), &[]).unwrap(), config);
    assert_eq!(differences(&merged("", &sets).unwrap(), &config), []);
    // With data of its own a run has no size of the built-in corpus.
    assert_eq!(differences(&config, &RunConfig::default()).len(), sets.len() + 1);
    let conflicts: Vec<String> = conflicts(&config, &RunConfig::default()).into_iter().map(|d| d.key).collect();
    assert!(conflicts.contains(&"train.lr".to_owned()) && !conflicts.contains(&"generate.prompt".to_owned()));
}

#[test]
fn presets_have_the_sizes_of_their_names() {
    // Published counts, the position embeddings included.
    for (name, parameters) in [
        ("gpt2-124m", 124_439_808),
        ("gpt2-355m", 354_823_168),
        ("gpt2-774m", 774_030_080),
        ("gpt2-1558m", 1_557_611_200),
        ("gpt1-117m", 116_534_784),
        ("smollm2-135m", 134_515_008),
    ] {
        let mut layers = Layers::<RunConfig>::new();
        layers.preset(find(name).unwrap()).unwrap();
        assert_eq!(layers.finish().unwrap().model.parameters(), Some(parameters), "{name}");
    }
}

#[test]
fn parameters_are_those_of_the_registry() {
    for sets in [
        &["model.vocab_size=61", "model.n_layer=3"][..],
        &["model.vocab_size=61", "model.bias=false", "model.n_inner=100"],
        &["model.vocab_size=61", "model.model_type=openai-gpt"],
        &["model.vocab_size=61", "model.model_type=openai-gpt", "model.bias=false"],
        &["model.model_type=llama", "model.vocab_size=61", "model.num_key_value_heads=2", "model.tie_word_embeddings=false"],
        &["model.model_type=llama", "model.vocab_size=61", "model.attention_bias=true", "model.mlp_bias=true"],
        &["model.model_type=qwen2", "model.vocab_size=61", "model.head_dim=8"],
    ] {
        let model = merged("", sets).unwrap().model;
        let architecture = model.architecture().unwrap();
        let mut infos = vec![ParamInfo::default(); Registry::count(|s| architecture.register(s))];
        let mut registry = Registry::new(&mut infos);
        architecture.register(&mut registry.scope());
        assert_eq!(model.parameters(), Some(registry.finish(4).unwrap().trainable_count() as u128));
    }
}
