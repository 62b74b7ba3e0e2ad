// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What this machine's harts can do, and what guests are told of it.
//!
//! [`describe`] reads the machine's device tree, once; each hart's own probe
//! (`percpu`) adds what it finds. A guest's ISA is what both have and the hypervisor can give: an
//! extension whose state is not switched or that is not enabled is left out.
//!
//! Spec: RISC-V device tree bindings, cpus and extensions; henvcfg, hstateen0.

use alloc::{string::String, vec::Vec};

use axvm::{Error, Result};
use dtoolkit::{Node, Property, fdt::Fdt};
use spin::Once;
use tock_registers::fields::FieldValue;

use crate::{bank::TimerRegister, files, host_files::HostFiles, regs::HENVCFG, stage2::Mode};

/// What a hart's registers told when they were tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probed {
    /// The smallest format of stage-2 tables.
    pub(crate) stage2: Mode,
    /// How many VMIDs there are.
    pub(crate) vmids: u64,
    /// Which bits of henvcfg exist.
    pub(crate) environment: u64,
    /// The CSRs of AIA can be used.
    pub(crate) has_aia: bool,
    /// How many guest interrupt files there are.
    pub(crate) guest_files: usize,
    /// The bytes of a vector register, if there are some.
    pub(crate) vector_bytes: Option<usize>,
}

/// What guests get.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) guest: GuestIsa,
    pub(crate) timebase_hz: u64,
    pub(crate) stage2: Mode,
    pub(crate) timer: TimerRegister,
    /// What henvcfg is for every guest.
    pub(crate) environment: u64,
    /// hstateen0 exists.
    pub(crate) has_state_enable: bool,
    /// siselect and stopi of guests are the hardware's.
    pub(crate) has_aia: bool,
    /// The interrupt files of the hardware, if guests may have some.
    pub(crate) files: Option<HostFiles>,
    /// The bytes of a vector register of guests; 0 if they have none.
    pub(crate) vector_bytes: usize,
}

/// A guest's ISA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuestIsa {
    /// Its extensions, single letters first, in the host's order.
    pub(crate) extensions: Vec<String>,
    pub(crate) cbom_block_bytes: Option<u32>,
    pub(crate) cboz_block_bytes: Option<u32>,
    pub(crate) mmu_type: String,
}

/// What the machine's device tree says of its harts.
#[derive(Clone, Debug)]
struct Described {
    extensions: Vec<String>,
    timebase_hz: u64,
    cbom_block_bytes: Option<u32>,
    cboz_block_bytes: Option<u32>,
    mmu_type: String,
    files: Option<HostFiles>,
    /// What the command line wants instead of the smallest.
    stage2: Option<Mode>,
}

static DESCRIBED: Once<Described> = Once::new();
static PROBED: Once<Probed> = Once::new();
static HOST: Once<Host> = Once::new();

/// Reads the machine's device tree; later calls change nothing.
pub(crate) fn describe(device_tree: &[u8]) -> Result<()> {
    let described = Described::read(device_tree).ok_or(Error::Unsupported(
        "its device tree does not describe its harts",
    ))?;
    if described.stage2.is_none() && option(device_tree, STAGE2).is_some() {
        let cause = "stage2= is none of sv39x4, sv48x4, sv57x4";
        return Err(Error::Unsupported(cause));
    }
    DESCRIBED.call_once(|| described);
    Ok(())
}

/// The command line's word for a format of stage 2.
const STAGE2: &str = "stage2=";

/// Returns what follows a word of the machine's command line.
fn option(device_tree: &[u8], word: &str) -> Option<String> {
    let tree = Fdt::new(device_tree).ok()?;
    let arguments = tree.find_node("/chosen")?.property("bootargs")?;
    let arguments = core::str::from_utf8(arguments.value()).ok()?;
    let mut words = arguments.trim_end_matches('\0').split_whitespace();
    words
        .find_map(|own| own.strip_prefix(word))
        .map(String::from)
}

/// Returns the format of stage 2 that the command line wants.
pub(crate) fn asked_stage2() -> Option<Mode> {
    DESCRIBED.get()?.stage2
}

/// Takes note of what a hart found, and refuses one unlike the first.
pub(crate) fn note(probed: Probed) -> Result<()> {
    match *PROBED.call_once(|| probed) == probed {
        true => Ok(()),
        false => Err(Error::Unsupported(
            "its harts differ in what they offer guests",
        )),
    }
}

