// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A 16550A UART, as QEMU's behaves on `virt` and at COM1.
//!
//! Eight byte-wide registers at offsets 0 to 7; an aligned wider access is one
//! access to the register it starts at, anything else a bus error. (PC ports
//! split wide accesses: [`ByteLanes`](crate::ByteLanes).)
//!
//! A character takes no time: the transmitter is always empty again when an
//! access returns, and a character timeout has always passed, so received data
//! below the trigger level shows as a timeout. Invariants: DR is up to date
//! without asking the console, which makes a status read a load; the line is
//! high exactly while IIR names an interrupt.
//!
//! Spec: National Semiconductor PC16550D. Threats: docs/devices.md.

use alloc::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use crate::Lock;
use tock_registers::LocalRegisterCopy;

use crate::{
    AccessFault, AccessWidth, Console, InputListener, IoDevice, IrqLine, LevelLine,
    regs::{
        self,
        ns16550::{
            DIVISOR, DIVISOR_AT_RESET, FIFO_BYTES, FIFO_CONTROL, INTERRUPT_ID, InterruptEnable,
            LINE_CONTROL, LineStatus, ModemControl, ModemStatus, Register,
        },
    },
    shared,
};

use INTERRUPT_ID::ID::Value as Interrupt;

/// A 16550A whose wire ends at a VM's console.
pub struct Uart16550 {
    console: Arc<Console>,
    line: LevelLine,
    interrupt_enable: InterruptEnable,
    fifo_control: LocalRegisterCopy<u8, FIFO_CONTROL::Register>,
    line_control: LocalRegisterCopy<u8, LINE_CONTROL::Register>,
    modem_control: ModemControl,
    line_status: LineStatus,
    scratch: u8,
    divisor: LocalRegisterCopy<u16, DIVISOR::Register>,
    /// RBR, which holds the received byte while the FIFOs are off.
    rx_buffer: u8,
    /// At most `FIFO_BYTES`, so it never grows after it was made.
    rx_fifo: VecDeque<u8>,
    /// The transmitter became empty and IIR has not told the guest yet.
    is_tx_empty_pending: bool,
}

impl Uart16550 {
    /// Makes a UART after reset, which listens for `console`'s input.
    pub fn new(console: Arc<Console>, irq: IrqLine) -> Arc<Lock<Self>> {
        let uart = shared(Self {
            console: console.clone(),
            line: LevelLine::new(irq),
            interrupt_enable: InterruptEnable::empty(),
            fifo_control: LocalRegisterCopy::new(0),
            line_control: LocalRegisterCopy::new(0),
            modem_control: ModemControl::OUT2,
            line_status: LineStatus::IDLE,
            scratch: 0,
            divisor: LocalRegisterCopy::new(DIVISOR_AT_RESET),
            rx_buffer: 0,
            rx_fifo: VecDeque::with_capacity(FIFO_BYTES),
            is_tx_empty_pending: false,
        });
        let listener: Weak<Lock<Self>> = Arc::downgrade(&uart);
        console.listen(listener);
        uart.lock().receive();
        uart
    }

    fn read_register(&mut self, register: Register) -> u8 {
        match register {
            Register::Data if self.is_divisor_selected() => self.divisor_byte(DIVISOR::LOW),
            Register::InterruptEnable if self.is_divisor_selected() => {
                self.divisor_byte(DIVISOR::HIGH)
            }
            Register::Data => self.read_data(),
            Register::InterruptEnable => self.interrupt_enable.bits(),
            Register::InterruptId => self.read_interrupt_id(),
            Register::LineControl => self.line_control.get(),
            Register::ModemControl => self.modem_control.bits(),
            Register::LineStatus => self.read_line_status(),
            Register::ModemStatus => self.modem_status().bits(),
            Register::Scratch => self.scratch,
        }
    }

