// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The PC's devices on the bus.
//!
//! Called by the machine once, with a line for each interrupt; interrupt
//! controllers and timers put themselves there. What has to act at a time tells
//! the machine's timers, after each access, when that is.

use alloc::sync::Arc;

use axdevice::{
    AccessFault, AccessWidth, AxVmDevices, BusError, ByteLanes, Clock, Console, DeviceTimers,
    IoDevice, IrqLine, PowerSink, Region, SharedDevice, Uart16550, shared,
};

use super::{
    acpi::{PowerManagement, pm},
    cmos::{Cmos, Inventory},
    i8042::I8042,
    ports,
    reset::{DebugExit, PciPorts, SystemControl},
};

/// What the devices are made from.
pub struct Parts<'a> {
    /// The host's time.
    pub clock: &'a Arc<dyn Clock>,
    /// The VM's power switch.
    pub power: &'a Arc<dyn PowerSink>,
    /// What COM1 is connected to.
    pub console: &'a Arc<Console>,
    /// What the firmware would have found.
    pub inventory: Inventory,
    /// Makes the line of an ISA interrupt.
    pub line: &'a dyn Fn(u8) -> IrqLine,
    /// What calls devices at their times.
    pub timers: &'a DeviceTimers,
}

/// Puts all devices on the bus.
pub fn add(parts: &Parts<'_>, devices: &mut AxVmDevices) -> Result<(), BusError> {
    let power = || parts.power.clone();
    let clock = || parts.clock.clone();
    let uart = Uart16550::new(parts.console.clone(), (parts.line)(ports::irq::COM1));
    add_bytes(devices, ports::COM1, ports::COM1_PORTS, uart)?;
    let rtc_line = (parts.line)(ports::irq::RTC);
    let cmos = Cmos::new(clock(), rtc_line, &parts.inventory);
    let cmos = parts.timers.timed(cmos);
    add_bytes(devices, ports::CMOS, ports::CMOS_PORTS, cmos)?;
    let sci = (parts.line)(ports::irq::SCI);
    let pm = PowerManagement::new(clock(), power(), sci);
    let pm_region = Region::new(ports::POWER_MANAGEMENT.into(), pm::SIZE)?;
    devices.add_port(pm_region, parts.timers.timed(pm))?;
    add_keyboard(devices, I8042::new(power()))?;
    let control = shared(SystemControl::new(power()));
    add_bytes(devices, ports::SYSTEM_CONTROL, 1, control)?;
    devices.add_port(
        region(ports::PCI, ports::PCI_PORTS)?,
        shared(PciPorts::new(power())),
    )?;
    let exit = shared(DebugExit::new(power()));
    devices.add_port(region(ports::DEBUG_EXIT, ports::DEBUG_EXIT_PORTS)?, exit)
}

fn region(port: u16, count: u16) -> Result<Region, BusError> {
    Region::new(port.into(), count.into())
}

/// Adds a device of bytes; wide accesses are split.
fn add_bytes(
    devices: &mut AxVmDevices,
    port: u16,
    count: u16,
    device: SharedDevice,
) -> Result<(), BusError> {
    devices.add_port(region(port, count)?, shared(ByteLanes::new(device)))
}

/// The controller has two ports with others between them.
fn add_keyboard(devices: &mut AxVmDevices, controller: I8042) -> Result<(), BusError> {
    let controller = shared(controller);
    for port in [ports::KEYBOARD_DATA, ports::KEYBOARD_COMMAND] {
        let offset = u64::from(port.saturating_sub(ports::KEYBOARD_DATA));
        let window = Window {
            device: controller.clone(),
            offset,
        };
        devices.add_port(region(port, 1)?, shared(window))?;
    }
    Ok(())
}

/// A part of a device's registers.
struct Window {
    device: SharedDevice,
    offset: u64,
}

impl IoDevice for Window {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let at = self.offset.saturating_add(offset);
        self.device.lock().read(at, width)
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let at = self.offset.saturating_add(offset);
        self.device.lock().write(at, width, value)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use axdevice::{ConsoleOutput, Port, PowerRequest};

    use super::*;
    use crate::pc::testing::{FakeAlarm, FakeClock, FakeIrq, FakePower};

    struct Silent;

    impl ConsoleOutput for Silent {
        fn write(&self, _bytes: &[u8]) {}
    }

