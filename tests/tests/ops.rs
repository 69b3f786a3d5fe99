//! Every operation on every table of kernels.

use samara_core::ops::reference;
use samara_tests::session::Table;
use samara_tests::suite::{Coverage, Size, run};

/// Values to rounding, gradients to 10⁻⁷ of finite differences; no operation without a case.
#[test]
fn double_precision_reference() {
    let kernels = reference::<f64>();
    let table = Table::serial(&kernels);
    let mut coverage = Coverage::NONE;
    for seed in 0..6 {
        run(table, table, Size::Small, seed, &mut coverage);
    }
    run(table, table, Size::Large, 100, &mut coverage);
    assert_eq!(coverage.missing(), [0; 0], "operations without a case");
}

fn single_precision(table: Table<'_, f32>) {
    let exact = reference::<f64>();
    let oracle = Table::serial(&exact);
    let mut coverage = Coverage::NONE;
    for seed in 200..203 {
        run(table, oracle, Size::Small, seed, &mut coverage);
    }
    for seed in 300..303 {
        run(table, oracle, Size::Large, seed, &mut coverage);
    }
    assert_eq!(coverage.missing(), [0; 0], "operations without a case");
}

#[test]
fn single_precision_reference() {
    single_precision(Table::serial(&reference::<f32>()));
}
