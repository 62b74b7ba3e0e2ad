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

use spin::Mutex;
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
    pub fn new(console: Arc<Console>, irq: IrqLine) -> Arc<Mutex<Self>> {
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
        let listener: Weak<Mutex<Self>> = Arc::downgrade(&uart);
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

impl InputListener for Mutex<Uart16550> {
    fn input_ready(&self) {
        self.lock().receive();
    }
}
