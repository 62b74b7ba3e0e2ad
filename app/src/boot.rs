// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The boot sequence.
//!
//! ArceOS calls `main` on CPU 0 with interrupts open and the other CPUs idle.
//! The hypervisor's own options come with the machine's command line:
//! `onidle=poweroff` ends the machine when no VM runs any more, with success
//! only if none failed; `log=LEVEL` is the platform's, `stage2=FORMAT` riscv64's.

use alloc::{format, string::String, sync::Arc, vec::Vec};

// ArceOS's runtime: it boots before `main` and has the panic handler.
use axstd as _;

use ::bundle::{Bundle, VmEntry};
use axvm::{AxArchPerCpu, ImageBytes, PCpuSet};
use kspin::SpinNoPreempt;
use platform::ExitStatus;

use crate::{
    arch,
    config::{self, Report, Rules, VmFile},
    host::{self, Host},
    hypervisor::{HostScreen, Hypervisor, Vm, say, vm_screen},
    shell::Shell,
    vmm::Vmm,
};

/// The VMs that run when the boot loader hands none over.
static DEFAULT_BUNDLE: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/default.bundle")));

/// How long the console rests when nobody types.
const POLL_MS: u64 = 10;

/// Bytes on a page of their own, so that images in them are aligned as well.
#[repr(C, align(4096))]
struct Aligned<T: ?Sized>(T);

/// Keeps each CPU's virtualization on.
static PER_CPU: SpinNoPreempt<Vec<arch::PerCpu>> = SpinNoPreempt::new(Vec::new());

#[expect(unsafe_code, reason = "ArceOS calls the application by this name")]
#[unsafe(no_mangle)]
extern "C" fn main() {
    host::init_memory();
    host::init_interrupts();
    greet();
    if let Err(error) = arch::PerCpu::describe_machine(host::device_tree()) {
        say(format_args!("the machine's description: {error}"));
    }
    host::on_each_cpu(set_up_cpu);
    let vmm = Vmm::<Vm>::new(Host, Arc::new(HostScreen));
    let all_accepted = add_vms(&vmm);
    let hypervisor = Hypervisor {
        vmm: vmm.clone(),
        guest_bytes: host::free_bytes() as u64,
    };
    vmm.autostart();
    if platform::machine().option("onidle") == Some("poweroff") {
        // ArceOS takes a thread named "idle" for its own.
        host::spawn("until-idle", move || {
            let all_well = vmm.wait_idle();
            platform::power_off(match all_well && all_accepted {
                true => ExitStatus::Success,
                false => ExitStatus::Failure,
            });
        });
    }
    serve_console(hypervisor)
}

fn greet() {
    say(format_args!(
        "AxHive {} on {}: {} CPUs, {} MiB for guests",
        env!("CARGO_PKG_VERSION"),
        arch::NAME,
        axhal::cpu_num(),
        host::free_bytes() >> 20
    ));
}

/// Makes one CPU ready to run guests.
fn set_up_cpu(cpu: usize) {
    host::start_timer();
    host::enter_address_space();
    let enabled = arch::PerCpu::new().and_then(|mut per_cpu| {
        per_cpu.hardware_enable()?;
        Ok(per_cpu)
    });
    match enabled {
        Ok(per_cpu) => PER_CPU.lock().push(per_cpu),
        Err(error) => say(format_args!("CPU {cpu}: {error}")),
    }
}

/// Adds the VMs of the bundle, and tells whether all of them were accepted.
fn add_vms(vmm: &Vmm<Vm>) -> bool {
    let bytes = host::initrd().unwrap_or(&DEFAULT_BUNDLE.0);
    if bytes.is_empty() {
        say(format_args!(
            "no VMs: none were handed over, and none are embedded"
        ));
        return true;
    }
    let bundle = match Bundle::parse(bytes) {
        Ok(bundle) => bundle,
        Err(error) => {
            say(format_args!("the bundle of VMs cannot be used: {error}"));
            return false;
        }
    };
    let report = check_files(&bundle);
    for problem in &report.problems {
        say(format_args!("{problem}"));
    }
    for checked in report.accepted {
        vmm.add(checked.config, vm_screen);
    }
    report.problems.is_empty()
}

/// Checks every VM file of the bundle against this machine.
fn check_files(bundle: &Bundle<'static>) -> Report {
    let cpus = axhal::cpu_num().min(63);
    let rules = Rules {
        pcpus: PCpuSet((1_u64 << cpus).wrapping_sub(1)),
        device_kinds: &[],
        arch: <Vm as axvm::ArchVm>::check,
    };
    let texts: Vec<_> = bundle.vms().map(|vm| text_of(&vm)).collect();
    let lookups: Vec<_> = bundle.vms().map(|vm| lookup_in(bundle, vm)).collect();
    let files = bundle.vms().zip(texts.iter().zip(&lookups));
    let files = files.map(|(vm, (text, lookup))| VmFile {
        name: vm.name(),
        text: text.as_ref().copied().map_err(String::as_str),
        files: lookup,
    });
    config::check_all(files, &rules)
}

fn text_of(vm: &VmEntry<'static>) -> Result<&'static str, String> {
    vm.text().map_err(|error| format!("{error}"))
}

/// Returns what finds the files that one VM's file refers to.
fn lookup_in(
    bundle: &Bundle<'static>,
    vm: VmEntry<'static>,
) -> impl Fn(&str) -> Result<ImageBytes, String> {
    move |path| {
        let file = bundle
            .file(&vm, path)
            .ok_or_else(|| String::from("it is not in the bundle"))?;
        let bytes = file.bytes().map_err(|error| format!("{error}"))?;
        Ok(ImageBytes::Static(bytes))
    }
}

/// Hands what is typed to the shell, for ever.
fn serve_console(hypervisor: Hypervisor) -> ! {
    let mut shell = Shell::new(hypervisor, HostScreen);
    let mut buffer = [0; 64];
    loop {
        let read = axhal::console::read_bytes(&mut buffer);
        for byte in buffer.iter().take(read) {
            shell.input(*byte);
        }
        if read == 0 {
            shell.tick();
            host::sleep_ms(POLL_MS);
        }
    }
}
