//! Interrupts between CPUs, and who may get one: a CPU that does not use a space is not disturbed for it.

use super::Hardware;

impl Hardware {
    /// Sends an interrupt that takes so many steps to arrive. It is not queued: one that is under way serves for both.
    pub fn send_interrupt(&mut self, target: usize, delay: u64) {
        let arrival = self.time + delay;
        let interrupt = &mut self.cpus[target].interrupt;
        *interrupt = Some(interrupt.map_or(arrival, |other| other.min(arrival)));
    }

    /// True if an interrupt has arrived and was not taken.
    pub fn is_interrupted(&self, cpu: usize) -> bool {
        self.cpus[cpu]
            .interrupt
            .is_some_and(|arrival| arrival <= self.time)
    }

    /// `cpu` takes its interrupt.
    pub fn take_interrupt(&mut self, cpu: usize) {
        self.cpus[cpu].interrupt = None;
    }

    /// `cpu` is about to use the space, or uses it no more.
    pub fn note_use(&mut self, cpu: usize, space: u64, begins: bool) {
        let until = (!begins).then_some(self.time);
        self.cpus[cpu].uses.insert(space, until);
    }

    /// `cpu` begins to invalidate something of `space`.
    pub fn note_invalidation(&mut self, cpu: usize, space: u64) {
        self.cpus[cpu].invalidates = Some((space, self.time));
    }

    /// An interrupt for an invalidation goes only to a CPU that has used the space since that began.
    pub fn check_target(&self, sender: usize, target: usize) {
        let (space, since) = self.cpus[sender].invalidates.expect("who interrupts invalidates");
        let until = self.cpus[target].uses.get(&space);
        if !until.is_some_and(|until| until.is_none_or(|until| until >= since)) {
            self.violation(&format!(
                "CPU {sender} interrupts CPU {target}, which has not used space {space} since {since}: {until:?}"
            ));
        }
    }
}
