// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Tests of the whole folder: from a text to a configuration or to problems.
//!
//! The generator writes files whose meaning it knows; the others are hostile.

use std::sync::Arc;

use axvm::{CrashPolicy, Policy};
use proptest::prelude::*;

use super::*;

const MINIMAL: &str = "[vm]\nname = \"a\"\n[boot]\nkernel = \"Image\"\n";

fn lookup(path: &str) -> Result<ImageBytes, String> {
    match path {
        "empty" => Ok(ImageBytes::Static(&[])),
        "big" => Ok(ImageBytes::Shared(Arc::from(vec![0; 3 << 20]))),
        "board.dtb" => Ok(ImageBytes::Static(&[0xd0, 0x0d, 0xfe, 0xed])),
        "Image" | "rd" | "disk" => Ok(ImageBytes::Static(b"some bytes")),
        _ => Err(String::from("there is no such file")),
    }
}

fn rules() -> Rules<'static> {
    Rules {
        pcpus: PCpuSet(0b1111),
        device_kinds: &["virtio-blk", "virtio-net"],
        arch: |config| match config.boot.load {
            Some(load) if load < 0x1000 => Err(ConfigFault {
                key: "boot.load",
                cause: String::from("RAM begins at 0x1000"),
                remedy: String::from("write load = 0x1000"),
            }),
            _ if config.vcpus.len() == 7 => Err(ConfigFault {
                key: "vm.intc",
                cause: String::from("seven vCPUs need another controller"),
                remedy: String::from("write intc = \"aia\""),
            }),
            _ => Ok(()),
        },
    }
}

fn file<'a>(name: &'a str, text: &'a str) -> VmFile<'a> {
    VmFile {
        name,
        text: Ok(text),
        files: &lookup,
    }
}

fn check_text(text: &str) -> Result<AxVMConfig, Vec<String>> {
    match check(&file("vm.toml", text), &rules(), &|_| None) {
        Ok(checked) => Ok(checked.config),
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
    }
}

fn problems_of(text: &str) -> Vec<String> {
    check_text(text).expect_err("the text is wrong")
}

/// Puts `lines` under `[vm]` of an otherwise good file, on line 3.
fn with_vm(lines: &str) -> String {
    format!("[vm]\nname = \"a\"\n{lines}\n[boot]\nkernel = \"Image\"\n")
}

/// Puts `lines` under `[boot]` of an otherwise good file, on line 5.
fn with_boot(lines: &str) -> String {
    format!("{MINIMAL}{lines}\n")
}

#[test]
fn name_and_kernel_are_enough_and_the_rest_has_defaults() {
    let config = check_text(MINIMAL).expect("minimal");
    assert_eq!(config.name, "a");
    assert_eq!(config.vcpus.len(), 1);
    assert_eq!(config.vcpus[0].pcpus, PCpuSet(0b1111));
    assert_eq!(config.memory_bytes, 128 << 20);
    assert_eq!(config.boot.cmdline, "");
    assert_eq!(&config.boot.kernel[..], b"some bytes");
    assert!(config.devices.is_empty() && config.intc.is_none());
    let policy = Policy {
        autostart: true,
        on_crash: CrashPolicy::Stop,
    };
    assert_eq!(config.policy, policy);
}

