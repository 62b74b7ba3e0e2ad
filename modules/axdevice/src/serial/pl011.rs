// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A PL011 UART, as QEMU's behaves on Arm's `virt`.
//!
//! Registers of 32 bits in a 4 KiB region, accessed with any width; reserved
//! offsets read as zero and ignore writes. As in QEMU a character takes no
//! time, the transmitter works whether enabled or not, the receive interrupt
//! comes with the first character whatever UARTIFLS says, and so the receive
//! timeout never does. Invariant: the line is high exactly while UARTMIS is not
//! zero.
//!
//! Spec: Arm PrimeCell UART (PL011) TRM. Threats: docs/devices.md.

use alloc::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use crate::Lock;

use crate::{
    AccessFault, AccessWidth, Console, InputListener, IoDevice, IrqLine, LevelLine,
    regs::{
        self,
        pl011::{
            Character, Control, FIFO_CHARACTERS, FIFO_LEVELS_AT_RESET, Flags, Interrupts,
            LineControl, REGION_BYTES, ReceiveStatus, Register,
        },
    },
    shared, word_lanes,
};

/// A PL011 whose wire ends at a VM's console.
pub struct Pl011 {
    console: Arc<Console>,
    line: LevelLine,
    receive_status: ReceiveStatus,
    irda_counter: u32,
    integer_baud: u32,
    fractional_baud: u32,
    line_control: LineControl,
    control: Control,
    fifo_levels: u32,
    mask: Interrupts,
    raw: Interrupts,
    dma_control: u32,
    /// At most `FIFO_CHARACTERS`, so it never grows after it was made.
    rx_fifo: VecDeque<Character>,
}

impl Pl011 {
    /// Makes a UART after reset, which listens for `console`'s input.
    pub fn new(console: Arc<Console>, irq: IrqLine) -> Arc<Lock<Self>> {
        let uart = shared(Self {
            console: console.clone(),
            line: LevelLine::new(irq),
            receive_status: ReceiveStatus::empty(),
            irda_counter: 0,
            integer_baud: 0,
            fractional_baud: 0,
            line_control: LineControl::empty(),
            control: Control::AT_RESET,
            fifo_levels: FIFO_LEVELS_AT_RESET,
            mask: Interrupts::empty(),
            raw: Interrupts::empty(),
            dma_control: 0,
            rx_fifo: VecDeque::with_capacity(FIFO_CHARACTERS),
        });
        let listener: Weak<Lock<Self>> = Arc::downgrade(&uart);
        console.listen(listener);
        uart.lock().receive();
        uart
    }

    fn read_register(&mut self, offset: u64) -> u32 {
        match Register::decode(offset) {
            Register::Data => self.read_data(),
            Register::ReceiveStatus => self.receive_status.bits(),
            Register::Flags => self.flags().bits(),
            Register::IrdaCounter => self.irda_counter,
            Register::IntegerBaud => self.integer_baud,
            Register::FractionalBaud => self.fractional_baud,
            Register::LineControl => self.line_control.bits(),
            Register::Control => self.control.bits(),
            Register::FifoLevels => self.fifo_levels,
            Register::InterruptMask => self.mask.bits(),
            Register::RawInterrupts => self.raw.bits(),
            Register::MaskedInterrupts => (self.raw & self.mask).bits(),
            Register::DmaControl => self.dma_control,
            Register::Id(value) => value.into(),
            Register::InterruptClear | Register::Reserved => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) {
        match Register::decode(offset) {
            Register::Data => self.transmit(value),
            Register::ReceiveStatus => self.receive_status = ReceiveStatus::empty(),
            Register::IrdaCounter => self.irda_counter = regs::pl011::irda_counter(value),
            Register::IntegerBaud => self.integer_baud = regs::pl011::integer_baud(value),
            Register::FractionalBaud => self.fractional_baud = regs::pl011::fractional_baud(value),
            Register::LineControl => self.control_line(LineControl::from_bits_retain(value)),
            Register::Control => self.set_control(Control::from_bits_retain(value)),
            Register::FifoLevels => self.fifo_levels = value,
            Register::InterruptMask => self.set_mask(Interrupts::from_bits_retain(value)),
            Register::InterruptClear => self.clear(Interrupts::from_bits_retain(value)),
            Register::DmaControl => self.dma_control = value,
            Register::Flags
            | Register::RawInterrupts
            | Register::MaskedInterrupts
            | Register::Id(_)
            | Register::Reserved => {}
        }
    }
}

/// Receiving and transmitting.
impl Pl011 {
    /// Takes what the console has and the receiver has room for.
    fn receive(&mut self) {
        while !self.is_loopback() && self.has_rx_room() {
            let Some(byte) = self.console.take_input() else {
                break;
            };
            self.put_received(Character::from_bits_retain(byte.into()));
        }
        self.update_line();
    }

