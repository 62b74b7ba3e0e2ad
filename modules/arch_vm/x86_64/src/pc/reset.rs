// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Three small registers that end or reset the machine, and the reset vector.
//!
//! [`SystemControl`] is port 0x92, [`PciPorts`] the configuration ports of a bus
//! without devices with the reset control register among them, [`DebugExit`]
//! QEMU's isa-debug-exit. [`vector`] is all that there is of a BIOS: guests jump to
//! its start to reset the machine.
//!
//! Spec: Intel ICH9, "Fast A20 and Init", "Reset Control Register"; PCI Local
//! Bus, "Configuration Mechanism #1"; QEMU, isa-debug-exit.

use alloc::{sync::Arc, vec::Vec};

use axdevice::{AccessFault, AccessWidth, IoDevice, PowerRequest, PowerSink};

use super::{boot::Chunk, layout::RESET_VECTOR, ports};

/// Returns the code at F000:FFF0, which resets the machine by its control register.
pub fn vector() -> Chunk {
    const MOV_DX: u8 = 0xba;
    const MOV_AL: u8 = 0xb0;
    const OUT_DX_AL: u8 = 0xee;
    const HLT: u8 = 0xf4;
    let [low, high] = ports::RESET_CONTROL.to_le_bytes();
    let value = RESET_KEPT | RESET_CPU;
    let code = [MOV_DX, low, high, MOV_AL, value, OUT_DX_AL, HLT];
    Chunk::new(RESET_VECTOR, Vec::from(code))
}

/// Port 0x92: a fast reset, and an A20 gate that is always open.
pub struct SystemControl {
    power: Arc<dyn PowerSink>,
    value: u8,
}

const FAST_RESET: u8 = 1 << 0;
const FAST_A20: u8 = 1 << 1;

impl SystemControl {
    /// Makes the port of a machine that was just switched on.
    pub fn new(power: Arc<dyn PowerSink>) -> Self {
        let value = FAST_A20;
        Self { power, value }
    }
}

impl IoDevice for SystemControl {
    fn read(&mut self, _offset: u64, _width: AccessWidth) -> Result<u64, AccessFault> {
        Ok(self.value.into())
    }

    fn write(&mut self, _offset: u64, _width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let value = value as u8;
        let rises = value & !self.value;
        self.value = value;
        if rises & FAST_RESET != 0 {
            self.power.request(PowerRequest::Reset);
        }
        Ok(())
    }
}

/// Ports 0xcf8 to 0xcff.
pub struct PciPorts {
    power: Arc<dyn PowerSink>,
    address: u32,
    reset_control: u8,
}

const ADDRESS: u64 = 0;
/// 0xcf9, which only a byte access reaches.
const RESET_CONTROL: u64 = 1;
const RESET_CPU: u8 = 1 << 2;
/// What of the register can be read back: system reset and full reset.
const RESET_KEPT: u8 = 1 << 1 | 1 << 3;

impl PciPorts {
    /// Makes the ports of a machine that was just switched on.
    pub fn new(power: Arc<dyn PowerSink>) -> Self {
        Self {
            power,
            address: 0,
            reset_control: 0,
        }
    }

    fn control_reset(&mut self, value: u8) {
        if value & RESET_CPU != 0 {
            self.power.request(PowerRequest::Reset);
        }
        self.reset_control = value & RESET_KEPT;
    }
}

impl IoDevice for PciPorts {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        match (offset, width) {
            (ADDRESS, AccessWidth::Dword) => Ok(self.address.into()),
            (RESET_CONTROL, AccessWidth::Byte) => Ok(self.reset_control.into()),
            // Configuration data of a device that is not there, or no register.
            _ => Err(AccessFault),
        }
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        match (offset, width) {
            (ADDRESS, AccessWidth::Dword) => self.address = value as u32,
            (RESET_CONTROL, AccessWidth::Byte) => self.control_reset(value as u8),
            _ => return Err(AccessFault),
        }
        Ok(())
    }
}

/// Port 0xf4: the guest ends its machine and says how it went.
pub struct DebugExit {
    power: Arc<dyn PowerSink>,
}

/// What guests of QEMU write when all went well.
const SUCCESS: u32 = 0x10;

impl DebugExit {
    /// Makes the port.
    pub fn new(power: Arc<dyn PowerSink>) -> Self {
        Self { power }
    }
}

impl IoDevice for DebugExit {
    fn read(&mut self, _offset: u64, _width: AccessWidth) -> Result<u64, AccessFault> {
        Ok(0)
    }

    fn write(&mut self, _offset: u64, _width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        self.power.request(match value as u32 {
            0 | SUCCESS => PowerRequest::Off,
            code => PowerRequest::Failed(code),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pc::testing::{FakePower, read, write};

    const DWORD: AccessWidth = AccessWidth::Dword;

    #[test]
    fn port_92_resets_when_its_bit_rises() {
        let power = Arc::new(FakePower::default());
        let mut port = SystemControl::new(power.clone());
        assert_eq!(read(&mut port, 0), FAST_A20);
        write(&mut port, 0, FAST_A20);
        assert_eq!(power.requests(), []);
        write(&mut port, 0, FAST_A20 | FAST_RESET);
        write(&mut port, 0, FAST_A20 | FAST_RESET);
        assert_eq!(power.requests(), [PowerRequest::Reset], "one edge");
    }

    #[test]
    fn the_address_register_reads_back_and_no_device_answers() {
        let mut ports = PciPorts::new(Arc::new(FakePower::default()));
        ports.write(0, DWORD, 0x8000_f800).unwrap();
        assert_eq!(ports.read(0, DWORD), Ok(0x8000_f800));
        for offset in 4..8 {
            assert!(ports.read(offset, AccessWidth::Byte).is_err());
        }
        assert!(ports.read(4, DWORD).is_err());
        assert!(ports.read(0, AccessWidth::Word).is_err());
    }

    #[test]
    fn reset_control_resets_by_its_cpu_bit_alone() {
        let power = Arc::new(FakePower::default());
        let mut ports = PciPorts::new(power.clone());
        write(&mut ports, 1, 0x02);
        assert_eq!(read(&mut ports, 1), 0x02);
        assert_eq!(power.requests(), []);
        write(&mut ports, 1, 0x06);
        assert_eq!(power.requests(), [PowerRequest::Reset]);
        assert_eq!(ports.read(0, DWORD), Ok(0), "another register");
    }

    #[test]
    fn debug_exit_tells_success_from_failure() {
        let power = Arc::new(FakePower::default());
        let mut exit = DebugExit::new(power.clone());
        exit.write(0, DWORD, 0x10).unwrap();
        exit.write(0, DWORD, 1).unwrap();
        let expected = [PowerRequest::Off, PowerRequest::Failed(1)];
        assert_eq!(power.requests(), expected);
    }
}
