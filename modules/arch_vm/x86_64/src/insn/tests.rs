// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The decoder against known encodings, and instructions against a device.

use std::{collections::BTreeMap, vec::Vec};

use axvm::GuestPhysAddr;
use proptest::prelude::*;

use super::*;
use crate::{
    frame::{RAX, RBX, RDI, RDX, RSI, RSP},
    walk::Purpose,
};

const DEVICE: u64 = 0xfee0_0020;
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

/// Memory without tables, whose pages are in the other order if it is `crooked`.
#[derive(Default)]
struct Memory {
    bytes: BTreeMap<u64, u8>,
    /// Each access: where, of how many bytes, and whether it writes.
    accesses: Vec<(u64, usize, bool)>,
    found: Vec<Access>,
    /// Where nothing may be found.
    forbidden: Option<u64>,
    vectors: [[u64; 4]; 16],
    sent: Vec<u64>,
    is_crooked: bool,
    frame: Frame,
}

/// The registers of a guest.
struct Guest {
    frame: Frame,
    flags: u64,
    next: u64,
}

impl Memory {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.bytes.extend((at..).zip(bytes.iter().copied()));
    }

    fn get(&self, at: u64, width: usize) -> u64 {
        let bytes = (at..at + width as u64).map(|at| self.bytes.get(&at).copied());
        let number = bytes.rev().map(|byte| u64::from(byte.unwrap_or(0)));
        number.fold(0, |value, byte| value << 8 | byte)
    }
}

impl Bus for Memory {
    fn frame(&mut self) -> &mut Frame {
        &mut self.frame
    }

    fn find(&mut self, access: Access) -> Result<Span, Refusal> {
        self.found.push(access);
        let Access { offset, bytes, .. } = access;
        Span::find(offset, bytes, |at| match self.forbidden {
            Some(page) if at & !0xfff == page => Err(Refusal::Page(at, 2)),
            _ => {
                let flipped = if self.is_crooked { 0x1000 } else { 0 };
                Ok(GuestPhysAddr::from_usize((at ^ flipped) as usize))
            }
        })
    }

    fn read(&mut self, at: GuestPhysAddr, width: AccessWidth) -> u64 {
        let at = at.as_usize() as u64;
        self.accesses.push((at, width.size(), false));
        self.get(at, width.size())
    }

    fn write(&mut self, at: GuestPhysAddr, width: AccessWidth, value: u64) {
        let at = at.as_usize() as u64;
        self.accesses.push((at, width.size(), true));
        self.put(at, &value.to_le_bytes()[..width.size()]);
    }

    fn read_port(&mut self, _: AccessWidth) -> u64 {
        0x4142_4344
    }

    fn write_port(&mut self, _: AccessWidth, value: u64) {
        self.sent.push(value);
    }

    fn vector(&mut self, vector: Vector) -> Result<[u64; 4], Refusal> {
        Ok(self.vectors[usize::from(vector.register)])
    }

    fn set_vector(&mut self, vector: Vector, value: [u64; 4]) {
        self.vectors[usize::from(vector.register)] = value;
    }
}

const RIP: u64 = 0x10_0000;

fn state(registers: &[(usize, u64)]) -> Guest {
    let mut frame = Frame::default();
    for &(register, value) in registers {
        frame.set(register, value);
    }
    Guest {
        frame,
        flags: 2,
        next: 0,
    }
}

/// Carries out one instruction; its only address is RDI's.
fn step(bytes: &[u8], state: &mut Guest, memory: &mut Memory) -> Result<Progress, Refusal> {
    let instruction = decode_64(bytes);
    memory.frame = state.frame.clone();
    let mut left = State {
        flags: state.flags,
        next: RIP + u64::from(instruction.length),
    };
    let result = execute(&instruction, &mut left, memory);
    state.frame = memory.frame.clone();
    (state.flags, state.next) = (left.flags, left.next);
    result
}

