//! Scopes, names, groups and streams of a registry; layers in stacks.

use proptest::collection::vec;
use proptest::prelude::*;
use samara_core::graph::{Epsilon, HyperInput, Op, Pairing, Wrt};
use samara_core::math::rng::{Purpose, Rng};
use samara_core::model::gpt::{Gpt, GptConfig};
use samara_core::nn::{Affine, Attention, AttentionConfig, Repeat, Rotary, Stack};
use samara_core::ops::reference;
use samara_core::params::{Group, GroupId, Init, MAX_GROUPS, ParamInfo, Params, ParamsError, Registry, Scope, Streams};
use samara_core::shape::UNIT;
use samara_tests::session::{Session, Table, registry};

const WORDS: [&str; 5] = ["a", "b", "ln_1", "weight", "h"];

/// A parameter in the making: its scopes, and what it is.
#[derive(Clone, Debug)]
struct Draft {
    path: Vec<(usize, Option<usize>)>,
    extents: Vec<usize>,
    group: usize,
    frozen: bool,
}

fn draft() -> impl Strategy<Value = Draft> {
    let path = vec((0..WORDS.len(), proptest::option::of(0_usize..20)), 0..4);
    (path, vec(1_usize..9, 1..3), 0_usize..5, any::<bool>()).prop_map(|(path, extents, group, frozen)| Draft {
        path,
        extents,
        group,
        frozen,
    })
}

/// Calls `f` in the scope of a path.
fn within<T>(s: &mut Scope<'_>, path: &[(usize, Option<usize>)], f: &mut dyn FnMut(&mut Scope<'_>) -> T) -> T {
    match path {
        [] => f(s),
        [(word, None), rest @ ..] => within(&mut s.at(WORDS[*word]), rest, f),
        [(word, Some(n)), rest @ ..] => within(&mut s.item(WORDS[*word], *n), rest, f),
    }
}

/// Drafts with their names, each name once.
fn distinct(drafts: &[Draft]) -> Vec<(String, Draft)> {
    let mut all: Vec<(String, Draft)> = Vec::new();
    for draft in drafts {
        let part = |&(word, n): &(usize, Option<usize>)| n.map_or(WORDS[word].to_owned(), |n| format!("{}.{n}", WORDS[word]));
        let name = draft.path.iter().map(part).chain(["w".to_owned()]).collect::<Vec<_>>().join(".");
        if all.iter().all(|(other, _)| *other != name) {
            all.push((name, draft.clone()));
        }
    }
    all
}

/// Registers drafts, with three groups beside the default ones.
fn register(drafts: &[(String, Draft)], streams: Streams) -> Params<'static> {
    registry::<f32, _>(drafts.len(), |r| {
        let mut groups = vec![GroupId::DECAY, GroupId::NO_DECAY];
        groups.extend([true, false, true].map(|decay| r.add_group(Group { decay })));
        for (_, draft) in drafts {
            let group = groups[draft.group];
            within(&mut r.scope().streams(streams), &draft.path, &mut |s| {
                s.groups(group, group).add("w", &draft.extents, Init::normal(1.0))
            });
        }
        for (info, (_, draft)) in r.infos_mut().iter_mut().zip(drafts) {
            info.frozen = draft.frozen;
        }
    })
    .0
}