#[test]
fn every_key_arrives_where_it_belongs() {
    let text = "[vm]\nname = 'b-1'\ncpus = 2\nmemory = \"256MiB\"\npcpus = [[0], [1, 2]]\n\
                intc = \"aia\"\n[boot]\nkernel = \"Image\"\ninitrd = \"rd\"\ndtb = \"board.dtb\"\n\
                cmdline = \"x\"\nload = 0x8020_0000\nentry = \"0x8020_1000\"\n[[device]]\n\
                kind = \"virtio-blk\"\nimage = \"disk\"\n[[device]]\nkind = \"virtio-net\"\n\
                [policy]\nautostart = false\non_crash = \"restart\"\n";
    let config = check_text(text).expect("good");
    assert_eq!(config.vcpus[0].pcpus, PCpuSet(0b1));
    assert_eq!(config.vcpus[1].pcpus, PCpuSet(0b110));
    assert_eq!(config.memory_bytes, 256 << 20);
    assert_eq!(config.intc.as_deref(), Some("aia"));
    assert!(config.boot.initrd.is_some() && config.boot.dtb.is_some());
    assert_eq!(config.boot.load, Some(0x8020_0000));
    assert_eq!(config.boot.entry, Some(0x8020_1000));
    assert_eq!(config.devices[0].kind, "virtio-blk");
    assert!(config.devices[0].image.is_some() && config.devices[1].image.is_none());
    assert!(!config.policy.autostart);
    assert_eq!(config.policy.on_crash, CrashPolicy::Restart);
}

#[test]
fn the_examples_of_the_user_guide_are_accepted() {
    let guide = include_str!("../../../docs/vm-file.md").replace("initrd.cpio.gz", "rd");
    let examples: Vec<_> = guide
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        check_text(example).expect(example);
    }
}

#[test]
fn inline_tables_and_dotted_keys_mean_the_same() {
    let config = check_text("vm.name = 'a'\nboot = { kernel = 'Image' }\n").expect("good");
    assert_eq!(config.name, "a");
}

/// Lines for [`with_vm`], and what is said about each.
const WRONG_IN_VM: [(&str, &str); 17] = [
    (
        "memory = \"0MiB\"",
        "vm.toml:3: memory = \"0MiB\": a VM needs at least 2 MiB; write for example memory = \"256MiB\"",
    ),
    (
        "memory = 3145728",
        "vm.toml:3: memory = 3145728: memory comes in steps of 2 MiB; write for example memory = \"256MiB\"",
    ),
    (
        "memory = '256GiB'",
        "vm.toml:3: memory = '256GiB': a VM has less than 256 GiB; write for example memory = \"256MiB\"",
    ),
    (
        "memory = '99999999999999GiB'",
        "vm.toml:3: memory = '99999999999999GiB': the size does not fit into 64 bits; write for example memory = \"256MiB\"",
    ),
    (
        "memory = '2 MB'",
        "vm.toml:3: memory = '2 MB': a size as a string ends in KiB, MiB or GiB; write for example memory = \"256MiB\"",
    ),
    (
        "memory = '1.5GiB'",
        "vm.toml:3: memory = '1.5GiB': a size is a whole number and its unit; write for example memory = \"256MiB\"",
    ),
    (
        "cpus = 9",
        "vm.toml:3: cpus = 9: a VM has 1 to 8 vCPUs; write for example cpus = 2",
    ),
    (
        "cpus = -1",
        "vm.toml:3: cpus = -1: it cannot be negative; write for example cpus = 2",
    ),
    (
        "cpus = \"2\"",
        "vm.toml:3: cpus = \"2\": an integer is wanted, this is a string; write for example cpus = 2",
    ),
    (
        "pcpus = [7]",
        "vm.toml:3: pcpus = [7]: this machine has no CPU 7; its CPUs are 0-3",
    ),
    (
        "pcpus = [18446744073709551615]",
        "vm.toml:3: pcpus = [18446744073709551615]: this machine has no CPU 18446744073709551615; its CPUs are 0-3",
    ),
    (
        "pcpus = []",
        "vm.toml:3: pcpus = []: a list of no CPU leaves nothing to run on; write for example pcpus = [0, 1]",
    ),
    (
        "pcpus = [[0], [1]]",
        "vm.toml:3: pcpus = [[0], [1]]: 2 lists for 1 vCPUs; write one list for each vCPU, or one list for all",
    ),
    (
        "memroy = 1",
        "vm.toml:3: memroy = 1: [vm] has no such key; did you mean memory?",
    ),
    (
        "kernel = 'k'",
        "vm.toml:3: kernel = 'k': [vm] has no such key; write it under [boot]",
    ),
    (
        "watchdog = 1",
        "vm.toml:3: watchdog = 1: [vm] has no such key; its keys are name, cpus, memory, pcpus, intc",
    ),
    (
        "cpus = 7",
        "vm.toml:1: [vm]: seven vCPUs need another controller; write intc = \"aia\"",
    ),
];

