// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What a load or store that trapped wanted.
//!
//! Called by `exit` for accesses to addresses that are not RAM, with either the
//! transformed instruction that the hardware left in htinst or the bytes at the
//! guest's pc. Knows every integer load and store, compressed ones included;
//! anything else (atomics, floating point) is not decoded, and the guest gets
//! an access fault.
//!
//! Spec: RISC-V Unprivileged, "RV32I/RV64I", "C" extension; RISC-V Privileged,
//! "H" extension, "Transformed Instruction or Pseudoinstruction for mtinst or
//! htinst".

use axvm::AccessWidth;

/// A decoded load or store; small enough to be returned in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// What it does.
    pub kind: Kind,
    /// How many bytes it moves.
    pub width: AccessWidth,
    /// The instruction's own length: 2 or 4.
    pub length: u8,
}

/// Which way the value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Into a register, with its sign copied or not.
    Load {
        /// The register.
        to: u8,
        /// How the value is extended.
        extension: Extension,
    },
    /// Out of a register.
    Store {
        /// The register.
        from: u8,
    },
}

/// What fills the upper bits of a loaded register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// The value's sign.
    Sign,
    /// Zeros.
    Zero,
}

/// A decoded CSR instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CsrAccess {
    /// The CSR.
    pub number: u16,
    /// Where its old value goes.
    pub to: usize,
    /// What becomes of it.
    pub effect: Effect,
    /// By which value.
    pub operand: Operand,
}

/// What a CSR instruction does to the CSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: bits are set or cleared by x0, or by the immediate 0.
    Read,
    /// Writes the value.
    Write,
    /// Sets the value's bits.
    Set,
    /// Clears them.
    Clear,
}

/// Where a CSR instruction has its value from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register.
    Register(usize),
    /// The instruction.
    Immediate(u64),
}

const LOAD: u32 = 0x03;
const STORE: u32 = 0x23;
const SYSTEM: u32 = 0x73;
/// Pseudoinstructions: bits 0 and 1 zero, and not the expansion of a compressed one.
const PSEUDO_READ: u32 = 0x3000;
const PSEUDO_WRITE: u32 = 0x3020;
/// Zero in a transformed instruction whose original was compressed.
const NOT_COMPRESSED: u32 = 1 << 1;

/// Returns `count` bits of a word from bit `low` on.
fn bits(word: u32, low: u32, count: u32) -> u32 {
    let mask = u32::MAX.wrapping_shr(32_u32.wrapping_sub(count));
    word.wrapping_shr(low) & mask
}

/// Tells whether htinst says that the access was made by the walk of the guest's
/// own page tables.
pub fn is_table_walk(htinst: u64) -> bool {
    matches!(htinst as u32, PSEUDO_READ | PSEUDO_WRITE)
}

/// Decodes what the hardware left in htinst, if it left an instruction there.
pub fn transformed(htinst: u64) -> Option<Access> {
    if is_table_walk(htinst) {
        return None;
    }
    let word = htinst as u32;
    let access = full(word | NOT_COMPRESSED)?;
    let length = if word & NOT_COMPRESSED == 0 { 2 } else { 4 };
    Some(Access { length, ..access })
}

/// Tells whether an instruction that begins with this half-word has four bytes.
pub fn is_full_length(first: u16) -> bool {
    first & 3 == 3
}

/// Decodes an instruction; a compressed one is in the low half.
pub fn decode(word: u32) -> Option<Access> {
    match is_full_length(word as u16) {
        true => full(word),
        false => compressed(word & 0xffff),
    }
}

/// Decodes an instruction that accesses a CSR.
pub fn csr(word: u32) -> Option<CsrAccess> {
    if bits(word, 0, 7) != SYSTEM {
        return None;
    }
    let source = bits(word, 15, 5);
    let operand = match bits(word, 14, 1) {
        0 => Operand::Register(source as usize),
        _ => Operand::Immediate(source.into()),
    };
    let effect = match bits(word, 12, 2) {
        1 => Effect::Write,
        2 | 3 if source == 0 => Effect::Read,
        2 => Effect::Set,
        3 => Effect::Clear,
        _ => return None,
    };
    Some(CsrAccess {
        number: bits(word, 20, 12) as u16,
        to: bits(word, 7, 5) as usize,
        effect,
        operand,
    })
}

fn full(word: u32) -> Option<Access> {
    let kind_of_width = bits(word, 12, 3);
    match bits(word, 0, 7) {
        LOAD => {
            let (width, extension) = load_width(kind_of_width)?;
            let to = bits(word, 7, 5) as u8;
            let kind = Kind::Load { to, extension };
            Some(access(kind, width, 4))
        }
        STORE => {
            let width = store_width(kind_of_width)?;
            let from = bits(word, 20, 5) as u8;
            Some(access(Kind::Store { from }, width, 4))
        }
        _ => None,
    }
}

