//! State sets: memory that persists between runs. A key-value cache and a queue of embeddings are two sets.

use samara_core::graph::{DType, Role, Shape};

use crate::device::{BuildError, CpuDevice, Device, DeviceError, OwnedProgram};

/// A state of a program.
#[derive(Clone, Copy, PartialEq)]
struct Entry {
    shape: Shape,
    dtype: DType,
    offset: usize,
}

impl Entry {
    fn describe(&self) -> String {
        format!("{:?} {}", self.dtype, self.shape)
    }

    /// Elements of the buffer per row of the first axis; `None` when rows do not end at element boundaries.
    fn row_len(&self) -> Option<(usize, usize)> {
        let rows = *self.shape.dims().first()? as usize;
        let bytes = self.dtype.bytes(self.shape.len() / rows.max(1), size_of::<f32>())?;
        bytes.is_multiple_of(size_of::<f32>()).then_some((rows, bytes / size_of::<f32>()))
    }
}

/// Named memory with the layout of its programs: all declare the same states in the same order, or a prefix of them.
pub struct StateSet<D: Device = CpuDevice> {
    name: String,
    entries: Vec<Entry>,
    lasting: bool,
    /// The values.
    pub mem: D::Mem<f32>,
}

impl<D: Device> StateSet<D> {
    /// An empty set. A lasting one, such as a queue, is saved in checkpoints; a cache is not.
    pub fn new(name: &str, lasting: bool) -> Self {
        Self { name: name.to_owned(), entries: Vec::new(), lasting, mem: D::Mem::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether checkpoints contain it.
    pub fn is_lasting(&self) -> bool {
        self.lasting
    }

    /// Allocates the states of a program. Existing states keep their values; new ones are 0 unless their memory was used before.
    ///
    /// # Errors
    /// A state differs from that of an earlier program, or the memory is not available.
    pub fn admit(&mut self, device: &mut D, program: &OwnedProgram) -> Result<(), BuildError> {
        let view = program.view();
        let states = view.tensors().iter().enumerate().filter(|(i, t)| t.role == Role::State && t.root.index() == *i);
        for (index, (_, t)) in states.enumerate() {
            let entry = Entry { shape: t.shape, dtype: t.dtype, offset: t.start() };
            match self.entries.get(index) {
                Some(earlier) if *earlier != entry => {
                    let (set, found, expected) = (self.name.clone(), entry.describe(), earlier.describe());
                    return Err(BuildError::State { set, index, found, expected });
                }
                Some(_) => {}
                None => self.entries.push(entry),
            }
        }
        let len = D::len(&self.mem);
        if len < program.state_len() {
            let mut grown = device.alloc(program.state_len())?;
            device.copy(&self.mem, 0..len, &mut grown, 0);
            self.mem = grown;
        }
        Ok(())
    }

    /// Forgets its states, so that programs with others may use the memory.
    pub fn forget(&mut self) {
        self.entries.clear();
    }

    /// Copies row `row` of every state, along its first axis, into row `at` of the same state of another set. The other axes must agree: the cache of
    /// a prompt, one row, is copied into a slot of a batch.
    ///
    /// # Errors
    /// The sets have different states, or a row does not exist.
    pub fn copy_row(&self, device: &mut D, row: usize, to: &mut Self, at: usize) -> Result<(), DeviceError> {
        let wrong = || DeviceError::Failed(format!("no row {row} of state set {:?} fits row {at} of {:?}", self.name, to.name));
        if self.entries.len() != to.entries.len() {
            return Err(wrong());
        }
        let pairs = self.entries.iter().zip(&to.entries).map(|(a, b)| Some((*a, a.row_len()?, *b, b.row_len()?)));
        for pair in pairs {
            let (a, (rows, len), b, (places, room)) = pair.ok_or_else(wrong)?;
            if len != room || a.dtype != b.dtype || row >= rows || at >= places {
                return Err(wrong());
            }
            device.copy(&self.mem, a.offset + row * len..a.offset + (row + 1) * len, &mut to.mem, b.offset + at * len);
        }
        Ok(())
    }
}
