//! What joins the nodes of a private Swarm: a bridge in a network namespace of its own, with a port for each node.
//!
//! The namespace lives as long as one process does, which ends when its stdin does: with its owner, however that dies.
//! The kernel then takes the bridge and its ports, and each port takes the node's end along. Nothing of it is ever in the
//! machine's own network.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::private::{Failure, path};

/// The bridge.
const BRIDGE: &str = "nodes";
/// What a node calls its end.
const INTERFACE: &str = "eth0";

/// A bridge that nodes can be joined by. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Switch {
    child: Child,
    host_pid: i32,
}

impl Switch {
    /// A new one; `program` is the command `private-engine`.
    ///
    /// # Errors
    /// When the kernel has no bridges, or refuses one.
    pub(super) fn start(program: &Path) -> Result<Self, Failure> {
        let child = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--net", "--"])
            .arg(program)
            .arg("switch")
            .env("PATH", path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("can't start unshare: {error}"))?;
        let mut switch = Self { child, host_pid: 0 };
        let mut answer = String::new();
        if let Some(out) = switch.child.stdout.take() {
            BufReader::new(out).read_line(&mut answer)?;
        }
        switch.host_pid = answer.trim().parse().map_err(|_| "no network for the nodes")?;
        Ok(switch)
    }

    /// Joins the node whose first process has the pid `host_pid`, and gives it its address.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn join(&self, port: &str, host_pid: i32, address: IpAddr) -> Result<(), Failure> {
        let node = host_pid.to_string();
        let pair = ["link", "add", port, "type", "veth", "peer", "name", INTERFACE, "netns", &node];
        ip(self.host_pid, &pair)?;
        ip(self.host_pid, &["link", "set", port, "master", BRIDGE, "up"])?;
        ip(host_pid, &["address", "add", &format!("{address}/24"), "dev", INTERFACE])?;
        ip(host_pid, &["link", "set", INTERFACE, "up"])
    }

    /// Cuts a node off, or lets it in again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn set(&self, port: &str, state: &str) -> Result<(), Failure> {
        ip(self.host_pid, &["link", "set", port, state])
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _gone = self.child.wait().is_err();
    }
}

/// Calls `ip` in the network of a process.
fn ip(of: i32, args: &[&str]) -> Result<(), Failure> {
    let network = format!("--net=/proc/{of}/ns/net");
    let output = call("nsenter", [network.as_str(), "--", "ip"].iter().chain(args))?;
    if output.is_empty() { Ok(()) } else { Err(format!("ip {}: {output}", args.join(" ")).into()) }
}

/// Calls a command; gives what it said against it.
fn call<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Result<String, Failure> {
    let output = Command::new(program).args(args).env("PATH", path()).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("can't start {program}: {error}"))?;
    if output.status.success() {
        return Ok(String::new());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(if message.is_empty() { output.status.to_string() } else { message })
}

/// The bridge's process: it makes the bridge, says its pid, and lives until stdin ends.
///
/// # Errors
/// When there can be no bridge.
pub fn run() -> Result<(), Failure> {
    if std::process::id() != 1 {
        return Err(
            "this is for the first process of a pid namespace: see `private-engine run --nodes`".into()
        );
    }
    for args in [&["link", "add", BRIDGE, "type", "bridge"][..], &["link", "set", BRIDGE, "up"]] {
        let refused = call("ip", args)?;
        if !refused.is_empty() {
            return Err(format!("ip {}: {refused}", args.join(" ")).into());
        }
    }
    let host_pid = std::fs::read_link("/proc/self")?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", host_pid.display())?;
    out.flush()?;
    let _ended = io::stdin().read_to_end(&mut Vec::new()).is_err();
    Ok(())
}
