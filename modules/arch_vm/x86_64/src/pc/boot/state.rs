// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The registers with which a vCPU of a PC starts.
//!
//! Made by this folder for the boot vCPU and by [`BootState::sipi`] for the
//! others; the backends put it into their VMCB or VMCS. General registers that
//! are not named are zero, and so are the debug registers' enables.
//!
//! Spec: Intel SDM 3, "Processor State After Reset", "Segment Registers";
//! AMD64 APM 2, "VMCB Layout, State Save Area".

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The visible part.
    pub selector: u16,
    /// Where it starts.
    pub base: u64,
    /// Its last offset, in bytes.
    pub limit: u32,
    /// Its access rights, as VMX has them: bits 0-7 and 12-15.
    pub rights: u16,
}

/// Present, writable data, accessed; 32 bits, in pages.
const RIGHTS_DATA: u16 = 0xc093;
/// Present, readable code, accessed; 32 bits, in pages.
const RIGHTS_CODE_32: u16 = 0xc09b;
/// The same with the L bit instead of D.
const RIGHTS_CODE_64: u16 = 0xa09b;
const RIGHTS_REAL_CODE: u16 = 0x9b;
const RIGHTS_REAL_DATA: u16 = 0x93;
const RIGHTS_TSS: u16 = 0x8b;
const RIGHTS_LDT: u16 = 0x82;

const SELECTOR_CODE: u16 = 0x10;
const SELECTOR_DATA: u16 = 0x18;
const LIMIT_FLAT: u32 = u32::MAX;
const LIMIT_REAL: u32 = 0xffff;

impl Segment {
    const fn flat(selector: u16, rights: u16) -> Self {
        Self {
            selector,
            base: 0,
            limit: LIMIT_FLAT,
            rights,
        }
    }

    const fn real(selector: u16, base: u64, rights: u16) -> Self {
        Self {
            selector,
            base,
            limit: LIMIT_REAL,
            rights,
        }
    }

    /// Returns the rights as SVM has them, without the gap.
    pub const fn svm_attributes(&self) -> u16 {
        self.rights & 0xff | self.rights >> 4 & 0xf00
    }
}

/// Where GDTR or IDTR points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorTable {
    /// The table's address.
    pub base: u64,
    /// The last byte's offset.
    pub limit: u16,
}

/// The GDT of the boot protocols: two empty entries, code, data.
const GDT_LIMIT: u16 = 4 * 8 - 1;
const GDT_CODE_32: u64 = 0x00cf_9b00_0000_ffff;
const GDT_CODE_64: u64 = 0x00af_9b00_0000_ffff;
const GDT_DATA: u64 = 0x00cf_9300_0000_ffff;

const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// RFLAGS with nothing but the bit that is always one.
const RFLAGS: u64 = 1 << 1;

/// A vCPU's first registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootState {
    /// Where it starts.
    pub rip: u64,
    /// The stack, if the protocol gives one.
    pub rsp: u64,
    /// The flags; interrupts are closed.
    pub rflags: u64,
    /// Multiboot's magic number.
    pub rax: u64,
    /// Where multiboot's or PVH's structure is.
    pub rbx: u64,
    /// The CPU's signature after reset.
    pub rdx: u64,
    /// Where Linux's zero page is.
    pub rsi: u64,
    /// Control register 0.
    pub cr0: u64,
    /// The page tables.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// The extended features.
    pub efer: u64,
    /// CS.
    pub code: Segment,
    /// SS, DS, ES, FS and GS.
    pub data: Segment,
    /// TR.
    pub task: Segment,
    /// LDTR.
    pub local: Segment,
    /// GDTR.
    pub gdt: DescriptorTable,
    /// IDTR.
    pub idt: DescriptorTable,
}

impl BootState {
    /// Returns the state in which a startup IPI with `vector` leaves a CPU.
    pub const fn sipi(vector: u8) -> Self {
        let base = (vector as u64) << 12;
        Self::real((vector as u16) << 8, base, 0)
    }

    /// Returns the state after power-on, before any firmware.
    pub const fn reset() -> Self {
        Self::real(0xf000, 0xffff_0000, 0xfff0)
    }

