// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! An interrupt file as its hart's CSRs show it.
//!
//! Called when a guest's access to one of these CSRs traps: sireg and stopei
//! where the hardware has no guest file for the vCPU, siselect and stopi too
//! where it has no AIA at all. What the guest's own hardware would refuse is
//! [`IllegalAccess`]: the guest takes an illegal-instruction exception.
//!
//! Spec: RISC-V Advanced Interrupt Architecture 1.0, "Supervisor-level CSRs",
//! "Indirectly accessed interrupt-file registers", "VS-level external
//! interrupts without a guest interrupt file".

use tock_registers::register_bitfields;

pub use super::file::{Array, Operation};

use super::file::InterruptFile;

register_bitfields![u64,
    STOPI [
        IDENTITY OFFSET(16) NUMBITS(12) [],
        PRIORITY OFFSET(0) NUMBITS(8) []
    ]
];

/// A CSR of the supervisor level's interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Csr {
    /// Which register sireg is.
    Siselect,
    /// The register that siselect says.
    Sireg,
    /// The next external interrupt; a write claims it.
    Stopei,
    /// The next interrupt of all.
    Stopi,
}

impl Csr {
    /// Returns the CSR of a number.
    pub fn of(number: u16) -> Option<Self> {
        match number {
            0x150 => Some(Self::Siselect),
            0x151 => Some(Self::Sireg),
            0x15c => Some(Self::Stopei),
            0xdb0 => Some(Self::Stopi),
            _ => None,
        }
    }
}

/// An access that raises an illegal-instruction exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IllegalAccess;

/// A hart's state that is not in its file.
#[derive(Clone, Copy, Debug, Default)]
pub struct HartView {
    /// siselect, which the access may change.
    pub select: u64,
    /// The interrupts that are both pending and enabled, as sip and sie number them.
    pub interrupts: u64,
}

/// A register behind sireg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Indirect {
    Delivery,
    Threshold,
    Array(Array, usize),
    /// Registers that are zero: reserved ones, and the priorities of major
    /// interrupts, which cannot be changed.
    Zero,
}

impl Indirect {
    /// Returns the register that a selection names in 64-bit mode, where there
    /// are only the even ones of each array.
    fn at(select: u64) -> Option<Self> {
        let index = |base: u64| (select.wrapping_sub(base) / 2) as usize;
        let is_odd = !select.is_multiple_of(2);
        match select {
            0x30..=0x3f | 0x80.. if is_odd => None,
            0x70 => Some(Self::Delivery),
            0x72 => Some(Self::Threshold),
            0x30..=0x3f | 0x71..=0x7f => Some(Self::Zero),
            0x80..=0xbf => Some(Self::Array(Array::Pending, index(0x80))),
            0xc0..=0xff => Some(Self::Array(Array::Enabled, index(0xc0))),
            _ => None,
        }
    }
}

/// What siselect can hold.
const SELECT_MASK: u64 = 0x1ff;

/// Does what a CSR instruction does; returns what was in the register.
///
/// # Errors
///
/// The access is refused as the guest's hart would refuse it.
pub fn access(
    file: &InterruptFile,
    hart: &mut HartView,
    csr: Csr,
    operation: Operation,
) -> Result<u64, IllegalAccess> {
    match csr {
        Csr::Siselect => {
            let old = hart.select;
            hart.select = operation.of(old) & SELECT_MASK;
            Ok(old)
        }
        Csr::Sireg => {
            let register = Indirect::at(hart.select).ok_or(IllegalAccess)?;
            Ok(indirect(file, register, operation))
        }
        Csr::Stopei => Ok(top(file, operation)),
        Csr::Stopi if operation == Operation::Read => Ok(top_of_all(hart.interrupts)),
        Csr::Stopi => Err(IllegalAccess),
    }
}

fn indirect(file: &InterruptFile, register: Indirect, operation: Operation) -> u64 {
    match register {
        Indirect::Zero => 0,
        Indirect::Array(array, index) => file.array(array, index, operation),
        Indirect::Delivery => {
            let old = u64::from(file.is_delivering());
            file.deliver(operation.of(old));
            old
        }
        Indirect::Threshold => {
            let old = file.threshold();
            file.set_threshold(operation.of(old));
            old
        }
    }
}

/// Reads stopei, and claims with whatever is written.
fn top(file: &InterruptFile, operation: Operation) -> u64 {
    match operation {
        Operation::Read => file.top(),
        _ => file.claim(),
    }
    .into()
}

/// The supervisor's interrupts from the most to the least urgent: external,
/// software, timer, counter overflow.
const BY_DEFAULT_PRIORITY: [u32; 4] = [9, 1, 5, 13];

/// Returns stopi; priorities are all 1, as none can be set.
fn top_of_all(interrupts: u64) -> u64 {
    let is_ready = |number: &&u32| interrupts.wrapping_shr(**number) & 1 != 0;
    let first = BY_DEFAULT_PRIORITY.iter().find(is_ready);
    first.map_or(0, |&number| {
        STOPI::IDENTITY.val(number.into()).value | STOPI::PRIORITY.val(1).value
    })
}

