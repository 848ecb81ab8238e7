//! A process that lives one owning lifetime and tells about it, line by line, on stdout.
//!
//! `lifetime-probe [KEY=VALUE…] BODY [ARG]`; see `Options` for the keys and `body` for the bodies. Two words are no
//! lifetime at all: `subreaper CMD…` adopts what CMD orphans, `recover DOMAIN` ends what dead owners left.

use std::fmt::Display;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cc_ci_core::event::{Event, Reporter};
use cc_ci_core::exit::Exit;
use cc_ci_core::lifetime::conformance::CASES;
use cc_ci_core::lifetime::{
    Bounds, Child, Command, EmbeddedMode, ParentWatch, ProcessMode, RunLifetime, RunLifetimeExt as _,
    ScopeEnd, TakenOver,
};
use cc_ci_core::process::{Marker, MarkerOwner, ProcessIdentity, end_marked_of_dead_owners};
use cc_ci_core::system_info::BootId;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let taken = match std::env::args().nth(1).as_deref() {
        Some("subreaper" | "recover") => None,
        _ => Some(ProcessMode::take_over()),
    };
    let done = match taken {
        None => without_lifetime(),
        Some(Ok(taken)) => with_lifetime(taken),
        Some(Err(error)) => Err(error.into()),
    };
    done.unwrap_or_else(|error| {
        say(format_args!("refused: {error}"));
        ExitCode::from(Exit::Usage.code())
    })
}

/// Whoever reads may be gone.
fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    let _closed = writeln!(out, "{line}").and_then(|()| out.flush()).is_err();
}

#[derive(Debug)]
struct Say;

impl Reporter for Say {
    fn report(&self, event: &Event) {
        match event {
            Event::Cancelled { cause } => say(format_args!("cancelled: {cause}")),
            Event::SignalSwallowed { signal } => say(format_args!("swallowed: {signal}")),
            Event::Asked { children } if children.is_empty() => say("asked: no child runs"),
            Event::Asked { children } => say(format_args!("asked: {}", children.join("; "))),
            Event::Note { text } => say(format_args!("note: {text}")),
            other => say(format_args!("{other:?}")),
        }
    }
}

struct Options {
    /// `parent=none`, `parent=PID` or `parent=PID:START`.
    parent: ParentWatch,
    /// `deadline=MILLISECONDS`.
    bounds: Bounds,
    /// `before=stdin`: starts to listen at the end of stdin. `teardown=stdin`: tears down until the end of stdin. `beside=sleep`:
    /// an embedded lifetime beside this one has a child, which has one, too.
    waits: Vec<String>,
    words: Vec<String>,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options {
        parent: ParentWatch::Parent,
        bounds: Bounds { deadline: None, ..Bounds::default() },
        waits: Vec::new(),
        words: Vec::new(),
    };
    for word in std::env::args().skip(1) {
        match word.split_once('=') {
            Some(("parent", "none")) => options.parent = ParentWatch::None,
            Some(("parent", pid)) => {
                let (pid, start) = pid.split_once(':').map_or((pid, None), |(pid, start)| (pid, Some(start)));
                let start_time = start.map(str::parse).transpose()?;
                options.parent = ParentWatch::Pid { pid: pid.parse()?, start_time };
            }
            Some(("deadline", limit)) => {
                options.bounds.deadline = Some(Duration::from_millis(limit.parse()?));
            }
            Some(("before" | "teardown", "stdin") | ("beside", "sleep")) => options.waits.push(word),
            _ => options.words.push(word),
        }
    }
    Ok(options)
}

fn with_lifetime(taken: TakenOver) -> Result<ExitCode, Failure> {
    let options = options()?;
    let waits = |word: &str| options.waits.iter().any(|wait| wait == word);
    if waits("before=stdin") {
        say("taken over");
        until_stdin_ends();
    }
    let life = taken.start(options.parent, options.bounds, Arc::new(Say))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let [body, case] = &options.words[..]
        && body == "conformance"
    {
        runtime.block_on(conform(case, life))?;
        return Ok(ExitCode::SUCCESS);
    }
    let _beside = if waits("beside=sleep") { Some(runtime.block_on(beside())?) } else { None };
    let started = Mutex::default();
    let (end, children) = runtime.block_on(life.scope(body(&life, &options.words, &started)));
    // What a teardown would do now: remove. Nobody may be there who makes it again.
    let started = started.into_inner().unwrap_or_else(PoisonError::into_inner);
    let alive = started.iter().filter(|process| process.is_alive(&process.boot_id)).count();
    say(format_args!("removing: {alive} alive, {} left", children.left.len()));
    say(format_args!("ended: {} groups, {} escaped", children.groups, children.escaped));
    if let Some(after) = children.signalled_after {
        say(format_args!("signalled after ms: {}", after.as_millis()));
    }
    if waits("teardown=stdin") {
        until_stdin_ends();
    }
    let exit = match end {
        ScopeEnd::Returned(done) => {
            done?;
            Exit::Green
        }
        ScopeEnd::Cancelled(cause) => Exit::Cancelled(cause),
        ScopeEnd::Panicked(_) => Exit::Harness,
    };
    say(format_args!("exit: {}", exit.code()));
    Ok(exit.into())
}

