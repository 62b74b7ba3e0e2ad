// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The one lock of whatever belongs to a VM.
//!
//! Taken by vCPU threads, which handle exits, and by the threads that feed
//! devices from outside. Whoever holds it is not switched out, so that no thread
//! on the same CPU ever spins for it in vain. An exit's handler is held on its
//! CPU already and need not pay for that again: [`Lock::lock_held`].

use core::ops::{Deref, DerefMut};

use kernel_guard::NoPreempt;
use kspin::{SpinRaw, SpinRawGuard};

/// A spin lock that holds its owner on its CPU.
#[derive(Default)]
pub struct Lock<T: ?Sized>(SpinRaw<T>);

/// What is behind a [`Lock`], as long as this lives.
pub struct LockGuard<'l, T: ?Sized> {
    // Dropped in this order: the thread may be switched out once the lock is free.
    inner: SpinRawGuard<'l, T>,
    _held: NoPreempt,
}

impl<T> Lock<T> {
    /// Puts a value behind a lock.
    pub const fn new(value: T) -> Self {
        Self(SpinRaw::new(value))
    }
}

impl<T: ?Sized> Lock<T> {
    /// Waits for the lock.
    pub fn lock(&self) -> LockGuard<'_, T> {
        let held = NoPreempt::new();
        LockGuard {
            inner: self.0.lock(),
            _held: held,
        }
    }

    /// Waits for the lock, as one who is held on its CPU as long as it has it:
    /// interrupts are closed, preemption is off, or another `Lock` is held.
    pub fn lock_held(&self) -> SpinRawGuard<'_, T> {
        self.0.lock()
    }
}

impl<T: ?Sized> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}