    fn write_register(&mut self, register: Register, value: u8) {
        match register {
            Register::Data if self.is_divisor_selected() => {
                self.divisor.modify(DIVISOR::LOW.val(value.into()));
            }
            Register::InterruptEnable if self.is_divisor_selected() => {
                self.divisor.modify(DIVISOR::HIGH.val(value.into()));
            }
            Register::Data => self.transmit(value),
            Register::InterruptEnable => self.enable_interrupts(value),
            Register::InterruptId => self.control_fifos(value),
            Register::LineControl => self.line_control.set(value),
            Register::ModemControl => self.control_modem(value),
            Register::LineStatus | Register::ModemStatus => {}
            Register::Scratch => self.scratch = value,
        }
    }
}

/// Receiving.
impl Uart16550 {
    /// Takes what the console has and the receiver has room for.
    fn receive(&mut self) {
        while !self.is_loopback() && self.has_rx_room() {
            let Some(byte) = self.console.take_input() else {
                break;
            };
            self.put_received(byte);
        }
        self.update_line();
    }

    fn has_rx_room(&self) -> bool {
        match self.has_fifos() {
            true => self.rx_fifo.len() < FIFO_BYTES,
            false => !self.line_status.contains(LineStatus::DATA_READY),
        }
    }

    /// Stores a received byte; one too many keeps the FIFO but replaces RBR.
    fn put_received(&mut self, byte: u8) {
        if !self.has_rx_room() {
            self.line_status.insert(LineStatus::OVERRUN);
        }
        if !self.has_fifos() {
            self.rx_buffer = byte;
        } else if self.has_rx_room() {
            self.rx_fifo.push_back(byte);
        }
        self.line_status.insert(LineStatus::DATA_READY);
    }

    fn read_data(&mut self) -> u8 {
        let byte = match self.has_fifos() {
            true => self.rx_fifo.pop_front().unwrap_or(0),
            false => self.rx_buffer,
        };
        if self.rx_fifo.is_empty() {
            self.empty_receiver();
        }
        byte
    }

    /// Notes that all was read and takes more; asking only then spares the
    /// console's lock for the other bytes of a burst.
    fn empty_receiver(&mut self) {
        let read = LineStatus::DATA_READY | LineStatus::BREAK;
        self.line_status.remove(read);
        self.receive();
    }
}

/// Transmitting.
impl Uart16550 {
    /// Sends a byte. The line falls while the holding register is taken, which
    /// gives an edge-triggered controller its edge when it is empty again.
    fn transmit(&mut self, byte: u8) {
        self.set_tx_empty_pending(false);
        match self.is_loopback() {
            true => self.put_received(byte),
            false => self.console.write(&[byte]),
        }
        self.set_tx_empty_pending(true);
    }

    fn set_tx_empty_pending(&mut self, pending: bool) {
        self.is_tx_empty_pending = pending;
        self.update_line();
    }
}

/// Control and status.
impl Uart16550 {
    fn is_divisor_selected(&self) -> bool {
        self.line_control.is_set(LINE_CONTROL::DLAB)
    }

    fn is_loopback(&self) -> bool {
        self.modem_control.contains(ModemControl::LOOPBACK)
    }

    fn has_fifos(&self) -> bool {
        self.fifo_control.is_set(FIFO_CONTROL::ENABLE)
    }

    fn divisor_byte(&self, half: tock_registers::fields::Field<u16, DIVISOR::Register>) -> u8 {
        regs::byte_lane(self.divisor.read(half).into(), 0)
    }

    /// Writes IER. The transmitter is always empty, so that ETBEI raises its
    /// interrupt each time it is switched on, even after IIR was read.
    fn enable_interrupts(&mut self, value: u8) {
        let enable = InterruptEnable::from_bits_truncate(value);
        let changed = self.interrupt_enable ^ enable;
        self.interrupt_enable = enable;
        if changed.contains(InterruptEnable::TX_EMPTY) {
            self.is_tx_empty_pending = enable.contains(InterruptEnable::TX_EMPTY);
        }
        self.update_line();
    }

