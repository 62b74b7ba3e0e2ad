// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Scripted sessions: bytes in, the terminal's bytes out, over a fake hypervisor.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use axvm::{CrashPolicy, PCpuSet, VmStatus};
use proptest::prelude::*;

use super::*;

/// A terminal that remembers what was written to it.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Terminal for Paper {
    fn write(&mut self, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }
}

/// A screen that notices when it is taken twice at a time.
#[derive(Clone)]
struct TestScreen(Rc<RefCell<Screen>>);

impl SharedScreen for TestScreen {
    fn with(&self, work: &mut dyn FnMut(&mut Screen)) {
        work(&mut self.0.borrow_mut());
    }
}

/// A hypervisor that remembers what it was told.
struct Fake {
    screen: TestScreen,
    vms: RefCell<Vec<VmSummary>>,
    told: RefCell<Vec<String>>,
    input: RefCell<Vec<u8>>,
    input_room: RefCell<usize>,
}

fn vm(id: usize, name: &str) -> VmSummary {
    VmSummary {
        id,
        name: name.to_owned(),
        status: VmStatus::Running,
        vcpus: 2,
        memory_bytes: 256 << 20,
        outcome: None,
    }
}

impl Vmm for Rc<Fake> {
    fn list(&self) -> Vec<VmSummary> {
        self.vms.borrow().clone()
    }

    fn show(&self, id: VMId) -> Option<VmDetails> {
        let summary = self.list().into_iter().find(|vm| vm.id == id)?;
        let vcpu = VCpuDetails {
            state: "running".to_owned(),
            pcpus: PCpuSet(0b1011),
            exits: vec![("mmio read".to_owned(), 3), ("halt".to_owned(), 0)],
            trace: vec!["mmio read at 0x80200000".to_owned()],
        };
        Some(VmDetails {
            summary,
            cmdline: "console=ttyS0".to_owned(),
            autostart: true,
            on_crash: CrashPolicy::Restart,
            vcpus: vec![vcpu],
            registers: Some("pc 0\nra 1".to_owned()),
        })
    }

    fn act(&self, id: VMId, verb: VmVerb) -> Result<(), Refusal> {
        // A verb waits for vCPUs, and those may be printing.
        self.screen
            .with(&mut |screen| screen.vm_output(id, "linux", b"going\n"));
        self.told.borrow_mut().push(format!("{verb:?} {id}"));
        match verb {
            VmVerb::Resume => Err(Refusal::new("a VM that is running cannot resume")),
            _ => Ok(()),
        }
    }

    fn console_input(&self, _: VMId, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(*self.input_room.borrow());
        self.input.borrow_mut().extend_from_slice(&bytes[..taken]);
        taken
    }

    fn host(&self) -> HostInfo {
        HostInfo {
            version: "0.1.0".to_owned(),
            cpus: 4,
            ..HostInfo::default()
        }
    }

    fn set_log_level(&self, level: LogLevel) {
        self.told.borrow_mut().push(format!("log {level:?}"));
    }

    fn power_off(&self) {
        self.told.borrow_mut().push("off".to_owned());
    }
}

struct Console {
    shell: Shell<Rc<Fake>, TestScreen>,
    fake: Rc<Fake>,
    screen: TestScreen,
    paper: Paper,
}

impl Console {
    fn new() -> Self {
        let paper = Paper::default();
        let screen = TestScreen(Rc::new(RefCell::new(Screen::new(Box::new(paper.clone())))));
        let fake = Rc::new(Fake {
            screen: screen.clone(),
            vms: RefCell::new(vec![vm(1, "linux"), vm(2, "linux-rt")]),
            told: RefCell::default(),
            input: RefCell::default(),
            input_room: RefCell::new(usize::MAX),
        });
        let shell = Shell::new(fake.clone(), screen.clone());
        let console = Self {
            shell,
            fake,
            screen,
            paper,
        };
        assert_eq!(console.written(), "help lists the commands\r\naxhive> ");
        console
    }

    /// Types bytes and returns what the terminal got since.
    fn type_in(&mut self, bytes: impl AsRef<[u8]>) -> String {
        for byte in bytes.as_ref() {
            self.shell.input(*byte);
        }
        self.shell.tick();
        self.written()
    }

