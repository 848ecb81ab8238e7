//! Another host's engine, as the operator names it: `ssh://[USER@]HOST[:PORT][/SOCKET]`.

use std::fmt;
use std::str::FromStr;

/// Where an engine listens unless it is said.
const SOCKET: &str = "/var/run/docker.sock";
/// A socket's path has no more bytes.
const LONGEST_PATH: usize = 107;

/// A host that is logged in to by ssh, and the socket there that its engine listens on. What is not said here is as the user's own
/// configuration of ssh has it: `HOST` may be an alias there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshHost {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    socket: Option<String>,
}

/// A text that names no such host. The text is not told: there may be a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ssh://…: {0}")]
pub struct InvalidSshHost(&'static str);

impl FromStr for SshHost {
    type Err = InvalidSshHost;

    fn from_str(text: &str) -> Result<Self, InvalidSshHost> {
        let form = InvalidSshHost("it is ssh://[USER@]HOST[:PORT][/SOCKET]");
        let rest = text.strip_prefix("ssh://").ok_or(form)?;
        let (authority, socket) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(&rest[at..])),
            None => (rest, None),
        };
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err(InvalidSshHost("it has no password: ssh logs in with a key"));
        }
        if !user.is_none_or(|user| is_plain(user, "._-+")) {
            return Err(InvalidSshHost(
                "a user is of letters, digits and .-_+, and does not begin with a dash",
            ));
        }
        let (host, port) = if let Some(bracketed) = place.strip_prefix('[') {
            let (host, rest) = bracketed.split_once(']').ok_or(form)?;
            let is_address = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.');
            if !host.contains(':') || !host.chars().all(is_address) {
                return Err(InvalidSshHost("in brackets there is an address of IPv6, without a zone"));
            }
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(form)?) })
        } else {
            let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
            if !is_plain(host, ".-_") {
                return Err(InvalidSshHost(
                    "a host is of letters, digits and .-_, and does not begin with a dash",
                ));
            }
            (host, port)
        };
        let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.map(|text| {
            let port = text.parse().ok().filter(|port| is_port(text) && *port > 0);
            port.ok_or(InvalidSshHost("a port is a number from 1 to 65535"))
        });
        let is_path = |path: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@=,".contains(c);
            path.len() <= LONGEST_PATH && !path.ends_with('/') && path.chars().all(plain)
        };
        if !socket.is_none_or(is_path) {
            return Err(InvalidSshHost(
                "a socket's path is of letters, digits and /._-+@=, and has at most 107 of them",
            ));
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok(Self { user: owned(user), host: host.to_owned(), port: port.transpose()?, socket: owned(socket) })
    }
}

/// Neither an option, nor anything that ssh or a shell reads in its own way.
fn is_plain(text: &str, more: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(plain)
}

impl SshHost {
    /// The path of the engine's socket there.
    pub(crate) fn socket(&self) -> &str {
        self.socket.as_deref().unwrap_or(SOCKET)
    }

    /// What tells ssh where to log in, and as whom: the last of its arguments.
    pub(crate) fn destination(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), self.host.clone()]);
        arguments
    }

    /// How a person calls a program of ssh's, such as `ssh` or `ssh-copy-id`, to log in there.
    pub(crate) fn by_hand(&self, program: &str) -> String {
        let port = self.port.map(|port| format!("-p {port} ")).unwrap_or_default();
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        format!("{program} {port}{user}{}", self.host)
    }

    /// Whom to log in as, in words.
    pub(crate) fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("the user there")
    }
}

impl fmt::Display for SshHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') { write!(f, "[{}]", self.host) } else { f.write_str(&self.host) }?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.socket.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_left_to_sshs_configuration() {
        for (text, arguments, socket) in [
            ("ssh://worker-1", "-- worker-1", SOCKET),
            ("ssh://root@worker-1.example.org", "-l root -- worker-1.example.org", SOCKET),
            ("ssh://ci_1@10.0.0.3:2222", "-l ci_1 -p 2222 -- 10.0.0.3", SOCKET),
            ("ssh://[fe80::1]:22", "-p 22 -- fe80::1", SOCKET),
            ("ssh://[::1]", "-- ::1", SOCKET),
            ("ssh://a/run/user/1000/docker.sock", "-- a", "/run/user/1000/docker.sock"),
        ] {
            let host: SshHost = text.parse().unwrap();
            assert_eq!((host.destination().join(" ").as_str(), host.socket()), (arguments, socket), "{text}");
            assert_eq!(host.to_string(), text);
        }
    }

    #[test]
    fn nothing_is_an_option_a_password_or_read_in_another_way() {
        let refused = |text: &str| text.parse::<SshHost>().unwrap_err().to_string();
        for (text, rule) in [
            ("ssh:///var/run/docker.sock", "a host is of"),
            ("ssh://", "a host is of"),
            ("ssh://-oProxyCommand=id", "a host is of"),
            ("ssh://root@-host", "a host is of"),
            ("ssh://ho st", "a host is of"),
            ("ssh://host\n", "a host is of"),
            ("ssh://%h", "a host is of"),
            ("ssh://a;b", "a host is of"),
            ("ssh://$HOME", "a host is of"),
            ("ssh://-l@host", "a user is of"),
            ("ssh://@host", "a user is of"),
            ("ssh://ro ot@host", "a user is of"),
            ("ssh://%u@host", "a user is of"),
            ("ssh://a@b@host", "a user is of"),
            ("ssh://root:hunter22@host", "no password"),
            ("ssh://root:@host", "no password"),
            ("ssh://host:", "a port is"),
            ("ssh://host:0", "a port is"),
            ("ssh://host:+22", "a port is"),
            ("ssh://host:65536", "a port is"),
            ("ssh://root:hunter22/x@host", "a port is"),
            ("ssh://[::1", "it is ssh://"),
            ("ssh://[::1]22", "it is ssh://"),
            ("ssh://[fe80::1%eth0]", "in brackets"),
            ("ssh://[host]", "in brackets"),
            ("ssh://::1", "a host is of"),
            ("ssh://host/", "a socket's path"),
            ("ssh://host/a:b", "a socket's path"),
            ("ssh://host/a b", "a socket's path"),
            ("ssh://host/%d/docker.sock", "a socket's path"),
            ("ssh://host/${HOME}/docker.sock", "a socket's path"),
            ("ssh://host/a?b", "a socket's path"),
            ("tcp://host:1", "it is ssh://"),
            ("host", "it is ssh://"),
        ] {
            let told = refused(text);
            assert!(told.contains(rule), "{text:?}: {told}");
            assert!(!told.contains("hunter22"), "{told}");
        }
        let long = |length: usize| format!("ssh://host/{}", "x".repeat(length - 1));
        assert!(long(LONGEST_PATH).parse::<SshHost>().is_ok());
        assert!(refused(&long(LONGEST_PATH + 1)).contains("at most 107"));
    }
}