    /// Writes FCR: the clear bits act and are gone, switching FIFOs clears both.
    fn control_fifos(&mut self, value: u8) {
        let written = LocalRegisterCopy::<u8, FIFO_CONTROL::Register>::new(value);
        let is_switched = written.is_set(FIFO_CONTROL::ENABLE) != self.has_fifos();
        if is_switched || written.is_set(FIFO_CONTROL::CLEAR_TX) {
            self.is_tx_empty_pending = true;
        }
        self.fifo_control = written;
        if is_switched || written.is_set(FIFO_CONTROL::CLEAR_RX) {
            self.rx_fifo.clear();
            self.empty_receiver();
        }
        self.update_line();
    }

    fn control_modem(&mut self, value: u8) {
        self.modem_control = ModemControl::from_bits_truncate(value);
        self.receive();
    }

    fn read_line_status(&mut self) -> u8 {
        let status = self.line_status;
        if status.intersects(LineStatus::CLEARED_BY_READ) {
            self.line_status.remove(LineStatus::CLEARED_BY_READ);
            self.update_line();
        }
        status.bits()
    }

    /// Outside of loopback the modem lines never change, so no delta is ever set.
    fn modem_status(&self) -> ModemStatus {
        match self.is_loopback() {
            true => self.modem_control.looped_back(),
            false => ModemStatus::CONNECTED,
        }
    }
}

/// Interrupts.
impl Uart16550 {
    /// Reads IIR, which is how the guest learns of, and so ends, TX-empty.
    fn read_interrupt_id(&mut self) -> u8 {
        let interrupt = self.interrupt();
        if matches!(interrupt, Interrupt::TxEmpty) {
            self.set_tx_empty_pending(false);
        }
        self.identify(interrupt)
    }

    fn identify(&self, interrupt: Interrupt) -> u8 {
        let mut id = LocalRegisterCopy::<u8, INTERRUPT_ID::Register>::new(0);
        id.modify(INTERRUPT_ID::ID.val(interrupt as u8));
        if self.has_fifos() {
            id.modify(INTERRUPT_ID::FIFOS::Enabled);
        }
        id.get()
    }

    /// Returns the pending interrupt of the highest priority.
    fn interrupt(&self) -> Interrupt {
        let enabled = self.interrupt_enable;
        let status = self.line_status;
        let is_error = status.intersects(LineStatus::ERRORS);
        if enabled.contains(InterruptEnable::LINE_STATUS) && is_error {
            return Interrupt::LineStatus;
        }
        let has_data = status.contains(LineStatus::DATA_READY);
        if enabled.contains(InterruptEnable::RX_DATA) && has_data {
            return self.rx_interrupt();
        }
        if enabled.contains(InterruptEnable::TX_EMPTY) && self.is_tx_empty_pending {
            return Interrupt::TxEmpty;
        }
        Interrupt::None
    }

    /// Which of the two receive interrupts the waiting data makes.
    fn rx_interrupt(&self) -> Interrupt {
        let waits_for_more = self.has_fifos() && self.rx_fifo.len() < self.rx_trigger();
        match waits_for_more {
            true => Interrupt::RxTimeout,
            false => Interrupt::RxData,
        }
    }

    fn rx_trigger(&self) -> usize {
        use FIFO_CONTROL::TRIGGER::Value;
        match self.fifo_control.read_as_enum(FIFO_CONTROL::TRIGGER) {
            Some(Value::Four) => 4,
            Some(Value::Eight) => 8,
            Some(Value::Fourteen) => 14,
            Some(Value::One) | None => 1,
        }
    }

    fn update_line(&mut self) {
        let is_pending = !matches!(self.interrupt(), Interrupt::None);
        self.line.drive(is_pending);
    }
}

impl IoDevice for Uart16550 {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let register = Register::decode(offset, width)?;
        Ok(self.read_register(register).into())
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let register = Register::decode(offset, width)?;
        self.write_register(register, regs::byte_lane(value, 0));
        Ok(())
    }
}

