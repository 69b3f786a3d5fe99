//! What is wrong with a file has its name before anything runs.

use super::*;

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
    for found in [0, 1, 3] {
        assert_eq!(error(file.with_header(|h| h.version = found)), FileError::Version { found });
    }
    assert!(FileError::Version { found: 1 }.to_string().contains("samara export --convert FILE --out FILE"));
    assert!(FileError::Version { found: 3 }.to_string().contains("update samara"));
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
    assert_eq!(error(file.with_sections(|s| s[1].offset_units = u32::MAX)), section(1));
    for len in [u64::MAX, u64::MAX - 63, 1 << 32] {
        assert_eq!(error(file.with_sections(|s| s[4].len = len)), section(4));
    }
    assert_eq!(error(file.with_header(|h| h.len += 1 << 32)), FileError::Length { found: len, expected: len + (1 << 32) });
    let found = file.header().layout().frozen_bytes;
    let expected = FileError::Content { kind: K::Frozen, found, expected: found + 64 };
    assert_eq!(error(file.with_header(|h| h.frozen_units += 1)), expected);
    assert!(matches!(error(file.with_header(|h| h.trainable_units = 1)), FileError::Content { kind: K::Trainable, .. }));
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
    let arena = error(file.with::<ProgramHeader>(K::Program, decode, |h| h[0].arena_units -= 1));
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

/// A table of one family of models has no RMS norm beside layer norm and no SiLU beside GELU, and a GPT-2's no exact GELU: such nodes are refused,
/// and others taken.
#[test]
fn what_another_family_computes_is_refused() {
    let tables = [ops::training(), ops::llama_training(), ops::training_with::<_, GeluTanh>()];
    let every = ops::reference();
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
    let [gelu, erf, silu] = [Activation::GeluTanh, Activation::GeluErf, Activation::Silu].map(|a| f64::from(a as u8));
    // Not to centre is the last attribute of both.
    let rms = change(&change(&file, &[norm], 1, 0.0, 1.0), &[norm_backward], 0, 0.0, 1.0);
    let swish = change(&file, &[linear], 0, gelu, silu);
    let both = change(&rms, &[linear], 0, gelu, silu);
    let exact = change(&file, &[linear], 0, gelu, erf);
    let [none, only_gpt, only_llama] = [[false; 3], [true, false, false], [false, true, false]];
    for (file, takes) in [(&file, [true, false, true]), (&rms, none), (&swish, none), (&both, only_llama), (&exact, only_gpt)] {
        assert_eq!(tables.each_ref().map(|kernels| file.open(kernels).is_ok()), takes);
        assert!(file.open(&every).is_ok());
        for kernels in tables.iter().zip(takes).filter(|(_, takes)| !takes).map(|(kernels, _)| kernels) {
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

/// The ports of a program.
fn ports(file: &File, kind: ProgramKind) -> Vec<PortRecord> {
    let kernels = ops::training();
    file.open(&kernels).expect("a sound file").program(kind).expect("a program").ports().to_vec()
}

#[test]
fn ports_lead_to_what_serves_them() {
    let (file, kernels) = (export(SLIM, TRAINED, None), ops::training());
    for kind in KINDS {
        for (i, port) in ports(&file, kind).into_iter().enumerate() {
            let with = |edit: &dyn Fn(&mut PortRecord)| {
                file.with::<PortRecord>(SectionKind::Ports, Some(kind), |ports| edit(&mut ports[i])).error(&kernels)
            };
            let changed =
                [with(&|p| p.tensor = Tensor::NONE), with(&|p| p.tensor = bytemuck::cast(0_u16)), with(&|p| p.index = 9)];
            for error in changed {
                let lost = matches!(error, FileError::Port { program, port: p, .. } if (program, p) == (kind, port.kind.into()));
                // What the host writes without a port is what a node reads and nobody writes.
                let unwritten = matches!(error, FileError::Node { program, .. } if program == kind);
                assert!(lost || unwritten, "{kind:?}, port {port:?}: {error}");
            }
            // Of a kind that nobody knows, inputs are refused and outputs left alone; then the port that is needed is missing.
            for unknown in [Port::Pixels as u16, 999] {
                let error = with(&|p| p.kind = unknown);
                let output = tensors(&file, kind)[port.tensor.index()].role == Role::Activation;
                let named = if output { port.kind } else { unknown };
                let tensor = if output { Tensor::NONE } else { port.tensor };
                assert_eq!(error, FileError::Port { program: kind, port: named.into(), tensor }, "{error}");
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
    let twice = file.with::<PortRecord>(SectionKind::Ports, train, |ports| ports[1].tensor = ports[0].tensor);
    assert!(matches!(twice.error(&kernels), FileError::Node { program: ProgramKind::Train, .. }));
    let shared =
        file.with::<TensorRecord>(SectionKind::Tensors, train, |tensors| tensors[positions].offset = tensors[tokens].offset);
    assert_eq!(shared.error(&kernels), FileError::Program { program: ProgramKind::Train }, "positions lie where tokens do");
    assert!(matches!(file.with_header(|h| h.context = 3).error(&kernels), FileError::Port { .. }));
}

#[test]
fn groups_cover_what_is_trained() {
    let (file, kernels) = (export(SLIM, TRAINED, None), ops::training());
    let groups = tables(&file, |file| <[GroupRecord; 2]>::try_from(file.groups()).expect("two groups"));
    assert_eq!(groups.map(|g| (g.flags, g.lr_scale)), [(DECAY, 1.0), (0, 1.0)]);
    assert_eq!(groups.map(|g| g.units).iter().sum::<u32>(), file.header().trainable_units);
    let with = |edit: fn(&mut [GroupRecord])| file.with::<GroupRecord>(SectionKind::Groups, None, edit);
    let wrong: [fn(&mut [GroupRecord]); 7] = [
        |g| g[0].units += 1,
        |g| g[1].units = u32::MAX,
        |g| g[0].flags = 2,
        |g| g[0].lr_scale = -1.0,
        |g| g[1].lr_scale = f32::NAN,
        |g| g[1].lr_scale = f32::INFINITY,
        |g| g[1].lr_scale = -0.0,
    ];
    for edit in wrong {
        assert_eq!(with(edit).error(&kernels), FileError::Groups);
    }
    // Where one group ends and the next begins is a matter of the file, and so are factors.
    let moved = with(|g| {
        g[0].units -= 1;
        g[1].units += 1;
        g[1].lr_scale = 0.0;
    });
    assert!(moved.open(&kernels).is_ok());
}

/// What is not in the arena lies in its buffer; positions beyond 32 bits of bytes do not come around.
#[test]
fn tensors_lie_in_their_buffers() {
    let (file, kernels) = (export(SLIM, TRAINED, None), ops::training());
    for kind in KINDS {
        for (i, t) in tensors(&file, kind).into_iter().enumerate().filter(|(_, t)| !in_arena(t)) {
            for offset in [u32::MAX, 1 << 28, 1 << 26] {
                let moved = file.with::<TensorRecord>(SectionKind::Tensors, Some(kind), |tensors| tensors[i].offset = offset);
                assert_eq!(moved.error(&kernels), FileError::Tensor { program: kind, tensor: i }, "{:?} at {offset}", t.role);
            }
        }
    }
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
