// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! An alarm, over a thread for each ring.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axdevice::{Alarm, AlarmListener};

use super::host::now_ns;

const NEVER: u64 = u64::MAX;

/// An alarm.
pub struct StdAlarm(Arc<Bell>);

struct Bell {
    at_ns: AtomicU64,
    listener: Arc<dyn AlarmListener>,
}

impl StdAlarm {
    pub(super) fn new(listener: Arc<dyn AlarmListener>) -> Self {
        Self(Arc::new(Bell {
            at_ns: AtomicU64::new(NEVER),
            listener,
        }))
    }
}

impl Alarm for StdAlarm {
    fn ring_by(&self, at_ns: u64) {
        if self.0.at_ns.fetch_min(at_ns, Ordering::SeqCst) <= at_ns {
            return;
        }
        let bell = Arc::downgrade(&self.0);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_nanos(at_ns.saturating_sub(now_ns())));
            // The machine may be gone, or an earlier ring has done it all.
            if let Some(bell) = bell.upgrade()
                && bell.at_ns.load(Ordering::SeqCst) <= now_ns()
            {
                bell.at_ns.store(NEVER, Ordering::SeqCst);
                bell.listener.alarm_rings();
            }
        });
    }
}
