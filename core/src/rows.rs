//! Four rows of a matrix at a time, so that the other operand is loaded once for all of them.

/// Rows that are multiplied together.
pub(crate) const ROWS: usize = 4;

/// The first four rows of `len` elements (missing ones repeat the first), and the remainder. The compiler sees that all rows have equal length.
#[inline(always)]
pub(crate) fn four_rows<E>(elements: &[E], len: usize) -> Option<([&[E]; ROWS], &[E])> {
    let (a, rest) = elements.split_at_checked(len)?;
    let (b, rest) = rest.split_at_checked(len).unwrap_or((a, &[]));
    let (c, rest) = rest.split_at_checked(len).unwrap_or((a, &[]));
    let (d, rest) = rest.split_at_checked(len).unwrap_or((a, &[]));
    Some(([a, b, c, d], rest))
}

/// Writes up to `out.len()` of four values.
#[inline(always)]
pub(crate) fn store<R: Copy>(out: &mut [R], sums: [R; ROWS]) {
    match (out, sums) {
        ([a, b, c, d], [s0, s1, s2, s3]) => (*a, *b, *c, *d) = (s0, s1, s2, s3),
        (out, sums) => out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum),
    }
}
