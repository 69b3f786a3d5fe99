//! The examples do what they say: they learn, go on where they were stopped, and are as short as their guide promises.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use samara::data::corpus::tales;
use samara::run::metrics::{self, Metrics};

/// The lines that each example may have.
const LIMITS: [(&str, usize); 2] = [("own_model", 120), ("mlp_classifier", 60)];

/// An example that is about to run. Cargo builds examples with all tests of a package, but not with a single one.
fn example(name: &str) -> Command {
    let path = Path::new(env!("CARGO_BIN_EXE_samara")).with_file_name("examples").join(name);
    assert!(path.is_file(), "{} is not built: cargo build -p samara --examples", path.display());
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn own_model(out: &Path, text: &Path) -> Command {
    let mut command = example("own_model");
    command.arg("--out").arg(out).arg("--data").arg(text).args(["--steps", "50"]);
    command
}

/// Runs to the end and returns standard output.
fn done(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the example runs");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("UTF-8")
}

/// The first and the second number of a line, such as a result and what it is compared with.
fn two_numbers(line: &str) -> [f64; 2] {
    let mut numbers = line.split([' ', ',', '\n']).filter_map(|word| word.parse().ok());
    [(); 2].map(|()| numbers.next().unwrap_or_else(|| panic!("two numbers in {line:?}")))
}

fn records(out: &Path) -> Vec<Metrics> {
    let mut records = metrics::read(&out.join("metrics.jsonl")).expect("metrics");
    records.iter_mut().for_each(|record| record.values.retain(|name, _| name != "tokens_per_s" && name != "wall_s"));
    records
}

/// Starts a run and waits until so many steps are recorded.
fn started(command: &mut Command, out: &Path, steps: usize) -> Child {
    let mut child = command.spawn().expect("the example starts");
    let begun = Instant::now();
    while fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count()) < steps {
        assert!(begun.elapsed() < Duration::from_secs(120) && child.try_wait().expect("a child").is_none(), "no {steps} steps");
        thread::sleep(Duration::from_millis(1));
    }
    child
}

/// Every file of a run that does not depend on how it ran.
fn weights(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = ["model.safetensors", "best/model.safetensors", "checkpoints/step-0000050/training.safetensors"];
    files.map(|file| (file.into(), fs::read(out.join(file)).expect(file))).into()
}

#[test]
fn a_model_of_ones_own_learns_and_goes_on_to_the_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let [text, whole, stopped] = ["tales.txt", "whole", "stopped"].map(|name| folder.path().join(name));
    fs::write(&text, tales(0, 60_000)).expect("a text");
    let [loss, unigram] = two_numbers(&done(&mut own_model(&whole, &text)));
    // Far below what frequencies alone can do, and both terms fell.
    assert!(loss < unigram - 0.2, "{loss} {unigram}");
    let of_whole = records(&whole);
    for name in ["train_poly1", "train_loss"] {
        let value = |i: usize| of_whole[i].get(name).expect(name);
        assert!(value(50) < value(1) - 1.0, "{name}");
    }
    assert!(of_whole[50].get("val_loss").is_some_and(|x| (x - loss).abs() < 1e-4));
    for plot in ["loss.svg", "poly1.svg"] {
        assert!(fs::read_to_string(whole.join(plot)).expect(plot).contains("nats per token"), "{plot}");
    }
    // Asked to stop, then killed, then run to the end.
    let child = started(&mut own_model(&stopped, &text), &stopped, 6);
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill");
    let Output { status, stderr, .. } = child.wait_with_output().expect("a child");
    let message = String::from_utf8_lossy(&stderr);
    assert!(status.code() == Some(143) && message.contains("resume with: the same command"), "{status}: {message}");
    let steps = records(&stopped).len();
    let mut child = started(&mut own_model(&stopped, &text), &stopped, steps + 4);
    child.kill().expect("kill");
    child.wait().expect("a child");
    assert!(!stopped.join("checkpoints/step-0000050").exists(), "killed too late");
    done(&mut own_model(&stopped, &text));
    assert_eq!(records(&stopped), of_whole);
    assert!(weights(&stopped) == weights(&whole));
}

#[test]
fn the_classifier_tells_spirals_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("spirals");
    let [accuracy, chance] = two_numbers(&done(example("mlp_classifier").arg(&out)));
    assert!(accuracy > 0.9 && chance == 0.5, "{accuracy} {chance}");
    let records = records(&out);
    let first = records[0].get("val_accuracy").expect("an accuracy");
    assert!((0.3..0.7).contains(&first) && records[600].get("val_accuracy") > Some(0.9), "{first}");
    assert!(out.join("accuracy.svg").exists() && out.join("best/model.safetensors").exists());
    // Running it again goes on after the last step, where nothing is left to do.
    done(example("mlp_classifier").arg(&out));
    assert_eq!(self::records(&out), records);
}

#[test]
fn examples_are_short() {
    for (name, most) in LIMITS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
        let lines = fs::read_to_string(path).expect("an example").lines().count();
        assert!(lines <= most, "{name}: {lines} lines, at most {most}");
    }
}
