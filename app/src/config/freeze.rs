// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! From what is written to what a VM is made from.
//!
//! Judges every value, gives the missing ones their defaults, and looks the
//! files up. Invariant: a configuration comes out only if nothing was wrong,
//! and then every value in it is within the bounds of docs/vm-file.md.

use alloc::{format, string::String, vec, vec::Vec};

use axvm::{
    AxVMConfig, BootConfig, CrashPolicy, DeviceConfig, ImageBytes, PCpuSet, Policy, VCpuConfig,
};

use super::problem::Problems;
use super::written::{
    AxVMCrateConfig, BootTable, DeviceTable, Entry, PCpuNumbers, PolicyTable, VmTable, Written,
};
use super::{Lookup, Rules};
use crate::text::nearest;

/// The most vCPUs that a VM may have.
pub const VCPUS_MAX: u64 = 8;
/// The longest name of a VM.
pub const NAME_BYTES_MAX: usize = 32;
/// The longest command line.
pub const CMDLINE_BYTES_MAX: usize = 2048;
/// What a VM's memory is a multiple of.
pub const MEMORY_STEP_BYTES: u64 = 2 << 20;
/// What a VM's memory is smaller than.
pub const MEMORY_BYTES_END: u64 = 256 << 30;

const MEMORY_BYTES_DEFAULT: u64 = 128 << 20;
const DTB_MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];

/// Makes the configuration; what is wrong is added to `problems`.
pub fn freeze(
    written: &AxVMCrateConfig,
    rules: &Rules<'_>,
    files: Lookup<'_>,
    problems: &mut Problems<'_>,
) -> Option<AxVMConfig> {
    let mut freezer = Freezer {
        rules,
        files,
        problems,
    };
    let name = freezer.name(&written.vm);
    let cpus = freezer.cpus(&written.vm);
    let memory_bytes = freezer.memory(&written.vm);
    let vcpus = freezer.vcpus(&written.vm, cpus);
    let boot = freezer.boot(&written.boot);
    let devices = freezer.devices(&written.devices);
    let policy = freezer.policy(&written.policy);
    if let (Some(boot), Some(memory_bytes)) = (&boot, memory_bytes) {
        freezer.images_fit(&written.boot, boot, memory_bytes);
    }
    if !freezer.problems.is_empty() {
        return None;
    }
    Some(AxVMConfig {
        name: name?,
        vcpus: vcpus?,
        memory_bytes: memory_bytes?,
        intc: written.vm.intc.get().map(|intc| intc.value.clone()),
        boot: boot?,
        devices: devices?,
        policy: policy?,
    })
}

struct Freezer<'z, 'f> {
    rules: &'z Rules<'z>,
    files: Lookup<'z>,
    problems: &'z mut Problems<'f>,
}

impl Freezer<'_, '_> {
    fn name(&mut self, vm: &VmTable) -> Option<String> {
        if vm.name.is_absent() {
            let remedy = "write name = \"linux\" under [vm]";
            self.problems.add(&vm.place, "a VM needs a name", remedy);
        }
        let name = vm.name.get()?;
        let Some(cause) = name_fault(&name.value) else {
            return Some(name.value.clone());
        };
        let remedy = "write for example name = \"linux\"";
        self.problems.add(&name.place, cause, remedy);
        None
    }

    fn cpus(&mut self, vm: &VmTable) -> Option<u64> {
        let Some(cpus) = vm.cpus.get() else {
            return Some(1);
        };
        if (1..=VCPUS_MAX).contains(&cpus.value) {
            return Some(cpus.value);
        }
        let cause = format!("a VM has 1 to {VCPUS_MAX} vCPUs");
        let remedy = "write for example cpus = 2";
        self.problems.add(&cpus.place, &cause, remedy);
        None
    }

    fn memory(&mut self, vm: &VmTable) -> Option<u64> {
        let Some(memory) = vm.memory.get() else {
            return Some(MEMORY_BYTES_DEFAULT);
        };
        let Some(cause) = memory_fault(memory.value) else {
            return Some(memory.value);
        };
        let remedy = "write for example memory = \"256MiB\"";
        self.problems.add(&memory.place, cause, remedy);
        None
    }

