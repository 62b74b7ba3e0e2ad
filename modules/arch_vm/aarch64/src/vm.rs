// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The machine: QEMU's `virt` for Arm.
//!
//! Built by axvm for each VM. Addresses and interrupt numbers are QEMU's, and so
//! is what a guest finds: the boot CPU at EL1 with the device tree in x0, the
//! others off until PSCI starts them. The interrupt controller is of the
//! physical machine's version, unless the VM's file asks for GICv2.
//!
//! Spec: QEMU, "'virt' generic virtual platform (virt)"; Linux, "Booting AArch64
//! Linux".

use alloc::{format, string::ToString, sync::Arc, vec, vec::Vec};

use axdevice::{
    AxVmDevices, IrqLine, Pl011, Pl031, Region,
    virtio::{SLOT_BYTES, add_empty_slots},
};
use axvm::{
    ArchVm, AxArchVCpu, AxVMConfig, AxVMHal, ConfigFault, CpuUpStatus, Error, GuestPhysAddr,
    MachineParts, Ram, RamRegion, Result, VCpuId, VCpuParts,
    boot::{
        self, BootRules, FdtPosition, GuestRange, Handover, LinuxFormat, LinuxKind, Placement,
        fdt::Chosen,
    },
    stage2::TableFormat,
    vmid::VmTlb,
};
use tock_registers::interfaces::Readable;

use crate::{
    fdt::{self, Tree},
    handle::cpu_on_status,
    irqchip::{Gic, VCPUS_MAX, VCPUS_MAX_V2, Version, vcpu_of_affinity},
    machine::Machine,
    mitigations::Mitigations,
    percpu::has_gic_registers,
    regs::{CNTPCT_EL0, ID_AA64MMFR0_EL1, MMFR0},
    stage2::{Format, Stage2},
    stolen,
    sysreg::{IdRegisters, PARANGE_MAX},
    trng::Random,
    vcpu::{Aarch64VCpu, CreateConfig},
};

/// The serial port.
pub(crate) const UART: GuestRange = GuestRange::new(0x0900_0000, 0x1000);
pub(crate) const UART_SPI: u32 = 1;
/// The clock.
pub(crate) const RTC: GuestRange = GuestRange::new(0x0901_0000, 0x1000);
pub(crate) const RTC_SPI: u32 = 2;
/// The slots for virtio devices, one behind the other.
pub(crate) const SLOTS: usize = 32;
const SLOTS_START: u64 = 0x0a00_0000;
pub(crate) const SLOTS_SPI: u32 = 16;
/// The first shared interrupt.
const SPI_FIRST: u32 = 32;
const RAM_START: u64 = 0x4000_0000;

/// Returns the registers of each virtio slot.
pub(crate) fn slots() -> impl Iterator<Item = GuestRange> {
    let starts = (SLOTS_START..).step_by(SLOT_BYTES as usize);
    starts
        .take(SLOTS)
        .map(|start| GuestRange::new(start, SLOT_BYTES))
}

/// What stage 2 holds behind the start of RAM, in axvm's address space.
const SPACE_BITS: u32 = 39;
const ELF_MACHINE_AARCH64: u16 = 183;
/// Where QEMU puts images that say nothing else.
const FLAT_OFFSET: u64 = 0x8_0000;

/// One VM's machine.
pub struct Aarch64Vm<H: AxVMHal> {
    machine: Arc<Machine<H>>,
}

fn layout(config: &AxVMConfig) -> Vec<RamRegion> {
    vec![RamRegion {
        start: GuestPhysAddr::from_usize(RAM_START as usize),
        size_bytes: config.memory_bytes as usize,
    }]
}

fn pa_range() -> u64 {
    // 52 bits need larger granules; 48 are enough.
    ID_AA64MMFR0_EL1.read(MMFR0::PARANGE).min(PARANGE_MAX)
}

impl<H: AxVMHal> ArchVm for Aarch64Vm<H> {
    type Hal = H;
    type VCpu = Aarch64VCpu<H>;
    type PageTable = Stage2<H>;