/// Writes registers by their selections, for tests.
#[cfg(test)]
pub(super) fn write_all(file: &InterruptFile, registers: &[(u64, u64)]) {
    for &(select, value) in registers {
        let mut hart = HartView {
            select,
            interrupts: 0,
        };
        access(file, &mut hart, Csr::Sireg, Operation::Write(value)).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Identities;
    use super::*;
    use proptest::prelude::*;

    fn file() -> InterruptFile {
        InterruptFile::new(Identities::VIRT)
    }

    fn sireg(
        file: &InterruptFile,
        select: u64,
        operation: Operation,
    ) -> Result<u64, IllegalAccess> {
        let mut hart = HartView {
            select,
            interrupts: 0,
        };
        access(file, &mut hart, Csr::Sireg, operation)
    }

    #[test]
    fn siselect_holds_nine_bits() {
        let mut hart = HartView::default();
        let (file, ones) = (file(), Operation::Write(u64::MAX));
        assert_eq!(access(&file, &mut hart, Csr::Siselect, ones), Ok(0));
        let clear = Operation::Clear(0xf);
        assert_eq!(access(&file, &mut hart, Csr::Siselect, clear), Ok(0x1ff));
        assert_eq!(hart.select, 0x1f0);
    }

    #[test]
    fn each_register_holds_what_it_has_bits_for() {
        let file = file();
        let kept = |select| {
            sireg(&file, select, Operation::Write(u64::MAX)).unwrap();
            sireg(&file, select, Operation::Read).unwrap()
        };
        let selects = [0x70, 0x72, 0x80, 0x82, 0x86, 0xc0, 0xc2, 0xc6];
        assert_eq!(selects.map(kept), [1, 0x7ff, !1, !0, !0, !1, !0, !0]);
        for select in [0x30, 0x3e, 0x71, 0x73, 0x7f, 0x88, 0xbe, 0xc8, 0xfe] {
            assert_eq!(kept(select), 0, "{select:#x}");
        }
    }

    #[test]
    fn registers_that_do_not_exist_are_illegal() {
        for select in [
            0, 0x2f, 0x31, 0x3f, 0x40, 0x6f, 0x81, 0xbf, 0xc1, 0xff, 0x100, 0x1ff,
        ] {
            let read = sireg(&file(), select, Operation::Read);
            assert_eq!(read, Err(IllegalAccess), "{select:#x}");
        }
    }

    #[test]
    fn delivery_by_wire_is_not_supported() {
        let file = file();
        sireg(&file, 0x70, Operation::Write(0x4000_0000)).unwrap();
        assert_eq!(sireg(&file, 0x70, Operation::Read), Ok(0));
    }

    #[test]
    fn set_and_clear_change_only_their_bits() {
        let file = file();
        assert_eq!(sireg(&file, 0xc2, Operation::Set(0xff)), Ok(0));
        assert_eq!(sireg(&file, 0xc2, Operation::Clear(0x0f)), Ok(0xff));
        assert_eq!(sireg(&file, 0xc2, Operation::Read), Ok(0xf0));
        assert_eq!(sireg(&file, 0x80, Operation::Set(0b111)), Ok(0));
        assert_eq!(sireg(&file, 0x80, Operation::Read), Ok(0b110));
    }

    #[test]
    fn writing_stopei_claims_and_reading_does_not() {
        let file = file();
        write_all(&file, &[(0x80, 0b1100), (0xc0, u64::MAX)]);
        let stopei = |operation| access(&file, &mut HartView::default(), Csr::Stopei, operation);
        assert_eq!(stopei(Operation::Read), Ok(0x2_0002));
        assert_eq!(stopei(Operation::Write(0)), Ok(0x2_0002));
        assert_eq!(stopei(Operation::Set(0)), Ok(0x3_0003));
        assert_eq!(stopei(Operation::Clear(0)), Ok(0));
    }

    #[test]
    fn stopi_has_the_default_order_and_cannot_be_written() {
        let stopi = |interrupts| {
            let mut hart = HartView {
                select: 0,
                interrupts,
            };
            access(&file(), &mut hart, Csr::Stopi, Operation::Read)
        };
        assert_eq!(stopi(0), Ok(0));
        assert_eq!(stopi((1 << 9) | (1 << 1) | (1 << 5)), Ok(0x9_0001));
        assert_eq!(stopi((1 << 1) | (1 << 5)), Ok(0x1_0001));
        assert_eq!(stopi((1 << 13) | (1 << 5)), Ok(0x5_0001));
        let write = access(
            &file(),
            &mut HartView::default(),
            Csr::Stopi,
            Operation::Write(0),
        );
        assert_eq!(write, Err(IllegalAccess));
    }

    #[test]
    fn the_numbers_are_the_supervisor_s() {
        let numbers = [0x150, 0x151, 0x15c, 0xdb0];
        assert!(numbers.iter().all(|&number| Csr::of(number).is_some()));
        assert_eq!((0..=u16::MAX).filter(|&n| Csr::of(n).is_some()).count(), 4);
    }

    proptest! {
        #[test]
        fn no_access_panics(select: u64, value: u64, number in 0_usize..4, kind in 0..4) {
            let csr = [Csr::Siselect, Csr::Sireg, Csr::Stopei, Csr::Stopi][number];
            let operation = match kind {
                0 => Operation::Read,
                1 => Operation::Write(value),
                2 => Operation::Set(value),
                _ => Operation::Clear(value),
            };
            for select in [select, select % 0x200] {
                let mut hart = HartView { select, interrupts: value };
                let _ = access(&file(), &mut hart, csr, operation);
            }
        }
    }
}
