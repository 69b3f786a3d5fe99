//! What runs from a file has the bits of the same program in memory.

use super::*;

/// The registry of a device, as the exporter makes it.
fn registry(architecture: &dyn Architecture, spec: &FileSpec) -> (Params<'static>, Box<dyn LanguageModel>) {
    let count = Registry::count(|s| architecture.register(s)) + spec.train.added_params();
    ram::registry::<f32, _>(count, |r| {
        let mut layers = architecture.register(&mut r.scope());
        if spec.weights != DType::Real {
            store_as(spec.weights, r);
        }
        tune(spec.train, &mut *layers, r);
        layers
    })
}

/// A program in memory with the weights of a file.
fn in_ram<'k, T>(
    kernels: &'k Kernels<f32>,
    file: &ProgramFile<'_>,
    params: Params<'static>,
    build: impl FnOnce(&Graph<'static>) -> T,
) -> (ram::Session<'k, f32>, T) {
    let (mut session, ports) = ram::Session::build(Table::serial(kernels), params, 600, build).expect("a program");
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
        let inputs = LmInputs { segments: own.map(|own| own.0), ..LmInputs::new(g, &*gpt, 1, 1) };
        let (starts, live) = (g.ints(&[1], 0, capacity as i32), g.ints(&[1], 0, capacity as i32));
        let cache = KvCache { starts, live, capacity, dtype: spec.kv, read_in_place, segments: own.map(|own| own.1) };
        let h = gpt.hidden(g, &inputs, Some(&cache));
        (inputs, cache, g.output(lm::logits(g, &*gpt, h)))
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

/// xⁿ by squaring, the smallest power first.
fn power(x: f32, n: u32) -> f32 {
    let squares = std::iter::successors(Some(x), |x| Some(x * x));
    (0..32).zip(squares).filter(|(bit, _)| n >> bit & 1 == 1).fold(1.0, |power, (_, square)| power * square)
}

/// The losses before each of 20 steps and the parameters after them, of the training program in memory.
fn trained_in_ram(
    architecture: &dyn Architecture,
    file: &ProgramFile<'_>,
    spec: &FileSpec,
    hyper: &Hyper,
) -> (Vec<f32>, Vec<f32>) {
    let kernels = ops::reference();
    let (params, gpt) = registry(architecture, spec);
    let rule = match spec.optimizer {
        Optimizer::Sgd => Rule::Sgd(Momentum::None),
        Optimizer::Adamw => Rule::AdamW(Epsilon::AfterCorrection),
    };
    let (batch, block) = (spec.shape.batch, spec.shape.block);
    let (mut session, (inputs, targets, upstream, numbers, losses)) = in_ram(&kernels, file, params, |g| {
        let inputs = LmInputs::new(g, &*gpt, batch, block);
        let targets = g.ints(&[batch, block], -1, gpt.dims().vocab_size as i32 - 1);
        let (upstream, numbers) = (g.input(&[1]), g.input(&[HYPER_LEN]));
        let losses = g.output(lm::losses(g, &*gpt, &inputs, targets));
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
    training_of(SMALL, &ops::training());
    training_of(LLAMA, &ops::llama_training());
}

fn training_of(architecture: impl Architecture + Copy + 'static, kernels: &Kernels<f32>) {
    for (train, weights) in
        [Tune::Head, Tune::Bias, Tune::LastBlock, Tune::All].into_iter().flat_map(|t| [(t, DType::Real), (t, DType::Q8)])
    {
        for (optimizer, hyper) in
            [(Optimizer::Sgd, Hyper::sgd(0.1)), (Optimizer::Adamw, Hyper { weight_decay: 0.1, ..Hyper::adamw(0.01) })]
        {
            let spec = FileSpec { train, weights, optimizer, ..PLAIN };
            let file = export(architecture, spec, None);
            let file = file.open(kernels).expect("a file");
            let (expected, parameters) = trained_in_ram(&architecture, &file, &spec, &hyper);
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
    text_of(SMALL, &ops::inference());
    text_of(LLAMA, &ops::llama_inference());
}

fn text_of(architecture: impl Architecture + Copy + 'static, kernels: &Kernels<f32>) {
    let quantised = |weights: DType| {
        let model = model(architecture);
        if weights == DType::Real { model } else { model.quantised(weights).expect("blocks") }
    };
    let sampling = Sampling { temperature: 1.3, top_k: 9, top_p: 0.95, min_p: 0.01 };
    for (weights, kv) in WEIGHTS.into_iter().flat_map(|weights| CACHES.map(|kv| (weights, kv))) {
        let file = export(architecture, FileSpec { weights, kv, ..PLAIN }, None);
        let file = file.open(kernels).expect("a file");
        let mut memory = vec![0.0; Session::ram_len(&file)];
        let mut session = Session::new(file, &mut memory).expect("enough memory");
        for (seed, sampling) in [(1, sampling), (2, sampling), (3, Sampling::GREEDY), (4, Sampling { top_p: 1.0, ..sampling })] {
            let (mut gpt, prompt) = (quantised(weights), [3, 1, 4]);
            let mut generator =
                Generator::with_cache(&mut gpt.bound(), &prompt, sampling, seed, (kv, usize::MAX)).expect("a generator");
            session.restart();
            for token in prompt {
                session.feed(token as u32).expect("a token");
            }
            let mut order = vec![0; gpt.dims.vocab_size];
            for i in 0..gpt.dims.n_positions - prompt.len() {
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
