// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What a device model is.
//!
//! Called by the bus with an offset into the device's own region; the device
//! never learns where it is mapped. An access that the real device's bus would
//! refuse (a width it does not decode, an offset it does not have) is an
//! [`AccessFault`], which the architecture turns into the fault that its real
//! hardware would raise. Whatever a guest writes is handled without panicking.

use alloc::sync::Arc;

use crate::Lock;
use axvm_types::AccessWidth;

/// A device model behind a bus region.
pub trait IoDevice: Send {
    /// Reads `width` bytes at `offset`, in the low bits of the result.
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault>;

    /// Writes the low `width` bytes of `value` at `offset`.
    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault>;
}

/// The bus answered an access with an error.
///
/// It carries nothing: the architecture knows the address and the access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no device answers this access")]
pub struct AccessFault;

/// A device shared between the bus and whoever feeds it from outside.
pub type SharedDevice = Arc<Lock<dyn IoDevice>>;

/// Puts a device behind the lock that the bus takes for each access.
pub fn shared<D: IoDevice>(device: D) -> Arc<Lock<D>> {
    Arc::new(Lock::new(device))
}
