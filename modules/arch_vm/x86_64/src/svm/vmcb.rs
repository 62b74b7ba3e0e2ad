// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The virtual machine control block, as the hardware has it.
//!
//! Owned by one vCPU; the CPU reads it on VMRUN and VMLOAD and writes it on
//! #VMEXIT and VMSAVE, all within `entry`, so that between two entries it is
//! ordinary memory.
//!
//! Spec: AMD64 APM 2, appendix B, "VMCB Layout".

use core::mem::offset_of;

use tock_registers::register_bitfields;

register_bitfields![u32,
    /// What is intercepted, the first word.
    pub(crate) FIRST [
        INTR OFFSET(0) NUMBITS(1) [],
        NMI OFFSET(1) NUMBITS(1) [],
        SMI OFFSET(2) NUMBITS(1) [],
        INIT OFFSET(3) NUMBITS(1) [],
        VINTR OFFSET(4) NUMBITS(1) [],
        RDPMC OFFSET(15) NUMBITS(1) [],
        CPUID OFFSET(18) NUMBITS(1) [],
        RSM OFFSET(19) NUMBITS(1) [],
        IRET OFFSET(20) NUMBITS(1) [],
        INVD OFFSET(22) NUMBITS(1) [],
        HLT OFFSET(24) NUMBITS(1) [],
        INVLPGA OFFSET(26) NUMBITS(1) [],
        IOIO_PROT OFFSET(27) NUMBITS(1) [],
        MSR_PROT OFFSET(28) NUMBITS(1) [],
        FERR_FREEZE OFFSET(30) NUMBITS(1) [],
        SHUTDOWN OFFSET(31) NUMBITS(1) [],
    ],
    /// The second word.
    pub(crate) SECOND [
        VMRUN OFFSET(0) NUMBITS(1) [],
        VMMCALL OFFSET(1) NUMBITS(1) [],
        VMLOAD OFFSET(2) NUMBITS(1) [],
        VMSAVE OFFSET(3) NUMBITS(1) [],
        STGI OFFSET(4) NUMBITS(1) [],
        CLGI OFFSET(5) NUMBITS(1) [],
        SKINIT OFFSET(6) NUMBITS(1) [],
        WBINVD OFFSET(9) NUMBITS(1) [],
        MONITOR OFFSET(10) NUMBITS(1) [],
        MWAIT OFFSET(11) NUMBITS(1) [],
        MWAIT_ARMED OFFSET(12) NUMBITS(1) [],
        XSETBV OFFSET(13) NUMBITS(1) [],
        RDPRU OFFSET(14) NUMBITS(1) [],
    ],
    /// The third word.
    pub(crate) THIRD [
        INVLPGB OFFSET(0) NUMBITS(1) [],
        INVLPGB_ILLEGAL OFFSET(1) NUMBITS(1) [],
        MCOMMIT OFFSET(3) NUMBITS(1) [],
        TLBSYNC OFFSET(4) NUMBITS(1) [],
    ],
    /// Which parts have not changed since the last entry on this CPU.
    pub(crate) CLEAN [
        INTERCEPTS OFFSET(0) NUMBITS(1) [],
        MAPS OFFSET(1) NUMBITS(1) [],
        ASID OFFSET(2) NUMBITS(1) [],
        TPR OFFSET(3) NUMBITS(1) [],
        NESTED OFFSET(4) NUMBITS(1) [],
        CONTROL_REGISTERS OFFSET(5) NUMBITS(1) [],
        DEBUG_REGISTERS OFFSET(6) NUMBITS(1) [],
        DESCRIPTOR_TABLES OFFSET(7) NUMBITS(1) [],
        SEGMENTS OFFSET(8) NUMBITS(1) [],
        CR2 OFFSET(9) NUMBITS(1) [],
        LAST_BRANCH OFFSET(10) NUMBITS(1) [],
    ],
];

register_bitfields![u64,
    /// The virtual interrupt.
    pub(crate) VINTR [
        TPR OFFSET(0) NUMBITS(8) [],
        IRQ OFFSET(8) NUMBITS(1) [],
        PRIORITY OFFSET(16) NUMBITS(4) [],
        IGNORE_TPR OFFSET(20) NUMBITS(1) [],
        MASKING OFFSET(24) NUMBITS(1) [],
        VECTOR OFFSET(32) NUMBITS(8) [],
    ],
    /// Whether the guest takes no interrupt behind its next instruction.
    pub(crate) SHADOW [
        ACTIVE OFFSET(0) NUMBITS(1) [],
    ],
    /// An event on its way into the guest.
    pub(crate) EVENT [
        VECTOR OFFSET(0) NUMBITS(8) [],
        KIND OFFSET(8) NUMBITS(3) [
            Interrupt = 0,
            Nmi = 2,
            Exception = 3,
            Software = 4
        ],
        HAS_ERROR OFFSET(11) NUMBITS(1) [],
        VALID OFFSET(31) NUMBITS(1) [],
        ERROR OFFSET(32) NUMBITS(32) [],
    ],
    /// EXITINFO1 of an I/O instruction.
    pub(crate) IOIO [
        IS_INPUT OFFSET(0) NUMBITS(1) [],
        IS_STRING OFFSET(2) NUMBITS(1) [],
        IS_BYTE OFFSET(4) NUMBITS(1) [],
        IS_WORD OFFSET(5) NUMBITS(1) [],
        PORT OFFSET(16) NUMBITS(16) [],
    ],
    /// EXITINFO1 of a nested page fault.
    pub(crate) NPF [
        PRESENT OFFSET(0) NUMBITS(1) [],
        WRITE OFFSET(1) NUMBITS(1) [],
        FETCH OFFSET(4) NUMBITS(1) [],
        IN_WALK OFFSET(33) NUMBITS(1) [],
    ],
];

