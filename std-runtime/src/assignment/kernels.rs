//! The passes of core's assignment over rows, compiled for what the machine has: the bodies are core's, and the compiler makes vectors of them.

use samara_core::assignment::{Cost, Index, Kernels};

/// The passes for this machine. Their results are the same on every machine: least values and sums of two do not depend on vectors.
pub fn kernels<T: Cost, I: Index>() -> Kernels<T, I> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
        {
            return avx512::table();
        }
        if is_x86_feature_detected!("avx2") {
            return avx2::table();
        }
    }
    Kernels::PORTABLE
}

/// Core's bodies with the features of a name, in a module of that name. Functions of the table can only be reached when the machine has them.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled {
    ($name:ident, $features:literal) => {
        mod $name {
            use samara_core::assignment::kernel::{self, Scan};
            use samara_core::assignment::{Cost, Index, Kernels};

            compiled!(@body $features
                plain(costs: &[T]) -> bool;
                reduce(costs: &[T], duals: &[T], minima: &mut [T]) -> T;
                first(costs: &[T], duals: &[T], distances: &mut [T], minima: &mut [T]) -> T;
                at_most(values: &[T], bound: T) -> u32;
                reduced_at_most(costs: &[T], duals: &[T], bound: T) -> u32;
                second(costs: &[T], duals: &[T], skipped: usize) -> T;
            );

            fn scan<T: Cost, I: Index>(operands: Scan<'_, T, I>) -> T {
                #[target_feature(enable = $features)]
                fn body<T: Cost, I: Index>(operands: Scan<'_, T, I>) -> T {
                    kernel::scan(operands)
                }
                // SAFETY: the table that leads here is chosen for machines with these features only.
                unsafe { body(operands) }
            }

            fn scan_in_order<T: Cost, I: Index>(operands: Scan<'_, T, I>, row_dual: T) -> T {
                #[target_feature(enable = $features)]
                fn body<T: Cost, I: Index>(operands: Scan<'_, T, I>, row_dual: T) -> T {
                    kernel::scan_in_order(operands, row_dual)
                }
                // SAFETY: the table that leads here is chosen for machines with these features only.
                unsafe { body(operands, row_dual) }
            }

            pub(super) fn table<T: Cost, I: Index>() -> Kernels<T, I> {
                Kernels { plain, reduce, first, scan, scan_in_order, at_most, reduced_at_most, second }
            }
        }
    };
    (@body $features:literal $($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            fn $name<T: Cost>($($argument: $type),*) -> $result {
                #[target_feature(enable = $features)]
                fn body<T: Cost>($($argument: $type),*) -> $result {
                    kernel::$name($($argument),*)
                }
                // SAFETY: the table that leads here is chosen for machines with these features only.
                unsafe { body($($argument),*) }
            }
        )*
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(avx2, "avx2,fma,bmi1,bmi2,lzcnt,popcnt");
#[cfg(target_arch = "x86_64")]
compiled!(avx512, "avx2,fma,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512vl,avx512dq,avx512bw");
