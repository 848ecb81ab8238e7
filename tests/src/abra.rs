//! Abra in a test's world: the stand-in, first in the `PATH` of the command.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::command::{Ended, StartedCommand, built};
use crate::executable;
use crate::recipe::Recipe;
use crate::stand_in::{self, Call, Wrong};
use crate::world::{World, until};

/// The abra of a world.
#[derive(Debug)]
pub struct Abra<'w> {
    world: &'w World,
}

impl World {
    /// Gives the world an abra, if it has none yet: [`World::cc_ci`] finds it in its `PATH`, beside the programs of the
    /// examples' tests.
    pub fn abra(&self) -> Abra<'_> {
        let abra = Abra { world: self };
        if !self.programs().join("abra").exists() {
            fs::create_dir_all(abra.directory()).expect("a directory for the stand-in");
            fs::create_dir_all(self.programs()).expect("a directory for programs");
            fs::create_dir_all(self.abra_dir().join("servers/default")).expect("abra's tree");
            std::os::unix::fs::symlink(built("note-keeper"), self.programs().join("note-keeper"))
                .expect("a link to the example app");
            abra.write();
        }
        abra
    }

    /// What comes before the caller's `PATH`.
    pub fn programs(&self) -> PathBuf {
        self.path().join("bin")
    }
}

impl Abra<'_> {
    fn directory(&self) -> PathBuf {
        self.world.path().join("stand-in")
    }

    /// Writes the program that others take for abra. It is new each time, and known to be another one by its time.
    fn write(&self) {
        let (program, new) = (self.world.programs().join("abra"), self.world.programs().join("abra.new"));
        let script = format!(
            "#!/bin/sh\nexec '{}' {} '{}' \"$@\"\n",
            built("abra-stand-in").display(),
            stand_in::WORLD,
            self.directory().display()
        );
        executable(&new, &script);
        fs::rename(new, program).expect("a program of the world");
    }

    /// What it does wrong from now on, and nothing else.
    pub fn does(&self, wrong: &[Wrong]) -> &Self {
        self.does_at(&wrong.iter().map(|wrong| (wrong.clone(), None)).collect::<Vec<_>>())
    }

    /// The same, where some of it is for the nth deploy of this world alone.
    pub fn does_at(&self, wrong: &[(Wrong, Option<usize>)]) -> &Self {
        let lines = wrong.iter().map(|(wrong, at)| match at {
            Some(at) => format!("{wrong}@{at}\n"),
            None => format!("{wrong}\n"),
        });
        fs::write(self.directory().join(stand_in::WRONG), lines.collect::<String>()).expect("a file");
        self.write();
        self
    }

    /// Puts a clone of `recipe` where the world's canonical recipes are; gives its path.
    pub fn fetch(&self, recipe: &Recipe) -> PathBuf {
        let path = self.world.abra_dir().join("recipes").join(recipe.name());
        let to = path.to_str().expect("a path of ours");
        recipe.git(["clone", "-q", "--template=", ".", to]);
        path
    }

    /// How it was called until now, in order.
    pub fn calls(&self) -> Vec<Call> {
        stand_in::calls(&self.directory())
    }

    /// Waits until a call has said that it does this.
    #[track_caller]
    pub fn wait_for(&self, note: &str) -> Call {
        let mut found = None;
        until(&format!("abra says that it {note}"), || {
            found = self.calls().into_iter().find(|call| call.notes.iter().any(|message| message == note));
            found.is_some()
        });
        found.expect("it was just found")
    }

    /// Calls it as an operator would, on the world's canonical tree.
    pub fn run(&self, args: &[&str]) -> Ended {
        let mut command = Command::new(self.world.programs().join("abra"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory())
            .env("ABRA_DIR", self.world.abra_dir())
            // Never the engine of the machine.
            .env("DOCKER_HOST", self.world.engine().unwrap_or("unix:///nonexistent/docker.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        StartedCommand::new(command.spawn().expect("the stand-in starts")).wait()
    }
}
