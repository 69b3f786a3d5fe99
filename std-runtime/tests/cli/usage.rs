//! Help, wrong usage, configuration files, manuals.

use super::*;

const COMMANDS: [&[&str]; 31] = [
    &[],
    &["train"],
    &["generate"],
    &["sft"],
    &["reward"],
    &["dpo"],
    &["kto"],
    &["ppo"],
    &["grpo"],
    &["rollout"],
    &["chat"],
    &["merge"],
    &["objectives"],
    &["score"],
    &["eval"],
    &["eval", "lm"],
    &["eval", "classify"],
    &["eval", "detect"],
    &["predict"],
    &["export"],
    &["plan"],
    &["config"],
    &["inspect"],
    &["tokenizer"],
    &["tokenizer", "train"],
    &["tokenizer", "encode"],
    &["tokenizer", "decode"],
    &["bench"],
    &["env"],
    &["completions"],
    &["man"],
];

#[test]
fn help_fits_a_terminal_and_has_examples() {
    let folder = temporary();
    for command in COMMANDS {
        for flag in ["--help", "-h"] {
            let help = done(folder.path(), &[command, &[flag]].concat());
            let widest = help.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(widest <= 80, "{command:?} {flag}: {widest} columns");
            assert!(command == ["tokenizer"] || help.contains("samara "), "{command:?}");
            assert!(!help.contains('\u{1b}'), "{command:?}");
        }
    }
}

#[test]
fn wrong_usage_is_exit_code_2_with_the_nearest_name() {
    let folder = temporary();
    let at = folder.path();
    refused(at, &[], 2, &["Usage: samara"]);
    refused(at, &["trian"], 2, &["unrecognized subcommand 'trian'", "'train'"]);
    refused(at, &["train", "--dat", "x"], 2, &["unexpected argument '--dat'", "--data"]);
    refused(at, &["train", "--preset", "gpt2-124"], 2, &["gpt2-124m"]);
    refused(at, &["train", "--set", "train.stesp=3"], 2, &["--set train.stesp=3", "unknown key", "`steps`"]);
    refused(at, &["train", "--set", "train.steps"], 2, &["expected key=value"]);
    refused(at, &["train", "--seed", "-1"], 2, &["--seed: train.seed: expected an integer", "found -1"]);
    refused(at, &["train", "--threads", "many"], 2, &["--threads: train.threads", "found \"many\""]);
    refused(at, &["train", "--resume"], 2, &["--resume needs the run folder", "--out"]);
    refused(at, &["train", "--config", "absent.toml"], 2, &["absent.toml: cannot read"]);
    refused(at, &["score", "--model", "x"], 2, &["--text"]);
    refused(at, &["score", "--model", "x", "--tokens", "1,x"], 2, &["--tokens: id 1 is \"x\""]);
    refused(
        at,
        &["generate", "--model", "x", "--top-p", "1.5"],
        2,
        &["--top-p: generate.top_p: expected a number from 0 to 1, found 1.5"],
    );
    assert_eq!(fs::read_dir(at).expect("folder").count(), 0, "nothing is written");
}

#[test]
fn a_wrong_file_is_named_with_line_and_column() {
    let folder = temporary();
    let at = folder.path();
    for (toml, parts) in [
        ("[train]\nsteps = 3\nstesp = 4\n", &["run.toml:3:1: unknown key `train.stesp`; did you mean `steps`?"][..]),
        ("[train]\nsteps = 'x'\n", &["run.toml:2:9: train.steps: expected an integer", "found \"x\""]),
        ("[train]\nsteps = \n", &["run.toml:2:9: not TOML"]),
        ("[modle]\n", &["run.toml:1:2: unknown table `modle`; did you mean `model`?"]),
        ("\u{0}\u{1}", &["run.toml:1:3: not TOML"]),
        ("[model]\nn_layer = 0\n", &["run.toml:2:11: model.n_layer: expected a number from 1 to 4096, found 0"]),
        ("[model]\nn_embd = 130\n", &["run.toml:2:10: model.n_embd: expected a multiple of model.n_head = 4, found 130"]),
        ("[model]\nn_embd = 65536\nn_layer = 4096\n", &["model.n_layer: expected a model of at most 68719476720 parameters"]),
        ("[train]\nblock_size = 1000000\n", &["run.toml:2:14: train.block_size: expected at most model.n_positions"]),
        ("[train]\nlr = -1e-3\n", &["run.toml:2:6: train.lr: expected a number from 0 to 1000, found -1e-3"]),
        ("[train]\nlr = nan\n", &["run.toml:2:6: train.lr", "found nan"]),
        ("[train]\nbatch_size = 18446744073709551616\n", &["run.toml:2:14: train.batch_size: expected an integer"]),
    ] {
        fs::write(at.join("run.toml"), toml).expect("file");
        for command in ["train", "plan", "config"] {
            refused(at, &[command, "--config", "run.toml"], 2, parts);
        }
    }
    fs::write(at.join("run.toml"), [0xff, 0xfe, b'x']).expect("file");
    refused(at, &["config", "--config", "run.toml"], 2, &["run.toml: cannot read the configuration"]);
}

#[test]
fn the_effective_configuration_can_be_read_again() {
    let folder = temporary();
    let at = folder.path();
    let first = done(at, &["config", "--preset", "gpt3-125m", "--set", "train.lr=0.25", "--seed", "7"]);
    assert!(first.contains("lr = 0.25\n") && first.contains("seed = 7\n") && first.contains("window_size = 256\n"));
    fs::write(at.join("run.toml"), &first).expect("file");
    assert_eq!(done(at, &["config", "--config", "run.toml"]), first);
}

#[test]
fn completions_manual_and_environment() {
    let folder = temporary();
    let at = folder.path();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(done(at, &["completions", shell]).contains("samara"), "{shell}");
    }
    assert!(done(at, &["man"]).contains(".TH samara 1"));
    done(at, &["man", "--out", "man1"]);
    let pages: Vec<PathBuf> = fs::read_dir(at.join("man1")).expect("folder").map(|f| f.expect("file").path()).collect();
    assert!(
        pages.contains(&at.join("man1/samara-train.1")) && pages.contains(&at.join("man1/samara-tokenizer-train.1")),
        "{pages:?}"
    );
    let env: Value = serde_json::from_str(&done(at, &["env", "--json"])).expect("JSON");
    assert_eq!((&env["version"], &env["cuda"]), (&env!("CARGO_PKG_VERSION").into(), &"not built in".into()));
    assert!(env["threads"].as_u64().is_some_and(|n| n >= 1));
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    let folder = temporary();
    let mut child =
        command(folder.path(), &["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("binary");
    let mut out = child.stdout.take().expect("output");
    out.read_exact(&mut [0; 10]).expect("ten bytes");
    drop(out);
    let output = child.wait_with_output().expect("end");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}
