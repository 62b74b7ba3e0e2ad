// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The machine: a small PC, as QEMU's q35 shows it to a guest.
//!
//! Built by axvm for each VM. The boot CPU starts as the kernel's boot protocol
//! says, the others wait for INIT and SIPI.
//!
//! Spec: QEMU, hw/i386/pc_q35; Multiboot; Linux, x86/boot.rst; PVH.

use alloc::{format, string::ToString, sync::Arc, vec::Vec};

use axdevice::{
    AxVmDevices, ByteLanes, GuestMemory, Hpet, IrqLine, LegacyWires, Lock, Pit, Region,
    SystemControl, shared,
};
use axvm::{
    ArchVm, AxArchVCpu, AxVMConfig, AxVMHal, ConfigFault, CpuUpStatus, Error, GuestPhysAddr,
    MachineParts, Ram, RamRegion, Result, VCpuId, VCpuParts, boot, stage2::Stage2, vmid::VmTlb,
};

use crate::{
    backend::Maps,
    chosen::{CreateConfig, X86VCpu},
    cpuid::{Cpuid, Rates},
    fabric::{Fabric, IoApicPage, PairPorts},
    interrupts::Interrupts,
    irqchip::{ioapic, lapic},
    machine::Machine,
    nested::Nested,
    pc::{self, acpi, boot::Firmware, cmos::Inventory, layout, ports},
    percpu,
    timer::GuestTime,
};

/// As many as an xAPIC's identifiers and the tables provide for.
const CPUS_MAX: usize = 8;
const PIT: (u64, u64) = (0x40, 4);
const PIT_GATE: (u64, u64) = (0x61, 1);
/// The chips of the 8259 pair, and its edge/level registers.
const MASTER: (u64, u64) = (0x20, 2);
const SLAVE: (u64, u64) = (0xa0, 2);
const TRIGGER: (u64, u64) = (0x4d0, 2);

/// One VM's machine.
pub struct X86Vm<H: AxVMHal> {
    machine: Arc<Machine<H>>,
    /// The local APICs, until their vCPUs are made.
    interrupts: Lock<Vec<Option<Interrupts<H>>>>,
}

impl<H: AxVMHal> ArchVm for X86Vm<H> {
    type Hal = H;
    type VCpu = X86VCpu<H>;
    type PageTable = Stage2<H, Nested>;

    fn check(config: &AxVMConfig) -> core::result::Result<(), ConfigFault> {
        check_cpus(config.vcpus.len())?;
        check_memory(config.memory_bytes)?;
        check_interrupt_controller(config.intc.as_deref())?;
        check_devices(config)?;
        let ram = layout::ram(config.memory_bytes);
        boot::check(&config.boot, &pc::boot::rules(&ram))
    }

    fn ram_layout(config: &AxVMConfig) -> Vec<RamRegion> {
        layout::ram(config.memory_bytes)
    }

    fn new_page_table(hal: &H) -> Result<Self::PageTable> {
        Stage2::new(hal, percpu::features()?.nested_format())
    }

    fn new(parts: &MachineParts<'_, H>, devices: &mut AxVmDevices) -> Result<Self> {
        let time = GuestTime::start(parts.hal);
        let rates = Rates {
            tsc_hz: time.tsc_hz,
            apic_hz: lapic::TIMER_HZ,
        };
        let interrupts = (0..parts.controls.len())
            .map(|id| Interrupts::new(parts.hal, id))
            .collect::<Result<Vec<_>>>()?;
        let inboxes: Vec<_> = interrupts
            .iter()
            .map(|vcpu| vcpu.apic.inbox().clone())
            .collect();
        let fabric = Arc::new(Fabric::new(&inboxes, parts.controls));
        let machine = Arc::new(Machine {
            hal: parts.hal.clone(),
            ram: parts.ram.clone(),
            controls: parts.controls.to_vec(),
            cpuid: Cpuid::new(parts.controls.len(), rates),
            tlb: VmTlb::new(),
            time,
            maps: Maps::new(parts.hal, percpu::features()?, parts.root)?,
            fabric: fabric.clone(),
            power: parts.power.clone(),
        });
        add_devices(parts, &fabric, devices)?;
        let interrupts = interrupts.into_iter().map(Some).collect();
        Ok(Self {
            machine,
            interrupts: Lock::new(interrupts),
        })
    }

    fn new_vcpu(&self, id: VCpuId, parts: &VCpuParts<'_>) -> Result<X86VCpu<H>> {
        let interrupts = self.interrupts.lock().get_mut(id).and_then(Option::take);
        X86VCpu::new(CreateConfig {
            machine: self.machine.clone(),
            devices: parts.devices.clone(),
            id,
            interrupts: interrupts.ok_or(Error::NoSuchVCpu(id))?,
        })
    }

