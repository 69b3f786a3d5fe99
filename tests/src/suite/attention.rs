//! Attention with every form of mask and every layout of queries, keys and values.

use samara_core::graph::{AttentionMask, AttentionSpec, Columns};

use super::{Case, Size};
use crate::draw::Draw;
use crate::reference::Attention;

/// The layout of queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Separate,
    /// All in one tensor (B, T, q k v).
    Packed,
    /// Keys and values in one tensor (B, Tk, k v).
    KeysAndValues,
}

/// What the mask does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mask {
    Full,
    Causal,
    Window,
    CausalWindow,
    LeftPadding,
    RightPadding,
    Packing,
    /// Segments at random: rows without keys.
    Segments,
    /// Live key counts: no gradient.
    Live,
    LiveWindow,
}

pub(super) fn all(d: &mut Draw, size: Size) -> Vec<Case> {
    use Mask::*;
    let mut list = Vec::new();
    for mask in [Full, Causal, Window, CausalWindow, LeftPadding, RightPadding, Packing, Segments, Live, LiveWindow] {
        for layout in [Layout::Separate, Layout::Packed, Layout::KeysAndValues] {
            let dropout = d.coin();
            let [kv_heads, group] = [d.int(1, 3), d.int(1, 2)].map(|n| n as u32);
            list.push(attention(d, size, (mask, layout, dropout), [kv_heads, group], None));
        }
    }
    // Many query heads per key head, as in Llama: a whole sequence, and a few tokens after a cache.
    for (mask, layout, queries) in [
        (Causal, Layout::Separate, None),
        (Causal, Layout::Packed, None),
        (Packing, Layout::KeysAndValues, None),
        (CausalWindow, Layout::Separate, Some(2)),
        (Live, Layout::Separate, Some(1)),
        (Live, Layout::KeysAndValues, Some(3)),
    ] {
        list.push(attention(d, size, (mask, layout, false), [2, 4], queries));
        list.push(attention(d, size, (mask, layout, false), [1, 3], queries));
    }
    list
}

fn segments(d: &mut Draw, mask: Mask, batch: usize, t: usize) -> Vec<i32> {
    let mut all = Vec::new();
    for _ in 0..batch {
        let cut = d.int(0, t as i32 - 1) as usize;
        let of = |i: usize| match mask {
            Mask::LeftPadding => i32::from(i >= cut) - 1,
            Mask::RightPadding => -i32::from(i > cut),
            Mask::Packing => i32::from(i >= cut) + i32::from(i > cut + 2),
            _ => 0,
        };
        all.extend((0..t).map(of));
    }
    if mask == Mask::Segments { d.ints(batch * t, -1, 2) } else { all }
}

fn attention(
    d: &mut Draw,
    size: Size,
    (mask, layout, dropout): (Mask, Layout, bool),
    [kv_heads, group]: [u32; 2],
    queries: Option<usize>,
) -> Case {
    let spec = AttentionSpec {
        heads: kv_heads * group,
        kv_heads,
        head_dim: d.extent(size.of(4, 20)) as u32,
        causal: !matches!(mask, Mask::Full | Mask::Window | Mask::Segments),
        window: if matches!(mask, Mask::Window | Mask::CausalWindow | Mask::LiveWindow) { d.int(1, 4) as u32 } else { 0 },
        scale: 0.7,
        site: 5,
    };
    let batch = d.extent(3);
    let tk = d.extent(size.of(5, 70));
    // Padding and packing need queries and keys of one sequence; otherwise their numbers may differ.
    let square = layout == Layout::Packed || matches!(mask, Mask::LeftPadding | Mask::RightPadding | Mask::Packing);
    let tq = if square { tk } else { queries.unwrap_or_else(|| d.extent(size.of(5, 50))) };
    let (q_cols, kv_cols) = ((spec.heads * spec.head_dim) as usize, (spec.kv_heads * spec.head_dim) as usize);
    let widths = match layout {
        Layout::Separate => vec![(tq, q_cols), (tk, kv_cols), (tk, kv_cols)],
        Layout::Packed => vec![(tq, q_cols + 2 * kv_cols)],
        Layout::KeysAndValues => vec![(tq, q_cols), (tk, 2 * kv_cols)],
    };
    // Of q, k, v: which input, first column.
    let places = match layout {
        Layout::Separate => [(0, 0), (1, 0), (2, 0)],
        Layout::Packed => [(0, 0), (0, q_cols), (0, q_cols + kv_cols)],
        Layout::KeysAndValues => [(0, 0), (1, 0), (1, kv_cols)],
    };
    let mut case = Case::new(format!("attention {mask:?} {layout:?} ({batch}, {tq}, {tk}) dropout {dropout} {spec:?}"));
    for &(t, cols) in &widths {
        case = case.real(&[batch, t, cols], d.values(batch * t * cols, -1.0, 1.0));
    }
    let has_segments = matches!(mask, Mask::LeftPadding | Mask::RightPadding | Mask::Packing | Mask::Segments);
    let has_live = matches!(mask, Mask::Live | Mask::LiveWindow);
    if has_segments {
        let q = segments(d, mask, batch, tq);
        let k = if mask == Mask::Segments { segments(d, mask, batch, tk) } else { q.clone() };
        case = case.int(&[batch, tq], q).int(&[batch, tk], k);
    }
    if has_live {
        case = case.int(&[batch], d.ints(batch, 0, tk as i32)).without_gradient();
    }
    if dropout {
        case = case.int(&[5], vec![d.int(0, 9999), 3, d.int(0, 9), 1, 1 << 22]);
    }
    let controls = 2 * usize::from(has_segments) + usize::from(has_live);
    case.build(move |g, t, i| {
        let mask = AttentionMask {
            segments: has_segments.then(|| (i[0], i[1])),
            live: has_live.then(|| i[0]),
            dropout: dropout.then(|| i[controls]),
        };
        let [q, k, v] = places.map(|(n, column): (usize, usize)| -> Columns { t[n].from_column(column) });
        g.attention(spec, q, k, v, mask)
    })
    .naive(move |v, i| {
        let attention = Attention {
            spec,
            extents: [batch, tq, tk],
            qkv: places.map(|(n, column)| (v[n].as_slice(), widths[n].1, column)),
            segments: has_segments.then(|| (i[0].as_slice(), i[1].as_slice())),
            live: has_live.then(|| i[0].as_slice()),
            dropout: dropout.then(|| i[controls].as_slice()),
        };
        attention.output()
    })
    // With a single key, the sum over dO · O that the fast kernel subtracts from dO · v must cancel it: the gradient of k is only rounding error.
    .tolerance(5e-6, 6e-5)
}
