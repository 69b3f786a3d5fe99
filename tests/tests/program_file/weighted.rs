//! A gradient for the loss of each token, and learning rates by groups.

use std::sync::Arc;

use samara::export::file::{FileModel, FileWriter};
use samara::session::{CpuDevice, Engine, OwnedParams, OwnedProgram, ParamSet};
use samara_core::graph::HyperInput;
use samara_core::model::gpt::Gpt;
use samara_core::params::GroupId;
use samara_core::shape::UNIT;

use super::*;

const BATCH: usize = 2;
const BLOCK: usize = 4;
const TOKENS: [i32; BATCH * BLOCK] = [0, 3, 1, 4, 2, 2, 1, 0];
const TARGETS: [i32; BATCH * BLOCK] = [3, 1, 4, 0, 2, 1, 0, 3];

/// A model that trains all of its parameters by SGD, with hyper-parameters for each group and a gradient for each of `rows` losses.
fn file(rows: &[usize]) -> File {
    let engine = Arc::new(Engine::reference().expect("a thread"));
    let register = |r: &mut Registry<'_>| Gpt::register(&TINY, &mut r.scope());
    let (owned, gpt) = OwnedParams::new(TINY.param_count(), register).expect("a registry");
    let (program, ports) = OwnedProgram::new(&*engine, &owned, |g| {
        let inputs = LmInputs::new(g, &gpt, BATCH, BLOCK);
        let targets = lm::targets(g, &gpt, BATCH, BLOCK);
        let losses = g.output(lm::losses(g, &gpt, &inputs, targets));
        let (upstream, hyper) = (g.input(rows), [g.input(&[HYPER_LEN]), g.input(&[HYPER_LEN])]);
        let of_groups = HyperInput::from(hyper[0]).with(GroupId::NO_DECAY, hyper[1]);
        g.backward_updating(&[(losses, upstream)], Rule::Sgd(Momentum::None), of_groups, Recompute::None);
        vec![
            (Port::Tokens, inputs.tokens),
            (Port::Positions, inputs.positions),
            (Port::Targets, targets),
            (Port::Upstream, upstream),
            (Port::Hyper, hyper[0]),
            (Port::Hyper, hyper[1]),
            (Port::Losses, losses),
        ]
    })
    .expect("a program");
    let mut set = ParamSet::new(&CpuDevice::new(Arc::clone(&engine)), "device", &owned).unwrap();
    owned.view().initialise(5, set.weights.get_mut());
    let mut writer = FileWriter::default();
    writer.program(ProgramKind::Train, &program, &ports);
    writer.params(&set, false);
    let (params, layout) = (owned.view().infos().len(), owned.view().layout());
    let model = FileModel { params, layout, vocab_size: TINY.vocab_size, context: TINY.n_positions, end_of_text: None };
    File::new(&writer.finish(&model))
}

/// The parameters after steps, each with a gradient for each loss or, without, the mean of all.
fn trained(file: &File, targets: &[i32], upstream: Option<&[f32]>, lr: f32, steps: usize) -> Vec<f32> {
    let kernels = ops::training();
    let file = file.open(&kernels).expect("a sound file");
    let mut memory = vec![f32::NAN; Session::ram_len(&file)];
    let mut session = Session::new(file, &mut memory).expect("enough memory");
    for _ in 0..steps {
        match upstream {
            Some(upstream) => {
                let losses = session.train_weighted(&TOKENS, targets, upstream, &Hyper::sgd(lr)).expect("a step");
                assert_eq!(losses.len(), BATCH * BLOCK);
            }
            None => _ = session.train(&TOKENS, targets, &Hyper::sgd(lr)).expect("a step"),
        }
    }
    session.trainable().to_vec()
}

#[test]
fn equal_weights_are_the_mean() {
    let file = file(&[BATCH, BLOCK]);
    let mean = trained(&file, &TARGETS, None, 0.1, 5);
    assert_eq!(trained(&file, &TARGETS, Some(&[0.125; 8]), 0.1, 5), mean);
    assert_ne!(mean, trained(&file, &TARGETS, None, 0.1, 4));
    // Twice the gradient is twice the learning rate, to the bit; the other way it is descent turned around.
    assert_eq!(trained(&file, &TARGETS, Some(&[0.25; 8]), 0.1, 1), trained(&file, &TARGETS, None, 0.2, 1));
    assert_ne!(trained(&file, &TARGETS, Some(&[-0.125; 8]), 0.1, 1), trained(&file, &TARGETS, None, 0.1, 1));
}

#[test]
fn a_weight_of_zero_is_a_token_without_a_successor() {
    let file = file(&[BATCH, BLOCK]);
    for kept in 0..BATCH * BLOCK {
        let (mut weights, mut targets) = ([0.0; 8], [-1; 8]);
        (weights[kept], targets[kept]) = (1.0, TARGETS[kept]);
        assert_eq!(trained(&file, &TARGETS, Some(&weights), 0.1, 3), trained(&file, &targets, None, 0.1, 3), "token {kept}");
    }
}

#[test]
fn one_number_for_all_losses_is_no_number_for_each() {
    let ([one, each], kernels) = ([file(&[1]), file(&[BATCH, BLOCK])], ops::training());
    let file = one.open(&kernels).expect("a sound file");
    let mut memory = vec![0.0; Session::ram_len(&file)];
    let mut session = Session::new(file, &mut memory).expect("enough memory");
    let error = session.train_weighted(&TOKENS, &TARGETS, &[0.125; 8], &Hyper::sgd(0.1)).err();
    assert_eq!(error, Some(SessionError::Tokens(WriteError::Length { found: 8, expected: 1 })));
    let wrong = each.with::<PortRecord>(SectionKind::Ports, Some(ProgramKind::Train), |ports| {
        let upstream = ports.iter_mut().find(|p| p.kind == Port::Upstream as u16).expect("a port");
        upstream.tensor = bytemuck::cast(0_u16);
    });
    assert!(wrong.open(&kernels).is_err());
}

#[test]
fn groups_have_their_learning_rates() {
    let file = file(&[1]);
    let decayed = tables(&file, |file| file.groups()[0].units as usize * UNIT);
    let with = |first: f32, second: f32| {
        let file = file.with::<GroupRecord>(SectionKind::Groups, None, |groups| {
            (groups[0].lr_scale, groups[1].lr_scale) = (first, second);
        });
        trained(&file, &TARGETS, None, 0.1, 1)
    };
    let start = tables(&file, |file| file.trainable().len());
    let initial = trained(&file, &TARGETS, None, 0.1, 0);
    let (plain, double) = (trained(&file, &TARGETS, None, 0.1, 1), trained(&file, &TARGETS, None, 0.2, 1));
    assert!(0 < decayed && decayed < start);
    assert_ne!(initial[..decayed], plain[..decayed]);
    assert_ne!(initial[decayed..], plain[decayed..]);
    assert_eq!(with(1.0, 0.0), [&plain[..decayed], &initial[decayed..]].concat(), "a frozen group");
    assert_eq!(with(0.0, 1.0), [&initial[..decayed], &plain[decayed..]].concat(), "the other");
    assert_eq!(with(2.0, 1.0), [&double[..decayed], &plain[decayed..]].concat(), "twice as fast");
}
