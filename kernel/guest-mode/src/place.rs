//! Where a control structure is.
//!
//! SDM 3C 25.1: a VMCS is *clear*, or *active* on one CPU, where it may be *current*; while it is active that CPU may hold its
//! contents, and no other may load it. Launched or not, which decides between VMLAUNCH and VMRESUME, is part of that state
//! (25.11.1). Only the thread that owns the structure moves it, and only with interrupts off.

/// What a CPU does with one control structure; it stays this CPU, since interrupts are off.
pub trait Loader {
    /// Proof that the structure is current here.
    type Current;
    /// Why the CPU does not take it.
    type Failure;

    /// Number of this CPU.
    fn cpu(&self) -> usize;

    /// Has CPU number `cpu`, which may be this one, write the structure back and forget it; returns when it has. A CPU that waits for
    /// this answers what others ask of it, so that two that wait for each other both go on.
    fn ask_to_release(&self, cpu: usize);

    /// Makes it current here. It is clear, or active here.
    ///
    /// # Errors
    /// If the CPU does not take it; then it is where it was.
    fn load(&self) -> Result<Self::Current, Self::Failure>;
}

/// Where a control structure is, kept with the structure. It is released before its memory goes: debug builds stop if it is not.
#[derive(Debug)]
pub struct Place(Where);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Clear,
    Active { cpu: usize, launched: bool },
}

impl Place {
    /// Of a structure that no CPU has loaded. What is in its memory beyond its revision does not count before it is cleared for the first time,
    /// which [`Self::load`] does.
    #[must_use]
    pub const fn new() -> Self {
        Place(Where::Clear)
    }

    /// Makes the structure current here, wherever it was. True: it was not here before, and what belongs to the CPU must be written.
    ///
    /// # Errors
    /// Those of [`Loader::load`].
    #[inline]
    pub fn load<L: Loader>(&mut self, loader: &L) -> Result<(L::Current, bool), L::Failure> {
        let here = loader.cpu();
        if matches!(self.0, Where::Active { cpu, .. } if cpu == here) {
            return loader.load().map(|current| (current, false));
        }
        // A new one too must be cleared before its first load (25.11.3).
        loader.ask_to_release(self.cpu().unwrap_or(here));
        self.0 = Where::Clear;
        let current = loader.load()?;
        self.0 = Where::Active {
            cpu: here,
            launched: false,
        };
        Ok((current, true))
    }

    /// The CPU on which it is active.
    #[must_use]
    pub fn cpu(&self) -> Option<usize> {
        match self.0 {
            Where::Clear => None,
            Where::Active { cpu, .. } => Some(cpu),
        }
    }

    /// True if it has been entered since it was last clear.
    #[inline]
    #[must_use]
    pub fn is_launched(&self) -> bool {
        matches!(self.0, Where::Active { launched: true, .. })
    }

    /// An entry succeeded. One that failed while the guest's state was loaded has not: it does not change the launch state (SDM 3C
    /// 27.8, 31.3 VMLAUNCH).
    #[inline]
    pub fn note_launched(&mut self) {
        if let Where::Active { launched, .. } = &mut self.0 {
            *launched = true;
        }
    }

    /// Makes it clear, by `ask_to_release` of the CPU where it is active, if it is.
    pub fn release(&mut self, ask_to_release: impl FnOnce(usize)) {
        if let Some(cpu) = self.cpu() {
            ask_to_release(cpu);
            self.0 = Where::Clear;
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        debug_assert!(
            self.0 == Where::Clear,
            "a control structure goes away that is {:?}",
            self.0
        );
    }
}
