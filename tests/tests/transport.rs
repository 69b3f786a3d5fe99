//! Word-patch alignment beside the functions of ViLT's authors (`tests/golden/transport`).

use samara_core::transport::{Ipot, IpotMemory, cosine_costs, cosine_gradient, distance};
use samara_tests::golden::{json, numbers};
use serde_json::Value;

/// The part of a list that belongs to item `i` of `items`.
fn item<T>(list: &[T], i: usize, items: usize) -> &[T] {
    let len = list.len() / items;
    &list[i * len..(i + 1) * len]
}

fn assert_near(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart <= 1e-5, "{name}: {apart}");
}

#[test]
fn plans_distances_and_gradients_are_those_of_the_authors() {
    let golden = json("transport/ipot.json");
    for case in golden["cases"].as_array().expect("cases") {
        let shape: Vec<usize> = numbers(&case["shape"]).into_iter().map(|x| x as usize).collect();
        let &[batch, m, n, d] = shape.as_slice() else { panic!("{shape:?}") };
        let of = |name: &str| numbers(&case[name]).into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        let live =
            |name: &str| case[name].as_array().expect("a mask").iter().map(|x| x == &Value::Bool(true)).collect::<Vec<_>>();
        let [x, y, plans, costs_of, distances] = ["x", "y", "plan", "cost", "distance"].map(of);
        let [by_x, by_y] = ["by_x", "by_y"].map(of);
        let [live_x, live_y] = ["live_x", "live_y"].map(live);
        for i in 0..batch {
            let (x, y) = (item(&x, i, batch), item(&y, i, batch));
            let live = [item(&live_x, i, batch), item(&live_y, i, batch)];
            let (mut costs, mut plan) = (vec![0.0; m * n], vec![0.0; m * n]);
            cosine_costs([x, y], live, &mut costs).expect("lengths");
            assert_near("cost", &costs, item(&costs_of, i, batch));
            let (mut kernel, mut delta, mut sigma) = (vec![0.0; m * n], vec![0.0; n], vec![0.0; m]);
            let memory = IpotMemory { kernel: &mut kernel, delta: &mut delta, sigma: &mut sigma };
            Ipot::default().plan(&costs, live, memory, &mut plan).expect("lengths");
            assert_near("plan", &plan, item(&plans, i, batch));
            assert_near("distance", &[distance(&costs, &plan)], item(&distances, i, batch));
            let (mut own_x, mut own_y) = (vec![0.0; m * d], vec![0.0; n * d]);
            cosine_gradient([x, y], live, &plan, 1.0, [&mut own_x, &mut own_y]).expect("lengths");
            assert_near("gradient by x", &own_x, item(&by_x, i, batch));
            assert_near("gradient by y", &own_y, item(&by_y, i, batch));
        }
    }
}
