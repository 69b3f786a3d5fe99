//! Benchmarks of samara.