/// Lines for [`with_boot`], and what is said about each.
const WRONG_IN_BOOT: [(&str, &str); 14] = [
    (
        "dtb = 'rd'",
        "vm.toml:5: dtb = 'rd': this is no flattened device tree; give a .dtb as dtc makes it, or remove the line",
    ),
    (
        "initrd = 'none'",
        "vm.toml:5: initrd = 'none': there is no such file; give the path of a file, relative to this one",
    ),
    (
        "initrd = 'empty'",
        "vm.toml:5: initrd = 'empty': the file is empty; give the path of a file, relative to this one",
    ),
    (
        "cmdline = \"a\\u0000b\"",
        "vm.toml:5: cmdline = \"a\\u0000b\": a command line ends at its first NUL; remove the \\u0000",
    ),
    (
        "load = 'x'",
        "vm.toml:5: load = 'x': an address as a string begins with 0x; write for example load = 0x8020_0000",
    ),
    (
        "load = 4",
        "vm.toml:5: load = 4: RAM begins at 0x1000; write load = 0x1000",
    ),
    (
        "[polcy]",
        "vm.toml:5: [polcy]: a VM file has no such table or key; did you mean [policy]?",
    ),
    (
        "[policy]\non_crash = 'halt'",
        "vm.toml:6: on_crash = 'halt': there is no such policy; write on_crash = \"stop\" or on_crash = \"restart\"",
    ),
    (
        "[policy]\nautostart = 1",
        "vm.toml:6: autostart = 1: true or false is wanted, this is an integer; write for example autostart = false",
    ),
    (
        "[[device]]\nkind = 'virtio-blok'",
        "vm.toml:6: kind = 'virtio-blok': there is no device of this kind; did you mean virtio-blk?",
    ),
    (
        "[[device]]\nkind = 'gpu'",
        "vm.toml:6: kind = 'gpu': there is no device of this kind; the kinds are virtio-blk, virtio-net",
    ),
    (
        "[[device]]\nimage = 'disk'",
        "vm.toml:5: [[device]]: a device needs a kind; the kinds are virtio-blk, virtio-net",
    ),
    (
        "[device]\nkind = 'virtio-blk'",
        "vm.toml:5: [device]: [[device]] is wanted here; write it on a line of its own, and its keys below",
    ),
    (
        "load = [\n1,\n2]",
        "vm.toml:5: load = [ ...: an address is wanted, this is an array; write for example load = 0x8020_0000",
    ),
];

/// Whole files, and what is said about each.
const WRONG_AS_A_WHOLE: [(&str, &str); 8] = [
    (
        "name = 'x'\n[vm]\nname = \"a\"\n[boot]\nkernel = \"Image\"\n",
        "vm.toml:1: name = 'x': a VM file has no such table or key; write it under [vm]",
    ),
    (
        "[boot]\nkernel = \"Image\"\n",
        "vm.toml:1: [vm]: a VM needs a name; write name = \"linux\" under [vm]",
    ),
    (
        "[vm]\nname = \"a\"\n[boot]\n",
        "vm.toml:3: [boot]: a VM needs a kernel to boot; write kernel = \"Image\" under [boot]",
    ),
    (
        "[vm]\nname = 3\n[boot]\nkernel = \"Image\"\n",
        "vm.toml:2: name = 3: a string is wanted, this is an integer; write for example name = \"linux\"",
    ),
    (
        "[vm]\nname = '12'\n[boot]\nkernel = \"Image\"\n",
        "vm.toml:2: name = '12': a name of digits only would be taken for a VM's id; write for example name = \"linux\"",
    ),
    (
        "[vm]\nname = 'a b'\n[boot]\nkernel = \"Image\"\n",
        "vm.toml:2: name = 'a b': a name has only letters, digits, and . _ -; write for example name = \"linux\"",
    ),
    (
        "[vm]\nname = 'a'\nmemory = '2MiB'\n[boot]\nkernel = 'big'\n",
        "vm.toml:5: kernel = 'big': the images up to here have 3145728 bytes, the VM's memory only 2097152; give it more memory, or a smaller image",
    ),
    (
        "[vm\n",
        "vm.toml:1: this is not TOML: unclosed table, expected `]`; write lines like name = \"linux\" under headers like [vm]",
    ),
];

