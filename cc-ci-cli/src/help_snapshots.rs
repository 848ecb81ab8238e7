//! Every help text, and what a wrong call is told: `src/snapshots/`.

use std::process::Command;

use cc_ci_core::Failure;
use cc_ci_core::exit::Exit;
use insta::assert_snapshot;

use crate::args::{self, Invocation};
use crate::snapshots::validate;
use crate::terminal::{error_document, error_text, json_text};

/// The help of a command, without what the environment of the test says.
fn help(words: &[&str]) -> String {
    let line = ["cc-ci"].into_iter().chain(words.iter().copied()).chain(["--help"]).map(Into::into);
    let Ok(Invocation::Help(text)) = args::parse(line) else { panic!("{words:?} has no help") };
    let plain = |line: &str| match line.split_once("[env: ") {
        Some((before, variable)) => {
            let (name, _) = variable.split_once('=').unwrap();
            let after = variable.rsplit_once(']').map_or("", |(_, after)| after);
            format!("{before}[env: {name}=]{after}")
        }
        None => line.to_owned(),
    };
    text.lines().map(|line| plain(line) + "\n").collect()
}

/// What a command takes beside what all commands take.
fn own_help(words: &[&str]) -> String {
    let common = help(&[]);
    let is_heading = |line: &str| ["Output:", "Engine:", "Places:", "Limits:", "Process:"].contains(&line);
    let is_common = |line: &&str| {
        (line.trim_start().starts_with('-') || is_heading(line)) && common.lines().any(|known| known == *line)
    };
    let mut own = String::new();
    let mut skips = false;
    for line in help(words).lines() {
        // An option's text is indented further, and goes with it.
        skips = is_common(&line) || skips && (line.is_empty() || line.starts_with("          "));
        if !skips {
            own.push_str(line);
            own.push('\n');
        }
    }
    own
}

#[cfg(feature = "demo")]
#[test]
fn help_of_all() {
    assert_snapshot!(help(&[]));
}

#[cfg(feature = "demo")]
#[test]
fn help_of_each_command() {
    fn each(command: &clap::Command, path: &mut Vec<String>, all: &mut String) {
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            path.push(command.get_name().to_owned());
            let words: Vec<&str> = path.iter().map(String::as_str).collect();
            all.push_str(
                &["==== cc-ci ", words.join(" ").as_str(), " --help\n", &own_help(&words), "\n"].concat(),
            );
            each(command, path, all);
            path.pop();
        }
    }
    let mut all = String::new();
    let mut command = args::command();
    command.build();
    each(&command, &mut Vec::new(), &mut all);
    assert_snapshot!(all);
}

#[test]
fn help_on_topics() {
    let topic = |word| {
        let Ok(Invocation::Help(text)) = args::parse(["cc-ci", "help", word].map(Into::into)) else {
            panic!("{word} is no topic")
        };
        format!("==== cc-ci help {word}\n{text}\n")
    };
    assert_snapshot!(["environment", "exit-codes", "config"].map(topic).concat());
}

#[test]
fn the_version_names_the_commit() {
    let Ok(Invocation::Help(text)) = args::parse(["cc-ci", "--version"].map(Into::into)) else { panic!() };
    let version = text.trim().strip_prefix("cc-ci ").unwrap();
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        let output = git.current_dir(env!("CARGO_MANIFEST_DIR")).args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    // A source without a repository has none.
    let is_ours = git(&["ls-files", "build.rs"]).is_some_and(|listed| !listed.is_empty());
    let commit = is_ours.then(|| git(&["rev-parse", "--short=12", "HEAD"]).unwrap());
    let named = |commit: String| format!(" ({}", commit.trim());
    let begin = [env!("CARGO_PKG_VERSION"), &commit.map(named).unwrap_or_default()].concat();
    assert!(["", ")", "-dirty)"].contains(&version.strip_prefix(&begin).unwrap_or("not it")), "{text}");
}

#[test]
fn usage_errors() {
    let refused = |words: &[&str]| match args::parse(["cc-ci"].iter().chain(words).map(Into::into)) {
        // The line on usage names what the environment gives.
        Err(text) => {
            let lines = text.lines().filter(|line| !line.starts_with("Usage: "));
            lines.fold(format!("$ cc-ci {}\n", words.join(" ")), |shown, line| shown + line + "\n")
        }
        Ok(_) => panic!("{words:?} is accepted"),
    };
    let texts = [
        &["jantor"][..],
        &["report"],
        &["help", "jantor"],
        &["run", "x", "--deadline", "soon"],
        &["audit", "a_b"],
    ]
    .map(refused);
    assert_snapshot!(texts.concat());
}

#[test]
fn errors() {
    let beneath = std::io::Error::other("no such\nfile");
    let failure = Failure::host("can't read the configuration")
        .with_source(beneath)
        .with_hint("name another: --config");
    let document = error_document(&failure, Exit::Harness);
    validate(&document);
    let document = json_text(&document).unwrap();
    assert_snapshot!(error_text(&failure) + &error_text(&Failure::configuration("no suffix")) + &document);
}
