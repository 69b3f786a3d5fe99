//! Objectives of other shapes than a language model's, on the same trainer: two registries with several updates in a step and a host in between,
//! and two passes over a whole batch. Both go on after a kill to the bit.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use samara::data::DataError;
use samara::data::batches::{Order, Sampler};
use samara::data::dataset::{Dataset, HostBatch};
use samara::kernels::gemm::Gemm;
use samara::lm::RunError;
use samara::run::metrics::{self, Metrics};
use samara::session::{BuildError, CpuDevice, Device, Engine, On, OwnedParams, OwnedProgram, Session, SetId, Ticket};
use samara::stop::Stop;
use samara::train::config::TrainConfig;
use samara::train::error::TrainingError;
use samara::train::folder::RunFolder;
use samara::train::objective::{Direction, Objective, SetRole, SetSpec, Source, StepBatch};
use samara::train::progress::View;
use samara::train::scalars::{Combine, ScalarId, Scalars};
use samara::train::shape::update_numbers;
use samara::train::step::Stepper;
use samara::train::trainer::Trainer;
use samara_core::exec::Gradients;
use samara_core::graph::{Recompute, Tensor, Upstream, Wrt};
use samara_core::params::{GroupId, Init, ParamId};
use samara_tests::training::{newest_checkpoint, tensors};
use serde_json::{Value, json};

/// Inputs and outputs of every model here.
const N: usize = 6;
/// Rows of a micro-batch.
const B: usize = 3;

/// Row r is sin(N r + j).
struct Waves(u64);

impl Dataset for Waves {
    fn len(&self) -> u64 {
        self.0
    }

    fn batch(&self, rows: usize) -> HostBatch {
        HostBatch::new(rows).with_reals("x", N)
    }

    fn fill(&self, rows: &[u64], into: &mut HostBatch) -> Result<(), DataError> {
        into.tokens = rows.len() as u64;
        let [x] = into.reals_mut(["x"]);
        x.fill(0.0);
        for (x, &row) in x.chunks_exact_mut(N).zip(rows) {
            x.iter_mut().enumerate().for_each(|(j, x)| *x = ((row * N as u64 + j as u64) as f32).sin());
        }
        Ok(())
    }
}

fn source(micro_batches: usize) -> Source {
    let order = Sampler::over_rows(Order::Shuffled, 5, 20, "waves").unwrap();
    Source { train: Box::new(Waves(20)), order, rows: B, micro_batches, validation: Some(Box::new(Waves(7))) }
}

fn registry() -> (Arc<OwnedParams>, ParamId) {
    OwnedParams::new(1, |r| r.scope().add("w", &[N, N], Init::Normal { std: 0.5 })).unwrap()
}

/// y = x Wᵀ, and the gradient of W for an upstream that the host writes after it has seen y.
struct Layer {
    on: On,
    program: OwnedProgram,
    x: Tensor,        // (B, N)
    upstream: Tensor, // (B, N)
    y: Tensor,        // (B, N)
}

impl Layer {
    fn new<D: Device>(session: &mut Session<D>, set: SetId, w: ParamId) -> Result<Self, BuildError> {
        let on = On::set(set);
        let (program, (x, upstream, y)) = session.prepare(on, |g| {
            let (x, upstream) = (g.input(&[B, N]), g.input(&[B, N]));
            let y = g.output(g.linear(x, g.param(w), None));
            g.backward(&[(y, Upstream::After(upstream))], Wrt::Trainable, Recompute::None);
            (x, upstream, y)
        })?;
        Ok(Self { on, program, x, upstream, y })
    }

    fn forward<D: Device>(&self, session: &mut Session<D>, x: &[f32]) {
        session.write(&self.program, self.x, x).unwrap();
        session.run(&self.program, self.on, self.program.view().forward(), Gradients::Overwrite);
    }

