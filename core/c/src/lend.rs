//! From pointers to slices: what can be checked is checked here, what cannot is what `samara.h` asks of its callers.

use bytemuck::Pod;

use crate::SamaraStatus;

/// A buffer's addresses, from the first to the one behind the last; equal when it is empty.
#[derive(Clone, Copy, Default)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// A buffer of `len` elements, which is not NULL, aligned, and no larger than an object can be.
    pub(crate) fn of<T>(pointer: *const T, len: usize) -> Result<Self, SamaraStatus> {
        if len == 0 {
            return Ok(Self::default());
        }
        if pointer.is_null() {
            return Err(SamaraStatus::Null);
        }
        if !pointer.is_aligned() {
            return Err(SamaraStatus::Alignment);
        }
        let bytes = len.checked_mul(size_of::<T>()).filter(|&bytes| isize::try_from(bytes).is_ok());
        let start = pointer.addr();
        let end = bytes.and_then(|bytes| start.checked_add(bytes)).ok_or(SamaraStatus::Argument)?;
        Ok(Self { start, end })
    }

    /// Nothing, or an error when the buffer shares memory with one of `others`.
    pub(crate) fn apart(self, others: &[Self]) -> Result<(), SamaraStatus> {
        let meets = |other: &Self| self.start < other.end && other.start < self.end;
        if others.iter().any(meets) { Err(SamaraStatus::Overlap) } else { Ok(()) }
    }
}

/// `len` elements that are read.
///
/// # Safety
/// A pointer that passes the checks leads to `len` initialised elements, which nothing writes while the slice is in use.
pub(crate) unsafe fn slice<'a, T: Pod>(pointer: *const T, len: usize, others: &[Span]) -> Result<&'a [T], SamaraStatus> {
    Span::of(pointer, len)?.apart(others)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, aligned, not longer than an object can be: checked above. The rest is the caller's word.
    Ok(unsafe { core::slice::from_raw_parts(pointer, len) })
}

/// `len` elements that are written, zeros at first.
///
/// # Safety
/// A pointer that passes the checks leads to memory for `len` elements, which nothing else reads or writes while the slice is in use.
pub(crate) unsafe fn slice_mut<'a, T: Pod>(pointer: *mut T, len: usize, others: &[Span]) -> Result<&'a mut [T], SamaraStatus> {
    Span::of(pointer, len)?.apart(others)?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: not NULL and aligned: checked above; memory for `len` elements is the caller's word.
    unsafe { pointer.write_bytes(0, len) };
    // SAFETY: as above, not longer than an object can be, and every element is initialised now.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer, len) })
}

/// A place for a result.
pub(crate) struct Place<T>(*mut T);

impl<T> Place<T> {
    /// A place that must be there.
    ///
    /// # Safety
    /// A pointer that passes the checks leads to memory for a `T` until the place is gone.
    pub(crate) unsafe fn new(pointer: *mut T, others: &[Span]) -> Result<Self, SamaraStatus> {
        Span::of(pointer, 1)?.apart(others)?;
        Ok(Self(pointer))
    }

    /// A place that may be NULL, when the result is not wanted.
    ///
    /// # Safety
    /// As [`Place::new`].
    pub(crate) unsafe fn optional(pointer: *mut T, others: &[Span]) -> Result<Self, SamaraStatus> {
        if pointer.is_null() {
            return Ok(Self(pointer));
        }
        // SAFETY: the caller's word.
        unsafe { Self::new(pointer, others) }
    }

    /// Writes the result.
    pub(crate) fn set(self, value: T) {
        if !self.0.is_null() {
            // SAFETY: aligned, checked by `new`; memory for a `T` is the word of who called it. What was there needs no end.
            unsafe { self.0.write(value) };
        }
    }
}

/// A record that is read.
///
/// # Safety
/// A pointer that passes the checks leads to an initialised record.
pub(crate) unsafe fn record<T: Copy>(pointer: *const T) -> Result<T, SamaraStatus> {
    Span::of(pointer, 1)?;
    // SAFETY: not NULL and aligned: checked above; the rest is the caller's word.
    Ok(unsafe { pointer.read() })
}
