// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The books of a test's host: what was given out, what was refused, what was
//! done wrong.
//!
//! Wrongs are written down instead of panicking, since they happen on threads
//! whose panic nobody would see; [`StdHost::check`](super::StdHost::check)
//! reads them.
#![allow(clippy::arithmetic_side_effects, reason = "test support")]

/// What a host gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Frames for tables and vCPUs.
    Frames,
    /// Guest RAM.
    Ram,
    /// Threads.
    Threads,
    /// What the host has for itself; nobody counts it.
    Own,
}

/// The books of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// 4 KiB frames that are out.
    pub frames: usize,
    /// Blocks of 2 MiB for guests that are out.
    pub ram_blocks: usize,
    /// Threads that have not ended.
    pub threads: usize,
    /// Everything that was ever asked for.
    pub requests: u64,
    /// Kicks sent.
    pub kicks: u64,
    /// Moves of a thread away from its CPU and back to one.
    pub switches: u64,
    /// What was done wrong: a double free, a write after free.
    pub wrongs: Vec<String>,
    pub(super) failing: Option<Failing>,
}

/// A failure that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failing {
    pub(super) only: Option<Resource>,
    pub(super) after: u64,
}

impl Books {
    /// Notes a request, and tells whether it is the one that shall fail.
    pub(super) fn refuses(&mut self, resource: Resource) -> bool {
        self.requests += 1;
        let Some(failing) = &mut self.failing else {
            return false;
        };
        if failing.only.is_some_and(|only| only != resource) {
            return false;
        }
        if failing.after > 0 {
            failing.after -= 1;
            return false;
        }
        self.failing = None;
        true
    }

    /// Tells whether everything has come back.
    pub fn is_balanced(&self) -> bool {
        (self.frames, self.ram_blocks, self.threads) == (0, 0, 0)
    }
}
