// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! From a VM file's text to what is written there.
//!
//! The only place that knows TOML. Every key is taken by its name or refused
//! with the nearest known one; values of the wrong type are refused with an
//! example. All problems of a file are found in one reading.
//!
//! Spec: TOML 1.1.

use alloc::{format, string::String, vec::Vec};
use core::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_parser::{Source, lexer::TokenKind};

use super::keys::{self, Key, Table};
use super::problem::{Place, Problems, SHOWN_CHARS_MAX};
use super::values::{self, Value};
use super::written::{
    AxVMCrateConfig, BootTable, DeviceTable, Entry, PolicyTable, VmTable, Written,
};
use crate::text::nearest;

/// The largest file that is read.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// How deep brackets and dotted keys may be nested.
///
/// A VM file needs two. The parser calls itself for each, and the thread that
/// boots has a small stack.
const NESTING_MAX: usize = 3;
/// How many devices one VM may have.
pub const DEVICES_MAX: usize = 32;

/// Reads a file's text, unless it is no TOML; what is wrong is added to `problems`.
pub fn read(text: &str, problems: &mut Problems<'_>) -> Option<AxVMCrateConfig> {
    if text.len() > TEXT_BYTES_MAX {
        let cause = format!(
            "it has {} bytes, a VM file at most {TEXT_BYTES_MAX}",
            text.len()
        );
        problems.add(&line_place(1), &cause, "shorten it");
        return None;
    }
    if let Some(offset) = nested_too_deep(text) {
        let cause = format!("this is nested deeper than {NESTING_MAX}");
        let remedy = "a VM file needs at most a list of lists: remove the others";
        problems.add(&line_place(line_of(text, offset)), &cause, remedy);
        return None;
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Some(Reader { text, problems }.document(document.get_ref()));
    }
    for error in &errors {
        let offset = error.span().map_or(0, |span| span.start);
        let cause = format!("this is not TOML: {}", error.message());
        let remedy = "write lines like name = \"linux\" under headers like [vm]";
        problems.add(&line_place(line_of(text, offset)), &cause, remedy);
    }
    None
}

/// Returns where a text is nested deeper than any VM file is.
fn nested_too_deep(text: &str) -> Option<usize> {
    let mut brackets: usize = 0;
    let mut dots: usize = 0;
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                brackets = brackets.saturating_add(1);
                dots = 0;
            }
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                brackets = brackets.saturating_sub(1);
            }
            TokenKind::Dot => dots = dots.saturating_add(1),
            TokenKind::Equals | TokenKind::Comma | TokenKind::Newline => dots = 0,
            _ => {}
        }
        if brackets.max(dots) > NESTING_MAX {
            return Some(token.span().start());
        }
    }
    None
}

struct Reader<'r, 'f, 't> {
    text: &'t str,
    problems: &'r mut Problems<'f>,
}

/// A table of the file with its place.
struct Section<'d, 't> {
    table: Option<&'d DeTable<'t>>,
    place: Place,
}

impl<'t> Reader<'_, '_, 't> {
    fn document(&mut self, document: &DeTable<'t>) -> AxVMCrateConfig {
        for (name, value) in document {
            if keys::TABLES
                .iter()
                .all(|table| table.name != name.get_ref())
            {
                self.refuse_outer(name, value);
            }
        }
        AxVMCrateConfig {
            vm: self.vm(document),
            boot: self.boot(document),
            devices: self.devices(document),
            policy: self.policy(document),
        }
    }

    fn vm(&mut self, document: &DeTable<'t>) -> VmTable {
        let section = self.section(document, &keys::VM);
        VmTable {
            name: self.take(&section, keys::NAME, values::string),
            cpus: self.take(&section, keys::CPUS, values::number),
            memory: self.take(&section, keys::MEMORY, values::memory),
            pcpus: self.take(&section, keys::PCPUS, values::pcpus),
            intc: self.take(&section, keys::INTC, values::string),
            place: section.place,
        }
    }

    fn boot(&mut self, document: &DeTable<'t>) -> BootTable {
        let section = self.section(document, &keys::BOOT);
        BootTable {
            kernel: self.take(&section, keys::KERNEL, values::string),
            initrd: self.take(&section, keys::INITRD, values::string),
            dtb: self.take(&section, keys::DTB, values::string),
            cmdline: self.take(&section, keys::CMDLINE, values::string),
            load: self.take(&section, keys::LOAD, values::address),
            entry: self.take(&section, keys::ENTRY, values::address),
            place: section.place,
        }
    }

    fn policy(&mut self, document: &DeTable<'t>) -> PolicyTable {
        let section = self.section(document, &keys::POLICY);
        PolicyTable {
            autostart: self.take(&section, keys::AUTOSTART, values::boolean),
            on_crash: self.take(&section, keys::ON_CRASH, values::string),
            place: section.place,
        }
    }

    fn devices(&mut self, document: &DeTable<'t>) -> Vec<DeviceTable> {
        let Some((name, value)) = document.get_key_value(keys::DEVICE.name) else {
            return Vec::new();
        };
        let Some(list) = value.get_ref().as_array() else {
            self.refuse_shape(&keys::DEVICE, name, value);
            return Vec::new();
        };
        if let Some(extra) = list.get(DEVICES_MAX) {
            let cause = format!("a VM has at most {DEVICES_MAX} devices");
            let place = self.header_place(&keys::DEVICE, extra.span());
            self.problems
                .add(&place, &cause, "remove this one and those after it");
        }
        list.iter()
            .take(DEVICES_MAX)
            .map(|value| self.device(value))
            .collect()
    }