proptest! {
    #[test]
    fn names_are_paths(drafts in vec(draft(), 1..12)) {
        let drafts = distinct(&drafts);
        let params = register(&drafts, Streams::Name);
        for (info, (name, _)) in params.infos().iter().zip(&drafts) {
            prop_assert_eq!(&info.name.to_string(), name);
        }
    }

    #[test]
    fn a_name_can_be_had_once(drafts in vec(draft(), 1..8), again in any::<proptest::sample::Index>()) {
        let mut drafts = distinct(&drafts);
        drafts.push(drafts[again.index(drafts.len())].clone());
        let mut infos = vec![ParamInfo::default(); drafts.len()];
        let mut r = Registry::new(&mut infos);
        for (_, draft) in &drafts {
            within(&mut r.scope(), &draft.path, &mut |s| s.add("w", &[1], Init::Zeros));
        }
        let error = r.finish(4).err();
        let duplicate = matches!(error, Some(ParamsError::Duplicate { name }) if name.to_string() == drafts[drafts.len() - 1].0);
        prop_assert!(duplicate, "{:?}", error);
    }

    /// Ranges of groups lie one behind the other, cover the flat buffer, and hold exactly their own trainable parameters.
    #[test]
    fn groups_are_disjoint_and_cover(drafts in vec(draft(), 1..20)) {
        let drafts = distinct(&drafts);
        let params = register(&drafts, Streams::Name);
        let groups: Vec<_> = params.groups().collect();
        let mut end = 0;
        for (group, range) in &groups {
            prop_assert_eq!(range.start, end, "{:?}", group);
            prop_assert!(range.end.is_multiple_of(UNIT));
            end = range.end;
        }
        prop_assert_eq!(end, params.trainable_len());
        let mut taken = vec![false; end];
        for info in params.infos().iter().filter(|p| !p.frozen) {
            let (_, range) = groups.iter().find(|(group, _)| *group == info.group).unwrap();
            prop_assert!(range.start <= info.range().start && info.range().end <= range.end);
            for place in &mut taken[info.range()] {
                prop_assert!(!std::mem::replace(place, true));
            }
        }
    }

    /// Initial values depend on the seed and the name, and not on what else is registered, or in which order.
    #[test]
    fn streams_of_names_do_not_depend_on_the_order(drafts in vec(draft(), 2..10), first in any::<proptest::sample::Index>()) {
        let mut drafts = distinct(&drafts);
        drafts.iter_mut().for_each(|(_, draft)| draft.frozen = false);
        let values = |drafts: &[(String, Draft)]| {
            let params = register(drafts, Streams::Name);
            let mut flat = vec![0.0; params.trainable_len()];
            params.initialise(3, &mut flat);
            let mut all: Vec<_> = params.infos().iter().map(|p| (p.name.to_string(), flat[p.range()].to_vec())).collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        let before = values(&drafts);
        let first = first.index(drafts.len());
        drafts.rotate_left(first);
        prop_assert_eq!(&values(&drafts), &before);
        let removed = drafts.pop().unwrap().0;
        let rest: Vec<_> = before.into_iter().filter(|(name, _)| *name != removed).collect();
        prop_assert_eq!(values(&drafts), rest);
    }
}

/// GPT models take the streams of their parameters' numbers: the first value of each is the first of that stream.
#[test]
fn a_gpt_keeps_the_streams_of_numbers() {
    let config = GptConfig { vocab_size: 11, n_positions: 4, n_embd: 8, n_layer: 2, n_head: 2, n_inner: 8, ..GptConfig::GPT2 };
    let (params, _) = registry::<f32, _>(config.param_count(), |r| Gpt::register(&config, &mut r.scope()));
    let mut flat = vec![0.0; params.trainable_len()];
    params.initialise(7, &mut flat);
    for (number, info) in params.infos().iter().enumerate() {
        if let Init::Normal { std } = info.init {
            let first = (Rng::new(7, Purpose::Init, number as u64).normal_f64() * std) as f32;
            assert_eq!(flat[info.range().start], first, "{}", info.name);
        }
    }
}

/// A layer with a layer in it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pair {
    first: Affine,
    second: Option<Affine>,
    width: usize,
}

samara_core::repeat!(Pair { first, second });

fn pair(width: usize, s: &mut Scope<'_>) -> Pair {
    let first = Affine::register(width, width, true, Init::Zeros, &mut s.at("first"));
    Pair { first, second: Some(Affine::register(width, 2, false, Init::Zeros, &mut s.at("second"))), width }
}

/// A layer that is taken out of a stack is the one that was registered there.
#[test]
fn layers_of_a_stack_are_those_that_were_registered() {
    let mut registered = Vec::new();
    let (params, stack) = registry::<f32, _>(1 + 4 * 3, |r| {
        r.scope().add("before", &[3], Init::Zeros);
        Stack::register(4, "h", &mut r.scope().at("model"), |s| {
            let layer = pair(3, s);
            registered.push(layer);
            layer
        })
    });
    assert_eq!(stack.iter().collect::<Vec<_>>(), registered);
    assert_eq!((stack.len(), stack.get(4)), (4, None));
    assert_eq!(params.infos()[7 + 2].name.to_string(), "model.h.2.second.weight");
    assert_eq!(registered[0].moved(6), registered[2]);
    let (_, none) = registry::<f32, _>(0, |r| Stack::register(0, "h", &mut r.scope(), |s| pair(3, s)));
    assert_eq!((none.iter().count(), none.is_empty()), (0, true));
}

