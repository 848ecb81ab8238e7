//! Abra's command line: the commands that cc-ci or its operators use, with the flags that abra shows for them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::wrong::Wrong;

/// A flag, as abra's help shows it.
#[derive(Debug)]
pub(super) struct Flag {
    long: &'static str,
    short: Option<char>,
    /// What its value is called.
    value: Option<&'static str>,
    says: &'static str,
}

/// A subcommand.
#[derive(Debug)]
pub(super) struct Command {
    pub words: &'static [&'static str],
    args: &'static str,
    needed: usize,
    flags: &'static [Flag],
}

const fn flag(long: &'static str, short: char, says: &'static str) -> Flag {
    Flag { long, short: Some(short), value: None, says }
}

const fn value(long: &'static str, short: char, says: &'static str) -> Flag {
    Flag { long, short: Some(short), value: Some("string"), says }
}

const CHAOS: Flag = flag("chaos", 'C', "ignore uncommitted recipes changes");
const MACHINE: Flag = flag("machine", 'm', "print machine-readable output");
const FORCE: Flag = flag("force", 'f', "perform action without further prompt");
const UNWATCHED: Flag = flag("no-converge-checks", 'c', "disable converge logic checks");

const GLOBAL: &[Flag] = &[
    flag("debug", 'd', "show debug messages"),
    flag("help", 'h', "help for abra"),
    flag("no-input", 'n', "toggle non-interactive mode"),
    flag("offline", 'o', "prefer offline & filesystem access"),
];

const COMMANDS: &[Command] = &[
    Command {
        words: &["app", "new"],
        args: "[recipe] [version] [flags]",
        needed: 1,
        flags: &[
            CHAOS,
            value("domain", 'D', "domain name for app"),
            flag("pass", 'p', "store secrets in a local pass store"),
            flag("secrets", 'S', "generate secrets"),
            value("server", 's', "specify server for new app"),
        ],
    },
    Command {
        words: &["app", "deploy"],
        args: "<domain> [version] [flags]",
        needed: 1,
        flags: &[
            CHAOS,
            FORCE,
            flag("ignore-env-version", 'i', "ignore .env version"),
            UNWATCHED,
            flag("no-domain-checks", 'D', "disable public DNS checks"),
        ],
    },
    Command {
        words: &["app", "undeploy"],
        args: "<domain> [flags]",
        needed: 1,
        flags: &[UNWATCHED, flag("prune", 'p', "prune unused containers, networks, and dangling images")],
    },
    Command {
        words: &["app", "ls"],
        args: "[flags]",
        needed: 0,
        flags: &[
            MACHINE,
            value("recipe", 'r', "show apps of a specific recipe"),
            value("server", 's', "show apps of a specific server"),
            flag("status", 'S', "show app deployment status"),
        ],
    },
    Command { words: &["app", "remove"], args: "<domain> [flags]", needed: 1, flags: &[FORCE] },
    Command {
        words: &["app", "run"],
        args: "<domain> <service> <cmd> [[args] [flags] | [flags] -- [args]]",
        needed: 3,
        flags: &[flag("no-tty", 't', "do not request a TTY"), value("user", 'u', "run command as user")],
    },
    Command {
        words: &["app", "secret", "insert"],
        args: "<domain> <secret> <version> [<data>] [flags]",
        needed: 4,
        flags: &[
            CHAOS,
            flag("file", 'f', "treat input as a file"),
            flag("pass", 'p', "store generated secrets in a local pass store"),
            flag("trim", 't', "trim input"),
        ],
    },
    Command {
        words: &["app", "secret", "generate"],
        args: "<domain> [[secret] [version] | --all] [flags]",
        needed: 1,
        flags: &[
            flag("all", 'a', "generate all secrets"),
            CHAOS,
            MACHINE,
            flag("pass", 'p', "store generated secrets in a local pass store"),
        ],
    },
    Command { words: &["app", "secret", "ls"], args: "<domain>", needed: 1, flags: &[CHAOS, MACHINE] },
    Command {
        words: &["app", "backup", "create"],
        args: "<domain> [flags]",
        needed: 1,
        flags: &[CHAOS, value("retries", 'r', "number of retry attempts")],
    },
    Command {
        words: &["app", "backup", "snapshots"],
        args: "<domain> [flags]",
        needed: 1,
        flags: &[CHAOS, MACHINE],
    },
    Command {
        words: &["app", "restore"],
        args: "<domain> [flags]",
        needed: 1,
        flags: &[CHAOS, value("snapshot", 's', "the snapshot to restore")],
    },
    Command { words: &["recipe", "ls"], args: "[flags]", needed: 0, flags: &[MACHINE] },
    Command { words: &["server", "ls"], args: "[flags]", needed: 0, flags: &[MACHINE] },
];

/// A call that abra understands.
#[derive(Debug)]
pub(super) struct Call {
    pub command: &'static Command,
    flags: BTreeMap<&'static str, String>,
    pub args: Vec<String>,
}

impl Call {
    pub fn has(&self, long: &str) -> bool {
        self.flags.contains_key(long)
    }

    pub fn value(&self, long: &str) -> Option<&str> {
        self.flags.get(long).map(String::as_str)
    }
}

/// What a command line asks for.
pub(super) enum Asked {
    Call(Call),
    /// Its help, or its version.
    Text(String),
}