    fn vcpus(&mut self, vm: &VmTable, cpus: Option<u64>) -> Option<Vec<VCpuConfig>> {
        let count = usize::try_from(cpus?).ok()?;
        let Some(pcpus) = vm.pcpus.get() else {
            let pcpus = self.rules.pcpus;
            return Some(vec![VCpuConfig { pcpus }; count]);
        };
        match &pcpus.value {
            PCpuNumbers::Shared(numbers) => {
                let pcpus = self.pcpu_set(pcpus, numbers)?;
                Some(vec![VCpuConfig { pcpus }; count])
            }
            PCpuNumbers::Each(lists) if lists.len() != count => {
                let cause = format!("{} lists for {count} vCPUs", lists.len());
                let remedy = "write one list for each vCPU, or one list for all";
                self.problems.add(&pcpus.place, &cause, remedy);
                None
            }
            PCpuNumbers::Each(lists) => lists
                .iter()
                .map(|numbers| {
                    Some(VCpuConfig {
                        pcpus: self.pcpu_set(pcpus, numbers)?,
                    })
                })
                .collect(),
        }
    }

    fn pcpu_set<T>(&mut self, written: &Written<T>, numbers: &[u64]) -> Option<PCpuSet> {
        let host = self.rules.pcpus;
        let missing = numbers.iter().find(|cpu| bit(**cpu) & host.0 == 0);
        if let Some(cpu) = missing {
            let cause = format!("this machine has no CPU {cpu}");
            let remedy = format!("its CPUs are {}", super::pcpus::show(host));
            self.problems.add(&written.place, &cause, &remedy);
            return None;
        }
        Some(PCpuSet(numbers.iter().fold(0, |set, cpu| set | bit(*cpu))))
    }

    fn boot(&mut self, boot: &BootTable) -> Option<BootConfig> {
        let kernel = self.kernel(boot);
        let initrd = self.optional_file(&boot.initrd);
        let dtb = self.dtb(boot);
        let cmdline = self.cmdline(boot);
        Some(BootConfig {
            kernel: kernel?,
            initrd: initrd?,
            dtb: dtb?,
            cmdline: cmdline?,
            load: boot.load.get().map(|load| load.value),
            entry: boot.entry.get().map(|entry| entry.value),
        })
    }

    fn kernel(&mut self, boot: &BootTable) -> Option<ImageBytes> {
        if boot.kernel.is_absent() {
            let remedy = "write kernel = \"Image\" under [boot]";
            self.problems
                .add(&boot.place, "a VM needs a kernel to boot", remedy);
        }
        self.file(boot.kernel.get()?)
    }

    fn dtb(&mut self, boot: &BootTable) -> Option<Option<ImageBytes>> {
        let dtb = self.optional_file(&boot.dtb)?;
        if let (Some(bytes), Some(written)) = (&dtb, boot.dtb.get())
            && !bytes.starts_with(&DTB_MAGIC)
        {
            let cause = "this is no flattened device tree";
            let remedy = "give a .dtb as dtc makes it, or remove the line";
            self.problems.add(&written.place, cause, remedy);
            return None;
        }
        Some(dtb)
    }

    fn cmdline(&mut self, boot: &BootTable) -> Option<String> {
        let Some(cmdline) = boot.cmdline.get() else {
            return Some(String::new());
        };
        let size = cmdline.value.len();
        let (cause, remedy) = if size > CMDLINE_BYTES_MAX {
            let cause = format!("it has {size} bytes, at most {CMDLINE_BYTES_MAX} are allowed");
            (cause, "shorten it")
        } else if cmdline.value.contains('\0') {
            let cause = String::from("a command line ends at its first NUL");
            (cause, "remove the \\u0000")
        } else {
            return Some(cmdline.value.clone());
        };
        self.problems.add(&cmdline.place, &cause, remedy);
        None
    }

    fn devices(&mut self, devices: &[DeviceTable]) -> Option<Vec<DeviceConfig>> {
        let frozen: Vec<_> = devices.iter().map(|device| self.device(device)).collect();
        frozen.into_iter().collect()
    }

    fn device(&mut self, device: &DeviceTable) -> Option<DeviceConfig> {
        let kind = self.device_kind(device);
        let image = self.optional_file(&device.image);
        Some(DeviceConfig {
            kind: kind?,
            image: image?,
        })
    }

