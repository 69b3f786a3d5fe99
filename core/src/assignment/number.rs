//! The element types of costs and indices.

use core::fmt::Debug;

/// An element type of costs. Integers are exact; sums of floating-point costs round, and [`super::verify()`] reports the rounding error.
///
/// Inside a search a forbidden pair costs [`Cost::FAR`], and a distance of at least [`Cost::UNREACHABLE`] means unreachable. Integer sums wrap;
/// [`Cost::has_room`] rules out overflow beforehand.
pub trait Cost: Copy + PartialOrd + Debug + Default + Send + Sync + 'static {
    /// The type of a sum of costs.
    type Total: Copy + PartialOrd + Debug + Default + Send + Sync + 'static;

    /// Zero.
    const ZERO: Self;
    /// The cost by which a caller forbids a pair when minimising: infinity, or the largest integer.
    const FORBIDDEN: Self;
    /// The cost of a forbidden pair inside a search.
    const FAR: Self;
    /// A lower bound of unreachable distances: no path of allowed pairs is as long.
    const UNREACHABLE: Self;
    /// The dual of a closed column: it makes every distance to the column at least [`Cost::FAR`].
    const CLOSED: Self;

    /// Sum.
    fn plus(self, other: Self) -> Self;
    /// Difference.
    fn minus(self, other: Self) -> Self;
    /// The smaller one.
    #[inline(always)]
    fn least(self, other: Self) -> Self {
        if other < self { other } else { self }
    }
    /// Whether a cost can enter a search unchanged: it is not forbidden, not invalid, and so small that sums cannot overflow.
    fn is_plain(self) -> bool;
    /// The cost as a search uses it, times `scale`; `None` if it is invalid (NaN, or infinitely good).
    fn admit(self, maximize: bool, scale: Self) -> Option<Self>;
    /// Whether a caller's cost forbids the pair.
    fn forbids(self, maximize: bool) -> bool;
    /// The cost as a key for comparisons, smaller is better: exact for every magnitude, and [`Cost::FORBIDDEN`] for forbidden or invalid costs.
    fn rank(self, maximize: bool) -> Self;
    /// A scale with which sums of admitted costs do not overflow, if the type needs and has one.
    fn rescue() -> Option<Self>;
    /// The neutral scale.
    const ONE: Self;
    /// Converts a dual from the search's units to the caller's.
    fn restore(self, maximize: bool, scale: Self) -> Self;
    /// Whether sums along paths through `rows` rows stay exact for admitted costs from `low` to `high`.
    fn has_room(low: Self, high: Self, rows: usize) -> bool;
    /// Whether arithmetic is exact, so that [`Cost::has_room`] must be checked.
    const EXACT: bool;
    /// Whether this difference of a cost and a dual exceeds `other` by no more than rounding error.
    fn is_near(self, other: Self, cost: Self, dual: Self) -> bool;
    /// Stores a small count as a value of this type.
    fn count(count: usize) -> Self;
    /// Reads a count stored by [`Cost::count`].
    fn to_count(self) -> usize;
    /// Adds to a total.
    fn add_to(self, total: Self::Total) -> Self::Total;
    /// As `f64`, rounded if necessary.
    fn to_f64(self) -> f64;
    /// From `f64`, rounded if necessary.
    fn from_f64(number: f64) -> Self;
}

macro_rules! float {
    ($t:ty, $high:expr, $rescue:expr) => {
        impl Cost for $t {
            type Total = f64;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const FORBIDDEN: Self = Self::INFINITY;
            const FAR: Self = Self::INFINITY;
            const UNREACHABLE: Self = Self::INFINITY;
            const CLOSED: Self = Self::NEG_INFINITY;
            const EXACT: bool = false;

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self - other
            }
            #[inline(always)]
            fn is_plain(self) -> bool {
                self.abs() < $high
            }
            #[inline]
            fn admit(self, maximize: bool, scale: Self) -> Option<Self> {
                let cost = if maximize { -self } else { self } * scale;
                (cost > Self::NEG_INFINITY).then_some(cost)
            }
            #[inline]
            fn forbids(self, maximize: bool) -> bool {
                self == if maximize { Self::NEG_INFINITY } else { Self::INFINITY }
            }
            #[inline]
            fn rank(self, maximize: bool) -> Self {
                self.admit(maximize, Self::ONE).unwrap_or(Self::FORBIDDEN)
            }
            fn rescue() -> Option<Self> {
                Some($rescue)
            }
            fn restore(self, maximize: bool, scale: Self) -> Self {
                if maximize { -self / scale } else { self / scale }
            }
            fn has_room(_: Self, _: Self, _: usize) -> bool {
                true
            }
            fn is_near(self, other: Self, cost: Self, dual: Self) -> bool {
                self - other <= 16.0 * Self::EPSILON * (cost.abs() + dual.abs())
            }
            #[inline(always)]
            fn count(count: usize) -> Self {
                count as Self
            }
            #[inline(always)]
            fn to_count(self) -> usize {
                self as usize
            }
            fn add_to(self, total: f64) -> f64 {
                total + f64::from(self)
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn from_f64(number: f64) -> Self {
                number as Self
            }
        }
    };
}

