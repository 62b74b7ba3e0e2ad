// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The decoder against known encodings, and instructions against a device.

use std::vec::Vec;

use axvm::GuestPhysAddr;
use proptest::prelude::*;

use super::*;
use crate::frame::{Frame, RBX, RCX, RDI, RSI};

const AT: GuestPhysAddr = GuestPhysAddr::from_usize(0xfee0_0020);
const CARRY: u64 = 1 << 0;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const DIRECTION: u64 = 1 << 10;
const OVERFLOW: u64 = 1 << 11;

fn decode_64(bytes: &[u8]) -> Instruction {
    let decoded = decode(bytes, CodeSize::Bits64).unwrap();
    assert_eq!(usize::from(decoded.length), bytes.len(), "{bytes:x?}");
    decoded
}

/// Carries out one instruction on a register of a device that holds `held`;
/// returns what was written to it.
fn run(bytes: &[u8], frame: &mut Frame, flags: &mut u64, held: u64) -> Option<u64> {
    let mut emulation = Emulation::at(decode_64(bytes), AT);
    let mut written = None;
    loop {
        match emulation.next(frame, flags) {
            Progress::Read(place, _) => {
                assert_eq!(place, Place::Memory(AT));
                emulation.answer(held);
            }
            Progress::Write(_, _, value) => written = Some(value),
            Progress::Done => return written,
            Progress::Again => panic!("nothing repeats"),
        }
    }
}

#[test]
fn lengths_and_widths_follow_the_prefixes() {
    let cases: [(&[u8], AccessWidth); 12] = [
        (&[0x8b, 0x00], AccessWidth::Dword),             // mov eax, [rax]
        (&[0x48, 0x8b, 0x00], AccessWidth::Qword),       // mov rax, [rax]
        (&[0x66, 0x8b, 0x00], AccessWidth::Word),        // mov ax, [rax]
        (&[0x8a, 0x40, 0x10], AccessWidth::Byte),        // mov al, [rax+16]
        (&[0x8b, 0x05, 1, 2, 3, 4], AccessWidth::Dword), // mov eax, [rip+x]
        (&[0x8b, 0x04, 0x25, 0, 0, 0xe0, 0xfe], AccessWidth::Dword), // mov eax, [x]
        (&[0x44, 0x89, 0x84, 0x24, 0, 1, 0, 0], AccessWidth::Dword), // mov [rsp+256], r8d
        (
            &[0xc7, 0x04, 0x25, 0xb0, 0, 0xe0, 0xfe, 0, 0, 0, 0],
            AccessWidth::Dword,
        ),
        (&[0x48, 0xc7, 0x00, 1, 0, 0, 0], AccessWidth::Qword), // mov qword [rax], 1
        (&[0x66, 0xc7, 0x00, 1, 0], AccessWidth::Word),        // mov word [rax], 1
        (&[0x0f, 0xb6, 0x07], AccessWidth::Byte),              // movzx eax, byte [rdi]
        (&[0xa1, 1, 2, 3, 4, 5, 6, 7, 8], AccessWidth::Dword), // mov eax, [x]
    ];
    for (bytes, width) in cases {
        assert_eq!(decode_64(bytes).width, width, "{bytes:x?}");
    }
}

#[test]
fn addresses_of_16_bits_have_their_own_displacements() {
    let decoded = decode(&[0x8a, 0x86, 0x34, 0x12], CodeSize::Bits16).unwrap();
    assert_eq!((decoded.length, decoded.width), (4, AccessWidth::Byte));
    let decoded = decode(&[0x67, 0x66, 0xa1, 1, 2, 3, 4], CodeSize::Bits16).unwrap();
    assert_eq!((decoded.length, decoded.width), (7, AccessWidth::Dword));
    let decoded = decode(&[0x40], CodeSize::Bits32);
    assert_eq!(decoded, None, "this is no prefix there but INC");
}

#[test]
fn registers_are_named_as_prefixes_say() {
    let register = |bytes: &[u8]| match decode_64(bytes).operation {
        Operation::Store {
            from: Source::Register(reg),
        } => (reg.number, reg.is_high_byte),
        other => panic!("{other:?}"),
    };
    assert_eq!(register(&[0x88, 0x20]), (0, true), "ah");
    assert_eq!(register(&[0x40, 0x88, 0x20]), (4, false), "spl");
    assert_eq!(register(&[0x44, 0x88, 0x20]), (12, false), "r12b");
    assert_eq!(register(&[0x44, 0x89, 0x38]), (15, false), "r15d");
    // A prefix behind REX makes it void.
    assert_eq!(register(&[0x44, 0x66, 0x89, 0x38]), (7, false), "di");
}

