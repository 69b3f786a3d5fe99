//! Random maps keep every value; maps that lose one are refused.

use proptest::prelude::*;
use samara_core::graph::Pairing;

use super::layout::Layout;
use super::{MapError, NameMap, NameRule};
use crate::model_folder::safetensors::TensorValues;

/// The layout of a group of rows on disk.
#[derive(Clone, Debug)]
struct Group {
    /// Rows of the parts, each a multiple of the head.
    parts: Vec<usize>,
    /// Several tensors make one parameter, or several parameters one tensor.
    fused: bool,
    row_shape: Vec<usize>,
    transposed: bool,
    permuted: Option<(usize, Pairing)>,
}

fn group() -> impl Strategy<Value = Group> {
    let pairing = prop_oneof![Just(Pairing::Adjacent), Just(Pairing::Halves)];
    let permuted = prop::option::of(((1_usize..4).prop_map(|half| 2 * half), pairing));
    let row_shape = prop_oneof![Just(vec![]), (1_usize..90).prop_map(|n| vec![n]), Just(vec![3, 2])];
    (prop::collection::vec(1_usize..40, 1..4), any::<bool>(), row_shape, any::<bool>(), permuted).prop_map(
        |(parts, fused, row_shape, transposed, permuted)| {
            let head = permuted.map_or(1, |(head, _)| head);
            let parts = parts.into_iter().map(|rows| rows * head).collect();
            let transposed = transposed && row_shape.len() == 1;
            Group { parts, fused, row_shape, transposed, permuted }
        },
    )
}

impl Group {
    fn rows(&self) -> usize {
        self.parts.iter().sum()
    }

    fn shape(&self, rows: usize) -> Vec<usize> {
        [vec![rows], self.row_shape.clone()].concat()
    }

    /// The parameters of group `g` and the rules that place them.
    fn describe(&self, g: usize, parameters: &mut Vec<(String, Vec<usize>)>, rules: &mut Vec<NameRule>) {
        let parts = self.parts.iter().enumerate();
        if self.fused {
            parameters.push((format!("g.{g}.whole"), self.shape(self.rows())));
            rules.push(NameRule::fuse(format!("g.{g}.whole"), parts.map(|(i, &rows)| (format!("disk.{g}.part{i}"), rows))));
        } else {
            parameters.extend(parts.clone().map(|(i, &rows)| (format!("g.{g}.part{i}"), self.shape(rows))));
            rules.push(NameRule::split(format!("disk.{g}.whole"), parts.map(|(i, _)| format!("g.{g}.part{i}"))));
        }
        if self.transposed {
            rules.push(NameRule::transpose(format!("disk.{g}.*")));
        }
        if let Some((head_dim, on_disk)) = self.permuted {
            rules.push(NameRule::permute(format!("disk.{g}.*"), head_dim, on_disk));
        }
    }

    /// The row on disk of row `r` of the tensor that is not permuted.
    fn disk_row(&self, r: usize) -> usize {
        let Some((head_dim, on_disk)) = self.permuted else { return r };
        let (head, half, k) = (r / head_dim * head_dim, head_dim / 2, r % head_dim);
        head + match on_disk {
            // In memory: first halves, then second ones.
            Pairing::Adjacent => 2 * (k % half) + k / half,
            Pairing::Halves => k / 2 + k % 2 * half,
        }
    }

    /// The contents of the tensors when the parameters contain `first`, `first + 1`, …, by index arithmetic.
    fn expected(&self, first: usize) -> Vec<Vec<f32>> {
        let cols: usize = self.row_shape.iter().product();
        let of_tensor = |start: usize, rows: usize| {
            let mut values = vec![f32::NAN; rows * cols];
            for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
                let row = self.disk_row(r);
                let at = if self.transposed { c * rows + row } else { row * cols + c };
                values[at] = (first + (start + r) * cols + c) as f32;
            }
            values
        };
        if !self.fused {
            return vec![of_tensor(0, self.rows())];
        }
        let mut start = 0;
        let mut tensors = Vec::new();
        for &rows in &self.parts {
            tensors.push(of_tensor(start, rows));
            start += rows;
        }
        tensors
    }
}

