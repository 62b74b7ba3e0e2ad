// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Why the guest came out: ESR_EL2 as values, and exceptions put into EL1.
//!
//! Called by `vcpu` after each synchronous exit. Nothing here touches the
//! hardware: [`decode`] reads a syndrome, [`Exception::enter`] computes what the
//! CPU itself would do on taking an exception to EL1.
//!
//! Spec: Arm Architecture Reference Manual, ESR_EL2, "Exception entry".

use axvm::{AccessWidth, GuestPhysAddr};
use tock_registers::{LocalRegisterCopy, fields::Field};

use crate::regs::{ABORT, ESR, HPFAR, SPSR, SYSREG_ISS, SysRegId};

/// What a synchronous exit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// WFI.
    WaitForInterrupt,
    /// WFE and waits with a time-out: nothing to wait for.
    WaitForEvent,
    /// HVC; the guest continues behind it by itself.
    Hvc,
    /// SMC; the guest continues at it unless it is moved on.
    Smc,
    /// MSR or MRS.
    SysReg(SysRegAccess),
    /// Floating point while its registers are not loaded.
    FloatingPoint,
    /// Wide vectors while they are not loaded.
    Vectors,
    /// A data access outside RAM.
    Data(DataAbort),
    /// An instruction fetch outside RAM.
    Fetch(GuestPhysAddr),
    /// An instruction fetch whose own translation is outside RAM.
    FetchWalk,
    /// Something that this guest's CPU does not have.
    Undefined,
    /// Nothing that a guest should be able to cause.
    Unknown,
}

/// A trapped MSR or MRS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SysRegAccess {
    /// The register.
    pub(crate) id: SysRegId,
    /// The general register, 31 for zero.
    pub(crate) rt: usize,
    /// MRS, not MSR.
    pub(crate) is_read: bool,
}

/// A data access that stage 2 does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataAbort {
    /// Where.
    pub(crate) address: GuestPhysAddr,
    /// Whether it is a write.
    pub(crate) is_write: bool,
    /// What the syndrome says about the instruction.
    pub(crate) detail: AbortDetail,
}

/// How much the syndrome of a data abort says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AbortDetail {
    /// One general register.
    Register(RegisterAccess),
    /// Nothing: the instruction has to be looked at.
    Instruction,
    /// Cache maintenance of an address that is not RAM: nothing to do.
    CacheMaintenance,
    /// The guest's own tables are outside RAM.
    Walk,
    /// The bus answered with an error.
    Refused,
}

/// An access of one general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegisterAccess {
    pub(crate) width: AccessWidth,
    /// The register, 31 for zero.
    pub(crate) reg: usize,
    /// What a loaded value is extended to.
    pub(crate) reg_width: AccessWidth,
    pub(crate) is_signed: bool,
}

impl RegisterAccess {
    /// Makes what the register becomes of what was read.
    pub(crate) fn extend(self, raw: u64) -> u64 {
        let above = bits_above(self.width);
        let value = raw.wrapping_shl(above);
        match self.is_signed {
            true => {
                let extended = (value as i64).wrapping_shr(above) as u64;
                extended & u64::MAX.wrapping_shr(bits_above(self.reg_width))
            }
            false => value.wrapping_shr(above),
        }
    }
}

/// Returns how many bits of 64 are above a value of this width.
fn bits_above(width: AccessWidth) -> u32 {
    64_u32.saturating_sub((width.size() as u32).saturating_mul(8))
}

type Syndrome = LocalRegisterCopy<u64, ESR::Register>;
type Abort = LocalRegisterCopy<u64, ABORT::Register>;

const EC_WFX: u64 = 0x01;
/// WFI, WFE, or either with a time-out, which may end early.
const WFX_KIND: u64 = 3;
const EC_FP: u64 = 0x07;
const EC_HVC64: u64 = 0x16;
const EC_SMC64: u64 = 0x17;
const EC_SYSREG: u64 = 0x18;
const EC_SVE: u64 = 0x19;
const EC_FETCH_LOWER: u64 = 0x20;
const EC_DATA_LOWER: u64 = 0x24;

/// Fault status without its level.
const FAULT_ADDRESS_SIZE: u64 = 0;
const FAULT_TRANSLATION: u64 = 1;
const FAULT_ACCESS_FLAG: u64 = 2;
const FAULT_PERMISSION: u64 = 3;

/// Tells whether a synchronous exit is a call, which needs no more decoding.
#[inline]
pub(crate) fn is_call(esr: u64) -> bool {
    Syndrome::new(esr).read(ESR::EC) == EC_HVC64
}