    /// Runs a command and returns the lines it printed.
    fn run(&mut self, line: &str) -> Vec<String> {
        let written = self.type_in(format!("{line}\r"));
        let answer = written
            .strip_prefix(&format!("{line}\r\n"))
            .expect("the echo");
        let answer = answer.strip_suffix("axhive> ").expect("the prompt");
        answer.split_terminator("\r\n").map(str::to_owned).collect()
    }

    fn vm_writes(&self, id: usize, name: &str, bytes: &[u8]) -> String {
        self.screen
            .with(&mut |screen| screen.vm_output(id, name, bytes));
        self.written()
    }

    fn ends(&self, id: usize, why: &str) {
        self.screen.with(&mut |screen| {
            screen.vm_ended(id);
            screen.message(why);
        });
    }

    fn written(&self) -> String {
        let bytes = std::mem::take(&mut *self.paper.0.lock().unwrap());
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.fake.told.borrow_mut())
    }
}

#[test]
fn a_command_is_echoed_run_and_followed_by_the_prompt() {
    let mut console = Console::new();
    assert_eq!(
        console.run("vm list"),
        [
            " ID  NAME                  STATE      VCPUS       MEMORY",
            "  1  linux                 running        2      256 MiB",
            "  2  linux-rt              running        2      256 MiB",
        ]
    );
}

#[test]
fn every_verb_reaches_the_vm_by_name_and_by_id() {
    let mut console = Console::new();
    for (word, verb) in [
        ("create", "created"),
        ("start", "started"),
        ("stop", "stopped"),
        ("pause", "paused"),
        ("reset", "reset"),
    ] {
        let answer = console.run(&format!("vm {word} linux"));
        assert_eq!(
            answer,
            ["[linux] going".to_owned(), format!("linux is {verb}")]
        );
    }
    console.run("vm delete 2");
    assert_eq!(
        console.told(),
        [
            "Create 1", "Start 1", "Stop 1", "Pause 1", "Reset 1", "Delete 2"
        ]
    );
}

#[test]
fn what_the_hypervisor_refuses_is_one_line() {
    let mut console = Console::new();
    assert_eq!(
        console.run("vm resume 1"),
        ["[linux] going", "linux: a VM that is running cannot resume"]
    );
}

#[test]
fn host_log_and_poweroff_reach_the_hypervisor() {
    let mut console = Console::new();
    let answer = console.run("host info");
    assert_eq!(answer[0], "version        AxHive 0.1.0");
    assert_eq!(answer.len(), 7);
    assert_eq!(console.run("log debug"), ["the log level is debug"]);
    assert_eq!(console.run("poweroff"), ["switching off"]);
    assert_eq!(console.told(), ["log Debug", "off"]);
}

#[test]
fn vm_show_tells_settings_vcpus_exits_and_registers() {
    let answer = Console::new().run("vm show linux");
    for line in [
        "state      running",
        "cmdline    console=ttyS0",
        "on crash   restart",
        "vCPU 0     running, on CPU 0-1,3",
        "    exits: mmio read 3",
        "    mmio read at 0x80200000",
        "    ra 1",
    ] {
        assert!(
            answer.iter().any(|shown| shown == line),
            "{line}: {answer:?}"
        );
    }
}

#[test]
fn what_is_wrong_is_one_line_that_says_what_was_meant() {
    let mut console = Console::new();
    for (line, expected) in [
        ("hlep", "hlep: there is no such command; did you mean help?"),
        (
            "vm lsit",
            "vm lsit: there is no such command; did you mean vm list?",
        ),
        (
            "pause linux",
            "pause: there is no such command; did you mean vm pause?",
        ),
        ("vm", "vm: there is no such command; help lists them"),
        (
            "xyzzy 1",
            "xyzzy: there is no such command; help lists them",
        ),
        ("vm start", "something is missing; write vm start <name|id>"),
        ("vm start a b", "that is too much; write vm start <name|id>"),
        ("vm list all", "that is too much; write vm list"),
        (
            "vm stop linus",
            "linus: there is no such VM; did you mean linux?",
        ),
        ("vm stop 9", "9: there is no such VM; vm list shows them"),
        (
            "log loud",
            "loud: there is no such level; the levels are off, error, warn, info, debug, trace",
        ),
        ("log inf", "inf: there is no such level; did you mean info?"),
        (
            "help vm strat",
            "vm strat: there is no such command; did you mean vm start?",
        ),
    ] {
        assert_eq!(console.run(line), [expected]);
    }
}

