//! Sessions: several sets over several registries, states that do not overlap, values that the host waits for once.

use std::sync::Arc;

use samara::kernels::gemm::Gemm;
use samara::session::update::{Update, UpdateNumbers};
use samara::session::{BuildError, CpuDevice, DeviceError, Engine, On, OwnedParams, OwnedProgram, Session};
use samara_core::exec::Gradients;
use samara_core::graph::{Epsilon, Recompute, Rule, Tensor, Wrt};
use samara_core::params::{Init, ParamId};

fn session() -> Session {
    Session::new(CpuDevice::new(Engine::new(2, Gemm::Samara).unwrap()))
}

/// One parameter w of `n` elements.
fn registry(n: usize) -> (Arc<OwnedParams>, ParamId) {
    OwnedParams::new(1, |r| r.scope().add("w", &[n], Init::Ones)).unwrap()
}

/// y = w · x, and the gradient of w.
struct Scale {
    program: OwnedProgram,
    x: Tensor,
    upstream: Tensor,
    y: Tensor,
}

impl Scale {
    fn new(session: &mut Session, on: On, w: ParamId, n: usize) -> Self {
        let (program, (x, upstream, y)) = session
            .prepare(on, |g| {
                let (x, upstream) = (g.input(&[n]), g.input(&[n]));
                let y = g.output(g.mul(g.param(w), x));
                g.backward(&[(y, upstream)], Wrt::Trainable, Recompute::None);
                (x, upstream, y)
            })
            .unwrap();
        Self { program, x, upstream, y }
    }

    fn run(&self, session: &mut Session, on: On, x: &[f32], gradients: Gradients) {
        session.write(&self.program, self.x, x).unwrap();
        session.write(&self.program, self.upstream, &vec![1.0; x.len()]).unwrap();
        session.run_all(&self.program, on, gradients);
    }
}

#[test]
fn a_program_runs_on_every_set_of_its_registry() {
    let mut s = session();
    let (owned, w) = registry(3);
    let [policy, reference] = ["policy", "reference"].map(|name| s.add_set(name, &owned).unwrap());
    s.set_mut(policy).0.weights.get_mut()[..3].copy_from_slice(&[1.0, 2.0, 3.0]);
    s.copy_weights(policy, reference).unwrap();
    s.set_mut(policy).0.weights.get_mut()[0] = -1.0;
    let scale = Scale::new(&mut s, On::set(policy), w, 3);
    s.make_room(&scale.program, On::set(reference)).unwrap();
    let mut tickets = Vec::new();
    for set in [policy, reference] {
        scale.run(&mut s, On::set(set), &[10.0, 10.0, 10.0], Gradients::Overwrite);
        tickets.push(s.fetch(&scale.program, scale.y));
    }
    s.sync().unwrap();
    assert_eq!(s.fetched(&tickets[0]), [-10.0, 20.0, 30.0]);
    assert_eq!(s.fetched(&tickets[1]), [10.0, 20.0, 30.0]);
}

