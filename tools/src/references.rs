// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Which files a VM file refers to.
//!
//! Called while packing. The only knowledge of VM files in the tools: the keys
//! that name a file. Keys that are unknown, missing or of the wrong type are
//! passed over, because the hypervisor checks them and reports them with
//! their line. Any text gives references or a syntax error, never a panic.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The keys of `[boot]` that name a file.
const BOOT_KEYS: [&str; 3] = ["kernel", "initrd", "dtb"];
/// The key of each `[[device]]` that names a file.
const DEVICE_KEY: &str = "image";

/// A file that a VM file refers to.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    /// The path exactly as written, TOML escapes resolved.
    pub path: String,
    /// The line it is on, counted from 1.
    pub line: usize,
}

/// Why a text is not TOML.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// What the parser says.
    pub message: String,
    /// The line it is about, counted from 1.
    pub line: usize,
}

/// Returns the files that the VM file `text` refers to, each path once.
pub fn find(text: &str) -> Result<Vec<Reference>, SyntaxError> {
    let document = DeTable::parse(text).map_err(|error| SyntaxError {
        message: error.message().to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
    })?;
    let mut found: Vec<Reference> = Vec::new();
    for value in boot_values(document.get_ref()).chain(device_values(document.get_ref())) {
        let Some(path) = value.get_ref().as_str().filter(|path| !path.is_empty()) else {
            continue;
        };
        if found.iter().all(|known| known.path != path) {
            let line = line_of(text, value.span().start);
            found.push(Reference {
                path: path.to_owned(),
                line,
            });
        }
    }
    Ok(found)
}

type Value<'t> = Spanned<DeValue<'t>>;

fn boot_values<'d, 't>(document: &'d DeTable<'t>) -> impl Iterator<Item = &'d Value<'t>> {
    let boot = document
        .get("boot")
        .and_then(|boot| boot.get_ref().as_table());
    boot.into_iter()
        .flat_map(|boot| BOOT_KEYS.iter().filter_map(|key| boot.get(*key)))
}

fn device_values<'d, 't>(document: &'d DeTable<'t>) -> impl Iterator<Item = &'d Value<'t>> {
    let devices = document
        .get("device")
        .and_then(|devices| devices.get_ref().as_array());
    devices
        .into_iter()
        .flat_map(|devices| devices.iter())
        .filter_map(|device| device.get_ref().as_table()?.get(DEVICE_KEY))
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    before.filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<(String, usize)> {
        let references = find(text).unwrap();
        references
            .into_iter()
            .map(|reference| (reference.path, reference.line))
            .collect()
    }

    #[test]
    fn the_keys_that_name_files_are_found_with_their_lines() {
        let text = "[vm]\nname = 'x'\n[boot]\nkernel = \"Image\"\ninitrd = 'i.gz'\n\
                    dtb = '/d'\ncmdline = 'no'\n[[device]]\nkind = 'virtio-blk'\n\
                    image = '../a b'\n[[device]]\nimage = '\u{fc}'\n";
        let expected = [
            ("Image", 4),
            ("i.gz", 5),
            ("/d", 6),
            ("../a b", 10),
            ("\u{fc}", 12),
        ];
        assert_eq!(
            found(text),
            expected.map(|(path, line)| (path.to_owned(), line))
        );
    }

    #[test]
    fn inline_tables_and_dotted_keys_are_found_too() {
        assert_eq!(found("boot.kernel = 'k'"), [("k".to_owned(), 1)]);
        assert_eq!(found("\ndevice = [{ image = 'd' }]"), [("d".to_owned(), 2)]);
    }

    #[test]
    fn a_path_given_twice_is_found_once() {
        assert_eq!(
            found("[boot]\nkernel = 'k'\ninitrd = 'k'"),
            [("k".to_owned(), 2)]
        );
    }

    #[test]
    fn what_is_not_a_path_is_left_to_the_hypervisor() {
        for text in [
            "boot = 1",
            "[boot]\nkernel = 1",
            "device = 1",
            "device = [1, {}]",
            "kernel = 'k'",
        ] {
            assert_eq!(found(text), []);
        }
        assert_eq!(found("[boot]\nkernel = ''"), []);
    }

    #[test]
    fn a_syntax_error_has_its_line() {
        assert_eq!(find("[vm]\n[boot\n").unwrap_err().line, 2);
        assert_eq!(find("[vm]\n\nname = 'x\n").unwrap_err().line, 3);
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
        for open in ["[", "{a="] {
            assert!(find(&format!("x = {}", open.repeat(20_000))).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_search_panic(text in "\\PC*") {
            let _ = find(&text);
        }

        #[test]
        fn no_toml_like_text_makes_the_search_panic(text in "([\\[\\]{}=.,'\"\n# ]|boot|kernel|device|image|1)*") {
            let _ = find(&text);
        }
    }
}