#[test]
fn each_wrong_value_is_one_line_with_file_line_cause_and_remedy() {
    for (lines, expected) in WRONG_IN_VM {
        assert_eq!(problems_of(&with_vm(lines)), [expected], "{lines}");
    }
    for (lines, expected) in WRONG_IN_BOOT {
        assert_eq!(problems_of(&with_boot(lines)), [expected], "{lines}");
    }
    for (text, expected) in WRONG_AS_A_WHOLE {
        assert_eq!(problems_of(text), [expected], "{text}");
    }
}

#[test]
fn all_problems_of_a_file_are_told_in_the_order_of_lines() {
    let text = "[vm]\nname = ''\ncpus = 0\nmemory = '1MiB'\n[boot]\nkernel = 'no'\nloda = 1\n";
    let lines = problems_of(text);
    let starts: Vec<_> = lines.iter().map(|line| &line[..10]).collect();
    assert_eq!(
        starts,
        [
            "vm.toml:2:",
            "vm.toml:3:",
            "vm.toml:4:",
            "vm.toml:6:",
            "vm.toml:7:"
        ]
    );
}

#[test]
fn a_file_with_very_many_problems_tells_eight_and_counts_the_others() {
    let keys: String = (0..1000).map(|i| format!("q{i} = 1\n")).collect();
    let lines = problems_of(&format!(
        "[vm]\nname = 'a'\n{keys}[boot]\nkernel = 'Image'\n"
    ));
    assert_eq!(lines.len(), 9);
    assert!(lines[8].ends_with("this and 992 more are wrong too; mend the ones above first"));
}

#[test]
fn a_file_that_is_too_large_or_no_text_is_refused() {
    let large = format!("#{}", "x".repeat(64 << 10));
    assert_eq!(
        problems_of(&large),
        ["vm.toml:1: it has 65537 bytes, a VM file at most 65536; shorten it"]
    );
    let broken = VmFile {
        text: Err("it is not UTF-8 text at byte 3"),
        ..file("vm.toml", "")
    };
    let problems = check(&broken, &rules(), &|_| None).expect_err("no text");
    assert_eq!(
        problems[0].to_string(),
        "vm.toml:1: it is not UTF-8 text at byte 3; make the bundle again from a text file"
    );
}

#[test]
fn too_many_devices_are_refused() {
    let devices = "[[device]]\nkind = 'virtio-blk'\n".repeat(33);
    let lines = problems_of(&with_boot(&devices));
    assert_eq!(
        lines,
        ["vm.toml:69: [[device]]: a VM has at most 32 devices; remove this one and those after it"]
    );
}

#[test]
fn deep_nesting_is_refused_on_the_stack_that_the_boot_thread_has() {
    let deep = || {
        for piece in ["x = [", "{a=", "a.", "[", "[[a]]\nb = {c.d = [", "[[[1]]],"] {
            for count in [5, 79, 10_000] {
                let text = piece.repeat(count);
                assert!(!problems_of(&text).is_empty(), "{piece}");
            }
        }
    };
    let thread = std::thread::Builder::new()
        .stack_size(128 << 10)
        .spawn(deep);
    thread.expect("a thread").join().expect("no overflow");
    assert_eq!(
        problems_of("[vm]\npcpus = [[\n[[1]]]]\n"),
        [
            "vm.toml:3: this is nested deeper than 3; a VM file needs at most a list of lists: remove the others"
        ]
    );
}

