// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A request always reaches its vCPU: in its guest by a kick, asleep by a
//! wake, in between by the second look. Nothing here polls: a lost one hangs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use arch_vm_host::testing::{Setup, StdHost, watchdog};
use axvm::{PCpuId, Request, VCpuControl};

const ROUNDS: u64 = 20_000;
/// Where each round waits for other processes, fewer of them will do.
const ENOUGH: Duration = Duration::from_secs(5);
const CPU: PCpuId = PCpuId(0);

/// Sends requests one by one to a vCPU that does `between` two looks.
fn every_request_arrives(between: fn(&StdHost, &VCpuControl<StdHost>)) {
    watchdog(move || {
        let host = StdHost::new(Setup::default());
        let control = Arc::new(VCpuControl::new(&host, 1, 0));
        let (wanted, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let is_over = Arc::new(AtomicBool::new(false));
        let vcpu = {
            let (host, control) = (host.clone(), control.clone());
            let (wanted, seen) = (wanted.clone(), seen.clone());
            let is_over = is_over.clone();
            std::thread::spawn(move || {
                while !is_over.load(SeqCst) {
                    if control.take(Request::Look) {
                        seen.store(wanted.load(SeqCst), SeqCst);
                    } else {
                        between(&host, &control);
                    }
                }
            })
        };
        let begin = Instant::now();
        for round in (1..=ROUNDS).take_while(|_| begin.elapsed() < ENOUGH) {
            wanted.store(round, SeqCst);
            control.request(Request::Look);
            while seen.load(SeqCst) < round {
                std::thread::yield_now();
            }
        }
        is_over.store(true, SeqCst);
        control.request(Request::Look);
        vcpu.join().unwrap();
    });
}

/// Enters a guest that leaves by a kick only.
fn enter(host: &StdHost, control: &VCpuControl<StdHost>) {
    if control.enter_guest(CPU) {
        while !host.take_kick(CPU) {
            std::thread::yield_now();
        }
    }
    control.leave_guest();
}

fn sleep(_: &StdHost, control: &VCpuControl<StdHost>) {
    control.wait(None, &|| control.has_request());
}

#[test]
fn every_request_reaches_a_vcpu_that_is_entering_its_guest() {
    every_request_arrives(enter);
}

#[test]
fn every_request_reaches_a_vcpu_that_is_falling_asleep() {
    every_request_arrives(sleep);
}

#[test]
fn every_request_reaches_a_vcpu_that_does_both() {
    every_request_arrives(|host, control| {
        enter(host, control);
        sleep(host, control);
    });
}

#[test]
fn a_guest_with_a_request_is_not_entered_and_a_taken_request_is_gone() {
    let host = StdHost::new(Setup::default());
    let control = VCpuControl::new(&host, 3, 5);
    assert_eq!((control.vm_id(), control.id()), (3, 5));
    assert!(!control.take(Request::Event));
    control.request(Request::Event);
    assert!(control.has(Request::Event) && !control.has(Request::Look));
    assert!(!control.enter_guest(CPU));
    assert_eq!(control.resides_on(), Some(CPU));
    control.leave_guest();
    assert_eq!(control.resides_on(), None);
    assert!(!control.take(Request::Look));
    assert!(control.take(Request::Event));
    assert!(!control.take(Request::Event));
    assert!(control.enter_guest(CPU));
    control.request(Request::Look);
    assert!(
        host.take_kick(CPU),
        "a request to a vCPU in its guest kicks"
    );
    control.leave_guest();
}