impl InputListener for Lock<Uart16550> {
    fn input_ready(&self) {
        self.lock().receive();
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{FakeIrq, FakeOutput, WIDTHS, any_width};

    const DATA: u64 = 0;
    const IER: u64 = 1;
    const IIR: u64 = 2;
    const FCR: u64 = 2;
    const LCR: u64 = 3;
    const MCR: u64 = 4;
    const LSR: u64 = 5;
    const MSR: u64 = 6;
    const SCR: u64 = 7;

    const NO_INTERRUPT: u8 = 0x01;
    const TX_EMPTY: u8 = 0x02;
    const RX_DATA: u8 = 0x04;
    const LINE_STATUS: u8 = 0x06;
    const RX_TIMEOUT: u8 = 0x0c;

    struct Bench {
        uart: Arc<Lock<Uart16550>>,
        irq: Arc<FakeIrq>,
        output: Arc<FakeOutput>,
        console: Arc<Console>,
    }

    impl Bench {
        fn new() -> Self {
            let (output, console) = FakeOutput::console();
            let (irq, line) = FakeIrq::line();
            let uart = Uart16550::new(console.clone(), line);
            Self {
                uart,
                irq,
                output,
                console,
            }
        }

        fn read(&self, offset: u64) -> u8 {
            let value = self.uart.lock().read(offset, AccessWidth::Byte).unwrap();
            u8::try_from(value).unwrap()
        }

        fn write(&self, offset: u64, value: u8) {
            let value = value.into();
            let written = self.uart.lock().write(offset, AccessWidth::Byte, value);
            written.unwrap();
        }

        fn registers(&self) -> Vec<u8> {
            (0..8).map(|offset| self.read(offset)).collect()
        }

        fn push(&self, bytes: &[u8]) {
            assert_eq!(self.console.push_input(bytes), bytes.len());
        }

        fn read_bytes(&self) -> Vec<u8> {
            let mut bytes = Vec::new();
            while self.read(LSR) & 1 != 0 {
                bytes.push(self.read(DATA));
            }
            bytes
        }
    }

    #[test]
    fn after_reset_the_registers_are_qemus() {
        let bench = Bench::new();
        assert_eq!(bench.registers(), [0, 0, 0x01, 0, 0x08, 0x60, 0xb0, 0]);
        assert_eq!(bench.irq.calls(), 0);
    }

    #[test]
    fn written_bytes_reach_the_console_at_once_and_in_order() {
        let bench = Bench::new();
        for byte in *b"hello" {
            bench.write(DATA, byte);
            assert_eq!(bench.read(LSR), 0x60);
        }
        assert_eq!(bench.output.bytes(), b"hello");
    }

    #[test]
    fn the_divisor_latch_hides_data_and_interrupt_enable() {
        let bench = Bench::new();
        bench.write(IER, 0x05);
        bench.write(LCR, 0x83);
        assert_eq!((bench.read(DATA), bench.read(IER)), (12, 0));
        bench.write(DATA, 0x34);
        bench.write(IER, 0x12);
        assert_eq!((bench.read(DATA), bench.read(IER)), (0x34, 0x12));
        bench.write(LCR, 0x03);
        assert_eq!((bench.read(DATA), bench.read(IER)), (0, 0x05));
        assert_eq!(bench.output.bytes(), b"");
    }

    #[test]
    fn each_register_keeps_the_bits_it_has() {
        let bench = Bench::new();
        for (offset, kept) in [(IER, 0x0f), (LCR, 0x7f), (MCR, 0x1f), (SCR, 0xff)] {
            for value in 0..=0xff {
                bench.write(offset, value & 0x7f);
                assert_eq!(bench.read(offset), value & 0x7f & kept);
            }
            bench.write(offset, 0);
        }
        bench.write(SCR, 0xff);
        assert_eq!(bench.read(SCR), 0xff);
        bench.write(LCR, 0xff);
        assert_eq!(bench.read(LCR), 0xff);
    }

    #[test]
    fn writes_to_the_status_registers_are_ignored() {
        let bench = Bench::new();
        bench.write(LSR, 0);
        bench.write(MSR, 0xff);
        assert_eq!((bench.read(LSR), bench.read(MSR)), (0x60, 0xb0));
    }

    #[test]
    fn an_aligned_access_of_any_width_is_one_of_its_first_register() {
        let bench = Bench::new();
        for (width, size) in WIDTHS {
            let mut uart = bench.uart.lock();
            for offset in 0..8 {
                let decoded = offset % size == 0;
                assert_eq!(uart.read(offset, width).is_ok(), decoded);
                assert_eq!(uart.write(offset, width, 0).is_ok(), decoded);
            }
            uart.write(0, width, 0xdead_be00 + size).unwrap();
        }
        assert_eq!(bench.output.bytes(), [0, 1, 0, 2, 0, 4, 0, 8]);
        assert_eq!(bench.uart.lock().read(4, AccessWidth::Dword), Ok(0));
    }

    #[test]
    fn offsets_behind_the_registers_are_bus_errors() {
        let bench = Bench::new();
        let mut uart = bench.uart.lock();
        for (width, _) in WIDTHS {
            for offset in [8, 16, 0x100, u64::MAX - 7, u64::MAX] {
                assert_eq!(uart.read(offset, width), Err(AccessFault));
                assert_eq!(uart.write(offset, width, 0), Err(AccessFault));
            }
        }
    }

    #[test]
    fn enabling_the_tx_interrupt_raises_it_and_reading_iir_ends_it() {
        let bench = Bench::new();
        bench.write(IER, 0x02);
        assert!(bench.irq.is_high());
        assert_eq!(bench.read(IIR), TX_EMPTY);
        assert!(!bench.irq.is_high());
        assert_eq!(bench.read(IIR), NO_INTERRUPT);
        bench.write(IER, 0x02);
        assert!(!bench.irq.is_high(), "no change, no interrupt");
        bench.write(IER, 0x00);
        bench.write(IER, 0x02);
        assert!(bench.irq.is_high(), "switched on anew");
    }

    #[test]
    fn each_written_byte_makes_a_tx_interrupt_and_an_edge() {
        let bench = Bench::new();
        bench.write(IER, 0x02);
        bench.write(DATA, b'a');
        bench.write(DATA, b'b');
        assert_eq!(bench.irq.rising_edges(), 3);
        assert_eq!(bench.read(IIR), TX_EMPTY);
        bench.write(DATA, b'c');
        assert_eq!(bench.irq.rising_edges(), 4);
    }

    #[test]
    fn polled_output_never_touches_the_line() {
        let bench = Bench::new();
        for byte in 0..=255 {
            bench.read(LSR);
            bench.write(DATA, byte);
        }
        assert_eq!(bench.irq.calls(), 0);
    }

    #[test]
    fn without_fifos_input_comes_byte_by_byte() {
        let bench = Bench::new();
        bench.write(IER, 0x01);
        bench.push(b"ab");
        assert_eq!((bench.read(LSR), bench.read(IIR)), (0x61, RX_DATA));
        assert_eq!(bench.read(DATA), b'a');
        assert!(bench.irq.is_high(), "the second byte follows");
        assert_eq!(bench.read(DATA), b'b');
        assert!(!bench.irq.is_high());
        assert_eq!(bench.read(LSR), 0x60);
        assert_eq!(bench.read(DATA), b'b', "RBR keeps what was read");
    }

    #[test]
    fn below_the_trigger_level_data_is_a_timeout_and_from_it_on_data() {
        for (fcr, trigger) in [(0x01, 1), (0x41, 4), (0x81, 8), (0xc1, 14)] {
            let bench = Bench::new();
            bench.write(IER, 0x01);
            bench.write(FCR, fcr);
            for count in 1..=16 {
                bench.push(b"x");
                let expected = if count < trigger { RX_TIMEOUT } else { RX_DATA };
                assert_eq!(bench.read(IIR), 0xc0 | expected);
                assert!(bench.irq.is_high());
            }
            assert_eq!(bench.irq.calls(), 1);
        }
    }

    #[test]
    fn a_full_fifo_leaves_the_rest_to_the_console_and_nothing_is_lost() {
        let bench = Bench::new();
        bench.write(FCR, 0x01);
        let typed: Vec<u8> = (0..200).collect();
        bench.push(&typed);
        assert!(bench.console.has_input());
        assert_eq!(bench.read_bytes(), typed);
        assert!(!bench.console.has_input());
        assert_eq!(bench.read(DATA), 0, "an empty FIFO reads as zero");
    }

    #[test]
    fn input_typed_before_the_uart_existed_is_received() {
        let (_, console) = FakeOutput::console();
        console.push_input(b"early");
        let uart = Uart16550::new(console, FakeIrq::line().1);
        assert_eq!(uart.lock().read(LSR, AccessWidth::Byte), Ok(0x61));
    }

    #[test]
    fn a_uart_that_replaces_another_hears_of_input() {
        let bench = Bench::new();
        let (irq, line) = FakeIrq::line();
        let successor = Uart16550::new(bench.console.clone(), line);
        drop(bench.uart);
        successor.lock().write(IER, AccessWidth::Byte, 1).unwrap();
        bench.console.push_input(b"x");
        assert!(irq.is_high());
    }

    #[test]
    fn clearing_or_switching_the_fifos_drops_what_was_received() {
        for fcr in [0x03, 0x00] {
            let bench = Bench::new();
            bench.write(FCR, 0x01);
            bench.push(b"abc");
            bench.write(FCR, fcr);
            assert_eq!(bench.read(LSR), 0x60);
            assert_eq!(bench.read_bytes(), b"");
        }
        let bench = Bench::new();
        bench.write(FCR, 0x01);
        bench.push(b"abc");
        bench.write(FCR, 0xc5);
        assert_eq!(bench.read_bytes(), b"abc", "CLEAR_TX is not CLEAR_RX");
    }

    #[test]
    fn clearing_the_transmitter_makes_its_interrupt_pending() {
        let bench = Bench::new();
        bench.write(FCR, 0x01);
        bench.write(IER, 0x02);
        assert_eq!(bench.read(IIR), 0xc0 | TX_EMPTY);
        bench.write(FCR, 0x05);
        assert_eq!(bench.read(IIR), 0xc0 | TX_EMPTY);
    }

    #[test]
    fn interrupts_are_reported_by_priority() {
        let bench = Bench::new();
        bench.write(MCR, 0x10);
        bench.write(DATA, b'a');
        bench.write(DATA, b'b');
        bench.write(IER, 0x0f);
        assert_eq!(bench.read(IIR), LINE_STATUS);
        assert_eq!(bench.read(LSR), 0x63);
        assert_eq!(bench.read(IIR), RX_DATA);
        assert_eq!(bench.read(DATA), b'b', "the overrun replaced RBR");
        assert_eq!(bench.read(IIR), TX_EMPTY);
        assert_eq!(bench.read(IIR), NO_INTERRUPT);
        assert!(!bench.irq.is_high());
    }

    #[test]
    fn in_loopback_output_is_input_and_the_console_is_cut_off() {
        let bench = Bench::new();
        bench.write(FCR, 0x01);
        bench.write(MCR, 0x10);
        bench.push(b"typed");
        for byte in 0..20 {
            bench.write(DATA, byte);
        }
        assert_eq!(bench.read(LSR), 0x63, "overrun");
        assert_eq!(bench.read(LSR), 0x61, "told once");
        let looped: Vec<u8> = (0..16).collect();
        assert_eq!(bench.read_bytes(), looped, "the FIFO keeps the first");
        assert_eq!(bench.output.bytes(), b"");
        bench.write(MCR, 0x00);
        assert_eq!(bench.read_bytes(), b"typed");
    }

    #[test]
    fn in_loopback_modem_outputs_are_modem_inputs() {
        let bench = Bench::new();
        for (mcr, msr) in [(0x11, 0x20), (0x12, 0x10), (0x14, 0x40), (0x18, 0x80)] {
            bench.write(MCR, mcr);
            assert_eq!(bench.read(MSR), msr);
        }
        bench.write(MCR, 0x0f);
        assert_eq!(bench.read(MSR), 0xb0);
    }

    /// What a guest or the host does to the UART.
    #[derive(Clone, Debug)]
    enum Action {
        Read(u64, AccessWidth),
        Write(u64, AccessWidth, u64),
        Input(Vec<u8>),
    }

    fn any_offset() -> impl Strategy<Value = u64> {
        prop_oneof![8 => 0..8u64, 1 => any::<u64>(), 1 => 0..0x200u64]
    }

    fn any_action() -> impl Strategy<Value = Action> {
        prop_oneof![
            4 => (any_offset(), any_width()).prop_map(|(o, w)| Action::Read(o, w)),
            4 => (any_offset(), any_width(), any::<u64>())
                .prop_map(|(o, w, v)| Action::Write(o, w, v)),
            1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Action::Input),
        ]
    }