fn access(kind: Kind, width: AccessWidth, length: u8) -> Access {
    Access {
        kind,
        width,
        length,
    }
}

/// The loads by funct3.
const LOADS: [Option<(AccessWidth, Extension)>; 8] = [
    Some((AccessWidth::Byte, Extension::Sign)),
    Some((AccessWidth::Word, Extension::Sign)),
    Some((AccessWidth::Dword, Extension::Sign)),
    Some((AccessWidth::Qword, Extension::Sign)),
    Some((AccessWidth::Byte, Extension::Zero)),
    Some((AccessWidth::Word, Extension::Zero)),
    Some((AccessWidth::Dword, Extension::Zero)),
    None,
];

/// The stores by funct3.
const STORES: [Option<AccessWidth>; 8] = [
    Some(AccessWidth::Byte),
    Some(AccessWidth::Word),
    Some(AccessWidth::Dword),
    Some(AccessWidth::Qword),
    None,
    None,
    None,
    None,
];

fn load_width(funct3: u32) -> Option<(AccessWidth, Extension)> {
    LOADS.get(funct3 as usize).copied().flatten()
}

fn store_width(funct3: u32) -> Option<AccessWidth> {
    STORES.get(funct3 as usize).copied().flatten()
}

/// Decodes by quadrant and funct3; Zcb's byte and half-word accesses included.
// Apart from the others, which would pay for its registers.
#[inline(never)]
fn compressed(half: u32) -> Option<Access> {
    let low = short_register(bits(half, 2, 3));
    let any = bits(half, 7, 5) as u8;
    let stacked = bits(half, 2, 5) as u8;
    let (kind, width) = match (bits(half, 0, 2), bits(half, 13, 3)) {
        (0, 2) => (signed_load(low), AccessWidth::Dword),
        (0, 3) => (signed_load(low), AccessWidth::Qword),
        (0, 4) => zcb(half)?,
        (0, 6) => (Kind::Store { from: low }, AccessWidth::Dword),
        (0, 7) => (Kind::Store { from: low }, AccessWidth::Qword),
        // A stack-pointer load to x0 is reserved.
        (2, 2 | 3) if any == 0 => return None,
        (2, 2) => (signed_load(any), AccessWidth::Dword),
        (2, 3) => (signed_load(any), AccessWidth::Qword),
        (2, 6) => (Kind::Store { from: stacked }, AccessWidth::Dword),
        (2, 7) => (Kind::Store { from: stacked }, AccessWidth::Qword),
        _ => return None,
    };
    Some(access(kind, width, 2))
}

fn zcb(half: u32) -> Option<(Kind, AccessWidth)> {
    let register = short_register(bits(half, 2, 3));
    let zero_load = Kind::Load {
        to: register,
        extension: Extension::Zero,
    };
    Some(match (bits(half, 10, 3), bits(half, 6, 1)) {
        (0, _) => (zero_load, AccessWidth::Byte),
        (1, 0) => (zero_load, AccessWidth::Word),
        (1, _) => (signed_load(register), AccessWidth::Word),
        (2, _) => (Kind::Store { from: register }, AccessWidth::Byte),
        (3, 0) => (Kind::Store { from: register }, AccessWidth::Word),
        _ => return None,
    })
}

fn signed_load(to: u8) -> Kind {
    let extension = Extension::Sign;
    Kind::Load { to, extension }
}

