// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! An 8-bit device behind a wider bus.
//!
//! On a PC the bus splits a 16- or 32-bit port access to an 8-bit device into
//! byte accesses at successive ports, lowest first. [`ByteLanes`] does that for
//! a model that would otherwise answer a wide access with one register.
//!
//! Spec: ISA bus, 16-bit transfers to 8-bit devices.

use crate::{AccessFault, AccessWidth, IoDevice, SharedDevice, regs};

/// Splits each access to the device behind it into bytes.
pub struct ByteLanes {
    device: SharedDevice,
}

impl ByteLanes {
    /// Puts byte lanes before `device`.
    pub fn new(device: SharedDevice) -> Self {
        Self { device }
    }
}

/// The offset of each byte of an access; none may wrap.
fn lanes(offset: u64, width: AccessWidth) -> impl Iterator<Item = (usize, Option<u64>)> {
    (0..width.size()).map(move |lane| (lane, offset.checked_add(lane as u64)))
}

impl IoDevice for ByteLanes {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let mut device = self.device.lock();
        let mut bytes = [0; 8];
        for ((_, at), byte) in lanes(offset, width).zip(&mut bytes) {
            let value = device.read(at.ok_or(AccessFault)?, AccessWidth::Byte)?;
            *byte = regs::byte_lane(value, 0);
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let mut device = self.device.lock();
        for (lane, at) in lanes(offset, width) {
            let byte = regs::byte_lane(value, lane);
            device.write(at.ok_or(AccessFault)?, AccessWidth::Byte, byte.into())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Uart16550, shared,
        testing::{FakeIrq, FakeOutput},
    };

    fn uart_ports() -> ByteLanes {
        let (_, console) = FakeOutput::console();
        ByteLanes::new(Uart16550::new(console, FakeIrq::line().1))
    }

    #[test]
    fn a_wide_read_sees_successive_registers_lowest_first() {
        let mut ports = uart_ports();
        assert_eq!(ports.read(2, AccessWidth::Word), Ok(0x0001));
        assert_eq!(ports.read(4, AccessWidth::Dword), Ok(0x00b0_6008));
    }

    #[test]
    fn a_wide_write_reaches_successive_registers() {
        let mut ports = uart_ports();
        ports.write(3, AccessWidth::Word, 0x1f83).unwrap();
        assert_eq!(ports.read(3, AccessWidth::Byte), Ok(0x83));
        assert_eq!(ports.read(4, AccessWidth::Byte), Ok(0x1f));
    }

    #[test]
    fn a_byte_that_the_device_refuses_refuses_the_access() {
        let mut ports = uart_ports();
        assert_eq!(ports.read(7, AccessWidth::Word), Err(AccessFault));
        assert_eq!(ports.write(8, AccessWidth::Byte, 0), Err(AccessFault));
        assert_eq!(ports.read(u64::MAX, AccessWidth::Word), Err(AccessFault));
    }

    #[test]
    fn lanes_can_be_shared_like_any_device() {
        let (_, console) = FakeOutput::console();
        let device = Uart16550::new(console, FakeIrq::line().1);
        let ports: SharedDevice = shared(ByteLanes::new(device));
        assert_eq!(ports.lock().read(5, AccessWidth::Byte), Ok(0x60));
    }
}