fn until_stdin_ends() {
    let _unreadable = std::io::stdin().read_to_end(&mut Vec::new()).is_err();
}

async fn body(
    life: &ProcessMode,
    words: &[String],
    started: &Mutex<Vec<ProcessIdentity>>,
) -> Result<(), Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["return"] => Ok(()),
        ["panic", script] => {
            start(life, script, started).await?;
            std::panic::resume_unwind(Box::new("on purpose"))
        }
        ["wait"] => {
            say("ready");
            std::future::pending().await
        }
        // Runs a script whose lines are pids of processes that must be gone in the end, until `ready`.
        ["script", script] => {
            start(life, script, started).await?;
            say("ready");
            std::future::pending().await
        }
        _ => Err("no such body".into()),
    }
}

/// A lifetime beside this one, with a child.
async fn beside() -> Result<(EmbeddedMode, Child), Failure> {
    let life = EmbeddedMode::new(Bounds { deadline: None, ..Bounds::default() }, Arc::new(Say))?;
    let command = Command::new("sh", "/").env("PATH", "/usr/bin:/bin");
    let mut child = life.spawn(command.args(["-c", "sleep 1000 & echo $!; wait"])).await?;
    let below = child.next_line().await.ok_or("it has no child")?.text;
    say(format_args!("beside: {} {below}", child.pid()));
    Ok((life, child))
}

async fn start(
    life: &ProcessMode,
    script: &str,
    started: &Mutex<Vec<ProcessIdentity>>,
) -> Result<(), Failure> {
    let marker = Marker {
        domain: "note-000001.lifetime.test".parse()?,
        owner: MarkerOwner::Run { run_id: "probe".parse()?, owner: life.owner().clone() },
    };
    let command = Command::new("sh", "/").env("PATH", "/usr/bin:/bin").args(["-c", script]).marker(marker);
    let mut child = life.spawn(command.grace(Duration::from_millis(50))).await?;
    let mut pids = vec![child.pid()];
    while let Some(line) = child.next_line().await {
        if line.text == "ready" {
            break;
        }
        pids.push(line.text.parse()?);
    }
    for pid in pids {
        let process = ProcessIdentity::of(pid, BootId::current()?)?;
        say(format_args!("pid: {pid}"));
        started.lock().unwrap_or_else(PoisonError::into_inner).push(process);
    }
    Ok(())
}

/// The cases that ask for one lifetime.
async fn conform(case: &str, life: ProcessMode) -> Result<(), Failure> {
    let life = Mutex::new(Some(life));
    let new = |_: Bounds| -> Box<dyn RunLifetime> {
        let life = life.lock().unwrap_or_else(PoisonError::into_inner).take();
        #[expect(clippy::expect_used, reason = "who names a case that asks for two lifetimes is mistaken")]
        Box::new(life.expect("one lifetime for one process"))
    };
    let case = CASES.iter().find(|known| known.name == case).ok_or("no such case")?;
    case.run(&new).await;
    Ok(())
}

fn without_lifetime() -> Result<ExitCode, Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [word, program, args @ ..] if word == "subreaper" => {
            nix::sys::prctl::set_child_subreaper(true)?;
            let mut child = std::process::Command::new(program).args(args).spawn()?;
            child.wait()?;
            // Adopts until whoever started us closes stdin.
            until_stdin_ends();
            Ok(ExitCode::SUCCESS)
        }
        [word, domain] if word == "recover" => {
            let ended = end_marked_of_dead_owners(&domain.parse()?, &BootId::current()?)?;
            say(format_args!("recovered: {ended}"));
            Ok(ExitCode::SUCCESS)
        }
        _ => Err("what?".into()),
    }
}
