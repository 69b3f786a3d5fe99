//! The start of problems whose matrix lies the other way: rows of the search are its columns, and one pass in the order of memory finds the cheapest
//! pair of each.

use super::kernel;
use super::number::{Cost, Index, get};
use super::search::Search;
use super::view::{Costs, Rows};

/// Lines of the matrix that are looked at together at most, so that vectors are filled however short a line is.
const TOGETHER: usize = 8;

impl<T: Cost, I: Index, R: Rows<T>> Search<'_, '_, T, I, R> {
    /// Gives rows of the search their cheapest columns where these are free, if the matrix lies across and all of its costs are plain; false, and nothing
    /// is done, if not. Duals are 0.
    #[inline(always)]
    pub(super) fn take_cheapest_across(&mut self) -> bool {
        let rows = self.rows;
        let Some(lines) = rows.as_they_are().filter(Costs::is_across).map(Costs::transposed) else { return false };
        let Some(together) = self.least_across(&lines) else { return false };
        let small = self.small();
        for row in 0..small {
            let ws = &mut *self.ws;
            let (mut least, mut column) = (T::FAR, 0);
            let places = ws.distances.iter().zip(&*ws.path).skip(row).step_by(small.max(1)).take(together);
            for (line, (&cost, group)) in places.enumerate() {
                if cost < least {
                    (least, column) = (cost, group.at().saturating_mul(together).saturating_add(line));
                }
            }
            let stays = self.stay.is_some_and(|cost| cost < least);
            if least < T::UNREACHABLE && !stays && get(self.ws.row_of, column, I::new(0)) == I::NONE {
                self.pair(row, column);
            }
        }
        true
    }

    /// Leaves in `distances` the least cost of every place in a group of lines, and in `path` the group that has it; returns the number of lines in a
    /// group, or none if a cost is not plain.
    #[inline(always)]
    fn least_across(&mut self, lines: &Costs<'_, T>) -> Option<usize> {
        let ws = &mut *self.ws;
        let small = ws.column_of.len();
        let mut together = if lines.is_gapless() { TOGETHER } else { 1 };
        while together > 1 && together.saturating_mul(small) > ws.distances.len() {
            together /= 2;
        }
        let len = together.saturating_mul(small);
        let (least, groups) = (ws.distances.get_mut(..len)?, ws.path.get_mut(..len)?);
        least.fill(T::FAR);
        groups.fill(I::new(0));
        let mut plain = true;
        for (group, first) in (0..lines.rows()).step_by(together.max(1)).enumerate() {
            plain &= kernel::lower_all(lines.lines(first, together), I::new(group), least, groups);
        }
        plain.then_some(together)
    }
}
