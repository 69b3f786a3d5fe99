//! The checks of [`super::ProgramFile::open`], ordered so that each relies only on earlier ones.

use super::layout::{DECAY, GroupRecord, MAX_RECORDS, PortRecord, ProgramKind, SectionKind};
use super::serves::{Len, Served, Serves, is_input};
use super::{FileError, FileProgram, ProgramFile};
use crate::exec::{Backend, Cpu};
use crate::graph::args::{Arg, Args};
use crate::graph::op::{InPlace, MAX_INPUTS};
use crate::graph::rules::reach;
use crate::graph::{DType, HYPER_LEN, Node, Op, Reach, Role, Tensor, TensorRecord};
use crate::shape::{UNIT, UNIT_BYTES};
use crate::threads::Serial;

/// Sections, parameters, programs, tokenizer. Not inlined, so that its stack frame is gone during a run.
#[inline(never)]
pub(super) fn file(file: &ProgramFile<'_>, ports: Ports) -> Result<(), FileError> {
    for (entry, section) in file.sections.iter().enumerate() {
        let known = SectionKind::from_code(section.kind.into()).is_some()
            && (section.program == 0 || ProgramKind::from_code(section.program.into()).is_some());
        let inside = section.range().is_some_and(|range| file.bytes.get(range).is_some());
        let once = !file.sections.iter().take(entry).any(|s| (s.kind, s.program) == (section.kind, section.program));
        if !(known && inside && once) {
            return Err(FileError::Section { entry });
        }
    }
    // A unit is UNIT_BYTES long in both buffers. The section has that length, so sizes computed from units cannot overflow.
    for (kind, units) in [(SectionKind::Trainable, file.header.trainable_units), (SectionKind::Frozen, file.header.frozen_units)]
    {
        let (found, expected) = (file.section(kind, None).len(), (units as usize).saturating_mul(UNIT_BYTES));
        if found != expected {
            return Err(FileError::Content { kind, found, expected });
        }
    }
    if !has_groups(file) {
        return Err(FileError::Groups);
    }
    // All programs share the parameter records of the first, byte for byte.
    let mut first = None;
    for kind in ProgramKind::ALL {
        if file.section(SectionKind::Program, Some(kind)).is_empty() {
            continue;
        }
        let parts = &file.parts(kind);
        let parts = match parts {
            Ok(parts) => parts,
            Err(kind) => return Err(FileError::Records { kind: *kind }),
        };
        Check { kind, file, parts }.all(ports)?;
        let params: &[u8] = bytemuck::cast_slice(parts.program.tensors().get(..file.header.params as usize).unwrap_or(&[]));
        if *first.get_or_insert(params) != params {
            return Err(FileError::Program { program: kind });
        }
    }
    file.open_tokenizer().map(|_| ())
}

/// Whether the groups cover the trainable parameters, with valid factors and flags.
fn has_groups(file: &ProgramFile<'_>) -> bool {
    let add = |sum: u32, group: &GroupRecord| {
        // Finite and not negative, checked on the bits: some devices have no float comparison.
        let sound = group.flags <= DECAY && group.lr_scale.to_bits() < f32::INFINITY.to_bits();
        sum.checked_add(group.units).filter(|_| sound)
    };
    file.groups().iter().try_fold(0, add) == Some(file.header.trainable_units)
}

/// The check of a program's ports for a kind of sessions: [`ports`] of it.
pub(super) type Ports = fn(&Check<'_, '_>) -> Result<(), FileError>;

/// Checks that every port required by the kind of program leads to a suitable tensor, and so do all other ports that sessions know.
pub(super) fn ports<S: Serves>(check: &Check<'_, '_>) -> Result<(), FileError> {
    check.ports::<S>()
}

/// A program under examination.
pub(super) struct Check<'c, 'a> {
    kind: ProgramKind,
    file: &'c ProgramFile<'a>,
    parts: &'c FileProgram<'a>,
}