    fn has_rx_room(&self) -> bool {
        self.rx_fifo.len() < self.rx_depth()
    }

    fn rx_depth(&self) -> usize {
        match self.line_control.contains(LineControl::FIFOS) {
            true => FIFO_CHARACTERS,
            false => 1,
        }
    }

    /// Stores a received character; one too many is lost and noted.
    fn put_received(&mut self, character: Character) {
        if self.has_rx_room() {
            self.rx_fifo.push_back(character);
            self.raw.insert(Interrupts::RX);
        } else {
            self.receive_status.insert(ReceiveStatus::OVERRUN);
            self.raw.insert(Interrupts::OVERRUN);
        }
    }

    fn read_data(&mut self) -> u32 {
        let Some(character) = self.rx_fifo.pop_front() else {
            return 0;
        };
        self.receive_status = character.status();
        if self.rx_fifo.is_empty() {
            self.empty_receiver();
        }
        character.bits().into()
    }

    /// Notes that all was read and takes more; asking only then spares the
    /// console's lock for the other characters of a burst.
    fn empty_receiver(&mut self) {
        self.raw.remove(Interrupts::RX);
        self.receive();
    }

    /// Sends a character, in loopback to itself as well.
    fn transmit(&mut self, value: u32) {
        let byte = regs::byte_lane(value.into(), 0);
        self.console.write(&[byte]);
        if self.is_loopback() {
            self.put_received(Character::from_bits_retain(byte.into()));
        }
        self.raw.insert(Interrupts::TX);
        self.update_line();
    }
}

/// Control and status.
impl Pl011 {
    fn is_loopback(&self) -> bool {
        self.control.contains(Control::LOOPBACK)
    }

    fn flags(&self) -> Flags {
        let mut flags = self.control.modem_inputs();
        flags.insert(Flags::TX_EMPTY);
        flags.set(Flags::RX_EMPTY, self.rx_fifo.is_empty());
        flags.set(Flags::RX_FULL, !self.has_rx_room());
        flags
    }

    /// Writes UARTLCR_H: switching the FIFOs empties them, a break loops back.
    fn control_line(&mut self, written: LineControl) {
        let changed = self.line_control ^ written;
        self.line_control = written;
        if changed.contains(LineControl::FIFOS) {
            self.rx_fifo.clear();
            self.empty_receiver();
        }
        let sends_break = (changed & written).contains(LineControl::BREAK);
        if sends_break && self.is_loopback() {
            self.put_received(Character::BREAK);
        }
        self.update_line();
    }

    /// Writes UARTCR: in loopback the modem outputs drive the modem inputs.
    fn set_control(&mut self, written: Control) {
        self.control = written;
        if self.is_loopback() {
            self.raw.remove(Interrupts::MODEM);
            self.raw
                .insert(Interrupts::of_modem(written.modem_inputs()));
        }
        self.receive();
    }

    fn set_mask(&mut self, mask: Interrupts) {
        self.mask = mask;
        self.update_line();
    }

    fn clear(&mut self, interrupts: Interrupts) {
        self.raw.remove(interrupts);
        self.update_line();
    }

    fn update_line(&mut self) {
        self.line.drive(self.raw.intersects(self.mask));
    }
}

impl IoDevice for Pl011 {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        word_lanes::read(offset, width, REGION_BYTES, |at| self.read_register(at))
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        word_lanes::write((offset, value), width, REGION_BYTES, |at, word| {
            self.write_register(at, word);
        })
    }
}

