//! Two-colouring, or an odd cycle that rules it out.

use super::{Graph, NONE, get, set};

/// Whether the vertices of a graph can be coloured so that no edge joins equal colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coloured<'a> {
    /// They can: the colours are in `colours`, 0 for the first vertex of every component.
    Yes,
    /// They cannot: the vertices of a cycle of odd length, in its order.
    OddCycle(&'a [u32]),
}

/// Two-colours the vertices of an undirected graph (each edge listed at both ends) with 0 and 1. Needs one element of `colours` and two of `scratch`
/// per vertex; vertices beyond the memory stay uncoloured.
pub fn two_colour<'a>(graph: Graph<'_>, colours: &mut [u32], scratch: &'a mut [u32]) -> Coloured<'a> {
    let n = graph.len().min(colours.len()).min(scratch.len() / 2);
    colours.fill(NONE);
    let (parents, queue) = scratch.split_at_mut_checked(n).unwrap_or_default();
    for root in 0..n as u32 {
        if get(colours, root, 0) != NONE {
            continue;
        }
        set(colours, root, 0);
        set(parents, root, NONE);
        set(queue, 0, root);
        let (mut head, mut tail) = (0, 1);
        while head < tail {
            let vertex = get(queue, head, NONE);
            head += 1;
            let colour = get(colours, vertex, 0);
            for &next in graph.of(vertex as usize).iter().filter(|&&next| (next as usize) < n) {
                if get(colours, next, 0) == NONE {
                    set(colours, next, 1 - colour.min(1));
                    set(parents, next, vertex);
                    set(queue, tail, next);
                    tail += 1;
                } else if get(colours, next, NONE) == colour {
                    let len = odd_cycle(parents, vertex, next, queue);
                    return Coloured::OddCycle(queue.get(..len).unwrap_or(&[]));
                }
            }
        }
    }
    Coloured::Yes
}

/// Writes the cycle closed by an edge between two vertices of equal colour; returns its length.
///
/// Both have the same depth in the breadth-first tree, so walking up from both in step finds their common ancestor.
fn odd_cycle(parents: &[u32], a: u32, b: u32, cycle: &mut [u32]) -> usize {
    let (mut x, mut y, mut depth) = (a, b, 0_u32);
    while x != y && depth as usize <= parents.len() {
        (x, y) = (get(parents, x, NONE), get(parents, y, NONE));
        depth += 1;
    }
    let len = depth.saturating_mul(2).saturating_add(1);
    let (mut x, mut y) = (a, b);
    for k in 0..=depth {
        // From a up to the common ancestor, and from there down to b.
        set(cycle, k, x);
        x = get(parents, x, NONE);
        if k < depth {
            set(cycle, len.saturating_sub(k + 1), y);
            y = get(parents, y, NONE);
        }
    }
    len as usize
}
