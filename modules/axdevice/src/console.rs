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

use crate::Lock;

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
    input: Lock<VecDeque<u8>>,
    listener: Lock<Option<Weak<dyn InputListener>>>,
}

impl Console {
    /// Makes a console that writes to `output` and has no input yet.
    pub fn new(output: Arc<dyn ConsoleOutput>) -> Self {
        Self {
            output,
            input: Lock::new(VecDeque::new()),
            listener: Lock::new(None),
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

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use proptest::prelude::*;

    use super::*;
    use crate::testing::FakeOutput;

    #[derive(Default)]
    struct CountingListener(AtomicUsize);

    impl InputListener for CountingListener {
        fn input_ready(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn listening(console: &Console) -> Arc<CountingListener> {
        let listener = Arc::new(CountingListener::default());
        let weak: Weak<CountingListener> = Arc::downgrade(&listener);
        console.listen(weak);
        listener
    }

    fn drain(console: &Console) -> Vec<u8> {
        core::iter::from_fn(|| console.take_input()).collect()
    }

    #[test]
    fn output_goes_straight_to_the_host() {
        let (output, console) = FakeOutput::console();
        console.write(b"one ");
        console.write(b"two");
        assert_eq!(output.bytes(), b"one two");
    }

    #[test]
    fn input_waits_in_order_until_it_is_taken() {
        let (_, console) = FakeOutput::console();
        assert!(!console.has_input());
        assert_eq!(console.take_input(), None);
        assert_eq!(console.push_input(b"ab"), 2);
        assert!(console.has_input());
        assert_eq!(drain(&console), b"ab");
        assert!(!console.has_input());
    }

    #[test]
    fn a_full_queue_refuses_what_does_not_fit_and_says_so() {
        let (_, console) = FakeOutput::console();
        let typed = [b'x'; INPUT_BYTES_MAX + 5];
        assert_eq!(console.push_input(&typed), INPUT_BYTES_MAX);
        assert_eq!(console.push_input(b"y"), 0);
        console.take_input();
        assert_eq!(console.push_input(b"yz"), 1);
        let waiting = drain(&console);
        assert_eq!(waiting.len(), INPUT_BYTES_MAX);
        assert_eq!(waiting.last(), Some(&b'y'));
    }

    #[test]
    fn the_listener_is_told_and_may_come_back_for_the_input() {
        struct Taker(Arc<Console>, Lock<Vec<u8>>);
        impl InputListener for Taker {
            fn input_ready(&self) {
                self.1.lock().extend(drain(&self.0));
            }
        }
        let (_, console) = FakeOutput::console();
        let taker = Arc::new(Taker(console.clone(), Lock::default()));
        let weak: Weak<Taker> = Arc::downgrade(&taker);
        console.listen(weak);
        console.push_input(b"abc");
        assert_eq!(*taker.1.lock(), b"abc");
    }

    #[test]
    fn the_latest_listener_is_told_and_a_gone_one_is_not_missed() {
        let (_, console) = FakeOutput::console();
        let first = listening(&console);
        console.push_input(b"a");
        let second = listening(&console);
        console.push_input(b"b");
        assert_eq!((first.0.load(Relaxed), second.0.load(Relaxed)), (1, 1));
        drop(second);
        assert_eq!(console.push_input(b"c"), 1);
        assert_eq!(drain(&console), b"abc");
    }

    proptest! {
        #[test]
        fn what_was_accepted_arrives_in_order_and_the_queue_is_bounded(
            steps in prop::collection::vec((0..3000usize, 0..3000usize), 0..20),
        ) {
            let (_, console) = FakeOutput::console();
            let mut accepted = Vec::new();
            let mut taken = Vec::new();
            let mut next = (0..=250u8).cycle();
            for (pushed, asked) in steps {
                let bytes: Vec<u8> = next.by_ref().take(pushed).collect();
                let fits = console.push_input(&bytes);
                let room = INPUT_BYTES_MAX - (accepted.len() - taken.len());
                prop_assert_eq!(fits, pushed.min(room));
                accepted.extend_from_slice(&bytes[..fits]);
                taken.extend(core::iter::from_fn(|| console.take_input()).take(asked));
            }
            taken.extend(drain(&console));
            prop_assert_eq!(taken, accepted);
        }
    }
}
