// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! vector-test: each hart finds its vector and floating-point registers as it left them.
//!
//! The same image for bare QEMU and for AxHive, riscv64 only; elsewhere an empty
//! program. All harts fill their registers with a pattern of their own before
//! any looks at them again, so that harts which share a CPU have had each
//! other's time in between. It is for machines whose registers have 16 bytes.
//!
//! Spec: RISC-V Unprivileged, "V" extension; RISC-V Privileged, sstatus.VS.

#![cfg_attr(all(target_os = "none", target_arch = "riscv64"), no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
mod float;
#[cfg(all(target_os = "none", target_arch = "riscv64"))]
mod vector;

#[cfg(not(all(target_os = "none", target_arch = "riscv64")))]
fn main() {}

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
use rt::{
    Ending, arch,
    cpu::{self, Stage},
    machine::{Failure, Machine},
    say, wait,
};

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
rt::guest!("vector-test", sequence, secondary);

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
fn sequence(machine: &'static Machine) -> Result<Ending, Failure> {
    arch::irq::init_machine()?;
    arch::irq::init_cpu()?;
    if !vector::switch_on() {
        return Err(Failure("no vectors of 16 bytes"));
    }
    say!("vectors of 16 bytes");
    vector::fill(0);
    float::fill(0);
    let others = 1..machine.cpus.len();
    for index in others.clone() {
        arch::smp::start(index)?;
    }
    for index in others.clone() {
        wait_for(index, Stage::Up, "a hart did not fill its registers")?;
    }
    check(0)?;
    for index in others.clone() {
        arch::irq::send_ipi(index)?;
    }
    for index in others {
        wait_for(index, Stage::Parked, "a hart did not check its registers")?;
    }
    check(0)?;
    say!(
        "{} harts kept their vectors and floating point",
        machine.cpus.len()
    );
    Ok(Ending::Done)
}

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
fn check(index: usize) -> Result<(), Failure> {
    match (vector::holds(index), float::holds(index)) {
        (true, true) => Ok(()),
        (false, _) => Err(Failure("a hart lost its vectors")),
        (_, false) => Err(Failure("a hart lost its floating point")),
    }
}

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
fn wait_for(index: usize, stage: Stage, failure: &'static str) -> Result<(), Failure> {
    wait::halt_until(failure, || cpu::record(index).has_reached(stage))
}

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
fn secondary(index: usize) -> ! {
    match work(index) {
        Ok(()) => {
            cpu::record(index).reach(Stage::Parked);
            arch::smp::stop()
        }
        Err(failure) => rt::fail(failure),
    }
}

/// Fills the registers, sleeps until every other hart has, and looks again.
#[cfg(all(target_os = "none", target_arch = "riscv64"))]
fn work(index: usize) -> Result<(), Failure> {
    let own = cpu::record(index);
    arch::irq::init_cpu()?;
    let is_clean = vector::switch_on() && vector::is_zero();
    if !is_clean {
        return Err(Failure("a hart starts with another's vectors"));
    }
    vector::fill(index);
    float::fill(index);
    own.reach(Stage::Up);
    wait::halt_until("no IPI from cpu 0", || own.ipis() > 0)?;
    check(index)
}
