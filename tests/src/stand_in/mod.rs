//! A stand-in for abra: its command line, its files, its JSON, and a real deploy on whatever engine `DOCKER_HOST` names.
//!
//! What is known of abra is imitated to the letter where cc-ci could depend on it; what is only recalled is imitated
//! where it costs little. On request it does what abra was seen to do wrong: [`Wrong`]. Each call is journaled, so
//! that tests can ask how it was called.
//!
//! # Limitations
//! It works on recipes that are in `$ABRA_DIR/recipes` already, and asks nobody anything: what abra would ask at a
//! terminal is refused.

mod apps;
mod backup;
mod command_line;
mod deploy;
mod docker;
mod journal;
mod tree;
mod wrong;

use std::env;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub use journal::Call;
pub(crate) use journal::calls;
pub(crate) use wrong::FILE as WRONG;
pub use wrong::Wrong;

use command_line::Asked;
use journal::Journal;

/// What the wrapper says before abra's own words: where the world keeps what the stand-in needs.
pub(crate) const WORLD: &str = "--stand-in-world";
/// Starts the second process of [`Wrong::SecondAbra`].
const SECOND: &str = "--stand-in-second";

/// What abra ends with when it can't go on.
#[derive(Debug)]
struct Fatal(String);

impl Fatal {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FATA {}", self.0)
    }
}

impl From<io::Error> for Fatal {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// One process of the stand-in.
#[derive(Debug)]
struct Abra {
    directory: PathBuf,
    world: PathBuf,
    wrong: Vec<Wrong>,
    journal: Journal,
}

impl Abra {
    fn does(&self, wrong: &Wrong) -> bool {
        self.wrong.contains(wrong)
    }
}

/// Does what `words` say, and gives the exit status.
pub fn main(words: Vec<String>) -> u8 {
    let mut words = words;
    if words.first().is_some_and(|word| word == SECOND) {
        return u8::from(tree::disturb(Path::new(words.get(1).map_or("", String::as_str))).is_err());
    }
    if words.len() < 2 || words[0] != WORLD {
        say_wrong("Error: the stand-in is called through the script that a test's world has in its PATH");
        return 2;
    }
    let world = PathBuf::from(words.remove(1));
    words.remove(0);
    let directory = env::var_os("ABRA_DIR").map(PathBuf::from);
    let directory = directory.unwrap_or_else(|| {
        PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/nonexistent".into())).join(".abra")
    });
    let journal = match Journal::begin(&world, &words) {
        Ok(journal) => journal,
        Err(error) => {
            say_wrong(&format!("Error: the stand-in can't keep its journal: {error}"));
            return 2;
        }
    };
    let wrong = wrong::read(&world, journal.deploys());
    let abra = Abra { directory, world, wrong, journal };
    let code = match abra.run(&words) {
        Ok(()) => 0,
        Err(fatal) => {
            say_wrong(&fatal.to_string());
            1
        }
    };
    abra.journal.end(code);
    code
}

impl Abra {
    fn run(&self, words: &[String]) -> Result<(), Fatal> {
        let call = match command_line::parse(words, &self.wrong) {
            Ok(Asked::Call(call)) => call,
            Ok(Asked::Text(text)) => return print(&text),
            Err(usage) => return Err(Fatal(usage)),
        };
        match call.command.words {
            ["app", "new"] => apps::new(self, &call),
            ["app", "ls"] => apps::list(self, &call),
            ["app", "deploy"] => deploy::deploy(self, &call),
            ["app", "undeploy"] => deploy::undeploy(self, &call),
            ["app", "remove"] => apps::remove(self, &call),
            ["app", "run"] => apps::run(self, &call),
            ["app", "secret", "insert"] => apps::insert_secret(self, &call),
            ["app", "secret", "generate"] => apps::generate_secrets(self, &call),
            ["app", "secret", "ls"] => apps::list_secrets(self, &call),
            ["app", "backup", "create"] => backup::create(self, &call),
            ["app", "backup", "snapshots"] => backup::snapshots(self, &call),
            ["app", "restore"] => backup::restore(self, &call),
            ["recipe", "ls"] => tree::list(self, &call),
            ["server", "ls"] => apps::servers(self, &call),
            other => Err(Fatal(format!("the stand-in has no {other:?}"))),
        }
    }
}

/// Writes to stdout. A reader that is gone is none of abra's business.
fn print(text: &str) -> Result<(), Fatal> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}

fn say_wrong(text: &str) {
    eprintln!("{text}");
}