/// The syndrome of a write to ICC_SGI1R_EL1, but for the general register.
const SGI: u64 = ESR::EC.val(EC_SYSREG).value
    | ESR::IL::SET.value
    | SYSREG_ISS::OP0.val(3).value
    | SYSREG_ISS::CRN.val(12).value
    | SYSREG_ISS::CRM.val(11).value
    | SYSREG_ISS::OP2.val(5).value;

/// Tells whether a synchronous exit is a write to ICC_SGI1R_EL1.
#[inline]
pub(crate) fn is_sgi(esr: u64) -> bool {
    let mut syndrome = LocalRegisterCopy::<u64, SYSREG_ISS::Register>::new(esr);
    syndrome.modify(SYSREG_ISS::RT::CLEAR);
    syndrome.get() == SGI
}

/// Returns the general register of an MSR or MRS.
#[inline]
pub(crate) fn register_of(esr: u64) -> usize {
    let syndrome = LocalRegisterCopy::<u64, SYSREG_ISS::Register>::new(esr);
    syndrome.read(SYSREG_ISS::RT) as usize
}

/// Reads the syndrome of a synchronous exit.
#[inline(always)]
pub(crate) fn decode(esr: u64, far: u64, hpfar: u64) -> Trap {
    let syndrome = Syndrome::new(esr);
    let iss = syndrome.read(ESR::ISS);
    match syndrome.read(ESR::EC) {
        EC_WFX if iss & WFX_KIND == 0 => Trap::WaitForInterrupt,
        EC_WFX => Trap::WaitForEvent,
        EC_FP => Trap::FloatingPoint,
        EC_HVC64 => Trap::Hvc,
        EC_SMC64 => Trap::Smc,
        EC_SYSREG => Trap::SysReg(decode_sys_reg(iss)),
        EC_FETCH_LOWER if Abort::new(iss).is_set(ABORT::S1PTW) => Trap::FetchWalk,
        EC_FETCH_LOWER => Trap::Fetch(fault_address(far, hpfar)),
        EC_DATA_LOWER => Trap::Data(decode_data_abort(iss, fault_address(far, hpfar))),
        EC_SVE => Trap::Vectors,
        // AArch32 coprocessors, SME, pointer authentication, LD64B.
        0x03..=0x06 | 0x08..=0x0e | 0x11..=0x13 | 0x1a | 0x1d => Trap::Undefined,
        _ => Trap::Unknown,
    }
}

#[inline]
fn fault_address(far: u64, hpfar: u64) -> GuestPhysAddr {
    let page = LocalRegisterCopy::<u64, HPFAR::Register>::new(hpfar).read(HPFAR::FIPA) << 12;
    GuestPhysAddr::from_usize((page | far & 0xfff) as usize)
}

#[inline]
fn decode_sys_reg(iss: u64) -> SysRegAccess {
    let iss = LocalRegisterCopy::<u64, SYSREG_ISS::Register>::new(iss);
    let read = |field: Field<u64, SYSREG_ISS::Register>| iss.read(field) as u16;
    SysRegAccess {
        id: SysRegId::new(
            read(SYSREG_ISS::OP0),
            read(SYSREG_ISS::OP1),
            read(SYSREG_ISS::CRN),
            read(SYSREG_ISS::CRM),
            read(SYSREG_ISS::OP2),
        ),
        rt: iss.read(SYSREG_ISS::RT) as usize,
        is_read: iss.is_set(SYSREG_ISS::READ),
    }
}

#[inline]
fn decode_data_abort(iss: u64, address: GuestPhysAddr) -> DataAbort {
    let abort = Abort::new(iss);
    DataAbort {
        address,
        is_write: abort.is_set(ABORT::WNR) && !abort.is_set(ABORT::CM),
        detail: abort_detail(abort),
    }
}

#[inline]
fn abort_detail(abort: Abort) -> AbortDetail {
    let fault = abort.read(ABORT::FSC) >> 2;
    let is_stage_2 = matches!(
        fault,
        FAULT_ADDRESS_SIZE | FAULT_TRANSLATION | FAULT_ACCESS_FLAG | FAULT_PERMISSION
    );
    if !is_stage_2 || abort.is_set(ABORT::S1PTW) || abort.is_set(ABORT::FNV) {
        return match is_stage_2 && abort.is_set(ABORT::S1PTW) {
            true => AbortDetail::Walk,
            false => AbortDetail::Refused,
        };
    }
    if abort.is_set(ABORT::CM) {
        return AbortDetail::CacheMaintenance;
    }
    if !abort.is_set(ABORT::ISV) {
        return AbortDetail::Instruction;
    }
    AbortDetail::Register(RegisterAccess {
        width: width_of(abort.read(ABORT::SAS)),
        reg: abort.read(ABORT::SRT) as usize,
        reg_width: match abort.is_set(ABORT::SF) {
            true => AccessWidth::Qword,
            false => AccessWidth::Dword,
        },
        is_signed: abort.is_set(ABORT::SSE),
    })
}

