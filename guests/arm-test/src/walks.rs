// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Translation tables where there is no memory.
//!
//! A map of our own names tables of the second and third level that are nowhere:
//! what is translated by them meets a bus error at that level.
//!
//! Spec: Arm Architecture Reference Manual, ESR_EL1, "synchronous External abort
//! on translation table walk".

use rt::arch::entry::MAPPED_GIB;
use rt::arch::trap::NOTHING_HERE;
use rt::machine::Failure;
use rt::say;

use crate::execute::{Registers, execute, word};
use crate::fetches::{Table, change_map, map};
use rt::check::{Checked, same};

const IS_TABLE: u64 = 3;
const ENTRIES: usize = 512;
/// What is translated by a table of the second level that is nowhere.
const SECOND: u64 = (MAPPED_GIB as u64 - 1) << 30;
/// What is translated by one of the third level.
const THIRD: u64 = (MAPPED_GIB as u64 - 2) << 30;
const EC_FETCH_ABORT: usize = 0x21;
const EC_DATA_ABORT: usize = 0x25;
/// Its low bits are the level.
const EXTERNAL_ABORT_ON_WALK: usize = 0x14;
const STATUS: usize = 0x3f;

/// A descriptor of a table that is nowhere.
const NOWHERE: u64 = NOTHING_HERE as u64 | IS_TABLE;

#[repr(C, align(4096))]
struct Page([u64; ENTRIES]);

static SECOND_LEVEL: Page = Page([NOWHERE; ENTRIES]);

/// Runs the checks with such a map.
// Not inlined, as the map would stay on the stack for the other checks.
#[inline(never)]
pub fn run() -> Checked {
    let ours = map();
    let mut table = Table::at(ours);
    let [.., third_gib, second_gib] = &mut table.0;
    *second_gib = NOWHERE;
    *third_gib = (&raw const SECOND_LEVEL.0).addr() as u64 | IS_TABLE;
    change_map((&raw const table).addr() as u64);
    let checked = walks();
    change_map(ours);
    checked
}

fn walks() -> Checked {
    for (address, level) in [(SECOND, 2), (THIRD, 3)] {
        let status = EXTERNAL_ABORT_ON_WALK + level;
        let forms = [
            (
                "a read through no table",
                word!("ldr x1, [x0]"),
                EC_DATA_ABORT,
            ),
            (
                "a write through no table",
                word!("str x1, [x0]"),
                EC_DATA_ABORT,
            ),
            (
                "a pair through no table",
                word!("ldp x1, x2, [x0]"),
                EC_DATA_ABORT,
            ),
            ("a fetch through no table", word!("br x0"), EC_FETCH_ABORT),
        ];
        for (what, word, class) in forms {
            let mut registers = Registers::default();
            registers.x[0] = address + 0x18;
            let fault = execute(word, &mut registers).ok_or(Failure(what))?;
            same(what, fault.code >> 26, class)?;
            same(what, fault.code & STATUS, status)?;
            same(what, fault.address as u64, address + 0x18)?;
        }
    }
    say!("walks passed");
    Ok(())
}
