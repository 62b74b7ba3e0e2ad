// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The machine: QEMU's `virt` for RISC-V.
//!
//! Built by axvm for each VM. Addresses and interrupt numbers are QEMU's, and so
//! is what a guest finds: the boot hart in supervisor mode with its id in a0 and
//! the device tree in a1, the others off until an SBI call starts them.
//!
//! Spec: QEMU, "'virt' Generic Virtual Platform (RISC-V)".

use alloc::{format, string::ToString, sync::Arc, vec, vec::Vec};

use axdevice::{
    AxVmDevices, GoldfishRtc, IrqLine, Region, SifiveTest, Uart16550, shared,
    virtio::{SLOT_BYTES, add_empty_slots},
};
use axvm::{
    ArchVm, AxArchVCpu, AxVMConfig, AxVMHal, ConfigFault, CpuUpStatus, Error, GuestPhysAddr,
    MachineParts, Ram, RamRegion, Result, VCpuId, VCpuParts,
    boot::{
        self, BootRules, FdtPosition, GuestRange, Handover, LinuxFormat, LinuxKind, Placement,
        fdt::Chosen,
    },
    stage2::LivePages,
};
use tock_registers::interfaces::Readable;

use crate::{
    fdt::{self, Tree},
    frame::{A0, A1},
    harts::{CONTEXTS_PER_HART, Harts, PlicPort},
    host::{self, Host},
    interrupts::{Port, Registers},
    irqchip::{Intc, aia},
    regs::TIME,
    sbi::{HartSet, start_error},
    stage2::{Mode, Stage2},
    timer::GuestTime,
    vcpu::{CreateConfig, RiscvVCpu, SOFTWARE_INTERRUPT},
};

/// A device's registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) start: u64,
    /// What the device tree says.
    size: u64,
    /// What answers.
    answered: u64,
}

impl Window {
    const fn new(start: u64, size: u64) -> Self {
        Self {
            start,
            size,
            answered: size,
        }
    }

    /// Returns the range as the device tree has it.
    pub(crate) fn in_tree(self) -> GuestRange {
        GuestRange::new(self.start, self.size)
    }

    /// Returns the offset of an address in it.
    pub(crate) fn offset_of(self, address: u64) -> Option<u64> {
        address
            .checked_sub(self.start)
            .filter(|offset| *offset < self.answered)
    }

    fn region(self) -> Result<Region> {
        Ok(Region::new(self.start, self.answered)?)
    }
}

/// Switches the machine off.
pub(crate) const FINISHER: Window = Window::new(0x10_0000, 0x1000);
/// The clock; a page in the tree, of which some registers exist.
pub(crate) const RTC: Window = Window {
    start: 0x10_1000,
    size: 0x1000,
    answered: 0x24,
};
pub(crate) const RTC_IRQ: u32 = 11;
/// The interrupt controller.
pub(crate) const PLIC: Window = Window::new(0x0c00_0000, 0x60_0000);
/// The interrupt controller in its place, if it is an APLIC.
pub(crate) const APLIC: Window = Window::new(aia::APLIC_START, aia::APLIC_BYTES);
/// The serial port.
pub(crate) const UART: Window = Window::new(0x1000_0000, 0x100);
pub(crate) const UART_IRQ: u32 = 10;
pub(crate) const RAM_START: u64 = 0x8000_0000;
/// The slots for virtio devices, a page each in the tree; and the first's interrupt.
pub(crate) const SLOTS: u64 = 8;
pub(crate) const SLOTS_IRQ: u32 = 1;
const SLOTS_START: u64 = 0x1000_1000;
const SLOT_PAGE: u64 = 0x1000;

/// As many harts as the interrupt controller's contexts are wired to.
const HARTS_MAX: usize = 8;
const _: () = assert!(HARTS_MAX * CONTEXTS_PER_HART <= 64);
/// What stage 2 holds behind the start of RAM, in axvm's address space.
const RAM_BYTES_MAX: u64 = (1 << 39) - RAM_START;
const ELF_MACHINE_RISCV: u16 = 243;
/// Where OpenSBI expects its payload, and leaves room for itself before it.
const FLAT_OFFSET: u64 = 0x20_0000;

/// One VM's machine.
pub struct RiscvVm<H: AxVMHal> {
    harts: Arc<Harts<H>>,
    host: &'static Host,
}

/// Returns the registers of each virtio slot.
pub(crate) fn slots() -> impl Iterator<Item = Window> {
    (0..SLOTS).map(|slot| Window {
        start: SLOTS_START.saturating_add(slot.saturating_mul(SLOT_PAGE)),
        size: SLOT_PAGE,
        answered: SLOT_BYTES,
    })
}