#[test]
fn loads_extend_as_they_say() {
    let loaded = |bytes: &[u8]| {
        let mut frame = Frame::default();
        frame.set(RAX, u64::MAX);
        assert_eq!(run(bytes, &mut frame, &mut 2, 0x8000_8080), None);
        frame.get(RAX)
    };
    assert_eq!(loaded(&[0x8b, 0x07]), 0x8000_8080);
    assert_eq!(loaded(&[0x8a, 0x07]), 0xffff_ffff_ffff_ff80);
    assert_eq!(loaded(&[0x0f, 0xb7, 0x07]), 0x8080);
    assert_eq!(loaded(&[0x0f, 0xbe, 0x07]), 0xffff_ff80);
    assert_eq!(loaded(&[0x48, 0x0f, 0xbf, 0x07]), 0xffff_ffff_ffff_8080);
    assert_eq!(loaded(&[0x48, 0x63, 0x07]), 0xffff_ffff_8000_8080);
}

#[test]
fn stores_write_registers_and_immediates() {
    let mut frame = Frame::default();
    frame.set(RAX, 0x1111_2222_3333_4444);
    let mut stored = |bytes: &[u8]| run(bytes, &mut frame, &mut 2, 0);
    assert_eq!(stored(&[0x89, 0x07]), Some(0x3333_4444));
    assert_eq!(stored(&[0x88, 0x27]), Some(0x44), "ah");
    assert_eq!(
        stored(&[0x48, 0xc7, 0x07, 0xff, 0xff, 0xff, 0xff]),
        Some(u64::MAX)
    );
    assert_eq!(stored(&[0xc6, 0x07, 0x5a]), Some(0x5a));
    assert_eq!(stored(&[0x0f, 0xc3, 0x07]), Some(0x3333_4444), "movnti");
}

#[test]
fn an_exchange_reads_and_writes() {
    let mut frame = Frame::default();
    frame.set(RBX, 0xaaaa_aaaa_0000_0001);
    assert_eq!(run(&[0x87, 0x1f], &mut frame, &mut 2, 7), Some(1));
    assert_eq!(frame.get(RBX), 7);
}

#[test]
fn exchanges_add_or_compare_before_they_write() {
    let (mut frame, mut flags) = (Frame::default(), 2);
    frame.set(RBX, 5);
    let xadd = [0xf0, 0x0f, 0xc1, 0x1f];
    assert_eq!(run(&xadd, &mut frame, &mut flags, 7), Some(12));
    assert_eq!(frame.get(RBX), 7);
    let cmpxchg = [0xf0, 0x0f, 0xb1, 0x1f];
    frame.set(RAX, 9);
    assert_eq!(run(&cmpxchg, &mut frame, &mut flags, 9), Some(7));
    assert_eq!((frame.get(RAX), flags & ZERO), (9, ZERO));
    assert_eq!(run(&cmpxchg, &mut frame, &mut flags, 8), Some(8));
    assert_eq!((frame.get(RAX), flags & ZERO), (8, 0));
}

#[test]
fn arithmetic_sets_flags_and_writes_back() {
    let mut frame = Frame::default();
    let mut flags = 2;
    // and dword [rdi], 0xfffffff0
    assert_eq!(
        run(&[0x83, 0x27, 0xf0], &mut frame, &mut flags, 0xf),
        Some(0)
    );
    assert_eq!(flags & (ZERO | CARRY), ZERO);
    // cmp byte [rdi], 0x81
    assert_eq!(run(&[0x80, 0x3f, 0x81], &mut frame, &mut flags, 1), None);
    assert_eq!(
        flags & (ZERO | CARRY | SIGN | OVERFLOW),
        CARRY | SIGN | OVERFLOW
    );
    // test dword [rdi], 0x80000000
    assert_eq!(
        run(
            &[0xf7, 0x07, 0, 0, 0, 0x80],
            &mut frame,
            &mut flags,
            u64::MAX
        ),
        None
    );
    assert_eq!(flags & (ZERO | CARRY | SIGN), SIGN);
    // or eax, [rdi]
    frame.set(RAX, 1);
    assert_eq!(run(&[0x0b, 0x07], &mut frame, &mut flags, 6), None);
    assert_eq!(frame.get(RAX), 7);
    // lock bts dword [rdi], 4
    assert_eq!(
        run(&[0xf0, 0x0f, 0xba, 0x2f, 4], &mut frame, &mut flags, 1),
        Some(17)
    );
    assert_eq!(flags & CARRY, 0);
    // not byte [rdi]; inc keeps the carry
    assert_eq!(run(&[0xf6, 0x17], &mut frame, &mut flags, 0xf0), Some(0x0f));
    flags |= CARRY;
    assert_eq!(
        run(&[0xff, 0x07], &mut frame, &mut flags, 0xffff_ffff),
        Some(0)
    );
    assert_eq!(flags & (ZERO | CARRY), ZERO | CARRY);
}

#[test]
fn a_repeated_string_moves_one_element_at_a_time() {
    // rep stosd, downwards
    let instruction = decode_64(&[0xf3, 0xab]);
    let mut frame = Frame::default();
    frame.set(RAX, 0x1234);
    frame.set(RCX, 2);
    frame.set(RDI, 0x1004);
    let mut flags = DIRECTION;
    let mut element = |frame: &mut Frame| {
        let to = Place::Memory(AT);
        let mut emulation = Emulation::between(instruction, Place::Accumulator, to);
        let written = emulation.next(frame, &mut flags);
        (written, emulation.next(frame, &mut flags))
    };
    let write = Progress::Write(Place::Memory(AT), AccessWidth::Dword, 0x1234);
    assert_eq!(element(&mut frame), (write, Progress::Again));
    assert_eq!((frame.get(RDI), frame.get(RCX)), (0x1000, 1));
    assert_eq!(element(&mut frame), (write, Progress::Done));
    assert_eq!(element(&mut frame).0, Progress::Done, "nothing is left");
}