    /// The registers that decide the line, followed in the plainest way.
    #[derive(Default)]
    struct Model {
        ier: u8,
        lcr: u8,
        fcr: u8,
        is_tx_pending: bool,
    }

    impl Model {
        fn write(&mut self, offset: u64, value: u8) {
            match offset {
                0 if self.lcr < 0x80 => self.is_tx_pending = true,
                1 if self.lcr < 0x80 => {
                    if (self.ier ^ value) & 2 != 0 {
                        self.is_tx_pending = value & 2 != 0;
                    }
                    self.ier = value & 0xf;
                }
                2 => {
                    self.is_tx_pending |= (value ^ self.fcr) & 1 != 0 || value & 4 != 0;
                    self.fcr = value;
                }
                3 => self.lcr = value,
                _ => {}
            }
        }

        /// `iir` was read: the transmitter's interrupt ends if it was named.
        fn read_iir(&mut self, iir: u64) {
            self.is_tx_pending &= iir & 0xf != TX_EMPTY.into();
        }

        fn level(&self, lsr: u8) -> bool {
            (self.ier & 4 != 0 && lsr & 0x1e != 0)
                || (self.ier & 1 != 0 && lsr & 1 != 0)
                || (self.ier & 2 != 0 && self.is_tx_pending)
        }
    }