/// Returns where the interrupt files of so many harts take messages.
pub(crate) fn imsic_window(harts: usize) -> Window {
    Window::new(aia::IMSIC_START, aia::imsic_bytes(harts))
}

fn layout(config: &AxVMConfig) -> Vec<RamRegion> {
    vec![RamRegion {
        start: GuestPhysAddr::from_usize(RAM_START as usize),
        size_bytes: config.memory_bytes as usize,
    }]
}

impl<H: AxVMHal> ArchVm for RiscvVm<H> {
    type Hal = H;
    type VCpu = RiscvVCpu<H>;
    type PageTable = Stage2<H>;

    fn check(config: &AxVMConfig) -> core::result::Result<(), ConfigFault> {
        check_harts(config.vcpus.len())?;
        check_memory(config.memory_bytes)?;
        interrupt_controller(config)?;
        check_devices(config)?;
        boot::check(&config.boot, &rules(&layout(config)))
    }

    fn ram_layout(config: &AxVMConfig) -> Vec<RamRegion> {
        layout(config)
    }

    fn new_page_table(hal: &H) -> Result<Stage2<H>> {
        Stage2::new(hal, host::host()?.stage2)
    }

    fn new(parts: &MachineParts<'_, H>, devices: &mut AxVmDevices) -> Result<Self> {
        let host = host::host()?;
        let time = GuestTime::starting_at(TIME.get(), host.timebase_hz);
        let intc = interrupt_controller(parts.config)?;
        let live = open_files(parts, host, intc)?;
        let harts = Harts::new(parts.hal, parts.controls, parts.ram, time, (intc, live));
        let harts = Arc::new(harts);
        add_devices(parts, &harts, devices)?;
        Ok(Self { harts, host })
    }

    fn new_vcpu(&self, id: VCpuId, parts: &VCpuParts<'_>) -> Result<RiscvVCpu<H>> {
        let mode = Mode::from_levels(parts.levels).ok_or(Error::Unsupported("no such stage 2"))?;
        RiscvVCpu::new(CreateConfig {
            harts: self.harts.clone(),
            devices: parts.devices.clone(),
            host: self.host,
            id,
            mode,
        })
    }

    fn boot(&self, config: &AxVMConfig, ram: &Ram<H>, boot_vcpu: &mut RiscvVCpu<H>) -> Result<()> {
        let ram_layout = layout(config);
        let image = boot::recognise(&config.boot.kernel)?;
        let placement = boot::place(&image, &config.boot, &rules(&ram_layout))?;
        boot::load(&placement, ram)?;
        let blob = self.device_tree(config, &ram_layout, &placement)?;
        boot::load_fdt(&placement, &blob, ram)?;
        boot_vcpu.set_entry(placement.entry)?;
        boot_vcpu.set_gpr(A0, 0);
        let tree = placement.fdt.map_or(0, |room| room.first());
        boot_vcpu.set_gpr(A1, tree);
        Ok(())
    }

    fn vcpu_of(&self, cpu: u64) -> Option<VCpuId> {
        let id = usize::try_from(cpu).ok()?;
        (id < self.harts.count()).then_some(id)
    }

    fn start_vcpu(&self, vcpu: &mut RiscvVCpu<H>, entry: GuestPhysAddr, arg: u64) -> Result<()> {
        vcpu.start_at(entry, arg);
        Ok(())
    }

    fn cpu_up_status(status: CpuUpStatus) -> u64 {
        start_error(status)
    }

    fn inject_irq(&self, vcpu: VCpuId, vector: u64) {
        if vector == SOFTWARE_INTERRUPT {
            self.harts.send_ipi(HartSet::only(vcpu));
        }
    }
}

