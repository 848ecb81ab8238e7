//! `help TOPIC` and `man`: made of what the command itself goes by.

use std::ffi::OsString;
use std::fmt::Write as _;

use cc_ci_core::spelling;
use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCandidates;

use super::{command, common, complete, exit_codes, parsed};
use crate::commands::BUILD_NUMBERS;
use crate::config::{self, KEYS};

#[derive(Debug, Args)]
pub struct Help {
    /// environment, exit-codes, files, config; or a command
    #[arg(value_name = "TOPIC|COMMAND", add = ArgValueCandidates::new(complete::topics_and_commands))]
    pub words: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Man {
    /// Of which command [default: of cc-ci itself]
    #[arg(value_name = "COMMAND", add = ArgValueCandidates::new(complete::commands))]
    pub words: Vec<String>,
}

/// What can be asked for beside a command.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Topic {
    Environment,
    ExitCodes,
    Files,
    Config,
}

impl Topic {
    pub fn text(self) -> String {
        match self {
            Self::Environment => environment(),
            Self::ExitCodes => exit_codes(),
            Self::Files => table(&config::files()),
            Self::Config => table(KEYS),
        }
    }
}

/// What all variables of cc-ci's own begin with.
const PREFIX: &str = "CCCI_";

/// Variables that no flag takes the place of.
const WITHOUT_FLAG: &[(&str, &str)] = &[
    ("ABRA_DIR", "the canonical abra tree"),
    ("DOCKER_HOST", "the engine of the executor abra: unix://PATH"),
    ("CCCI_LOG", "filters the diagnostics of the libraries: debug, cc_ci_core=debug, …; warn by default"),
    ("NO_COLOR", "no colour"),
    ("CLICOLOR_FORCE", "colour, even where there is no terminal"),
];

/// What runs, and the bridge, give to what they start.
const GIVEN: &[&str] = &[
    "CCCI_API",
    "CCCI_DEPLOY_COUNT_FILE",
    "CCCI_DOMAIN",
    "CCCI_ENV_FILE",
    "CCCI_FIXTURES_DIR",
    "CCCI_MARKER",
    "CCCI_PORT",
    "CCCI_RECIPE",
    "CCCI_RECIPE_DIR",
    "CCCI_REQUEST",
    "CCCI_SECRETS_DIR",
    "CCCI_STACK",
    "CCCI_STATE_DIR",
    "CCCI_TIER",
    "CCCI_URL",
    "CCCI_VERSION",
];

/// The same with the name of a dependency, or of what a service of the local executor has.
const GIVEN_PREFIXES: &[&str] =
    &["CCCI_CONFIG_", "CCCI_DEPENDENCY_", "CCCI_SECRET_", "CCCI_URL_", "CCCI_VOLUME_"];

/// The help that is asked for.
pub fn help(Help { words }: &Help) -> Result<String, String> {
    if let [word] = words.as_slice()
        && let Ok(topic) = Topic::from_str(word, false)
    {
        return Ok(topic.text());
    }
    if let [word] = words.as_slice()
        && let Some(topic) = nearest_topic(word)
    {
        return Err(format!("error: there is no topic {word:?}\n\nhint: did you mean {topic}?\n"));
    }
    let line = ["cc-ci"].into_iter().chain(words.iter().map(String::as_str)).chain(["--help"]);
    match parsed(line.map(OsString::from)) {
        Err(error) if !error.use_stderr() => Ok(error.render().to_string()),
        Err(error) => Err(error.render().to_string()),
        Ok(_) => Err("error: that is neither a command nor a topic\n".to_owned()),
    }
}

/// The topic that a word which is no command was meant to be.
fn nearest_topic(word: &str) -> Option<String> {
    let topics = Topic::value_variants().iter().filter_map(Topic::to_possible_value);
    let topics: Vec<String> = topics.map(|topic| topic.get_name().to_owned()).collect();
    let is_command = command().find_subcommand(word).is_some();
    let nearest = spelling::nearest(word, topics.iter().map(String::as_str)).filter(|_| !is_command);
    nearest.map(str::to_owned)
}

