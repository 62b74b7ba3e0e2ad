// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A VM's file as written: types are right, values are not judged yet.
//!
//! Made by `read`, consumed by `freeze`. Each value keeps its place, so that
//! every later complaint, the architecture's included, can name the line.

use alloc::{string::String, vec::Vec};

use super::keys::{self, Key};
use super::problem::Place;

/// A value and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written<T> {
    /// The value.
    pub value: T,
    /// Where it is written.
    pub place: Place,
}

/// What a file says about a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Entry<T> {
    /// Nothing.
    #[default]
    Absent,
    /// Something of the wrong type, which was complained about already.
    Refused,
    /// A value.
    Is(Written<T>),
}

impl<T> Entry<T> {
    /// Returns the value, if there is one.
    pub fn get(&self) -> Option<&Written<T>> {
        match self {
            Self::Is(written) => Some(written),
            Self::Absent | Self::Refused => None,
        }
    }

    /// Tells whether the file says nothing about the key.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A VM's file as written.
#[derive(Clone, Debug, Default)]
pub struct AxVMCrateConfig {
    /// `[vm]`
    pub vm: VmTable,
    /// `[boot]`
    pub boot: BootTable,
    /// Each `[[device]]`
    pub devices: Vec<DeviceTable>,
    /// `[policy]`
    pub policy: PolicyTable,
}

/// `[vm]` as written.
#[derive(Clone, Debug, Default)]
pub struct VmTable {
    /// Where the table begins, or the file's first line if it has none.
    pub place: Place,
    /// `name`
    pub name: Entry<String>,
    /// `cpus`
    pub cpus: Entry<u64>,
    /// `memory`, in bytes
    pub memory: Entry<u64>,
    /// `pcpus`
    pub pcpus: Entry<PCpuNumbers>,
    /// `intc`
    pub intc: Entry<String>,
}

/// `pcpus` as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PCpuNumbers {
    /// One list, for every vCPU.
    Shared(Vec<u64>),
    /// One list for each vCPU.
    Each(Vec<Vec<u64>>),
}

/// `[boot]` as written.
#[derive(Clone, Debug, Default)]
pub struct BootTable {
    /// Where the table begins, or the file's first line if it has none.
    pub place: Place,
    /// `kernel`
    pub kernel: Entry<String>,
    /// `initrd`
    pub initrd: Entry<String>,
    /// `dtb`
    pub dtb: Entry<String>,
    /// `cmdline`
    pub cmdline: Entry<String>,
    /// `load`
    pub load: Entry<u64>,
    /// `entry`
    pub entry: Entry<u64>,
}

/// One `[[device]]` as written.
#[derive(Clone, Debug, Default)]
pub struct DeviceTable {
    /// Where the table begins.
    pub place: Place,
    /// `kind`
    pub kind: Entry<String>,
    /// `image`
    pub image: Entry<String>,
}

/// `[policy]` as written.
#[derive(Clone, Debug, Default)]
pub struct PolicyTable {
    /// Where the table begins, or the file's first line if it has none.
    pub place: Place,
    /// `autostart`
    pub autostart: Entry<bool>,
    /// `on_crash`
    pub on_crash: Entry<String>,
}

/// Where the keys of a file are written.
#[derive(Clone, Debug)]
pub struct Places(Vec<(&'static str, Place)>);

impl Places {
    /// Returns where `path`, such as `vm.cpus`, is written, or its table begins.
    pub fn of(&self, path: &str) -> Place {
        let table = path.split('.').next().unwrap_or(path);
        self.get(path)
            .or_else(|| self.get(table))
            .unwrap_or_else(|| Place {
                line: 1,
                shown: String::from(path),
            })
    }

    fn get(&self, path: &str) -> Option<Place> {
        let found = self.0.iter().find(|(known, _)| *known == path);
        found.map(|(_, place)| place.clone())
    }

    fn add<T>(&mut self, key: Key, entry: &Entry<T>) {
        if let Some(written) = entry.get() {
            self.0.push((key.path, written.place.clone()));
        }
    }

    fn add_table(&mut self, name: &'static str, place: &Place) {
        self.0.push((name, place.clone()));
    }
}

impl AxVMCrateConfig {
    /// Returns where each key is written, for complaints that come later.
    pub fn places(&self) -> Places {
        let mut places = Places(Vec::new());
        self.vm.list(&mut places);
        self.boot.list(&mut places);
        for device in &self.devices {
            places.add(keys::KIND, &device.kind);
            places.add(keys::IMAGE, &device.image);
            places.add_table(keys::DEVICE.name, &device.place);
        }
        self.policy.list(&mut places);
        places
    }
}

impl VmTable {
    fn list(&self, places: &mut Places) {
        places.add(keys::NAME, &self.name);
        places.add(keys::CPUS, &self.cpus);
        places.add(keys::MEMORY, &self.memory);
        places.add(keys::PCPUS, &self.pcpus);
        places.add(keys::INTC, &self.intc);
        places.add_table(keys::VM.name, &self.place);
    }
}

impl BootTable {
    fn list(&self, places: &mut Places) {
        places.add(keys::KERNEL, &self.kernel);
        places.add(keys::INITRD, &self.initrd);
        places.add(keys::DTB, &self.dtb);
        places.add(keys::CMDLINE, &self.cmdline);
        places.add(keys::LOAD, &self.load);
        places.add(keys::ENTRY, &self.entry);
        places.add_table(keys::BOOT.name, &self.place);
    }
}

impl PolicyTable {
    fn list(&self, places: &mut Places) {
        places.add(keys::AUTOSTART, &self.autostart);
        places.add(keys::ON_CRASH, &self.on_crash);
        places.add_table(keys::POLICY.name, &self.place);
    }
}
