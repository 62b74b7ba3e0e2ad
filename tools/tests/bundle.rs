// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! `axhive-tools` as its users run it: in directories outside the repository.
//!
//! Each test makes a directory of its own, runs the program in it and looks at
//! what it printed, at its exit status and at the files it left.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle::{Bundle, FileError};
use tempfile::TempDir;

/// A directory with files, in which the program is run.
struct Place {
    directory: TempDir,
}

/// How a run ended.
struct Run {
    is_success: bool,
    out: String,
    err: String,
}

impl Run {
    /// Asserts that it failed with this one line.
    #[track_caller]
    fn assert_error(&self, line: &str) {
        assert_eq!(self.err, format!("{line}\n"));
        assert!(!self.is_success);
    }
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let place = Self {
            directory: TempDir::new().unwrap(),
        };
        files
            .iter()
            .for_each(|(path, text)| place.write(path, text.as_bytes()));
        place
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap()
    }

    fn run(&self, args: &[&str]) -> Run {
        let output = Command::new(env!("CARGO_BIN_EXE_axhive-tools"))
            .args(args)
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        Run {
            is_success: output.status.code() == Some(0),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Packs `vm_files` into the file `out` and returns it.
    #[track_caller]
    fn pack(&self, vm_files: &[&str]) -> Vec<u8> {
        let run = self.run(&[&["bundle", "-o", "out"], vm_files].concat());
        assert!(run.is_success, "{}", run.err);
        self.read("out")
    }
}

/// Returns the content of `path` as VM file number `vm` has it.
#[track_caller]
fn content<'a>(bundle: &Bundle<'a>, vm: usize, path: &str) -> &'a [u8] {
    let vm = bundle.vms().nth(vm).unwrap();
    bundle
        .file(&vm, path)
        .expect("the bundle has the path")
        .bytes()
        .unwrap()
}

const VM: &str = "[vm]\nname = 'x'\n[boot]\nkernel = 'Image'\n";

#[test]
fn a_vm_file_and_all_it_refers_to_is_packed() {
    let text = "[vm]\nname = 'x'\n[boot]\nkernel = 'k'\ninitrd = 'i'\ndtb = 'd'\n\
                [[device]]\nimage = 'one'\n[[device]]\nimage = 'two'\n[[device]]\nkind = 'rtc'\n";
    let files = ["k", "i", "d", "one", "two"];
    let place = Place::new(&[("vm.toml", text)]);
    files
        .iter()
        .for_each(|name| place.write(name, name.as_bytes()));
    let bytes = place.pack(&["vm.toml"]);
    let bundle = Bundle::parse(&bytes).unwrap();
    assert_eq!(bundle.vms().next().unwrap().text(), Ok(text));
    assert_eq!(
        bundle.files(&bundle.vms().next().unwrap()).len(),
        files.len()
    );
    files
        .iter()
        .for_each(|name| assert_eq!(content(&bundle, 0, name), name.as_bytes()));
}

#[test]
fn paths_are_relative_to_their_vm_file_wherever_it_is() {
    let place = Place::new(&[
        ("vms/a/vm.toml", "boot.kernel = '../../images/my kernel'"),
        ("vms/b/vm.toml", "boot.kernel = 'kérnel/Ünï 核'"),
        ("images/my kernel", "up"),
        ("vms/b/kérnel/Ünï 核", "utf-8"),
        ("elsewhere/Image", "absolute"),
    ]);
    let absolute = place.path("elsewhere/Image");
    let text = format!("boot.kernel = '{}'", absolute.display());
    place.write("vms/c d/vm.toml", text.as_bytes());
    let named = place.path("vms/c d/vm.toml");
    let bytes = place.pack(&["vms/b/vm.toml", "vms/a/vm.toml", named.to_str().unwrap()]);
    let bundle = Bundle::parse(&bytes).unwrap();
    let names: Vec<_> = bundle.vms().map(|vm| vm.name().to_owned()).collect();
    assert_eq!(
        names,
        ["vms/b/vm.toml", "vms/a/vm.toml", named.to_str().unwrap()]
    );
    assert_eq!(content(&bundle, 0, "kérnel/Ünï 核"), "utf-8".as_bytes());
    assert_eq!(content(&bundle, 1, "../../images/my kernel"), b"up");
    assert_eq!(content(&bundle, 2, absolute.to_str().unwrap()), b"absolute");
}

#[test]
fn a_file_that_several_vms_use_is_stored_once() {
    let place = Place::new(&[("a.toml", VM), ("sub/b.toml", "boot.kernel = '../Image'")]);
    place.write("Image", &[7; 100_000]);
    symlink("Image", place.path("link")).unwrap();
    place.write("c.toml", b"boot.kernel = 'link'");
    let bytes = place.pack(&["a.toml", "sub/b.toml", "c.toml"]);
    assert!(bytes.len() < 120_000, "{}", bytes.len());
    let bundle = Bundle::parse(&bytes).unwrap();
    assert_eq!(content(&bundle, 2, "link"), [7; 100_000]);
}

