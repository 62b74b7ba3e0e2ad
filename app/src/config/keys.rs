// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The keys that a VM's file may have, each with an example.
//!
//! The one list of them: the reader takes keys by these names, refuses all
//! others, and shows the example when a value has the wrong type. The user's
//! page is docs/vm-file.md.

/// A key of a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The name with the table's, as the architectures know it.
    pub path: &'static str,
    /// A line that would be right.
    pub example: &'static str,
}

/// A table of a VM's file.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The line that opens it.
    pub header: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// Makes a key's constant.
const fn key(name: &'static str, path: &'static str, example: &'static str) -> Key {
    Key {
        name,
        path,
        example,
    }
}

/// `[vm] name`
pub const NAME: Key = key("name", "vm.name", "name = \"linux\"");
/// `[vm] cpus`
pub const CPUS: Key = key("cpus", "vm.cpus", "cpus = 2");
/// `[vm] memory`
pub const MEMORY: Key = key("memory", "vm.memory", "memory = \"256MiB\"");
/// `[vm] pcpus`
pub const PCPUS: Key = key("pcpus", "vm.pcpus", "pcpus = [0, 1]");
/// `[vm] intc`
pub const INTC: Key = key("intc", "vm.intc", "intc = \"plic\"");

/// `[boot] kernel`
pub const KERNEL: Key = key("kernel", "boot.kernel", "kernel = \"Image\"");
/// `[boot] initrd`
pub const INITRD: Key = key("initrd", "boot.initrd", "initrd = \"initrd.cpio.gz\"");
/// `[boot] dtb`
pub const DTB: Key = key("dtb", "boot.dtb", "dtb = \"board.dtb\"");
/// `[boot] cmdline`
pub const CMDLINE: Key = key("cmdline", "boot.cmdline", "cmdline = \"console=ttyS0\"");
/// `[boot] load`
pub const LOAD: Key = key("load", "boot.load", "load = 0x8020_0000");
/// `[boot] entry`
pub const ENTRY: Key = key("entry", "boot.entry", "entry = 0x8020_0000");

/// `[[device]] kind`
pub const KIND: Key = key("kind", "device.kind", "kind = \"virtio-blk\"");
/// `[[device]] image`
pub const IMAGE: Key = key("image", "device.image", "image = \"disk.img\"");

/// `[policy] autostart`
pub const AUTOSTART: Key = key("autostart", "policy.autostart", "autostart = false");
/// `[policy] on_crash`
pub const ON_CRASH: Key = key("on_crash", "policy.on_crash", "on_crash = \"restart\"");

/// The table `[vm]`.
pub const VM: Table = Table {
    name: "vm",
    header: "[vm]",
    keys: &[NAME, CPUS, MEMORY, PCPUS, INTC],
};
/// The table `[boot]`.
pub const BOOT: Table = Table {
    name: "boot",
    header: "[boot]",
    keys: &[KERNEL, INITRD, DTB, CMDLINE, LOAD, ENTRY],
};
/// The tables `[[device]]`.
pub const DEVICE: Table = Table {
    name: "device",
    header: "[[device]]",
    keys: &[KIND, IMAGE],
};
/// The table `[policy]`.
pub const POLICY: Table = Table {
    name: "policy",
    header: "[policy]",
    keys: &[AUTOSTART, ON_CRASH],
};

/// All tables.
pub const TABLES: [Table; 4] = [VM, BOOT, DEVICE, POLICY];