    fn backward<D: Device>(&self, session: &mut Session<D>, upstream: &[f32], gradients: Gradients) {
        session.write(&self.program, self.upstream, upstream).unwrap();
        session.run(&self.program, self.on, self.program.view().backward(), gradients);
    }
}

/// The last two batches' first rows, kept in a lasting state.
struct Queue {
    on: On,
    program: OwnedProgram,
    x: Tensor,      // (1, 1, N)
    starts: Tensor, // (1)
    live: Tensor,   // (1)
    rows: Tensor,   // (1, 2, N)
}

/// PPO's shape: a policy and a value function with registries of their own, an average of the policy, a reference that stays as it is; two updates in
/// most steps, with the host between forward and backward; a queue; a number that it must remember.
struct TwoRegistries {
    policy: (Arc<OwnedParams>, ParamId),
    value: (Arc<OwnedParams>, ParamId),
    layers: Vec<Layer>,
    reference: Option<Layer>,
    average: Option<Layer>,
    queue: Option<Queue>,
    updates: u64,
    losses: [f64; 2],
    ids: Vec<ScalarId>,
    /// Raised in the evaluation after this many updates.
    interrupt: Option<(u64, Stop)>,
}

impl TwoRegistries {
    fn new() -> Self {
        Self {
            policy: registry(),
            value: registry(),
            layers: Vec::new(),
            reference: None,
            average: None,
            queue: None,
            updates: 0,
            losses: [0.0; 2],
            ids: Vec::new(),
            interrupt: None,
        }
    }
}

fn mean_square(values: &[f32]) -> f64 {
    values.iter().map(|&y| f64::from(y).powi(2)).sum::<f64>() / values.len() as f64
}

impl<D: Device> Objective<D> for TwoRegistries {
    fn sets(&self) -> Vec<SetSpec> {
        let spec = |name, registry: &Arc<OwnedParams>, role| SetSpec { name, registry: Arc::clone(registry), role };
        vec![
            spec("policy", &self.policy.0, SetRole::Trained),
            spec("reference", &self.policy.0, SetRole::Fixed),
            spec("value", &self.value.0, SetRole::Trained),
            spec("teacher", &self.policy.0, SetRole::Average { of: 0 }),
        ]
    }

    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError> {
        let &[policy, reference, value, teacher] = sets else { panic!("four sets") };
        self.layers = vec![Layer::new(session, policy, self.policy.1)?, Layer::new(session, value, self.value.1)?];
        self.reference = Some(Layer::new(session, reference, self.policy.1)?);
        self.average = Some(Layer::new(session, teacher, self.policy.1)?);
        let state = session.add_lasting_state("queue");
        let on = On::set(policy).with_state(state);
        let (program, (x, starts, live, rows)) = session.prepare(on, |g| {
            let (x, starts, live) = (g.input(&[1, 1, N]), g.ints(&[1], 0, 2), g.ints(&[1], 0, 2));
            let state = g.cache_write(x.into(), starts, g.state(&[1, 2, N]));
            (x, starts, live, g.output(g.cache_read(state, live)))
        })?;
        self.queue = Some(Queue { on, program, x, starts, live, rows });
        Ok(())
    }

    fn scalars(&mut self, scalars: &mut Scalars) {
        self.ids = vec![scalars.register("reward", Combine::Mean), scalars.register("updates", Combine::Sum)];
    }

    fn sources(&mut self) -> Vec<Source> {
        vec![source(1)]
    }

    fn initialise(&mut self, session: &mut Session<D>, _resumed: bool) -> Result<(), TrainingError> {
        for (i, layer) in self.layers.iter().chain(&self.reference).enumerate() {
            let (set, device) = session.set_mut(layer.on.set);
            set.initialise(device, i as u64).map_err(RunError::from)?;
        }
        Ok(())
    }

