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

use spin::Mutex;

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
    pub fn new(console: Arc<Console>, irq: IrqLine) -> Arc<Mutex<Self>> {
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
        let listener: Weak<Mutex<Self>> = Arc::downgrade(&uart);
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

impl InputListener for Mutex<Pl011> {
    fn input_ready(&self) {
        self.lock().receive();
    }
}