/// Returns what guests get, once the machine was described and a hart probed.
pub(crate) fn host() -> Result<&'static Host> {
    if let Some(host) = HOST.get() {
        return Ok(host);
    }
    let described = DESCRIBED.get().ok_or(Error::Unsupported(
        "nobody told what the machine's harts are",
    ))?;
    let probed = PROBED.get().ok_or(Error::Unsupported(
        "virtualization is on in none of its harts",
    ))?;
    Ok(HOST.call_once(|| {
        let host = described.with(probed);
        if let Some(own) = &host.files {
            files::init(own.hart_count(), probed.guest_files);
        }
        host
    }))
}

impl Described {
    /// Reads `/cpus` and its first hart; `None` if something needed is missing.
    fn read(device_tree: &[u8]) -> Option<Self> {
        let tree = Fdt::new(device_tree).ok()?;
        let cpus = tree.find_node("/cpus")?;
        let cpu = cpus
            .children()
            .find(|node| node.name_without_address() == "cpu")?;
        let number = |name| cpu.property(name)?.value_as::<u32>().ok();
        let string = |name| cpu.property(name)?.value_as::<&str>().ok();
        let timebase = cpus.property("timebase-frequency")?;
        let named = cpu.property("riscv,isa-extensions");
        Some(Self {
            extensions: match (string("riscv,isa"), named) {
                (Some(isa), _) => split(isa),
                (None, Some(names)) => list(names.value()),
                (None, None) => return None,
            },
            timebase_hz: u64::from(timebase.value_as::<u32>().ok().filter(|hz| *hz > 0)?),
            cbom_block_bytes: number("riscv,cbom-block-size"),
            cboz_block_bytes: number("riscv,cboz-block-size"),
            mmu_type: string("mmu-type").unwrap_or("riscv,sv39").into(),
            files: HostFiles::read(&tree),
            stage2: option(device_tree, STAGE2).and_then(|name| Mode::named(&name)),
        })
    }

    fn has(&self, extension: &str) -> bool {
        self.extensions.iter().any(|own| own == extension)
    }

    /// Returns what guests get of an extension's bits of henvcfg: all or none.
    fn bits_for(&self, row: &Enabled, probed: &Probed) -> u64 {
        let has_block = match row.block {
            Block::None => true,
            Block::Cbom => self.cbom_block_bytes.is_some(),
            Block::Cboz => self.cboz_block_bytes.is_some(),
        };
        let is_usable = self.has(row.extension)
            && has_block
            && probed.environment & row.bits.value == row.bits.value;
        if is_usable { row.bits.value } else { 0 }
    }

    fn with(&self, probed: &Probed) -> Host {
        let environment = ENABLED
            .iter()
            .fold(0, |bits, row| bits | self.bits_for(row, probed));
        let has_aia = self.has("ssaia") && probed.has_aia;
        let has_files = has_aia && probed.guest_files > 0;
        let vector_bytes = probed.vector_bytes.filter(|_| self.has("v")).unwrap_or(0);
        let is_given = |extension: &&String| {
            let row = ENABLED
                .iter()
                .find(|row| row.extension == extension.as_str());
            match row {
                Some(row) => environment & row.bits.value != 0,
                None if VECTOR.contains(&extension.as_str()) => vector_bytes > 0,
                None => PLAIN.contains(&extension.as_str()),
            }
        };
        let guest: Vec<_> = self.extensions.iter().filter(is_given).cloned().collect();
        let gives = |name: &str| guest.iter().any(|extension| extension == name);
        Host {
            timer: match gives("sstc") {
                true => TimerRegister::Present,
                false => TimerRegister::Absent,
            },
            timebase_hz: self.timebase_hz,
            stage2: probed.stage2,
            environment,
            has_state_enable: self.has("smstateen") || self.has("ssstateen"),
            has_aia,
            files: self.files.clone().filter(|_| has_files),
            vector_bytes,
            guest: GuestIsa {
                cbom_block_bytes: self.cbom_block_bytes.filter(|_| gives("zicbom")),
                cboz_block_bytes: self.cboz_block_bytes.filter(|_| gives("zicboz")),
                mmu_type: self.mmu_type.clone(),
                extensions: guest,
            },
        }
    }
}

/// Which of the machine's cache block sizes an extension needs.
#[derive(Clone, Copy)]
enum Block {
    None,
    Cbom,
    Cboz,
}

/// An extension that henvcfg enables.
struct Enabled {
    extension: &'static str,
    bits: FieldValue<u64, HENVCFG::Register>,
    block: Block,
}