/// Two sets with one copy of what is frozen: y = f · w · x, where f is read by both and w by one each.
#[test]
fn a_set_reads_the_frozen_parameters_of_another() {
    let mut s = session();
    let (owned, [w, f]) = OwnedParams::new(2, |r| {
        let ids = ["w", "f"].map(|name| r.scope().add(name, &[3], Init::Ones));
        r.infos_mut()[ids[1].index()].frozen = true;
        ids
    })
    .unwrap();
    let policy = s.add_set("policy", &owned).unwrap();
    let reference = s.add_set_beside("reference", policy).unwrap();
    let third = s.add_set_beside("third", reference).unwrap();
    assert_eq!([policy, reference, third].map(|set| s.frozen_of(set)), [policy; 3]);
    assert!(s.set(policy).frozen.get().len() >= 12 && s.set(reference).frozen.get().is_empty());
    for (set, value) in [(policy, 2.0), (reference, 3.0)] {
        s.set_mut(set).0.weights.get_mut()[..3].fill(value);
    }
    s.set_mut(policy).0.frozen.get_mut()[..12].copy_from_slice([5.0_f32; 3].map(f32::to_ne_bytes).as_flattened());
    let (program, (x, y)) = s
        .prepare(On::set(policy), |g| {
            let x = g.input(&[3]);
            (x, g.output(g.mul(g.mul(g.param(f), g.param(w)), x)))
        })
        .unwrap();
    for (set, expected) in [(policy, 10.0), (reference, 15.0), (policy, 10.0)] {
        s.write(&program, x, &[1.0; 3]).unwrap();
        s.run_all(&program, On::set(set), Gradients::Overwrite);
        let mut found = [0.0; 3];
        s.read_into(&program, y, &mut found).unwrap();
        assert_eq!(found, [expected; 3]);
    }
    // Weights are copied, and what is shared stays.
    s.copy_weights(policy, third).unwrap();
    assert_eq!(s.set(third).weights.get()[..3], [2.0; 3]);
    let other = s.add_set("other", &owned).unwrap();
    assert_eq!(s.copy_weights(reference, other), Err(DeviceError::Sets));
    s.copy_weights(policy, other).unwrap();
    assert_eq!(s.set(other).frozen.get(), s.set(policy).frozen.get());
}

#[test]
fn a_set_of_another_registry_is_refused_for_good() {
    let mut s = session();
    let ((a, w), (b, _)) = (registry(3), registry(3));
    let (own, other) = (s.add_set("own", &a).unwrap(), s.add_set("other", &b).unwrap());
    let scale = Scale::new(&mut s, On::set(own), w, 3);
    s.make_room(&scale.program, On::set(other)).unwrap();
    scale.run(&mut s, On::set(other), &[1.0; 3], Gradients::Overwrite);
    let expected = Err(DeviceError::Registry { set: "other".to_owned() });
    assert_eq!(s.sync(), expected);
    // The first failure stands, as that of a device would.
    scale.run(&mut s, On::set(own), &[1.0; 3], Gradients::Overwrite);
    assert_eq!(s.sync(), expected);
    assert_eq!(s.read_into(&scale.program, scale.y, &mut [0.0; 3]), expected);
    assert_eq!(s.copy_weights(own, other), expected);
    assert_eq!(s.copy_weights(own, own), Err(DeviceError::Sets));
}

#[test]
fn a_run_without_room_is_named() {
    let mut s = session();
    let (owned, w) = registry(3);
    let set = s.add_set("policy", &owned).unwrap();
    let scale = Scale::new(&mut s, On::set(set), w, 3);
    scale.run(&mut s, On::set(set).with_gradients(1), &[1.0; 3], Gradients::Overwrite);
    let message = s.sync().unwrap_err().to_string();
    assert!(message.contains("gradient") && message.contains("\"policy\"") && message.contains(" 0 elements"), "{message}");
}

#[test]
fn gradient_buffers_are_apart_and_add_up() {
    let mut s = session();
    let (owned, w) = registry(3);
    let set = s.add_set("policy", &owned).unwrap();
    let (first, second) = (On::set(set), On::set(set).with_gradients(1));
    let scale = Scale::new(&mut s, second, w, 3);
    scale.run(&mut s, first, &[1.0, 2.0, 3.0], Gradients::Overwrite);
    scale.run(&mut s, second, &[5.0, 5.0, 5.0], Gradients::Overwrite);
    scale.run(&mut s, first, &[1.0, 1.0, 1.0], Gradients::Add);
    s.sync().unwrap();
    let grads = &s.set(set).grads;
    assert_eq!(grads[0].get()[..3], [2.0, 3.0, 4.0]);
    assert_eq!(grads[1].get()[..3], [5.0, 5.0, 5.0]);
}