/// Carries out one instruction on a register of a device at RDI that holds `held`;
/// returns what was written to it.
fn run(bytes: &[u8], frame: &mut Frame, flags: &mut u64, held: u64) -> Option<u64> {
    let mut memory = Memory::default();
    memory.put(DEVICE, &held.to_le_bytes());
    frame.set(RDI, DEVICE);
    let mut state = Guest {
        frame: frame.clone(),
        flags: *flags,
        next: 0,
    };
    assert_eq!(step(bytes, &mut state, &mut memory), Ok(Progress::Done));
    (*frame, *flags) = (state.frame, state.flags);
    let last = memory.accesses.last().filter(|(.., writes)| *writes)?;
    assert_eq!(last.0, DEVICE);
    Some(memory.get(DEVICE, last.1))
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
    let register = |bytes: &[u8]| match decode_64(bytes).from {
        Operand::Register(reg) => (reg.number, reg.is_high_byte),
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
    let mut memory = Memory::default();
    let mut state = state(&[(RAX, 0x1234), (RCX, 2), (RDI, 0x1004)]);
    state.flags = DIRECTION;
    let mut element = |state: &mut Guest| step(&[0xf3, 0xab], state, &mut memory);
    assert_eq!(element(&mut state), Ok(Progress::Again));
    assert_eq!((state.frame.get(RDI), state.frame.get(RCX)), (0x1000, 1));
    assert_eq!(element(&mut state), Ok(Progress::Done));
    assert_eq!(element(&mut state), Ok(Progress::Done), "nothing is left");
    assert_eq!(memory.accesses, [(0x1004, 4, true), (0x1000, 4, true)]);
    assert_eq!(memory.get(0x1000, 8), 0x1234_0000_1234);
}

#[test]
fn port_strings_move_between_memory_and_port() {
    // rep outsb from FS, with addresses of 32 bits
    let mut memory = Memory::default();
    memory.put(0xffff_ffff, &[0x41]);
    let mut state = state(&[(RSI, 0xffff_ffff), (RCX, 1 << 32 | 1), (RDI, 0x2000)]);
    let outs = [0x64, 0x67, 0xf3, 0x6e];
    assert_eq!(step(&outs, &mut state, &mut memory), Ok(Progress::Done));
    assert_eq!(memory.found[0].segment, SegmentName::Fs);
    assert_eq!(
        (memory.sent.as_slice(), state.frame.get(RSI)),
        (&[0x41][..], 0)
    );
    // insd with REX.W is still 32 bits.
    assert_eq!(
        step(&[0x48, 0x6d], &mut state, &mut memory),
        Ok(Progress::Done)
    );
    assert_eq!(memory.get(0x2000, 8), 0x4142_4344);
    assert!(decode_64(&[0x6d]).uses_port() && !decode_64(&[0xa5]).uses_port());
}

#[test]
fn strings_are_compared_until_they_differ_or_are_found() {
    let mut memory = Memory::default();
    memory.put(0x1000, b"abcd");
    memory.put(0x2000, b"abxd");
    let mut state = state(&[(RSI, 0x1000), (RDI, 0x2000), (RCX, 4), (RAX, 0x64)]);
    let mut until_done = |bytes: &[u8], state: &mut Guest| {
        while step(bytes, state, &mut memory) == Ok(Progress::Again) {}
        (state.frame.get(RCX), state.flags & (ZERO | CARRY))
    };
    // repe cmpsb: c is less than x.
    assert_eq!(until_done(&[0xf3, 0xa6], &mut state), (1, CARRY));
    assert_eq!(state.frame.get(RSI), 0x1003);
    state.frame.set(RDI, 0x2000);
    state.frame.set(RCX, 9);
    // repne scasb
    assert_eq!(until_done(&[0xf2, 0xae], &mut state), (5, ZERO));
    assert_eq!(state.frame.get(RDI), 0x2004);
}

#[test]
fn addresses_are_the_sum_that_the_bytes_say() {
    let registers = [(RBX, 0x1000), (RSI, 0x10), (RSP, 0x8000), (13, 0x3000)];
    let address = |bytes: &[u8], size| {
        let instruction = decode(bytes, size).unwrap();
        let mut memory = Memory {
            frame: state(&registers).frame,
            ..Memory::default()
        };
        let mut state = State {
            flags: 2,
            next: RIP,
        };
        execute(&instruction, &mut state, &mut memory).unwrap();
        (memory.found[0].segment, memory.found[0].offset)
    };
    let long = |bytes: &[u8]| address(bytes, CodeSize::Bits64);
    let in_data = |offset| (SegmentName::Ds, offset);
    assert_eq!(
        long(&[0x8b, 0x44, 0xb3, 0xff]),
        in_data(0x103f),
        "rbx+4*rsi-1"
    );
    assert_eq!(
        long(&[0x8b, 0x05, 0xf0, 0xff, 0xff, 0xff]),
        in_data(RIP - 16)
    );
    assert_eq!(
        long(&[0x8b, 0x04, 0x25, 0, 0, 0, 0x80]),
        in_data(0xffff_ffff_8000_0000)
    );
    assert_eq!(long(&[0x67, 0x8b, 0x43, 0x80]), in_data(0xf80));
    assert_eq!(long(&[0x41, 0x8b, 0x45, 0]), in_data(0x3000), "r13");
    assert_eq!(long(&[0x8b, 0x44, 0x24, 8]), (SegmentName::Ss, 0x8008));
    assert_eq!(long(&[0x65, 0x8b, 0x03]), (SegmentName::Gs, 0x1000));
    assert_eq!(
        long(&[0x48, 0xa1, 1, 0, 0, 0, 2, 0, 0, 0]),
        in_data(0x2_0000_0001)
    );
    let short = |bytes: &[u8]| address(bytes, CodeSize::Bits16);
    assert_eq!(short(&[0x8a, 0x40, 0xff]), in_data(0x100f), "bx+si-1");
    assert_eq!(short(&[0x8a, 0x06, 0x34, 0x12]), in_data(0x1234));
    assert_eq!(
        address(&[0x8b, 0x05, 4, 0, 0, 0], CodeSize::Bits32),
        in_data(4)
    );
}

#[test]
fn a_register_names_bits_around_an_address() {
    let mut memory = Memory::default();
    let mut state = state(&[(RDI, 0x1008), (RAX, 65), (RBX, u64::MAX)]);
    memory.put(0x1004, &[0, 0, 0, 0x80]);
    // bts dword [rdi], eax; bt dword [rdi], ebx
    assert_eq!(
        step(&[0x0f, 0xab, 0x07], &mut state, &mut memory),
        Ok(Progress::Done)
    );
    assert_eq!(memory.get(0x1010, 4), 2);
    assert_eq!(
        step(&[0x0f, 0xa3, 0x1f], &mut state, &mut memory),
        Ok(Progress::Done)
    );
    assert_eq!(
        (memory.accesses[2], state.flags & CARRY),
        ((0x1004, 4, false), CARRY)
    );
}

#[test]
fn the_stack_may_be_anywhere() {
    let mut memory = Memory::default();
    let mut state = state(&[(RSP, 0x2000), (RDI, DEVICE), (RBX, 0x77)]);
    memory.put(DEVICE, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let mut push = |bytes: &[u8], state: &mut Guest| {
        assert_eq!(
            step(bytes, state, &mut memory),
            Ok(Progress::Done),
            "{bytes:x?}"
        );
        let rsp = state.frame.get(RSP);
        (rsp, memory.get(rsp, 8), state.next)
    };
    let next = |length| RIP + length;
    // push qword [rdi]; push rbx; push -2; push rsp
    assert_eq!(
        push(&[0xff, 0x37], &mut state),
        (0x1ff8, 0x0807_0605_0403_0201, next(2))
    );
    assert_eq!(push(&[0x53], &mut state), (0x1ff0, 0x77, next(1)));
    assert_eq!(
        push(&[0x6a, 0xfe], &mut state),
        (0x1fe8, u64::MAX - 1, next(2))
    );
    assert_eq!(push(&[0x54], &mut state), (0x1fe0, 0x1fe8, next(1)));
    // push word [rdi] is 16 bits
    assert_eq!(push(&[0x66, 0xff, 0x37], &mut state).0, 0x1fde);
    state.frame.set(RSP, 0x1fe0);
    // call [rdi]; call rbx; call +16
    let device = 0x0807_0605_0403_0201;
    assert_eq!(push(&[0xff, 0x17], &mut state), (0x1fd8, next(2), device));
    assert_eq!(push(&[0xff, 0xd3], &mut state), (0x1fd0, next(2), 0x77));
    assert_eq!(
        push(&[0xe8, 16, 0, 0, 0], &mut state),
        (0x1fc8, next(5), next(5) + 16)
    );
    // ret; jmp [rdi]
    assert_eq!(push(&[0xc3], &mut state).2, next(5));
    assert_eq!(push(&[0xff, 0x27], &mut state).2, device);
}

#[test]
fn what_is_popped_goes_where_the_new_stack_pointer_says() {
    let mut memory = Memory::default();
    let mut state = state(&[(RSP, 0x2000)]);
    memory.put(0x2000, &[0x11; 8]);
    memory.put(0x2008, &[0x22; 8]);
    // pop qword [rsp + 16]; pop rsp
    assert_eq!(
        step(&[0x8f, 0x44, 0x24, 16], &mut state, &mut memory),
        Ok(Progress::Done)
    );
    assert_eq!(
        (memory.get(0x2018, 8), state.frame.get(RSP)),
        (0x1111_1111_1111_1111, 0x2008)
    );
    assert_eq!(step(&[0x5c], &mut state, &mut memory), Ok(Progress::Done));
    assert_eq!(state.frame.get(RSP), 0x2222_2222_2222_2222);
}

#[test]
fn bytes_are_swapped_and_conditions_asked() {
    let mut frame = Frame::default();
    let mut flags = ZERO | 2;
    frame.set(RAX, 0x1111_2222_3333_4444);
    // movbe eax, [rdi]; movbe [rdi], ax
    assert_eq!(
        run(
            &[0x0f, 0x38, 0xf0, 0x07],
            &mut frame,
            &mut flags,
            0x0102_0304
        ),
        None
    );
    assert_eq!(frame.get(RAX), 0x0403_0201);
    assert_eq!(
        run(&[0x66, 0x0f, 0x38, 0xf1, 0x07], &mut frame, &mut flags, 0),
        Some(0x0102)
    );
    // movdiri [rdi], eax
    assert_eq!(
        run(&[0x0f, 0x38, 0xf9, 0x07], &mut frame, &mut flags, 0),
        Some(0x0403_0201)
    );
    // sete [rdi]; setne [rdi]
    assert_eq!(run(&[0x0f, 0x94, 0x07], &mut frame, &mut flags, 9), Some(1));
    assert_eq!(run(&[0x0f, 0x95, 0x07], &mut frame, &mut flags, 9), Some(0));
    // cmovl edx, [rdi] keeps it but for its upper half; cmove takes it
    frame.set(RDX, u64::MAX);
    assert_eq!(run(&[0x0f, 0x4c, 0x17], &mut frame, &mut flags, 9), None);
    assert_eq!(frame.get(RDX), 0xffff_ffff);
    run(&[0x48, 0x0f, 0x44, 0x17], &mut frame, &mut flags, 9);
    assert_eq!(frame.get(RDX), 9);
}

#[test]
fn vectors_are_moved_in_words() {
    let value = [0x1111, 0x2222, 0x3333, 0x4444];
    let cases: [(&[u8], usize, &[u64]); 12] = [
        (&[0x0f, 0x11, 0x0f], 1, &value[..2]), // movups [rdi], xmm1
        (&[0x66, 0x44, 0x0f, 0x29, 0x07], 8, &value[..2]), // movapd [rdi], xmm8
        (&[0x66, 0x0f, 0xe7, 0x0f], 1, &value[..2]), // movntdq
        (&[0xf3, 0x0f, 0x7f, 0x0f], 1, &value[..2]), // movdqu
        (&[0x0f, 0x2b, 0x0f], 1, &value[..2]), // movntps
        (&[0x66, 0x0f, 0xd6, 0x0f], 1, &value[..1]), // movq
        (&[0x66, 0x48, 0x0f, 0x7e, 0x0f], 1, &value[..1]), // movq
        (&[0x66, 0x0f, 0x7e, 0x0f], 1, &value[..1]), // movd
        (&[0xf2, 0x0f, 0x11, 0x0f], 1, &value[..1]), // movsd
        (&[0xc5, 0xfe, 0x7f, 0x0f], 1, &value), // vmovdqu [rdi], ymm1
        (&[0xc5, 0x7c, 0x11, 0x07], 8, &value), // vmovups [rdi], ymm8
        (&[0xc4, 0xc1, 0x79, 0xe7, 0x0b], 1, &value[..2]), // vmovntdq [r11], xmm1
    ];
    for (bytes, register, expected) in cases {
        let mut memory = Memory::default();
        memory.vectors[register] = value;
        let mut state = state(&[(RDI, 0x2000), (11, 0x2000)]);
        assert_eq!(step(bytes, &mut state, &mut memory), Ok(Progress::Done));
        let written: Vec<_> = (0x2000..)
            .step_by(8)
            .take(4)
            .map(|at| memory.get(at, 8))
            .collect();
        assert_eq!(&written[..expected.len()], expected, "{bytes:x?}");
        assert!(written[expected.len()..].iter().all(|word| *word == 0));
        assert!(memory.accesses.iter().all(|(.., writes)| *writes));
    }
    let loads: [(&[u8], usize); 7] = [
        (&[0x0f, 0x10, 0x0f], 16),             // movups xmm1, [rdi]
        (&[0x66, 0x0f, 0x6f, 0x0f], 16),       // movdqa
        (&[0x66, 0x0f, 0x38, 0x2a, 0x0f], 16), // movntdqa
        (&[0xf3, 0x0f, 0x7e, 0x0f], 8),        // movq
        (&[0xf3, 0x0f, 0x10, 0x0f], 4),        // movss
        (&[0xc5, 0xff, 0xf0, 0x0f], 32),       // vlddqu ymm1
        (&[0xc4, 0xe2, 0x7d, 0x2a, 0x0f], 32), // vmovntdqa ymm1
    ];
    for (bytes, size) in loads {
        let mut memory = Memory::default();
        memory.put(0x2000, &(1..33).collect::<Vec<u8>>());
        memory.vectors[1] = [u64::MAX; 4];
        let mut state = state(&[(RDI, 0x2000)]);
        assert_eq!(step(bytes, &mut state, &mut memory), Ok(Progress::Done));
        let bytes_of = memory.vectors[1].map(u64::to_le_bytes);
        let expected = (1..33).map(|byte| if byte <= size { byte as u8 } else { 0 });
        assert!(
            bytes_of.as_flattened().iter().copied().eq(expected),
            "{bytes:x?}"
        );
    }
}

#[test]
fn an_access_across_a_page_is_made_in_both() {
    for (at, expected) in [
        (0x1ffe, [(0xffe, 2, true), (0x3000, 2, true)]),
        (0x1fff, [(0xfff, 1, true), (0x3000, 2, true)]),
    ] {
        let mut memory = Memory {
            is_crooked: true,
            ..Memory::default()
        };
        let mut state = state(&[(RDI, at), (RAX, 0x4433_2211)]);
        assert_eq!(
            step(&[0x89, 0x07], &mut state, &mut memory),
            Ok(Progress::Done)
        );
        assert_eq!(memory.accesses[..2], expected);
        assert_eq!(
            step(&[0x8b, 0x1f], &mut state, &mut memory),
            Ok(Progress::Done)
        );
        assert_eq!(state.frame.get(RBX), 0x4433_2211);
    }
}

#[test]
fn an_instruction_that_is_refused_has_read_and_changed_nothing() {
    let forbidden: [&[u8]; 6] = [
        &[0x89, 0x07],       // mov [rdi], eax
        &[0x01, 0x07],       // add [rdi], eax
        &[0xa5],             // movsd
        &[0x8f, 0x07],       // pop [rdi]
        &[0x0f, 0x11, 0x07], // movups [rdi], xmm0
        &[0x48, 0x87, 0x07], // xchg [rdi], rax
    ];
    for bytes in forbidden {
        let mut memory = Memory {
            forbidden: Some(0x3000),
            ..Memory::default()
        };
        let mut state = state(&[(RDI, 0x2ffe), (RSI, 0x1000), (RSP, 0x1000)]);
        let refused = step(bytes, &mut state, &mut memory);
        assert_eq!(refused, Err(Refusal::Page(0x3000, 2)), "{bytes:x?}");
        assert_eq!(memory.accesses, [], "{bytes:x?}");
    }
}

#[test]
fn a_register_of_a_device_is_shifted() {
    for (bytes, expected) in [
        (&[0xd1, 0x27][..], 0x0000_0022),   // shl dword [rdi], 1
        (&[0xc1, 0x2f, 0x24], 0x0800_0001), // shr, by 36 - 32
        (&[0xd3, 0x3f], 0xf800_0001),       // sar, by cl
        (&[0xd2, 0x07], 0x11),              // rol byte [rdi], cl
        (&[0xd1, 0x17], 0x0000_0023),       // rcl with carry
    ] {
        let mut frame = Frame::default();
        frame.set(RCX, 0xff04);
        let mut flags = CARRY;
        let written = run(bytes, &mut frame, &mut flags, 0x8000_0011);
        assert_eq!(written, Some(expected), "{bytes:x?}");
    }
}

#[test]
fn half_a_vector_register_is_moved_and_the_other_stays() {
    const LOW: u64 = 0x1111;
    const HIGH: u64 = 0x2222;
    const THERE: u64 = 0x3333;
    let moved = |bytes: &[u8]| {
        let mut memory = Memory::default();
        memory.put(0x2000, &THERE.to_le_bytes());
        memory.vectors[1] = [LOW, HIGH, 5, 6];
        memory.vectors[9] = [7, 8, 9, 10];
        step(bytes, &mut state(&[(RDI, 0x2000)]), &mut memory).unwrap();
        (memory.vectors[1], memory.get(0x2000, 8))
    };
    let low = [THERE, HIGH, 0, 0];
    let high = [LOW, THERE, 0, 0];
    assert_eq!(moved(&[0x0f, 0x12, 0x0f]), (low, THERE), "movlps");
    assert_eq!(moved(&[0x66, 0x0f, 0x16, 0x0f]), (high, THERE), "movhpd");
    assert_eq!(moved(&[0x0f, 0x13, 0x0f]).1, LOW);
    assert_eq!(moved(&[0x0f, 0x17, 0x0f]).1, HIGH);
    // vmovhps xmm1, xmm9, [rdi]; vmovlpd [rdi], xmm1
    let from_other = [7, THERE, 0, 0];
    assert_eq!(moved(&[0xc5, 0xb0, 0x16, 0x0f]), (from_other, THERE));
    assert_eq!(moved(&[0xc5, 0xf9, 0x13, 0x0f]).1, LOW);
    // A store has no third operand, and no form has 32 bytes.
    for refused in [&[0xc5, 0xb0, 0x17, 0x0f], &[0xc5, 0xb4, 0x16, 0x0f]] {
        assert_eq!(decode(refused, CodeSize::Bits64), None);
    }
}

#[test]
fn what_is_written_is_looked_for_to_be_written() {
    let purpose = |bytes: &[u8]| {
        let mut memory = Memory::default();
        step(bytes, &mut state(&[(RDI, 0x1000)]), &mut memory).unwrap();
        memory.found[0].purpose
    };
    for writes in [
        &[0x01, 0x07][..],
        &[0xf6, 0x17],
        &[0x0f, 0xb1, 0x0f],
        &[0x0f, 0xba, 0x2f, 1],
    ] {
        assert_eq!(purpose(writes), Purpose::Write, "{writes:x?}");
    }
    for reads in [
        &[0x39, 0x07][..],
        &[0x85, 0x07],
        &[0x03, 0x07],
        &[0x0f, 0xba, 0x27, 1],
    ] {
        assert_eq!(purpose(reads), Purpose::Read, "{reads:x?}");
    }
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
    let refused: [&[u8]; 10] = [
        &[],
        &[0x8b, 0xc0],                   // mov eax, eax
        &[0x0f, 0x10, 0xc0],             // movups xmm0, xmm0
        &[0xc5, 0xf2, 0x10, 0x07],       // vmovss with a third operand
        &[0x62, 0xf1, 0x7c, 0x48, 0x10], // EVEX
        &[0xc7, 0x48, 0, 0, 0, 0],       // no such /reg
        &[0x0f, 0xa5, 0x00],             // shld [rax], eax, cl
        &[0xd9, 0x00],                   // fld [rax]
        &[0x8b],                         // cut short
        &[0x66; 20],                     // too long
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
