//! The server's state: parked calls, input, and the process that the interrupt key kills.

use crate::uart::{INTERRUPT_BIT, Uart};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use dragonet_abi::Errno;
use dragonet_abi::handle::ObjectKind;
use dragonet_abi::memory::Protection;
use dragonet_abi::time::FOREVER;
use dragonet_rt::channel::{Call, Server};
use dragonet_rt::console_protocol as protocol;
use dragonet_rt::memory::Mapping;
use dragonet_rt::{OwnedHandle, syscall, time};

/// Bytes of input kept while nobody reads; what comes on top is lost.
const MAX_INPUT: usize = 4096;
/// The interrupt key, Ctrl-C.
const INTERRUPT_KEY: u8 = 3;

/// Output on its way to the device.
struct Output {
    bytes: Vec<u8>,
    sent: usize,
    /// Answered when everything is sent; `None` for the server's own output.
    call: Option<Call>,
}

/// A read that waits for input.
struct Reader {
    call: Call,
    most: usize,
    deadline: u64,
}

/// The console.
pub struct Console {
    uart: Uart,
    output: VecDeque<Output>,
    input: VecDeque<u8>,
    readers: VecDeque<Reader>,
    foreground: Option<OwnedHandle>,
}

impl Console {
    pub fn new(uart: Uart) -> Self {
        Console {
            uart,
            output: VecDeque::with_capacity(16),
            input: VecDeque::with_capacity(MAX_INPUT),
            readers: VecDeque::new(),
            foreground: None,
        }
    }

    /// Serves until something is wrong; `EPIPE` when there are no clients any more.
    pub fn serve(mut self, server: &Server) -> Errno {
        loop {
            let outcome = match server.receive(self.patience()) {
                Ok(call) => {
                    self.handle(call);
                    Ok(())
                }
                Err(Errno::EINTR | Errno::ETIMEDOUT) => Ok(()),
                Err(errno) => Err(errno),
            };
            if let Err(errno) = outcome.and_then(|()| self.attend()) {
                return errno;
            }
        }
    }

    /// Nanoseconds until the first reader's time is over.
    fn patience(&self) -> u64 {
        let deadline = self
            .readers
            .iter()
            .map(|reader| reader.deadline)
            .min()
            .unwrap_or(FOREVER);
        if deadline == FOREVER {
            FOREVER
        } else {
            deadline.saturating_sub(time::now_nanoseconds())
        }
    }

    fn handle(&mut self, mut call: Call) {
        let (operation, length) = protocol::split_call(call.label());
        match operation {
            protocol::WRITE_INLINE => {
                let bytes = &protocol::unpack(call.words())[..length.min(protocol::INLINE_BYTES)];
                self.print(bytes, Some(call));
            }
            protocol::WRITE_OBJECT => match granted(&mut call) {
                Ok(bytes) => self.print(&bytes, Some(call)),
                Err(errno) => reply(call, Err(errno)),
            },
            protocol::READ => {
                let [most, timeout, ..] = *call.words();
                let most = usize::try_from(most)
                    .unwrap_or(usize::MAX)
                    .min(protocol::INLINE_BYTES);
                if most == 0 {
                    return reply(call, Err(Errno::EINVAL));
                }
                let deadline = match timeout {
                    FOREVER => FOREVER,
                    _ => time::now_nanoseconds().saturating_add(timeout),
                };
                self.readers.push_back(Reader { call, most, deadline });
            }
            protocol::SET_FOREGROUND => {
                self.foreground = call.take_handle();
                let outcome = if self.foreground.is_some() {
                    Ok(0)
                } else {
                    Err(Errno::EBADF)
                };
                reply(call, outcome);
            }
            protocol::CLEAR_FOREGROUND => {
                self.foreground = None;
                reply(call, Ok(0));
            }
            _ => reply(call, Err(Errno::ENOSYS)),
        }
    }

    /// Queues output.
    fn print(&mut self, text: &[u8], call: Option<Call>) {
        let mut bytes = Vec::with_capacity(text.len() + 8);
        for byte in text {
            if *byte == b'\n' {
                bytes.push(b'\r');
            }
            bytes.push(*byte);
        }
        self.output.push_back(Output { bytes, sent: 0, call });
    }

    /// Moves everything that can move: input from the device, output to it, input to readers.
    fn attend(&mut self) -> Result<(), Errno> {
        let interrupted = syscall::virq_take(1 << INTERRUPT_BIT)? != 0;
        self.receive()?;
        if interrupted {
            self.uart.acknowledge()?;
            self.receive()?;
        }
        self.transmit()?;
        self.deliver();
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Errno> {
        while let Some(byte) = self.uart.receive()? {
            if byte == INTERRUPT_KEY
                && let Some(process) = self.foreground.take()
                && syscall::process_kill(process.get(), protocol::INTERRUPTED_STATUS).is_ok()
            {
                self.print(b"^C\n", None);
            } else if self.input.len() < MAX_INPUT {
                self.input.push_back(byte);
            }
        }
        Ok(())
    }

    fn transmit(&mut self) -> Result<(), Errno> {
        while let Some(output) = self.output.front_mut() {
            if output.sent < output.bytes.len() {
                let count = self.uart.transmit(&output.bytes[output.sent..])?;
                output.sent += count;
                if count == 0 {
                    // The interrupt is asked for only now; if the transmitter has become empty meanwhile, it comes at once.
                    return self.uart.notify_when_empty(true);
                }
            } else if let Some(call) = self.output.pop_front().and_then(|output| output.call) {
                reply(call, Ok(0));
            }
        }
        self.uart.notify_when_empty(false)
    }

    /// Answers readers, those first who have waited longest.
    fn deliver(&mut self) {
        while !self.input.is_empty()
            && let Some(Reader { call, most, .. }) = self.readers.pop_front()
        {
            let count = self.input.len().min(most);
            let bytes: Vec<u8> = self.input.drain(..count).collect();
            if call
                .reply(protocol::reply_label(Ok(count)), protocol::pack(&bytes))
                .is_err()
            {
                // The reader is gone; the next one gets what was typed.
                for byte in bytes.into_iter().rev() {
                    self.input.push_front(byte);
                }
            }
        }
        let now = time::now_nanoseconds();
        let (over, waiting) = self.readers.drain(..).partition(|reader| reader.deadline <= now);
        self.readers = waiting;
        let over: VecDeque<Reader> = over;
        for reader in over {
            reply(reader.call, Err(Errno::ETIMEDOUT));
        }
    }
}

/// Answers a call; if the caller is gone, there is nobody to tell.
fn reply(call: Call, outcome: Result<usize, Errno>) {
    let _ = call.reply(protocol::reply_label(outcome), [0; 6]);
}

/// The bytes of a write by memory object.
fn granted(call: &mut Call) -> Result<Vec<u8>, Errno> {
    let [length, offset, ..] = *call.words();
    let object = call.take_handle().ok_or(Errno::EBADF)?;
    let info = object.info()?;
    let end = offset.checked_add(length).ok_or(Errno::ERANGE)?;
    if info.kind != ObjectKind::Memory as u32 {
        return Err(Errno::EBADF);
    }
    if length > protocol::OBJECT_BYTES as u64 || end > info.size {
        return Err(Errno::ERANGE);
    }
    let mapping = Mapping::of_object(object.get(), 0, end.max(1), Protection::READ)?;
    let mut bytes = alloc::vec![0; length as usize];
    mapping.read(offset, &mut bytes)?;
    Ok(bytes)
}