    fn device(&mut self, value: &Spanned<DeValue<'t>>) -> DeviceTable {
        let section = Section {
            table: value.get_ref().as_table(),
            place: self.header_place(&keys::DEVICE, value.span()),
        };
        if section.table.is_none() {
            let cause = "each device is a table";
            self.problems
                .add(&section.place, cause, "write [[device]] and its keys");
        }
        self.refuse_unknown(&section, &keys::DEVICE);
        DeviceTable {
            kind: self.take(&section, keys::KIND, values::string),
            image: self.take(&section, keys::IMAGE, values::string),
            place: section.place,
        }
    }

    /// Opens a table that the file may have once.
    fn section<'d>(&mut self, document: &'d DeTable<'t>, known: &Table) -> Section<'d, 't> {
        let Some((name, value)) = document.get_key_value(known.name) else {
            let shown = String::from(known.header);
            return Section {
                table: None,
                place: Place { line: 1, shown },
            };
        };
        let section = Section {
            table: value.get_ref().as_table(),
            place: self.header_place(known, name.span()),
        };
        match section.table {
            Some(_) => self.refuse_unknown(&section, known),
            None => self.refuse_shape(known, name, value),
        }
        section
    }

    /// Takes a key's value, if it is there and has the right type.
    fn take<T>(
        &mut self,
        section: &Section<'_, 't>,
        key: Key,
        parse: fn(&DeValue<'_>) -> Value<T>,
    ) -> Entry<T> {
        let Some(value) = section.table.and_then(|table| table.get(key.name)) else {
            return Entry::Absent;
        };
        let place = self.value_place(key.name, value.span());
        match parse(value.get_ref()) {
            Ok(value) => Entry::Is(Written { value, place }),
            Err(cause) => {
                let remedy = format!("write for example {}", key.example);
                self.problems.add(&place, &cause, &remedy);
                Entry::Refused
            }
        }
    }

    fn refuse_unknown(&mut self, section: &Section<'_, 't>, known: &Table) {
        for (name, value) in section.table.into_iter().flatten() {
            let word: &str = name.get_ref();
            if known.keys.iter().all(|key| key.name != word) {
                let place = self.value_place(word, value.span());
                let cause = format!("{} has no such key", known.header);
                self.problems.add(&place, &cause, &key_remedy(word, known));
            }
        }
    }

    /// Refuses what stands outside the known tables.
    fn refuse_outer(&mut self, name: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'t>>) {
        let word = name.get_ref().as_ref();
        let place = self.outer_place(name, value);
        let home = keys::TABLES
            .iter()
            .find(|table| table.keys.iter().any(|key| key.name == word));
        let remedy = match (home, nearest(word, keys::TABLES.map(|table| table.name))) {
            (Some(home), _) => format!("write it under {}", home.header),
            (None, Some(table)) => format!("did you mean {}?", header_of(table)),
            (None, None) => format!("the tables are {}", list(keys::TABLES.map(|t| t.header))),
        };
        self.problems
            .add(&place, "a VM file has no such table or key", &remedy);
    }

    /// Refuses a known table that is written as something else.
    fn refuse_shape(
        &mut self,
        known: &Table,
        name: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'t>>,
    ) {
        let place = self.outer_place(name, value);
        let remedy = "write it on a line of its own, and its keys below";
        let cause = format!("{} is wanted here", known.header);
        self.problems.add(&place, &cause, remedy);
    }

    fn outer_place(&self, name: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'t>>) -> Place {
        let shown = first_line(self.text, name.span().start..name.span().end);
        match value.get_ref() {
            DeValue::Table(_) => Place {
                line: line_of(self.text, name.span().start),
                shown: format!("[{shown}]"),
            },
            _ => self.value_place(name.get_ref().as_ref(), value.span()),
        }
    }

    fn header_place(&self, known: &Table, span: Range<usize>) -> Place {
        Place {
            line: line_of(self.text, span.start),
            shown: String::from(known.header),
        }
    }

    fn value_place(&self, name: &str, span: Range<usize>) -> Place {
        Place {
            line: line_of(self.text, span.start),
            shown: format!("{name} = {}", first_line(self.text, span)),
        }
    }
}

fn key_remedy(word: &str, known: &Table) -> String {
    if let Some(key) = nearest(word, known.keys.iter().map(|key| key.name)) {
        return format!("did you mean {key}?");
    }
    let home = keys::TABLES
        .iter()
        .find(|table| table.keys.iter().any(|key| key.name == word));
    match home {
        Some(home) => format!("write it under {}", home.header),
        None => format!(
            "its keys are {}",
            list(known.keys.iter().map(|key| key.name))
        ),
    }
}

fn header_of(name: &str) -> &'static str {
    let table = keys::TABLES.iter().find(|table| table.name == name);
    table.map_or("[vm]", |table| table.header)
}

fn list<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    words.join(", ")
}

/// Returns what a value looks like in the file, its first line only.
fn first_line(text: &str, span: Range<usize>) -> String {
    let written = text.get(span).unwrap_or_default();
    let line = written.lines().next().unwrap_or_default();
    let cut = if line.len() < written.trim_end().len() {
        " ..."
    } else {
        ""
    };
    let shown: String = line.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{shown}{cut}")
}

fn line_place(line: usize) -> Place {
    Place {
        line,
        shown: String::new(),
    }
}

/// Returns the line that an offset lies on, never one after the last.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    let ends = before.filter(|byte| *byte == b'\n').count();
    ends.saturating_add(1).min(text.lines().count()).max(1)
}
