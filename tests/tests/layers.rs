// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The layers: who may depend on whom, as cargo sees it.
//!
//! `app → arch_vm/* → axvm → axdevice`; only `app` and `platform` may name the
//! ArceOS runtime; `axvm` and `axdevice` do not know the architecture.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The ArceOS runtime: whatever needs it cannot be tested on the host.
const RUNTIME: [&str; 14] = [
    "arceos_api",
    "axalloc",
    "axconfig",
    "axcpu",
    "axhal",
    "axipi",
    "axlog",
    "axmm",
    "axplat",
    "axruntime",
    "axstd",
    "axsync",
    "axtask",
    "percpu",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns each package of the workspace with all it depends on.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_string();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let needs = package["dependencies"].as_array().unwrap();
            let real = needs.iter().filter(|need| need["kind"] != "dev");
            (name(package), real.map(name).collect())
        })
        .collect()
}

/// Returns how deep a package of ours lies; a package may use deeper ones only.
fn depth(package: &str) -> Option<u32> {
    match package {
        "axhive" => Some(0),
        name if name.starts_with("arch_vm_") => Some(1),
        "axvm" => Some(2),
        "axdevice" | "bundle" | "platform" => Some(3),
        _ => None,
    }
}

#[test]
fn dependencies_point_one_way() {
    for (package, needs) in dependencies() {
        let Some(own) = depth(&package) else { continue };
        for need in needs {
            if let Some(other) = depth(&need) {
                assert!(other > own, "{package} may not depend on {need}");
            }
        }
    }
}

#[test]
fn only_the_application_and_the_platform_name_the_runtime() {
    for (package, needs) in dependencies() {
        if matches!(package.as_str(), "axhive" | "platform") {
            continue;
        }
        let named: Vec<_> = needs
            .iter()
            .filter(|n| RUNTIME.contains(&n.as_str()))
            .collect();
        assert!(named.is_empty(), "{package} depends on {named:?}");
    }
}

#[test]
fn every_architecture_is_an_optional_dependency_of_the_application() {
    let all = dependencies();
    let app = &all["axhive"];
    for package in all.keys().filter(|name| name.starts_with("arch_vm_")) {
        assert!(app.contains(package), "app/Cargo.toml lacks {package}");
    }
}

#[test]
fn the_common_crates_do_not_know_the_architecture() {
    for folder in ["modules/axvm", "modules/axdevice", "app/src"] {
        for file in sources(&root().join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            assert!(
                !text.contains("target_arch"),
                "{} asks for the architecture",
                file.display()
            );
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "rs" || end == "toml")
        })
        .collect()
}
