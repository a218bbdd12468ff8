//! What a process uses of the machine's memory, and how much it may.
//!
//! One account per process, held by its vmspaces and by the memory objects that it created, so it may outlive the process. Each
//! amount is one word that is changed by compare-and-swap: what is charged never passes the limit, however many threads
//! charge at once.

use core::sync::atomic::{AtomicU64, Ordering};
use dragonet_abi::Errno;
use dragonet_abi::process::NO_LIMIT;

/// The account of a process. Alone in its cache lines, since every new page changes it.
#[derive(Debug)]
#[repr(align(128))]
pub struct Account {
    /// Pages that its memory objects own.
    pub pages: Quota,
    /// Bytes of addresses that its vmspaces map.
    pub addresses: Quota,
}

impl Account {
    /// Nothing used, no limit.
    #[must_use]
    pub const fn new() -> Self {
        Account {
            pages: Quota::new(),
            addresses: Quota::new(),
        }
    }

    /// Takes over the limits of another account, not what it uses.
    pub fn inherit(&self, other: &Account) {
        self.pages.set_limit(other.pages.limit());
        self.addresses.set_limit(other.addresses.limit());
    }
}

/// An amount that has a limit.
#[derive(Debug)]
pub struct Quota {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Quota {
    const fn new() -> Self {
        Quota {
            used: AtomicU64::new(0),
            limit: AtomicU64::new(NO_LIMIT),
        }
    }

    /// Adds to what is used.
    ///
    /// # Errors
    /// ENOMEM if that would pass the limit; nothing is added.
    pub fn charge(&self, amount: u64) -> Result<(), Errno> {
        if amount == 0 {
            return Ok(());
        }
        let limit = self.limit();
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(amount).filter(|&sum| sum <= limit)
            })
            .map(|_| ())
            .map_err(|_| Errno::ENOMEM)
    }

    /// Gives back what was charged.
    pub fn release(&self, amount: u64) {
        let before = self.used.fetch_sub(amount, Ordering::Relaxed);
        debug_assert!(before >= amount, "more is given back than was charged");
    }

    /// What is charged now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit and returns the old one. Below what is used it only stops growth.
    pub fn set_limit(&self, limit: u64) -> u64 {
        self.limit.swap(limit, Ordering::Relaxed)
    }
}

/// An amount that is charged until this is dropped, unless it is kept.
#[must_use]
#[derive(Debug)]
pub struct Charge<'account> {
    /// None: nobody pays.
    quota: Option<&'account Quota>,
    amount: u64,
}

impl<'account> Charge<'account> {
    /// Charges an amount, to nobody if there is no quota.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(quota: Option<&'account Quota>, amount: u64) -> Result<Self, Errno> {
        if let Some(quota) = quota {
            quota.charge(amount)?;
        }
        Ok(Charge { quota, amount })
    }

    /// Leaves the amount charged; from now on somebody else gives it back.
    pub fn keep(mut self) {
        self.quota = None;
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        if let Some(quota) = self.quota {
            quota.release(self.amount);
        }
    }
}