    fn begin(&mut self, session: &mut Session<D>, batch: &StepBatch) -> Result<u32, RunError> {
        let Some(q) = &self.queue else { panic!("built") };
        let x = &batch.micro_batches(0)[0].reals("x")[..N];
        session.write(&q.program, q.x, x).unwrap();
        session.write_ints(&q.program, q.starts, &[(batch.step % 2) as i32]).unwrap();
        session.write_ints(&q.program, q.live, &[2]).unwrap();
        session.run_all(&q.program, q.on, Gradients::Overwrite);
        Ok(2)
    }

    fn gradients(&mut self, session: &mut Session<D>, _: u32, batch: &StepBatch) -> Result<(), RunError> {
        let x = batch.micro_batches(0)[0].reals("x").to_vec();
        let mut kept = [0.0; 2 * N];
        let Some(q) = &self.queue else { panic!("built") };
        session.run(&q.program, q.on, 1..q.program.view().nodes().len(), Gradients::Overwrite);
        session.read_into(&q.program, q.rows, &mut kept)?;
        let reference = self.reference.as_ref().map(|layer| {
            let mut y = [0.0; B * N];
            layer.forward(session, &x);
            session.read_into(&layer.program, layer.y, &mut y).map(|()| y)
        });
        let reference = reference.transpose()?.unwrap_or([0.0; B * N]);
        for (k, layer) in self.layers.iter().enumerate() {
            let mut y = [0.0; B * N];
            layer.forward(session, &x);
            session.read_into(&layer.program, layer.y, &mut y)?;
            let target = |i: usize| if k == 0 { reference[i] * 0.5 } else { kept[i % (2 * N)] + self.updates as f32 * 1e-3 };
            let apart: Vec<f32> = y.iter().enumerate().map(|(i, y)| y - target(i)).collect();
            self.losses[k] = mean_square(&apart);
            let upstream: Vec<f32> = apart.iter().map(|d| d / (B * N) as f32).collect();
            layer.backward(session, &upstream, Gradients::Overwrite);
        }
        Ok(())
    }

    fn collect(&mut self, _: &Session<D>, _: u32, out: &mut Scalars) {
        out.add(self.ids[0], -self.losses.iter().sum::<f64>());
        out.add(self.ids[1], 1.0);
    }