impl InputListener for Lock<Pl011> {
    fn input_ready(&self) {
        self.lock().receive();
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{FakeIrq, FakeOutput, WIDTHS, any_width};

    const DR: u64 = 0x00;
    const RSR: u64 = 0x04;
    const FR: u64 = 0x18;
    const ILPR: u64 = 0x20;
    const IBRD: u64 = 0x24;
    const FBRD: u64 = 0x28;
    const LCR_H: u64 = 0x2c;
    const CR: u64 = 0x30;
    const IFLS: u64 = 0x34;
    const IMSC: u64 = 0x38;
    const RIS: u64 = 0x3c;
    const MIS: u64 = 0x40;
    const ICR: u64 = 0x44;
    const DMACR: u64 = 0x48;

    const FIFOS: u32 = 0x10;
    const LOOPBACK: u32 = 0x380;
    const RX: u32 = 0x10;
    const TX: u32 = 0x20;
    const OVERRUN: u32 = 0x400;

    struct Bench {
        uart: Arc<Lock<Pl011>>,
        irq: Arc<FakeIrq>,
        output: Arc<FakeOutput>,
        console: Arc<Console>,
    }

    impl Bench {
        fn new() -> Self {
            let (output, console) = FakeOutput::console();
            let (irq, line) = FakeIrq::line();
            let uart = Pl011::new(console.clone(), line);
            Self {
                uart,
                irq,
                output,
                console,
            }
        }

        fn read(&self, offset: u64) -> u32 {
            let value = self.uart.lock().read(offset, AccessWidth::Dword).unwrap();
            u32::try_from(value).unwrap()
        }

        fn write(&self, offset: u64, value: u32) {
            let value = value.into();
            let written = self.uart.lock().write(offset, AccessWidth::Dword, value);
            written.unwrap();
        }

        fn push(&self, bytes: &[u8]) {
            assert_eq!(self.console.push_input(bytes), bytes.len());
        }

        fn read_bytes(&self) -> Vec<u8> {
            let mut bytes = Vec::new();
            while self.read(FR) & 0x10 == 0 {
                bytes.push(u8::try_from(self.read(DR)).unwrap());
            }
            bytes
        }
    }

    #[test]
    fn after_reset_the_registers_are_qemus() {
        let bench = Bench::new();
        let nonzero: Vec<(u64, u32)> = (0..0x1000)
            .step_by(4)
            .map(|offset| (offset, bench.read(offset)))
            .filter(|&(_, value)| value != 0)
            .collect();
        let ids = [(0xfe0, 0x11), (0xfe4, 0x10), (0xfe8, 0x14)];
        let cell = [(0xff0, 0x0d), (0xff4, 0xf0), (0xff8, 0x05), (0xffc, 0xb1)];
        let registers = [(FR, 0x90), (CR, 0x300), (IFLS, 0x12)];
        assert_eq!(nonzero, [&registers[..], &ids, &cell].concat());
        assert_eq!(bench.irq.calls(), 0);
    }

    #[test]
    fn each_register_keeps_the_bits_it_has() {
        let bench = Bench::new();
        let kept = [
            (ILPR, 0xff),
            (IBRD, 0xffff),
            (FBRD, 0x3f),
            (LCR_H, !0),
            (CR, !0),
            (IFLS, !0),
            (IMSC, !0),
            (DMACR, !0),
        ];
        for (offset, bits) in kept {
            bench.write(offset, !0);
            assert_eq!(bench.read(offset), bits);
            bench.write(offset, 0);
            assert_eq!(bench.read(offset), 0);
        }
    }

    #[test]
    fn read_only_and_reserved_offsets_ignore_writes() {
        let bench = Bench::new();
        let writable = [DR, RSR, ILPR, IBRD, FBRD, LCR_H, CR, IFLS, IMSC, ICR, DMACR];
        for offset in (0..0x1000).step_by(4) {
            let before = bench.read(offset);
            if !writable.contains(&offset) {
                bench.write(offset, !0);
                assert_eq!(bench.read(offset), before);
            }
        }
        assert_eq!(bench.read(ICR), 0);
    }

    #[test]
    fn any_aligned_width_is_decoded_and_nothing_else() {
        let bench = Bench::new();
        let mut uart = bench.uart.lock();
        for (width, size) in WIDTHS {
            for offset in 0..0x1000 {
                let decoded = offset % size == 0;
                assert_eq!(uart.read(offset, width).is_ok(), decoded);
            }
            for offset in [0x1000, 0x1008, u64::MAX - 7, u64::MAX] {
                assert_eq!(uart.read(offset, width), Err(AccessFault));
                assert_eq!(uart.write(offset, width, 0), Err(AccessFault));
            }
        }
        assert_eq!(uart.read(FR + 1, AccessWidth::Byte), Ok(0x90));
        assert_eq!(uart.read(CR, AccessWidth::Qword), Ok(0x12_0000_0300));
    }

    #[test]
    fn written_characters_reach_the_console_and_make_a_tx_interrupt() {
        let bench = Bench::new();
        bench.write(IMSC, TX);
        assert!(!bench.irq.is_high(), "nothing was sent yet");
        bench.write(DR, 0xffff_ff41);
        assert_eq!(bench.output.bytes(), b"A");
        assert_eq!((bench.read(RIS), bench.read(MIS)), (TX, TX));
        assert!(bench.irq.is_high());
        bench.write(ICR, TX);
        assert!(!bench.irq.is_high());
        assert_eq!(bench.read(FR), 0x90);
    }

    #[test]
    fn the_mask_gates_the_line_and_not_the_raw_status() {
        let bench = Bench::new();
        bench.push(b"x");
        assert_eq!((bench.read(RIS), bench.read(MIS)), (RX, 0));
        assert!(!bench.irq.is_high());
        bench.write(IMSC, RX);
        assert!(bench.irq.is_high());
        bench.write(IMSC, TX);
        assert!(!bench.irq.is_high());
    }

    #[test]
    fn the_receive_interrupt_comes_with_one_character_and_goes_with_the_last() {
        let bench = Bench::new();
        bench.write(LCR_H, FIFOS);
        bench.write(IMSC, RX);
        bench.push(b"ab");
        assert_eq!(bench.read(DR), u32::from(b'a'));
        assert!(bench.irq.is_high());
        assert_eq!(bench.read(DR), u32::from(b'b'));
        assert!(!bench.irq.is_high());
        assert_eq!(bench.read(DR), 0, "an empty FIFO reads as zero");
    }

    #[test]
    fn the_flags_follow_the_receive_fifo() {
        let bench = Bench::new();
        bench.push(b"x");
        assert_eq!(bench.read(FR), 0xc0, "one character fills it without FIFOs");
        bench.write(LCR_H, FIFOS);
        assert_eq!(bench.read(FR), 0x90);
        bench.push(b"0123456789abcde");
        assert_eq!(bench.read(FR), 0x80);
        bench.push(b"f");
        assert_eq!(bench.read(FR), 0xc0);
    }

    #[test]
    fn a_full_fifo_leaves_the_rest_to_the_console_and_nothing_is_lost() {
        for line_control in [0, FIFOS] {
            let bench = Bench::new();
            bench.write(LCR_H, line_control);
            let typed: Vec<u8> = (0..200).collect();
            bench.push(&typed);
            assert_eq!(bench.read_bytes(), typed);
            assert_eq!(bench.read(RIS), 0);
        }
    }

    #[test]
    fn clearing_the_receive_interrupt_does_not_silence_what_follows() {
        let bench = Bench::new();
        bench.write(LCR_H, FIFOS);
        bench.write(IMSC, RX);
        bench.push(&[b'x'; 20]);
        bench.write(ICR, RX);
        for _ in 0..16 {
            bench.read(DR);
        }
        assert!(bench.irq.is_high(), "four more characters came");
    }

    #[test]
    fn switching_the_fifos_drops_what_was_received() {
        let bench = Bench::new();
        bench.push(b"x");
        bench.write(LCR_H, FIFOS);
        assert_eq!((bench.read(FR), bench.read(RIS)), (0x90, 0));
    }

    #[test]
    fn in_loopback_output_is_input_and_the_overrun_is_noted() {
        let bench = Bench::new();
        bench.write(CR, LOOPBACK);
        bench.write(DR, u32::from(b'a'));
        bench.write(DR, u32::from(b'b'));
        assert_eq!(bench.read(RIS), RX | TX | OVERRUN);
        assert_eq!(bench.read(RSR), 0x8);
        bench.write(RSR, 0);
        assert_eq!(bench.read(RSR), 0);
        bench.push(b"typed");
        assert_eq!(bench.read_bytes(), b"a");
        bench.write(CR, 0x300);
        assert_eq!(bench.read_bytes(), b"typed");
    }

    #[test]
    fn in_loopback_a_break_is_received_as_one() {
        let bench = Bench::new();
        bench.write(CR, LOOPBACK);
        bench.write(LCR_H, 1);
        assert_eq!(bench.read(DR), 0x400);
        assert_eq!(bench.read(RSR), 0x4);
        bench.write(LCR_H, 1);
        assert_eq!(bench.read(FR) & 0x10, 0x10, "one edge, one break");
    }

    #[test]
    fn in_loopback_modem_outputs_are_modem_inputs() {
        let bench = Bench::new();
        let wires = [
            (1 << 11, 0x001, 1 << 1),
            (1 << 10, 0x002, 1 << 3),
            (1 << 12, 0x004, 1 << 2),
            (1 << 13, 0x100, 1 << 0),
        ];
        for (output, input, interrupt) in wires {
            bench.write(CR, LOOPBACK | output);
            assert_eq!(bench.read(FR), 0x90 | input);
            assert_eq!(bench.read(RIS), interrupt);
        }
        bench.write(CR, 0x3f00);
        assert_eq!(bench.read(FR), 0x90);
    }

    #[derive(Clone, Debug)]
    enum Action {
        Read(u64, AccessWidth),
        Write(u64, AccessWidth, u64),
        Input(Vec<u8>),
    }

    fn any_offset() -> impl Strategy<Value = u64> {
        prop_oneof![
            8 => (0..0x14u64).prop_map(|word| word * 4),
            1 => 0..0x1010u64,
            1 => any::<u64>()
        ]
    }

    fn any_action() -> impl Strategy<Value = Action> {
        prop_oneof![
            4 => (any_offset(), any_width()).prop_map(|(o, w)| Action::Read(o, w)),
            4 => (any_offset(), any_width(), any::<u64>())
                .prop_map(|(o, w, v)| Action::Write(o, w, v)),
            1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Action::Input),
        ]
    }

