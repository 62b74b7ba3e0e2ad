// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What this CPU's SVM has, and switching it on.
//!
//! Spec: AMD64 APM 3, CPUID Fn8000_000A; APM 2, "Enabling SVM", VM_CR.

use axvm::{Error, Result};
use bitflags::bitflags;

use crate::regs::{self, EFER, Leaf, Msr};

const HYPERVISOR: u32 = 0x4000_0000;
const EXTENDED_FEATURES: u32 = 0x8000_0001;
const SVM_FEATURES: u32 = 0x8000_000a;
/// In ecx of the extended features.
const HAS_SVM: u32 = 1 << 2;
/// In edx of the same leaf.
const HAS_HUGE_PAGES: u32 = 1 << 26;
/// How QEMU's emulation calls itself.
const EMULATION: [u8; 12] = *b"TCGTCGTCGTCG";
/// In VM_CR: firmware has switched SVM off.
const SVM_DISABLED: u64 = 1 << 4;

bitflags! {
    /// The bits of edx.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Offered: u32 {
        const NESTED_PAGING = 1 << 0;
        const NEXT_RIP = 1 << 3;
        const FLUSH_BY_ASID = 1 << 6;
        const DECODE_ASSISTS = 1 << 7;
    }
}

/// What a CPU's SVM has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// How many address spaces its TLB tells apart, the host's included.
    pub(crate) asids: u32,
    /// It says where the next instruction is.
    pub(crate) has_next_rip: bool,
    /// It has pages of 1 GiB.
    pub(crate) has_huge_pages: bool,
    /// It can forget one address space.
    pub(crate) has_flush_by_asid: bool,
    /// It says which bytes an instruction that faulted had.
    pub(crate) has_decode_assists: bool,
    /// It is QEMU's emulation, which differs from a CPU in two ways.
    ///
    /// It keeps the vector of an injected interrupt as an exception to come until
    /// something else replaces it, and delivers it again, interrupts closed or not,
    /// when it is kicked before that. What is a virtual interrupt comes once.
    ///
    /// It notes at each exit, without a lock, that no virtual interrupt waits any
    /// more, and by that can undo the note of another thread that the local APIC
    /// has an interrupt: that one would come with the next only. See `note_exit`.
    pub(crate) is_emulated: bool,
}

impl Features {
    /// Asks this CPU; refuses one that cannot run guests.
    pub(crate) fn detect() -> Result<Self> {
        let [_, _, ecx, edx] = regs::cpuid(EXTENDED_FEATURES, 0);
        if ecx & HAS_SVM == 0 {
            return Err(Error::Unsupported("it has neither SVM nor VMX"));
        }
        let [_, name @ ..] = regs::cpuid(HYPERVISOR, 0);
        Ok(Self {
            has_huge_pages: edx & HAS_HUGE_PAGES != 0,
            is_emulated: name.map(u32::to_le_bytes).as_flattened() == EMULATION,
            ..Self::of(regs::cpuid(SVM_FEATURES, 0))?
        })
    }

    fn of([_, ebx, _, edx]: Leaf) -> Result<Self> {
        let offered = Offered::from_bits_truncate(edx);
        if !offered.contains(Offered::NESTED_PAGING) {
            return Err(Error::Unsupported("its SVM has no nested paging"));
        }
        if ebx < 2 {
            return Err(Error::Unsupported(
                "its SVM has no address space identifiers",
            ));
        }
        Ok(Self {
            asids: ebx,
            has_next_rip: offered.contains(Offered::NEXT_RIP),
            has_flush_by_asid: offered.contains(Offered::FLUSH_BY_ASID),
            has_decode_assists: offered.contains(Offered::DECODE_ASSISTS),
            has_huge_pages: false,
            is_emulated: false,
        })
    }
}

/// Switches SVM on, if firmware lets it be used.
pub(crate) fn enable() -> Result<()> {
    if regs::read_msr(Msr::VM_CR) & SVM_DISABLED != 0 {
        return Err(Error::Unsupported("its firmware has switched SVM off"));
    }
    let efer = regs::read_msr(Msr::EFER);
    regs::write_msr(Msr::EFER, efer | EFER::SVME::SET.value);
    Ok(())
}

