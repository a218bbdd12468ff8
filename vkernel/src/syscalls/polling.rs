//! `poll` and `ppoll`.

use crate::clock;
use crate::linux::Errno;
use crate::linux::flags::{POLLERR, POLLHUP, POLLNVAL};
use crate::linux::structures::PollEntry;
use crate::process::Task;
use crate::vfs::fd::MAX_FILES;
use alloc::vec::Vec;
use dragonet_abi::time::FOREVER;

impl Task {
    pub(super) async fn sys_poll(&mut self, table: u64, count: u64, milliseconds: i32) -> Result<u64, Errno> {
        let deadline = match u64::try_from(milliseconds) {
            Ok(time) => clock::monotonic().saturating_add(time * 1_000_000),
            Err(_) => FOREVER,
        };
        match self.poll_until(table, count, deadline).await {
            Err(Errno::ERESTARTSYS) => Err(Errno::EINTR),
            other => other,
        }
    }

    pub(super) async fn sys_ppoll(
        &mut self,
        table: u64,
        count: u64,
        time: u64,
        mask: u64,
        size: u64,
    ) -> Result<u64, Errno> {
        let deadline = match time {
            0 => FOREVER,
            _ => clock::monotonic().saturating_add(self.read_time(time)?),
        };
        if mask != 0 {
            if size != 8 {
                return Err(Errno::EINVAL);
            }
            let wish = self.space.read::<u64>(mask)?;
            self.saved_mask = Some(self.thread.blocked());
            self.set_blocked(wish);
        }
        match self.poll_until(table, count, deadline).await {
            Err(Errno::ERESTARTSYS) => Err(Errno::EINTR),
            other => {
                if let Some(mask) = self.saved_mask.take() {
                    self.set_blocked(mask);
                }
                other
            }
        }
    }

    async fn poll_until(&self, table: u64, count: u64, deadline: u64) -> Result<u64, Errno> {
        if count > MAX_FILES as u64 {
            return Err(Errno::EINVAL);
        }
        let at = |index: u64| {
            table
                .checked_add(index * size_of::<PollEntry>() as u64)
                .ok_or(Errno::EFAULT)
        };
        let mut entries = Vec::with_capacity(count as usize);
        for index in 0..count {
            let entry: PollEntry = self.space.read(at(index)?)?;
            let file = if entry.file < 0 {
                None
            } else {
                Some(self.files.get(entry.file))
            };
            entries.push((entry, file));
        }
        let ready = {
            let files = entries
                .iter()
                .filter_map(|(_, file)| file.as_ref()?.as_ref().ok());
            let queues = files.filter_map(|file| file.readiness_changed());
            let _registrations: Vec<_> = queues.map(|queue| queue.register(&self.thread)).collect();
            let waited = self
                .wait_registered(deadline, || {
                    let returned: Vec<i16> = entries
                        .iter()
                        .map(|(entry, file)| match file {
                            None => 0,
                            Some(Err(_)) => POLLNVAL,
                            Some(Ok(file)) => file.readiness() & (entry.events | POLLERR | POLLHUP),
                        })
                        .collect();
                    returned.iter().any(|&events| events != 0).then_some(returned)
                })
                .await;
            match waited {
                Ok(returned) => returned,
                Err(Errno::ETIMEDOUT) => alloc::vec![0; entries.len()],
                Err(error) => return Err(error),
            }
        };
        for (index, ((entry, _), returned)) in (0..).zip(entries.iter().zip(&ready)) {
            self.space.write(
                at(index)?,
                &PollEntry {
                    returned: *returned,
                    ..*entry
                },
            )?;
        }
        Ok(ready.iter().filter(|&&events| events != 0).count() as u64)
    }
}