    fn device_kind(&mut self, device: &DeviceTable) -> Option<String> {
        let known = self.rules.device_kinds;
        if device.kind.is_absent() {
            let cause = "a device needs a kind";
            self.problems
                .add(&device.place, cause, &kinds_remedy(known));
        }
        let kind = device.kind.get()?;
        if known.contains(&kind.value.as_str()) {
            return Some(kind.value.clone());
        }
        let remedy = match nearest(&kind.value, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => kinds_remedy(known),
        };
        self.problems
            .add(&kind.place, "there is no device of this kind", &remedy);
        None
    }

    fn policy(&mut self, policy: &PolicyTable) -> Option<Policy> {
        Some(Policy {
            autostart: policy.autostart.get().is_none_or(|auto| auto.value),
            on_crash: self.on_crash(policy)?,
        })
    }

    fn on_crash(&mut self, policy: &PolicyTable) -> Option<CrashPolicy> {
        let Some(on_crash) = policy.on_crash.get() else {
            return Some(CrashPolicy::Stop);
        };
        match on_crash.value.as_str() {
            "stop" => Some(CrashPolicy::Stop),
            "restart" => Some(CrashPolicy::Restart),
            _ => {
                let remedy = "write on_crash = \"stop\" or on_crash = \"restart\"";
                self.problems
                    .add(&on_crash.place, "there is no such policy", remedy);
                None
            }
        }
    }

    /// The outer `None` says that the file is named but cannot be had.
    fn optional_file(&mut self, path: &Entry<String>) -> Option<Option<ImageBytes>> {
        match path.get() {
            Some(path) => self.file(path).map(Some),
            None => Some(None),
        }
    }

    fn file(&mut self, path: &Written<String>) -> Option<ImageBytes> {
        let cause = match (self.files)(&path.value) {
            Ok(bytes) if bytes.is_empty() => String::from("the file is empty"),
            Ok(bytes) => return Some(bytes),
            Err(cause) => cause,
        };
        let remedy = "give the path of a file, relative to this one";
        self.problems.add(&path.place, &cause, remedy);
        None
    }

    fn images_fit(&mut self, written: &BootTable, boot: &BootConfig, memory_bytes: u64) {
        let images = [
            (written.kernel.get(), Some(&boot.kernel)),
            (written.initrd.get(), boot.initrd.as_ref()),
            (written.dtb.get(), boot.dtb.as_ref()),
        ];
        let mut end: u64 = 0;
        for (written, bytes) in images {
            let (Some(written), Some(bytes)) = (written, bytes) else {
                continue;
            };
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            end = end.saturating_add(size);
            if end > memory_bytes {
                let cause = format!(
                    "the images up to here have {end} bytes, the VM's memory only {memory_bytes}"
                );
                let remedy = "give it more memory, or a smaller image";
                self.problems.add(&written.place, &cause, remedy);
                return;
            }
        }
    }
}

/// Returns why a name is none.
fn name_fault(name: &str) -> Option<&'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        Some("a name has 1 to 32 characters")
    } else if !name.bytes().all(is_allowed) {
        Some("a name has only letters, digits, and . _ -")
    } else if name.bytes().all(|byte| byte.is_ascii_digit()) {
        Some("a name of digits only would be taken for a VM's id")
    } else {
        None
    }
}

/// Returns why a memory size is none.
fn memory_fault(bytes: u64) -> Option<&'static str> {
    if bytes < MEMORY_STEP_BYTES {
        Some("a VM needs at least 2 MiB")
    } else if bytes >= MEMORY_BYTES_END {
        Some("a VM has less than 256 GiB")
    } else if !bytes.is_multiple_of(MEMORY_STEP_BYTES) {
        Some("memory comes in steps of 2 MiB")
    } else {
        None
    }
}

/// Returns the CPU's bit, or none for a number that no set has.
fn bit(cpu: u64) -> u64 {
    u32::try_from(cpu)
        .ok()
        .and_then(|cpu| 1_u64.checked_shl(cpu))
        .unwrap_or(0)
}

fn kinds_remedy(known: &[&str]) -> String {
    if known.is_empty() {
        return String::from("this version has no devices to add: remove the [[device]]");
    }
    format!("the kinds are {}", known.join(", "))
}
