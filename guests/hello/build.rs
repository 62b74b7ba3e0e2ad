// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Chooses the linker script of the bare target; does nothing for hosts.
//!
//! Called by Cargo before the guest is compiled. Everything the link needs is
//! said here, so that no flags have to come from the environment.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let root = env::var("CARGO_MANIFEST_DIR").expect("Cargo always sets it");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("Cargo always sets it");
    let script = Path::new(&root).join("src/arch").join(arch).join("link.ld");
    println!("cargo:rerun-if-changed={}", script.display());
    for argument in ["-no-pie", "--build-id=none", "-znorelro"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-T{}", script.display());
}
