//! Files that are broken, hostile, or change while they are read: every one is an error with the file's name, none is a panic or a hang.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use proptest::prelude::*;
use samara::data::DataError;
use samara::data::batches::{Order, Sampler};
use samara::data::dataset::{Dataset, TokenWindows};
use samara::data::mapped::{Mapped, TRUNCATED_EXIT_CODE};
use samara::data::options::TextOptions;
use samara::data::shards::{IdWidth, Shard, Tokens};
use samara::data::text::for_each_document;
use samara::model_folder::safetensors::{SINGLE_FILE, Weights, WeightsWriter};
use samara::npy;
use samara::run::checkpoint::Checkpoints;
use samara::run::durable;
use samara::run::metrics;

/// The variable that tells a test that it is the child process, and on which file it works.
const CHILD: &str = "SAMARA_TEST_CHILD";

/// Runs one test of this file in a process of its own, through a shell that first does `setup`.
fn child(test: &str, file: &Path, setup: &str) -> Output {
    let script = format!("{setup} exec \"$0\" --exact {test} --nocapture");
    let program = std::env::current_exe().unwrap();
    Command::new("sh").arg("-c").arg(script).arg(program).env(CHILD, file).output().unwrap()
}

fn child_file() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

fn small_safetensors(path: &Path) -> Vec<u8> {
    let tensors = vec![("a.weight".to_owned(), vec![2, 3]), ("a.bias".to_owned(), vec![3])];
    let mut writer = WeightsWriter::create(path, tensors).unwrap();
    writer.values("a.weight", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    writer.values("a.bias", &[7.0, 8.0, 9.0]).unwrap();
    writer.finish().unwrap();
    fs::read(path).unwrap()
}

/// Opens a file and reads all of it; what is an error must name the file.
fn read_all_tensors(path: &Path) -> Result<Vec<(String, Vec<f32>)>, String> {
    let read = || {
        let weights = Weights::open(path)?;
        let mut tensors = Vec::new();
        for name in weights.names() {
            let shape = weights.shape(name).unwrap_or_default();
            let mut out = vec![0.0; shape.iter().product()];
            weights.read(name, shape, &mut out)?;
            tensors.push((name.to_owned(), out));
        }
        Ok(tensors)
    };
    let result: Result<_, samara::model_folder::safetensors::WeightsError> = read();
    result.map_err(|error| {
        let message = error.to_string();
        assert!(message.contains(SINGLE_FILE), "{message}");
        message
    })
}

#[test]
fn every_prefix_of_a_safetensors_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(SINGLE_FILE);
    let whole = small_safetensors(&path);
    assert_eq!(read_all_tensors(&path).unwrap().len(), 2);
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let error = read_all_tensors(&path).expect_err("a prefix");
        assert!(error.contains("safetensors file"), "{end}: {error}");
    }
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    assert!(read_all_tensors(&path).is_err());
}

/// A flipped bit in the header is an error, or changes a name or the free text, which the lists of missing and unexpected tensors show;
/// it never moves a value of a tensor that keeps its name.
#[test]
fn every_bit_flip_of_a_safetensors_header_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(SINGLE_FILE);
    let whole = small_safetensors(&path);
    let good = read_all_tensors(&path).unwrap();
    let header = whole.len() - 9 * 4;
    let mut opened = 0;
    for bit in 0..header * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        let Ok(tensors) = read_all_tensors(&path) else { continue };
        opened += 1;
        for tensor in tensors {
            let known = good.iter().find(|(name, _)| *name == tensor.0);
            assert!(known.is_none_or(|known| *known == tensor), "bit {bit}");
        }
    }
    // Letters of names and of the free text can flip: five names of 3 to 8 letters, and nothing else.
    assert!(opened < 40 * 8, "{opened}");
}

#[test]
fn hostile_safetensors_headers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(SINGLE_FILE);
    let with = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        fs::write(&path, bytes).unwrap();
        read_all_tensors(&path)
    };
    let tensor = |shape: &str, offsets: &str| format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
    assert!(with(&tensor("[2]", "[0,8]"), 8).is_ok());
    for (shape, offsets, data) in [
        ("[2]", "[0,8]", 9),
        ("[2]", "[4,12]", 12),
        ("[2]", "[8,0]", 8),
        ("[3]", "[0,8]", 8),
        ("[-2]", "[0,8]", 8),
        ("[2.0]", "[0,8]", 8),
        ("[4611686018427387904,4]", "[0,0]", 0),
        ("[9223372036854775807,2]", "[0,8]", 8),
        ("[18446744073709551615]", "[0,18446744073709551612]", 8),
        ("[2]", "[0,18446744073709551615]", 8),
        ("\"x\"", "[0,8]", 8),
    ] {
        assert!(with(&tensor(shape, offsets), data).is_err(), "{shape} {offsets}");
    }
    let overlap =
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    assert!(with(overlap, 12).is_err());
    for header in ["", "[]", "{", "null", "{\"a\":7}", &"[".repeat(100_000), &format!("{{\"a\":{}", "{\"a\":".repeat(100_000))] {
        assert!(with(header, 8).is_err(), "{:.20}", header);
    }
    for length in [u64::MAX, u64::MAX - 8, 1 << 40, 100_000_001, 9] {
        fs::write(&path, [&length.to_le_bytes()[..], b"{}      "].concat()).unwrap();
        assert!(read_all_tensors(&path).is_err(), "{length}");
    }
}

