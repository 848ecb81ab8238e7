//! Where a script of a test stops until the test lets it go on.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::EVENT_LIMIT;
use crate::world::World;

/// Two named pipes. The test holds both ends of each, so nobody blocks to open one.
#[derive(Debug)]
pub struct Gate {
    here: (PathBuf, File),
    go: (PathBuf, File),
}

impl Gate {
    pub(crate) fn new(world: &World, name: &str) -> Self {
        let pipe = |part: &str| {
            let path = world.fifo(&format!("{name}.{part}"));
            let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
            let open = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path);
            (path, open.expect("a pipe opens"))
        };
        Self { here: pipe("here"), go: pipe("go") }
    }

    /// The line of a shell script that says `here` and waits.
    pub fn script(&self) -> String {
        format!("{}; {}", self.say("here"), self.hold())
    }

    /// The part that says a word.
    pub fn say(&self, word: &str) -> String {
        format!("echo \"{word}\" > '{}'", self.here.0.display())
    }

    /// The part that waits.
    pub fn hold(&self) -> String {
        format!("read -r _ < '{}'", self.go.0.display())
    }

    /// Waits until a script is there, and gives the word that it said.
    #[track_caller]
    pub fn wait(&self) -> String {
        let mut message = Vec::new();
        while !message.ends_with(b"\n") {
            let mut fds = [PollFd::new(self.here.1.as_fd(), PollFlags::POLLIN)];
            let limit = PollTimeout::try_from(EVENT_LIMIT).expect("the limit is short");
            let ready = poll(&mut fds, limit).expect("a pipe can be polled");
            assert!(ready > 0, "nobody came to {}", self.here.0.display());
            let mut byte = [0];
            (&self.here.1).read_exact(&mut byte).expect("a byte is there");
            message.push(byte[0]);
        }
        String::from_utf8_lossy(&message).trim_end().to_owned()
    }

    /// Waits until a script is at each gate, and lets them go on: all were there at one time.
    #[track_caller]
    pub fn meet(gates: &[Self]) {
        for gate in gates {
            gate.wait();
        }
        gates.iter().for_each(Self::open);
    }

    /// Lets one script go on.
    pub fn open(&self) {
        (&self.go.1).write_all(b"go\n").expect("the pipe takes a word");
    }
}
