// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Links the architecture whose feature is selected, under the name `arch`, and
//! finds the bundle that is embedded.
//!
//! The architectures are the folders of modules/arch_vm, so a new one needs no
//! change here. None or two selected is an error that says what to do. The
//! bundle is the file that AXHIVE_BUNDLE names; without it, none is embedded.

use std::{env, fs, path::Path};

fn main() {
    let folders = Path::new("../modules/arch_vm");
    println!("cargo:rerun-if-changed={}", folders.display());
    let known = architectures(folders);
    let selected: Vec<_> = known.iter().filter(|name| is_selected(name)).collect();
    let code = match selected[..] {
        [name] => format!("pub use ::{name} as arch;\n"),
        _ => format!("compile_error!({:?});\n", complaint(&known, &selected)),
    };
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("arch.rs"), code).expect("OUT_DIR is writable");
    embed_bundle(Path::new(&out));
}

/// Copies the bundle to where `boot.rs` includes it.
fn embed_bundle(out: &Path) {
    println!("cargo:rerun-if-env-changed=AXHIVE_BUNDLE");
    let bytes = match env::var_os("AXHIVE_BUNDLE") {
        None => Vec::new(),
        Some(path) => {
            println!("cargo:rerun-if-changed={}", path.display());
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        }
    };
    fs::write(out.join("default.bundle"), bytes).expect("OUT_DIR is writable");
}

fn architectures(folders: &Path) -> Vec<String> {
    let entries = fs::read_dir(folders).expect("modules/arch_vm exists");
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn is_selected(name: &str) -> bool {
    let feature = name.to_uppercase().replace('-', "_");
    env::var_os(format!("CARGO_FEATURE_{feature}")).is_some()
}

fn complaint(known: &[String], selected: &[&String]) -> String {
    let have = match selected {
        [] => "none is selected".to_string(),
        several => format!("{several:?} are selected together"),
    };
    format!(
        "select exactly one of: {} ({have}); e.g. `make A=app ARCH=riscv64 build`, or \
         `cargo test -p axhive --features host`",
        known.join(", ")
    )
}
