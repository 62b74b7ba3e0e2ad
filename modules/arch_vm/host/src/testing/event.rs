// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A place to wait, over a mutex and a condition variable.
//!
//! As on the real host, a vCPU's thread that waits is switched out, and the
//! condition is looked at with the queue's lock held and the thread held on its
//! CPU.
#![allow(
    clippy::expect_used,
    reason = "test support: a poisoned lock must stop the test"
)]

use std::{
    sync::{Condvar, Mutex},
    time::Duration,
};

use axvm::HostEvent;

use super::{host::now_ns, thread};

/// A place to wait.
#[derive(Default)]
pub struct StdEvent {
    queue: Mutex<()>,
    bell: Condvar,
}

impl HostEvent for StdEvent {
    fn wait_until(&self, deadline_ns: Option<u64>, ready: &dyn Fn() -> bool) {
        thread::switched_out(|| {
            let mut queue = self.queue.lock().expect("no waiter panics");
            while !thread::held(ready) {
                queue = match deadline_ns {
                    None => self.bell.wait(queue).expect("no waiter panics"),
                    Some(deadline_ns) => {
                        let left = deadline_ns.saturating_sub(now_ns());
                        if left == 0 {
                            return;
                        }
                        let left = Duration::from_nanos(left);
                        self.bell
                            .wait_timeout(queue, left)
                            .expect("no waiter panics")
                            .0
                    }
                };
            }
        });
    }

    fn wake(&self) {
        let _queue = self.queue.lock().expect("no waiter panics");
        self.bell.notify_all();
    }
}