    fn boot(&self, config: &AxVMConfig, ram: &Ram<H>, boot_vcpu: &mut X86VCpu<H>) -> Result<()> {
        let regions = layout::ram(config.memory_bytes);
        let image = boot::recognise(&config.boot.kernel)?;
        let placement = boot::place(&image, &config.boot, &pc::boot::rules(&regions))?;
        boot::load(&placement, ram)?;
        let cpus = self.machine.controls.len() as u8;
        let hpet = Some(Hpet::capabilities() as u32);
        let tables = acpi::tables(&acpi::Machine { cpus, hpet });
        let firmware = Firmware {
            rsdp: tables.rsdp,
            seed: boot::fdt::random(&self.machine.hal),
        };
        let ready = pc::boot::hand_over(&placement, &config.boot, &regions, &firmware)?;
        for chunk in [tables.chunk, pc::mp_table(cpus), pc::reset::vector()]
            .iter()
            .chain(&ready.chunks)
        {
            ram.write(chunk.start, &chunk.bytes)?;
        }
        boot_vcpu.start_at(&ready.state);
        Ok(())
    }

    fn vcpu_of(&self, cpu: u64) -> Option<VCpuId> {
        let id = usize::try_from(cpu).ok()?;
        (id < self.machine.controls.len()).then_some(id)
    }

    fn start_vcpu(&self, _: &mut X86VCpu<H>, _: GuestPhysAddr, _: u64) -> Result<()> {
        Ok(())
    }

    fn cpu_up_status(_: CpuUpStatus) -> u64 {
        0
    }

    fn inject_irq(&self, vcpu: VCpuId, vector: u64) {
        self.machine.fabric.inject(vcpu, vector as u8);
    }
}

fn add_devices<H: AxVMHal>(
    parts: &MachineParts<'_, H>,
    fabric: &Arc<Fabric<H>>,
    devices: &mut AxVmDevices,
) -> Result<()> {
    let clock = parts.hal.clock();
    let (low_bytes, high_bytes) = layout::split(&layout::ram(parts.config.memory_bytes));
    let wire = |irq: u8| IrqLine::new(fabric.clone(), irq.into());
    // The HPET can take these two wires from their devices.
    let (legacy, timer_line, rtc_line) =
        LegacyWires::new(wire(ports::irq::TIMER), wire(ports::irq::RTC));
    let line = |irq: u8| match irq {
        ports::irq::RTC => rtc_line.clone(),
        irq => wire(irq),
    };
    let around = pc::devices::Parts {
        clock: &clock,
        power: parts.power,
        console: parts.console,
        inventory: Inventory {
            low_bytes,
            high_bytes,
            cpus: parts.controls.len(),
        },
        line: &line,
        timers: parts.timers,
    };
    pc::devices::add(&around, devices)?;
    let hpet = Hpet::new(clock.clone(), fabric.clone(), legacy);
    devices.add_mmio(
        Region::new(layout::HPET.into(), Hpet::REGION_BYTES)?,
        parts.timers.timed(hpet),
    )?;
    let pit = parts.timers.timed(Pit::new(clock.clone(), timer_line));
    let gate = shared(SystemControl::new(clock, pit.clone()));
    let mut add = |(start, size), device| devices.add_port(Region::new(start, size)?, device);
    add(PIT, shared(ByteLanes::new(pit)))?;
    add(PIT_GATE, shared(ByteLanes::new(gate)))?;
    for (at, pair) in [
        (MASTER, PairPorts::<H>::MASTER),
        (SLAVE, PairPorts::<H>::SLAVE),
        (TRIGGER, PairPorts::<H>::TRIGGER),
    ] {
        let chip = shared(PairPorts::new(fabric.clone(), pair));
        add(at, shared(ByteLanes::new(chip)))?;
    }
    let io_apic = shared(IoApicPage(fabric.clone()));
    devices.add_mmio(Region::new(ioapic::PAGE, ioapic::PAGE_BYTES)?, io_apic)?;
    Ok(())
}

fn fault(key: &'static str, cause: impl ToString, remedy: impl ToString) -> ConfigFault {
    ConfigFault {
        key,
        cause: cause.to_string(),
        remedy: remedy.to_string(),
    }
}

fn check_cpus(count: usize) -> core::result::Result<(), ConfigFault> {
    match count {
        1..=CPUS_MAX => Ok(()),
        _ => Err(fault(
            "vm.cpus",
            format!("an x86_64 machine cannot have {count} CPUs"),
            format!("use 1 to {CPUS_MAX}"),
        )),
    }
}

fn check_memory(bytes: u64) -> core::result::Result<(), ConfigFault> {
    match bytes {
        1..=layout::RAM_BYTES_MAX => Ok(()),
        _ => Err(fault(
            "vm.memory",
            format!("an x86_64 machine cannot have {bytes:#x} bytes of RAM"),
            format!("use at most {} MiB", layout::RAM_BYTES_MAX >> 20),
        )),
    }
}

fn check_interrupt_controller(name: Option<&str>) -> core::result::Result<(), ConfigFault> {
    match name {
        None | Some("apic") => Ok(()),
        Some(other) => Err(fault(
            "vm.intc",
            format!("there is no interrupt controller `{other}`"),
            "use \"apic\", or leave the key out",
        )),
    }
}

fn check_devices(config: &AxVMConfig) -> core::result::Result<(), ConfigFault> {
    match config.devices.first() {
        None => Ok(()),
        Some(device) => Err(fault(
            "device.kind",
            format!("an x86_64 machine has no slot for `{}`", device.kind),
            "remove the device",
        )),
    }
}