// Sums of fewer than 10^8 terms below this bound do not overflow, and the largest finite values times the rescue scale stay below it.
float!(f32, 1e30, 1.0 / 1_267_650_600_228_229_401_496_703_205_376.0);
float!(f64, 1e100, f64::from_bits((1023 - 800) << 52));

macro_rules! integer {
    ($t:ty) => {
        impl Cost for $t {
            type Total = i64;
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const FORBIDDEN: Self = Self::MAX;
            const FAR: Self = 1 << (Self::BITS - 3);
            const UNREACHABLE: Self = 1 << (Self::BITS - 4);
            const CLOSED: Self = -(1 << (Self::BITS - 2));
            const EXACT: bool = true;

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn is_plain(self) -> bool {
                self < Self::FAR
            }
            #[inline]
            fn admit(self, maximize: bool, _: Self) -> Option<Self> {
                Some(match self {
                    cost if cost.forbids(maximize) => Self::FAR,
                    cost if maximize => cost.wrapping_neg(),
                    cost => cost,
                })
            }
            #[inline]
            fn forbids(self, maximize: bool) -> bool {
                self == if maximize { Self::MIN } else { Self::MAX }
            }
            #[inline]
            fn rank(self, maximize: bool) -> Self {
                // The bitwise complement reverses the order as negation does, but is defined for every integer.
                if maximize { !self } else { self }
            }
            fn rescue() -> Option<Self> {
                None
            }
            fn restore(self, maximize: bool, _: Self) -> Self {
                if maximize { self.wrapping_neg() } else { self }
            }
            fn has_room(low: Self, high: Self, rows: usize) -> bool {
                let (low, high) = (i128::from(low), i128::from(high));
                let reach = (high - low).max(high.abs()).max(low.abs());
                reach.saturating_mul(rows as i128 + 2).saturating_mul(4) < i128::from(Self::UNREACHABLE)
            }
            fn is_near(self, other: Self, _: Self, _: Self) -> bool {
                self <= other
            }
            #[inline(always)]
            fn count(count: usize) -> Self {
                count as Self
            }
            #[inline(always)]
            fn to_count(self) -> usize {
                self as usize
            }
            fn add_to(self, total: i64) -> i64 {
                total.wrapping_add(i64::from(self))
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn from_f64(number: f64) -> Self {
                number as Self
            }
        }
    };
}

integer!(i32);
integer!(i64);

/// The integer type of row and column indices in a workspace: `u16` up to 65535 rows or columns, `u32` beyond.
pub trait Index: Copy + PartialEq + Debug + Default + Send + Sync + 'static {
    /// No row or column.
    const NONE: Self;
    /// The largest count of rows or columns.
    const LIMIT: usize;
    /// From a `usize`.
    fn new(index: usize) -> Self;
    /// As `usize`; [`usize::MAX`] for [`Index::NONE`].
    fn at(self) -> usize;
    /// As `usize`, `None` for [`Index::NONE`].
    fn get(self) -> Option<usize> {
        (self != Self::NONE).then(|| self.at())
    }
}

macro_rules! index {
    ($t:ty) => {
        impl Index for $t {
            const NONE: Self = Self::MAX;
            const LIMIT: usize = Self::MAX as usize;
            #[inline(always)]
            fn new(index: usize) -> Self {
                index as Self
            }
            #[inline(always)]
            fn at(self) -> usize {
                if self == Self::NONE { usize::MAX } else { self as usize }
            }
        }
    };
}

index!(u16);
index!(u32);

/// Element `i`, or `none` if it is out of bounds.
#[inline(always)]
pub(super) fn get<T: Copy>(items: &[T], i: usize, none: T) -> T {
    items.get(i).copied().unwrap_or(none)
}

/// Sets element `i` if it is in bounds.
#[inline(always)]
pub(super) fn set<T>(items: &mut [T], i: usize, value: T) {
    if let Some(to) = items.get_mut(i) {
        *to = value;
    }
}
