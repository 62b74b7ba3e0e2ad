// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A physical CPU's virtualization: a switch that software needs no more of.
//!
//! The application makes one on each physical CPU, as with hardware.

use axvm::{AxArchPerCpu, Error, Result};

/// A physical CPU of the host profile.
#[derive(Debug)]
pub struct HostPerCpu {
    is_enabled: bool,
}

impl AxArchPerCpu for HostPerCpu {
    fn new() -> Result<Self> {
        Ok(Self { is_enabled: false })
    }

    fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    fn hardware_enable(&mut self) -> Result<()> {
        self.switch(true)
    }

    fn hardware_disable(&mut self) -> Result<()> {
        self.switch(false)
    }
}

impl HostPerCpu {
    fn switch(&mut self, to: bool) -> Result<()> {
        if self.is_enabled == to {
            return Err(Error::Unsupported("it is switched like that already"));
        }
        self.is_enabled = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_switches_on_and_off_once_each() {
        let mut cpu = HostPerCpu::new().unwrap();
        assert!(!cpu.is_enabled());
        assert!(cpu.hardware_disable().is_err());
        cpu.hardware_enable().unwrap();
        assert!(cpu.is_enabled());
        assert!(cpu.hardware_enable().is_err());
        cpu.hardware_disable().unwrap();
        assert!(!cpu.is_enabled());
    }
}