impl<H: AxVMHal> RiscvVm<H> {
    fn device_tree(
        &self,
        config: &AxVMConfig,
        ram: &[RamRegion],
        placement: &Placement<'_>,
    ) -> Result<Vec<u8>> {
        let chosen = Chosen {
            stdout_path: Some(fdt::CONSOLE_PATH),
            ..Chosen::new(&config.boot.cmdline, placement, &self.harts.hal)
        };
        let blob = match &config.boot.dtb {
            Some(dtb) => boot::fdt::given(dtb, &chosen)?,
            None => fdt::write(&Tree {
                harts: self.harts.count() as u32,
                intc: self.harts.intc,
                ram,
                isa: &self.host.guest,
                timebase_hz: self.host.timebase_hz,
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
        elf_machines: &[ELF_MACHINE_RISCV],
        linux: Some(LinuxFormat::Image(LinuxKind::Riscv)),
        flat_offset: Some(FLAT_OFFSET),
        handover: Handover::Fdt {
            room_bytes: boot::fdt::USUAL_ROOM_BYTES,
            elf: FdtPosition::High,
        },
    }
}

/// Opens the interrupt files' pages in stage 2, if the hardware has files for them.
fn open_files<H: AxVMHal>(
    parts: &MachineParts<'_, H>,
    host: &Host,
    intc: Intc,
) -> Result<Option<LivePages<H, Mode>>> {
    if intc != Intc::Aia || host.files.is_none() {
        return Ok(None);
    }
    let start = GuestPhysAddr::from_usize(aia::IMSIC_START as usize);
    let pages = (start, parts.controls.len());
    // SAFETY: 1. the root is of `new_page_table`, which takes the same format; 2. a
    // vCPU changes the pages only while it runs, as long as its machine lasts;
    // 3. the machine has RAM elsewhere, and nothing else is mapped.
    unsafe { LivePages::open(parts.hal, host.stage2, parts.root, pages) }.map(Some)
}

fn add_devices<H: AxVMHal>(
    parts: &MachineParts<'_, H>,
    harts: &Arc<Harts<H>>,
    devices: &mut AxVmDevices,
) -> Result<()> {
    let line = |irq| IrqLine::new(harts.clone(), irq);
    let uart = Uart16550::new(parts.console.clone(), line(UART_IRQ));
    devices.add_mmio(UART.region()?, uart)?;
    let finisher = shared(SifiveTest::new(parts.power.clone()));
    devices.add_mmio(FINISHER.region()?, finisher)?;
    let rtc = parts
        .timers
        .timed(GoldfishRtc::new(parts.hal.clock(), line(RTC_IRQ)));
    devices.add_mmio(RTC.region()?, rtc)?;
    add_empty_slots(devices, slots().map(|slot| slot.start))?;
    add_interrupt_controllers(harts, devices)?;
    Ok(())
}

fn add_interrupt_controllers<H: AxVMHal>(
    harts: &Arc<Harts<H>>,
    devices: &mut AxVmDevices,
) -> Result<()> {
    let port = |registers| {
        let harts = harts.clone();
        shared(Port { harts, registers })
    };
    if harts.intc == Intc::Plic {
        return Ok(devices.add_mmio(PLIC.region()?, shared(PlicPort(harts.clone())))?);
    }
    devices.add_mmio(APLIC.region()?, port(Registers::Aplic))?;
    if harts.intc == Intc::Aia {
        let files = imsic_window(harts.count());
        devices.add_mmio(files.region()?, port(Registers::Files))?;
    }
    Ok(())
}

fn fault(key: &'static str, cause: impl ToString, remedy: impl ToString) -> ConfigFault {
    ConfigFault {
        key,
        cause: cause.to_string(),
        remedy: remedy.to_string(),
    }
}

fn check_harts(count: usize) -> core::result::Result<(), ConfigFault> {
    match count {
        1..=HARTS_MAX => Ok(()),
        _ => Err(fault(
            "vm.cpus",
            format!("a riscv64 machine cannot have {count} CPUs"),
            format!("use 1 to {HARTS_MAX}"),
        )),
    }
}

fn check_memory(bytes: u64) -> core::result::Result<(), ConfigFault> {
    match bytes {
        1..=RAM_BYTES_MAX => Ok(()),
        _ => Err(fault(
            "vm.memory",
            format!("a riscv64 machine cannot have {bytes:#x} bytes of RAM"),
            format!("use at most {} MiB", RAM_BYTES_MAX >> 20),
        )),
    }
}

fn interrupt_controller(config: &AxVMConfig) -> core::result::Result<Intc, ConfigFault> {
    let name = config.intc.as_deref();
    Intc::named(name).ok_or_else(|| {
        let name = name.unwrap_or_default();
        fault(
            "vm.intc",
            format!("a riscv64 machine has no interrupt controller `{name}`"),
            "use \"plic\", \"aplic\" or \"aia\"",
        )
    })
}

fn check_devices(config: &AxVMConfig) -> core::result::Result<(), ConfigFault> {
    match config.devices.first() {
        None => Ok(()),
        Some(device) => Err(fault(
            "device.kind",
            format!("a riscv64 machine has no slot for `{}`", device.kind),
            "remove the device",
        )),
    }
}
