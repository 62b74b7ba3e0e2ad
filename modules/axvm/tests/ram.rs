// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The accessor of guest RAM against a vector of bytes, and against hostile
//! ranges: unaligned ones, those that cross an end, those that wrap around.

use arch_vm_host::{
    HostVm, Program, RAM_START,
    testing::{Bench, StdHost},
};
use axdevice::{GuestMemory, OutsideRam};
use axvm::{AxVMRef, GuestPhysAddr};
use proptest::prelude::*;

const RAM_BYTES: usize = 2 << 20;
const RAM_END: usize = RAM_START as usize + RAM_BYTES;
/// How much of RAM the model follows.
const WINDOW_BYTES: usize = 64;

fn inited(bench: &Bench) -> AxVMRef<HostVm<StdHost>> {
    let vm = bench.vm(1, &Program::new().halt());
    vm.init().unwrap();
    vm
}

fn read(vm: &AxVMRef<HostVm<StdHost>>, from: usize, to: &mut [u8]) -> Result<(), OutsideRam> {
    vm.with_machine(|machine| machine.ram().read(GuestPhysAddr::from_usize(from), to))
        .unwrap()
}

fn write(vm: &AxVMRef<HostVm<StdHost>>, to: usize, from: &[u8]) -> Result<(), OutsideRam> {
    vm.with_machine(|machine| machine.ram().write(GuestPhysAddr::from_usize(to), from))
        .unwrap()
}

#[test]
fn unaligned_accesses_agree_with_a_vector_of_bytes() {
    let bench = Bench::default();
    let vm = inited(&bench);
    let base = RAM_END - WINDOW_BYTES;
    let step = (0..WINDOW_BYTES, 0..WINDOW_BYTES, any::<u8>());
    proptest!(|(steps in proptest::collection::vec(step, 1..20))| {
        let mut model = [0u8; WINDOW_BYTES];
        write(&vm, base, &model).unwrap();
        for (start, len, seed) in steps {
            let len = len.min(WINDOW_BYTES - start);
            let bytes: Vec<u8> = (0..len).map(|i| seed.wrapping_add(i as u8)).collect();
            write(&vm, base + start, &bytes).unwrap();
            model[start..start + len].copy_from_slice(&bytes);
            let mut all = [0; WINDOW_BYTES];
            read(&vm, base, &mut all).unwrap();
            prop_assert_eq!(all, model);
            let mut part = vec![0; len];
            read(&vm, base + start, &mut part).unwrap();
            prop_assert_eq!(&part, &bytes);
        }
    });
    drop(vm);
    bench.host.check();
}

#[test]
fn a_range_is_accepted_exactly_if_it_lies_in_ram() {
    let bench = Bench::default();
    let vm = inited(&bench);
    let near = prop_oneof![
        Just(RAM_START as usize),
        Just(RAM_END),
        Just(0usize),
        Just(usize::MAX),
        any::<usize>(),
    ];
    proptest!(|(near in near, offset in -20isize..20, len in 0usize..40)| {
        let start = near.wrapping_add_signed(offset);
        let lies_inside = start >= RAM_START as usize
            && start.checked_add(len).is_some_and(|end| end <= RAM_END);
        let mut bytes = vec![0xa5; len];
        let refusal = OutsideRam { start: GuestPhysAddr::from_usize(start), size_bytes: len };
        let expected = if lies_inside { Ok(()) } else { Err(refusal) };
        prop_assert_eq!(read(&vm, start, &mut bytes), expected);
        if !lies_inside {
            prop_assert!(bytes.iter().all(|byte| *byte == 0xa5), "a refused read copies nothing");
        }
        prop_assert_eq!(write(&vm, start, &bytes), expected);
    });
}

#[test]
fn a_length_that_wraps_around_is_refused() {
    let bench = Bench::default();
    let vm = inited(&bench);
    let contains = |start: usize, len| {
        vm.with_machine(|machine| {
            machine
                .ram()
                .contains(GuestPhysAddr::from_usize(start), len)
        })
        .unwrap()
    };
    let start = RAM_START as usize;
    assert!(contains(start, RAM_BYTES));
    assert!(!contains(start, RAM_BYTES + 1));
    assert!(!contains(start, usize::MAX));
    assert!(!contains(start + 8, usize::MAX - 7));
    assert!(!contains(start - 1, 2));
    assert!(!contains(usize::MAX, 1));
    assert!(contains(RAM_END - 1, 1));
    assert!(!contains(RAM_END, 1));
    assert!(
        contains(RAM_END, 0),
        "nothing at the end is nothing outside"
    );
}

#[test]
fn the_size_and_the_regions_are_those_of_the_configuration() {
    let bench = Bench::default();
    let vm = inited(&bench);
    let sizes = vm.with_machine(|machine| {
        let regions: usize = machine.ram().regions().map(|(r, _)| r.size_bytes).sum();
        (machine.ram().size_bytes(), regions)
    });
    assert_eq!(sizes, Some((RAM_BYTES, RAM_BYTES)));
}
