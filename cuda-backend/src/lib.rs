//! samara on CUDA.
