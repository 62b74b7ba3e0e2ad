// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What a VM is made from: frozen, typed, complete.
//!
//! The hypervisor's `config` folder reads the VM's file, checks it and makes
//! one [`AxVMConfig`]; from then on nothing is looked up, and nothing here
//! changes. What only the architecture can judge it judges in
//! [`ArchVm::check`](crate::ArchVm::check), naming the key that is wrong.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::ops::Deref;

use crate::PCpuSet;

/// Everything a VM is made from.
#[derive(Clone, Debug)]
pub struct AxVMConfig {
    /// The name that the console shows; unique among VMs.
    pub name: String,
    /// One entry for each vCPU, the boot vCPU first.
    pub vcpus: Vec<VCpuConfig>,
    /// RAM in bytes, a multiple of 2 MiB.
    pub memory_bytes: u64,
    /// The interrupt controller by name, where the architecture has a choice.
    pub intc: Option<String>,
    /// What it boots.
    pub boot: BootConfig,
    /// Devices beyond those that every machine of the architecture has.
    pub devices: Vec<DeviceConfig>,
    /// What happens to it without being asked.
    pub policy: Policy,
}

/// One vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VCpuConfig {
    /// The physical CPUs it may run on.
    pub pcpus: PCpuSet,
}

/// What a VM boots.
#[derive(Clone, Debug)]
pub struct BootConfig {
    /// The kernel image, of any format that is recognised.
    pub kernel: ImageBytes,
    /// The initial RAM disk.
    pub initrd: Option<ImageBytes>,
    /// A device tree that replaces the derived one.
    pub dtb: Option<ImageBytes>,
    /// The kernel's command line.
    pub cmdline: String,
    /// Where a flat image is loaded, if not where the architecture says.
    pub load: Option<u64>,
    /// Where the boot vCPU starts, if not where the image says.
    pub entry: Option<u64>,
}

/// One `[[device]]`.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// Its kind, such as `virtio-blk`.
    pub kind: String,
    /// The file behind it.
    pub image: Option<ImageBytes>,
}

/// What happens to a VM without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether it starts when the hypervisor has booted.
    pub autostart: bool,
    /// What follows a crash.
    pub on_crash: CrashPolicy,
}

/// What follows when a guest did what cannot be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPolicy {
    /// The VM stays stopped, so that it can be looked at.
    Stop,
    /// The VM boots again from its image.
    Restart,
}

/// The bytes of a file, wherever they lie.
#[derive(Clone)]
pub enum ImageBytes {
    /// In memory that is never given back: a bundle handed over by the firmware.
    Static(&'static [u8]),
    /// In memory that belongs to whoever holds it.
    Shared(Arc<[u8]>),
}

impl Deref for ImageBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl core::fmt::Debug for ImageBytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// A configuration that the architecture cannot build, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {cause}; {remedy}")]
pub struct ConfigFault {
    /// The key as written in the VM's file, such as `vm.cpus`.
    pub key: &'static str,
    /// What is wrong with its value.
    pub cause: String,
    /// What would be right.
    pub remedy: String,
}
