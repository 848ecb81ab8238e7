//! Runs one program as a child of a lifetime, confined or not, and tells what it printed.
//!
//! `sandbox-probe [KEY=VALUE…] -- PROGRAM [ARG…]`; the keys are `confined=yes`, `network=host`, `domain=NAME`, which says where there
//! is no control group and why, and, as often as needed, `read=PATH`, `write=PATH` and `forward=INSIDE>TO`. It ends as the program did,
//! with 137 where it was ended for what it had on disk, and with 125 where it was not started.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cc_ci_core::event::Silent;
use cc_ci_core::lifetime::{
    Bounds, ChildError, Command, Confinement, EmbeddedMode, RunLifetime as _, RunLifetimeExt as _, Sandbox,
    User,
};
use cc_ci_core::process::{Marker, MarkerOwner};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run()));
    done.unwrap_or_else(|error| {
        let _closed = writeln!(std::io::stderr(), "sandbox-probe: {error}").is_err();
        ExitCode::from(125)
    })
}

async fn run() -> Result<ExitCode, Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let middle = words.iter().position(|word| word == "--").ok_or("no -- before the program")?;
    let (keys, program) = (&words[..middle], &words[middle + 1..]);
    let (program, args) = program.split_first().ok_or("no program")?;
    let lifetime = EmbeddedMode::new(Bounds::default(), Arc::new(Silent))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut command = Command::new(program, "/").args(args).env("PATH", &path).grace(Duration::ZERO);
    let passed = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GIVEN_"));
    command = command.envs(passed);
    if keys.iter().any(|key| key == "confined=yes") {
        let domain = keys.iter().find_map(|key| key.strip_prefix("domain="));
        let marker = domain.map(|domain| -> Result<_, Failure> {
            let owner = MarkerOwner::Run { run_id: "1".parse()?, owner: lifetime.owner().clone() };
            Ok(Marker { domain: domain.parse()?, owner })
        });
        let marker = marker.transpose()?;
        let confinement = Confinement::probe(&lifetime, OsStr::new(&path), marker.clone()).await?;
        if let (Some(why), true) = (confinement.unbounded(), marker.is_some()) {
            let _closed = writeln!(std::io::stderr(), "unbounded: {why}").is_err();
        }
        command = marker.into_iter().fold(command, Command::marker);
        let mut sandbox = Sandbox::new(&confinement, User::of_run());
        for key in keys {
            sandbox = match key.split_once('=') {
                Some(("read", path)) => sandbox.read(path),
                Some(("own", path)) => sandbox.read_private(path),
                Some(("write", path)) => sandbox.write(path),
                Some(("name", name)) => sandbox.name(name, Ipv4Addr::new(127, 0, 0, 2)),
                Some(("network", "host")) => sandbox.host_network(),
                Some(("forward", addresses)) => {
                    let (inside, to) = addresses.split_once('>').ok_or("forward=INSIDE>TO")?;
                    sandbox.forward(inside.parse()?, to.parse()?)
                }
                _ => sandbox,
            };
        }
        command = command.sandbox(sandbox);
    }
    let message = &mut |line: &cc_ci_core::lifetime::Line| {
        let _closed = writeln!(std::io::stdout(), "{}", line.text).is_err();
    };
    let ended = lifetime.run(command, Duration::from_mins(1), message).await;
    lifetime.end_children().await;
    if let Err(ChildError::Overfilled { .. }) = ended {
        return Ok(ExitCode::from(137));
    }
    Ok(ExitCode::from(u8::try_from(ended?.shell_code().unwrap_or(125))?))
}