/// A state (rows, 4) that is replaced by an input and given out.
fn keep(s: &mut Session, on: On, rows: usize) -> Result<(OwnedProgram, Tensor, Tensor), BuildError> {
    let (program, (x, y)) = s.prepare(on, |g| {
        let (x, starts, live) = (g.input(&[rows, 1, 4]), g.ints(&[rows], 0, 2), g.ints(&[rows], 0, 2));
        let state = g.state(&[rows, 2, 4]);
        let state = g.cache_write(x.into(), starts, state);
        (x, g.output(g.cache_read(state, live)))
    })?;
    Ok((program, x, y))
}

#[test]
fn states_are_named_and_do_not_overlap() {
    let mut s = session();
    let (owned, _) = registry(1);
    let set = s.add_set("policy", &owned).unwrap();
    let [cache, queue] = ["cache", "queue"].map(|name| s.add_state(name));
    let on = On::set(set);
    let (program, x, _) = keep(&mut s, on.with_state(cache), 2).unwrap();
    s.make_room(&program, on.with_state(queue)).unwrap();
    for (state, value) in [(cache, 1.0), (queue, 2.0)] {
        s.write(&program, x, &[value; 8]).unwrap();
        s.run_all(&program, on.with_state(state), Gradients::Overwrite);
    }
    s.sync().unwrap();
    // Token 0 of both rows.
    assert_eq!(s.state_mut(cache).0.mem.get()[..12], [1., 1., 1., 1., 0., 0., 0., 0., 1., 1., 1., 1.]);
    assert_eq!(s.state_mut(queue).0.mem.get()[..4], [2.0; 4]);
    // Other states in the same set are refused, until the set forgets.
    let Err(BuildError::State { set: name, index: 0, .. }) = keep(&mut s, on.with_state(cache), 3) else { panic!("refused") };
    assert_eq!(name, "cache");
    s.state_mut(cache).0.forget();
    keep(&mut s, on.with_state(cache), 3).unwrap();
    // What was there is kept when the memory grows.
    assert_eq!(s.state_mut(cache).0.mem.get()[..4], [1.0; 4]);
}

