// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The GIC's CPU interface: the hypervisor's own, and the guest's list registers.
//!
//! Spec: Arm GIC Architecture Specification, GICv3/v4, "AArch64 System register
//! descriptions", "AArch64 virtualization control System registers".

use tock_registers::{
    interfaces::{Readable, Writeable},
    register_bitfields,
};

use super::{SysReg, id};

register_bitfields![u64,
    pub(crate) ICH_HCR [
        EN OFFSET(0) NUMBITS(1) [],
        /// Interrupt when at most one list register is in use.
        UIE OFFSET(1) NUMBITS(1) [],
        /// Interrupt when one was ended that is in no list register.
        LRENPIE OFFSET(2) NUMBITS(1) [],
        /// Interrupt when no list register is pending.
        NPIE OFFSET(3) NUMBITS(1) [],
        /// How many interrupts were ended that were in no list register.
        EOI_COUNT OFFSET(27) NUMBITS(5) []
    ],

    pub(crate) ICH_VTR [
        LIST_REGISTERS OFFSET(0) NUMBITS(5) [],
        /// Preemption bits less one.
        PRE_BITS OFFSET(26) NUMBITS(3) [],
        /// Priority bits less one.
        PRI_BITS OFFSET(29) NUMBITS(3) []
    ],

    pub(crate) ICH_VMCR [
        GROUP0 OFFSET(0) NUMBITS(1) [],
        GROUP1 OFFSET(1) NUMBITS(1) [],
        PRIORITY_MASK OFFSET(24) NUMBITS(8) []
    ],

    /// A list register.
    pub(crate) LR [
        VINTID OFFSET(0) NUMBITS(32) [],
        /// The physical interrupt that HW links; bit 41 is EOI where HW is 0.
        PINTID OFFSET(32) NUMBITS(10) [],
        EOI OFFSET(41) NUMBITS(1) [],
        PRIORITY OFFSET(48) NUMBITS(8) [],
        GROUP OFFSET(60) NUMBITS(1) [],
        HW OFFSET(61) NUMBITS(1) [],
        PENDING OFFSET(62) NUMBITS(1) [],
        ACTIVE OFFSET(63) NUMBITS(1) []
    ],

    /// ICC_SGI1R_EL1 and its like.
    pub(crate) SGI [
        TARGET_LIST OFFSET(0) NUMBITS(16) [],
        AFF1 OFFSET(16) NUMBITS(8) [],
        INTID OFFSET(24) NUMBITS(4) [],
        AFF2 OFFSET(32) NUMBITS(8) [],
        /// All but the sender.
        IRM OFFSET(40) NUMBITS(1) [],
        RANGE OFFSET(44) NUMBITS(4) [],
        AFF3 OFFSET(48) NUMBITS(8) []
    ]
];

pub(crate) const ICC_HPPIR1_EL1: SysReg<{ id(3, 0, 12, 12, 2) }> = SysReg::new();
pub(crate) const ICC_IAR1_EL1: SysReg<{ id(3, 0, 12, 12, 0) }> = SysReg::new();
pub(crate) const ICC_EOIR1_EL1: SysReg<{ id(3, 0, 12, 12, 1) }> = SysReg::new();
pub(crate) const ICC_DIR_EL1: SysReg<{ id(3, 0, 12, 11, 1) }> = SysReg::new();
pub(crate) const ICC_SGI1R_EL1: SysReg<{ id(3, 0, 12, 11, 5) }> = SysReg::new();
pub(crate) const ICC_SRE_EL2: SysReg<{ id(3, 4, 12, 9, 5) }> = SysReg::new();

pub(crate) const ICH_HCR_EL2: SysReg<{ id(3, 4, 12, 11, 0) }, ICH_HCR::Register> = SysReg::new();
pub(crate) const ICH_VTR_EL2: SysReg<{ id(3, 4, 12, 11, 1) }, ICH_VTR::Register> = SysReg::new();
pub(crate) const ICH_VMCR_EL2: SysReg<{ id(3, 4, 12, 11, 7) }, ICH_VMCR::Register> = SysReg::new();

const AP0R0: SysReg<{ id(3, 4, 12, 8, 0) }> = SysReg::new();
const AP0R1: SysReg<{ id(3, 4, 12, 8, 1) }> = SysReg::new();
const AP0R2: SysReg<{ id(3, 4, 12, 8, 2) }> = SysReg::new();
const AP0R3: SysReg<{ id(3, 4, 12, 8, 3) }> = SysReg::new();
const AP1R0: SysReg<{ id(3, 4, 12, 9, 0) }> = SysReg::new();
const AP1R1: SysReg<{ id(3, 4, 12, 9, 1) }> = SysReg::new();
const AP1R2: SysReg<{ id(3, 4, 12, 9, 2) }> = SysReg::new();
const AP1R3: SysReg<{ id(3, 4, 12, 9, 3) }> = SysReg::new();

/// The most list registers that there can be.
pub(crate) const LIST_REGISTERS_MAX: usize = 16;

/// Declares the access to list registers by index.
macro_rules! list_registers {
    ($($index:literal: $crm:literal, $op2:literal;)*) => {
        /// Reads a list register; those that there cannot be are empty.
        pub(crate) fn read_list_register(index: usize) -> u64 {
            match index {
                $($index => SysReg::<{ id(3, 4, 12, $crm, $op2) }>::new().get(),)*
                _ => 0,
            }
        }

        /// Writes a list register.
        pub(crate) fn write_list_register(index: usize, value: u64) {
            match index {
                $($index => SysReg::<{ id(3, 4, 12, $crm, $op2) }>::new().set(value),)*
                _ => {}
            }
        }
    };
}

list_registers! {
    0: 12, 0; 1: 12, 1; 2: 12, 2; 3: 12, 3; 4: 12, 4; 5: 12, 5; 6: 12, 6; 7: 12, 7;
    8: 13, 0; 9: 13, 1; 10: 13, 2; 11: 13, 3; 12: 13, 4; 13: 13, 5; 14: 13, 6; 15: 13, 7;
}

/// A guest's active priorities: one to four words of each group.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActivePriorities {
    group0: [u64; 4],
    group1: [u64; 4],
}

impl ActivePriorities {
    /// Loads as many words as `pre_bits` preemption bits need.
    pub(crate) fn load(&self, pre_bits: u64) {
        AP0R0.set(self.group0[0]);
        AP1R0.set(self.group1[0]);
        if pre_bits > 5 {
            AP0R1.set(self.group0[1]);
            AP1R1.set(self.group1[1]);
        }
        if pre_bits > 6 {
            AP0R2.set(self.group0[2]);
            AP0R3.set(self.group0[3]);
            AP1R2.set(self.group1[2]);
            AP1R3.set(self.group1[3]);
        }
    }

    /// Stores as many words as `pre_bits` preemption bits need.
    pub(crate) fn store(&mut self, pre_bits: u64) {
        self.group0[0] = AP0R0.get();
        self.group1[0] = AP1R0.get();
        if pre_bits > 5 {
            self.group0[1] = AP0R1.get();
            self.group1[1] = AP1R1.get();
        }
        if pre_bits > 6 {
            self.group0[2] = AP0R2.get();
            self.group0[3] = AP0R3.get();
            self.group1[2] = AP1R2.get();
            self.group1[3] = AP1R3.get();
        }
    }
}