    fn after_update(&mut self, _: &mut Session<D>, _: u32) -> Result<ControlFlow<()>, RunError> {
        self.updates += 1;
        // As a policy that has moved far enough.
        Ok(if self.updates % 5 == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn evaluate(
        &mut self,
        session: &mut Session<D>,
        averaged: bool,
        batch: &HostBatch,
        out: &mut Scalars,
    ) -> Result<(), RunError> {
        if let Some((_, stop)) = self.interrupt.as_ref().filter(|(updates, _)| *updates <= self.updates) {
            stop.raise(15);
        }
        let Some(layer) = self.average.as_ref().filter(|_| averaged).or(self.layers.first()) else { panic!("built") };
        let mut y = [0.0; B * N];
        layer.forward(session, batch.reals("x"));
        session.read_into(&layer.program, layer.y, &mut y)?;
        out.add_sum(self.ids[0], -mean_square(&y) * batch.tokens as f64, batch.tokens as f64);
        Ok(())
    }

    fn best(&self) -> (&'static str, Direction) {
        ("reward", Direction::Larger)
    }

    fn export(&mut self, session: &mut Session<D>, averaged: bool, folder: &Path) -> Result<(), TrainingError> {
        fs::create_dir_all(folder).unwrap();
        let Some(layer) = self.average.as_ref().filter(|_| averaged).or(self.layers.first()) else { panic!("built") };
        let (set, device) = session.set_mut(layer.on.set);
        let write = &mut |values: &[f32]| fs::write(folder.join("w"), format!("{values:?}")).unwrap();
        Ok(device.lend(&set.weights, write).map_err(RunError::from)?)
    }

    fn save(&self) -> Value {
        json!({ "updates": self.updates })
    }

    fn load(&mut self, state: &Value) -> Result<(), String> {
        match state {
            Value::Null => Ok(()),
            _ => {
                state["updates"].as_u64().map(|n| self.updates = n).ok_or_else(|| format!("expected \"updates\", found {state}"))
            }
        }
    }
}

/// Cached gradients' shape (Gao et al. 2021): L = ½ ‖Σ over all rows of the step of y‖², which no micro-batch knows alone. A first pass gives all
/// outputs, the host their gradients, and a second pass that of the weights.
struct WholeBatch {
    w: (Arc<OwnedParams>, ParamId),
    layer: Option<Layer>,
    outputs: Vec<Ticket>,
    loss: f64,
    id: Option<ScalarId>,
    lr_scale: f64,
}

impl WholeBatch {
    fn new() -> Self {
        Self { w: registry(), layer: None, outputs: Vec::new(), loss: 0.0, id: None, lr_scale: 1.0 }
    }
}

impl<D: Device> Objective<D> for WholeBatch {
    fn sets(&self) -> Vec<SetSpec> {
        vec![SetSpec { name: "tower", registry: Arc::clone(&self.w.0), role: SetRole::Trained }]
    }

    fn build(&mut self, session: &mut Session<D>, sets: &[SetId]) -> Result<(), BuildError> {
        self.layer = Some(Layer::new(session, sets[0], self.w.1)?);
        Ok(())
    }

    fn lr_scale(&self, _: usize, group: GroupId) -> f64 {
        if group == GroupId::DECAY { self.lr_scale } else { 1.0 }
    }

    fn scalars(&mut self, scalars: &mut Scalars) {
        self.id = Some(scalars.register("loss", Combine::Mean));
    }

    fn sources(&mut self) -> Vec<Source> {
        vec![source(4)]
    }

    fn initialise(&mut self, session: &mut Session<D>, _: bool) -> Result<(), TrainingError> {
        let Some(layer) = &self.layer else { panic!("built") };
        let (set, device) = session.set_mut(layer.on.set);
        Ok(set.initialise(device, 9).map_err(RunError::from)?)
    }

    fn gradients(&mut self, session: &mut Session<D>, _: u32, batch: &StepBatch) -> Result<(), RunError> {
        let Some(layer) = &self.layer else { panic!("built") };
        self.outputs.clear();
        for micro in batch.micro_batches(0) {
            layer.forward(session, micro.reals("x"));
            self.outputs.push(session.fetch(&layer.program, layer.y));
        }
        session.sync()?;
        let mut sum = [0.0_f32; N];
        for y in self.outputs.iter().flat_map(|ticket| session.fetched(ticket).chunks_exact(N)) {
            sum.iter_mut().zip(y).for_each(|(sum, y)| *sum += y);
        }
        self.loss = 0.5 * sum.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>();
        let upstream = sum.repeat(B);
        for (i, micro) in batch.micro_batches(0).iter().enumerate() {
            layer.forward(session, micro.reals("x"));
            layer.backward(session, &upstream, if i == 0 { Gradients::Overwrite } else { Gradients::Add });
        }
        Ok(())
    }

    fn collect(&mut self, _: &Session<D>, _: u32, out: &mut Scalars) {
        out.add(self.id.unwrap(), self.loss);
    }

    fn evaluate(&mut self, session: &mut Session<D>, _: bool, batch: &HostBatch, out: &mut Scalars) -> Result<(), RunError> {
        let Some(layer) = &self.layer else { panic!("built") };
        let mut y = [0.0; B * N];
        layer.forward(session, batch.reals("x"));
        session.read_into(&layer.program, layer.y, &mut y)?;
        out.add(self.id.unwrap(), mean_square(&y));
        Ok(())
    }

    fn best(&self) -> (&'static str, Direction) {
        ("loss", Direction::Smaller)
    }
}

fn session() -> Session {
    Session::new(CpuDevice::new(Engine::new(1, Gemm::Samara).unwrap()))
}

fn config(steps: u64) -> TrainConfig {
    TrainConfig { steps, warmup_steps: 2, lr: 0.05, eval_every: 3, checkpoint_every: 4, ema_decay: 0.8, ..TrainConfig::default() }
}

fn train(objective: impl Objective<CpuDevice>, out: &Path, stop: &Stop) -> Result<u64, TrainingError> {
    let folder = RunFolder::open(out, 2, true)?;
    Trainer::open(session(), objective, &config(10), folder, View::Quiet)?.run(stop).map(|finished| finished.steps)
}

/// What a run leaves that does not depend on how it ran.
fn left(out: &Path) -> (Vec<Metrics>, BTreeMap<String, Vec<u8>>) {
    let mut records = metrics::read(&out.join("metrics.jsonl")).unwrap();
    records.iter_mut().for_each(|r| r.values.retain(|name, _| name != "tokens_per_s" && name != "wall_s"));
    let files = fs::read_dir(newest_checkpoint(out)).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| !path.ends_with("manifest.json"));
    let mut bytes: BTreeMap<_, _> =
        files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect();
    if let Ok(best) = fs::read(out.join("best/w")) {
        bytes.insert("best".to_owned(), best);
    }
    (records, bytes)
}

#[test]
fn two_registries_train_and_go_on_to_the_bit() {
    let [whole, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    assert_eq!(train(TwoRegistries::new(), whole.path(), &Stop::new()).unwrap(), 10);
    let (records, files) = left(whole.path());
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["best", "policy.safetensors", "queue.state", "value.safetensors"]);
    let policy = tensors(&newest_checkpoint(whole.path()).join("policy.safetensors"));
    let names: Vec<&str> = policy.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["w/exp_avg", "w/exp_avg_sq", "w/teacher", "w/weight"]);
    // The reward is learnt, both norms are there, and some steps end after one update.
    let reward = |records: &[Metrics]| records.iter().map(|r| r.get("train_reward").unwrap()).sum::<f64>();
    assert!(reward(&records[8..]) > reward(&records[1..4]), "{records:?}");
    assert!(records[1..].iter().all(|r| r.get("grad_norm").is_some() && r.get("grad_norm_value").is_some()));
    let updates: Vec<f64> = records[1..].iter().map(|r| r.get("train_updates").unwrap()).collect();
    assert!(updates.contains(&1.0) && updates.contains(&2.0), "{updates:?}");
    assert!(whole.path().join("reward.svg").exists() && whole.path().join("updates.svg").exists());
    // As if it had been killed after step 8 and before step 10.
    train(TwoRegistries::new(), killed.path(), &Stop::new()).unwrap();
    fs::remove_dir_all(newest_checkpoint(killed.path())).unwrap();
    assert!(newest_checkpoint(killed.path()).ends_with("step-0000008"));
    train(TwoRegistries::new(), killed.path(), &Stop::new()).unwrap();
    assert!(left(killed.path()) == (records, files));
}