#[test]
fn a_missing_file_is_recorded_with_its_reason_and_does_not_stop_the_other_vms() {
    let place = Place::new(&[("bad.toml", VM), ("good/vm.toml", VM), ("good/Image", "k")]);
    let run = place.run(&["bundle", "-o", "out", "bad.toml", "good/vm.toml"]);
    assert!(run.is_success);
    let line = "warning: bad.toml:4: Image cannot be read: no such file; \
                its VM will not start until it is there and the bundle is made again\n";
    assert_eq!(run.err, line);
    assert_eq!(
        run.out,
        "out: VM files: 2; files: 1 packed, 1 missing; 8193 bytes\n"
    );
    let bytes = place.read("out");
    let bundle = Bundle::parse(&bytes).unwrap();
    let bad = bundle.vms().next().unwrap();
    let error = bundle.file(&bad, "Image").unwrap().bytes().unwrap_err();
    assert_eq!(
        error,
        FileError::Missing {
            reason: "no such file: Image"
        }
    );
    assert_eq!(content(&bundle, 1, "Image"), b"k");
}

#[test]
fn with_strict_a_missing_file_is_an_error_and_leaves_no_bundle() {
    let place = Place::new(&[("bad.toml", VM)]);
    place
        .run(&["bundle", "--strict", "-o", "out", "bad.toml"])
        .assert_error(
            "error: bad.toml:4: Image cannot be read: no such file; \
         its VM will not start until it is there and the bundle is made again",
        );
    assert!(!place.path("out").exists());
}

#[test]
fn directories_and_pipes_are_not_read() {
    let text = "[[device]]\nimage = 'dir'\n[[device]]\nimage = '/dev/zero'\n";
    let place = Place::new(&[("vm.toml", text), ("dir/x", "")]);
    let run = place.run(&["bundle", "-o", "out", "vm.toml"]);
    assert!(run.is_success);
    assert!(
        run.err
            .contains("vm.toml:2: dir cannot be read: it is a directory; ")
    );
    assert!(
        run.err
            .contains("vm.toml:4: /dev/zero cannot be read: it is not a regular file; ")
    );
}

#[test]
fn a_vm_file_that_is_no_toml_is_packed_for_the_hypervisor_to_report() {
    let place = Place::new(&[
        ("bad.toml", "[vm]\nname = \n"),
        ("vm.toml", VM),
        ("Image", "k"),
    ]);
    place.write("bytes.toml", b"[vm]\nname = '\xFF'\n");
    let run = place.run(&["bundle", "-o", "out", "bad.toml", "bytes.toml", "vm.toml"]);
    assert!(run.is_success, "{}", run.err);
    assert!(run.err.starts_with("warning: bad.toml:2: "), "{}", run.err);
    let line =
        "warning: bytes.toml:2: it is not UTF-8 text; its VM will not start until this is mended";
    assert!(run.err.contains(line), "{}", run.err);
    let bytes = place.read("out");
    let bundle = Bundle::parse(&bytes).unwrap();
    let texts: Vec<_> = bundle.vms().map(|vm| vm.text()).collect();
    assert_eq!(texts[0], Ok("[vm]\nname = \n"));
    assert_eq!(texts[1], Err(FileError::TextNotUtf8 { offset: 13 }));
    assert_eq!(content(&bundle, 2, "Image"), b"k");
    let strict = place.run(&["bundle", "--strict", "-o", "out2", "bad.toml"]);
    assert!(!strict.is_success && strict.err.starts_with("error: bad.toml:2: "));
}

#[test]
fn references_beyond_what_fits_are_left_out_and_the_rest_is_packed() {
    let long = "x".repeat(5000);
    let mut text = format!("boot.kernel = '{long}'\n");
    (0..65).for_each(|n| text.push_str(&format!("[[device]]\nimage = '{n}'\n")));
    let place = Place::new(&[("vm.toml", &text)]);
    (0..65).for_each(|n| place.write(&n.to_string(), b"d"));
    let run = place.run(&["bundle", "-o", "out", "vm.toml"]);
    assert!(run.is_success, "{}", run.err);
    assert!(
        run.err
            .contains("warning: vm.toml:1: a path of more than 4095 bytes; ")
    );
    assert!(
        run.err
            .contains("warning: vm.toml:131: more than 64 files; "),
        "{}",
        run.err
    );
    let bytes = place.read("out");
    assert_eq!(content(&Bundle::parse(&bytes).unwrap(), 0, "63"), b"d");
}

