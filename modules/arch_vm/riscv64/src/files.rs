// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The interrupt files that the hardware has for guests, and what is done to them.
//!
//! Which file is whose is in one table for the machine. A file's registers are
//! reached from its own hart only; a vCPU that left its file on another hart asks
//! that one, by an interrupt, to put the file's state into its software file, and
//! waits. [`hear`] is the handler's side of this, and tells vCPUs that sleep that
//! there is a message for them.
//!
//! The table's lock is the innermost; interrupts are closed meanwhile. Who waits
//! for another hart has them open, or serves its own in between.
//!
//! Spec: RISC-V Advanced Interrupt Architecture 1.0, "Interrupts for virtual
//! machines (VS level)"; RISC-V Privileged, "H" extension, hgeip, hgeie, hie.

use alloc::{sync::Arc, vec, vec::Vec};
use core::{
    hint,
    sync::atomic::{AtomicUsize, Ordering},
};

use axdevice::RawLock;
use axvm::PCpuId;
use spin::Once;
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};

use crate::{
    harts::closed,
    irqchip::imsic::{
        Array, Identities, InterruptFile, Operation,
        guest_files::{FileId, GuestFiles, Home, Move},
    },
    regs::{HGEIE, HGEIP, HIE, HSTATUS, HYPERVISOR_INTERRUPTS, VSIREG, VSISELECT},
};

/// No more harts than this wait for others at a time.
const WAITING_MAX: usize = 64;

const DELIVERY: u64 = 0x70;
const THRESHOLD: u64 = 0x72;
const PENDING: u64 = 0x80;
const ENABLED: u64 = 0xc0;

/// Who has a file.
pub(crate) trait FileOwner: Send + Sync {
    /// Hears that the file has something for it, which does not run.
    fn message_waits(&self);

    /// Returns where the state is while it is in no file of the hardware.
    fn software_file(&self) -> Option<&InterruptFile>;
}

/// A file's owner as the table has it.
pub(crate) type Owner = Arc<dyn FileOwner>;

struct Table {
    files: GuestFiles<Owner>,
    /// Those whose state somebody on another hart waits for.
    to_save: Vec<FileId>,
}

static TABLE: Once<RawLock<Table>> = Once::new();
/// How many files [`Table::to_save`] has.
static TO_SAVE: AtomicUsize = AtomicUsize::new(0);

/// Makes the table of a machine whose harts have so many guest files each.
pub(crate) fn init(harts: usize, per_hart: usize) {
    TABLE.call_once(|| {
        RawLock::new(Table {
            files: GuestFiles::new(&vec![per_hart; harts]),
            to_save: Vec::with_capacity(WAITING_MAX),
        })
    });
}

fn with_table<T>(act: impl FnOnce(&mut Table) -> T) -> Option<T> {
    let table = TABLE.get()?;
    Some(closed(|| act(&mut table.lock())))
}

/// Begins to move a vCPU's state to a file of this CPU, if one is free.
pub(crate) fn place(owner: Owner, home: Home, cpu: PCpuId) -> Option<Move> {
    with_table(|table| table.files.place(owner, home, cpu))
}

/// Begins to move a vCPU's state to its software file.
pub(crate) fn evict(home: Home) -> Option<Move> {
    with_table(|table| table.files.evict(home))
}

/// Ends a move whose steps are done.
pub(crate) fn finish(done: Move) -> Home {
    with_table(|table| table.files.finish(done)).unwrap_or(Home::SOFTWARE)
}

/// Takes the file of a vCPU that is no more.
pub(crate) fn release(home: Home) {
    with_table(|table| table.files.release(home));
}

/// Puts a file's state into its owner's software file, wherever the file is; the
/// caller runs on `here`, and `kick` interrupts a CPU.
pub(crate) fn save(file: FileId, here: PCpuId, kick: impl FnOnce(PCpuId)) {
    with_table(|table| {
        table.to_save.push(file);
        TO_SAVE.store(table.to_save.len(), Ordering::SeqCst);
    });
    serve(here);
    if file.pcpu != here {
        kick(file.pcpu);
    }
    while with_table(|table| table.to_save.contains(&file)) == Some(true) {
        serve(here);
        hint::spin_loop();
    }
}

