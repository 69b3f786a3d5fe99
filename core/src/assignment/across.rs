//! Row reduction for column-major matrices: the rows of the search are the columns of memory order, and one pass over the memory finds the cheapest
//! entry of each.
//!
//! Tall matrices are not transposed before the start: only columns in conflict are gathered. The runtime transposes matrices that are large or nearly
//! square.

use super::kernel::{self, VECTORS};
use super::number::{Cost, Index, get};
use super::search::Search;
use super::view::{Costs, Rows};

/// The most matrix lines processed together, so that vectors are full even when lines are short.
const TOGETHER: usize = 8;

impl<T: Cost, I: Index, R: Rows<T>> Search<'_, '_, T, I, R> {
    /// Matches rows of the search with their cheapest columns where these are free. Returns false, and changes nothing, unless the matrix is
    /// column-major and all of its costs are plain ([`Cost::is_plain`]). Duals are 0.
    #[inline(always)]
    pub(super) fn take_cheapest_across(&mut self) -> bool {
        if !VECTORS {
            return false;
        }
        let rows = self.rows;
        let Some(lines) = rows.as_they_are().filter(Costs::is_across).map(Costs::transposed) else { return false };
        let Some(together) = self.least_across(&lines) else { return false };
        self.fold_lines(together);
        for row in 0..self.small() {
            let least = get(self.ws.distances, row, T::FAR);
            let column = get(self.ws.path, row, I::new(0)).at();
            let stays = self.stay.is_some_and(|cost| cost < least);
            if least < T::UNREACHABLE && !stays && get(self.ws.row_of, column, I::new(0)) == I::NONE {
                self.pair(row, column);
            }
        }
        true
    }

    /// Reduces the lines of a group: the front of `distances` and `path` then holds the minimum over them and the line in the matrix that has it.
    #[inline(always)]
    fn fold_lines(&mut self, together: usize) {
        let ws = &mut *self.ws;
        let small = ws.column_of.len();
        for line in 0..together {
            let at = line.saturating_mul(small);
            let (Some((least, others)), Some((lines, groups))) =
                (ws.distances.split_at_mut_checked(at.max(small)), ws.path.split_at_mut_checked(at.max(small)))
            else {
                return;
            };
            if line == 0 {
                for group in lines {
                    *group = I::new(group.at().saturating_mul(together));
                }
                continue;
            }
            for ((least, to), (&other, group)) in least.iter_mut().zip(lines).zip(others.iter().zip(groups)).take(small) {
                if other < *least {
                    (*least, *to) = (other, I::new(group.at().saturating_mul(together).saturating_add(line)));
                }
            }
        }
    }

    /// Writes the minimum over groups of lines at every offset within a group to `distances`, and the group that has it to `path`. Returns the lines
    /// per group, `None` if a cost is not plain.
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
