//! Error numbers of Linux on x86-64.

/// Why a system call failed. Handed to the program as its negated value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(u16);

macro_rules! errors {
    ($($name:ident = $value:literal;)*) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "` of errno(3).")] pub const $name: Errno = Errno($value);)*

            const fn name(self) -> &'static str {
                match self.0 { $($value => stringify!($name),)* _ => "E?" }
            }
        }
    };
}

errors! {
    EPERM = 1; ENOENT = 2; ESRCH = 3; EINTR = 4; EIO = 5; E2BIG = 7; ENOEXEC = 8; EBADF = 9; ECHILD = 10; EAGAIN = 11;
    ENOMEM = 12; EACCES = 13; EFAULT = 14; EBUSY = 16; EEXIST = 17; ENODEV = 19; ENOTDIR = 20; EISDIR = 21;
    EINVAL = 22; ENFILE = 23; EMFILE = 24; ENOTTY = 25; EFBIG = 27; ENOSPC = 28; ESPIPE = 29; EPIPE = 32;
    ERANGE = 34; ENAMETOOLONG = 36; ENOSYS = 38; ENOTEMPTY = 39; ELOOP = 40; EOVERFLOW = 75;
    ETIMEDOUT = 110;
    ERESTARTSYS = 512;
}

impl Errno {
    /// The value of `rax` that reports this error.
    pub const fn to_result(self) -> u64 {
        (-(self.0 as i64)) as u64
    }
}

impl From<dragonet_abi::Errno> for Errno {
    /// The host's numbers are Linux's.
    fn from(host: dragonet_abi::Errno) -> Self {
        Errno(host as u16)
    }
}

impl core::fmt::Debug for Errno {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.name())
    }
}
