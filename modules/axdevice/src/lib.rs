// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Devices of a virtual machine: the bus, the seams below it, the models.
//!
//! The seams that every other crate builds on are here, at the bottom:
//! [`IoDevice`] (a device model), [`IrqLine`] (its interrupt output),
//! [`GuestMemory`] (its only way to guest RAM), [`Console`] (its characters),
//! [`Clock`] and [`PowerSink`]. A device model knows neither its address nor the
//! bus nor the architecture. [`AxVmDevices`] is the bus that finds the model
//! for an address. The models are in [`serial`], [`rtc`], [`timer`], [`power`]
//! and [`virtio`].
//!
//! [`Lock`] is the one lock of whatever belongs to a VM.
//!
//! Everything in this crate sees values that a guest chose: nothing may panic.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;

mod bus;
mod byte_lanes;
mod clock;
mod console;
mod device;
mod irq;
mod lock;
mod memory;
pub mod power;
mod regs;
pub mod rtc;
pub mod serial;
#[cfg(test)]
mod testing;
mod timed;
pub mod timer;
pub mod virtio;
mod word_lanes;

pub use axvm_types::{AccessWidth, GuestPhysAddr, Port, SysRegAddr};
pub use bus::{AxVmDevices, BusError, Region};
pub use byte_lanes::ByteLanes;
pub use clock::{Alarm, AlarmListener, Clock, SharedAlarm, TimedDevice};
pub use console::{Console, ConsoleOutput, InputListener};
pub use device::{AccessFault, IoDevice, SharedDevice, shared};
pub use irq::{IrqLine, IrqSink, LevelLine};
/// A lock for who is held on its CPU already.
pub use kspin::SpinRaw as RawLock;
pub use lock::{Lock, LockGuard};
pub use memory::{GuestMemory, OutsideRam};
pub use power::{PowerRequest, PowerSink, SifiveTest};
pub use rtc::{GoldfishRtc, Pl031};
pub use serial::{Pl011, Uart16550};
pub use timed::{DeviceTimers, Timed};
pub use timer::{Hpet, LegacyWires, Pit, SystemControl};
