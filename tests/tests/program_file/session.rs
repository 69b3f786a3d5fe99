//! Sizes and errors of a session.

use super::*;

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
        assert_eq!(Some(sizes.state_len), of(&|p| p.program.info().state_len()));
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
