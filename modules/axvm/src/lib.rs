// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Placeholder until the first module lands.
#![no_std]