/// Reads a command line; the error is what abra says about one that it does not understand.
pub(super) fn parse(words: &[String], wrong: &[Wrong]) -> Result<Asked, String> {
    let old = wrong.contains(&Wrong::OldVersion);
    if words.iter().any(|word| word == "--version" || word == "-v") {
        let version = if old { "0.8.1-beta-4c33bca" } else { "0.11.0-beta-a6a6b41" };
        return Ok(Asked::Text(format!("abra version {version}\n")));
    }
    let plain: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let wants_help = words.iter().any(|word| word == "--help" || word == "-h");
    let command = COMMANDS.iter().find(|command| {
        let spelled = |(word, given): (&&str, &&str)| word == given || *word == "ls" && *given == "list";
        plain.len() >= command.words.len() && command.words.iter().zip(&plain).all(spelled)
    });
    let command = command.filter(|command| !(old && command.words == ["app", "backup", "create"]));
    let Some(command) = command else {
        if wants_help || plain.is_empty() {
            return Ok(Asked::Text(group_help(&plain, wrong)));
        }
        return Err(format!("unknown command {:?} for \"abra\"", plain.join(" ")));
    };
    if wants_help {
        return Ok(Asked::Text(if old { old_help(command, wrong) } else { help(command, wrong) }));
    }
    let mut call = Call { command, flags: BTreeMap::new(), args: Vec::new() };
    let mut left = words.iter();
    while let Some(word) = left.next() {
        if word == "--" {
            call.args.extend(left.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix("--") {
            let (long, given) =
                long.split_once('=').map_or((long, None), |(long, given)| (long, Some(given)));
            let flag = known(command, wrong).find(|flag| flag.long == long);
            let flag = flag.ok_or_else(|| format!("unknown flag: --{long}"))?;
            let value = match (flag.value, given) {
                (Some(_), None) => left.next().cloned().ok_or(format!("flag needs an argument: --{long}"))?,
                (_, given) => given.unwrap_or("true").to_owned(),
            };
            call.flags.insert(flag.long, value);
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            for (at, letter) in letters.char_indices() {
                let flag = known(command, wrong).find(|flag| flag.short == Some(letter));
                let flag = flag.ok_or_else(|| format!("unknown shorthand flag: {letter:?} in {word}"))?;
                if flag.value.is_none() {
                    call.flags.insert(flag.long, "true".to_owned());
                    continue;
                }
                let rest = letters[at + letter.len_utf8()..].trim_start_matches('=');
                let value = Some(rest.to_owned()).filter(|rest| !rest.is_empty());
                let value = value.or_else(|| left.next().cloned());
                call.flags.insert(flag.long, value.ok_or(format!("flag needs an argument: {word}"))?);
                break;
            }
        } else {
            call.args.push(word.clone());
        }
    }
    call.args.drain(..command.words.len());
    if call.args.len() < command.needed {
        return Err(format!(
            "requires at least {} arg(s), only received {}",
            command.needed,
            call.args.len()
        ));
    }
    Ok(Asked::Call(call))
}

/// The flags of a command that this abra has.
fn known<'w>(command: &'static Command, wrong: &'w [Wrong]) -> impl Iterator<Item = &'static Flag> + 'w {
    command.flags.iter().chain(GLOBAL).filter(|flag| has(flag, wrong))
}

fn has(flag: &Flag, wrong: &[Wrong]) -> bool {
    !wrong.iter().any(|wrong| match wrong {
        Wrong::LacksFlag(lacks) => lacks.trim_start_matches('-') == flag.long,
        _ => false,
    })
}

fn group_help(words: &[&str], wrong: &[Wrong]) -> String {
    let mut text = "The Co-op Cloud command-line utility belt 🎩🐇\n\nAvailable Commands:\n".to_owned();
    for command in COMMANDS.iter().filter(|command| command.words.starts_with(words)) {
        writeln!(text, "  {}", command.words.join(" ")).expect("text grows");
    }
    text.push_str("\nFlags:\n");
    flags(&mut text, GLOBAL, wrong);
    text
}

/// As cobra writes it.
fn help(command: &Command, wrong: &[Wrong]) -> String {
    let name = command.words.join(" ");
    let mut text = format!("What abra {name} does.\n\nUsage:\n  abra {name} {}\n\nFlags:\n", command.args);
    flags(&mut text, command.flags, wrong);
    text.push_str("\nGlobal Flags:\n");
    flags(&mut text, GLOBAL, wrong);
    text
}

fn flags(text: &mut String, flags: &[Flag], wrong: &[Wrong]) {
    for flag in flags.iter().filter(|flag| has(flag, wrong)) {
        let short = flag.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let long = format!("{} {}", flag.long, flag.value.unwrap_or_default());
        writeln!(text, "  {short}--{long:<24}{}", flag.says).expect("text grows");
    }
}

/// As the library wrote it that abra used before cobra.
fn old_help(command: &Command, wrong: &[Wrong]) -> String {
    let name = command.words.join(" ");
    let mut text =
        format!("NAME:\n   abra {name} - what it does\n\nUSAGE:\n   abra {name} [command options] ");
    writeln!(text, "{}\n\nOPTIONS:", command.args).expect("text grows");
    for flag in command.flags.iter().chain(GLOBAL).filter(|flag| has(flag, wrong)) {
        let value = flag.value.map(|_| " value").unwrap_or_default();
        let short = flag.short.map(|short| format!(", -{short}{value}")).unwrap_or_default();
        writeln!(text, "   --{}{value}{short}  {}", flag.long, flag.says).expect("text grows");
    }
    text
}
