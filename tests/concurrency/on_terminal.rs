//! `with-lock` on a terminal: its command is the job that the terminal belongs to.

use std::fs::File;
use std::io::{Read as _, Write as _};

use cc_ci_tests::{CcCi, World, pipes};
use nix::pty::openpty;

/// What sits before a terminal: what is typed, and what is shown.
pub struct Typist {
    master: File,
    shown: String,
    /// What was shown up to what it saw last.
    pub seen: String,
}

impl Typist {
    /// Runs a call as the first process of a session whose terminal this is.
    pub fn start(mut call: CcCi) -> (Self, std::process::Child) {
        let pty = openpty(None, None).unwrap();
        let slave = File::from(pty.slave);
        let command = call.command();
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let child = command.spawn().unwrap();
        // The call holds the terminal's other end too.
        drop(call);
        (Self { master: File::from(pty.master), shown: String::new(), seen: String::new() }, child)
    }

    pub fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads on until it is shown; what was shown before it is not looked at again.
    pub fn sees(mut self, wanted: &str) -> Self {
        let wanted = wanted.to_owned();
        pipes::in_time("the terminal shows it", move || {
            loop {
                if let Some(at) = self.shown.find(&wanted) {
                    self.seen.extend(self.shown.drain(..at + wanted.len()));
                    return self;
                }
                let mut some = [0; 512];
                // EIO: nobody has the other end open any more.
                let count = self.master.read(&mut some).unwrap_or(0);
                assert!(count > 0, "{wanted:?} is not shown, but {:?}", self.shown);
                self.shown.push_str(&String::from_utf8_lossy(&some[..count]));
            }
        })
    }
}

// A shell without job control has the terminal back only if it is given back.

/// A call whose arguments follow those of a command that gives it a terminal.
fn on_terminal(world: &World, above: &[&str], command: &str) -> CcCi {
    let domain = world.domain("own", 1);
    let call = world.cc_ci(["with-lock", domain.as_str(), "--", "sh", "-c", command]);
    call.inside(&[&["setsid", "--ctty", "--wait"], above].concat())
}

#[test]
fn its_command_reads_the_terminal_and_the_shell_above_reads_on() {
    let world = World::new();
    let shell = r#""$0" "$@"; echo "status $?"; read -r line; echo "the shell has $line""#;
    let command = r#"echo ready; read -r line; echo "it has $line"; exit 3"#;
    let (typist, mut child) = Typist::start(on_terminal(&world, &["sh", "-c", shell], command));
    let mut typist = typist.sees("ready");
    typist.types("one\n");
    let mut typist = typist.sees("it has one").sees("status 3");
    typist.types("two\n");
    let _typist = typist.sees("the shell has two");
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_interrupt_is_its_commands() {
    let world = World::new();
    let command = r#"trap 'echo "caught"; exit 9' INT; echo ready; read -r line"#;
    let shell = r#""$0" "$@"; echo "status $?""#;
    let (typist, mut child) = Typist::start(on_terminal(&world, &["bash", "-mc", shell], command));
    let mut typist = typist.sees("ready");
    typist.types("\x03");
    let _typist = typist.sees("caught").sees("status 9");
    child.wait().unwrap();
}

#[test]
fn it_is_stopped_and_continued_as_a_job_is() {
    let world = World::new();
    // 148: stopped by TSTP. Its lock is held meanwhile.
    let shell = r#""$0" "$@"; echo "status $?"; read -r line; echo "the shell has $line"; fg; echo "end $?""#;
    let command = r#"echo ready; read -r line; echo "it has $line"; exit 4"#;
    let (typist, mut child) = Typist::start(on_terminal(&world, &["bash", "-mc", shell], command));
    let mut typist = typist.sees("ready");
    typist.types("\x1a");
    let mut typist = typist.sees("status 148");
    let locks = world.cc_ci(["locks"]).run().expect(0);
    assert!(locks.stdout.contains(world.domain("own", 1).as_str()), "{}", locks.stdout);
    typist.types("one\n");
    let mut typist = typist.sees("the shell has one");
    typist.types("two\n");
    let _typist = typist.sees("it has two").sees("end 4");
    child.wait().unwrap();
}

#[test]
fn a_signal_ends_its_command_and_the_shell_above_reads_on() {
    let world = World::new();
    let shell = r#""$0" "$@"; echo "status $?"; read -r line; echo "the shell has $line""#;
    // It ends its own owner.
    let command = r#"echo ready; kill -s TERM "$PPID"; read -r line"#;
    let (typist, mut child) = Typist::start(on_terminal(&world, &["sh", "-c", shell], command));
    let mut typist = typist.sees("ready").sees("status 143");
    typist.types("one\n");
    let _typist = typist.sees("the shell has one");
    child.wait().unwrap();
}

#[test]
fn in_the_background_it_is_stopped_when_its_command_reads_and_goes_on_in_the_foreground() {
    let world = World::new();
    let shell = r#""$0" "$@" & wait %1; echo "status $?"; read -r line; echo "the shell has $line"; fg; echo "end $?""#;
    let command = r#"echo ready; read -r line; echo "it has $line"; exit 5"#;
    let (typist, mut child) = Typist::start(on_terminal(&world, &["bash", "-mc", shell], command));
    // The command is stopped by TTIN, and its owner, whom the shell sees, by TSTP.
    let mut typist = typist.sees("ready").sees("status 148");
    typist.types("one\n");
    let mut typist = typist.sees("the shell has one");
    typist.types("two\n");
    let _typist = typist.sees("it has two").sees("end 5");
    child.wait().unwrap();
}