/// Saves what others wait for of this CPU's files.
fn serve(here: PCpuId) {
    if TO_SAVE.load(Ordering::SeqCst) == 0 {
        return;
    }
    with_table(|table| {
        let Table { files, to_save } = table;
        to_save.retain(|file| {
            let is_here = file.pcpu == here;
            if let Some(to) = files.owner(*file).filter(|_| is_here) {
                to.software_file().inspect(|to| take_state(*file, to));
            }
            !is_here
        });
        TO_SAVE.store(to_save.len(), Ordering::SeqCst);
    });
}

/// Hears that this CPU was interrupted for one of its files, or by another CPU.
pub(crate) fn hear(here: PCpuId) {
    if TABLE.get().is_none() {
        return;
    }
    serve(here);
    let waiting = HGEIP.get() & HGEIE.get();
    set_watched(HGEIE.get() & !waiting);
    for number in (1..u64::BITS).filter(|number| waiting.wrapping_shr(*number) & 1 != 0) {
        let file = FileId { pcpu: here, number };
        let owner = with_table(|table| table.files.owner(file).cloned());
        if let Some(owner) = owner.flatten() {
            owner.message_waits();
        }
    }
    // What brought it here was masked until now.
    HIE.set_bits(HYPERVISOR_INTERRUPTS::GUEST_EXTERNAL::SET.value);
}

/// Lets this CPU be interrupted when the file gets something.
pub(crate) fn watch(file: FileId) {
    closed(|| set_watched(HGEIE.get() | file.bit()));
}

/// Ends that.
pub(crate) fn unwatch(file: FileId) {
    closed(|| set_watched(HGEIE.get() & !file.bit()));
}

/// Writes hgeie, and once more if one of its files has something.
///
/// QEMU looks at hgeip before it waits for whoever sends a message meanwhile, and
/// then forgets the interrupt that the sender had made pending.
fn set_watched(files: u64) {
    HGEIE.set(files);
    if HGEIP.get() & files != 0 {
        HGEIE.set(files);
    }
}

/// Tells whether a file of this CPU has something for its guest.
pub(crate) fn has_message(file: FileId) -> bool {
    HGEIP.get() & file.bit() != 0
}

/// Drops what another vCPU left in a file of this CPU.
pub(crate) fn empty(file: FileId) {
    with_file(file, || {
        write(DELIVERY, 0);
        words().for_each(|(_, at)| {
            write(PENDING.wrapping_add(at), 0);
            write(ENABLED.wrapping_add(at), 0);
        });
    });
}

/// Moves a software file's state into a file of this CPU.
pub(crate) fn load(file: FileId, from: &InterruptFile) {
    with_file(file, || {
        words().for_each(|(word, at)| {
            let pending = from.array(Array::Pending, word, Operation::Write(0));
            VSISELECT.set(PENDING.wrapping_add(at));
            VSIREG.set_bits(pending);
            let enabled = from.array(Array::Enabled, word, Operation::Read);
            write(ENABLED.wrapping_add(at), enabled);
        });
        write(THRESHOLD, from.threshold());
        write(DELIVERY, from.is_delivering().into());
    });
}

/// Moves a file's state into a software file, and silences it.
fn take_state(file: FileId, to: &InterruptFile) {
    unwatch(file);
    with_file(file, || {
        to.deliver(read(DELIVERY));
        write(DELIVERY, 0);
        to.set_threshold(read(THRESHOLD));
        words().for_each(|(word, at)| {
            let pending = read(PENDING.wrapping_add(at));
            to.array(Array::Pending, word, Operation::Set(pending));
            let enabled = read(ENABLED.wrapping_add(at));
            to.array(Array::Enabled, word, Operation::Write(enabled));
        });
    });
}

/// Returns the 64-bit registers of an array, and where each one is in it.
fn words() -> impl Iterator<Item = (usize, u64)> {
    (0..Identities::VIRT.words()).map(|word| (word, (word as u64).wrapping_mul(2)))
}

/// Does something with vsiselect and vsireg meaning a file, whatever they mean to
/// the guest that is bound here.
fn with_file(file: FileId, act: impl FnOnce()) {
    closed(|| {
        let (number, select) = (HSTATUS.read(HSTATUS::VGEIN), VSISELECT.get());
        HSTATUS.modify(HSTATUS::VGEIN.val(file.number.into()));
        act();
        VSISELECT.set(select);
        HSTATUS.modify(HSTATUS::VGEIN.val(number));
    });
}

fn read(select: u64) -> u64 {
    VSISELECT.set(select);
    VSIREG.get()
}