    proptest! {
        #[test]
        fn the_line_is_what_the_registers_say(actions in prop::collection::vec(any_action(), 0..200)) {
            let bench = Bench::new();
            let mut characters_written = 0;
            for action in actions {
                match action {
                    Action::Read(offset, width) => {
                        let _ = bench.uart.lock().read(offset, width);
                    }
                    Action::Write(offset, width, value) => {
                        let _ = bench.uart.lock().write(offset, width, value);
                        characters_written += usize::from(offset < 4);
                    }
                    Action::Input(bytes) => {
                        bench.console.push_input(&bytes);
                    }
                }
                let masked = bench.read(RIS) & bench.read(IMSC);
                prop_assert_eq!(bench.read(MIS), masked);
                prop_assert_eq!(bench.irq.is_high(), masked != 0);
                let uart = bench.uart.lock();
                prop_assert!(uart.rx_fifo.len() <= FIFO_CHARACTERS);
                prop_assert!(uart.rx_fifo.capacity() < 2 * FIFO_CHARACTERS);
                let is_starved = uart.rx_fifo.is_empty() && !uart.is_loopback();
                prop_assert!(!(is_starved && bench.console.has_input()));
                prop_assert_eq!(uart.flags().contains(Flags::RX_EMPTY), uart.rx_fifo.is_empty());
            }
            prop_assert!(bench.output.bytes().len() <= characters_written);
        }

        #[test]
        fn all_input_arrives_in_order_whatever_the_fifo_mode(
            typed in prop::collection::vec(any::<u8>(), 0..300),
            line_control in any::<u32>(),
        ) {
            let bench = Bench::new();
            bench.write(LCR_H, line_control);
            let mut read = Vec::new();
            for chunk in typed.chunks(23) {
                bench.push(chunk);
                read.extend(bench.read_bytes());
            }
            prop_assert_eq!(read, typed);
        }
    }
}
