//! Control structures of virtual machines: each is active on one CPU at most, which may hold its contents (SDM 3C 25.1).

use super::Hardware;

impl Hardware {
    /// VMPTRLD. From now on the CPU may be asked to release the structure.
    pub fn load_structure(&mut self, cpu: usize, structure: u64) {
        self.trace(|| format!("CPU {cpu} loads the control structure {structure:#x}"));
        if let Some(other) = self.structures.insert(structure, cpu)
            && other != cpu
        {
            self.violation(&format!(
                "CPU {cpu} loads the control structure {structure:#x}, which is active on CPU {other}"
            ));
        }
        self.note_use(cpu, structure, true);
    }

    /// VMCLEAR. It writes what this CPU has of the structure, and nothing of what others have.
    pub fn release_structure(&mut self, cpu: usize, structure: u64) {
        self.trace(|| format!("CPU {cpu} releases the control structure {structure:#x}"));
        if let Some(other) = self.structures.remove(&structure)
            && other != cpu
        {
            self.violation(&format!(
                "CPU {cpu} releases the control structure {structure:#x}, which is active on CPU {other}"
            ));
        }
        self.note_use(cpu, structure, false);
    }
}