/// Returns the width of so many bytes, as a power of two.
pub(crate) fn width_of(log2_bytes: u64) -> AccessWidth {
    match log2_bytes {
        0 => AccessWidth::Byte,
        1 => AccessWidth::Word,
        2 => AccessWidth::Dword,
        _ => AccessWidth::Qword,
    }
}

/// An exception that a guest's EL1 takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exception {
    /// The instruction does not exist.
    Undefined,
    /// The bus refused a data access.
    DataAbort { is_write: bool, refused: Refused },
    /// The bus refused an instruction fetch.
    FetchAbort { refused: Refused },
}

/// What the bus refused of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The access itself.
    Access,
    /// The walk of the translation tables for it, at this level.
    Walk(i8),
}

impl Refused {
    /// Returns the fault's status.
    fn status(self) -> u64 {
        match self {
            Self::Access => EXTERNAL_ABORT,
            Self::Walk(level) => EXTERNAL_ABORT_ON_WALK.saturating_add_signed(level.into()),
        }
    }
}

/// What EL1 was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interrupted {
    pub(crate) pstate: u64,
    pub(crate) vbar: u64,
    pub(crate) sctlr: u64,
}

/// What EL1 does then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entered {
    pub(crate) pc: u64,
    pub(crate) pstate: u64,
    pub(crate) esr: u64,
}

/// A synchronous external abort, not on a table walk.
const EXTERNAL_ABORT: u64 = 0x10;
/// One on a table walk, at level 0.
const EXTERNAL_ABORT_ON_WALK: u64 = 0x14;
const EC_UNDEFINED: u64 = 0x00;
const EC_FETCH_SAME: u64 = 0x21;
const EC_DATA_SAME: u64 = 0x25;

/// PSTATE bits that survive: NZCV, DIT, PAN.
const PSTATE_KEPT: u64 = 0xf << 28 | 1 << 24 | 1 << 22;
const PSTATE_PAN: u64 = 1 << 22;
const PSTATE_SSBS: u64 = 1 << 12;
const SCTLR_SPAN: u64 = 1 << 23;
const SCTLR_DSSBS: u64 = 1 << 44;

const VECTOR_CURRENT_SP0: u64 = 0x000;
const VECTOR_CURRENT_SPX: u64 = 0x200;
const VECTOR_LOWER_64: u64 = 0x400;
const VECTOR_LOWER_32: u64 = 0x600;

impl Exception {
    /// Computes what a CPU does that takes this exception to EL1.
    pub(crate) fn enter(self, from: Interrupted) -> Entered {
        let pstate = LocalRegisterCopy::<u64, SPSR::Register>::new(from.pstate);
        let mode = pstate.read(SPSR::M);
        let vector = match mode {
            _ if pstate.is_set(SPSR::AARCH32) => VECTOR_LOWER_32,
            0 => VECTOR_LOWER_64,
            4 => VECTOR_CURRENT_SP0,
            _ => VECTOR_CURRENT_SPX,
        };
        let is_from_el0 = mode == 0 || pstate.is_set(SPSR::AARCH32);
        Entered {
            pc: from.vbar.wrapping_add(vector),
            pstate: entered_pstate(from),
            esr: self.syndrome(is_from_el0),
        }
    }

    fn syndrome(self, is_from_el0: bool) -> u64 {
        let (class, iss) = match self {
            Self::Undefined => (EC_UNDEFINED, 0),
            Self::DataAbort { is_write, refused } => {
                let class = if is_from_el0 {
                    EC_DATA_LOWER
                } else {
                    EC_DATA_SAME
                };
                (
                    class,
                    ABORT::WNR.val(is_write.into()).value | refused.status(),
                )
            }
            Self::FetchAbort { refused } => {
                let class = if is_from_el0 {
                    EC_FETCH_LOWER
                } else {
                    EC_FETCH_SAME
                };
                (class, refused.status())
            }
        };
        let value = ESR::EC.val(class) + ESR::IL::SET + ESR::ISS.val(iss);
        value.value
    }
}