#[test]
fn a_bad_file_keeps_no_other_from_its_vm() {
    let good = MINIMAL.replace("\"a\"", "\"b\"");
    let files = [
        file("1.toml", "nonsense"),
        file("2.toml", MINIMAL),
        file("3.toml", &good),
    ];
    let report = check_all(files, &rules());
    assert_eq!(report.accepted.len(), 2);
    assert!(
        report
            .problems
            .iter()
            .all(|p| p.to_string().starts_with("1.toml:1:"))
    );
}

#[test]
fn the_second_vm_of_a_name_is_refused_and_names_the_first() {
    let files = [file("1.toml", MINIMAL), file("2.toml", MINIMAL)];
    let report = check_all(files, &rules());
    assert_eq!(report.accepted.len(), 1);
    assert_eq!(
        report.problems[0].to_string(),
        "2.toml:2: name = \"a\": 1.toml:2 has this name already; write another name"
    );
}

#[test]
fn a_name_is_free_if_the_file_that_wrote_it_was_refused() {
    let bad = with_vm("cpus = 0");
    let report = check_all([file("1.toml", &bad), file("2.toml", MINIMAL)], &rules());
    assert_eq!(report.accepted[0].named_at(), "2.toml:2");
}

#[test]
fn a_fault_found_later_is_traced_to_its_line() {
    let checked = check(&file("vm.toml", MINIMAL), &rules(), &|_| None).expect("good");
    let fault = |key| ConfigFault {
        key,
        cause: String::from("no kernel that is known"),
        remedy: String::from("give an ELF"),
    };
    let line = checked.explain(&fault("boot.kernel")).to_string();
    assert_eq!(
        line,
        "vm.toml:4: kernel = \"Image\": no kernel that is known; give an ELF"
    );
    assert!(
        checked
            .explain(&fault("else"))
            .to_string()
            .starts_with("vm.toml:1: else: ")
    );
}

#[test]
fn what_a_file_says_cannot_break_out_of_its_line() {
    let text =
        "[vm]\nname = \"\"\"a\nb\"\"\"\n\"k\\n\\u001b[2J\" = 1\n[boot]\nkernel = '\u{9b}2J'\n";
    for line in check(&file("a\nb.toml", text), &rules(), &|_| None).expect_err("bad") {
        let line = line.to_string();
        assert!(line.chars().all(crate::text::is_harmless), "{line:?}");
    }
}

/// What the generator writes, and thus what must be read.
#[derive(Clone, Debug)]
struct Model {
    name: String,
    pcpus: Vec<Vec<u8>>,
    memory_mib: u64,
    cmdline: String,
    load: Option<u64>,
    kinds: Vec<&'static str>,
    autostart: bool,
    restarts: bool,
}

fn model() -> impl Strategy<Value = Model> {
    (
        "[A-Za-z._-][A-Za-z0-9._-]{0,31}",
        prop::collection::vec(prop::collection::vec(0_u8..4, 1..4), 1..=6),
        1_u64..0x2_0000,
        "[ -~]{0,80}",
        prop::option::of(0x1000_u64..),
        prop::collection::vec(prop::sample::select(vec!["virtio-blk", "virtio-net"]), 0..4),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(name, pcpus, steps, cmdline, load, kinds, autostart, restarts)| Model {
                name,
                pcpus,
                memory_mib: (steps * 2).min((256 << 10) - 2),
                cmdline,
                load,
                kinds,
                autostart,
                restarts,
            },
        )
}