fn error(capacity: usize, fill: impl FnOnce(&mut Registry<'_>)) -> String {
    let mut infos = vec![ParamInfo::default(); capacity];
    let mut r = Registry::new(&mut infos);
    fill(&mut r);
    r.finish(4).err().map_or_else(String::new, |error| error.to_string())
}

#[test]
fn errors_say_what_is_wrong() {
    let found = [
        error(2, |r| {
            Stack::register(2, "h", &mut r.scope(), |s| {
                let last = s.add("a", &[1], Init::Zeros).index() > 0;
                Affine::register(1, 1, !last, Init::Zeros, s)
            });
        }),
        error(1, |r| {
            let mut s = r.scope();
            for _ in 0..2 {
                s.at("w").add("a", &[1], Init::Zeros);
            }
        }),
        error(2, |r| {
            let mut s = r.scope();
            for _ in 0..2 {
                s.at("w").add("a", &[1], Init::Zeros);
            }
        }),
        error(9, |r| drop((0..MAX_GROUPS).map(|_| r.add_group(Group { decay: true })).collect::<Vec<_>>())),
        error(1, |r| {
            within(&mut r.scope(), &[(0, Some(1)); 8], &mut |s| s.add("w", &[1], Init::Zeros));
        }),
    ];
    let expected = [
        "layer h.1 has another number of parameters than the first layer of its stack",
        "2 parameters, but storage for only 1: lend storage for 2",
        "two parameters are named w.a: give one of them a scope of its own",
        "more than 8 optimizer groups",
        "no place for \"w\" in scope \"a.1.a.1.a.1.a.1.a.1.a.1.a.1.a.1\": names have at most 8 parts and numbers up to 65534; join words of one part with dots",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
}

/// A group that reads hyper-parameters of its own is updated as if the whole model read them; the others are not touched by it.
#[test]
fn usual_attention_has_a_key_for_every_query_and_no_bias() {
    let c = AttentionConfig::causal(12, 3).rotated();
    assert_eq!((c.width, c.heads, c.kv_heads, c.head_dim, c.scale, c.causal), (12, 3, 3, 4, 0.5, true));
    assert_eq!(c.rotary, Some(Rotary { pairs: Pairing::Halves, rotated: 4, base: 10_000.0 }));
    assert_eq!(Registry::count(|s| Attention::register(&c, s)), 2);
    assert_eq!(AttentionConfig::causal(12, 0).head_dim, 0);
}

#[test]
fn groups_have_learning_rates_of_their_own() {
    let kernels = reference::<f64>();
    let weights = |rates: [f64; 2], own: bool, in_backward: bool| {
        let (params, (ids, slow)) = registry::<f64, _>(3, |r| {
            let slow = r.add_group(Group { decay: true });
            let w = r.scope().add("w", &[2, 3], Init::Zeros);
            let b = r.scope().add("b", &[2], Init::Zeros);
            (([w, b, r.scope().at("backbone").groups(slow, slow).add("w", &[4, 4], Init::Zeros)]), slow)
        });
        let built = Session::build(Table::serial(&kernels), params, 60, |g| {
            let (usual, other) = (g.input(&[8]), g.input(&[8]));
            let hyper = if own { HyperInput::from(usual).with(slow, other) } else { HyperInput::from(usual) };
            let pairs = ids.map(|id| (g.param(id), g.input(&[1])));
            if in_backward {
                let rule = samara_core::graph::Rule::AdamW(Epsilon::AfterCorrection);
                g.backward_updating(&pairs, rule, hyper, samara_core::graph::Recompute::None);
            } else {
                g.backward(&pairs, Wrt::Trainable, samara_core::graph::Recompute::None);
                g.adamw(hyper, None, Epsilon::AfterCorrection);
            }
            (usual, other, pairs.map(|(_, upstream)| upstream))
        });
        let (mut session, (usual, other, upstream)) = built.expect("graph");
        for ((id, upstream), start) in ids.into_iter().zip(upstream).zip([0.3, 0.2, -0.7]) {
            session.set_param(id, &vec![start; params.infos()[id.index()].shape.len()]);
            session.set(upstream, &[start - 0.5]);
        }
        for (tensor, rate) in [usual, other].into_iter().zip(rates) {
            session.set(tensor, &[rate, 0.9, 0.99, 1e-8, 0.1, 0.1, 0.01, 0.0]);
        }
        session.run(samara_core::exec::Gradients::Overwrite);
        let updates = session.program.nodes().iter().filter(|n| matches!(n.op(), Some(Op::AdamW { .. }))).count();
        assert_eq!(updates, 3);
        ids.map(|id| session.param(id))
    };
    for in_backward in [false, true] {
        let (fast, slow) = (weights([0.1, 0.0], false, in_backward), weights([0.01, 0.0], false, in_backward));
        let both = weights([0.1, 0.01], true, in_backward);
        assert_eq!(both, [fast[0].clone(), fast[1].clone(), slow[2].clone()]);
        assert_ne!(fast[2], slow[2]);
    }
}