#[test]
fn a_signal_between_two_batches_of_an_evaluation_loses_nothing() {
    let [whole, stopped] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    train(TwoRegistries::new(), whole.path(), &Stop::new()).unwrap();
    for updates in [0, 5, 10, 16] {
        let stop = Stop::new();
        let objective = TwoRegistries { interrupt: Some((updates, stop.clone())), ..TwoRegistries::new() };
        let error = train(objective, stopped.path(), &stop).unwrap_err();
        assert!(matches!(error, TrainingError::Interrupted { signal: 15, .. }), "{error}");
    }
    train(TwoRegistries::new(), stopped.path(), &Stop::new()).unwrap();
    assert!(left(stopped.path()) == left(whole.path()));
}

#[test]
fn a_whole_batch_in_two_passes_goes_on_to_the_bit() {
    let [whole, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for out in [&whole, &killed] {
        assert_eq!(train(WholeBatch::new(), out.path(), &Stop::new()).unwrap(), 10);
    }
    fs::remove_dir_all(newest_checkpoint(killed.path())).unwrap();
    train(WholeBatch::new(), killed.path(), &Stop::new()).unwrap();
    assert!(left(killed.path()) == left(whole.path()));
}

/// The gradient of the two passes is that of the whole batch: dL/dW = s (Σ x)ᵀ with s = W Σ x, in f64.
#[test]
fn two_passes_give_the_gradient_of_the_whole_batch() {
    let mut objective = WholeBatch::new();
    let mut stepper = Stepper::new(session(), &mut objective, config(1).rule()).unwrap();
    objective.initialise(&mut stepper.session, false).unwrap();
    let (_, set, _) = stepper.trained().next().unwrap();
    let w: Vec<f64> = stepper.session.set(set).weights.get()[..N * N].iter().map(|&w| w.into()).collect();
    stepper.step(&mut objective, 0, &update_numbers(&config(1), 0.0)).unwrap();
    let mut x = [0.0_f64; N];
    for row in stepper.batch().micro_batches(0).iter().flat_map(|micro| micro.reals("x").chunks_exact(N)) {
        x.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let s: Vec<f64> = w.chunks_exact(N).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
    let expected = s.iter().flat_map(|s| x.map(|x| s * x));
    for (found, expected) in stepper.session.set(set).grads[0].get().iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} {expected}");
    }
}

