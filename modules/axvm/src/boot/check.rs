// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Whether a VM's images can be booted, before anything is built.
//!
//! Called by each architecture's `ArchVm::check`, so that what is wrong with an
//! image is told with the file and line of the key that names it.

use alloc::{
    format,
    string::{String, ToString},
};

use super::{BootRules, ImageError, place, recognise};
use crate::{BootConfig, ConfigFault};

/// Refuses images that [`place`] would refuse, naming the key that is wrong.
pub fn check(boot: &BootConfig, rules: &BootRules<'_>) -> Result<(), ConfigFault> {
    let placed = recognise(&boot.kernel).and_then(|image| place(&image, boot, rules).map(drop));
    placed.map_err(|error| fault(&error, boot))
}

/// Says an error in the form of a configuration's fault.
fn fault(error: &ImageError, boot: &BootConfig) -> ConfigFault {
    let text = error.to_string();
    let (cause, remedy) = match text.split_once("; ") {
        Some((cause, remedy)) => (cause.to_string(), remedy.to_string()),
        None => (text, String::from("docs/images.md says what is needed")),
    };
    let key = key_of(error, boot);
    let cause = match key {
        "boot.entry" | "boot.load" => format!("{cause} with this address"),
        _ => cause,
    };
    ConfigFault { key, cause, remedy }
}

/// Returns the key whose value an error is about.
fn key_of(error: &ImageError, boot: &BootConfig) -> &'static str {
    match error {
        ImageError::EntryOutsideRam(_) if boot.entry.is_some() => "boot.entry",
        ImageError::LoadOutsideRam { .. }
        | ImageError::LoadReserved { .. }
        | ImageError::LoadMisaligned { .. }
            if boot.load.is_some() =>
        {
            "boot.load"
        }
        ImageError::InitrdTooLarge { .. } => "boot.initrd",
        ImageError::NoRoomForFdt { .. } => "vm.memory",
        ImageError::FdtTooLarge { .. } | ImageError::FdtUnknown | ImageError::FdtGiven(_) => {
            "boot.dtb"
        }
        ImageError::CmdlineTooLong { .. } | ImageError::CmdlineNul => "boot.cmdline",
        _ => "boot.kernel",
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::{super::samples, *};
    use crate::{GuestPhysAddr, ImageBytes, RamRegion, boot::Handover};

    const RAM: [RamRegion; 1] = [RamRegion {
        start: GuestPhysAddr::from_usize(0x8000_0000),
        size_bytes: 32 << 20,
    }];

    fn rules() -> BootRules<'static> {
        BootRules {
            ram: &RAM,
            reserved: &[],
            elf_machines: &[243],
            linux: None,
            flat_offset: Some(2 << 20),
            handover: Handover::Nothing,
        }
    }

    fn boot(kernel: &[u8]) -> BootConfig {
        BootConfig {
            kernel: ImageBytes::Shared(kernel.into()),
            initrd: None,
            dtb: None,
            cmdline: String::new(),
            load: None,
            entry: None,
        }
    }

    #[test]
    fn an_image_that_fits_is_accepted() {
        assert_eq!(check(&boot(b"a flat image"), &rules()), Ok(()));
    }

    #[test]
    fn the_key_whose_value_is_wrong_is_named() {
        let bzimage = samples::bzimage(16 << 20, 8 << 20, 4096);
        assert_eq!(
            check(&boot(&bzimage), &rules()).unwrap_err().key,
            "boot.kernel"
        );
        let entry = BootConfig {
            entry: Some(0x1000),
            ..boot(b"flat image")
        };
        assert_eq!(check(&entry, &rules()).unwrap_err().key, "boot.entry");
        let load = BootConfig {
            load: Some(0x1000),
            ..boot(b"flat image")
        };
        assert_eq!(check(&load, &rules()).unwrap_err().key, "boot.load");
        let initrd = Some(ImageBytes::Shared(vec![1; 40 << 20].into()));
        let initrd = BootConfig {
            initrd,
            ..boot(b"flat image")
        };
        assert_eq!(check(&initrd, &rules()).unwrap_err().key, "boot.initrd");
    }

    #[test]
    fn cause_and_remedy_are_told_apart() {
        let fault = check(&boot(&[0x1f, 0x8b, 8, 0]), &rules()).unwrap_err();
        assert_eq!(fault.cause, "this is no kernel but compressed with gzip");
        assert_eq!(fault.remedy, "unpack it: gunzip < FILE > Image");
    }
}