const ENABLED: [Enabled; 5] = [
    Enabled {
        extension: "sstc",
        bits: HENVCFG::STCE::SET,
        block: Block::None,
    },
    Enabled {
        extension: "svpbmt",
        bits: HENVCFG::PBMTE::SET,
        block: Block::None,
    },
    Enabled {
        extension: "svadu",
        bits: HENVCFG::ADUE::SET,
        block: Block::None,
    },
    Enabled {
        extension: "zicbom",
        // CBO.INVAL flushes: a guest may not drop what others wrote.
        bits: FieldValue::<u64, HENVCFG::Register>::new(0b101, 4, 0b101),
        block: Block::Cbom,
    },
    Enabled {
        extension: "zicboz",
        bits: HENVCFG::CBZE::SET,
        block: Block::Cboz,
    },
];

/// Extensions that have no state but the vector registers, which are switched
/// where the whole vector extension is there.
const VECTOR: [&str; 20] = [
    "v", "zve32f", "zve32x", "zve64d", "zve64f", "zve64x", "zvfh", "zvfhmin", "zvbb", "zvbc",
    "zvkb", "zvkg", "zvkned", "zvknha", "zvknhb", "zvksed", "zvksh", "zvkt", "zvl128b", "zvl256b",
];

/// Extensions that need nothing of the hypervisor; those that add supervisor
/// CSRs are not here.
const PLAIN: [&str; 41] = [
    "i",
    "m",
    "a",
    "f",
    "d",
    "c",
    "b",
    "zicsr",
    "zifencei",
    "zicntr",
    "zicond",
    "zihintntl",
    "zihintpause",
    "zimop",
    "zcmop",
    "zaamo",
    "zalrsc",
    "zabha",
    "zacas",
    "zawrs",
    "zfa",
    "zfh",
    "zfhmin",
    "zca",
    "zcb",
    "zcd",
    "zba",
    "zbb",
    "zbc",
    "zbs",
    "zbkb",
    "zbkc",
    "zbkx",
    "zknd",
    "zkne",
    "zknh",
    "zksed",
    "zksh",
    "zkt",
    "svinval",
    "svnapot",
];

/// Reads a list of names, each with a zero byte behind it.
fn list(bytes: &[u8]) -> Vec<String> {
    bytes
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| core::str::from_utf8(name).ok())
        .map(String::from)
        .collect()
}

/// Splits an ISA string into the names of extensions; versions are dropped.
fn split(isa: &str) -> Vec<String> {
    let lower = isa.to_ascii_lowercase();
    let mut parts = lower.split('_');
    let single = parts.next().unwrap_or("");
    let letters = single.strip_prefix("rv64").unwrap_or(single);
    let mut names = Vec::new();
    for letter in letters.chars() {
        match letter {
            'g' => names.extend(["i", "m", "a", "f", "d", "zicsr", "zifencei"].map(String::from)),
            'a'..='z' => names.push(letter.into()),
            _ => {}
        }
    }
    names.extend(parts.filter(|part| !part.is_empty()).map(String::from));
    names
}

impl GuestIsa {
    /// Returns the ISA and one extension more.
    pub(crate) fn with(&self, extension: &str) -> Self {
        let mut more = self.clone();
        more.extensions.push(extension.into());
        more
    }