/// A checkpoint of another objective is refused with words about what differs.
#[test]
fn a_checkpoint_of_another_objective_is_refused() {
    let out = tempfile::tempdir().unwrap();
    train(WholeBatch::new(), out.path(), &Stop::new()).unwrap();
    let message = train(TwoRegistries::new(), out.path(), &Stop::new()).unwrap_err().to_string();
    assert!(message.contains("manifest.json") && message.contains("resume with the model of the start of the run"), "{message}");
}

/// The host sees the gradient before the weights change.
#[test]
fn a_gradient_that_is_not_finite_leaves_the_weights() {
    let mut objective = WholeBatch::new();
    let mut stepper = Stepper::new(session(), &mut objective, config(1).rule()).unwrap();
    objective.initialise(&mut stepper.session, false).unwrap();
    let (_, set, _) = stepper.trained().next().unwrap();
    let weights = stepper.session.set_mut(set).0.weights.get_mut();
    weights[3] = f32::INFINITY;
    let before = weights.to_vec();
    let error = stepper.step(&mut objective, 0, &update_numbers(&config(1), 0.1)).unwrap_err().to_string();
    assert!(error.contains("step 1") && error.contains("loss is"), "{error}");
    assert_eq!(stepper.session.set(set).weights.get(), before);
}

/// A group's learning rate is the schedule's times its own factor: 0 leaves it as it is, 2 makes twice the first step of AdamW.
#[test]
fn a_group_has_a_factor_of_the_learning_rate() {
    let change = |lr_scale: f64| {
        let mut objective = WholeBatch { lr_scale, ..WholeBatch::new() };
        let config = TrainConfig { weight_decay: 0.0, ..config(1) };
        let mut stepper = Stepper::new(session(), &mut objective, config.rule()).unwrap();
        objective.initialise(&mut stepper.session, false).unwrap();
        let (_, set, _) = stepper.trained().next().unwrap();
        let before = stepper.session.set(set).weights.get().to_vec();
        stepper.step(&mut objective, 0, &update_numbers(&config, 0.125)).unwrap();
        stepper.session.sync().unwrap();
        let after = stepper.session.set(set).weights.get();
        before.iter().zip(after).map(|(a, b)| f64::from(b - a)).collect::<Vec<_>>()
    };
    let (none, one, two) = (change(0.0), change(1.0), change(2.0));
    assert!(none.iter().all(|&x| x == 0.0));
    assert!(one.iter().any(|x| x.abs() > 0.1), "{one:?}");
    assert!(one.iter().zip(&two).all(|(one, two)| (2.0 * one - two).abs() < 1e-6), "{one:?} {two:?}");
}