    /// The devices of a PC at time zero.
    struct Bench {
        devices: AxVmDevices,
        clock: Arc<FakeClock>,
        power: Arc<FakePower>,
        alarm: Arc<FakeAlarm>,
        irq: Arc<FakeIrq>,
        timers: DeviceTimers,
    }

    impl Bench {
        fn new() -> Self {
            let power = Arc::new(FakePower::default());
            let alarm = Arc::new(FakeAlarm::default());
            let timers = DeviceTimers::new(alarm.clone());
            let clock = FakeClock::at(0);
            let (irq, line) = FakeIrq::line();
            let mut devices = AxVmDevices::new();
            let parts = Parts {
                clock: &(clock.clone() as Arc<dyn Clock>),
                power: &(power.clone() as Arc<dyn PowerSink>),
                console: &Arc::new(Console::new(Arc::new(Silent))),
                inventory: Inventory {
                    low_bytes: 64 << 20,
                    high_bytes: 0,
                    cpus: 1,
                },
                line: &|number| match number {
                    ports::irq::RTC | ports::irq::SCI => line.clone(),
                    _ => FakeIrq::line().1,
                },
                timers: &timers,
            };
            add(&parts, &mut devices).unwrap();
            Self {
                devices,
                clock,
                power,
                alarm,
                irq,
                timers,
            }
        }

        fn write(&self, port: u16, width: AccessWidth, value: u64) {
            let written = self
                .devices
                .handle_port_write(Port::new(port), width, value);
            written.unwrap();
        }

        /// Lets time pass until the alarm rings, and does what is due then.
        fn ring(&self) {
            let at_ns = self.alarm.take();
            self.clock.advance(at_ns - self.clock.monotonic_ns());
            self.timers.tick(at_ns);
        }
    }

    #[test]
    fn every_port_is_where_q35_has_it_and_all_others_are_nobodys() {
        let bench = Bench::new();
        let answers = |port: u16| {
            let read = bench
                .devices
                .handle_port_read(Port::new(port), AccessWidth::Byte);
            read.is_ok()
        };
        let found: Vec<u16> = (0..=u16::MAX).filter(|&port| answers(port)).collect();
        let expected: Vec<u16> = [0x60, 0x64, 0x70, 0x71, 0x92]
            .into_iter()
            .chain(0xf4..0xf8)
            .chain(0x3f8..0x400)
            .chain(0x600..0x60c)
            .chain([0xcf9])
            .collect();
        // The exit port is one register of four bytes, the others are bytes.
        assert_eq!(found, expected);
    }

    #[test]
    fn every_way_to_reset_or_switch_off_reaches_the_power_switch() {
        let (byte, word, dword) = (AccessWidth::Byte, AccessWidth::Word, AccessWidth::Dword);
        for (port, width, value, expected) in [
            (0x64, byte, 0xfe, PowerRequest::Reset),
            (0x92, byte, 0x01, PowerRequest::Reset),
            (0xcf9, byte, 0x0e, PowerRequest::Reset),
            (0x604, word, 0x2000, PowerRequest::Off),
            (0xf4, dword, 0x10, PowerRequest::Off),
            (0xf4, byte, 3, PowerRequest::Failed(3)),
        ] {
            let bench = Bench::new();
            bench.write(port, width, value);
            assert_eq!(bench.power.requests(), [expected], "{port:#x}");
        }
    }

    #[test]
    fn the_clock_and_the_power_management_timer_interrupt_while_nobody_looks_at_them() {
        let byte = AccessWidth::Byte;
        // Register B: 24 hours, and the interrupts of periods, alarm, update.
        for (enable, after_ns) in [
            (0x42, 976_563),
            (0x22, 1_000_000_000),
            (0x12, 1_000_000_000),
        ] {
            let bench = Bench::new();
            bench.write(0x70, byte, 0x0b);
            bench.write(0x71, byte, enable);
            assert!(!bench.irq.is_high());
            // The alarm's hands at reset are midnight, a day from now.
            let late_ns = if enable == 0x22 {
                86_400 * after_ns
            } else {
                after_ns
            };
            bench.ring();
            assert_eq!(
                (bench.irq.is_high(), bench.clock.monotonic_ns()),
                (true, late_ns)
            );
        }
        let bench = Bench::new();
        bench.write(0x602, AccessWidth::Word, 1);
        bench.ring();
        assert!(bench.irq.is_high(), "half a turn of the timer");
    }
}
