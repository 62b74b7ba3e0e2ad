// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Entries that are refused: each rule with a value that breaks it.
//!
//! Fields are written by their encodings, so that those of the reports are the
//! manual's.

use axvm::HostPhysAddr;

use crate::{
    exit::Exit,
    frame::Frame,
    regs::{Msr, set_cpuid, write_msr},
    vmx::{
        cpu,
        fields::INSTRUCTION_ERROR,
        tests::{FAILED, bound, enter, leave, state},
        vmcs,
    },
};

const CONTROL: u32 = 7;
const HOST: u32 = 8;
const NOT_CANONICAL: u64 = 1 << 47;
const ALL_MAY_BE_ONE: u64 = (u32::MAX as u64) << 32;
/// An event is to be delivered.
const VALID: u64 = 1 << 31;

/// What an exit restores of a CPU that is as it should be; and nothing to deliver.
const GOOD: [(u32, u64); 10] = [
    (0x4016, 0),
    (0x4018, 0),
    (0x401c, 0),
    (0x6c00, 0x8000_0021),
    (0x6c02, 0x20_0000),
    (0x6c04, 1 << 5),
    (0x2c00, 0x0007_0406_0007_0406),
    (0x2c02, 5 << 8),
    (0x0c02, 8),
    (0x0c0c, 0x28),
];

/// Refuses an entry after something was spoilt, and returns the field that is named.
fn refused(error: u32, spoil: impl FnOnce()) -> u64 {
    set_cpuid(0x8000_0008, 0, [48, 0, 0, 0]);
    let mut vmx = bound(&state());
    // A CPU that keeps the upper half of CR0 zero.
    write_msr(Msr(0x487), u32::MAX.into());
    vmx.set_nested_root(HostPhysAddr::from_usize(0x30_0000));
    for (encoding, value) in GOOD {
        cpu::write(encoding, value);
    }
    spoil();
    vmcs::write(INSTRUCTION_ERROR, error);
    match enter(&mut vmx, &mut Frame::default()) {
        Exit::Failed(code) => {
            assert_eq!(code as u32, error);
            code >> 32
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_field_of_the_host_that_was_wrong_is_named() {
    assert_eq!(refused(HOST, || {}), 0, "none that is known here");
    for (encoding, value) in [
        (0x6c00, 1 << 32),
        (0x6c02, 1 << 48),
        (0x6c04, 0),
        (0x2c00, 2),
        (0x2c02, 1 << 8),
        (0x0c00, 3),
        (0x0c02, 0),
        (0x0c04, 4),
        (0x0c06, 1),
        (0x0c08, 2),
        (0x0c0a, 7),
        (0x0c0c, 0),
        (0x6c06, NOT_CANONICAL),
        (0x6c08, NOT_CANONICAL),
        (0x6c0a, NOT_CANONICAL),
        (0x6c0c, NOT_CANONICAL),
        (0x6c0e, NOT_CANONICAL),
        (0x6c10, NOT_CANONICAL),
        (0x6c12, NOT_CANONICAL),
        (0x6c16, NOT_CANONICAL),
    ] {
        let named = refused(HOST, || cpu::write(encoding, value));
        assert_eq!(named, encoding.into(), "{encoding:x}");
    }
}

#[test]
fn the_control_that_was_wrong_is_named() {
    assert_eq!(refused(CONTROL, || {}), 0, "none that is known here");
    for (encoding, value) in [
        (0x2004, 1),
        (0x2012, 1 << 48),
        (0x401c, 0x10),
        (0x0000, 0),
        (0x201a, 0x30_0000),
        (0x201a, 0x30_009e),
        (0x201a, 1 << 48 | 0x1e),
        (0x4016, VALID | 1 << 8 | 3),
        (0x4016, VALID | 2 << 8 | 3),
        (0x4016, VALID | 3 << 8 | 32),
        (0x4016, VALID | 1 << 12 | 3),
        (0x4016, VALID | 1 << 11 | 3),
        (0x4016, VALID | 1 << 11 | 3 << 8 | 13),
    ] {
        let named = refused(CONTROL, || cpu::write(encoding, value));
        assert_eq!(named, encoding.into(), "{encoding:x} {value:x}");
    }
    let named = refused(CONTROL, || {
        cpu::write(0x6800, 1);
        cpu::write(0x4016, VALID | 1 << 11 | 3 << 8 | 13);
        cpu::write(0x4018, 1 << 16);
    });
    assert_eq!(named, 0x4018, "an error code of more than 15 bits");
}

#[test]
fn controls_that_do_not_go_together_are_named() {
    const PIN: u32 = 0x4000;
    const PRIMARY: u32 = 0x4002;
    const SECONDARY: u32 = 0x401e;
    let change = |encoding: u32, set: u64, clear: u64| {
        cpu::write(encoding, cpu::read(encoding) & !clear | set);
    };
    for (encoding, set, clear, why) in [
        (PIN, 0, 1 << 3, "virtual NMIs without exits for NMIs"),
        (SECONDARY, 1 << 4 | 1, 0, "x2APIC and accesses to the page"),
        (SECONDARY, 0, 1 << 1, "unrestricted without EPT"),
    ] {
        let named = refused(CONTROL, || change(encoding, set, clear));
        assert_eq!(named, encoding.into(), "{why}");
    }
    let named = refused(CONTROL, || {
        change(PIN, 0, 1 << 5);
        change(PRIMARY, 1 << 22, 0);
    });
    assert_eq!(
        named,
        PRIMARY.into(),
        "a window for NMIs that are not virtual"
    );
    let named = refused(CONTROL, || {
        change(PIN, 0, 1);
        change(SECONDARY, 1 << 9, 0);
    });
    assert_eq!(named, PIN.into(), "delivery without exits for interrupts");
    let named = refused(CONTROL, || {
        change(PRIMARY, 0, 1 << 21);
        change(SECONDARY, 1 << 8, 0);
    });
    assert_eq!(named, SECONDARY.into(), "registers without a TPR shadow");
    let named = refused(CONTROL, || {
        change(SECONDARY, 0, 1);
        cpu::write(0x401c, 1);
    });
    assert_eq!(named, 0x401c, "a threshold above the task priority");
    let must_be_one = ALL_MAY_BE_ONE | 1 << 1;
    let named = refused(CONTROL, || write_msr(Msr(0x48e), must_be_one));
    assert_eq!(named, PRIMARY.into(), "a bit that this CPU keeps one");
}

#[test]
fn of_a_list_of_registers_the_entry_that_failed_is_named() {
    let mut vmx = bound(&state());
    assert_eq!(leave(&mut vmx, FAILED | 34, 3), Exit::Failed(3 << 32 | 34));
}