fn write(model: &Model) -> String {
    let on_crash = if model.restarts { "restart" } else { "stop" };
    let cmdline = model.cmdline.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = format!(
        "[vm]\nname = \"{}\"\ncpus = {}\nmemory = \"{}MiB\"\npcpus = {:?}\n\
         [boot]\nkernel = \"Image\"\ncmdline = \"{cmdline}\"\n",
        model.name,
        model.pcpus.len(),
        model.memory_mib,
        model.pcpus,
    );
    if let Some(load) = model.load {
        text += &format!("load = \"{load:#x}\"\n");
    }
    for kind in &model.kinds {
        text += &format!("[[device]]\nkind = \"{kind}\"\n");
    }
    text + &format!(
        "[policy]\nautostart = {}\non_crash = \"{on_crash}\"\n",
        model.autostart
    )
}

fn lines_are_right(text: &str) -> Result<(), TestCaseError> {
    let Err(problems) = check_text(text) else {
        return Ok(());
    };
    prop_assert!(!problems.is_empty());
    for problem in problems {
        let mut parts = problem.splitn(3, ':');
        prop_assert_eq!(parts.next(), Some("vm.toml"));
        let line: usize = parts.next().unwrap().parse().unwrap();
        prop_assert!(
            line >= 1 && line <= text.lines().count().max(1),
            "{}",
            problem
        );
        prop_assert!(problem.chars().all(crate::text::is_harmless));
        prop_assert!(problem.contains("; "));
    }
    Ok(())
}

/// Pieces that hostile files are made of.
fn scrap() -> impl Strategy<Value = String> {
    let pieces = [
        "[vm]\n",
        "[boot]\n",
        "[[device]]\n",
        "[policy]\n",
        "[device]\n",
        "vm = 1\n",
        "name",
        "cpus",
        "memory",
        "pcpus",
        "kernel",
        "load",
        "on_crash",
        " = ",
        "\"a\"",
        "'Image'",
        "[[0], 1]",
        "0x10",
        "-5",
        "1e9",
        "nan",
        "true",
        "{",
        "}",
        "\n",
        "\"\"\"",
        "2026-01-01",
        "99999999999999999999999",
        ".",
    ];
    prop_oneof![
        4 => prop::sample::select(pieces.to_vec()).prop_map(String::from),
        1 => ".{0,4}",
    ]
}

proptest! {
    #[test]
    fn a_good_file_reads_back_as_what_was_written(model in model()) {
        let config = check_text(&write(&model)).expect("the generator writes good files");
        prop_assert_eq!(config.name, model.name);
        prop_assert_eq!(config.memory_bytes, model.memory_mib << 20);
        prop_assert_eq!(config.boot.cmdline, model.cmdline);
        prop_assert_eq!(config.boot.load, model.load);
        let sets: Vec<_> = config.vcpus.iter().map(|vcpu| vcpu.pcpus.0).collect();
        let expected: Vec<_> = model.pcpus.iter().map(|cpus| cpus.iter().fold(0, |set, cpu| set | 1_u64 << cpu)).collect();
        prop_assert_eq!(sets, expected);
        let kinds: Vec<_> = config.devices.iter().map(|device| device.kind.as_str()).collect();
        prop_assert_eq!(kinds, model.kinds);
        prop_assert_eq!(config.policy.autostart, model.autostart);
        prop_assert_eq!(config.policy.on_crash == CrashPolicy::Restart, model.restarts);
    }

    #[test]
    fn any_text_gives_a_configuration_or_lines_inside_the_file(text in "\\PC*|(.|\n)*") {
        lines_are_right(&text)?;
    }

    #[test]
    fn any_mixture_of_toml_pieces_is_read_without_panic(scraps in prop::collection::vec(scrap(), 0..40)) {
        lines_are_right(&scraps.concat())?;
    }

    #[test]
    fn a_damaged_file_is_read_without_panic(model in model(), at in any::<prop::sample::Index>(), byte in 0_u8..128) {
        let mut bytes = write(&model).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        lines_are_right(&String::from_utf8(bytes).expect("ASCII"))?;
    }
}