#[test]
fn port_strings_move_between_memory_and_port() {
    // rep outsb from FS, with addresses of 32 bits
    let instruction = decode_64(&[0x64, 0x67, 0xf3, 0x6e]);
    assert_eq!(instruction.segment, SegmentName::Fs);
    assert_eq!(instruction.address_width, AccessWidth::Dword);
    let mut frame = Frame::default();
    frame.set(RSI, 0xffff_ffff);
    frame.set(RCX, 1 << 32 | 1);
    let port = Place::Port(0x3f8);
    let mut emulation = Emulation::between(instruction, Place::Memory(AT), port);
    let read = emulation.next(&mut frame, &mut 2);
    assert_eq!(read, Progress::Read(Place::Memory(AT), AccessWidth::Byte));
    emulation.answer(0x141);
    let write = Progress::Write(port, AccessWidth::Byte, 0x41);
    assert_eq!(emulation.next(&mut frame, &mut 2), write);
    assert_eq!(emulation.next(&mut frame, &mut 2), Progress::Done);
    assert_eq!(frame.get(RSI), 0, "a narrow index wraps");
    // insd with REX.W is still 32 bits.
    assert_eq!(decode_64(&[0x48, 0x6d]).width, AccessWidth::Dword);
}

#[test]
fn a_move_to_a_control_register_names_its_source() {
    let moved = |bytes: &[u8], size| move_to_control(bytes, size);
    let long = CodeSize::Bits64;
    assert_eq!(moved(&[0x45, 0x0f, 0x22, 0xc3], long), Some((11, 4)));
    assert_eq!(moved(&[0x44, 0x0f, 0x22, 0xc0], long), Some((0, 4)));
    let locked = [0xf0, 0x0f, 0x22, 0xc1];
    assert_eq!(moved(&locked, CodeSize::Bits32), Some((1, 4)));
    assert_eq!(moved(&[0x0f, 0x20, 0xc0], long), None);
    assert_eq!(moved(&[0x0f], long), None);
}

#[test]
fn what_has_no_memory_operand_or_is_unknown_is_refused() {
    let refused: [&[u8]; 7] = [
        &[],
        &[0x8b, 0xc0],             // mov eax, eax
        &[0x0f, 0x10, 0x00],       // movups xmm0, [rax]
        &[0xc7, 0x48, 0, 0, 0, 0], // no such /reg
        &[0xff, 0x10],             // call [rax]
        &[0x8b],                   // cut short
        &[0x66; 20],               // too long
    ];
    for bytes in refused {
        assert_eq!(decode(bytes, CodeSize::Bits64), None, "{bytes:x?}");
    }
}

fn any_size() -> impl Strategy<Value = CodeSize> {
    prop_oneof![
        Just(CodeSize::Bits16),
        Just(CodeSize::Bits32),
        Just(CodeSize::Bits64)
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic_or_read_too_far(
        bytes in prop::collection::vec(any::<u8>(), 0..20),
        size in any_size(),
    ) {
        if let Some(decoded) = decode(&bytes, size) {
            prop_assert!(usize::from(decoded.length) <= bytes.len().min(LENGTH_MAX));
            let whole = Vec::from(&bytes[..decoded.length.into()]);
            prop_assert_eq!(decode(&whole, size), Some(decoded));
            prop_assert_eq!(decode(&whole[..whole.len() - 1], size), None);
        }
    }

    #[test]
    fn sums_and_differences_set_the_flags_of_wider_arithmetic(one: u32, other: u32, carry: bool) {
        let flags = u64::from(carry);
        let pair = (u64::from(one), u64::from(other));
        let (sum, after) = Alu::AddCarry.compute(pair, AccessWidth::Dword, flags);
        let wide = pair.0 + pair.1 + flags;
        prop_assert_eq!(sum, wide & 0xffff_ffff);
        prop_assert_eq!(after & CARRY != 0, wide >> 32 != 0);
        let signed = i64::from(one as i32) + i64::from(other as i32) + flags as i64;
        prop_assert_eq!(after & OVERFLOW != 0, signed != i64::from(signed as i32));
        let (difference, after) = Alu::SubtractBorrow.compute(pair, AccessWidth::Dword, flags);
        let wide = (pair.0 as i64) - (pair.1 as i64) - flags as i64;
        prop_assert_eq!(difference, wide as u64 & 0xffff_ffff);
        prop_assert_eq!(after & CARRY != 0, wide < 0);
        let signed = i64::from(one as i32) - i64::from(other as i32) - flags as i64;
        prop_assert_eq!(after & OVERFLOW != 0, signed != i64::from(signed as i32));
    }
}