#[test]
fn truncated_shards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    let whole: Vec<u8> = (0..20_u16).flat_map(u16::to_le_bytes).collect();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let name = |error: DataError| error.to_string();
        let opened = Shard::open(&path).map_err(name);
        if end % 2 == 1 {
            assert!(opened.unwrap_err().contains("train.bin"));
            continue;
        }
        let shard = opened.unwrap();
        assert!(shard.read(0, &mut [0; 20]).map_err(name).unwrap_err().contains("train.bin"));
        let sampler = Sampler::new(Order::Random, 1, 8, shard.len(), &shard.name());
        assert_eq!(sampler.is_ok(), end / 2 > 8, "{end}");
    }
    // Cut off while it is open and mapped: the sampler's reads say so.
    fs::write(&path, &whole).unwrap();
    let shard = Shard::from_mapped(Mapped::open_copying_below(&path, 0).unwrap(), IdWidth::U16).unwrap();
    let sampler = Sampler::new(Order::Shuffled, 1, 4, shard.len(), &shard.name()).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
    let rows = [sampler.start(0).unwrap(), sampler.start(1).unwrap()];
    let windows = TokenWindows::new(shard, 4);
    let error = windows.fill(&rows, &mut windows.batch(2)).unwrap_err().to_string();
    assert!(error.contains("train.bin") && error.contains("truncated"), "{error}");
}

/// The slice is taken while the file is whole, and read when the file is gone: only the signal handler can still say something.
#[test]
#[cfg(unix)]
fn truncation_in_the_middle_of_a_read_is_a_message() {
    if let Some(path) = child_file() {
        let other_path = path.with_extension("other");
        fs::write(&other_path, [1; 9000]).unwrap();
        let _before = Mapped::open_copying_below(&other_path, 0).unwrap();
        let mapped = Mapped::open_copying_below(&path, 0).unwrap();
        drop(Mapped::open_copying_below(&other_path, 0).unwrap());
        let bytes = mapped.bytes().unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(1).unwrap();
        let sum: u64 = bytes.iter().map(|&b| u64::from(b)).sum();
        panic!("read {sum} from a file that is gone");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    fs::write(&path, vec![1; 1 << 20]).unwrap();
    let output = child("truncation_in_the_middle_of_a_read_is_a_message", &path, "");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(TRUNCATED_EXIT_CODE), "{message}");
    assert!(message.contains("train.bin: the file was truncated"), "{message}");
}

