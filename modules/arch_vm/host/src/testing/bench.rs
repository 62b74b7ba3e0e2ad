// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A bench for VMs: a host, a recorded console, a configuration for a program.
//!
//! What every test of a life needs, so that the test itself is its story.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "test support"
)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use axdevice::{ConsoleOutput, GuestMemory};
use axvm::{
    ArchVm, AxVM, AxVMConfig, AxVMRef, BootConfig, CrashPolicy, GuestPhysAddr, ImageBytes, Machine,
    PCpuSet, Policy, VCpuConfig, VCpuId,
};

use super::{Setup, StdHost};
use crate::{HostVm, Program};

/// How long a whole test may take before it counts as one that hangs: many times
/// what the longest takes on one CPU that other processes keep busy.
const PATIENCE: Duration = Duration::from_secs(600);
/// The same for one wait of a test, so that it is known by its name.
const WAIT_PATIENCE: Duration = Duration::from_secs(300);

/// A recorded console.
#[derive(Default)]
pub struct Output(Mutex<Vec<u8>>);

impl ConsoleOutput for Output {
    fn write(&self, bytes: &[u8]) {
        self.0.lock().expect("no writer panics").extend(bytes);
    }
}

impl Output {
    /// Returns everything that was written.
    pub fn text(&self) -> String {
        let bytes = self.0.lock().expect("no writer panics");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Makes a configuration with 2 MiB of RAM.
pub fn config(name: &str, cpus: usize, program: &Program) -> AxVMConfig {
    let image = program.image().expect("the program's labels are there");
    config_of(name, cpus, 2 << 20, ImageBytes::Shared(image.into()))
}

/// Makes a configuration of any architecture that boots a kernel and no more.
pub fn config_of(name: &str, cpus: usize, memory_bytes: u64, kernel: ImageBytes) -> AxVMConfig {
    let pcpus = PCpuSet::ALL;
    AxVMConfig {
        name: name.into(),
        vcpus: vec![VCpuConfig { pcpus }; cpus],
        memory_bytes,
        intc: None,
        boot: BootConfig {
            kernel,
            initrd: None,
            dtb: None,
            cmdline: String::new(),
            load: None,
            entry: None,
        },
        devices: Vec::new(),
        policy: Policy {
            autostart: false,
            on_crash: CrashPolicy::Stop,
        },
    }
}

/// Builds a machine of any architecture, of two CPUs and with 16 MiB of RAM, on a
/// host whose clock stands still.
pub fn machine_of<A: ArchVm<Hal = StdHost>>(kernel: &'static [u8]) -> AxVMRef<A> {
    machine_with(kernel, None)
}

/// Builds such a machine with an interrupt controller of this name.
pub fn machine_with<A: ArchVm<Hal = StdHost>>(
    kernel: &'static [u8],
    intc: Option<&str>,
) -> AxVMRef<A> {
    let host = StdHost::new(Setup {
        stopped_at_ns: Some(0),
        ..Setup::default()
    });
    let mut config = config_of("test", 2, 16 << 20, ImageBytes::Static(kernel));
    config.intc = intc.map(Into::into);
    let vm = AxVM::new(1, &host, config, Arc::<Output>::default());
    vm.init().expect("the machine is sound");
    vm
}

/// Does something with a vCPU of a machine that never ran, bound to this CPU.
pub fn with_bound_vcpu<A: ArchVm, T>(
    vm: &AxVMRef<A>,
    id: VCpuId,
    act: impl FnOnce(&mut A::VCpu) -> T,
) -> T {
    let bind = |machine: &Machine<A>| {
        let vcpu = machine.vcpus().get(id).expect("the machine has this vCPU");
        vcpu.bind().expect("the vCPU was not bound");
        vcpu.with_arch(act)
    };
    vm.with_machine(bind).expect("the machine is there")
}

/// A host and the consoles of its VMs.
pub struct Bench {
    /// The host.
    pub host: StdHost,
    /// The console that all its VMs share.
    pub output: Arc<Output>,
    next: AtomicUsize,
}

impl Default for Bench {
    fn default() -> Self {
        Self::new(Setup::default())
    }
}

impl Bench {
    /// Makes a bench.
    pub fn new(setup: Setup) -> Self {
        Self {
            host: StdHost::new(setup),
            output: Arc::default(),
            next: AtomicUsize::new(1),
        }
    }

    /// Makes a bench whose threads are switched at one in three chances.
    pub fn switching(seed: u64) -> Self {
        Self::new(Setup {
            switch_one_in: 3,
            seed,
            ..Setup::default()
        })
    }

    /// Makes a VM of which nothing but the configuration exists.
    pub fn vm(&self, cpus: usize, program: &Program) -> AxVMRef<HostVm<StdHost>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.vm_of(config(&format!("vm{id}"), cpus, program))
    }

    /// Makes a VM of a configuration.
    pub fn vm_of(&self, config: AxVMConfig) -> AxVMRef<HostVm<StdHost>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        AxVM::new(id, &self.host, config, self.output.clone())
    }

    /// Makes a VM and starts it.
    #[track_caller]
    pub fn start(&self, cpus: usize, program: &Program) -> AxVMRef<HostVm<StdHost>> {
        let vm = self.vm(cpus, program);
        vm.init().expect("there is enough for one VM");
        vm.boot().expect("there is enough for its threads");
        vm
    }

    /// Reads eight bytes of a VM's RAM.
    #[track_caller]
    pub fn peek(vm: &AxVM<HostVm<StdHost>>, address: u64) -> u64 {
        let mut bytes = [0; 8];
        let from = GuestPhysAddr::from_usize(address as usize);
        vm.with_machine(|machine| machine.ram().read(from, &mut bytes))
            .expect("the VM has a machine")
            .expect("the address is RAM");
        u64::from_le_bytes(bytes)
    }

    /// Waits until a condition holds.
    #[track_caller]
    pub fn until(what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < WAIT_PATIENCE, "never: {what}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Does `body` on a thread of its own, and panics if it does not come back.
#[track_caller]
pub fn watchdog<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let result = body();
        // The receiver may have given up.
        let _ = sender.send(());
        result
    });
    if receiver.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("it hangs");
    }
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
