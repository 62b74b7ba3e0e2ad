// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Where a thread that parks and whoever calls it meet.
//!
//! One value under one lock, `seat`'s: the thread leaves in it how it is woken, or
//! finds that it was called; whoever calls takes that, or leaves the call. So a
//! call is never lost, and how the thread was to be woken when it slept the last
//! time is nowhere to be found: a wake by that comes to nothing, if the thread is
//! just about to sleep. Pure.

use core::mem;

/// What one thread and its callers have left for each other.
#[derive(Debug, Default)]
pub enum Parking<S> {
    /// The thread is about, and has not been called.
    #[default]
    About,
    /// It has been called, and has not seen it yet.
    Called,
    /// It sleeps, or is about to, and is woken by this.
    Asleep(S),
}

impl<S> Parking<S> {
    /// Tells the thread whether it has been called; if not, it may sleep until it is
    /// woken by `sleeper`, and asks again then.
    pub fn is_called(&mut self, sleeper: S) -> bool {
        let is_called = matches!(self, Self::Called);
        match is_called {
            true => *self = Self::About,
            false => self.sleep(sleeper),
        }
        is_called
    }

    /// Lets the thread sleep until it is woken by `sleeper`, as a call that it has
    /// seen does not count.
    pub fn sleep(&mut self, sleeper: S) {
        *self = Self::Asleep(sleeper);
    }

    /// Calls the thread, and returns what it has to be woken by.
    pub fn call(&mut self) -> Option<S> {
        match mem::replace(self, Self::Called) {
            Self::Asleep(sleeper) => Some(sleeper),
            Self::About | Self::Called => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_is_called_before_it_parks_does_not_sleep() {
        let mut parking = Parking::default();
        assert_eq!(parking.call(), None);
        assert!(parking.is_called("first"));
        assert!(!parking.is_called("second"));
    }

    #[test]
    fn who_sleeps_is_woken_by_what_it_left_last() {
        let mut parking = Parking::default();
        assert!(!parking.is_called("first"));
        assert!(!parking.is_called("second"));
        assert_eq!(parking.call(), Some("second"));
        assert!(parking.is_called("third"));
        parking.sleep("second");
        assert_eq!(parking.call(), Some("second"));
        assert_eq!(parking.call(), None);
        assert!(parking.is_called("third"));
    }

    #[test]
    fn what_woke_it_once_is_gone() {
        let mut parking = Parking::default();
        assert!(!parking.is_called("first"));
        assert_eq!(parking.call(), Some("first"));
        assert!(parking.is_called("first"));
        // It runs, and is called again before it parks.
        assert_eq!(parking.call(), None);
        assert!(parking.is_called("second"));
    }

    proptest! {
        #[test]
        fn nobody_sleeps_on_who_was_called(steps: Vec<bool>) {
            let mut parking = Parking::default();
            let mut sleeps_by = None;
            let mut calls = false;
            for (number, is_call) in steps.into_iter().enumerate() {
                if is_call {
                    calls = true;
                    // A wake counts only if it is by what the thread sleeps by.
                    sleeps_by = match parking.call() {
                        Some(woken) if sleeps_by == Some(woken) => None,
                        _ => sleeps_by,
                    };
                } else if sleeps_by.is_none() {
                    match parking.is_called(number) {
                        true => prop_assert!(core::mem::take(&mut calls)),
                        false => sleeps_by = Some(number),
                    }
                }
                prop_assert!(!(calls && sleeps_by.is_some()));
            }
        }
    }
}