/// A SIGBUS that is not about our maps must not be taken for one: the process dies by the signal as it would have.
#[test]
#[cfg(unix)]
fn other_bus_errors_are_not_ours() {
    use std::os::unix::process::ExitStatusExt;
    if let Some(path) = child_file() {
        let _mapped = Mapped::open_copying_below(&path, 0).unwrap();
        // Each signal only takes one handler away (ours, then that of Rust's runtime): a real fault would run again after each.
        for _ in 0..4 {
            Command::new("kill").args(["-BUS", &std::process::id().to_string()]).status().unwrap();
        }
        panic!("still alive");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    fs::write(&path, [1; 100]).unwrap();
    let output = child("other_bus_errors_are_not_ours", &path, "");
    assert_eq!(output.status.signal(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A file size limit stands in for a full disk: the write fails half way, the former file stays, the temporary one goes.
#[test]
#[cfg(unix)]
fn a_full_disk_keeps_the_former_file() {
    if let Some(path) = child_file() {
        let error = durable::write(&path, &vec![2; 4 << 20]).unwrap_err();
        println!("refused: {error}");
        let folder = path.with_file_name("checkpoints");
        let checkpoints = Checkpoints::open(&folder, 2).unwrap();
        let state = serde_json::Value::Null;
        checkpoints.write(1, "hash", state.clone(), |w| w.bytes("weights", &[1; 1000])).unwrap();
        let error = checkpoints.write(2, "hash", state, |w| w.bytes("weights", &vec![2; 4 << 20])).unwrap_err();
        println!("refused: {error}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.bin");
    fs::write(&path, "former").unwrap();
    let output = child("a_full_disk_keeps_the_former_file", &path, "trap '' XFSZ; ulimit -f 2000;");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.matches("refused: ").count(), 2, "{said}");
    assert!(said.contains("step-0000002.tmp/weights: cannot write"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), b"former");
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(folder.path()), ["checkpoints", "weights.bin"]);
    assert_eq!(names(&folder.path().join("checkpoints")), ["step-0000001"]);
}

/// A process killed at any moment of writing checkpoints leaves a newest valid one, whose content is that of its step.
#[test]
#[cfg(unix)]
fn checkpoints_survive_kill() {
    let content = |step: u64| vec![step as u8; 200_000];
    let state = serde_json::Value::Null;
    if let Some(path) = child_file() {
        let checkpoints = Checkpoints::open(&path, 2).unwrap();
        let start = checkpoints.newest_valid().unwrap().checkpoint.map_or(0, |c| c.manifest.step);
        for step in start + 1.. {
            checkpoints.write(step, "hash", state.clone(), |w| w.bytes("weights", &content(step))).unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoints");
    let mut last = 0;
    for round in 0..8_u64 {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "checkpoints_survive_kill"])
            .env(CHILD, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The first round waits until there is something to lose.
        let has_second =
            || fs::read_dir(&path).is_ok_and(|dir| dir.flatten().filter(|e| !e.path().ends_with("step-0000001")).count() > 1);
        while round == 0 && !has_second() {
            assert!(process.try_wait().unwrap().is_none(), "the writer ended");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        std::thread::sleep(std::time::Duration::from_millis(17 * round));
        process.kill().unwrap();
        process.wait().unwrap();
        let newest = Checkpoints::open(&path, 2).unwrap().newest_valid().unwrap();
        assert!(newest.rejected.is_empty(), "{:?}", newest.rejected);
        let checkpoint = newest.checkpoint.unwrap();
        assert!(checkpoint.manifest.step >= last);
        last = checkpoint.manifest.step;
        assert_eq!(fs::read(checkpoint.path("weights")).unwrap(), content(last));
    }
}

#[test]
fn corrupted_checkpoints_fall_back() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::open(folder.path(), 4).unwrap();
    let write = |step: u64| {
        let state = serde_json::json!({ "rows": step * 12 });
        checkpoints.write(step, "hash", state, |w| w.bytes("weights", &[step as u8; 100])).unwrap()
    };
    write(1);
    let (second, third, fourth) = (write(2), write(3), write(4));
    fs::write(third.join("weights"), [3; 99]).unwrap();
    fs::write(fourth.join("manifest.json"), "{\"crc32c\":").unwrap();
    let newest = checkpoints.newest_valid().unwrap();
    assert_eq!(newest.checkpoint.unwrap().folder, second);
    let said: Vec<String> = newest.rejected.iter().map(ToString::to_string).collect();
    assert!(said[0].contains("step-0000004") && said[1].contains("step-0000003") && said[1].contains("weights"), "{said:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Any bytes under any of the names that choose a reader: an answer, and an error says which file.
    #[test]
    fn any_bytes_are_an_answer(bytes in hostile_bytes(), cut in 0_usize..200) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = &bytes[..bytes.len().saturating_sub(cut)];
        for name in ["a.jsonl", "a.txt", "a.npy", "a.bin", "a.u32.bin", "model.safetensors", "model.safetensors.index.json", "metrics.jsonl"] {
            let path = folder.path().join(name);
            fs::File::create(&path).unwrap().write_all(bytes).unwrap();
            let message = match name {
                "a.jsonl" | "a.txt" => for_each_document(&path, &TextOptions::default(), |_| Ok::<(), DataError>(())).err().map(|e| e.to_string()),
                "a.npy" => npy::read(&path).err().map(|e| e.to_string()),
                "a.bin" | "a.u32.bin" => {
                    Shard::open(&path).and_then(|shard| shard.check_ids(1000)).err().map(|e| e.to_string())
                }
                "metrics.jsonl" => metrics::read(&path).err().map(|e| e.to_string()),
                _ => Weights::open(&path).err().map(|e| e.to_string()),
            };
            prop_assert!(message.as_ref().is_none_or(|m| m.contains("a.") || m.contains(name)), "{:?}", message);
        }
    }
}

/// Random bytes, and random bytes that look like the beginning of something.
fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let heads = prop::sample::select(vec![
        &b""[..],
        b"\xef\xbb\xbf",
        b"{\"text\":\"a\"}\r\n",
        b"{\"text\":",
        b"{\"step\":1,\"tokens\":",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i4', 'fortran_order': False, 'shape': (",
        b"\x93NUMPY\x01\x00",
        b"\x40\x00\x00\x00\x00\x00\x00\x00{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}       ",
        b"{\"weight_map\":{\"a\":\"",
    ]);
    let tails = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "[\\[\\]{}\",:0-9a-z \n\\\\-]{0,200}".prop_map(String::into_bytes)
    ];
    (heads, tails).prop_map(|(head, tail)| [head, &tail].concat())
}