    /// Returns the `riscv,isa` string.
    pub(crate) fn string(&self) -> String {
        let mut isa = String::from("rv64");
        let (single, multi): (Vec<_>, Vec<_>) =
            self.extensions.iter().partition(|name| name.len() == 1);
        single.into_iter().for_each(|name| isa.push_str(name));
        for name in multi {
            isa.push('_');
            isa.push_str(name);
        }
        isa
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QEMU: &str = "rv64imafdcvh_zicbom_zicsr_zifencei_zihintpause_zba_smstateen_sstc_svpbmt";

    fn probed(environment: u64) -> Probed {
        Probed {
            stage2: Mode::Sv39x4,
            vmids: 128,
            environment,
            has_aia: true,
            guest_files: 0,
            vector_bytes: Some(16),
        }
    }

    fn without_vectors(probed: Probed) -> Probed {
        Probed {
            vector_bytes: None,
            ..probed
        }
    }

    fn described(isa: &str) -> Described {
        Described {
            extensions: split(isa),
            timebase_hz: 10_000_000,
            cbom_block_bytes: Some(64),
            cboz_block_bytes: None,
            mmu_type: "riscv,sv39".into(),
            files: None,
            stage2: None,
        }
    }

    /// Writes a device tree with one hart.
    fn tree(isa: &[(&str, &[u8])]) -> Vec<u8> {
        axvm::boot::fdt::Fdt::write("model", "compatible", |fdt| {
            fdt.node("cpus", |fdt| {
                fdt.u32("timebase-frequency", 1000)?;
                fdt.node("cpu-map", |_| Ok(()))?;
                fdt.node("cpu@0", |fdt| {
                    fdt.string("mmu-type", "riscv,sv48")?;
                    isa.iter()
                        .try_for_each(|(name, value)| fdt.bytes(name, value))
                })
            })
        })
        .unwrap()
    }

    #[test]
    fn a_device_tree_tells_by_string_or_by_list() {
        let read = |isa: &[(&str, &[u8])]| Described::read(&tree(isa));
        let by_string = read(&[("riscv,isa", b"rv64ih_sstc\0")]).unwrap();
        let by_list = read(&[("riscv,isa-extensions", b"i\0h\0sstc\0")]).unwrap();
        assert_eq!(by_string.extensions, ["i", "h", "sstc"]);
        assert_eq!(by_list.extensions, by_string.extensions);
        assert_eq!(
            (by_list.timebase_hz, &*by_list.mmu_type),
            (1000, "riscv,sv48")
        );
        assert!(read(&[]).is_none());
        assert!(Described::read(&[0; 64]).is_none());
    }

    #[test]
    fn the_command_line_may_want_a_format_of_stage_2() {
        let tree = |arguments: &str| {
            axvm::boot::fdt::Fdt::write("model", "compatible", |fdt| {
                fdt.node("chosen", |fdt| fdt.string("bootargs", arguments))
            })
            .unwrap()
        };
        let asked = |arguments| {
            let tree = tree(arguments);
            option(&tree, STAGE2).map(|name| Mode::named(&name).ok_or(()))
        };
        assert_eq!(asked("log=warn onidle=shell"), None);
        assert_eq!(asked("stage2=sv57x4"), Some(Ok(Mode::Sv57x4)));
        assert_eq!(asked("log=warn stage2=sv48x4 x"), Some(Ok(Mode::Sv48x4)));
        assert_eq!(asked("stage2=sv48"), Some(Err(())));
    }

    #[test]
    fn a_guest_gets_what_the_hart_has_and_the_hypervisor_can_give() {
        let host = described(QEMU).with(&probed(u64::MAX));
        let isa = "rv64imafdcv_zicbom_zicsr_zifencei_zihintpause_zba_sstc_svpbmt";
        assert_eq!(host.guest.string(), isa);
        assert_eq!(host.timer, TimerRegister::Present);
        assert_eq!(host.guest.cbom_block_bytes, Some(64));
        assert!(host.has_state_enable);
    }

    #[test]
    fn vectors_need_the_whole_extension_and_registers_that_can_be_switched() {
        let isa = "rv64gv_zve64d_zvl128b_zvkt";
        let host = described(isa).with(&probed(0));
        assert_eq!(
            host.guest.string(),
            "rv64imafdv_zicsr_zifencei_zve64d_zvl128b_zvkt"
        );
        assert_eq!(host.vector_bytes, 16);
        let hosts = [
            described(isa).with(&without_vectors(probed(0))),
            described("rv64g_zve64d").with(&probed(0)),
        ];
        for host in hosts {
            assert_eq!(host.guest.string(), "rv64imafd_zicsr_zifencei");
            assert_eq!(host.vector_bytes, 0);
        }
    }

    #[test]
    fn each_bit_of_the_environment_stands_for_what_the_guest_is_told() {
        for (extension, bits) in [
            ("sstc", 1 << 63),
            ("svpbmt", 1 << 62),
            ("svadu", 1 << 61),
            ("zicbom", 0b101 << 4),
        ] {
            let isa = std::format!("rv64gh_{extension}");
            let told = |environment| {
                let host = described(&isa).with(&probed(environment));
                let is_told = host.guest.extensions.iter().any(|own| own == extension);
                (is_told, host.environment)
            };
            assert_eq!(told(u64::MAX), (true, bits), "{extension}");
            assert_eq!(told(!bits), (false, 0), "{extension}");
        }
        // No block size, no cbo.zero.
        let host = described("rv64gh_zicboz").with(&probed(u64::MAX));
        assert_eq!((host.environment, host.guest.cboz_block_bytes), (0, None));
    }

    #[test]
    fn what_cannot_be_enabled_is_not_promised() {
        let host = described(QEMU).with(&without_vectors(probed(0)));
        assert_eq!(
            host.guest.string(),
            "rv64imafdc_zicsr_zifencei_zihintpause_zba"
        );
        assert_eq!((host.timer, host.environment), (TimerRegister::Absent, 0));
        assert_eq!(host.guest.cbom_block_bytes, None);
    }

    #[test]
    fn what_the_machine_does_not_name_is_not_enabled() {
        let host = described("rv64gch").with(&probed(u64::MAX));
        assert_eq!(host.guest.string(), "rv64imafdc_zicsr_zifencei");
        assert_eq!(host.environment, 0);
    }
}
