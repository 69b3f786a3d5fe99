//! Conversion of pointers to slices: this file checks what can be checked; `samara.h` requires the rest of its callers.

use bytemuck::Pod;

use crate::SamaraStatus;

/// The address range of a buffer, half-open; empty when both ends are equal.
#[derive(Clone, Copy, Default)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// A buffer of `len` elements: not NULL, aligned, and not larger than an object can be.
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

    /// An error if the buffer overlaps one of `others`.
    pub(crate) fn apart(self, others: &[Self]) -> Result<(), SamaraStatus> {
        let meets = |other: &Self| self.start < other.end && other.start < self.end;
        if others.iter().any(meets) { Err(SamaraStatus::Overlap) } else { Ok(()) }
    }
}

/// A slice of `len` elements for reading.
///
/// # Safety
/// A pointer that passes the checks must point to `len` initialised elements, which are not written while the slice is in use.
pub(crate) unsafe fn slice<'a, T: Pod>(pointer: *const T, len: usize, others: &[Span]) -> Result<&'a [T], SamaraStatus> {
    Span::of(pointer, len)?.apart(others)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, aligned, not longer than an object can be: checked above. The rest is the caller's obligation.
    Ok(unsafe { core::slice::from_raw_parts(pointer, len) })
}

/// A zeroed slice of `len` elements for writing.
///
/// # Safety
/// A pointer that passes the checks must point to memory for `len` elements, which nothing else reads or writes while the slice is in use.
pub(crate) unsafe fn slice_mut<'a, T: Pod>(pointer: *mut T, len: usize, others: &[Span]) -> Result<&'a mut [T], SamaraStatus> {
    Span::of(pointer, len)?.apart(others)?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: not NULL and aligned: checked above; memory for `len` elements is the caller's obligation.
    unsafe { pointer.write_bytes(0, len) };
    // SAFETY: as above, not longer than an object can be, and every element is initialised now.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer, len) })
}

/// A place for a result.
pub(crate) struct Place<T>(*mut T);

impl<T> Place<T> {
    /// An output location that must not be NULL.
    ///
    /// # Safety
    /// A pointer that passes the checks must point to memory for a `T` while the value exists.
    pub(crate) unsafe fn new(pointer: *mut T, others: &[Span]) -> Result<Self, SamaraStatus> {
        Span::of(pointer, 1)?.apart(others)?;
        Ok(Self(pointer))
    }

    /// An output location that may be NULL when the result is not wanted.
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
            // SAFETY: aligned, checked by `new`; memory for a `T` is the obligation of the caller of `new`. The old content is not dropped.
            unsafe { self.0.write(value) };
        }
    }
}

/// A record for reading.
///
/// # Safety
/// A pointer that passes the checks must point to an initialised record.
pub(crate) unsafe fn record<T: Copy>(pointer: *const T) -> Result<T, SamaraStatus> {
    Span::of(pointer, 1)?;
    // SAFETY: not NULL and aligned: checked above; the rest is the caller's obligation.
    Ok(unsafe { pointer.read() })
}