#[test]
fn help_lists_all_commands_or_explains_some() {
    let mut console = Console::new();
    assert_eq!(console.run("help").len(), commands::COMMANDS.len() + 1);
    assert_eq!(
        console.run("help vm pause"),
        ["vm pause <name|id>", "    halt a VM's vCPUs where they are"]
    );
    assert_eq!(console.run("help vm").len(), 10);
}

#[test]
fn ctrl_c_gives_the_line_up_and_ctrl_u_empties_it() {
    let mut console = Console::new();
    assert_eq!(console.type_in("poweroff\x03"), "poweroff^C\r\naxhive> ");
    assert!(console.type_in("poweroff\x15vm list\r").contains("VCPUS"));
    assert_eq!(console.told(), [""; 0]);
}

#[test]
fn arrow_keys_recall_and_edit() {
    let mut console = Console::new();
    console.run("log debug");
    console.type_in("\x1b[A\x7f\x7f\x7f\x7f\x7ferror\r");
    console.type_in("lo info\x1b[H\x1b[C\x1b[Cg\r");
    assert_eq!(console.told(), ["log Debug", "log Error", "log Info"]);
}

#[test]
fn tab_completes_commands_names_and_levels() {
    let mut console = Console::new();
    assert_eq!(console.type_in("po\t"), "poweroff ");
    assert_eq!(
        console.type_in("\x15vm c\t"),
        "\r\x1b[Kaxhive> vm c\r\x1b[Kconsole  create\r\naxhive> vm c"
    );
    assert_eq!(console.type_in("r\t\t"), "reate linux");
    assert!(
        console
            .type_in("\x15vm start l\t")
            .ends_with("vm start linux")
    );
    assert!(console.type_in("\t").contains("linux  linux-rt\r\n"));
    assert!(console.type_in("-\t").ends_with("-rt "));
    assert!(console.type_in("\x15log d\t").ends_with("log debug "));
    assert!(
        console
            .type_in("\x15help v\tsho\t")
            .ends_with("help vm show ")
    );
    assert!(console.type_in("\x15xyz \t").ends_with("\x07"));
}

#[test]
fn output_of_vms_appears_above_the_line_being_typed() {
    let mut console = Console::new();
    console.type_in("vm l");
    assert_eq!(console.vm_writes(1, "linux", b"boo"), "");
    assert_eq!(console.vm_writes(2, "rt", b"up\r\n"), "\r\x1b[K[rt] up\r\n");
    assert_eq!(
        console.vm_writes(1, "linux", b"t\x1b[2J\n\n"),
        "[linux] boot\r\n[linux]\r\n"
    );
    assert_eq!(console.type_in(""), "axhive> vm l");
    assert_eq!(console.type_in("ist"), "ist");
}

#[test]
fn a_guest_can_not_forge_what_others_say() {
    let console = Console::new();
    let written = console.vm_writes(1, "a", b"\r\x1b[A\x1b[2K[b] fake\x08\x9b\n\rx\rmsg\n");
    for line in written
        .trim_start_matches("\r\x1b[K")
        .split_terminator("\r\n")
    {
        assert!(line.starts_with("[a]"), "{written:?}");
    }
    assert_eq!(
        written.matches('\x1b').count(),
        1,
        "only the prompt was erased"
    );
}

#[test]
fn an_attached_vm_has_the_terminal_until_ctrl_close_bracket() {
    let mut console = Console::new();
    console.vm_writes(1, "linux", b"\x1b[1mlogin: ");
    let written = console.type_in("vm console linux\r");
    assert!(written.ends_with("-- the console of linux; Ctrl-] leaves it --\r\n\x1b[1mlogin: "));
    assert_eq!(console.type_in(b"root\r\x03\x1b[A\t\xff"), "");
    assert_eq!(*console.fake.input.borrow(), b"root\r\x03\x1b[A\t\xff");
    assert_eq!(console.vm_writes(1, "linux", b"\x1b[2Jhi"), "\x1b[2Jhi");
    let left = console.type_in("\x1d");
    assert!(
        left.contains("-- the hypervisor's console --\r\naxhive> "),
        "{left:?}"
    );
    assert_eq!(
        console.vm_writes(1, "linux", b"\x1b[2Jthere\n"),
        "\r\x1b[K[linux] there\r\n"
    );
}

