//! The docker command, as the stand-in calls it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Fatal;

/// Runs it and gives what it said, without the line's end.
pub(super) fn docker(args: &[&str]) -> Result<String, Fatal> {
    docker_with(args, None, &BTreeMap::new(), None)
}

/// The same, with something to read, variables, and a directory.
pub(super) fn docker_with(
    args: &[&str],
    stdin: Option<&[u8]>,
    variables: &BTreeMap<String, String>,
    directory: Option<&std::path::Path>,
) -> Result<String, Fatal> {
    let message = bytes(args, stdin, variables, directory)?;
    Ok(String::from_utf8_lossy(&message).trim_end().to_owned())
}

/// The same, and gives the bytes.
pub(super) fn bytes(
    args: &[&str],
    stdin: Option<&[u8]>,
    variables: &BTreeMap<String, String>,
    directory: Option<&std::path::Path>,
) -> Result<Vec<u8>, Fatal> {
    let mut command = Command::new("docker");
    command.args(args).envs(variables).stdout(Stdio::piped()).stderr(Stdio::piped());
    // What an app's `.env` says must not choose what is run, or on which engine.
    for own in ["PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "ABRA_DIR"] {
        match std::env::var_os(own) {
            Some(value) => command.env(own, value),
            None => command.env_remove(own),
        };
    }
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn()?;
    if let Some((mut pipe, text)) = child.stdin.take().zip(stdin) {
        // Who reads nothing has failed, and says why.
        let _unread = pipe.write_all(text).is_err();
    }
    let ended = child.wait_with_output()?;
    if ended.status.success() {
        return Ok(ended.stdout);
    }
    Err(Fatal(String::from_utf8_lossy(&ended.stderr).trim().to_owned()))
}

/// The lines that it said.
pub(super) fn lines(args: &[&str]) -> Result<Vec<String>, Fatal> {
    Ok(docker(args)?.lines().map(str::to_owned).collect())
}

/// Waits until `holds`, looking again whenever the engine tells of a container of `stack`.
pub(super) fn wait(stack: &str, mut holds: impl FnMut() -> Result<bool, Fatal>) -> Result<(), Fatal> {
    // What happens before somebody listens is told too.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    if holds()? {
        return Ok(());
    }
    let filter = format!("label=com.docker.stack.namespace={stack}");
    let mut events = Command::new("docker")
        .args(["events", "--filter", "type=container", "--filter", &filter, "--since", &since])
        .args(["--format", "{{.Action}}"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let shown = events.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines);
    // A healthcheck's commands change nothing that is waited for.
    let mut shown = shown.map_while(Result::ok).filter(|action| !action.starts_with("exec_"));
    let held = loop {
        match holds() {
            Ok(false) => {}
            done => break done,
        }
        if shown.next().is_none() {
            break Err(Fatal::new("the engine tells nothing any more"));
        }
    };
    events.kill()?;
    events.wait()?;
    held.map(drop)
}
