//! Scalar mathematics.