/// How much the TLB forgets on the next entry.
pub(crate) mod tlb {
    pub(crate) const KEEP: u32 = 0;
    pub(crate) const FLUSH_ALL: u32 = 1;
    pub(crate) const FLUSH_ASID: u32 = 3;
}

/// The control area.
#[repr(C)]
pub(crate) struct Control {
    pub(crate) intercept_cr: u32,
    /// Reads of DR0-15 in the low half, writes in the high one.
    pub(crate) intercept_dr: u32,
    pub(crate) intercept_exceptions: u32,
    pub(crate) intercept_first: u32,
    pub(crate) intercept_second: u32,
    pub(crate) intercept_third: u32,
    reserved_1: [u32; 10],
    pub(crate) io_map: u64,
    pub(crate) msr_map: u64,
    pub(crate) tsc_offset: u64,
    pub(crate) asid: u32,
    pub(crate) tlb_control: u32,
    pub(crate) vintr: u64,
    pub(crate) shadow: u64,
    pub(crate) exit_code: u64,
    pub(crate) exit_info_1: u64,
    pub(crate) exit_info_2: u64,
    pub(crate) exit_event: u64,
    pub(crate) nested_enable: u64,
    reserved_2: [u64; 2],
    pub(crate) event: u64,
    pub(crate) nested_root: u64,
    last_branch: u64,
    pub(crate) clean: u32,
    reserved_3: u32,
    pub(crate) next_rip: u64,
    pub(crate) fetched: u8,
    pub(crate) fetched_bytes: [u8; 15],
    reserved_4: [u8; 0x400 - 0xe0],
}

/// A segment register.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Segment {
    pub(crate) selector: u16,
    pub(crate) attributes: u16,
    pub(crate) limit: u32,
    pub(crate) base: u64,
}

/// The state save area.
#[repr(C)]
pub(crate) struct Save {
    pub(crate) es: Segment,
    pub(crate) cs: Segment,
    pub(crate) ss: Segment,
    pub(crate) ds: Segment,
    pub(crate) fs: Segment,
    pub(crate) gs: Segment,
    pub(crate) gdtr: Segment,
    pub(crate) ldtr: Segment,
    pub(crate) idtr: Segment,
    pub(crate) tr: Segment,
    reserved_1: [u8; 0xcb - 0xa0],
    pub(crate) cpl: u8,
    reserved_2: u32,
    pub(crate) efer: u64,
    reserved_3: [u64; 14],
    pub(crate) cr4: u64,
    pub(crate) cr3: u64,
    pub(crate) cr0: u64,
    pub(crate) dr7: u64,
    pub(crate) dr6: u64,
    pub(crate) rflags: u64,
    pub(crate) rip: u64,
    reserved_4: [u64; 11],
    pub(crate) rsp: u64,
    reserved_5: [u64; 3],
    pub(crate) rax: u64,
    pub(crate) star: u64,
    pub(crate) lstar: u64,
    pub(crate) cstar: u64,
    pub(crate) sfmask: u64,
    pub(crate) kernel_gs_base: u64,
    pub(crate) sysenter_cs: u64,
    pub(crate) sysenter_esp: u64,
    pub(crate) sysenter_eip: u64,
    pub(crate) cr2: u64,
    reserved_6: [u64; 4],
    pub(crate) pat: u64,
    reserved_7: [u8; 0xc00 - 0x270],
}

/// The whole block.
#[repr(C)]
pub(crate) struct Vmcb {
    pub(crate) control: Control,
    pub(crate) save: Save,
}

const _: () = {
    assert!(size_of::<Vmcb>() == 4096);
    assert!(offset_of!(Control, io_map) == 0x40);
    assert!(offset_of!(Control, asid) == 0x58);
    assert!(offset_of!(Control, exit_code) == 0x70);
    assert!(offset_of!(Control, nested_enable) == 0x90);
    assert!(offset_of!(Control, event) == 0xa8);
    assert!(offset_of!(Control, clean) == 0xc0);
    assert!(offset_of!(Control, fetched) == 0xd0);
    assert!(offset_of!(Vmcb, save) == 0x400);
    assert!(offset_of!(Save, cpl) == 0xcb);
    assert!(offset_of!(Save, efer) == 0xd0);
    assert!(offset_of!(Save, cr4) == 0x148);
    assert!(offset_of!(Save, rip) == 0x178);
    assert!(offset_of!(Save, rsp) == 0x1d8);
    assert!(offset_of!(Save, rax) == 0x1f8);
    assert!(offset_of!(Save, cr2) == 0x240);
    assert!(offset_of!(Save, pat) == 0x268);
};