fn write(select: u64, value: u64) {
    VSISELECT.set(select);
    VSIREG.set(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, thread};

    /// Keeps its state in one file, and counts what it hears.
    struct Sleeper {
        heard: AtomicUsize,
        file: InterruptFile,
    }

    impl FileOwner for Sleeper {
        fn message_waits(&self) {
            self.heard.fetch_add(1, Ordering::Relaxed);
        }

        fn software_file(&self) -> Option<&InterruptFile> {
            Some(&self.file)
        }
    }

    fn sleeper() -> Arc<Sleeper> {
        Arc::new(Sleeper {
            heard: AtomicUsize::new(0),
            file: InterruptFile::new(Identities::VIRT),
        })
    }

    /// Gives a file of a CPU to somebody; each test has CPUs of its own.
    fn take(owner: &Arc<Sleeper>, cpu: usize) -> Home {
        init(8, 2);
        finish(place(owner.clone(), Home::SOFTWARE, PCpuId(cpu)).unwrap())
    }

    fn all_of(file: &InterruptFile) -> (bool, u64, Vec<u64>) {
        let arrays = [Array::Pending, Array::Enabled];
        let words = arrays.map(|array| words().map(move |(word, _)| (array, word)));
        let read = |(array, word)| file.array(array, word, Operation::Read);
        let values = words.into_iter().flatten().map(read).collect();
        (file.is_delivering(), file.threshold(), values)
    }

    #[test]
    fn a_state_survives_the_way_into_a_file_and_out_of_it() {
        let owner = sleeper();
        let home = take(&owner, 4);
        let file = home.file().unwrap();
        let software = &owner.file;
        software.deliver(1);
        software.set_threshold(99);
        for (word, value) in [(0, 0b1010), (1, 7), (3, 1 << 63)] {
            software.array(Array::Pending, word, Operation::Write(value));
            software.array(Array::Enabled, word, Operation::Write(!value));
        }
        let before = all_of(software);
        VSISELECT.set(0x42);
        empty(file);
        load(file, software);
        assert_eq!(all_of(software).2[..4], [0; 4], "nothing is pending twice");
        // A message that came meanwhile.
        with_file(file, || {
            VSISELECT.set(PENDING);
            VSIREG.set_bits(1 << 5);
        });
        save(file, PCpuId(4), |_| panic!("it is on this CPU"));
        let mut expected = before;
        expected.2[0] |= 1 << 5;
        assert_eq!(all_of(software), expected);
        assert_eq!(VSISELECT.get(), 0x42);
        assert_eq!(HSTATUS.read(HSTATUS::VGEIN), 0);
        release(home);
    }

    #[test]
    fn a_file_is_empty_for_its_next_owner() {
        let owner = sleeper();
        let home = take(&owner, 5);
        let file = home.file().unwrap();
        owner.file.deliver(1);
        owner.file.array(Array::Enabled, 2, Operation::Write(5));
        load(file, &owner.file);
        empty(file);
        take_state(file, &owner.file);
        assert_eq!(all_of(&owner.file), (false, 0, vec![0; 8]));
        release(home);
    }

    #[test]
    fn who_sleeps_hears_of_a_message_once() {
        let owners = [sleeper(), sleeper()];
        let homes = [take(&owners[0], 6), take(&owners[1], 6)];
        let heard = || {
            hear(PCpuId(6));
            [0, 1].map(|owner: usize| owners[owner].heard.load(Ordering::Relaxed))
        };
        HGEIP.set(0b110);
        assert_eq!(heard(), [0, 0], "they run");
        watch(homes[1].file().unwrap());
        HIE.set(0);
        assert_eq!(heard(), [0, 1]);
        assert_eq!((HGEIE.get(), HIE.get()), (0, 1 << 12));
        assert_eq!(heard(), [0, 1]);
        HGEIP.set(0);
        homes.into_iter().for_each(release);
    }

    #[test]
    fn another_cpu_gives_a_state_out_when_it_is_called() {
        let owner = sleeper();
        let home = take(&owner, 7);
        let file = home.file().unwrap();
        owner.file.array(Array::Enabled, 1, Operation::Write(3));
        load(file, &owner.file);
        owner.file.array(Array::Enabled, 1, Operation::Write(0));
        let (sender, calls) = mpsc::channel();
        let other = thread::spawn(move || {
            save(file, PCpuId(3), |cpu| sender.send(cpu).unwrap());
        });
        assert_eq!(calls.recv(), Ok(PCpuId(7)));
        hear(PCpuId(7));
        other.join().unwrap();
        assert_eq!(owner.file.array(Array::Enabled, 1, Operation::Read), 3);
        release(home);
    }
}