fn entered_pstate(from: Interrupted) -> u64 {
    let masked = SPSR::M::El1h + SPSR::D::SET + SPSR::A::SET + SPSR::I::SET + SPSR::F::SET;
    let mut pstate = from.pstate & PSTATE_KEPT | masked.value;
    if from.sctlr & SCTLR_SPAN == 0 {
        pstate |= PSTATE_PAN;
    }
    if from.sctlr & SCTLR_DSSBS != 0 {
        pstate |= PSTATE_SSBS;
    }
    pstate
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn abort(iss: u64) -> Trap {
        decode(
            EC_DATA_LOWER << 26 | 1 << 25 | iss,
            0xffff_0000_1234_5018,
            0x9000 << 4 >> 8 << 4,
        )
    }

    #[test]
    fn a_data_abort_with_a_syndrome_names_address_and_register() {
        // 32-bit signed load of two bytes into x7, translation fault level 2.
        let iss = 1 << 24 | 1 << 22 | 1 << 21 | 7 << 16 | 0x6;
        let Trap::Data(found) = decode(EC_DATA_LOWER << 26 | iss, 0xffff_8000_0000_0018, 0x9_0000)
        else {
            panic!("no data abort");
        };
        assert_eq!(found.address.as_usize(), 0x0900_0018);
        assert!(!found.is_write);
        let access = RegisterAccess {
            width: AccessWidth::Word,
            reg: 7,
            reg_width: AccessWidth::Dword,
            is_signed: true,
        };
        assert_eq!(found.detail, AbortDetail::Register(access));
    }

    #[test]
    fn aborts_without_a_register_are_told_apart() {
        let detail = |iss| match abort(iss) {
            Trap::Data(found) => found.detail,
            other => panic!("{other:?}"),
        };
        assert_eq!(detail(0x6), AbortDetail::Instruction);
        assert_eq!(detail(0x6 | 1 << 8), AbortDetail::CacheMaintenance);
        assert_eq!(detail(0x6 | 1 << 7), AbortDetail::Walk);
        assert_eq!(detail(0x10 | 1 << 7), AbortDetail::Refused);
        assert_eq!(detail(0x10), AbortDetail::Refused);
        assert_eq!(detail(0x21), AbortDetail::Refused);
    }

    #[test]
    fn what_is_read_is_extended_as_the_instruction_says() {
        let access = |width, reg_width, is_signed| RegisterAccess {
            width,
            reg: 0,
            reg_width,
            is_signed,
        };
        let (byte, word) = (AccessWidth::Byte, AccessWidth::Dword);
        let all = AccessWidth::Qword;
        assert_eq!(access(byte, all, false).extend(0x1fe), 0xfe);
        assert_eq!(access(byte, word, true).extend(0x1fe), 0xffff_fffe);
        assert_eq!(access(word, all, true).extend(1 << 31), !0 << 31);
        assert_eq!(access(all, all, true).extend(1 << 63), 1 << 63);
    }

    #[test]
    fn a_system_register_is_named_by_its_encoding() {
        // MSR ICC_SGI1R_EL1, x3.
        let iss = 3 << 20 | 5 << 17 | 12 << 10 | 3 << 5 | 11 << 1;
        let Trap::SysReg(access) = decode(EC_SYSREG << 26 | iss, 0, 0) else {
            panic!("no system register");
        };
        assert_eq!(access.id, SysRegId::new(3, 0, 12, 11, 5));
        assert_eq!((access.rt, access.is_read), (3, false));
    }

    #[test]
    fn an_exception_from_el0_and_el1_takes_its_own_vector() {
        let entered = |pstate| {
            let refused = Refused::Access;
            let exception = Exception::DataAbort {
                is_write: true,
                refused,
            };
            exception.enter(Interrupted {
                pstate,
                vbar: 0x8000,
                sctlr: SCTLR_SPAN,
            })
        };
        let (el0, el1, el1t) = (entered(0x6000_0000), entered(0x3c5), entered(4));
        assert_eq!([el0.pc, el1.pc, el1t.pc], [0x8400, 0x8200, 0x8000]);
        assert_eq!(entered(0x10).pc, 0x8600);
        assert_eq!(el0.pstate, 0x6000_03c5);
        assert_eq!(el0.esr >> 26, EC_DATA_LOWER);
        assert_eq!((el1.esr >> 26, el1.esr & 0x7f), (EC_DATA_SAME, 0x50));
    }

    #[test]
    fn an_abort_on_a_table_walk_tells_its_level() {
        let status = |level| {
            let refused = Refused::Walk(level);
            Exception::FetchAbort { refused }.syndrome(false) & 0x3f
        };
        assert_eq!([-1, 0, 3].map(status), [0x13, 0x14, 0x17]);
        let fetch = |iss| decode(EC_FETCH_LOWER << 26 | iss, 0x5018, 0x9_0000);
        assert_eq!(fetch(0x6 | 1 << 7), Trap::FetchWalk);
        assert_eq!(
            fetch(0x6),
            Trap::Fetch(GuestPhysAddr::from_usize(0x0900_0018))
        );
    }

    proptest! {
        #[test]
        fn no_syndrome_panics(esr: u64, far: u64, hpfar: u64) {
            decode(esr, far, hpfar);
        }
    }
}