    const fn real(selector: u16, base: u64, rip: u64) -> Self {
        let none = DescriptorTable {
            base: 0,
            limit: 0xffff,
        };
        Self {
            rip,
            rsp: 0,
            rflags: RFLAGS,
            rax: 0,
            rbx: 0,
            rdx: 0,
            rsi: 0,
            cr0: CR0_CD | CR0_NW | CR0_ET,
            cr3: 0,
            cr4: 0,
            efer: 0,
            code: Segment::real(selector, base, RIGHTS_REAL_CODE),
            data: Segment::real(0, 0, RIGHTS_REAL_DATA),
            task: Segment::real(0, 0, RIGHTS_TSS),
            local: Segment::real(0, 0, RIGHTS_LDT),
            gdt: none,
            idt: none,
        }
    }

    /// Returns the state of 32-bit protocols: flat segments, no paging.
    pub(super) const fn protected(entry: u64, gdt: u64) -> Self {
        let limit = GDT_LIMIT;
        Self {
            cr0: CR0_PE | CR0_ET,
            code: Segment::flat(SELECTOR_CODE, RIGHTS_CODE_32),
            data: Segment::flat(SELECTOR_DATA, RIGHTS_DATA),
            gdt: DescriptorTable { base: gdt, limit },
            idt: DescriptorTable { base: 0, limit: 0 },
            ..Self::real(0, 0, entry)
        }
    }

    /// Returns the state of Linux's 64-bit protocol: long mode on `page_tables`.
    pub(super) const fn long(entry: u64, gdt: u64, page_tables: u64) -> Self {
        Self {
            cr0: CR0_PE | CR0_ET | CR0_NE | CR0_PG,
            cr3: page_tables,
            cr4: CR4_PAE,
            efer: EFER_LME | EFER_LMA,
            code: Segment::flat(SELECTOR_CODE, RIGHTS_CODE_64),
            ..Self::protected(entry, gdt)
        }
    }

    /// Tells whether it starts in long mode.
    pub const fn is_long(&self) -> bool {
        self.efer & EFER_LMA != 0
    }

    /// Returns the GDT that its segment registers were loaded from.
    pub(super) fn gdt_entries(&self) -> [u64; 4] {
        let code = if self.is_long() {
            GDT_CODE_64
        } else {
            GDT_CODE_32
        };
        [0, 0, code, GDT_DATA]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the rights that a descriptor gives a segment register.
    fn rights_of(descriptor: u64) -> u16 {
        (descriptor >> 40) as u16 & 0xf0ff
    }

    #[test]
    fn segment_registers_agree_with_the_descriptor_table() {
        for state in [
            BootState::protected(0x10_0000, 0x1000),
            BootState::long(0x10_0200, 0x1000, 0x2000),
        ] {
            let entries = state.gdt_entries();
            for segment in [state.code, state.data] {
                let entry = entries[usize::from(segment.selector >> 3)];
                assert_eq!(rights_of(entry), segment.rights);
                assert_eq!(entry & 0xffff, u64::from(segment.limit & 0xffff));
            }
            assert_eq!(
                usize::from(state.gdt.limit) + 1,
                size_of_val(&entries),
                "the limit is the table's"
            );
        }
    }

    #[test]
    fn svm_has_the_rights_without_the_gap() {
        let state = BootState::long(0, 0, 0);
        assert_eq!(state.code.svm_attributes(), 0xa9b);
        assert_eq!(state.data.svm_attributes(), 0xc93);
        assert_eq!(state.task.svm_attributes(), 0x8b);
    }

    #[test]
    fn a_startup_ipi_starts_at_its_page_in_real_mode() {
        let state = BootState::sipi(0x9a);
        assert_eq!(state.code.selector, 0x9a00);
        assert_eq!(state.code.base + state.rip, 0x9_a000);
        assert_eq!(state.cr0 & (CR0_PE | CR0_PG), 0);
        assert_eq!(BootState::reset().code.base + 0xfff0, 0xffff_fff0);
    }
}
