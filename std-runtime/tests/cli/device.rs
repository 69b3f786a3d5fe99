//! `export` and `inspect`.

use super::*;

fn export(at: &Path, more: &[&str]) -> Value {
    let args = [&["export", "--model", "run", "--out", "model.samara", "--json"], more].concat();
    serde_json::from_str(&done(at, &args)).expect("JSON")
}

/// Opens a file as a device that trains does.
fn opened<T>(path: &Path, of: impl FnOnce(ProgramFile<'_>) -> T) -> T {
    let bytes = fs::read(path).expect("a file");
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    let kernels = ops::training();
    of(ProgramFile::open(&bytemuck::cast_slice(&words)[..bytes.len()], &kernels).expect("a sound file"))
}

/// Elements of memory that a session with a file needs.
fn ram_len(path: &Path) -> usize {
    opened(path, |file| Session::ram_len(&file))
}

#[test]
fn export_says_what_a_device_needs() {
    let folder = temporary();
    let at = folder.path();
    trained_wide(at);
    let file = at.join("model.samara");
    let flags: [&[&str]; 7] = [
        &[],
        &["--quantize", "q8", "--kv", "f16", "--context", "8"],
        &["--quantize", "q4", "--kv", "q8", "--strip-names"],
        &["--train", "head", "--batch", "2"],
        &["--train", "bias", "--optimizer", "adamw", "--block", "5"],
        &["--train", "last-block", "--quantize", "q8", "--target", "stm32f746"],
        &["--train", "last-block", "--optimizer", "adamw", "--batch", "2", "--block", "4"],
    ];
    for flags in flags {
        let outcome = export(at, flags);
        let value = |flag: &str, default: &str| {
            flags.iter().position(|&f| f == flag).map_or(default.to_owned(), |at| flags[at + 1].to_owned())
        };
        assert_eq!((&outcome["weights"], &outcome["kv"]), (&value("--quantize", "f32").into(), &value("--kv", "f32").into()));
        assert_eq!(outcome["context"].to_string(), value("--context", "16"));
        let trains = flags.contains(&"--train");
        assert_eq!(outcome["programs"].as_array().map(Vec::len), Some(if trains { 3 } else { 1 }), "{flags:?}");
        // What is said is what a session takes, and what the file is.
        let (ram, number) = (&outcome["ram"], |value: &Value| value.as_u64().expect("a number"));
        let session = 4 * ram_len(&file) as u64;
        assert_eq!((number(&ram["session_bytes"]), number(&ram["total_bytes"])), (session, session + 4096), "{flags:?}");
        let parts = ["arena_bytes", "state_bytes", "ints_bytes", "trainable_bytes", "moments_bytes"];
        assert_eq!(parts.iter().map(|part| number(&ram[*part])).sum::<u64>(), session);
        assert_eq!(number(&ram["trainable_bytes"]) > 0, trains);
        assert_eq!(number(&ram["moments_bytes"]) > 0, flags.contains(&"adamw"));
        let file_bytes = fs::metadata(&file).expect("a file").len();
        assert_eq!(number(&outcome["file_bytes"]), file_bytes);
        let engine = number(&outcome["engine_bytes"]);
        assert!(
            if trains { (40 << 10..=64 << 10).contains(&engine) } else { (30 << 10..=40 << 10).contains(&engine) },
            "{flags:?}"
        );
        assert_eq!(number(&outcome["flash_bytes"]), file_bytes + engine);
        let names = outcome["flash"].as_array().is_some_and(|parts| parts.iter().any(|part| part["what"] == "names"));
        assert_eq!(names, !flags.contains(&"--strip-names"));
    }
    let said = done(at, &["export", "--model", "run", "--out", "model.samara", "--target", "rp2350"]);
    for part in ["model.samara: decode; weights f32, keys and values f32, context 16", "fits rp2350", "add --data TEXT"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(said.contains(&(4 * ram_len(&file) + 4096).to_string()), "{said}");
    let session = format!("session, {} numbers of four bytes", ram_len(&file));
    assert!(done(at, &["export", "--model", "run", "--out", "model.samara", "--quiet"]).contains(&session), "{said}");
}

/// A device gives the loss of each token a weight of its own where its file was made for it.
#[test]
fn tokens_are_weighted_where_that_was_asked_for() {
    let folder = temporary();
    let at = folder.path();
    trained_wide(at);
    let trains = |more: &[&str]| {
        export(at, &[&["--train", "head", "--block", "4"], more].concat());
        opened(&at.join("model.samara"), |file| {
            let mut ram = vec![0.0; Session::ram_len(&file)];
            let mut session = Session::new(file, &mut ram).expect("enough memory");
            session.train_weighted(&[1; 4], &[2; 4], &[0.5, -0.5, 0.0, 1.0], &Hyper::sgd(0.1)).is_ok()
        })
    };
    assert_eq!([trains(&[]), trains(&["--weighted"])], [false, true]);
}

#[test]
fn export_refuses_slips_of_the_hand() {
    let folder = temporary();
    let at = folder.path();
    trained_wide(at);
    let weights = fs::read(at.join("run/model.safetensors")).expect("weights");
    let with = |more: &[&'static str]| [&["export", "--model", "run"], more].concat();
    refused(
        at,
        &with(&["--out", "run/model.safetensors"]),
        2,
        &["run/model.safetensors", "exists and is not a program file", "another name"],
    );
    assert_eq!(fs::read(at.join("run/model.safetensors")).expect("weights"), weights);
    for flags in [&["--optimizer", "sgd"][..], &["--batch", "2"], &["--block", "4"], &["--weighted"]] {
        let args = with(&[&["--out", "x.samara"], flags].concat());
        refused(at, &args, 2, &["--optimizer, --batch, --block and --weighted", "--train"]);
    }
    refused(at, &with(&["--out", "x.samara", "--train", "all", "--quantize", "q8"]), 2, &["--quantize", "--train all"]);
    fs::write(at.join("short.txt"), "a").expect("file");
    refused(at, &with(&["--out", "x.samara", "--data", "short.txt"]), 3, &["tokens", "longer text"]);
    assert!(!at.join("x.samara").exists());
    // A program file is one whatever it is called.
    done(at, &["export", "--model", "run", "--out", "model.bin"]);
    assert!(done(at, &["inspect", "model.bin"]).contains("device"));
    done(at, &["export", "--model", "run", "--out", "model.bin"]);
}

#[test]
fn export_says_what_formats_cost() {
    let folder = temporary();
    let at = folder.path();
    trained_wide(at);
    fs::write(at.join("text.txt"), "Once upon a time. ".repeat(60)).expect("file");
    let outcome = export(at, &["--quantize", "q8", "--kv", "f16", "--data", "text.txt"]);
    let losses = outcome["losses"].as_array().expect("losses");
    let formats: Vec<_> = losses.iter().map(|l| format!("{} {}", l["weights"], l["kv"]).replace('"', "")).collect();
    assert_eq!(formats, ["f32 f32", "f32 f16", "q8 f16", "q4 f16", "q8 f32", "q8 q8"]);
    let loss = |i: usize| losses[i]["loss"].as_f64().expect("a loss");
    assert!((0..losses.len()).all(|i| loss(i) > 1.0 && (loss(i) - loss(0)).abs() < 0.2), "{losses:?}");
    let said = done(at, &["export", "--model", "run", "--out", "model.samara", "--data", "text.txt"]);
    assert!(said.contains("of held-out text:") && said.contains("+0.0000"), "{said}");
}

#[test]
fn export_refuses_what_cannot_be() {
    let folder = temporary();
    let at = folder.path();
    done(at, &tiny(&["train", "--out", "run"], &["--set", "train.steps=2", "--set", "train.eval_every=0", "-q"]));
    let with = |more: &[&'static str]| [&["export", "--model", "run", "--out", "model.samara"], more].concat();
    refused(at, &with(&["--quantize", "q8"]), 2, &["--quantize q8: tensor ", "rows of 8 numbers, expected a multiple of 32"]);
    refused(at, &with(&["--kv", "q8"]), 2, &["--kv q8: the keys of a token are 8 values", "multiple of 32", "f16"]);
    refused(at, &with(&["--context", "17"]), 2, &["--context 17: expected at most 16", "or 0 for all of it"]);
    refused(at, &with(&["--block", "9", "--context", "8"]), 2, &["--block 9: expected at most the context, 8"]);
    refused(at, &with(&["--target", "stm32"]), 2, &["stm32", "rp2040"]);
    refused(at, &with(&["--train", "half"]), 2, &["half", "last-block"]);
    refused(at, &["export", "--model", "absent", "--out", "x.samara"], 4, &["absent"]);
    // A batch that no microcontroller has room for: the number says why.
    let large = with(&["--train", "last-block", "--batch", "1024", "--target", "m7-160k"]);
    let output = samara(at, &large);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("model.samara: not written: RAM: ") && error.contains(" bytes, m7-160k has 163840;"), "{error}");
    assert!(!at.join("model.samara").exists());
    let bytes = error.split("RAM: ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse::<usize>().ok());
    export(at, &["--train", "last-block", "--batch", "1024"]);
    assert_eq!(bytes, Some(4 * ram_len(&at.join("model.samara")) + 4096));
}

#[test]
fn inspection_describes_program_files() {
    let folder = temporary();
    let at = folder.path();
    trained_wide(at);
    let outcome = export(at, &["--quantize", "q8", "--train", "bias", "--optimizer", "adamw"]);
    let found: Value = serde_json::from_str(&done(at, &["inspect", "model.samara", "--json"])).expect("JSON");
    let device = &found["device"];
    assert_eq!((&device["version"], &device["context"], &device["tokenizer"]), (&2.into(), &16.into(), &"byte".into()));
    for (program, arena) in device["programs"].as_object().expect("programs") {
        assert!(outcome["programs"].as_array().is_some_and(|names| names.contains(&program.as_str().into())), "{program}");
        assert!(arena["nodes"].as_u64() > Some(5) && arena["tensors"].as_u64() > Some(20), "{arena}");
    }
    for bytes in ["session_bytes", "arena_bytes", "state_bytes", "ints_bytes", "trainable_bytes", "moments_bytes"] {
        assert_eq!(device["memory"][bytes], outcome["ram"][bytes], "{bytes}");
    }
    let sections = device["sections"].as_object().expect("sections");
    let sum: u64 = sections.values().filter_map(Value::as_u64).sum();
    let parts = outcome["flash"].as_array().expect("parts");
    assert_eq!(sum, parts.iter().filter_map(|part| part["bytes"].as_u64()).sum::<u64>());
    let parameters = device["parameters"]["tensors"].as_array().expect("parameters");
    let parameter = |name: &str| parameters.iter().find(|p| p["name"] == name).expect("a parameter");
    assert_eq!(parameter("wte.weight")["dtype"], "q8");
    assert_eq!(parameter("h.0.ln_1.bias")["trained"], true);
    let said = done(at, &["inspect", "model.samara"]);
    for part in ["vocabulary: ", "decode.nodes: ", "frozen: ", "session_bytes: ", "h.0.mlp.c_fc.weight", "trained"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Without names, and damaged.
    export(at, &["--strip-names"]);
    assert!(!done(at, &["inspect", "model.samara"]).contains("wte.weight"));
    let mut bytes = fs::read(at.join("model.samara")).expect("a file");
    bytes[5000] ^= 1;
    fs::write(at.join("damaged.samara"), &bytes).expect("a file");
    refused(at, &["inspect", "damaged.samara"], 3, &["damaged.samara: the checksum is ", "export it again"]);
    fs::write(at.join("short.samara"), &bytes[..1000]).expect("a file");
    refused(at, &["inspect", "short.samara"], 3, &["short.samara: 1000 bytes, the header says "]);
    fs::write(at.join("other.samara"), "a text".repeat(20)).expect("a file");
    refused(at, &["inspect", "other.samara"], 3, &["other.samara: not a program file"]);
    refused(at, &["inspect", "absent.samara"], 4, &["absent.samara: cannot read"]);
}

#[test]
fn an_old_file_is_converted() {
    let folder = temporary();
    let at = folder.path();
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/device/version-1.samara");
    refused(at, &["inspect", old], 3, &["version 1", "this build reads version 2", "samara export --convert FILE --out FILE"]);
    let said = done(at, &["export", "--convert", old, "--out", "new.samara"]);
    assert!(said.contains("new.samara: ") && said.contains("in version 2 of the format"), "{said}");
    let found: Value = serde_json::from_str(&done(at, &["inspect", "new.samara", "--json"])).expect("JSON");
    let device = &found["device"];
    assert_eq!((&device["version"], &device["tokenizer"]), (&2.into(), &"char".into()));
    assert_eq!((&device["groups"][0]["decay"], &device["groups"][1]["decay"]), (&true.into(), &false.into()));
    let outcome = done(at, &["export", "--convert", old, "--out", "new.samara", "--json"]);
    let bytes = fs::metadata(at.join("new.samara")).expect("a file").len();
    assert_eq!(serde_json::from_str::<Value>(&outcome).expect("JSON"), serde_json::json!({"version": 2, "file_bytes": bytes}));
    refused(at, &["export", "--convert", "new.samara", "--out", "x.samara"], 3, &["new.samara", "version 2 already"]);
    refused(at, &["export", "--convert", "absent.samara", "--out", "x.samara"], 4, &["absent.samara: cannot read"]);
    refused(at, &["export", "--out", "x.samara"], 2, &["--model"]);
    refused(at, &["export", "--convert", old, "--kv", "f16", "--out", "x.samara"], 2, &["--kv", "--convert"]);
    refused(at, &["export", "--convert", old, "--model", "run", "--out", "x.samara"], 2, &["--model", "--convert"]);
    fs::write(at.join("text.txt"), "a text").expect("a file");
    refused(at, &["export", "--convert", "text.txt", "--out", "x.samara"], 3, &["text.txt: not a program file"]);
    refused(at, &["export", "--convert", old, "--out", "text.txt"], 2, &["text.txt", "exists and is not a program file"]);
    assert!(!at.join("x.samara").exists());
}

#[test]
fn inspection_counts_what_is_not_finite() {
    let folder = temporary();
    let header = r#"{"a.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    [1.0, f32::NAN, f32::NEG_INFINITY, -3.0].iter().for_each(|x| file.extend(x.to_le_bytes()));
    fs::write(folder.path().join("x.safetensors"), &file).expect("file");
    let found: Value = serde_json::from_str(&done(folder.path(), &["inspect", "x.safetensors", "--json"])).expect("JSON");
    let tensor = &found["weights"]["tensors"][0];
    assert_eq!((&tensor["nan"], &tensor["infinite"], &tensor["largest"]), (&1.into(), &1.into(), &3.0.into()));
    assert!(done(folder.path(), &["inspect", "x.safetensors"]).contains("a.weight"));
    let model = done(folder.path(), &["inspect", &golden("gpt2-2layer-bf16-sharded")]);
    assert!(model.contains("BF16") && model.contains("transformer.wte.weight"), "{model}");
    let shards = folder.path().join("data");
    fs::create_dir(&shards).expect("folder");
    fs::write(shards.join("train.bin"), [1, 0, 7, 0, 2, 1]).expect("shard");
    let found: Value = serde_json::from_str(&done(folder.path(), &["inspect", "data", "--json"])).expect("JSON");
    assert_eq!(found["train.bin"], serde_json::json!({"tokens": 3, "width": "u16", "largest_id": 258}));
}
