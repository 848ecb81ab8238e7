//! The command line.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::client::{self, Call, ClientError};
use crate::settings::Settings;
use crate::store::Format;
use crate::{output, serve, worker};

const HELP: &str = "\
note-keeper: a small HTTP note keeper

  note-keeper serve --data-format lines|json      serve the notes
  note-keeper worker                              keep a count of the notes
  note-keeper get    [options] URL                print what URL answers
  note-keeper post   [options] URL KEYFILE TEXT   send TEXT with the key in KEYFILE (- sends no key)
  note-keeper delete [options] URL KEYFILE        delete with the key in KEYFILE

Options of get, post and delete:
  --host HOST      send this Host header
  --expect STATUS  succeed on exactly this status, instead of on any 2xx

Settings of serve and worker, from the environment:
  NOTES_LISTEN (0.0.0.0)           address to serve on
  NOTES_PORT (8080)                port to serve on; 0 takes a free one
  NOTES_DATA_DIR (/data)           where the notes are
  NOTES_WRITE_KEY_FILE (/run/secrets/write_key)
                                   holds the key for POST /notes
  NOTES_ADMIN_KEY_FILE             holds the key for DELETE /notes/ID; without it nothing can be deleted
  NOTES_NOTICE_FILE                a text to show on the first page
  NOTES_INSTANCE_NAME (Notes)      the title of the first page
  NOTES_MAX_LENGTH (4096)          most bytes in a note
  NOTES_STOP_GRACE (5)             seconds that open requests get after SIGTERM
  NOTES_STATS_DIR (/stats)         where the worker keeps its count
  NOTES_STATS_INTERVAL (1)         seconds between two counts

Exit status: 0 done, 1 failed or another HTTP status, 2 wrong usage or setting, 3 no answer
";

/// What was asked for.
#[derive(Debug)]
pub(crate) enum Command {
    Serve(Format),
    Worker,
    Call(Call),
    Help,
    Version,
}

/// The command line is not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    #[error("no command given")]
    NoCommand,
    #[error("unknown command {0:?}")]
    UnknownCommand(String),
    #[error("argument {0:?} is not UTF-8")]
    NotUtf8(OsString),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("unexpected argument {0:?}")]
    Unexpected(String),
    #[error("{name} is {value:?}, but must be {rule}")]
    Bad { name: &'static str, value: String, rule: &'static str },
}

/// Understands a command line whose first word is the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let words: Vec<String> = args
        .into_iter()
        .skip(1)
        .map(|word| word.into_string().map_err(UsageError::NotUtf8))
        .collect::<Result<_, _>>()?;
    let mut words = words.into_iter();
    let command = match words.next().ok_or(UsageError::NoCommand)?.as_str() {
        "serve" => Command::Serve(parse_format(&mut words)?),
        "worker" => Command::Worker,
        "get" => Command::Call(parse_call("GET", &mut words)?),
        "post" => Command::Call(parse_call("POST", &mut words)?),
        "delete" => Command::Call(parse_call("DELETE", &mut words)?),
        "help" | "--help" | "-h" => Command::Help,
        "version" | "--version" | "-V" => Command::Version,
        other => return Err(UsageError::UnknownCommand(other.to_owned())),
    };
    match words.next() {
        Some(extra) => Err(UsageError::Unexpected(extra)),
        None => Ok(command),
    }
}

fn parse_format(words: &mut impl Iterator<Item = String>) -> Result<Format, UsageError> {
    const NAME: &str = "--data-format";
    match words.next() {
        Some(word) if word == NAME => {}
        Some(other) => return Err(UsageError::Unexpected(other)),
        None => return Err(UsageError::Missing(NAME)),
    }
    match words.next().ok_or(UsageError::Missing(NAME))? {
        value if value == Format::Lines.name() => Ok(Format::Lines),
        value if value == Format::Json.name() => Ok(Format::Json),
        value => Err(UsageError::Bad { name: NAME, value, rule: "lines or json" }),
    }
}

fn parse_call(method: &'static str, words: &mut impl Iterator<Item = String>) -> Result<Call, UsageError> {
    let (mut host, mut expect) = (None, None);
    let url = loop {
        match words.next().ok_or(UsageError::Missing("URL"))?.as_str() {
            "--host" => host = Some(words.next().ok_or(UsageError::Missing("--host"))?),
            "--expect" => {
                let value = words.next().ok_or(UsageError::Missing("--expect"))?;
                expect = Some(value.parse().map_err(|_| UsageError::Bad {
                    name: "--expect",
                    value,
                    rule: "an HTTP status",
                })?);
            }
            option if option.starts_with('-') => return Err(UsageError::Unexpected(option.to_owned())),
            url => break url.to_owned(),
        }
    };
    let key_file = match method {
        "GET" => None,
        _ => Some(words.next().ok_or(UsageError::Missing("KEYFILE"))?)
            .filter(|file| file != "-")
            .map(PathBuf::from),
    };
    let body = match method {
        "POST" => Some(words.next().ok_or(UsageError::Missing("TEXT"))?),
        _ => None,
    };
    Ok(Call { method, url, host, expect, key_file, body })
}

/// Does what was asked for.
pub(crate) fn run(command: Command) -> ExitCode {
    match command {
        Command::Help => print(HELP.as_bytes()),
        Command::Version => print(concat!("note-keeper ", env!("CARGO_PKG_VERSION")).as_bytes()),
        Command::Call(call) => match client::call(&call) {
            Ok(body) => print(&body),
            Err(error) => {
                output::complain(&error);
                ExitCode::from(match error {
                    ClientError::Status { body, .. } => {
                        output::say(String::from_utf8_lossy(&body).trim_end());
                        1
                    }
                    ClientError::BadUrl { .. } | ClientError::BadHost(_) | ClientError::Key { .. } => 2,
                    _ => 3,
                })
            }
        },
        Command::Serve(format) => with_settings(|settings| serve::run(settings, format)),
        Command::Worker => with_settings(worker::run),
    }
}

fn with_settings<E: std::error::Error>(work: impl FnOnce(Settings) -> Result<(), E>) -> ExitCode {
    match Settings::read(|name| env::var_os(name)) {
        Ok(settings) => match work(settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                output::complain(&error);
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            output::complain(&error);
            ExitCode::from(2)
        }
    }
}

fn print(text: &[u8]) -> ExitCode {
    match output::answer(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
