//! Linear assignment.

use core::ffi::c_void;

use samara_core::assignment::{Costs, Options, Workspace, linear_sum_assignment, workspace_bytes, workspace_len};

use crate::SamaraStatus;
use crate::lend::{Span, slice, slice_mut};
use crate::status::status;

/// The column of an unmatched row.
pub const SAMARA_FREE: u32 = u32::MAX;

/// Bytes of workspace for an assignment of `rows` x `columns` costs, aligned to 4 bytes.
#[unsafe(no_mangle)]
pub extern "C" fn samara_assign_workspace_bytes(rows: usize, columns: usize) -> usize {
    workspace_bytes::<f32, u32>(rows, columns)
}

/// The pairs of rows and columns with the least total cost: every row gets one column, every column at most one row, or the reverse when there are
/// more rows than columns. `costs` is row-major; infinity forbids a pair. Writes the column of every row to `columns_of_rows`, SAMARA_FREE for none.
/// For the largest total, negate the costs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn samara_assign_f32(
    rows: usize,
    columns: usize,
    costs: *const f32,
    workspace: *mut c_void,
    workspace_bytes: usize,
    columns_of_rows: *mut u32,
) -> SamaraStatus {
    status(|| {
        let len = rows.checked_mul(columns).ok_or(SamaraStatus::Argument)?;
        let needed = workspace_len(rows, columns);
        if workspace_bytes < samara_assign_workspace_bytes(rows, columns) {
            return Err(SamaraStatus::Room);
        }
        let input = Span::of(costs, len)?;
        let indices = workspace.cast::<f32>().wrapping_add(needed.costs).cast::<u32>();
        let lent = Span::of(workspace.cast::<f32>(), samara_assign_workspace_bytes(rows, columns) / size_of::<f32>())?;
        // SAFETY: the caller's word.
        let costs = unsafe { slice(costs, len, &[]) }?;
        // SAFETY: the caller's word; the first part of the workspace.
        let numbers = unsafe { slice_mut(workspace.cast::<f32>(), needed.costs, &[input]) }?;
        // SAFETY: the caller's word; the second part, whose end was checked.
        let indices = unsafe { slice_mut(indices, needed.indices, &[input]) }?;
        // SAFETY: the caller's word.
        let output = unsafe { slice_mut(columns_of_rows, rows, &[input, lent]) }?;
        let costs = Costs::new(costs, rows, columns)?;
        let mut workspace = Workspace::new(numbers, indices, rows, columns)?;
        let answer = linear_sum_assignment(costs, &Options::default(), &mut workspace)?;
        for (to, &column) in output.iter_mut().zip(answer.columns()) {
            *to = column;
        }
        Ok(())
    })
}
