// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The machine around the vCPUs: memory map, devices, boot.
//!
//! ```text
//! 0x0010_0000 power   0x1000_0000 console   0x8000_0000 RAM: program ... initrd, command line
//! ```
//!
//! At entry register 0 is the CPU's number, 1 the address of the command line
//! (ended by a zero byte), 2 and 3 the initrd's address and size; 0 if there is
//! none. A CPU that another one starts has its argument in register 1.

use alloc::{format, string::String, sync::Arc, vec, vec::Vec};

use axdevice::{AxVmDevices, GuestMemory, InputListener, IrqLine, IrqSink, Region, shared};
use axvm::{
    ArchVm, AxArchVCpu, AxVMConfig, AxVMHal, ConfigFault, CpuUpStatus, GuestPhysAddr, MachineParts,
    Ram, RamRegion, Result, VCpuControl, VCpuId, VCpuParts,
};

use crate::{
    devices::{ConsolePort, InputIrq, KitchenTimer, PowerPort, Scratch},
    image::{CMDLINE_BYTES_MAX, Image},
    irqchip::{CONSOLE_IRQ, IrqChip, KITCHEN_TIMER_IRQ},
    stage2::{HostFormat, HostPageTable},
    vcpu::{HostVCpu, HostVCpuConfig},
};

/// Where RAM begins.
pub const RAM_START: u64 = 0x8000_0000;
/// Where the console port is: offset 0 data, offset 1 input status.
pub const CONSOLE_MMIO: u64 = 0x1000_0000;
/// Where the power switch is: 0 off, 1 reset, other values fail.
pub const POWER_MMIO: u64 = 0x10_0000;
/// Where the kitchen timer is: after so many nanoseconds it interrupts.
pub const KITCHEN_TIMER_MMIO: u64 = 0x10_1000;
/// The first of eight scratch ports.
pub const SCRATCH_PORT: u16 = 0x80;
/// The first of eight scratch system registers.
pub const SCRATCH_SYS_REG: u64 = 0x100;
/// The most vCPUs a machine has.
pub const VCPUS_MAX: usize = 64;

/// RAM is given out in blocks of this size.
const RAM_UNIT_BYTES: u64 = 2 << 20;
/// The most RAM that fits below the end of stage 2.
const RAM_BYTES_MAX: u64 = (1 << 39) - RAM_START;

/// A machine of the host profile.
pub struct HostVm<H: AxVMHal> {
    hal: H,
    chip: Arc<IrqChip<H>>,
    controls: Vec<Arc<VCpuControl<H>>>,
    /// Lives as long as the console's listener is to be told.
    _input: Arc<dyn InputListener>,
}

impl<H: AxVMHal> ArchVm for HostVm<H> {
    type Hal = H;
    type VCpu = HostVCpu<H>;
    type PageTable = HostPageTable<H>;

    fn check(config: &AxVMConfig) -> core::result::Result<(), ConfigFault> {
        check_cpus(config)?;
        check_memory(config)?;
        if let Some(device) = config.devices.first() {
            let cause = format!("the host profile has no {}", device.kind);
            return Err(fault("device.kind", cause, "leave it out"));
        }
        if config.boot.cmdline.len() >= CMDLINE_BYTES_MAX {
            let cause = format!("{} bytes are too many", config.boot.cmdline.len());
            return Err(fault("boot.cmdline", cause, "use less than 4096"));
        }
        Image::parse(&config.boot.kernel).map(drop)
    }

    fn ram_layout(config: &AxVMConfig) -> Vec<RamRegion> {
        vec![RamRegion {
            start: gpa(RAM_START),
            size_bytes: config.memory_bytes as usize,
        }]
    }

    fn new_page_table(hal: &H) -> Result<HostPageTable<H>> {
        HostPageTable::new(hal, HostFormat)
    }