    fn check(config: &AxVMConfig) -> core::result::Result<(), ConfigFault> {
        let gic = gic_version(config.intc.as_deref())?;
        check_cpus(config.vcpus.len(), gic)?;
        check_memory(config.memory_bytes)?;
        check_devices(config)?;
        boot::check(&config.boot, &rules(&layout(config)))
    }

    fn ram_layout(config: &AxVMConfig) -> Vec<RamRegion> {
        layout(config)
    }

    fn record_page() -> Option<GuestPhysAddr> {
        Some(stolen::page())
    }

    fn new_page_table(hal: &H) -> Result<Stage2<H>> {
        Stage2::new(hal, Format::for_pa_range(pa_range()))
    }

    fn new(parts: &MachineParts<'_, H>, devices: &mut AxVmDevices) -> Result<Self> {
        let version = gic_version(parts.config.intc.as_deref())?;
        let gic = Arc::new(Gic::new(
            parts.hal,
            version,
            parts.ram.clone(),
            parts.controls,
        ));
        add_devices(parts, &gic, devices)?;
        let stolen_time = parts.records.ok_or(Error::Unsupported("no record page"))?;
        let ids = IdRegisters::read().for_guest(version);
        let machine = Arc::new(Machine {
            hal: parts.hal.clone(),
            ram: parts.ram.clone(),
            gic,
            controls: parts.controls.to_vec(),
            random: Random::new(parts.hal, ids.has_rndr()),
            mitigations: Mitigations::read(),
            stolen_time: stolen_time.clone(),
            ids,
            tlb: VmTlb::new(),
            format: Format::for_pa_range(pa_range()),
            pa_range: pa_range(),
            counter_offset: CNTPCT_EL0.get(),
        });
        Ok(Self { machine })
    }

    fn new_vcpu(&self, id: VCpuId, parts: &VCpuParts<'_>) -> Result<Aarch64VCpu<H>> {
        Aarch64VCpu::new(CreateConfig {
            machine: self.machine.clone(),
            devices: parts.devices.clone(),
            id,
        })
    }

    fn boot(
        &self,
        config: &AxVMConfig,
        ram: &Ram<H>,
        boot_vcpu: &mut Aarch64VCpu<H>,
    ) -> Result<()> {
        let ram_layout = layout(config);
        let image = boot::recognise(&config.boot.kernel)?;
        let placement = boot::place(&image, &config.boot, &rules(&ram_layout))?;
        boot::load(&placement, ram)?;
        let blob = self.device_tree(config, &ram_layout, &placement)?;
        boot::load_fdt(&placement, &blob, ram)?;
        let tree = placement.fdt.map_or(0, |room| room.first());
        boot_vcpu.start_at(placement.entry, tree);
        Ok(())
    }

    fn vcpu_of(&self, cpu: u64) -> Option<VCpuId> {
        vcpu_of_affinity(cpu).filter(|&id| id < self.machine.controls.len())
    }

    fn start_vcpu(&self, vcpu: &mut Aarch64VCpu<H>, entry: GuestPhysAddr, arg: u64) -> Result<()> {
        vcpu.start_at(entry, arg);
        Ok(())
    }

    fn cpu_up_status(status: CpuUpStatus) -> u64 {
        cpu_on_status(status)
    }

    fn inject_irq(&self, vcpu: VCpuId, vector: u64) {
        if let Ok(intid) = u32::try_from(vector) {
            self.machine.gic.change(|state| state.pend(vcpu, intid));
        }
    }
}

impl<H: AxVMHal> Aarch64Vm<H> {
    fn device_tree(
        &self,
        config: &AxVMConfig,
        ram: &[RamRegion],
        placement: &Placement<'_>,
    ) -> Result<Vec<u8>> {
        let hal = &self.machine.hal;
        let chosen = Chosen {
            stdout_path: Some(fdt::CONSOLE_PATH),
            kaslr_seed: boot::fdt::random(hal).map(u64::from_ne_bytes),
            ..Chosen::new(&config.boot.cmdline, placement, hal)
        };
        let blob = match &config.boot.dtb {
            Some(dtb) => boot::fdt::given(dtb, &chosen)?,
            None => fdt::write(&Tree {
                vcpus: self.machine.controls.len(),
                gic: self.machine.gic.version(),
                ram,
                chosen,
            })?,
        };
        Ok(blob)
    }
}

