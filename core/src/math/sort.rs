//! Sorting in place without allocation, recursion or a panic path (core's sorts have one for inconsistent orders).

/// Sorts by key in ascending order; not stable. Keys that cannot be compared (NaN) count as equal.
pub fn heap_sort<T: Copy, K: PartialOrd>(items: &mut [T], key: &dyn Fn(T) -> K) {
    let n = items.len();
    for start in (0..n / 2).rev() {
        sift_down(items, start, n, key);
    }
    for end in (1..n).rev() {
        swap(items, 0, end);
        sift_down(items, 0, end, key);
    }
}

fn sift_down<T: Copy, K: PartialOrd>(items: &mut [T], mut root: usize, end: usize, key: &dyn Fn(T) -> K) {
    let greater = |items: &[T], a: usize, b: usize| match (items.get(a), items.get(b)) {
        (Some(&a), Some(&b)) => key(a) > key(b),
        _ => false,
    };
    loop {
        let left = root.saturating_mul(2).saturating_add(1);
        if left >= end {
            return;
        }
        let right = left.saturating_add(1);
        let child = if right < end && greater(items, right, left) { right } else { left };
        if !greater(items, child, root) {
            return;
        }
        swap(items, root, child);
        root = child;
    }
}

fn swap<T: Copy>(items: &mut [T], a: usize, b: usize) {
    if let (Some(&x), Some(&y)) = (items.get(a), items.get(b)) {
        if let Some(to) = items.get_mut(a) {
            *to = y;
        }
        if let Some(to) = items.get_mut(b) {
            *to = x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn sorts() {
        let mut items: Vec<u16> = (0..200u16).map(|i| i.wrapping_mul(7919) % 503).collect();
        let mut expected = items.clone();
        expected.sort_unstable();
        heap_sort(&mut items, &|i| i);
        assert_eq!(items, expected);
    }
}
