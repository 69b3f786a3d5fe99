//! Program files: what is wrong with one is found before it runs, and what runs has the bits of the same program in memory.

use proptest::collection::vec;
use proptest::prelude::*;
use samara::export::spec::{FileSpec, Optimizer};
use samara::gpt;
use samara::gpt::generate::Generator;
use samara::tokenizer::{BpeTrainOptions, BpeTrainer, Tokenizer};
use samara_core::decode::Sampling;
use samara_core::exec::{Gradients, Kernels, WriteError};
use samara_core::file::layout::{ProgramHeader, TokenizerHeader};
use samara_core::file::{FileError, Port, ProgramFile, ProgramKind, SectionKind};
use samara_core::graph::{
    Activation, AttentionMask, AttentionSpec, DType, Epsilon, Graph, HYPER_LEN, Momentum, NodeRecord, Op, Recompute, Role, Rule,
    Shape, TensorRecord,
};
use samara_core::model::gpt::{Gpt, GptConfig};
use samara_core::model::lm::{self, LanguageModel, LmInputs};
use samara_core::nn::KvCache;
use samara_core::ops;
use samara_core::params::Params;
use samara_core::plan::Slot;
use samara_core::session::{Hyper, Session, SessionError};
use samara_core::tokenizer::Split;
use samara_core::tune::{Tune, store_as, tune};
use samara_tests::device::{File, PLAIN, SMALL, TINY, export, model};
use samara_tests::draw::Draw;
use samara_tests::session::{self as ram, Table};

const SLIM: GptConfig = GptConfig { bias: false, ..TINY };
const TRAINED: FileSpec = FileSpec { train: Tune::LastBlock, optimizer: Optimizer::Adamw, ..PLAIN };
const KINDS: [ProgramKind; 3] = [ProgramKind::Decode, ProgramKind::Train, ProgramKind::Evaluate];
const WEIGHTS: [DType; 3] = [DType::Real, DType::Q8, DType::Q4];
const CACHES: [DType; 3] = [DType::Real, DType::F16, DType::Q8];