fn rules(ram: &[RamRegion]) -> BootRules<'_> {
    BootRules {
        ram,
        reserved: &[],
        elf_machines: &[ELF_MACHINE_AARCH64],
        linux: Some(LinuxFormat::Image(LinuxKind::Arm64)),
        flat_offset: Some(FLAT_OFFSET),
        handover: Handover::Fdt {
            room_bytes: boot::fdt::USUAL_ROOM_BYTES,
            elf: FdtPosition::RamStart,
        },
    }
}

fn add_devices<H: AxVMHal>(
    parts: &MachineParts<'_, H>,
    gic: &Arc<Gic<H>>,
    devices: &mut AxVmDevices,
) -> Result<()> {
    let line = |spi: u32| IrqLine::new(gic.clone(), SPI_FIRST.saturating_add(spi));
    let region = |range: GuestRange| Region::new(range.first(), range.size_bytes);
    let uart = Pl011::new(parts.console.clone(), line(UART_SPI));
    devices.add_mmio(region(UART)?, uart)?;
    let rtc = parts
        .timers
        .timed(Pl031::new(parts.hal.clock(), line(RTC_SPI)));
    devices.add_mmio(region(RTC)?, rtc)?;
    add_empty_slots(devices, slots().map(|slot| slot.first()))?;
    Ok(())
}

fn fault(key: &'static str, cause: impl ToString, remedy: impl ToString) -> ConfigFault {
    ConfigFault {
        key,
        cause: cause.to_string(),
        remedy: remedy.to_string(),
    }
}

/// Returns which interrupt controller a VM gets.
fn gic_version(name: Option<&str>) -> core::result::Result<Version, ConfigFault> {
    match (name, has_gic_registers()) {
        (None, false) | (Some("gicv2"), _) => Ok(Version::V2),
        (None | Some("gicv3"), true) => Ok(Version::V3),
        (Some("gicv3"), false) => Err(fault(
            "vm.intc",
            "this machine has no GICv3",
            "use \"gicv2\", or leave the key out",
        )),
        (Some(other), _) => Err(fault(
            "vm.intc",
            format!("there is no interrupt controller `{other}`"),
            "use \"gicv2\" or \"gicv3\"",
        )),
    }
}

fn check_cpus(count: usize, gic: Version) -> core::result::Result<(), ConfigFault> {
    let max = match gic {
        Version::V2 => VCPUS_MAX_V2,
        Version::V3 => VCPUS_MAX,
    };
    if (1..=max).contains(&count) {
        return Ok(());
    }
    Err(fault(
        "vm.cpus",
        format!("an aarch64 machine with this interrupt controller cannot have {count} CPUs"),
        format!("use 1 to {max}"),
    ))
}

fn check_memory(bytes: u64) -> core::result::Result<(), ConfigFault> {
    let guest = Format::for_pa_range(pa_range()).address_bits() as u32;
    let bits = 1_u64.wrapping_shl(guest.min(SPACE_BITS));
    let max = bits.saturating_sub(RAM_START);
    if (1..=max).contains(&bytes) {
        return Ok(());
    }
    Err(fault(
        "vm.memory",
        format!("an aarch64 machine cannot have {bytes:#x} bytes of RAM"),
        format!("use at most {} MiB", max >> 20),
    ))
}

fn check_devices(config: &AxVMConfig) -> core::result::Result<(), ConfigFault> {
    match config.devices.first() {
        None => Ok(()),
        Some(device) => Err(fault(
            "device.kind",
            format!("an aarch64 machine has no slot for `{}`", device.kind),
            "remove the device",
        )),
    }
}