/// A page of the manual, as man(1) takes it.
pub fn man(Man { words }: &Man) -> Result<String, String> {
    let mut command = super::command();
    command.build();
    for word in words {
        let inner = command.find_subcommand(word).cloned();
        command = inner.ok_or_else(|| format!("error: there is no command {word:?}\n"))?;
    }
    let name = command.get_display_name().unwrap_or("cc-ci").to_owned();
    let mut page = Vec::new();
    // A command of it has no version of its own.
    let of = concat!("cc-ci ", env!("CC_CI_VERSION"));
    let written = clap_mangen::Man::new(command).title(name).source(of).render(&mut page);
    written.map_err(|error| format!("error: can't write the page: {error}\n"))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Each variable that takes the place of a flag: its name, the flag, the command's words, and what it is.
fn variables() -> Vec<(String, String, String)> {
    fn each(command: &clap::Command, path: &str, all: &mut Vec<(String, String, String)>) {
        // A command that is built has what all take, too.
        let own = command.get_arguments().filter(|argument| path.is_empty() || !argument.is_global_set());
        for argument in own {
            let Some(variable) = argument.get_env() else { continue };
            let flag = argument.get_long().unwrap_or_default();
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            all.push((variable.to_string_lossy().into_owned(), format!("{path}--{flag}"), help));
        }
        for inner in command.get_subcommands() {
            each(inner, &format!("{path}{} ", inner.get_name()), all);
        }
    }
    let mut command = command();
    command.build();
    let mut all = Vec::new();
    each(&command, "", &mut all);
    all
}

fn environment() -> String {
    let mut rows: Vec<(String, String)> =
        variables().into_iter().map(|(variable, flag, help)| (variable, format!("{flag}: {help}"))).collect();
    rows.extend(WITHOUT_FLAG.iter().map(|(name, what)| ((*name).to_owned(), (*what).to_owned())));
    rows.extend(
        BUILD_NUMBERS.map(|name| (name.to_owned(), "names the run where --run-id doesn't".to_owned())),
    );
    table(&rows)
}

fn table(rows: &[(impl AsRef<str>, impl AsRef<str>)]) -> String {
    let width = rows.iter().map(|(name, _)| name.as_ref().len()).max().unwrap_or_default();
    rows.iter().fold(String::new(), |mut text, (name, what)| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{:<width$}  {}", name.as_ref(), what.as_ref());
        text
    })
}

/// What is wrong with the variables of the environment: one that nobody reads was meant for something.
pub fn strange_variables<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    let ours: Vec<&str> = names.into_iter().filter(|name| name.starts_with(PREFIX)).collect();
    if ours.is_empty() {
        return Vec::new();
    }
    // Most are those of all commands: what each takes of its own costs more to know.
    let common = common();
    let is_common =
        |name: &&str| common.get_arguments().any(|argument| argument.get_env() == Some(name.as_ref()));
    if ours.iter().all(is_common) {
        return Vec::new();
    }
    let variables = variables();
    let read = variables.iter().map(|(variable, ..)| variable.as_str());
    let read: Vec<&str> = read.chain(WITHOUT_FLAG.iter().map(|(name, _)| *name)).collect();
    let is_known = |name: &str| {
        read.contains(&name)
            || GIVEN.contains(&name)
            || GIVEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    let strange = ours.into_iter().filter(|name| !is_known(name));
    // What all of them begin with makes none like another one.
    let own = |name: &'n str| name.strip_prefix(PREFIX).unwrap_or(name);
    let told = |name: &'n str| {
        let meant = spelling::nearest(own(name), read.iter().filter_map(|name| name.strip_prefix(PREFIX)));
        match meant {
            Some(meant) => format!("{name} is ignored: did you mean {PREFIX}{meant}?"),
            None => format!("{name} is ignored: cc-ci help environment lists what is known"),
        }
    };
    strange.map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_nobody_reads_is_told_with_the_one_that_was_meant() {
        let known =
            ["CCCI_APP_LOCK_DIR", "CCCI_PR", "CCCI_LOG", "CCCI_DEPENDENCY_BLOG_DOMAIN", "PATH", "CCI_X"];
        assert_eq!(strange_variables(known), Vec::<String>::new());
        assert_eq!(
            strange_variables([
                "CCCI_LOCK_DIR",
                "CCCI_TEST_DIR",
                "CCCI_TEST_TIMEOUT",
                "CCCI_DOMAINS",
                "CCCI_COLOURS_OF_THE_SEA"
            ]),
            [
                "CCCI_LOCK_DIR is ignored: did you mean CCCI_APP_LOCK_DIR?",
                "CCCI_TEST_DIR is ignored: did you mean CCCI_TESTS_DIR?",
                "CCCI_TEST_TIMEOUT is ignored: cc-ci help environment lists what is known",
                "CCCI_DOMAINS is ignored: cc-ci help environment lists what is known",
                "CCCI_COLOURS_OF_THE_SEA is ignored: cc-ci help environment lists what is known"
            ]
        );
    }

    #[test]
    fn a_topic_that_is_misspelt_is_told() {
        let help = |word: &str| help(&Help { words: vec![word.to_owned()] });
        let told = "error: there is no topic \"enviroment\"\n\nhint: did you mean environment?\n";
        assert_eq!(help("enviroment"), Err(told.to_owned()));
        assert!(help("config").is_ok() && help("run").is_ok());
        assert!(help("jantor").unwrap_err().contains("janitor"));
    }

    #[test]
    fn every_command_has_a_page_of_the_manual() {
        let page = |words: &[&str]| man(&Man { words: words.iter().map(ToString::to_string).collect() });
        assert!(page(&[]).unwrap().contains(".TH cc-ci "));
        let run = page(&["run"]).unwrap();
        assert!(run.contains(".TH cc-ci-run ") && run.contains("\\-\\-upgrade\\-from"), "{run}");
        let check = page(&["recipe", "check"]).unwrap();
        assert!(check.contains("\\-\\-sarif"));
        let header = check.lines().find(|line| line.starts_with(".TH")).unwrap();
        assert!(header.contains(env!("CARGO_PKG_VERSION")), "{header}");
        assert_eq!(page(&["jantor"]), Err("error: there is no command \"jantor\"\n".to_owned()));
    }
}