#[test]
fn what_others_say_waits_while_a_vm_is_attached() {
    let mut console = Console::new();
    console.run("vm list");
    console.type_in("vm console 1\r");
    assert_eq!(console.vm_writes(2, "rt", b"one\ntwo\nthr"), "");
    console.ends(2, "rt: powered off");
    for i in 0..1000 {
        console
            .screen
            .with(&mut |screen| screen.message(&format!("note {i}")));
    }
    assert_eq!(console.written(), "");
    let left = console.type_in("\x1d");
    assert!(
        left.contains(
            "note 999\r\nrt: 2 lines were written meanwhile; vm console rt shows them\r\n"
        )
    );
    assert!(!left.contains("note 900\r\n"));
    assert!(console.type_in("vm console 2\r").ends_with("one\ntwo\nthr"));
}

#[test]
fn a_vm_that_ends_gives_the_terminal_back() {
    let mut console = Console::new();
    console.type_in("vm console 1\r");
    console.vm_writes(1, "linux", b"bye");
    console.ends(1, "linux: powered off");
    let written = console.type_in("");
    assert!(written.ends_with("-- the hypervisor's console --\r\nlinux: powered off\r\naxhive> "));
    assert_eq!(console.run("poweroff"), ["switching off"]);
}

#[test]
fn a_line_that_is_not_ended_is_shown_when_the_vm_ends() {
    let console = Console::new();
    console.vm_writes(1, "linux", b"half");
    console.ends(1, "linux: crashed");
    assert_eq!(
        console.written(),
        "\r\x1b[K[linux] half\r\nlinux: crashed\r\n"
    );
}

#[test]
fn a_deleted_vm_leaves_no_output_behind() {
    let mut console = Console::new();
    console.vm_writes(1, "linux", b"secret\n");
    console.type_in("");
    console.run("vm delete linux");
    console.vm_writes(1, "next", b"new");
    console.screen.with(&mut |screen| screen.attach(1, "next"));
    assert!(console.written().ends_with("leaves it --\r\nnew"));
}

#[test]
fn input_that_a_guest_does_not_read_waits_and_then_is_refused() {
    let mut console = Console::new();
    console.type_in("vm console 1\r");
    *console.fake.input_room.borrow_mut() = 0;
    let written = console.type_in([b'x'; 1030]);
    assert_eq!(written, "\x07".repeat(6));
    *console.fake.input_room.borrow_mut() = 600;
    console.type_in("");
    console.type_in("");
    assert_eq!(console.fake.input.borrow().len(), 1024);
    *console.fake.input_room.borrow_mut() = 0;
    assert!(console.type_in("abc\x1d").contains("hypervisor's console"));
}

#[test]
fn the_console_needs_no_more_stack_than_its_thread_has() {
    let session = || {
        let mut console = Console::new();
        for line in [
            "help",
            "vm list",
            "vm show linux",
            "vm strat x",
            "vm stop 1",
            "host info",
        ] {
            console.run(line);
        }
        console.vm_writes(1, "linux", &[b'x'; 4096]);
        console.type_in("vm s\t\t\x1b[A\x1b[A\r");
    };
    let thread = std::thread::Builder::new()
        .stack_size(32 << 10)
        .spawn(session);
    thread.expect("a thread").join().expect("no overflow");
}

proptest! {
    #[test]
    fn after_any_bytes_the_console_still_answers(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut console = Console::new();
        console.type_in(&bytes);
        console.type_in("\x1d\x03");
        prop_assert_eq!(console.run("log trace"), ["the log level is trace"]);
    }

    #[test]
    fn any_line_is_answered_with_harmless_lines(line in "(vm |help |log |host )?[a-z]{0,8}( [!-~]{0,12}){0,3}") {
        let mut console = Console::new();
        let written = console.type_in(format!("{line}\r"));
        prop_assert!(written.len() < 4096);
        prop_assert!(written.contains("axhive> ") || written.contains("-- the console of"));
    }

    #[test]
    fn any_guest_output_shows_as_lines_of_that_guest(output in prop::collection::vec(any::<u8>(), 0..600)) {
        let console = Console::new();
        let written = console.vm_writes(1, "vm", &output);
        let lines = written.strip_prefix("\r\x1b[K").unwrap_or(&written);
        for line in lines.split_terminator("\r\n") {
            prop_assert!(line.starts_with("[vm]"), "{:?}", line);
            prop_assert!(line.chars().all(crate::text::is_harmless), "{:?}", line);
        }
    }
}
