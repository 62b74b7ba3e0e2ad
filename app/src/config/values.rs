// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! From TOML values to Rust ones.
//!
//! Called by `read`, one function for each type that a key can have. The error
//! is the cause in words; the reader adds the place and the remedy.

use alloc::{format, string::String, vec::Vec};

use toml::de::{DeInteger, DeValue};

use super::written::PCpuNumbers;

/// A value, or why it is none.
pub type Value<T> = Result<T, String>;

/// How many CPU numbers one list may have.
const PCPUS_LEN_MAX: usize = 64;

/// The units of a memory size, and what they multiply by.
const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Takes a string.
pub fn string(value: &DeValue<'_>) -> Value<String> {
    match value.as_str() {
        Some(text) => Ok(String::from(text)),
        None => Err(wrong_type("a string", value)),
    }
}

/// Takes `true` or `false`.
pub fn boolean(value: &DeValue<'_>) -> Value<bool> {
    value
        .as_bool()
        .ok_or_else(|| wrong_type("true or false", value))
}

/// Takes an integer that is not negative.
pub fn number(value: &DeValue<'_>) -> Value<u64> {
    match value {
        DeValue::Integer(integer) => unsigned(integer),
        _ => Err(wrong_type("an integer", value)),
    }
}

/// Takes a size in bytes, or a string with a unit.
pub fn memory(value: &DeValue<'_>) -> Value<u64> {
    match value {
        DeValue::Integer(integer) => unsigned(integer),
        DeValue::String(text) => size(text),
        _ => Err(wrong_type("a string with a unit", value)),
    }
}

/// Takes an address, as an integer or a string of hexadecimal digits.
pub fn address(value: &DeValue<'_>) -> Value<u64> {
    match value {
        DeValue::Integer(integer) => unsigned(integer),
        DeValue::String(text) => hexadecimal(text),
        _ => Err(wrong_type("an address", value)),
    }
}

/// Takes a list of CPU numbers, or a list of such lists.
pub fn pcpus(value: &DeValue<'_>) -> Value<PCpuNumbers> {
    let list = value
        .as_array()
        .ok_or_else(|| wrong_type("a list of CPU numbers", value))?;
    if list
        .iter()
        .next()
        .is_some_and(|first| first.get_ref().is_array())
    {
        let lists = list.iter().take(PCPUS_LEN_MAX.saturating_add(1));
        let lists: Value<Vec<_>> = lists.map(|one| numbers(one.get_ref())).collect();
        return lists.map(PCpuNumbers::Each);
    }
    numbers(value).map(PCpuNumbers::Shared)
}

fn numbers(value: &DeValue<'_>) -> Value<Vec<u64>> {
    let list = value
        .as_array()
        .ok_or_else(|| wrong_type("a list of CPU numbers", value))?;
    if list.is_empty() {
        return Err(String::from("a list of no CPU leaves nothing to run on"));
    }
    if list.len() > PCPUS_LEN_MAX {
        return Err(format!("a list may have at most {PCPUS_LEN_MAX} CPUs"));
    }
    list.iter().map(|cpu| number(cpu.get_ref())).collect()
}

fn unsigned(integer: &DeInteger<'_>) -> Value<u64> {
    if integer.as_str().starts_with('-') {
        return Err(String::from("it cannot be negative"));
    }
    u64::from_str_radix(integer.as_str(), integer.radix())
        .map_err(|_| String::from("it does not fit into 64 bits"))
}

fn size(text: &str) -> Value<u64> {
    let split = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (digits, factor) =
        split.ok_or_else(|| String::from("a size as a string ends in KiB, MiB or GiB"))?;
    let digits = digits.strip_suffix(' ').unwrap_or(digits);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(String::from("a size is a whole number and its unit"));
    }
    let count: Option<u64> = digits.parse().ok();
    count
        .and_then(|count| count.checked_mul(factor))
        .ok_or_else(|| String::from("the size does not fit into 64 bits"))
}

fn hexadecimal(text: &str) -> Value<u64> {
    let digits: String = text
        .strip_prefix("0x")
        .ok_or_else(|| String::from("an address as a string begins with 0x"))?
        .chars()
        .filter(|c| *c != '_')
        .collect();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(String::from("an address has hexadecimal digits after 0x"));
    }
    u64::from_str_radix(&digits, 16).map_err(|_| String::from("it does not fit into 64 bits"))
}

fn wrong_type(wanted: &str, value: &DeValue<'_>) -> String {
    let article = if value.is_integer() || value.is_array() {
        "an"
    } else {
        "a"
    };
    format!("{wanted} is wanted, this is {article} {}", value.type_str())
}