/// Consecutive values in all parameters.
fn numbered(layout: &Layout) -> Vec<Vec<f32>> {
    let mut next = 0;
    let fill = |parameter: &super::ParameterRows| {
        let len = parameter.rows * parameter.row_len;
        next += len;
        (next - len..next).map(|x| x as f32).collect()
    };
    layout.parameters().iter().map(fill).collect()
}

fn written(layout: &Layout, values: &[Vec<f32>], strip: usize) -> Vec<Vec<f32>> {
    let write = |(i, tensor): (usize, &super::DiskTensor)| {
        let mut all = vec![f32::NAN; tensor.len()];
        for (k, rows) in all.chunks_mut(strip * tensor.row_len()).enumerate() {
            layout.write_rows(i, k * strip, rows, |parameter| &values[parameter]);
        }
        all
    };
    layout.tensors().iter().enumerate().map(write).collect()
}

fn read(layout: &Layout, tensors: &[Vec<f32>], strip: usize) -> Vec<Vec<f32>> {
    let bytes: Vec<Vec<[u8; 4]>> = tensors.iter().map(|t| t.iter().map(|x| x.to_le_bytes()).collect()).collect();
    let read = |(i, parameter): (usize, &super::ParameterRows)| {
        let mut all = vec![f32::NAN; parameter.rows * parameter.row_len];
        for (k, rows) in all.chunks_mut(strip * parameter.row_len).enumerate() {
            layout.read_rows(i, k * strip, rows, |tensor| bytes.get(tensor).map(|bytes| TensorValues::F32(bytes)));
        }
        all
    };
    layout.parameters().iter().enumerate().map(read).collect()
}

proptest! {
    #[test]
    fn read_after_write_is_the_same_and_every_value_has_one_place(
        groups in prop::collection::vec(group(), 1..5), write_strip in 1_usize..130, read_strip in 1_usize..130,
    ) {
        let (mut parameters, mut rules) = (vec![("own.name".to_owned(), vec![3, 4])], Vec::new());
        groups.iter().enumerate().for_each(|(g, group)| group.describe(g, &mut parameters, &mut rules));
        let layout = NameMap { rules }.bind(&parameters).unwrap();
        let values = numbered(&layout);
        let tensors = written(&layout, &values, write_strip);
        let mut expected = vec![values[0].clone()];
        let mut first = 12;
        for group in &groups {
            expected.extend(group.expected(first));
            first += group.rows() * group.row_shape.iter().product::<usize>();
        }
        prop_assert_eq!(&tensors, &expected);
        let mut every: Vec<usize> = tensors.iter().flatten().map(|&x| x as usize).collect();
        every.sort_unstable();
        prop_assert!(every.into_iter().eq(0..first));
        prop_assert_eq!(read(&layout, &tensors, read_strip), values);
    }
}

fn parameters(all: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
    all.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
}