fn tables<T: Copy>(file: &File, read: impl Fn(&ProgramFile<'_>) -> T) -> T {
    let kernels = ops::training();
    read(&file.open(&kernels).expect("a sound file"))
}

fn slots(file: &File, kind: ProgramKind) -> Vec<Slot> {
    let kernels = ops::training();
    file.open(&kernels).expect("a sound file").program(kind).expect("a program").plan.slots().to_vec()
}

fn tensors(file: &File, kind: ProgramKind) -> Vec<TensorRecord> {
    let kernels = ops::training();
    file.open(&kernels).expect("a sound file").program(kind).expect("a program").program.tensors().to_vec()
}

fn nodes(file: &File, kind: ProgramKind) -> Vec<NodeRecord> {
    let kernels = ops::training();
    file.open(&kernels).expect("a sound file").program(kind).expect("a program").program.nodes().to_vec()
}

fn in_arena(t: &TensorRecord) -> bool {
    matches!(t.role, Role::Activation | Role::Input)
}

// What is wrong with a file.

#[test]
fn every_prefix_is_refused() {
    let (file, kernels) = (export(SLIM, PLAIN, None), ops::training());
    let len = file.bytes().len();
    assert!((0..len).all(|len| File::new(&file.bytes()[..len]).open(&kernels).is_err()));
    // Also when it says that it is all, and its checksum is right.
    for len in (0..len).step_by(61) {
        assert!(file.prefix(len).open(&kernels).is_err(), "{len} bytes");
    }
}

#[test]
fn every_changed_bit_is_refused() {
    let (mut file, kernels) = (export(SLIM, FileSpec { names: false, ..PLAIN }, None), ops::training());
    for at in 0..file.bytes().len() {
        for bit in 0..8 {
            file.bytes_mut()[at] ^= 1 << bit;
            assert!(file.open(&kernels).is_err(), "bit {bit} of byte {at}");
            file.bytes_mut()[at] ^= 1 << bit;
        }
    }
    assert!(file.open(&kernels).is_ok());
}

#[test]
fn every_fault_has_its_name() {
    use SectionKind as K;
    let (file, kernels) = (export(SLIM, PLAIN, Some(&Tokenizer::characters(["abcde"], &[]).unwrap())), ops::training());
    let error = |file: File| file.error(&kernels);
    let decode = Some(ProgramKind::Decode);
    let len = file.bytes().len();
    assert_eq!(error(file.with_header(|h| h.magic[1] = b'S')), FileError::Magic);
    assert_eq!(error(file.with_header(|h| h.version = 2)), FileError::Version { found: 2 });
    let longer = [file.bytes(), &[0]].concat();
    assert_eq!(error(File::new(&longer)), FileError::Length { found: len + 1, expected: len });
    assert_eq!(error(file.prefix(10)), FileError::Length { found: 10, expected: 64 });
    let mut damaged = file.clone();
    damaged.bytes_mut()[len - 1] ^= 1;
    assert!(matches!(error(damaged), FileError::Checksum { .. }));
    let section = |entry| FileError::Section { entry };
    assert_eq!(error(file.with_header(|h| h.sections = u32::MAX)), section(0));
    assert_eq!(error(file.with_sections(|s| s[2].kind = 99)), section(2));
    assert_eq!(error(file.with_sections(|s| s[1].program = 9)), section(1));
    assert_eq!(error(file.with_sections(|s| s[3] = s[0])), section(3));
    assert_eq!(error(file.with_sections(|s| s[1].offset += 32)), section(1));
    assert_eq!(error(file.with_sections(|s| s[4].len = u32::MAX)), section(4));
    let found = file.header().frozen_bytes as usize;
    let expected = FileError::Content { kind: K::Frozen, found, expected: found + 64 };
    assert_eq!(error(file.with_header(|h| h.frozen_bytes += 64)), expected);
    assert!(matches!(error(file.with_header(|h| h.trainable_len = 1)), FileError::Content { kind: K::Trainable, .. }));
    let mut roles = file.clone();
    let role = std::mem::offset_of!(TensorRecord, role);
    roles.section_mut(K::Tensors, decode)[role] = 7;
    assert_eq!(error(roles.repaired()), FileError::Records { kind: K::Tensors });
    let mut unknown = file.clone();
    unknown.section_mut(K::Nodes, decode)[std::mem::offset_of!(NodeRecord, opcode)] = 200;
    assert_eq!(error(unknown.repaired()), FileError::NoKernel { program: ProgramKind::Decode, node: 0, opcode: 200 });
    let program = FileError::Program { program: ProgramKind::Decode };
    assert_eq!(error(file.with::<ProgramHeader>(K::Program, decode, |h| h[0].info.nodes += 1)), program);
    assert_eq!(error(file.with::<ProgramHeader>(K::Program, decode, |h| h[0].info.update = 0)), program);
    let arena = error(file.with::<ProgramHeader>(K::Program, decode, |h| h[0].arena_len -= 16));
    assert!(matches!(arena, FileError::Plan { program: ProgramKind::Decode, .. }), "{arena}");
    let tokenizer =
        |edit: fn(&mut TokenizerHeader)| error(file.with::<TokenizerHeader>(K::Tokenizer, None, |header| edit(&mut header[0])));
    assert_eq!(tokenizer(|header| header.kind = 3), FileError::Records { kind: K::Tokenizer });
    assert_eq!(tokenizer(|header| header.split = 2), FileError::Records { kind: K::Tokenizer });
    let incomplete = tokenizer(|header| header.kind = 2);
    assert!(matches!(incomplete, FileError::Tokenizer(_)), "{incomplete:?}");
    assert_eq!(error(file.with::<u32>(K::Chars, None, |chars| chars.swap(1, 2))), FileError::Char { id: 2 });
}

/// Also without the sections that may be left out.
#[test]
fn tokenizers_are_read_where_they_lie() {
    let kernels = ops::inference();
    let config = GptConfig { vocab_size: 260, ..SLIM };
    let mut trainer =
        BpeTrainer::new(BpeTrainOptions { vocab_size: 260, min_count: 1, specials: Vec::new(), split: Split::Gpt2 })
            .expect("options");
    trainer.add(b"low lower lowest newer newest");
    let tokenizers = [
        Tokenizer::bytes(&[]).expect("a tokenizer"),
        Tokenizer::characters(["low er \u{e9}"], &[]).expect("a tokenizer"),
        trainer.train().expect("a tokenizer"),
    ];
    for tokenizer in &tokenizers {
        let file = export(config, FileSpec { names: false, ..PLAIN }, Some(tokenizer));
        let file = file.open(&kernels).expect("a sound file");
        let found = file.tokenizer().expect("a tokenizer");
        for id in 0..tokenizer.vocab_size() as u32 {
            let mut bytes = Vec::new();
            tokenizer.push_token(id, &mut bytes);
            assert_eq!(found.token(id, &mut [0; 4]), bytes, "{found:?}: token {id}");
        }
        assert_eq!(file.name(0), None);
    }
}

#[test]
fn bytes_at_an_odd_place_are_refused() {
    let (file, kernels) = (export(SLIM, PLAIN, None), ops::training());
    let len = file.bytes().len();
    let mut room = File::new(&vec![0; len + 8]);
    for place in 1..8 {
        room.bytes_mut()[place..place + len].copy_from_slice(file.bytes());
        let error = ProgramFile::open(&room.bytes()[place..place + len], &kernels).err();
        assert_eq!(error, Some(FileError::Alignment), "{place} bytes from a multiple of 8");
    }
}

#[test]
fn operations_without_a_kernel_are_refused() {
    let file = export(SLIM, TRAINED, None);
    let inference = ops::inference();
    let FileError::NoKernel { program: ProgramKind::Train, node, opcode } = file.error(&inference) else {
        panic!("{}", file.error(&inference));
    };
    let first = nodes(&file, ProgramKind::Train).iter().position(|n| !n.dead && inference.get(n.opcode).is_none());
    assert_eq!((Some(node), inference.get(opcode).is_none()), (first, true));
    assert!(export(SLIM, PLAIN, None).open(&inference).is_ok());
}

/// A table of one family of models has no RMS norm beside layer norm and no SiLU beside GELU: such nodes are refused, and others taken.
#[test]
fn what_another_family_computes_is_refused() {
    let [gpt, llama, every] = [ops::training(), ops::llama_training(), ops::reference()];
    let norm = Op::LayerNorm { eps: 1.0, centre: true }.opcode();
    let norm_backward = Op::LayerNormBackward { centre: true }.opcode();
    let linear = Op::Linear { activation: Activation::None, slope: false }.opcode();
    let file = export(SLIM, TRAINED, None);
    let change = |file: &File, opcodes: &[u8], at: usize, from: f64, to: f64| {
        KINDS.into_iter().fold(file.clone(), |file, kind| {
            file.with::<NodeRecord>(SectionKind::Nodes, Some(kind), |nodes| {
                let meant = |n: &&mut NodeRecord| opcodes.contains(&n.opcode) && n.attributes[at] == from;
                nodes.iter_mut().filter(meant).for_each(|n| n.attributes[at] = to);
            })
        })
    };
    let [gelu, silu] = [Activation::GeluTanh, Activation::Silu].map(|a| f64::from(a as u8));
    let rms = change(&file, &[norm, norm_backward], 1, 0.0, 1.0);
    let swish = change(&file, &[linear], 0, gelu, silu);
    let both = change(&rms, &[linear], 0, gelu, silu);
    for (file, takes) in [(&file, [true, false]), (&rms, [false, false]), (&swish, [false, false]), (&both, [false, true])] {
        assert_eq!([&gpt, &llama].map(|kernels| file.open(kernels).is_ok()), takes);
        assert!(file.open(&every).is_ok());
        for kernels in [&gpt, &llama].into_iter().zip(takes).filter(|(_, takes)| !takes).map(|(kernels, _)| kernels) {
            assert!(matches!(file.error(kernels), FileError::Rule { .. }), "{}", file.error(kernels));
        }
    }
}

#[test]
fn values_that_live_at_the_same_time_lie_apart() {
    let (file, kernels) = (export(SLIM, TRAINED, None), ops::training());
    for kind in KINDS {
        let slots = slots(&file, kind);
        let owners: Vec<usize> = (0..slots.len()).filter(|&i| slots[i].len > 0 && usize::from(slots[i].owner) == i).collect();
        for (&a, &b) in owners.iter().flat_map(|a| owners.iter().map(move |b| (a, b))).filter(|(a, b)| a != b) {
            if slots[a].first > slots[b].last || slots[b].first > slots[a].last {
                continue;
            }
            let moved = file.with::<Slot>(SectionKind::Slots, Some(kind), |slots| slots[b].offset = slots[a].offset);
            assert!(matches!(moved.error(&kernels), FileError::Plan { program, .. } if program == kind), "{a}, {b}");
        }
    }
}

#[test]
fn lives_last_from_the_writer_to_the_last_reader() {
    let (file, kernels) = (export(SLIM, TRAINED, None), ops::training());
    for kind in KINDS {
        let (slots, tensors) = (slots(&file, kind), tensors(&file, kind));
        let owns = |&i: &usize| slots[i].len > 0 && usize::from(slots[i].owner) == i;
        let input = |i: usize| tensors.get(i).is_some_and(|t| t.role == Role::Input);
        for i in (0..slots.len()).filter(owns) {
            let with = |edit: fn(&mut Slot)| file.with::<Slot>(SectionKind::Slots, Some(kind), |slots| edit(&mut slots[i]));
            let later = with(|slot| slot.first += 1);
            let wrong = |error| matches!(error, FileError::Plan { program, .. } if program == kind);
            assert!(wrong(later.error(&kernels)), "{kind:?}: slot {i} begins late");
            // The host writes an input before the first node, and nobody reads it after the last.
            if !input(i) {
                let earlier = with(|slot| slot.last = slot.last.wrapping_sub(1));
                assert!(earlier.open(&kernels).err().is_some_and(wrong), "{kind:?}: slot {i} ends early");
            }
        }
    }
}

#[test]
fn a_place_is_taken_over_only_where_its_value_ends() {
    let (file, kernels) = (export(SLIM, TRAINED, None), ops::training());
    for kind in KINDS {
        let (slots, tensors) = (slots(&file, kind), tensors(&file, kind));
        let mut tried = 0;
        for (i, t) in tensors.iter().enumerate().filter(|(i, t)| in_arena(t) && slots[*i].len > 0) {
            let others = (0..tensors.len()).filter(|&o| slots[o].len == slots[i].len && o != usize::from(slots[i].owner));
            for owner in others {
                let taken = file.with::<Slot>(SectionKind::Slots, Some(kind), |slots| slots[i].owner = owner as u16);
                let error = taken.open(&kernels).err();
                assert!(
                    matches!(error, Some(FileError::Plan { program, .. }) if program == kind),
                    "{kind:?}: {i} ({:?}) in {owner}: {error:?}",
                    t.role
                );
                tried += 1;
            }
        }
        assert!(tried > 20, "{kind:?}: {tried}");
    }
}

#[test]
fn nothing_is_read_before_it_is_written() {
    let (file, kernels) = (export(SLIM, TRAINED, None), ops::training());
    for kind in KINDS {
        let (nodes, tensors) = (nodes(&file, kind), tensors(&file, kind));
        let later = |i: usize| tensors.iter().rposition(|t| t.role == Role::Activation && usize::from(t.producer) >= i);
        for (i, node) in nodes.iter().enumerate().filter(|(_, n)| !n.dead) {
            let read = |&k: &usize| tensors.get(node.inputs[k].index()).is_some_and(in_arena);
            for (k, later) in (0..node.inputs.len()).filter(read).filter_map(|k| Some((k, later(i)?))) {
                let changed = file.with::<NodeRecord>(SectionKind::Nodes, Some(kind), |nodes| {
                    nodes[i].inputs[k] = bytemuck::cast(later as u16);
                });
                assert_eq!(changed.error(&kernels), FileError::Node { program: kind, node: i }, "input {k}");
            }
        }
    }
}

#[test]
fn shapes_follow_their_rules() {
    let (file, kernels) = (export(SLIM, TRAINED, None), ops::training());
    for kind in KINDS {
        let (nodes, tensors) = (nodes(&file, kind), tensors(&file, kind));
        let written = |i: usize| nodes.iter().any(|n| !n.dead && n.outputs.iter().any(|t| t.index() == i));
        let own = |(i, t): &(usize, &TensorRecord)| t.role == Role::Activation && t.root.index() == *i && written(*i);
        for (i, t) in tensors.iter().enumerate().filter(own) {
            let wider = t.shape.with_cols(t.shape.cols() + 1).expect("a shape");
            let changed = file.with::<TensorRecord>(SectionKind::Tensors, Some(kind), |tensors| tensors[i].shape = wider);
            let node = t.producer.into();
            assert_eq!(changed.error(&kernels), FileError::Node { program: kind, node }, "tensor {i}");
            let nothing = Shape::new(&[u32::MAX as usize, 0]).expect("no element");
            let changed = file.with::<TensorRecord>(SectionKind::Tensors, Some(kind), |tensors| tensors[i].shape = nothing);
            assert_eq!(changed.error(&kernels), FileError::Tensor { program: kind, tensor: i });
        }
    }
    // A matrix that lies the other way has as many elements.
    let params = file.header().params as usize;
    let tensors = tensors(&file, ProgramKind::Decode);
    let wide = tensors[..params].iter().position(|t| t.shape.rank() == 2 && t.shape.dim(0) != t.shape.dim(1)).expect("a matrix");
    let turned = Shape::new(&[tensors[wide].shape.dim(1), tensors[wide].shape.dim(0)]).expect("a shape");
    let changed =
        file.with::<TensorRecord>(SectionKind::Tensors, Some(ProgramKind::Decode), |tensors| tensors[wide].shape = turned);
    assert!(matches!(changed.error(&kernels), FileError::Rule { program: ProgramKind::Decode, .. }));
}

#[test]
fn ports_lead_to_what_serves_them() {
    let (file, kernels) = (export(SLIM, TRAINED, None), ops::training());
    for kind in KINDS {
        let header =
            tables(&file, |file| bytemuck::pod_read_unaligned::<ProgramHeader>(file.section(SectionKind::Program, Some(kind))));
        for port in (0..header.ports.len()).filter(|&port| header.ports[port] != u16::MAX) {
            let with = |tensor: u16| {
                file.with::<ProgramHeader>(SectionKind::Program, Some(kind), |header| header[0].ports[port] = tensor)
                    .error(&kernels)
            };
            for tensor in [u16::MAX, 0] {
                let error = with(tensor);
                let lost = matches!(error, FileError::Port { program, port: p, .. } if (program, p) == (kind, port));
                // Integers without a port are those that a node reads and nobody writes.
                let unwritten = matches!(error, FileError::Node { program, .. } if program == kind);
                assert!(lost || unwritten, "{kind:?}, port {port}: {error}");
            }
        }
    }
    let train = Some(ProgramKind::Train);
    let positions =
        tables(&file, |file| file.program(ProgramKind::Train).map(|p| p.port(Port::Positions))).expect("a program").index();
    let port =
        FileError::Port { program: ProgramKind::Train, port: Port::Positions as usize, tensor: bytemuck::cast(positions as u16) };
    let bounded = file.with::<TensorRecord>(SectionKind::Tensors, train, |tensors| tensors[positions].bounds = [0, 2]);
    assert_eq!(bounded.error(&kernels), port, "the last position is out of bounds");
    let tokens = tables(&file, |file| file.program(ProgramKind::Train).map(|p| p.port(Port::Tokens))).expect("a program").index();
    // Positions that a node reads and nobody writes.
    let twice = file.with::<ProgramHeader>(SectionKind::Program, train, |header| {
        header[0].ports[Port::Positions as usize] = header[0].ports[Port::Tokens as usize];
    });
    assert!(matches!(twice.error(&kernels), FileError::Node { program: ProgramKind::Train, .. }));
    let shared =
        file.with::<TensorRecord>(SectionKind::Tensors, train, |tensors| tensors[positions].offset = tensors[tokens].offset);
    assert_eq!(shared.error(&kernels), FileError::Program { program: ProgramKind::Train }, "positions lie where tokens do");
    assert!(matches!(file.with_header(|h| h.context = 3).error(&kernels), FileError::Port { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// What is not refused runs.
    #[test]
    fn damage_is_refused_or_harmless(edits in vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..4)) {
        thread_local!(static FILE: File = export(SLIM, FileSpec { train: Tune::Head, ..PLAIN }, None));
        let mut file = FILE.with(File::clone);
        for (place, value, how) in edits {
            let place = 16 + place.index(file.bytes().len() - 16);
            let byte = &mut file.bytes_mut()[place];
            *byte = match how {
                0 => value,
                1 => *byte ^ 1 << (value % 8),
                _ => byte.wrapping_add_signed(value as i8 % 3),
            };
        }
        let kernels = ops::training();
        let file = file.repaired();
        if let Ok(file) = file.open(&kernels)
            && Session::ram_len(&file) < 1 << 20
        {
            let mut memory = vec![0.0; Session::ram_len(&file)];
            let mut session = Session::new(file, &mut memory).expect("enough memory");
            for token in 0..3 {
                let _ = session.feed(token);
            }
            for kind in [ProgramKind::Train, ProgramKind::Evaluate] {
                let tokens = vec![1; session.tokens_of(kind)];
                let _ = session.train(&tokens, &tokens, &Hyper::sgd(0.1));
                let _ = session.evaluate(&tokens, &tokens);
            }
        }
    }
}

// The same bits as in memory.

/// The registry of a device, as the exporter makes it.
fn registry(config: &GptConfig, spec: &FileSpec) -> (Params<'static>, Gpt) {
    ram::registry::<f32, _>(config.param_count() + spec.train.added_params(), |r| {
        let mut gpt = Gpt::register(config, &mut r.scope());
        if spec.weights != DType::Real {
            store_as(spec.weights, r);
        }
        tune(spec.train, &mut gpt, r);
        gpt
    })
}

/// A program in memory with the weights of a file.
fn in_ram<'k, T>(
    kernels: &'k Kernels<f32>,
    file: &ProgramFile<'_>,
    params: Params<'static>,
    build: impl FnOnce(&Graph<'static>) -> T,
) -> (ram::Session<'k, f32>, T) {
    let (mut session, ports) = ram::Session::build(Table::serial(kernels), params, 400, build).expect("a program");
    session.frozen.copy_from_slice(file.frozen());
    session.trainable.copy_from_slice(file.trainable());
    (session, ports)
}

/// A token at a time, as [`Session::feed`] does it; the logits after every token.
fn logits_in_ram(
    kernels: &Kernels<f32>,
    file: &ProgramFile<'_>,
    config: &GptConfig,
    spec: &FileSpec,
    read_in_place: bool,
    segments: Option<&[i32]>,
    tokens: &[i32],
) -> Vec<Vec<f64>> {
    let (params, gpt) = registry(config, spec);
    let capacity = config.n_positions;
    let (mut session, (inputs, cache, logits)) = in_ram(kernels, file, params, |g| {
        let own = segments.map(|_| (g.ints(&[1, 1], -1, 9), g.ints(&[1, capacity], -1, 9)));
        let inputs = LmInputs { segments: own.map(|own| own.0), ..LmInputs::new(g, &gpt, 1, 1) };
        let (starts, live) = (g.ints(&[1], 0, capacity as i32), g.ints(&[1], 0, capacity as i32));
        let cache = KvCache { starts, live, capacity, dtype: spec.kv, read_in_place, segments: own.map(|own| own.1) };
        let h = gpt.hidden(g, &inputs, Some(&cache));
        (inputs, cache, g.output(lm::logits(g, &gpt, h)))
    });
    let step = |(at, &token): (usize, &i32)| {
        session.set_ints(inputs.tokens, &[token]);
        session.set_ints(inputs.positions, &[at as i32]);
        session.set_ints(cache.starts, &[at as i32]);
        session.set_ints(cache.live, &[at as i32 + 1]);
        if let (Some(segments), Some(of_token), Some(of_cache)) = (segments, inputs.segments, cache.segments) {
            session.set_ints(of_token, &segments[at..=at]);
            session.set_ints(of_cache, segments);
        }
        session.run(Gradients::Overwrite);
        session.get(logits)
    };
    tokens.iter().enumerate().map(step).collect()
}

fn tokens(config: &GptConfig, len: usize) -> Vec<i32> {
    Draw::new(7).ints(len, 0, config.vocab_size as i32 - 1)
}

#[test]
fn logits_are_those_of_the_same_program_in_memory() {
    let (device, reference) = (ops::inference(), ops::reference());
    for (weights, kv) in WEIGHTS.into_iter().flat_map(|weights| CACHES.map(|kv| (weights, kv))) {
        let spec = FileSpec { weights, kv, ..PLAIN };
        let file = export(SMALL, spec, None);
        let file = file.open(&device).expect("a file");
        let tokens = tokens(&SMALL, SMALL.n_positions);
        let expected = logits_in_ram(&reference, &file, &SMALL, &spec, true, None, &tokens);
        let mut memory = vec![f32::NAN; Session::ram_len(&file)];
        let mut session = Session::new(file, &mut memory).expect("enough memory");
        for round in 0..2 {
            for (at, (&token, expected)) in tokens.iter().zip(&expected).enumerate() {
                let found: Vec<f64> = session.feed(token as u32).expect("a token").iter().map(|&x| x.into()).collect();
                assert!(found == *expected, "{weights:?}, {kv:?}: round {round}, token {at}");
            }
            session.restart();
        }
    }
}

#[test]
fn caches_read_in_place_have_the_bits_of_those_read_before() {
    let kernels = ops::reference();
    let segments: Vec<i32> = (0..SMALL.n_positions as i32).map(|i| i / 5).collect();
    for (kv, segments) in CACHES.into_iter().flat_map(|kv| [(kv, None), (kv, Some(&segments[..]))]) {
        let spec = FileSpec { kv, ..PLAIN };
        let file = export(SMALL, spec, None);
        let file = file.open(&kernels).expect("a file");
        let tokens = tokens(&SMALL, SMALL.n_positions);
        let logits = |in_place| logits_in_ram(&kernels, &file, &SMALL, &spec, in_place, segments, &tokens);
        assert!(logits(true) == logits(false), "{kv:?}, segments {}", segments.is_some());
        let without = logits_in_ram(&kernels, &file, &SMALL, &spec, true, None, &tokens);
        assert_eq!(logits(true) != without, segments.is_some(), "segments change something");
    }
}

/// Attention of 4 tokens over a cache of 9, twice: the second time after the first.
#[derive(Clone, Copy, Debug)]
struct Cached {
    dtype: DType,
    heads: usize,
    kv_heads: usize,
    causal: bool,
    window: u32,
    segments: bool,
}

impl Cached {
    const BATCH: usize = 2;
    const TOKENS: usize = 4;
    const CAPACITY: usize = 9;

    fn run(self, read_in_place: bool) -> Vec<f64> {
        let kernels = ops::reference::<f32>();
        let (width, kv_width) = (self.heads * 32, self.kv_heads * 32);
        let (params, ()) = ram::registry::<f32, _>(1, |_| ());
        let (mut session, (x, starts, live, segments, out)) = ram::Session::build(Table::serial(&kernels), params, 20, |g| {
            let x = g.input(&[Self::BATCH, Self::TOKENS, width + 2 * kv_width]);
            let (starts, live) = (g.ints(&[Self::BATCH], 0, 9), g.ints(&[Self::BATCH], 0, 9));
            let segments = self
                .segments
                .then(|| (g.ints(&[Self::BATCH, Self::TOKENS], -1, 9), g.ints(&[Self::BATCH, Self::CAPACITY], -1, 9)));
            let kept = |column: usize| {
                let state = g.state_of(self.dtype, &[Self::BATCH, Self::CAPACITY, kv_width]);
                let state = g.cache_write(x.from_column(column), starts, state);
                if read_in_place { state } else { g.cache_read(state, live) }
            };
            let (keys, values) = (kept(width), kept(width + kv_width));
            let spec = AttentionSpec {
                heads: self.heads as u32,
                kv_heads: self.kv_heads as u32,
                head_dim: 32,
                causal: self.causal,
                window: self.window,
                scale: 0.2,
                site: 0,
            };
            let mask = AttentionMask { segments, live: Some(live), dropout: None };
            (x, starts, live, segments, g.output(g.attention(spec, x.into(), keys.into(), values.into(), mask)))
        })
        .expect("a program");
        let mut found = Vec::new();
        for (round, start) in [[0, 1], [4, 5]].into_iter().enumerate() {
            session.set(x, &Draw::new(round as u64).values(Self::BATCH * Self::TOKENS * (width + 2 * kv_width), -1.0, 1.0));
            session.set_ints(starts, &start);
            session.set_ints(live, &start.map(|start| start + Self::TOKENS as i32));
            if let Some((of_tokens, of_cache)) = segments {
                session.set_ints(of_cache, &[0, 0, 1, 1, 1, 2, 2, 2, -1].repeat(Self::BATCH));
                session.set_ints(of_tokens, &[[0, 1, 1, 1], [2, 2, -1, 1]][round].repeat(Self::BATCH));
            }
            session.run(Gradients::Overwrite);
            found.extend(session.get(out));
        }
        found
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn attention_over_stored_keys_and_values(
        which in 0usize..3, kv_heads in 1usize..3, group in 1usize..4, causal: bool, window in 0u32..5, segments: bool,
    ) {
        let cached = Cached { dtype: CACHES[which], heads: kv_heads * group, kv_heads, causal, window, segments };
        prop_assert!(cached.run(true) == cached.run(false), "{:?}", cached);
    }
}

/// Tokens of a step and those that follow; one has no successor.
fn text(spec: &FileSpec) -> (Vec<i32>, Vec<i32>) {
    let len = spec.shape.batch * spec.shape.block;
    let all = tokens(&SMALL, len + 1);
    let mut targets = all[1..].to_vec();
    targets[len - 1] = -1;
    (all[..len].to_vec(), targets)
}

/// xⁿ by squaring, the smallest power first.
fn power(x: f32, n: u32) -> f32 {
    let squares = std::iter::successors(Some(x), |x| Some(x * x));
    (0..32).zip(squares).filter(|(bit, _)| n >> bit & 1 == 1).fold(1.0, |power, (_, square)| power * square)
}

/// The losses before each of 20 steps and the parameters after them, of the training program in memory.
fn trained_in_ram(file: &ProgramFile<'_>, spec: &FileSpec, hyper: &Hyper) -> (Vec<f32>, Vec<f32>) {
    let kernels = ops::reference();
    let (params, gpt) = registry(&SMALL, spec);
    let rule = match spec.optimizer {
        Optimizer::Sgd => Rule::Sgd(Momentum::None),
        Optimizer::Adamw => Rule::AdamW(Epsilon::AfterCorrection),
    };
    let (batch, block) = (spec.shape.batch, spec.shape.block);
    let (mut session, (inputs, targets, upstream, numbers, losses)) = in_ram(&kernels, file, params, |g| {
        let inputs = LmInputs::new(g, &gpt, batch, block);
        let targets = g.ints(&[batch, block], -1, SMALL.vocab_size as i32 - 1);
        let (upstream, numbers) = (g.input(&[1]), g.input(&[HYPER_LEN]));
        let losses = g.output(lm::losses(g, &gpt, &inputs, targets));
        g.backward_updating(&[(losses, upstream)], rule, numbers, Recompute::None);
        (inputs, targets, upstream, numbers, losses)
    });
    let (text, next) = text(spec);
    let counted = (text.len() - 1) as f32;
    session.set_ints(inputs.tokens, &text);
    session.set_ints(inputs.positions, &(0..block as i32).collect::<Vec<_>>().repeat(batch));
    session.set_ints(targets, &next);
    session.set(upstream, &[f64::from(1.0 / counted)]);
    let mut found = Vec::new();
    for step in 1..=20 {
        let correction = |beta: f32| 1.0 - power(beta, step);
        let Hyper { lr, beta1, beta2, eps, weight_decay } = *hyper;
        let all = [lr, beta1, beta2, eps, weight_decay, correction(beta1), correction(beta2), 0.0];
        session.set(numbers, &all.map(f64::from));
        session.run(Gradients::Overwrite);
        found.push(session.get(losses).iter().map(|&x| x as f32).sum::<f32>() / counted);
    }
    (found, session.trainable)
}

#[test]
fn training_lowers_the_loss_and_has_the_bits_of_the_same_program_in_memory() {
    let kernels = ops::training();
    for (train, weights) in
        [Tune::Head, Tune::Bias, Tune::LastBlock, Tune::All].into_iter().flat_map(|t| [(t, DType::Real), (t, DType::Q8)])
    {
        for (optimizer, hyper) in
            [(Optimizer::Sgd, Hyper::sgd(0.1)), (Optimizer::Adamw, Hyper { weight_decay: 0.1, ..Hyper::adamw(0.01) })]
        {
            let spec = FileSpec { train, weights, optimizer, ..PLAIN };
            let file = export(SMALL, spec, None);
            let file = file.open(&kernels).expect("a file");
            let (expected, parameters) = trained_in_ram(&file, &spec, &hyper);
            let mut memory = vec![f32::NAN; Session::ram_len(&file)];
            let mut session = Session::new(file, &mut memory).expect("enough memory");
            let (tokens, targets) = text(&spec);
            let losses: Vec<f32> = (0..20).map(|_| session.train(&tokens, &targets, &hyper).expect("a step")).collect();
            let name = format!("{train:?}, {weights:?}, {optimizer:?}");
            assert!(losses == expected, "{name}: {losses:?} and {expected:?}");
            assert!(session.trainable() == parameters, "{name}");
            assert!(losses[19] < 0.95 * losses[0], "{name}: {losses:?}");
            // The program that evaluates sees the new parameters, and has no loss where there is no successor.
            let evaluated = session.evaluate(&tokens, &targets).expect("losses").to_vec();
            assert_eq!(evaluated.last(), Some(&0.0), "{name}");
            let mean = evaluated.iter().sum::<f32>() / (evaluated.len() - 1) as f32;
            assert_eq!(session.train(&tokens, &targets, &hyper), Ok(mean), "{name}");
        }
    }
}

#[test]
fn a_device_goes_on_where_it_was_switched_off() {
    let kernels = ops::training();
    let spec = FileSpec { optimizer: Optimizer::Adamw, train: Tune::LastBlock, ..PLAIN };
    let file = export(SMALL, spec, None);
    let file = file.open(&kernels).expect("a file");
    let (tokens, targets) = text(&spec);
    let hyper = Hyper::adamw(0.01);
    let [mut first, mut second] = [vec![0.0; Session::ram_len(&file)], vec![0.0; Session::ram_len(&file)]];
    let mut session = Session::new(file, &mut first).expect("enough memory");
    for _ in 0..3 {
        session.train(&tokens, &targets, &hyper).expect("a step");
    }
    let mut other = Session::new(file, &mut second).expect("enough memory");
    other.trainable_mut().copy_from_slice(session.trainable());
    let (from, to) = (session.optimizer_mut(), other.optimizer_mut());
    to.0.copy_from_slice(from.0);
    *to.1 = *from.1;
    for _ in 0..3 {
        assert_eq!(session.train(&tokens, &targets, &hyper), other.train(&tokens, &targets, &hyper));
    }
    assert!(session.trainable() == other.trainable());
}

#[test]
fn text_is_that_of_the_generator() {
    let kernels = ops::inference();
    let gpt = |weights: DType| -> gpt::Gpt {
        let gpt = model(SMALL);
        if weights == DType::Real { gpt } else { gpt.quantised(weights).expect("blocks") }
    };
    let sampling = Sampling { temperature: 1.3, top_k: 9, top_p: 0.95, min_p: 0.01 };
    for (weights, kv) in WEIGHTS.into_iter().flat_map(|weights| CACHES.map(|kv| (weights, kv))) {
        let file = export(SMALL, FileSpec { weights, kv, ..PLAIN }, None);
        let file = file.open(&kernels).expect("a file");
        let mut memory = vec![0.0; Session::ram_len(&file)];
        let mut session = Session::new(file, &mut memory).expect("enough memory");
        for (seed, sampling) in [(1, sampling), (2, sampling), (3, Sampling::GREEDY), (4, Sampling { top_p: 1.0, ..sampling })] {
            let (mut gpt, prompt) = (gpt(weights), [3, 1, 4]);
            let mut generator =
                Generator::with_cache(&mut gpt.bound(), &prompt, sampling, seed, (kv, usize::MAX)).expect("a generator");
            session.restart();
            for token in prompt {
                session.feed(token as u32).expect("a token");
            }
            let mut order = vec![0; SMALL.vocab_size];
            for i in 0..SMALL.n_positions - prompt.len() {
                let token = session.choose(&sampling, seed, &mut order).unwrap();
                assert_eq!(
                    token as i32,
                    generator.next(&mut gpt.bound()).expect("a token"),
                    "{weights:?}, {kv:?}: token {i} of seed {seed}"
                );
                session.feed(token).expect("room");
            }
        }
    }
}

// Sizes and errors of a session.

#[test]
fn a_session_needs_what_it_says_to_the_element() {
    let kernels = ops::training();
    for spec in [PLAIN, TRAINED, FileSpec { train: Tune::Bias, weights: DType::Q8, kv: DType::F16, ..PLAIN }] {
        let file = export(SMALL, spec, None);
        let file = file.open(&kernels).expect("a file");
        let needed = Session::ram_len(&file);
        let error = Session::new(file, &mut vec![0.0; needed - 1]).err();
        assert_eq!(error, Some(SessionError::Ram { found: needed - 1, needed }));
        let sizes = file.sizes();
        let of = |size: &dyn Fn(samara_core::file::FileProgram<'_>) -> usize| file.programs().map(|(_, p)| size(p)).max();
        assert_eq!(Some(sizes.arena_len), of(&|p| p.plan.arena_len()));
        assert_eq!(Some(sizes.state_len), of(&|p| p.program.info().state_len as usize));
        assert_eq!(Some(sizes.ints_len), of(&|p| p.program.info().ints_len as usize));
        assert_eq!((sizes.trainable_len, sizes.grads_len), (file.trainable().len(), 0));
        assert_eq!(sizes.moments_len, if spec.optimizer == Optimizer::Adamw { 2 * sizes.trainable_len } else { 0 });
        // What is lent beyond it stays as it is.
        let mut memory = vec![7.0; needed + 5];
        let mut session = Session::new(file, &mut memory).expect("enough memory");
        for token in 0..4 {
            session.feed(token).expect("a token");
        }
        let (tokens, targets) = text(&spec);
        if spec.train != Tune::None {
            session.train(&tokens, &targets, &Hyper::adamw(0.01)).expect("a step");
            session.evaluate(&tokens, &targets).expect("losses");
        }
        assert_eq!(memory[needed..], [7.0; 5]);
    }
}

#[test]
fn a_session_says_what_it_cannot_do() {
    let kernels = ops::training();
    let file = export(SLIM, PLAIN, None);
    let file = file.open(&kernels).expect("a file");
    let mut memory = vec![0.0; Session::ram_len(&file)];
    let mut session = Session::new(file, &mut memory).expect("enough memory");
    let no = SessionError::NoProgram;
    assert_eq!(session.train(&[], &[], &Hyper::sgd(0.1)), Err(no(ProgramKind::Train)));
    assert_eq!(session.evaluate(&[], &[]), Err(no(ProgramKind::Evaluate)));
    assert_eq!((session.tokens_of(ProgramKind::Decode), session.tokens_of(ProgramKind::Train)), (1, 0));
    let range = |value| Some(SessionError::Tokens(WriteError::Range { position: 0, value, low: 0, high: 4 }));
    assert_eq!((session.feed(5).err(), session.feed(u32::MAX).err()), (range(5), range(i32::MAX)));
    assert_eq!(session.position(), 0);
    for token in 0..4 {
        session.feed(token).expect("a token");
    }
    assert_eq!(session.feed(0).err(), Some(SessionError::ContextFull { context: 4 }));
    session.restart();
    assert!(session.feed(0).is_ok());

    let file = export(SLIM, TRAINED, None);
    let file = file.open(&kernels).expect("a file");
    let mut memory = vec![0.0; Session::ram_len(&file)];
    let mut session = Session::new(file, &mut memory).expect("enough memory");
    let mut train = |tokens: &[i32], targets: &[i32]| session.train(tokens, targets, &Hyper::sgd(0.1)).err();
    let error = |error| Some(SessionError::Tokens(error));
    assert_eq!(train(&[0; 7], &[0; 8]), error(WriteError::Length { found: 7, expected: 8 }));
    assert_eq!(train(&[0; 8], &[0; 9]), error(WriteError::Length { found: 9, expected: 8 }));
    let range = |position, value, low| error(WriteError::Range { position, value, low, high: 4 });
    assert_eq!(train(&[0, -1, 0, 0, 0, 0, 0, 0], &[0; 8]), range(1, -1, 0));
    assert_eq!(train(&[0; 8], &[0, 0, 0, 0, 0, 0, 0, 5]), range(7, 5, i32::MIN));
}
