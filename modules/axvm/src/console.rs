// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Firmware calls that use the VM's console.
//!
//! Answered in the vCPU's thread with nothing locked and preemption on, since
//! the host's end of a console may make its caller wait. One call moves a bounded
//! number of bytes; every such interface lets a call take fewer than were offered.

use axdevice::{Console, GuestMemory};
use axvm_types::GuestPhysAddr;

use crate::ConsoleCall;

/// How many bytes one call moves at most.
const BYTES_MAX: usize = 256;
/// The answer when no input waits.
const NO_INPUT: u64 = u64::MAX;

/// Does what a guest wants of its console and returns the answer.
pub(crate) fn answer(call: ConsoleCall, console: &Console, ram: &dyn GuestMemory) -> u64 {
    match call {
        ConsoleCall::Write { from, size_bytes } => write(console, ram, from, size_bytes),
        ConsoleCall::Read { to, size_bytes } => read(console, ram, to, size_bytes),
        ConsoleCall::Put { byte } => {
            console.write(&[byte]);
            0
        }
        ConsoleCall::Get => console.take_input().map_or(NO_INPUT, u64::from),
    }
}

fn write(console: &Console, ram: &dyn GuestMemory, from: GuestPhysAddr, size_bytes: usize) -> u64 {
    let mut buffer = [0; BYTES_MAX];
    let Some(bytes) = buffer.get_mut(..size_bytes.min(BYTES_MAX)) else {
        return 0;
    };
    if ram.read(from, bytes).is_err() {
        return 0;
    }
    console.write(bytes);
    bytes.len() as u64
}

fn read(console: &Console, ram: &dyn GuestMemory, to: GuestPhysAddr, size_bytes: usize) -> u64 {
    let mut buffer = [0; BYTES_MAX];
    let waiting = core::iter::from_fn(|| console.take_input());
    let slots = buffer.iter_mut().take(size_bytes);
    let taken = slots.zip(waiting).map(|(slot, byte)| *slot = byte).count();
    let written = buffer.get(..taken).map(|bytes| ram.write(to, bytes));
    match written {
        Some(Ok(())) => taken as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use axdevice::{ConsoleOutput, OutsideRam};
    use std::{sync::Arc, sync::Mutex, vec::Vec};

    #[derive(Default)]
    struct Screen(Mutex<Vec<u8>>);

    impl ConsoleOutput for Screen {
        fn write(&self, bytes: &[u8]) {
            self.0.lock().unwrap().extend(bytes);
        }
    }

    /// RAM from 0 on.
    struct Memory(Mutex<[u8; 1024]>);

    impl GuestMemory for Memory {
        fn read(&self, from: GuestPhysAddr, to: &mut [u8]) -> Result<(), OutsideRam> {
            let start = from.as_usize();
            to.copy_from_slice(&self.0.lock().unwrap()[start..start + to.len()]);
            Ok(())
        }

        fn write(&self, to: GuestPhysAddr, from: &[u8]) -> Result<(), OutsideRam> {
            let start = to.as_usize();
            self.0.lock().unwrap()[start..start + from.len()].copy_from_slice(from);
            Ok(())
        }
    }

    fn parts() -> (Arc<Screen>, Console, Memory) {
        let screen = Arc::new(Screen::default());
        let console = Console::new(screen.clone());
        (screen, console, Memory(Mutex::new([b'x'; 1024])))
    }

    const AT: GuestPhysAddr = GuestPhysAddr::from_usize(16);

    #[test]
    fn a_long_write_is_taken_in_parts() {
        let (screen, console, ram) = parts();
        let call = |size_bytes| ConsoleCall::Write {
            from: AT,
            size_bytes,
        };
        assert_eq!(answer(call(3), &console, &ram), 3);
        assert_eq!(answer(call(1000), &console, &ram), BYTES_MAX as u64);
        assert_eq!(screen.0.lock().unwrap().len(), 3 + BYTES_MAX);
    }

    #[test]
    fn a_read_takes_what_waits_and_no_more_than_fits() {
        let (_, console, ram) = parts();
        console.push_input(b"hello");
        let call = |size_bytes| ConsoleCall::Read { to: AT, size_bytes };
        assert_eq!(answer(call(2), &console, &ram), 2);
        assert_eq!(answer(call(100), &console, &ram), 3);
        assert_eq!(answer(call(100), &console, &ram), 0);
        assert_eq!(&ram.0.lock().unwrap()[16..20], b"llox");
    }

    #[test]
    fn bytes_come_and_go_one_by_one() {
        let (screen, console, ram) = parts();
        assert_eq!(answer(ConsoleCall::Put { byte: b'!' }, &console, &ram), 0);
        assert_eq!(*screen.0.lock().unwrap(), b"!");
        assert_eq!(answer(ConsoleCall::Get, &console, &ram), NO_INPUT);
        console.push_input(b"a");
        assert_eq!(answer(ConsoleCall::Get, &console, &ram), u64::from(b'a'));
    }
}
