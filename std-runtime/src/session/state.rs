//! State sets: what lasts from run to run. A key and value cache and a queue of embeddings are two sets.

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

    /// Elements of the buffer that one row of the first axis takes; `None` when rows do not end where elements do.
    fn row_len(&self) -> Option<(usize, usize)> {
        let rows = *self.shape.dims().first()? as usize;
        let bytes = self.dtype.bytes(self.shape.len() / rows.max(1), size_of::<f32>())?;
        bytes.is_multiple_of(size_of::<f32>()).then_some((rows, bytes / size_of::<f32>()))
    }
}

/// Named memory whose layout is that of the programs that use it: all declare the same states in the same order, or fewer of them.
pub struct StateSet<D: Device = CpuDevice> {
    name: String,
    entries: Vec<Entry>,
    lasting: bool,
    /// The values.
    pub mem: D::Mem<f32>,
}

impl<D: Device> StateSet<D> {
    /// An empty set. A lasting one is in checkpoints, as a queue is; a cache is not.
    pub fn new(name: &str, lasting: bool) -> Self {
        Self { name: name.to_owned(), entries: Vec::new(), lasting, mem: D::Mem::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether checkpoints hold it.
    pub fn is_lasting(&self) -> bool {
        self.lasting
    }

    /// Makes room for the states of a program. States that were there keep their values; new ones are 0 unless their memory was used before.
    ///
    /// # Errors
    /// A state differs from that of an earlier program, or the memory cannot be had.
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

    /// Copies row `row` of every state, along its first axis, into row `at` of the same state of another set. The other axes must agree: a
    /// prompt's cache of one row goes into a slot of a batch.
    ///
    /// # Errors
    /// The sets do not have the same states, or a row is not there.
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