#[test]
fn control_characters_in_a_path_cannot_drive_the_terminal() {
    let place = Place::new(&[("vm.toml", "boot.kernel = \"\\u001b[2J\\u0000\\n\"")]);
    let run = place.run(&["bundle", "-o", "out", "vm.toml"]);
    assert!(run.is_success);
    assert!(
        run.err.starts_with("warning: vm.toml:1: \\u{1b}[2J"),
        "{}",
        run.err
    );
    let listed = place.run(&["list", "out"]);
    assert!(listed.out.contains("\\u{1b}[2J\\u{0}\\n"));
    assert!(!listed.out.contains('\x1b'));
}

#[test]
fn mistakes_on_the_command_line_are_errors_and_leave_no_bundle() {
    let place = Place::new(&[("vm.toml", VM), ("Image", "k"), ("dir/x", "")]);
    place.write("Image.big", &[b' '; 70_000]);
    symlink("vm.toml", place.path("link.toml")).unwrap();
    let error = |vm_files: &[&str], line: &str| {
        place
            .run(&[&["bundle", "-o", "out"], vm_files].concat())
            .assert_error(line);
        assert!(!place.path("out").exists());
    };
    let remedy = "name a file that exists and is readable";
    error(
        &["vm.toml", "gone.toml"],
        &format!("error: gone.toml: the VM file cannot be read: no such file; {remedy}"),
    );
    error(
        &["dir"],
        &format!("error: dir: the VM file cannot be read: it is a directory; {remedy}"),
    );
    error(
        &["vm.toml", "./vm.toml"],
        "error: ./vm.toml: it is the same VM file as vm.toml; name each VM file once, or copy it",
    );
    error(
        &["vm.toml", "link.toml"],
        "error: link.toml: it is the same VM file as vm.toml; name each VM file once, or copy it",
    );
    error(
        &["Image.big"],
        "error: Image.big: it has 70000 bytes, a VM file at most 65536; \
         name the VM file, not what it refers to",
    );
}

#[test]
fn the_bundle_never_replaces_what_it_is_made_of_or_what_is_no_file() {
    let place = Place::new(&[("vm.toml", VM), ("Image", "k"), ("dir/x", "")]);
    for input in ["vm.toml", "./Image"] {
        place.run(&["bundle", "-o", input, "vm.toml"]).assert_error(&format!(
            "error: {input}: it is one of the files to be packed; write the bundle to another file"
        ));
    }
    let remedy = "name a file in a writable directory";
    place
        .run(&["bundle", "-o", "dir", "vm.toml"])
        .assert_error(&format!(
            "error: dir: the bundle cannot be written: it is not a regular file; {remedy}"
        ));
    place
        .run(&["bundle", "-o", "no/out", "vm.toml"])
        .assert_error(&format!(
            "error: no/out: the bundle cannot be written: no such file; {remedy}"
        ));
    assert_eq!(place.read("Image"), b"k");
}

#[test]
fn a_bundle_is_replaced_whole_and_the_same_input_gives_the_same_bytes() {
    let place = Place::new(&[("vm.toml", VM), ("Image", "k")]);
    let first = place.pack(&["vm.toml"]);
    assert_eq!(place.pack(&["vm.toml"]), first);
    assert!(!place.path("out.partial").exists());
}

#[test]
fn list_prints_every_file_with_size_place_and_checksum() {
    let text = "boot.kernel = 'Image'\nboot.initrd = 'gone'\n";
    let place = Place::new(&[("vm.toml", text), ("Image", "kernel")]);
    place.pack(&["vm.toml"]);
    let run = place.run(&["list", "out"]);
    assert!(run.is_success && run.err.is_empty());
    let rows: Vec<Vec<&str>> = run
        .out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0], ["bundle", "version", "3,", "8198", "bytes"]);
    assert_eq!(rows[1], ["SIZE", "OFFSET", "CHECKSUM", "NAME"]);
    assert_eq!(
        [rows[2][0], rows[2][1], rows[2][3]],
        ["43", "0x1000", "vm.toml"]
    );
    assert_eq!(
        [rows[3][0], rows[3][1], rows[3][3]],
        ["6", "0x2000", "Image"]
    );
    assert_eq!(rows[4][0], "missing");
    assert!(run.out.ends_with("  gone (no such file: gone)\n"));
}

#[test]
fn check_accepts_a_sound_bundle_even_with_bytes_behind_it() {
    let place = Place::new(&[("vm.toml", VM), ("Image", "kernel")]);
    let mut bytes = place.pack(&["vm.toml"]);
    bytes.extend([0; 4096]);
    place.write("padded", &bytes);
    let run = place.run(&["check", "padded"]);
    assert!(run.is_success && run.err.is_empty());
    assert_eq!(run.out, "2 of 2 files are as they were packed\n");
}