#[test]
fn maps_that_lose_or_repeat_a_row_are_refused() {
    let all = parameters(&[("qkv", &[12, 4]), ("a", &[2, 4]), ("b", &[2, 5]), ("v", &[7])]);
    let row = |what, name: &str, row, places, other| MapError::Row { what, name: name.to_owned(), row, places, other };
    let name = str::to_owned;
    for (rule, expected) in [
        (NameRule::fuse("qkv", [("q", 8), ("k", 3)]), row("parameter", "qkv", 11, 0, "file")),
        (NameRule::fuse("qkv", [("q", 8), ("k", 5)]), row("parameter", "qkv", 12, 0, "file")),
        (NameRule::fuse("qkv", [("q", 8), ("q", 4)]), row("tensor", "q", 0, 2, "model")),
        (NameRule::rename("a", "qkv"), row("tensor", "qkv", 0, 2, "model")),
        (
            NameRule::split("ab", ["a", "b"]),
            MapError::RowShape { tensor: name("ab"), parameter: name("b"), found: vec![5], expected: vec![4] },
        ),
        // Without the first part the second one leaves a hole.
        (NameRule::split("ab", ["qkv", "qkv", "a"]), row("tensor", "ab", 12, 0, "model")),
        (NameRule::absent_if_zero("v", "a"), row("tensor", "v", 0, 2, "model")),
        (NameRule::transpose("v"), MapError::NotAMatrix { tensor: name("v"), shape: vec![7] }),
        (NameRule::permute("qkv", 8, Pairing::Halves), MapError::Heads { tensor: name("qkv"), rows: 12, head_dim: 8 }),
        (NameRule::permute("qkv", 3, Pairing::Halves), MapError::Heads { tensor: name("qkv"), rows: 12, head_dim: 3 }),
        (NameRule::rename("a", "layer.{}"), MapError::Wildcards { pattern: name("layer.{}"), name: name("a") }),
        (NameRule::tie("head", "c"), MapError::Untied { disk: name("head"), to: name("c") }),
    ] {
        let map = NameMap { rules: vec![rule.clone()] };
        assert_eq!(map.bind(&all).expect_err(&format!("{rule:?}")), expected, "{rule:?}");
    }
    assert!(NameMap::default().bind(&all).is_ok());
}

#[test]
fn the_first_rule_that_matches_places_a_parameter() {
    let rules = vec![NameRule::rename("b", "head"), NameRule::rename("*", "model.*"), NameRule::Prefix("model.")];
    let layout = NameMap { rules }.bind(&parameters(&[("b", &[2]), ("a", &[3])])).unwrap();
    let names: Vec<&str> = layout.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["head", "model.a"]);
    assert_eq!(layout.absent_prefixes(names.into_iter()), [""; 0]);
    assert_eq!(layout.absent_prefixes(["head", "a"].into_iter()), ["model."]);
}

#[test]
fn zeros_stand_beside_a_parameter_and_have_no_values_of_it() {
    let rules = vec![NameRule::absent_if_zero("h.{}.bias", "h.{}.weight")];
    let layout = NameMap { rules }.bind(&parameters(&[("h.0.weight", &[2, 3]), ("h.1.weight", &[1, 1])])).unwrap();
    let found: Vec<(&str, &[usize], bool)> =
        layout.tensors().iter().map(|t| (t.name.as_str(), t.shape.as_slice(), t.is_zero())).collect();
    let expected: [(&str, &[usize], bool); 4] =
        [("h.0.weight", &[2, 3], false), ("h.0.bias", &[2], true), ("h.1.weight", &[1, 1], false), ("h.1.bias", &[1], true)];
    assert_eq!(found, expected);
    assert_eq!(written(&layout, &numbered(&layout), 1)[1], [0.0, 0.0]);
}

#[test]
fn channels_are_first_on_disk_and_last_in_memory() {
    let rules = vec![NameRule::extents("*.weight", [3, 2, 2], true), NameRule::rename("a.*", "b.*")];
    let map = NameMap { rules };
    let layout = map.bind(&[("a.weight".to_owned(), vec![5, 12])]).unwrap();
    assert_eq!(layout.tensors()[0].shape, [5, 3, 2, 2]);
    let values = numbered(&layout);
    for strip in [1, 2, 7] {
        let tensors = written(&layout, &values, strip);
        // Value (tap, channel) of row 1 in memory is 12 + 3 tap + channel.
        assert_eq!(tensors[0][12..24], [12.0, 15.0, 18.0, 21.0, 13.0, 16.0, 19.0, 22.0, 14.0, 17.0, 20.0, 23.0]);
        assert_eq!(read(&layout, &tensors, strip), values);
    }
    let error = map.bind(&[("a.weight".to_owned(), vec![5, 11])]).unwrap_err();
    assert_eq!(error.to_string(), "name map: rows of tensor \"b.weight\" have 11 values, not those of shape [3, 2, 2]");
}