    proptest! {
        #[test]
        fn the_line_is_what_the_registers_say(actions in prop::collection::vec(any_action(), 0..200)) {
            let bench = Bench::new();
            let mut model = Model::default();
            let mut bytes_written = 0;
            for action in actions {
                match action {
                    Action::Read(offset, width) => {
                        let value = bench.uart.lock().read(offset, width);
                        if let (2, Ok(iir)) = (offset, value) {
                            model.read_iir(iir);
                        }
                        prop_assert!(value.unwrap_or(0) <= 0xff);
                    }
                    Action::Write(offset, width, value) => {
                        let written = bench.uart.lock().write(offset, width, value);
                        if written.is_ok() {
                            model.write(offset, value as u8);
                            bytes_written += usize::from(offset == 0);
                        }
                    }
                    Action::Input(bytes) => {
                        bench.console.push_input(&bytes);
                    }
                }
                let uart = bench.uart.lock();
                let lsr = uart.line_status.bits();
                prop_assert_eq!(bench.irq.is_high(), model.level(lsr));
                prop_assert_eq!(uart.line.is_high(), bench.irq.is_high());
                prop_assert!(uart.rx_fifo.len() <= FIFO_BYTES);
                prop_assert!(uart.rx_fifo.capacity() < 2 * FIFO_BYTES);
                let is_starved = lsr & 1 == 0 && !uart.is_loopback();
                prop_assert!(!(is_starved && bench.console.has_input()));
            }
            prop_assert!(bench.output.bytes().len() <= bytes_written);
        }

        #[test]
        fn all_input_arrives_in_order_whatever_the_fifo_mode(
            typed in prop::collection::vec(any::<u8>(), 0..300),
            fcr in any::<u8>(),
        ) {
            let bench = Bench::new();
            bench.write(FCR, fcr);
            let mut read = vec![];
            for chunk in typed.chunks(23) {
                bench.push(chunk);
                read.push(bench.read_bytes());
            }
            prop_assert_eq!(read.concat(), typed);
        }
    }
}