#[test]
fn a_row_of_states_goes_into_a_slot_of_a_batch() {
    let mut s = session();
    let (owned, _) = registry(1);
    let set = s.add_set("policy", &owned).unwrap();
    let [prefill, decode] = ["prefill", "decode"].map(|name| s.add_state(name));
    let on = On::set(set);
    let (one, x, _) = keep(&mut s, on.with_state(prefill), 1).unwrap();
    keep(&mut s, on.with_state(decode), 3).unwrap();
    s.write(&one, x, &[1.0, 2.0, 3.0, 4.0]).unwrap();
    s.run_all(&one, on.with_state(prefill), Gradients::Overwrite);
    s.copy_state_row((prefill, 0), (decode, 1)).unwrap();
    assert_eq!(s.state_mut(decode).0.mem.get()[8..12], [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(s.state_mut(decode).0.mem.get()[..8], [0.0; 8]);
    for (from, to) in [((prefill, 1), (decode, 0)), ((prefill, 0), (decode, 3))] {
        assert!(matches!(s.copy_state_row(from, to), Err(DeviceError::Failed(_))));
    }
    assert_eq!(s.copy_state_row((decode, 0), (decode, 1)), Err(DeviceError::Sets));
}

#[test]
fn values_are_carried_between_programs_of_one_workspace() {
    let mut s = session();
    let (owned, w) = registry(3);
    let on = On::set(s.add_set("policy", &owned).unwrap());
    s.set_mut(on.set).0.weights.get_mut()[..3].copy_from_slice(&[1.0, 2.0, 3.0]);
    let first = Scale::new(&mut s, on, w, 3);
    let (second, (a, b, c)) = s
        .prepare(on, |g| {
            let (a, b) = (g.input(&[3]), g.input(&[3]));
            (a, b, g.output(g.add(a, g.scale(b, -1.0))))
        })
        .unwrap();
    first.run(&mut s, on, &[2.0; 3], Gradients::Overwrite);
    // x goes to b and y to a, whatever lies where.
    s.carry(&first.program, &second, &[(first.x, b), (first.y, a)]);
    s.run_all(&second, on, Gradients::Overwrite);
    let mut values = [0.0; 3];
    s.read_into(&second, c, &mut values).unwrap();
    assert_eq!(values, [0.0, 2.0, 4.0]);
}

/// Tickets of an earlier round are not read as if they were of this one.
#[test]
#[should_panic(expected = "readable from a sync to the next fetch")]
fn a_ticket_is_good_until_the_next_fetch() {
    let mut s = session();
    let (owned, w) = registry(3);
    let on = On::set(s.add_set("policy", &owned).unwrap());
    let scale = Scale::new(&mut s, on, w, 3);
    let ticket = s.fetch(&scale.program, scale.y);
    s.sync().unwrap();
    s.fetch(&scale.program, scale.y);
    s.sync().unwrap();
    s.fetched(&ticket);
}

#[test]
fn updates_of_two_sets_are_their_own_and_an_average_follows() {
    let mut s = session();
    let ((a, _), (b, _)) = (registry(3), registry(2));
    let (policy, ema, value) = (s.add_set("policy", &a).unwrap(), s.add_set("ema", &a).unwrap(), s.add_set("value", &b).unwrap());
    let adamw = Rule::AdamW(Epsilon::AfterCorrection);
    let averages = [(policy, &[ema][..]), (value, &[])];
    let updates = averages.map(|(set, averages)| Update::new(&mut s, set, adamw, &[], averages).unwrap());
    for (set, value) in [(policy, 3.0), (value, 4.0)] {
        let (set, _) = s.set_mut(set);
        set.weights.get_mut().fill(1.0);
        set.grads[0].get_mut()[0] = value;
    }
    let numbers = |count| UpdateNumbers {
        count,
        lr: 0.5,
        beta1: 0.0,
        beta2: 0.0,
        eps: 0.0,
        weight_decay: 0.0,
        grad_clip: 0.0,
        ema_decay: 0.75,
        ema_copies: 1,
    };
    let norms = updates.each_ref().map(|update| update.norm(&mut s));
    s.sync().unwrap();
    let norms = norms.map(|ticket| s.fetched(&ticket)[0]);
    assert_eq!(norms, [3.0, 4.0]);
    for (update, norm) in updates.iter().zip(norms) {
        update.apply(&mut s, &numbers(1), norm);
    }
    s.sync().unwrap();
    // Without memory, AdamW steps by lr · sign(g); of a gradient of 0 and ε = 0 it makes 0/0, so only the first element is looked at.
    assert_eq!([policy, value, ema].map(|set| s.set(set).weights.get()[0]), [0.5, 0.5, 0.5]);
    updates[0].apply(&mut s, &numbers(2), norms[0]);
    s.sync().unwrap();
    assert_eq!([policy, value, ema].map(|set| s.set(set).weights.get()[0]), [0.0, 0.5, 0.75 * 0.5]);
}

/// The planned workspace is that of the largest program, and says when it moves.
#[test]
fn the_workspace_says_when_values_are_lost() {
    let mut s = session();
    let ((small, v), (large, w)) = (registry(3), registry(4000));
    let (a, b) = (On::set(s.add_set("small", &small).unwrap()), On::set(s.add_set("large", &large).unwrap()));
    Scale::new(&mut s, b, w, 4000);
    let before = s.workspace().generation();
    let scale = Scale::new(&mut s, a, v, 3);
    assert_eq!(s.workspace().generation(), before);
    assert!(!s.make_room(&scale.program, a).unwrap());
    Scale::new(&mut s, b, w, 4000);
    assert_eq!(s.workspace().generation(), before);
}
