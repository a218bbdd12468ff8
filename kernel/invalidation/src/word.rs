//! A word that CPUs share.

use core::sync::atomic::{AtomicU64, Ordering};

/// A 64-bit word that several CPUs read and write: the kernel's are [`AtomicU64`], a model checker brings its own.
pub trait Word: Send + Sync {
    /// A word with this value.
    fn new(value: u64) -> Self;
    /// Reads it.
    fn load(&self, order: Ordering) -> u64;
    /// Writes it.
    fn store(&self, value: u64, order: Ordering);
    /// Writes it and returns what was there.
    fn swap(&self, value: u64, order: Ordering) -> u64;
    /// Adds to it and returns what was there.
    fn fetch_add(&self, value: u64, order: Ordering) -> u64;
    /// Sets bits and returns what was there.
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64;
    /// Keeps bits and returns what was there.
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64;
}

impl Word for AtomicU64 {
    fn new(value: u64) -> Self {
        AtomicU64::new(value)
    }
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }
    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
    #[inline]
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.swap(value, order)
    }
    #[inline]
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.fetch_add(value, order)
    }
    #[inline]
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        self.fetch_or(bits, order)
    }
    #[inline]
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        self.fetch_and(bits, order)
    }
}
