// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Runs tasks side by side, as many as this machine's CPUs suffice for.
//!
//! Called from `main` with all cases. A task keeps its CPUs to itself while it
//! runs, so a case is as fast beside others as alone. The widest tasks start
//! first, and the long ones before the short, so that few CPUs idle in the end.

use std::{
    cmp::Reverse,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// One thing to do.
pub struct Task<T> {
    /// How many CPUs it keeps busy.
    pub cpus: usize,
    /// Greater for what takes longer; the unit does not matter.
    pub length: u64,
    /// What the work is told.
    pub item: T,
}

/// What waits, and the CPUs that nothing runs on.
struct Queue<T> {
    waiting: Vec<Task<T>>,
    free: usize,
}

impl<T> Queue<T> {
    /// Makes a queue for a machine of `cpus`; a task that wants more gets these.
    fn new(mut tasks: Vec<Task<T>>, cpus: usize) -> Self {
        let free = cpus.max(1);
        for task in &mut tasks {
            task.cpus = task.cpus.clamp(1, free);
        }
        tasks.sort_by_key(|task| Reverse((task.cpus, task.length)));
        Self {
            waiting: tasks,
            free,
        }
    }

    /// Takes the first task that there are CPUs for, and its CPUs.
    fn start(&mut self) -> Option<Task<T>> {
        let fits = |task: &Task<T>| task.cpus <= self.free;
        let next = self.waiting.iter().position(fits)?;
        let task = self.waiting.remove(next);
        self.free -= task.cpus;
        Some(task)
    }

    /// Takes the CPUs of a task back.
    fn end(&mut self, cpus: usize) {
        self.free += cpus;
    }
}

/// Does all tasks' work and returns what came out, in the order in which it came.
pub fn run_all<T: Send, R: Send>(
    tasks: Vec<Task<T>>,
    cpus: usize,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let workers = cpus.clamp(1, tasks.len().max(1));
    let (queue, changed) = (Mutex::new(Queue::new(tasks, cpus)), Condvar::new());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(task) = next(&queue, &changed) {
                    let result = work(task.item);
                    lock(&results).push(result);
                    lock(&queue).end(task.cpus);
                    changed.notify_all();
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a task that there are CPUs for; none if no task is left.
fn next<T>(queue: &Mutex<Queue<T>>, changed: &Condvar) -> Option<Task<T>> {
    let mut queue = lock(queue);
    while !queue.waiting.is_empty() {
        if let Some(task) = queue.start() {
            return Some(task);
        }
        queue = changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use proptest::prelude::*;

    use super::{Queue, Task, run_all};

    fn task(cpus: usize, length: u64, item: usize) -> Task<usize> {
        Task { cpus, length, item }
    }

    #[test]
    fn two_tasks_of_one_cpu_run_side_by_side_on_two() {
        let met = Barrier::new(2);
        let tasks = vec![task(1, 0, 0), task(1, 0, 0)];
        // Each waits for the other: one after the other they would never end.
        run_all(tasks, 2, |_| met.wait());
    }

    #[test]
    fn every_result_is_returned() {
        let tasks = (0..9).map(|item| task(item, 0, item)).collect();
        let mut results = run_all(tasks, 3, |item| item * 2);
        results.sort_unstable();
        assert_eq!(results, [0, 2, 4, 6, 8, 10, 12, 14, 16]);
    }

    #[test]
    fn nothing_to_do_ends_at_once() {
        assert!(run_all(Vec::<Task<usize>>::new(), 2, |item| item).is_empty());
    }

    #[test]
    fn the_widest_start_first_and_the_long_before_the_short() {
        let tasks = vec![task(1, 10, 0), task(1, 90, 1), task(2, 10, 2)];
        let mut queue = Queue::new(tasks, 2);
        assert_eq!(queue.start().map(|task| task.item), Some(2));
        assert!(queue.start().is_none());
        queue.end(2);
        assert_eq!(queue.start().map(|task| task.item), Some(1));
        assert_eq!(queue.start().map(|task| task.item), Some(0));
    }

    proptest! {
        #[test]
        fn all_run_on_no_more_cpus_than_there_are_and_none_idles_that_could_work(
            wanted in prop::collection::vec((0_usize..6, 0_u64..9), 0..20),
            cpus in 0_usize..5,
            ends in prop::collection::vec(any::<prop::sample::Index>(), 20),
        ) {
            let count = wanted.len();
            let tasks = wanted.into_iter().map(|(cpus, length)| task(cpus, length, 0)).collect();
            let mut queue = Queue::new(tasks, cpus);
            let mut running: Vec<usize> = Vec::new();
            for end in ends.iter().take(count) {
                running.extend(std::iter::from_fn(|| queue.start()).map(|task| task.cpus));
                let busy: usize = running.iter().sum();
                prop_assert!(busy <= cpus.max(1));
                prop_assert!(queue.waiting.iter().all(|task| busy + task.cpus > cpus.max(1)));
                queue.end(running.swap_remove(end.index(running.len())));
            }
            prop_assert!(queue.waiting.is_empty() && running.is_empty());
        }
    }
}
