// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! DBCN: the debug console, which is the VM's own console.
//!
//! Ranges are checked here; axvm moves the bytes, a bounded number in a call.
//!
//! Spec: SBI, "Debug Console Extension (EID #0x4442434E \"DBCN\")".

use axvm::{ConsoleCall, GuestPhysAddr};
use sbi_spec::dbcn::{CONSOLE_READ, CONSOLE_WRITE, CONSOLE_WRITE_BYTE};

use super::{Answer, Call, Hart, Outcome};

pub(super) fn answer(hart: &mut dyn Hart, call: &Call) -> Outcome {
    let [first, ..] = call.args;
    match call.function as usize {
        CONSOLE_WRITE => with_range(hart, call, |from, size_bytes| ConsoleCall::Write {
            from,
            size_bytes,
        }),
        CONSOLE_READ => with_range(hart, call, |to, size_bytes| ConsoleCall::Read {
            to,
            size_bytes,
        }),
        CONSOLE_WRITE_BYTE => {
            let byte = first as u8;
            Outcome::console(ConsoleCall::Put { byte }, Answer::Value)
        }
        _ => Outcome::not_supported(),
    }
}

fn with_range(
    hart: &dyn Hart,
    call: &Call,
    make: fn(GuestPhysAddr, usize) -> ConsoleCall,
) -> Outcome {
    let [size, low, high, ..] = call.args;
    let start = GuestPhysAddr::from_usize(low as usize);
    let size_bytes = size as usize;
    if high != 0 || !hart.is_ram(start, size_bytes) {
        return Outcome::invalid_param();
    }
    Outcome::console(make(start, size_bytes), Answer::Value)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeHart, RAM_BYTES, RAM_START, call};
    use super::*;
    use sbi_spec::dbcn::EID_DBCN;

    fn ask(function: usize, args: &[u64]) -> Outcome {
        call(&mut FakeHart::default(), EID_DBCN, function, args)
    }

    #[test]
    fn ranges_in_ram_go_to_the_console() {
        let from = GuestPhysAddr::from_usize(RAM_START as usize);
        let write = ConsoleCall::Write {
            from,
            size_bytes: 5,
        };
        let expected = Outcome::console(write, Answer::Value);
        assert_eq!(ask(CONSOLE_WRITE, &[5, RAM_START, 0]), expected);
        let read = ConsoleCall::Read {
            to: from,
            size_bytes: 5,
        };
        let expected = Outcome::console(read, Answer::Value);
        assert_eq!(ask(CONSOLE_READ, &[5, RAM_START, 0]), expected);
    }

    #[test]
    fn ranges_that_leave_ram_are_refused() {
        for args in [
            [5, 0x1000, 0],
            [5, RAM_START, 1],
            [RAM_BYTES + 1, RAM_START, 0],
            [u64::MAX, RAM_START, 0],
            [2, u64::MAX, 0],
        ] {
            assert_eq!(ask(CONSOLE_WRITE, &args), Outcome::invalid_param());
            assert_eq!(ask(CONSOLE_READ, &args), Outcome::invalid_param());
        }
    }

    #[test]
    fn a_byte_is_the_low_one() {
        let put = ConsoleCall::Put { byte: 0x41 };
        let expected = Outcome::console(put, Answer::Value);
        assert_eq!(ask(CONSOLE_WRITE_BYTE, &[0x1_0041]), expected);
    }
}