/// Switches SVM off.
pub(crate) fn disable() {
    let efer = regs::read_msr(Msr::EFER);
    regs::write_msr(Msr::EFER, efer & !EFER::SVME::SET.value);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arch_vm_host::testing::StdHost;
    use axvm::vmid::Flush;

    use super::*;
    use crate::{
        exit::Event,
        regs::set_cpuid,
        rights::Rights,
        svm::{Maps, Svm, vmcb::tlb},
        testing::host,
    };

    fn features() -> Features {
        set_cpuid(EXTENDED_FEATURES, 0, [0, 0, HAS_SVM, 0]);
        set_cpuid(SVM_FEATURES, 0, [0, 16, 0, 1]);
        Features::detect().unwrap()
    }

    fn emulate() {
        let name = [b"TCGT", b"CGTC", b"GTCG"].map(|part| u32::from_le_bytes(*part));
        let [first, second, third] = name;
        set_cpuid(HYPERVISOR, 0, [0, first, second, third]);
    }

    fn svm(features: Features) -> Svm<StdHost> {
        let host = host();
        let maps = Arc::new(Maps::new(&host).unwrap());
        Svm::new(&host, features, maps, Rights::default()).unwrap()
    }

    #[test]
    fn what_a_cpu_tells_besides_is_used() {
        const RIP: u64 = 0x1000;
        set_cpuid(EXTENDED_FEATURES, 0, [0, 0, HAS_SVM, 0]);
        for (offered, next, known, flush) in [
            (Offered::NESTED_PAGING, RIP + 2, None, tlb::FLUSH_ALL),
            (
                Offered::all(),
                RIP + 3,
                Some(&[0x90; 15][..]),
                tlb::FLUSH_ASID,
            ),
        ] {
            set_cpuid(SVM_FEATURES, 0, [0, 16, 0, offered.bits()]);
            let mut svm = svm(Features::detect().unwrap());
            svm.go_on_at(RIP);
            svm.leave_with_assists(RIP + 3, [0x90; 15]);
            svm.leave_with(0x7b, [0; 2]);
            assert_eq!(svm.fetched(), None, "what is left of another exit");
            svm.leave_with(0x400, [0; 2]);
            assert_eq!(svm.fetched(), known, "{offered:?}");
            svm.skip(2);
            assert_eq!(svm.rip(), next, "{offered:?}");
            svm.set_address_space(3, Flush::OwnTables);
            assert_eq!(svm.tlb_control(), flush, "{offered:?}");
            svm.set_address_space(3, Flush::Everything);
            svm.set_address_space(3, Flush::OwnTables);
            assert_eq!(svm.tlb_control(), tlb::FLUSH_ALL, "what is more stays");
        }
    }

    #[test]
    fn an_interrupt_is_injected_as_what_comes_once() {
        const INTERRUPT: (u64, u64, u64) = (0, 0xec, 0);
        let event = Event::Interrupt(0xec);
        let mut hardware = svm(features());
        hardware.inject(event);
        assert_eq!(hardware.event(), Some(INTERRUPT));
        emulate();
        let mut emulation = svm(features());
        emulation.open_window(3);
        emulation.inject(event);
        emulation.close_window();
        assert_eq!((emulation.event(), emulation.has_event()), (None, true));
        emulation.open_window(3);
        assert_eq!(
            emulation.event(),
            Some(INTERRUPT),
            "the window has its place"
        );
        emulation.note_exit();
        assert!(!emulation.has_event());
    }

    #[test]
    fn what_changed_since_an_exit_is_read_again_and_nothing_else_is() {
        type Change = fn(&mut Svm<StdHost>);
        const INTERCEPTS: u32 = 1 << 0;
        const TPR: u32 = 1 << 3;
        let changes: [(Change, u32); 10] = [
            (|svm| svm.go_on_at(0x1000), 0),
            (|svm| svm.set_rflags(2), 0),
            (|svm| svm.inject(Event::Nmi), 0),
            (|svm| svm.set_tsc_offset(1), INTERCEPTS),
            (|svm| svm.set_address_space(3, Flush::None), 1 << 2),
            (|svm| svm.set_task_priority(4), TPR),
            (|svm| svm.open_window(4), INTERCEPTS | TPR),
            (|svm| svm.set_pat(0), 1 << 4),
            (|svm| svm.set_efer(0), 1 << 5),
            (|svm| svm.set_cr2(0x1000), 1 << 9),
        ];
        for (at, (change, parts)) in changes.into_iter().enumerate() {
            let mut svm = svm(features());
            assert_eq!(svm.clean(), 0, "the CPU has seen nothing");
            svm.note_exit();
            let all = svm.clean();
            change(&mut svm);
            assert_eq!(all & !svm.clean(), parts, "{at}");
            svm.bind();
            assert_eq!(svm.clean(), 0, "another CPU");
        }
    }

    #[test]
    fn after_each_exit_the_emulation_looks_at_its_local_apic_again() {
        svm(features()).note_exit();
        assert_eq!(regs::renewals(), 0);
        emulate();
        svm(features()).note_exit();
        assert_eq!(regs::renewals(), 1);
    }
}
