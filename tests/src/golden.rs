//! Golden files: safetensors and JSON under `tests/golden`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// A tensor of a file: shape, and values as `f64`.
#[derive(Clone, Debug)]
pub struct Array {
    /// Extents.
    pub shape: Vec<usize>,
    /// Elements.
    pub values: Vec<f64>,
}

impl Array {
    /// The elements as integers.
    pub fn ints(&self) -> Vec<i32> {
        self.values.iter().map(|&x| x as i32).collect()
    }

    /// (M, N) as (N, M).
    pub fn transposed(&self) -> Self {
        let [m, n] = self.shape[..] else { panic!("not a matrix: {:?}", self.shape) };
        let values = (0..n).flat_map(|j| (0..m).map(move |i| self.values[i * n + j])).collect();
        Self { shape: vec![n, m], values }
    }
}

/// Tensors by name.
pub type Arrays = BTreeMap<String, Array>;

/// A file under `tests/golden`.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// A JSON file.
pub fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The values of a JSON list.
pub fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

/// All tensors of a safetensors file.
pub fn arrays(name: &str) -> Arrays {
    let bytes = std::fs::read(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    let array = |(key, view): (String, safetensors::tensor::TensorView<'_>)| {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::F32 => data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
            Dtype::I32 => data.as_chunks().0.iter().map(|b| f64::from(i32::from_le_bytes(*b))).collect(),
            Dtype::I64 => data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            Dtype::U8 => data.iter().map(|&b| f64::from(b)).collect(),
            Dtype::BF16 => {
                let widen = |b: &[u8; 2]| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16));
                data.as_chunks().0.iter().map(widen).collect()
            }
            other => panic!("{name}: {key} is {other:?}"),
        };
        (key, Array { shape: view.shape().to_vec(), values })
    };
    file.tensors().into_iter().map(array).collect()
}