    fn new(parts: &MachineParts<'_, H>, devices: &mut AxVmDevices) -> Result<Self> {
        let chip = Arc::new(IrqChip::new(parts.controls));
        let sink: Arc<dyn IrqSink> = chip.clone();
        let input: Arc<dyn InputListener> =
            Arc::new(InputIrq(IrqLine::new(sink.clone(), CONSOLE_IRQ)));
        parts.console.listen(Arc::downgrade(&input));
        let console = ConsolePort::new(parts.console);
        let power = PowerPort::new(parts.power);
        let scratch = || shared(Scratch::new());
        devices.add_mmio(
            Region::new(CONSOLE_MMIO, ConsolePort::SIZE)?,
            shared(console),
        )?;
        devices.add_mmio(Region::new(POWER_MMIO, PowerPort::SIZE)?, shared(power))?;
        let timer = KitchenTimer::new(parts.hal.clock(), IrqLine::new(sink, KITCHEN_TIMER_IRQ));
        devices.add_mmio(
            Region::new(KITCHEN_TIMER_MMIO, KitchenTimer::SIZE)?,
            parts.timers.timed(timer),
        )?;
        devices.add_port(Region::new(SCRATCH_PORT.into(), Scratch::SIZE)?, scratch())?;
        devices.add_sys_reg(Region::new(SCRATCH_SYS_REG, Scratch::SIZE)?, scratch())?;
        Ok(Self {
            hal: parts.hal.clone(),
            chip,
            controls: parts.controls.to_vec(),
            _input: input,
        })
    }

    fn new_vcpu(&self, id: VCpuId, parts: &VCpuParts<'_>) -> Result<HostVCpu<H>> {
        let control = self.controls.get(id);
        HostVCpu::new(HostVCpuConfig {
            hal: self.hal.clone(),
            control: control.ok_or(axvm::Error::NoSuchVCpu(id))?.clone(),
            chip: self.chip.clone(),
            devices: parts.devices.clone(),
            levels: parts.levels,
        })
    }

    fn boot(&self, config: &AxVMConfig, ram: &Ram<H>, boot_vcpu: &mut HostVCpu<H>) -> Result<()> {
        let boot = &config.boot;
        let image = Image::parse(&boot.kernel)?;
        let load = boot.load.unwrap_or(RAM_START);
        ram.write(gpa(load), image.payload)?;
        let entry = boot.entry.unwrap_or(load.saturating_add(image.entry));
        let end = RAM_START.saturating_add(config.memory_bytes);
        let cmdline = end.saturating_sub(CMDLINE_BYTES_MAX as u64);
        ram.write(gpa(cmdline), boot.cmdline.as_bytes())?;
        boot_vcpu.set_entry(gpa(entry))?;
        boot_vcpu.set_gpr(0, 0);
        boot_vcpu.set_gpr(1, cmdline);
        if let Some(initrd) = boot.initrd.as_deref() {
            let size = initrd.len() as u64;
            let start = cmdline.saturating_sub(size) & !0xfff;
            ram.write(gpa(start), initrd)?;
            boot_vcpu.set_gpr(2, start);
            boot_vcpu.set_gpr(3, size);
        }
        Ok(())
    }

    fn vcpu_of(&self, cpu: u64) -> Option<VCpuId> {
        usize::try_from(cpu).ok()
    }

    fn start_vcpu(&self, vcpu: &mut HostVCpu<H>, entry: GuestPhysAddr, arg: u64) -> Result<()> {
        vcpu.set_entry(entry)?;
        vcpu.set_gpr(0, vcpu.id() as u64);
        vcpu.set_gpr(1, arg);
        Ok(())
    }

    fn cpu_up_status(status: CpuUpStatus) -> u64 {
        match status {
            CpuUpStatus::Started => 0,
            CpuUpStatus::NoSuchCpu => 1,
            CpuUpStatus::AlreadyOn => 2,
            CpuUpStatus::Pending => 3,
            CpuUpStatus::BadEntry => 4,
        }
    }

    fn inject_irq(&self, vcpu: VCpuId, vector: u64) {
        self.chip.inject(vcpu, vector);
    }
}

fn check_cpus(config: &AxVMConfig) -> core::result::Result<(), ConfigFault> {
    let cpus = config.vcpus.len();
    if (1..=VCPUS_MAX).contains(&cpus) {
        return Ok(());
    }
    Err(fault(
        "vm.cpus",
        format!("{cpus} are not possible"),
        "use 1 to 64",
    ))
}

fn check_memory(config: &AxVMConfig) -> core::result::Result<(), ConfigFault> {
    let bytes = config.memory_bytes;
    if bytes != 0 && bytes.is_multiple_of(RAM_UNIT_BYTES) && bytes <= RAM_BYTES_MAX {
        return Ok(());
    }
    let cause = format!("{bytes:#x} bytes are not possible");
    Err(fault(
        "vm.memory",
        cause,
        "use a multiple of 2 MiB below 510 GiB",
    ))
}

fn fault(key: &'static str, cause: String, remedy: &str) -> ConfigFault {
    ConfigFault {
        key,
        cause,
        remedy: remedy.into(),
    }
}

fn gpa(address: u64) -> GuestPhysAddr {
    GuestPhysAddr::from_usize(address as usize)
}
