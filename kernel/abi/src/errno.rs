//! Error numbers. The values are those of Linux on x86-64, so that a vkernel can hand them on unchanged.

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// Why a system call failed. Returned in `rax` as the negated value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Errno { $($(#[$doc])* $name = $value,)* }

        impl Errno {
            /// Every error that the kernel can return.
            pub const ALL: &'static [Errno] = &[$(Errno::$name,)*];

            /// The error with this number, if there is one.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($value => Some(Errno::$name),)* _ => None }
            }

            /// A few words for a person.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Errno::$name => $text,)* }
            }
        }
    };
}

errnos! {
    /// The handle lacks the right that the operation needs.
    EPERM = 1, "operation not permitted: the handle lacks the right";
    /// Nothing has this name or id.
    ENOENT = 2, "no such entry";
    /// No process or thread has this id, or it is gone.
    ESRCH = 3, "no such process";
    /// A virtual interrupt or a kill ended the wait.
    EINTR = 4, "interrupted";
    /// The device did not answer as it should.
    EIO = 5, "input/output error";
    /// An argument list or startup block is too long.
    E2BIG = 7, "argument list too long";
    /// The file is not a program that can be run.
    ENOEXEC = 8, "not an executable";
    /// The handle names no object, or an object of another kind.
    EBADF = 9, "bad handle";
    /// Try again: the operation would have to wait.
    EAGAIN = 11, "try again";
    /// Memory, or a limit on it, is exhausted.
    ENOMEM = 12, "out of memory";
    /// The protection asked for exceeds the rights on the object.
    EACCES = 13, "access denied";
    /// A pointer does not name readable (or writable) memory of the caller.
    EFAULT = 14, "bad address";
    /// The object is in use, or the word compared did not have the value expected.
    EBUSY = 16, "busy";
    /// It exists already.
    EEXIST = 17, "already exists";
    /// The machine lacks the device or CPU feature.
    ENODEV = 19, "no such device";
    /// An argument is out of its range, misaligned, or has reserved bits set.
    EINVAL = 22, "invalid argument";
    /// The process has no free handle slot.
    EMFILE = 24, "too many handles";
    /// An offset or size lies outside the object.
    ERANGE = 34, "out of range";
    /// No system call has this number.
    ENOSYS = 38, "no such system call";
    /// The peer of a channel is gone.
    EPIPE = 32, "peer is gone";
    /// The feature is not built in or is turned off.
    EOPNOTSUPP = 95, "not supported";
    /// The time-out passed first.
    ETIMEDOUT = 110, "timed out";
}

impl Errno {
    /// The value of `rax` that reports this error.
    #[must_use]
    pub const fn to_result(self) -> i64 {
        -(self as u16 as i64)
    }

    /// Splits the value of `rax` into success and error. Numbers that no error has become [`Errno::EIO`].
    ///
    /// # Errors
    /// The error that a value in `-4095..=-1` encodes.
    pub const fn decode(result: i64) -> Result<u64, Errno> {
        if result < 0 && result >= -4095 {
            match Self::from_number((-result) as u16) {
                Some(errno) => Err(errno),
                None => Err(Errno::EIO),
            }
        } else {
            Ok(result as u64)
        }
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "{} ({self:?})", self.text())
    }
}