#[test]
fn check_names_each_file_that_was_changed() {
    let place = Place::new(&[("vm.toml", VM), ("Image", "kernel")]);
    let mut bytes = place.pack(&["vm.toml"]);
    *bytes.last_mut().unwrap() ^= 1;
    place.write("bad", &bytes);
    let run = place.run(&["check", "bad"]);
    assert!(!run.is_success);
    assert!(
        run.err
            .starts_with("error: bad: Image of VM file vm.toml: its checksum is 0x")
    );
    assert!(
        run.err
            .ends_with(": the bundle is corrupt; make the bundle again\n")
    );
    assert_eq!(run.out, "1 of 2 files are as they were packed\n");
}

#[test]
fn every_command_refuses_a_broken_bundle_with_the_reason() {
    let place = Place::new(&[
        ("vm.toml", VM),
        ("Image", "kernel"),
        ("text", "not a bundle, but long enough for a header"),
    ]);
    let bytes = place.pack(&["vm.toml"]);
    place.write("long-text", &[b'x'; 100]);
    place.write("truncated", &bytes[..bytes.len() - 1]);
    place.write("short", &bytes[..40]);
    let changed = |name: &str, at: usize| {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        place.write(name, &changed);
    };
    changed("version", 8);
    changed("names", 48 + 16 + 20 + 2 * 24);
    let remedy = "make it again with `axhive-tools bundle`";
    let size = bytes.len();
    for (name, cause) in [
        (
            "long-text",
            "not a bundle: it starts with [78, 78, 78, 78, 78, 78, 78, 78]".to_owned(),
        ),
        (
            "truncated",
            format!(
                "bundle is truncated: {size} bytes stated, {} present",
                size - 1
            ),
        ),
        (
            "short",
            "40 bytes are too few for a bundle's header".to_owned(),
        ),
        (
            "version",
            "bundle version 2 is unknown, this is version 3; make the bundle again".to_owned(),
        ),
    ] {
        for command in [
            &["list", name][..],
            &["check", name],
            &["extract", name, "dir"],
        ] {
            place
                .run(command)
                .assert_error(&format!("error: {name}: {cause}; {remedy}"));
        }
    }
    let run = place.run(&["check", "names"]);
    assert!(
        !run.is_success && run.err.contains(": index checksum is 0x"),
        "{}",
        run.err
    );
    assert!(!place.path("dir").exists());
}

#[test]
fn a_bundle_that_is_not_there_is_an_error() {
    let cause = "the bundle cannot be read: no such file; name a bundle that exists";
    Place::new(&[])
        .run(&["list", "gone"])
        .assert_error(&format!("error: gone: {cause}"));
}

#[test]
fn extract_gives_back_every_file_and_nothing_outside_the_directory() {
    let place = Place::new(&[
        (
            "sub/vm.toml",
            "boot.kernel = '../Image'\nboot.initrd = 'deep/ü i'\nboot.dtb = 'gone'\n",
        ),
        ("Image", "kernel"),
        ("sub/deep/ü i", "initrd"),
        ("other.toml", VM),
    ]);
    place.pack(&["sub/vm.toml", "other.toml"]);
    let run = place.run(&["extract", "out", "to/here"]);
    assert!(run.is_success);
    assert!(
        run.err
            .starts_with("warning: out: gone of VM file sub/vm.toml: it is missing")
    );
    assert!(
        run.out.contains("to/here/00-vm/00-Image <- ../Image\n"),
        "{}",
        run.out
    );
    assert_eq!(place.read("to/here/00-vm/00-Image"), b"kernel");
    assert_eq!(place.read("to/here/00-vm/01-ü i"), "initrd".as_bytes());
    assert_eq!(place.read("to/here/01-other/vm.toml"), VM.as_bytes());
    let count = |path: &str| fs::read_dir(place.path(path)).unwrap().count();
    assert_eq!(
        [count("to"), count("to/here"), count("to/here/00-vm")],
        [1, 2, 3]
    );
}

#[test]
fn extract_overwrites_nothing() {
    let place = Place::new(&[("vm.toml", VM), ("Image", "k")]);
    place.pack(&["vm.toml"]);
    place
        .run(&["extract", "out", "."])
        .assert_error("error: .: it is not empty; name a new or empty directory");
    assert!(place.run(&["extract", "out", "new"]).is_success);
    assert!(!place.run(&["extract", "out", "new"]).is_success);
}

#[test]
fn extract_gives_back_what_is_sound_and_reports_the_rest() {
    let place = Place::new(&[("vm.toml", VM), ("Image", "kernel")]);
    let mut bytes = place.pack(&["vm.toml"]);
    *bytes.last_mut().unwrap() ^= 1;
    place.write("bad", &bytes);
    let run = place.run(&["extract", "bad", "to"]);
    assert!(!run.is_success);
    assert_eq!(place.read("to/00-vm/vm.toml"), VM.as_bytes());
    assert!(!Path::new(&place.path("to/00-vm/00-Image")).exists());
}
