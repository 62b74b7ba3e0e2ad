// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The incoming-message interrupt controllers of a VM's harts.
//!
//! Each hart of the guest has one [`InterruptFile`], its supervisor-level one.
//! [`Imsic`] is the files of one VM as memory sees them: a page each, in the
//! order of the harts. [`csrs`] is a file as its own hart sees it, and
//! [`guest_files`] says which vCPUs have a file of the hardware instead.
//!
//! Nothing here needs a lock: any thread may send, and only the vCPU itself
//! uses its registers. A sender is told when the vCPU must look again.
//!
//! Spec: RISC-V Advanced Interrupt Architecture 1.0, "Incoming MSI Controller
//! (IMSIC)".

pub mod csrs;
mod file;
pub mod guest_files;

use alloc::{sync::Arc, vec::Vec};

pub use file::{Array, Identities, InterruptFile, Operation};

use super::aplic::Msi;

/// The bytes of the page at which one file takes messages.
pub const PAGE_BYTES: u64 = 0x1000;
const SET_PENDING_LITTLE: u64 = 0;
const SET_PENDING_BIG: u64 = 4;

/// The interrupt files of one VM.
pub struct Imsic {
    files: Vec<Arc<InterruptFile>>,
}

impl Imsic {
    /// Makes a file for each of so many harts.
    pub fn new(harts: usize, identities: Identities) -> Self {
        let new_file = || Arc::new(InterruptFile::new(identities));
        Self {
            files: core::iter::repeat_with(new_file).take(harts).collect(),
        }
    }

    /// Returns a hart's file.
    pub fn file(&self, hart: usize) -> Option<&Arc<InterruptFile>> {
        self.files.get(hart)
    }

    /// Takes a message; returns the hart that must look at its file, if one must.
    pub fn send(&self, msi: Msi) -> Option<usize> {
        let hart = usize::try_from(msi.hart).ok()?;
        let must_look = self.file(hart)?.set_pending(msi.identity);
        must_look.then_some(hart)
    }

    /// Returns the message that a write of an aligned 32-bit word to the files'
    /// pages is.
    pub fn message(offset: u64, value: u32) -> Option<Msi> {
        let hart = u32::try_from(offset / PAGE_BYTES).ok()?;
        let identity = match offset % PAGE_BYTES {
            SET_PENDING_LITTLE => value,
            SET_PENDING_BIG => value.swap_bytes(),
            _ => return None,
        };
        Some(Msi { hart, identity })
    }

    /// Reads an aligned 32-bit word of the files' pages, which is always zero.
    pub fn read(&self, _offset: u64) -> u32 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Imsic {
        fn write(&self, offset: u64, value: u32) -> Option<usize> {
            self.send(Self::message(offset, value)?)
        }
    }

    fn imsic() -> Imsic {
        let imsic = Imsic::new(2, Identities::VIRT);
        for file in &imsic.files {
            csrs::write_all(file, &[(0x70, 1), (0xc0, u64::MAX)]);
        }
        imsic
    }

    #[test]
    fn a_page_takes_messages_in_both_byte_orders_and_reads_as_zero() {
        let imsic = imsic();
        assert_eq!(imsic.write(0x1000, 5), Some(1));
        assert_eq!(imsic.write(4, 9_u32.swap_bytes()), Some(0));
        assert_eq!(imsic.file(0).unwrap().top(), 0x9_0009);
        assert_eq!(imsic.file(1).unwrap().top(), 0x5_0005);
        assert_eq!([0, 4, 0x1000].map(|offset| imsic.read(offset)), [0; 3]);
    }

    #[test]
    fn messages_to_nobody_and_of_no_identity_are_lost() {
        let imsic = imsic();
        for (offset, value) in [(0, 0), (0, 256), (0, u32::MAX), (8, 1), (0x2000, 1)] {
            assert_eq!(imsic.write(offset, value), None);
        }
        assert_eq!(imsic.write(u64::MAX - 3, 1), None);
        let (hart, identity) = (u32::MAX, 1);
        assert_eq!(imsic.send(Msi { hart, identity }), None);
        assert!(!imsic.file(0).unwrap().is_raised());
        assert!(!imsic.file(1).unwrap().is_raised());
    }
}