/// The registers x8 to x15, which three bits name.
fn short_register(field: u32) -> u8 {
    (field as u8) | 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(to: u8, extension: Extension, width: AccessWidth, length: u8) -> Option<Access> {
        Some(access(Kind::Load { to, extension }, width, length))
    }

    fn store(from: u8, width: AccessWidth, length: u8) -> Option<Access> {
        Some(access(Kind::Store { from }, width, length))
    }

    #[test]
    fn csr_instructions_are_known_and_nothing_else() {
        let access = |number, to, effect, operand| {
            Some(CsrAccess {
                number,
                to,
                effect,
                operand,
            })
        };
        use Operand::{Immediate, Register};
        // csrr a1, stopi; csrrw a0, stopei, zero; csrrs a0, sireg, t6
        let read = access(0xdb0, 11, Effect::Read, Register(0));
        assert_eq!(csr(0xdb00_25f3), read);
        let write = access(0x15c, 10, Effect::Write, Register(0));
        assert_eq!(csr(0x15c0_1573), write);
        let set = access(0x151, 10, Effect::Set, Register(31));
        assert_eq!(csr(0x151f_a573), set);
        // csrci siselect, 5; csrsi siselect, 0; csrwi siselect, 0
        let clear = access(0x150, 0, Effect::Clear, Immediate(5));
        assert_eq!(csr(0x1502_f073), clear);
        assert_eq!(
            csr(0x1500_6073),
            access(0x150, 0, Effect::Read, Immediate(0))
        );
        assert_eq!(
            csr(0x1500_5073),
            access(0x150, 0, Effect::Write, Immediate(0))
        );
        // wfi, hlv.d, lw
        assert_eq!([0x1050_0073, 0x6c05_c573, 0x0005_2503].map(csr), [None; 3]);
    }

    #[test]
    fn words_from_the_assembler_decode_as_written() {
        use AccessWidth::*;
        use Extension::*;
        let cases = [
            (0x0005_8503, load(10, Sign, Byte, 4)),  // lb a0, 0(a1)
            (0xfff5_c503, load(10, Zero, Byte, 4)),  // lbu a0, -1(a1)
            (0x0026_1583, load(11, Sign, Word, 4)),  // lh a1, 2(a2)
            (0x0026_5583, load(11, Zero, Word, 4)),  // lhu a1, 2(a2)
            (0x0042_a303, load(6, Sign, Dword, 4)),  // lw t1, 4(t0)
            (0x0042_e303, load(6, Zero, Dword, 4)),  // lwu t1, 4(t0)
            (0x0082_bf83, load(31, Sign, Qword, 4)), // ld t6, 8(t0)
            (0x00a5_8023, store(10, Byte, 4)),       // sb a0, 0(a1)
            (0x00b6_1123, store(11, Word, 4)),       // sh a1, 2(a2)
            (0x0062_a223, store(6, Dword, 4)),       // sw t1, 4(t0)
            (0x01f2_b423, store(31, Qword, 4)),      // sd t6, 8(t0)
            (0x4188, load(10, Sign, Dword, 2)),      // c.lw a0, 0(a1)
            (0x6188, load(10, Sign, Qword, 2)),      // c.ld a0, 0(a1)
            (0xc188, store(10, Dword, 2)),           // c.sw a0, 0(a1)
            (0xe188, store(10, Qword, 2)),           // c.sd a0, 0(a1)
            (0x4502, load(10, Sign, Dword, 2)),      // c.lwsp a0, 0(sp)
            (0x6502, load(10, Sign, Qword, 2)),      // c.ldsp a0, 0(sp)
            (0xc02a, store(10, Dword, 2)),           // c.swsp a0, 0(sp)
            (0xe02a, store(10, Qword, 2)),           // c.sdsp a0, 0(sp)
            (0x0005_b507, None),                     // fld fa0, 0(a1)
            (0x00b5_252f, None),                     // amoadd.w
            (0x2188, None),                          // c.fld
            (0x4002, None),                          // c.lwsp to x0
        ];
        for (word, expected) in cases {
            assert_eq!(decode(word), expected, "{word:#x}");
        }
    }

    #[test]
    fn a_transformed_compressed_load_is_two_bytes_long() {
        // lw a0, 0(x0) with bit 1 cleared, as hardware expands c.lw.
        let access = transformed(0x0000_2501);
        assert_eq!(access, load(10, Extension::Sign, AccessWidth::Dword, 2));
    }

    #[test]
    fn pseudoinstructions_are_table_walks() {
        for htinst in [0x3000, 0x3020] {
            assert!(is_table_walk(htinst));
            assert_eq!(transformed(htinst), None);
        }
        assert!(!is_table_walk(0) && !is_table_walk(0x2501));
    }

    proptest! {
        #[test]
        fn any_word_decodes_to_registers_that_exist(word in any::<u32>()) {
            let found = [decode(word), transformed(u64::from(word))];
            for access in found.into_iter().flatten() {
                let register = match access.kind {
                    Kind::Load { to, .. } => to,
                    Kind::Store { from } => from,
                };
                prop_assert!(register < 32);
                prop_assert!(access.length == 2 || access.length == 4);
            }
        }

        #[test]
        fn every_full_load_and_store_round_trips(
            register in 0_u32..32, base in 0_u32..32, offset in 0_u32..4096, width in 0_u32..4,
        ) {
            let load = (offset << 20) | (base << 15) | (width << 12) | (register << 7) | LOAD;
            let access = decode(load).unwrap();
            let extension = Extension::Sign;
            prop_assert_eq!(access.kind, Kind::Load { to: register as u8, extension });
            prop_assert_eq!(access.width.size(), 1 << width);
            let store = ((offset >> 5) << 25) | (register << 20) | (base << 15)
                | (width << 12) | ((offset & 31) << 7) | STORE;
            let access = decode(store).unwrap();
            prop_assert_eq!(access.kind, Kind::Store { from: register as u8 });
            prop_assert_eq!(access.width.size(), 1 << width);
        }
    }
}
