// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! AxHive: a type-1 hypervisor as an ArceOS application.
//!
//! On the bare machine ArceOS calls `main` on CPU 0 with interrupts open and
//! the other CPUs idle. On the host the same crate is built for its tests.
#![cfg_attr(target_os = "none", no_std, no_main)]

// The architecture of this build, as `arch`.
include!(concat!(env!("OUT_DIR"), "/arch.rs"));

#[cfg(target_os = "none")]
mod bare {
    //! The boot sequence.

    use core::time::Duration;

    use axstd::{println, string::String, vec::Vec};
    use axtask::{AxCpuMask, AxTaskExt, AxTaskRef, TaskExt, TaskInner};
    use extern_trait::extern_trait;
    use platform::ExitStatus;

    use crate::arch;

    const STACK_BYTES: usize = 0x8000;

    #[unsafe(no_mangle)]
    extern "C" fn main() {
        // ArceOS does this for the other CPUs only; without it an IPI to this one panics.
        axipi::init();
        print_banner();
        let threads: Vec<_> = (0..axhal::cpu_num()).map(spawn_on).collect();
        for thread in threads {
            thread.join();
        }
        platform::power_off(ExitStatus::Success);
    }

    fn print_banner() {
        let machine = platform::machine();
        println!(
            "AxHive {} on {}: {} CPUs, boot argument {:#x}",
            env!("CARGO_PKG_VERSION"),
            arch::NAME,
            machine.cpu_count(),
            axhal::dtb::get_bootarg()
        );
        let mut free_bytes = 0;
        machine.for_each_free(|range| free_bytes += range.size());
        println!("{} MiB for guests, initrd {:x?}", free_bytes >> 20, machine.initrd);
    }

    /// What hangs on each thread; tells where it was switched in.
    struct Thread {
        cpu: usize,
    }

    #[extern_trait]
    impl TaskExt for Thread {
        fn on_enter(&self) {
            assert_eq!(axhal::percpu::this_cpu_id(), self.cpu, "a pinned thread stays");
        }
    }

    fn spawn_on(cpu: usize) -> AxTaskRef {
        let report = move || {
            axstd::thread::sleep(Duration::from_millis(20));
            println!("a thread pinned to CPU {cpu} runs on {}", axhal::percpu::this_cpu_id());
        };
        let mut task = TaskInner::new(report, String::from("hello"), STACK_BYTES);
        task.set_cpumask(AxCpuMask::one_shot(cpu));
        *task.task_ext_mut() = Some(AxTaskExt::from_impl(Thread { cpu }));
        axtask::spawn_task(task)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("AxHive on {}: built for tests; `make run` boots it.", arch::NAME);
}
