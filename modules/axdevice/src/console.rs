// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A VM's console: the characters between its serial devices and the host.
//!
//! Output goes straight to the host's [`ConsoleOutput`]. Input waits in a
//! bounded queue until a device or a firmware call takes it; when something
//! arrives, the listener (the UART) is told, so that it can raise its line.
//! A full queue refuses bytes, and the caller keeps them: nothing is lost.
//!
//! Lock order: a device's own lock, then the console's. So `push_input` may not
//! be called from inside [`ConsoleOutput::write`], which runs under the device's
//! lock, nor from an interrupt handler of a CPU that may hold it.

use alloc::{collections::VecDeque, sync::Arc, sync::Weak};

use spin::Mutex;

/// How much input waits for a guest that does not read.
const INPUT_BYTES_MAX: usize = 4096;

/// Where a VM's output goes.
pub trait ConsoleOutput: Send + Sync {
    /// Takes bytes as the guest wrote them.
    fn write(&self, bytes: &[u8]);
}

/// Who wants to know that input has arrived.
pub trait InputListener: Send + Sync {
    /// Is called, without the console's lock, after input was queued.
    fn input_ready(&self);
}

/// The two directions of one VM's console.
pub struct Console {
    output: Arc<dyn ConsoleOutput>,
    input: Mutex<VecDeque<u8>>,
    listener: Mutex<Option<Weak<dyn InputListener>>>,
}

impl Console {
    /// Makes a console that writes to `output` and has no input yet.
    pub fn new(output: Arc<dyn ConsoleOutput>) -> Self {
        Self {
            output,
            input: Mutex::new(VecDeque::new()),
            listener: Mutex::new(None),
        }
    }

    /// Names the one device that is told about input; a later call replaces it,
    /// as when a restarted VM gets new devices on the same console.
    pub fn listen(&self, listener: Weak<dyn InputListener>) {
        *self.listener.lock() = Some(listener);
    }

    /// Writes the guest's bytes to the host.
    pub fn write(&self, bytes: &[u8]) {
        self.output.write(bytes);
    }

    /// Queues input from the host and returns how many bytes found room.
    pub fn push_input(&self, bytes: &[u8]) -> usize {
        let taken = {
            let mut input = self.input.lock();
            let room = INPUT_BYTES_MAX.saturating_sub(input.len());
            let taken = bytes.len().min(room);
            input.extend(bytes.iter().take(taken));
            taken
        };
        self.tell_listener();
        taken
    }

    /// Takes the next input byte.
    pub fn take_input(&self) -> Option<u8> {
        self.input.lock().pop_front()
    }

    /// Tells whether input waits.
    pub fn has_input(&self) -> bool {
        !self.input.lock().is_empty()
    }

    /// Calls the listener with no lock of the console held: it takes its own
    /// lock and then comes back for the input.
    fn tell_listener(&self) {
        let listener = self.listener.lock().as_ref().and_then(Weak::upgrade);
        if let Some(listener) = listener {
            listener.input_ready();
        }
    }
}
