// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Real-time clocks: [`Clock::wall_ns`](crate::Clock::wall_ns) as a device that can be set.
//!
//! Setting a guest's clock moves an offset and nothing else: neither the host's
//! clock nor another VM's. Alarms are [`TimedDevice`](crate::TimedDevice) deadlines.

mod goldfish;
mod pl031;

pub use goldfish::GoldfishRtc;
pub use pl031::Pl031;