impl<'a> Check<'_, 'a> {
    fn all(&self, ports: Ports) -> Result<(), FileError> {
        self.header()?;
        for (i, t) in self.tensors().iter().enumerate() {
            if !self.is_sound(i, t) {
                return Err(FileError::Tensor { program: self.kind, tensor: i });
            }
        }
        // Inference kernels refuse parts of a training program for other reasons too; the missing operation is the reason to report.
        if let Some((i, node)) = self.live().find(|(_, node)| self.file.kernels.rule(node.record().opcode).is_none()) {
            return Err(FileError::NoKernel { program: self.kind, node: i, opcode: node.record().opcode });
        }
        let cpu = Cpu::new(self.file.kernels, &Serial);
        for (i, node) in self.live() {
            self.node(i, &node, &cpu)?;
        }
        self.slots()?;
        for (i, node) in self.live() {
            self.places(i, &node, &cpu)?;
        }
        ports(self)
    }

    fn tensors(&self) -> &'a [TensorRecord] {
        self.parts.program.tensors()
    }

    fn nodes(&self) -> usize {
        self.parts.program.nodes().len()
    }

    fn live(&self) -> impl Iterator<Item = (usize, Node<'a>)> + use<'a> {
        let program = self.parts.program;
        (0..program.nodes().len()).filter_map(move |i| Some((i, program.node(i)?))).filter(|(_, n)| !n.record().dead)
    }

    /// Checks that the tables have the lengths in the header.
    fn header(&self) -> Result<(), FileError> {
        let (info, slots) = (self.parts.program.info(), self.parts.plan.slots().len());
        let (tensors, nodes) = (self.tensors().len(), self.nodes());
        if tensors.saturating_add(nodes) > MAX_RECORDS {
            return Err(FileError::TooLarge { program: self.kind });
        }
        let whole = |kind, len: usize, size| self.file.section(kind, Some(self.kind)).len() == len.saturating_mul(size);
        // No tensor needs two ports, and every node's inputs are looked up among the ports.
        let lengths = self.parts.ports.len() <= tensors
            && whole(SectionKind::Tensors, info.tensors.into(), size_of::<TensorRecord>())
            && whole(SectionKind::Nodes, info.nodes.into(), size_of::<crate::graph::NodeRecord>())
            && slots == tensors.saturating_add(nodes);
        let ranges = info.backward <= info.update && info.update <= info.nodes;
        if lengths && ranges && self.file.header.params as usize <= tensors {
            return Ok(());
        }
        Err(FileError::Program { program: self.kind })
    }

    /// Whether a tensor's record is consistent, inside its buffer, and shares memory only with the tensor it is a view of.
    fn is_sound(&self, i: usize, t: &TensorRecord) -> bool {
        let Some(root) = self.tensors().get(t.root.index()) else { return false };
        let own = t.root.index() == i;
        let alike = root.root == t.root
            && (root.role, root.dtype, root.offset, root.bounds) == (t.role, t.dtype, t.offset, t.bounds)
            && root.shape.len() == t.shape.len();
        let dtype = match t.role {
            Role::Ints => t.dtype == DType::I32,
            Role::Activation | Role::Input | Role::Trainable | Role::Grad => t.dtype == DType::Real,
            Role::State | Role::Frozen => t.dtype != DType::I32,
        };
        let params = self.file.header.params as usize;
        let param = matches!(t.role, Role::Trainable | Role::Frozen);
        let numbered = match t.role {
            Role::Trainable | Role::Frozen => t.index as usize == i,
            Role::Grad => self
                .tensors()
                .get(t.index as usize)
                .is_some_and(|p| p.role == Role::Trainable && p.offset == t.offset && p.shape == t.shape),
            Role::Activation | Role::Input | Role::Ints | Role::State => true,
        };
        // A tensor whose record names a producer that does not write it is refused at its reader: see `is_written_before`.
        let leaf = t.producer == u16::MAX;
        let produced = if matches!(t.role, Role::Activation | Role::Grad) || !own { !leaf } else { leaf };
        // An empty tensor takes no memory, which would leave its other extents unlimited: a kernel could loop over 2³² empty rows.
        let has_elements = t.shape.is_valid() && !t.shape.is_empty();
        has_elements && alike && dtype && numbered && produced && param == (i < params) && self.is_inside(t)
    }

    /// Whether a tensor outside of the arena is inside its buffer and aligned.
    fn is_inside(&self, t: &TensorRecord) -> bool {
        let (info, header, len) = (self.parts.program.info(), self.file.header, t.shape.len());
        let Some(row_bytes) = t.dtype.bytes(t.shape.cols(), size_of::<f32>()) else { return false };
        let Some(bytes) = t.shape.rows().checked_mul(row_bytes) else { return false };
        let (units, room) = match t.role {
            Role::Activation | Role::Input => return true,
            Role::Ints => (len, info.ints_len),
            Role::State => (t.state_len().div_ceil(UNIT), info.state_units),
            Role::Trainable | Role::Grad => (len.div_ceil(UNIT), header.trainable_units),
            Role::Frozen => (bytes.div_ceil(UNIT_BYTES), header.frozen_units),
        };
        (t.offset as usize).checked_add(units).is_some_and(|end| end <= room as usize)
    }

    /// Checks a node: its operation is known and has a kernel, its inputs are available, and its outputs follow its shape rule.
    fn node(&self, i: usize, node: &Node<'a>, cpu: &Cpu<'_, f32>) -> Result<(), FileError> {
        let (program, record) = (self.kind, node.record());
        let wrong = FileError::Node { program, node: i };
        let missing = FileError::NoKernel { program, node: i, opcode: record.opcode };
        let rule = self.file.kernels.rule(record.opcode).ok_or(missing)?;
        let op = node.op().ok_or(missing)?;
        let mut args = [None; MAX_INPUTS];
        for (k, arg) in args.iter_mut().enumerate() {
            self.argument(i, node, &op, k, arg).ok_or(wrong)?;
        }
        let Ok(shapes) = rule(&op, &Args::new(&args)) else { return Err(FileError::Rule { program, node: i }) };
        for (o, (&t, shape)) in record.outputs.iter().zip(shapes).enumerate() {
            let once = record.outputs.iter().filter(|&&other| other == t).count() == 1;
            // An output that the kernel does not compute must have no memory, so that it has no reader.
            let computed = |r: &TensorRecord| match shape {
                Some(shape) => r.shape == shape,
                None => r.role == Role::Activation && self.parts.plan.value(t).is_empty(),
            };
            let fits =
                node.output(o).is_some_and(|r| usize::from(r.producer) == i && computed(r) && self.may_write(&op, node, t, r));
            if t.is_some() && !(once && fits) {
                return Err(wrong);
            }
        }
        if !cpu.supports(node) {
            return Err(missing);
        }
        if self.updates_inside(&op) { Ok(()) } else { Err(wrong) }
    }

    /// Input `k` of node `i` as its shape rule sees it; `None` for an input that is not yet available, or that the node cannot read this way.
    #[inline(never)]
    fn argument(&self, i: usize, node: &Node<'a>, op: &Op, k: usize, arg: &mut Option<Arg>) -> Option<()> {
        let tensor = node.record().input(k);
        if !tensor.is_some() {
            return Some(());
        }
        let (r, column) = (node.input(k)?, node.column(k) as u32);
        *arg = Some(Arg { tensor, shape: r.shape, dtype: r.dtype, column, bounds: r.bounds });
        let by_host = !is_input(r.role) || self.parts.ports.iter().any(|port| port.tensor == r.root);
        (self.is_written_before(tensor, i) && by_host && (column == 0 || op.reads_columns(k))).then_some(())
    }

    /// Whether a tensor has its value before node `i` runs.
    fn is_written_before(&self, t: Tensor, i: usize) -> bool {
        let Some(record) = self.parts.program.tensor(t) else { return false };
        let producer = usize::from(record.producer);
        let writes = |node: Node<'_>| !node.record().dead && node.record().outputs.contains(&t);
        record.producer == u16::MAX || (producer < i && self.parts.program.node(producer).is_some_and(writes))
    }

    /// Whether an output is where its operation writes: in memory of its own, or in the memory of the input that it replaces.
    fn may_write(&self, op: &Op, node: &Node<'a>, t: Tensor, r: &TensorRecord) -> bool {
        match op.in_place() {
            InPlace::Alias(k) => node.input(k.into()).is_some_and(|source| source.root == r.root),
            InPlace::Inputs(_) | InPlace::Never => r.root == t && matches!(r.role, Role::Activation | Role::Grad),
        }
    }

    /// Whether an update stays within the existing parameters and moments.
    fn updates_inside(&self, op: &Op) -> bool {
        let (info, all) = (self.parts.program.info(), self.file.layout().trainable_len);
        reach(op, all)
            .is_none_or(|Reach { range, moments }| range.end <= all && moments.iter().flatten().all(|&slot| slot < info.moments))
    }

    /// Checks the owners of memory: they own themselves and do not overlap in the arena, and tensors that share memory agree with their owner.
    fn slots(&self) -> Result<(), FileError> {
        let (plan, count) = (&self.parts.plan, self.tensors().len());
        let wrong = |slot| FileError::Plan { program: self.kind, slot };
        for (i, slot) in plan.slots().iter().enumerate().filter(|(_, slot)| slot.len > 0) {
            let owner = plan.slots().get(usize::from(slot.owner)).ok_or(wrong(i))?;
            let tensor = self.tensors().get(i);
            let of_tensor = |t: &TensorRecord| {
                let root = plan.slots().get(t.root.index());
                let in_arena = matches!(t.role, Role::Activation | Role::Input);
                usize::from(slot.owner) < count
                    && slot.len as usize == t.shape.len()
                    && in_arena
                    && root.is_some_and(|r| r.owner == slot.owner)
            };
            let right = tensor.map_or(usize::from(slot.owner) == i, of_tensor);
            if !right || owner.owner != slot.owner || owner.len != slot.len || owner.range().end > plan.arena_len() {
                return Err(wrong(i));
            }
        }
        match plan.check() {
            Ok(()) => Ok(()),
            Err(crate::plan::PlanError::Overlap { a, .. }) => Err(wrong(a)),
            Err(_) => Err(wrong(0)),
        }
    }

    /// Checks that everything a node touches has memory while it runs, and that its inputs have not been overwritten.
    fn places(&self, i: usize, node: &Node<'a>, cpu: &Cpu<'_, f32>) -> Result<(), FileError> {
        let (plan, record) = (&self.parts.plan, node.record());
        let wrong = |t: Tensor| FileError::Plan { program: self.kind, slot: t.index() };
        let op = node.op().ok_or(FileError::Node { program: self.kind, node: i })?;
        let in_arena =
            |t: &Tensor| self.parts.program.tensor(*t).is_some_and(|r| matches!(r.role, Role::Activation | Role::Input));
        let is_view = matches!(op.in_place(), InPlace::Alias(_));
        for (k, &t) in record.inputs.iter().enumerate().filter(|(_, t)| in_arena(t)) {
            // A view of a value without readers needs no memory.
            let is_viewed = matches!(op.in_place(), InPlace::Alias(of) if usize::from(of) == k);
            if !(self.stands(t, i) || is_viewed && plan.value(t).is_empty()) {
                return Err(wrong(t));
            }
            // The output may reuse an input's memory only where the operation allows it, and only that input's.
            for (o, &out) in record.outputs.iter().enumerate() {
                let shares = in_arena(&out) && !is_view && !plan.value(out).is_empty() && self.owner(out) == self.owner(t);
                let allowed =
                    o == 0 && matches!(op.in_place(), InPlace::Inputs(list) if list.iter().any(|&i| usize::from(i) == k));
                let once =
                    || record.inputs.iter().filter(|&&other| in_arena(&other) && self.owner(other) == self.owner(t)).count() == 1;
                if shares && !(allowed && once()) {
                    return Err(wrong(out));
                }
            }
        }
        for (o, &t) in record.outputs.iter().enumerate().filter(|(_, t)| in_arena(t) && !plan.value(**t).is_empty()) {
            let apart = record.outputs.iter().take(o).all(|&other| self.owner(other) != self.owner(t));
            if !apart || !self.is_taken(t, i) {
                return Err(wrong(t));
            }
            // Values that the host reads afterwards must last to the end.
            if self.parts.program.tensor(t).is_some_and(|r| r.pinned) && !self.stands(t, self.nodes()) {
                return Err(wrong(t));
            }
        }
        let number = self.tensors().len().saturating_add(i);
        let scratch = plan.slots().get(number).copied().unwrap_or_default();
        let in_time = scratch.len == 0 || (usize::from(scratch.first) <= i && i <= usize::from(scratch.last));
        let (found, needed) = (scratch.len as usize, cpu.scratch_len(node));
        if found < needed {
            return Err(FileError::Scratch { program: self.kind, node: i, found, needed });
        }
        if in_time { Ok(()) } else { Err(FileError::Plan { program: self.kind, slot: number }) }
    }

    /// The slot whose memory a tensor has.
    fn owner(&self, t: Tensor) -> Option<u16> {
        self.parts.plan.slots().get(t.index()).filter(|slot| slot.len > 0).map(|slot| slot.owner)
    }

    /// Whether the memory of a tensor is taken when node `i` runs.
    fn is_taken(&self, t: Tensor, i: usize) -> bool {
        let owner = self.owner(t).and_then(|owner| self.parts.plan.slots().get(usize::from(owner)));
        owner.is_some_and(|slot| usize::from(slot.first) <= i && i <= usize::from(slot.last))
    }

    /// Whether a tensor's memory is held from its producer to node `i` without another write in between.
    fn stands(&self, t: Tensor, i: usize) -> bool {
        let root = self.parts.program.tensor(t).map_or(Tensor::NONE, |r| r.root);
        let Some(record) = self.parts.program.tensor(root) else { return false };
        let begin = if record.producer == u16::MAX { 0 } else { usize::from(record.producer).saturating_add(1) };
        let overwrites =
            |out: &Tensor| self.owner(*out) == self.owner(t) && self.parts.program.tensor(*out).is_some_and(|r| r.root != root);
        let mut between = (begin..i).filter_map(|n| self.parts.program.node(n)).filter(|n| !n.record().dead);
        self.is_taken(t, i) && self.is_taken(t, begin.min(i)) && !between.any(|n| n.record().outputs.iter().any(overwrites))
    }

    /// Checks that every port required by the kind of program leads to a suitable tensor, and so do all other ports that sessions know.
    fn ports<S: Serves>(&self) -> Result<(), FileError> {
        let items = S::items(self.parts);
        let wrong = |port: u16, tensor: Tensor| FileError::Port { program: self.kind, port: port.into(), tensor };
        if let Some(entry) = self.parts.ports.iter().find(|entry| !self.serves::<S>(entry, items)) {
            return Err(wrong(entry.kind, entry.tensor));
        }
        let missing =
            |(port, served): &(u16, &Served)| served.programs & self.bit() != 0 && !self.parts.port_of(*port, 0).is_some();
        if let Some((port, _)) = (0..).zip(S::PORTS).find(missing) {
            return Err(wrong(port, Tensor::NONE));
        }
        if let Some(port) = S::unfit(self.parts, self.kind, self.file.header) {
            return Err(wrong(port as u16, self.parts.port(port)));
        }
        self.integers_apart().ok_or(FileError::Program { program: self.kind })
    }

    /// The kind of the program in [`Served::programs`].
    const fn bit(&self) -> u8 {
        1 << self.kind as u8
    }

    /// Whether a port leads to a tensor that suits the kind of program. A port that the kind does not require may be an output, which can stay
    /// unread, but not an input, which would stay unwritten.
    fn serves<S: Serves>(&self, entry: &PortRecord, items: usize) -> bool {
        let Some(r) = self.parts.program.tensor(entry.tensor) else { return false };
        let Some(served) = S::PORTS.get(usize::from(entry.kind)).filter(|served| served.programs & self.bit() != 0) else {
            return !is_input(r.role);
        };
        let (len, indices) = match served.len {
            Len::One => (1, 1),
            Len::Items => (items, 1),
            Len::OneOrItems => (if r.shape.len() == 1 { 1 } else { items }, 1),
            Len::Rows => (S::rows(items).saturating_mul(self.file.header.vocab_size as usize), 1),
            Len::Any => (r.shape.len(), 1),
            Len::Hyper => (HYPER_LEN, self.file.groups().len()),
        };
        // With two entries for one port the second would stay unwritten.
        let first = self.parts.port_of(entry.kind, entry.index) == entry.tensor;
        let right = r.role == served.role && r.shape.len() == len && usize::from(entry.index) < indices;
        right && first && self.has_place(entry.tensor, r)
    }

    /// Whether integers written through one port with its bounds are read through no other port.
    fn integers_apart(&self) -> Option<()> {
        let of_port = |port: &PortRecord| self.parts.program.tensor(port.tensor).filter(|r| r.role == Role::Ints);
        let range = |r: &TensorRecord| r.start()..r.start().saturating_add(r.shape.len());
        let ports = || self.parts.ports.iter().filter_map(of_port);
        for (k, a) in ports().enumerate() {
            for b in ports().take(k) {
                let (a, b) = (range(a), range(b));
                if a.start < b.end && b.start < a.end {
                    return None;
                }
            }
        }
        Some(())
    }

    /// Whether the host can access a tensor: it is an integer tensor, or in the arena until the end.
    fn has_place(&self, t: Tensor, r: &TensorRecord) -> bool {
        r.role == Role::Ints
            || (r.pinned && self.is_written_before(t, self.nodes()) && self.is_taken(t, self.nodes().saturating_sub(1)))
    }
}
