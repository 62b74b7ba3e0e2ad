// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Whole lines on the machine's UART, one CPU at a time.
//!
//! `say!` is called by every CPU in ordinary code; interrupt handlers never
//! print, so the lock cannot be held by the code they interrupted. A fault
//! may interrupt a line: after a bounded number of tries the lock is ignored,
//! since a mangled report is better than none.

use core::fmt::{Arguments, Write};
use spin::Mutex;

use crate::arch;

static LINE: Mutex<()> = Mutex::new(());
const LOCK_TRIES: u32 = 50_000_000;

/// Prints one line that starts with the guest's name.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => {
        $crate::console::line(format_args!($($part)*))
    };
}

/// Prints `text` as one line, prefixed; `say!` is the way to call it.
pub fn line(text: Arguments) {
    bare_line(format_args!("{}: {text}", crate::guest().name));
}

/// Prints `text` as one line, as it is.
pub fn bare_line(text: Arguments) {
    let _guard = lock();
    // The writer below never fails.
    let _ = write!(Uart, "{text}\r\n");
}

fn lock() -> Option<spin::MutexGuard<'static, ()>> {
    (0..LOCK_TRIES).find_map(|_| {
        core::hint::spin_loop();
        LINE.try_lock()
    })
}

struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().for_each(arch::console::put);
        Ok(())
    }
}
