// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The vCPU's state machine: every state with every step.

use arch_vm_host::{
    HostVm, Program,
    testing::{Bench, StdHost},
};
use axvm::{AxVCpu, AxVCpuExitReason, AxVCpuRef, AxVM, AxVMRef, Error, HostPhysAddr, VCpuState};

type VCpu = AxVCpu<HostVm<StdHost>>;

/// A step, the only state it is allowed in, and where it leads.
struct Step {
    name: &'static str,
    from: VCpuState,
    to: VCpuState,
    take: fn(&VCpu) -> axvm::Result<()>,
}

const STEPS: [Step; 4] = [
    Step {
        name: "setup",
        from: VCpuState::Created,
        to: VCpuState::Free,
        take: |vcpu| vcpu.setup(HostPhysAddr::from_usize(0)),
    },
    Step {
        name: "bind",
        from: VCpuState::Free,
        to: VCpuState::Ready,
        take: VCpu::bind,
    },
    Step {
        name: "run",
        from: VCpuState::Ready,
        to: VCpuState::Ready,
        take: |vcpu| vcpu.run().map(drop),
    },
    Step {
        name: "unbind",
        from: VCpuState::Ready,
        to: VCpuState::Free,
        take: VCpu::unbind,
    },
];

/// Makes a VM whose memory a vCPU may use.
fn vm_of(bench: &Bench) -> AxVMRef<HostVm<StdHost>> {
    let vm = bench.vm(1, &Program::new().halt());
    vm.init().unwrap();
    vm
}

/// Returns a new VM's vCPU in a state.
fn vcpu_in(bench: &Bench, state: VCpuState) -> AxVCpuRef<HostVm<StdHost>> {
    vcpu_of(&vm_of(bench), state)
}

fn vcpu_of(vm: &AxVM<HostVm<StdHost>>, state: VCpuState) -> AxVCpuRef<HostVm<StdHost>> {
    let vcpu = vm
        .with_machine(|machine| machine.vcpus()[0].clone())
        .unwrap();
    assert_eq!(vcpu.state(), VCpuState::Free);
    match state {
        VCpuState::Free => {}
        VCpuState::Ready => vcpu.bind().unwrap(),
        VCpuState::Running => {
            vcpu.bind().unwrap();
            force(&vcpu, VCpuState::Ready, state);
        }
        other => force(&vcpu, VCpuState::Free, other),
    }
    vcpu
}

fn force(vcpu: &VCpu, from: VCpuState, to: VCpuState) {
    vcpu.with_state_transition(from, to, |_| Ok(())).unwrap();
}

#[test]
fn every_step_is_taken_in_its_state_and_spoils_the_vcpu_in_all_others() {
    let bench = Bench::default();
    for state in VCpuState::ALL {
        for step in &STEPS {
            let vm = vm_of(&bench);
            let vcpu = vcpu_of(&vm, state);
            let taken = (step.take)(&vcpu);
            let name = step.name;
            if state == step.from {
                assert_eq!(taken, Ok(()), "{name} in {state:?}");
                assert_eq!(vcpu.state(), step.to, "{name} in {state:?}");
            } else {
                let refused = matches!(
                    taken,
                    Err(Error::WrongVCpuState { from, state: was, .. })
                        if from == step.from && was == state
                );
                assert!(refused, "{name} in {state:?}: {taken:?}");
                assert_eq!(vcpu.state(), VCpuState::Invalid, "{name} in {state:?}");
            }
        }
    }
}

#[test]
fn every_pair_of_states_is_a_transition_from_the_right_one_only() {
    let bench = Bench::default();
    for state in VCpuState::ALL {
        for from in VCpuState::ALL {
            for to in VCpuState::ALL {
                let vcpu = vcpu_in(&bench, state);
                let mut was_called = false;
                let moved = vcpu.with_state_transition(from, to, |_| {
                    was_called = true;
                    Ok(())
                });
                let is_legal = state == from && from != VCpuState::Invalid;
                assert_eq!(moved.is_ok(), is_legal, "{state:?}: {from:?} to {to:?}");
                assert_eq!(was_called, is_legal, "{state:?}: {from:?} to {to:?}");
                let then = if is_legal { to } else { VCpuState::Invalid };
                assert_eq!(vcpu.state(), then, "{state:?}: {from:?} to {to:?}");
            }
        }
    }
}

#[test]
fn a_step_that_fails_spoils_the_vcpu() {
    let bench = Bench::default();
    let vcpu = vcpu_in(&bench, VCpuState::Free);
    let failed: axvm::Result<()> =
        vcpu.with_state_transition(VCpuState::Free, VCpuState::Ready, |_| Err(Error::NoFrames));
    assert_eq!(failed, Err(Error::NoFrames));
    assert_eq!(vcpu.state(), VCpuState::Invalid);
}

#[test]
fn running_returns_what_left_the_guest_and_counts_it() {
    let bench = Bench::default();
    let vm = vm_of(&bench);
    let vcpu = vcpu_of(&vm, VCpuState::Ready);
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::Halt));
    assert_eq!(vcpu.control().stats().exits(axvm::ExitKind::Halt), 1);
    assert_eq!(vcpu.control().resides_on(), None);
}
