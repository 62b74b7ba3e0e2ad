// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The build script of every guest: chooses the linker script of the bare target.
//!
//! Called by Cargo before a guest is compiled; does nothing for hosts.
//! Everything the link needs is said here, so that no flags have to come from
//! the environment. Guests are siblings of this folder.

use std::env;
use std::path::Path;

fn main() {
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        println!("cargo:rerun-if-changed=build.rs");
        return;
    }
    let root = env::var("CARGO_MANIFEST_DIR").expect("Cargo always sets it");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("Cargo always sets it");
    let folder = Path::new(&root).join("../rt/src/arch").join(arch);
    let script = folder.join("link.ld");
    println!("cargo:rerun-if-changed={}", script.display());
    for argument in ["-no-pie", "--build-id=none", "-znorelro"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-T{}", script.display());
}
