// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The checks: what an application expects of ArceOS and of the machine.
//!
//! Each returns what went wrong, and hangs where an interrupt is lost: whoever
//! runs the guest has a time limit. No check judges how long something took,
//! but that a sleep is not too short.

use core::sync::atomic::{AtomicUsize, Ordering};

use axstd::{
    println,
    sync::Mutex,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
    vec::Vec,
};

use crate::cpu;

/// A check.
pub type Check = fn() -> Result<(), Failure>;

/// What went wrong.
#[derive(Debug)]
#[expect(dead_code, reason = "the values are for whoever reads the console")]
pub enum Failure {
    /// A thread could not be bound to this CPU, or ran on another.
    WrongCpu { wanted: usize, found: usize },
    /// A thread ended without a result.
    NoResult,
    /// The sum of the threads' work.
    Sum { wanted: usize, found: usize },
    /// A sleep ended after this many microseconds.
    Short(u128),
    /// Memory lost what was written to it.
    Memory { block: usize, word: usize },
}

fn join_all(threads: Vec<JoinHandle<Result<(), Failure>>>) -> Result<(), Failure> {
    let join = |thread: JoinHandle<_>| thread.join().map_err(|_| Failure::NoResult)?;
    threads.into_iter().map(join).collect()
}

/// Runs a thread on each CPU and has each tell where it is.
pub fn threads_on_every_cpu() -> Result<(), Failure> {
    // One after the other, so that the lines have an order.
    for wanted in 0..cpu::count() {
        let thread = thread::spawn(move || run_on(wanted));
        join_all([thread].into())?;
        println!("arceos: cpu {wanted} runs a thread");
    }
    Ok(())
}

fn run_on(wanted: usize) -> Result<(), Failure> {
    let moved = cpu::move_to(wanted);
    let found = cpu::current();
    if moved && found == wanted {
        Ok(())
    } else {
        Err(Failure::WrongCpu { wanted, found })
    }
}

/// Has four threads a CPU count under one lock, each letting others go first.
pub fn contended_sum() -> Result<(), Failure> {
    const THREADS_PER_CPU: usize = 4;
    const ROUNDS: usize = 500;
    static SUM: Mutex<usize> = Mutex::new(0);
    let add = |cpu| {
        run_on(cpu)?;
        for _ in 0..ROUNDS {
            *SUM.lock() += 1;
            thread::yield_now();
        }
        Ok(())
    };
    let cpus = (0..cpu::count()).flat_map(|cpu| [cpu; THREADS_PER_CPU]);
    join_all(cpus.map(|cpu| thread::spawn(move || add(cpu))).collect())?;
    let (wanted, found) = (cpu::count() * THREADS_PER_CPU * ROUNDS, *SUM.lock());
    if found == wanted {
        Ok(())
    } else {
        Err(Failure::Sum { wanted, found })
    }
}

/// Sleeps on every CPU at once: with all of them idle, only timers go on.
pub fn sleep() -> Result<(), Failure> {
    const NAPS: u32 = 5;
    const NAP: Duration = Duration::from_millis(20);
    let nap = |cpu| {
        run_on(cpu)?;
        let begin = Instant::now();
        for _ in 0..NAPS {
            thread::sleep(NAP);
        }
        let took = begin.elapsed();
        if took >= NAP * NAPS {
            Ok(())
        } else {
            Err(Failure::Short(took.as_micros()))
        }
    };
    let threads = (0..cpu::count()).map(|cpu| thread::spawn(move || nap(cpu)));
    join_all(threads.collect())
}

/// Interrupts every other CPU and waits for its answer.
///
/// The runtime prepares no queue for the CPU that it booted on, which is ours.
/// The riscv64 platform crate clears the interrupt after it has handled it, and
/// so loses one that comes in between, on any machine: the bell is rung again.
pub fn ipis() -> Result<(), Failure> {
    const ROUNDS: usize = 20;
    const PATIENCE: Duration = Duration::from_millis(20);
    static ANSWERS: AtomicUsize = AtomicUsize::new(0);
    fn answer() {
        ANSWERS.fetch_add(1, Ordering::Release);
    }
    let own = cpu::current();
    let mut wanted = 0;
    for other in (0..cpu::count()).filter(|cpu| *cpu != own) {
        for _ in 0..ROUNDS {
            cpu::interrupt(other, answer);
            wanted += 1;
            let mut rung = Instant::now();
            while ANSWERS.load(Ordering::Acquire) != wanted {
                core::hint::spin_loop();
                if rung.elapsed() > PATIENCE {
                    cpu::interrupt(other, || {});
                    rung = Instant::now();
                }
            }
        }
    }
    Ok(())
}

/// Fills 64 MiB with a pattern and reads it back.
pub fn memory() -> Result<(), Failure> {
    const BLOCKS: usize = 64;
    const WORDS: usize = (1 << 20) / size_of::<usize>();
    let pattern = |block: usize, word: usize| (block << 32 | word) ^ 0x5a5a_a5a5;
    let fill = |block| -> Vec<usize> { (0..WORDS).map(|word| pattern(block, word)).collect() };
    let blocks: Vec<_> = (0..BLOCKS).map(fill).collect();
    for (block, words) in blocks.iter().enumerate() {
        let wrong = words
            .iter()
            .enumerate()
            .position(|(at, word)| *word != pattern(block, at));
        if let Some(word) = wrong {
            return Err(Failure::Memory { block, word });
        }
    }
    Ok(())
}
