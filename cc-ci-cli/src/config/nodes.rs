//! The tables of other nodes of the Swarm: `[nodes.NAME]`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use cc_ci_core::Failure;
use cc_ci_core::sys::files::read_private;
use cc_ci_docker::{Address, InvalidSshHost, NodeAddress, SshHost, TlsAddress, Tunnel};
use serde::Deserialize;

use super::source::Source;

/// More than any certificate has.
const PEM_LIMIT: u64 = 1 << 20;

/// A node's table, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    engine: Engine,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

/// Where its engine listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum Engine {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
    Ssh(SshHost),
}

impl TryFrom<String> for Engine {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with("ssh://") {
            return text.parse().map(Self::Ssh).map_err(|error: InvalidSshHost| error.to_string());
        }
        // What is wrong may have a password in it.
        let shown = text.rsplit_once('@').map_or(text.as_str(), |(_, rest)| rest);
        let rule =
            || format!("{shown:?}: it is unix:///PATH, tcp://HOST:PORT or ssh://[USER@]HOST[:PORT][/SOCKET]");
        if let Some(path) = text.strip_prefix("unix://") {
            return Some(path)
                .filter(|path| path.starts_with('/'))
                .map(|path| Self::Unix(path.into()))
                .ok_or_else(rule);
        }
        let (host, port) =
            text.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(rule)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '[' | ']');
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(rule)?;
        if host.is_empty() || !host.chars().all(plain) {
            return Err(rule());
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

/// The files that a node's table may name, by key.
fn files(node: &Node) -> [(&'static str, Option<&Path>); 3] {
    [("ca_file", &node.ca_file), ("cert_file", &node.cert_file), ("key_file", &node.key_file)]
        .map(|(key, file)| (key, file.as_deref()))
}

/// Holds the tables against their rules. Reads no file that they name.
pub fn check(nodes: &BTreeMap<String, Node>, source: &Source) -> Result<(), Failure> {
    for (name, node) in nodes {
        let key = |key: &str| format!("nodes.{name}.{key}");
        let tcp = matches!(node.engine, Engine::Tcp { .. });
        for (file, path) in files(node) {
            match path {
                Some(path) if !path.is_absolute() => return Err(source.relative(&key(file), path)),
                Some(_) if !tcp => {
                    return Err(source.wrong(&key(file), "it is for tcp://HOST:PORT alone"));
                }
                None if tcp => {
                    let what = format!("without {file} anybody could be the engine, or use it");
                    return Err(source.wrong(&key("engine"), what).with_hint(
                        "name ca_file, cert_file and key_file: https://docs.docker.com/engine/security/protect-access/",
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Where the engines listen. Reads what is shown to them.
pub fn addresses(nodes: &BTreeMap<String, Node>) -> Result<Vec<NodeAddress>, Failure> {
    nodes
        .iter()
        .map(|(name, node)| {
            let address = address(node).map_err(|failure| {
                failure.context(format!("can't use the configuration's [nodes.{name}]"))
            })?;
            Ok(NodeAddress { name: name.clone(), address })
        })
        .collect()
}

fn address(node: &Node) -> Result<Address, Failure> {
    let (host, port) = match &node.engine {
        Engine::Unix(path) => return Ok(Address::Unix(path.clone())),
        Engine::Ssh(host) => return Ok(Address::Ssh(Tunnel::new(host.clone()))),
        Engine::Tcp { host, port } => (host, *port),
    };
    let unreadable = |path: &Path, error: io::Error| {
        Failure::configuration(format!("can't read {}", path.display())).with_source(error)
    };
    let text = |path: &Option<PathBuf>| -> Result<String, Failure> {
        let path = path.as_deref().unwrap_or(Path::new(""));
        read(path).map_err(|error| unreadable(path, error))
    };
    let (ca, certificate) = (text(&node.ca_file)?, text(&node.cert_file)?);
    let key = read_private(node.key_file.as_deref().unwrap_or(Path::new("")), PEM_LIMIT)?;
    let address = TlsAddress::new(host, port, &ca, &certificate, &key);
    address.map(Address::Tls).map_err(|error| Failure::configuration("no TLS can be had").with_source(error))
}

fn read(path: &Path) -> io::Result<String> {
    // A pipe would be waited for.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(PEM_LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

/// The nodes as rows of `config show`: key and value.
pub fn rows(nodes: &BTreeMap<String, Node>) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for (name, node) in nodes {
        let engine = match &node.engine {
            Engine::Unix(path) => format!("unix://{}", path.display()),
            Engine::Tcp { host, port } => format!("tcp://{host}:{port}"),
            Engine::Ssh(host) => host.to_string(),
        };
        rows.push((format!("nodes.{name}.engine"), engine));
        for (key, path) in files(node) {
            rows.extend(path.map(|path| (format!("nodes.{name}.{key}"), path.display().to_string())));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_a_socket_here_or_by_ssh_or_a_port_that_shows_a_certificate() {
        let parse = |text: &str| Engine::try_from(text.to_owned());
        assert_eq!(parse("unix:///x/y.sock"), Ok(Engine::Unix("/x/y.sock".into())));
        for host in ["10.0.0.3", "worker-1.example.org", "[fe80::1]"] {
            let expected = Engine::Tcp { host: host.to_owned(), port: 2376 };
            assert_eq!(parse(&format!("tcp://{host}:2376")), Ok(expected));
        }
        for ssh in ["ssh://worker-1", "ssh://root@worker-1:2222/run/user/1000/docker.sock"] {
            assert_eq!(parse(ssh), Ok(Engine::Ssh(ssh.parse().unwrap())));
        }
        let told = parse("ssh://root:hunter22@worker-1").unwrap_err();
        assert!(told.contains("no password") && !told.contains("hunter22"), "{told}");
        for bad in [
            "",
            "ssh://",
            "ssh://-oProxyCommand=id",
            "unix://x",
            "unix://",
            "tcp://x",
            "tcp://:1",
            "tcp://x:0",
            "tcp://u:p@x:1",
            "http://x:1",
            "/x",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files_are_for_tcp_and_all_three_are_needed() {
        let table = |text: &str| {
            let node: Node = toml::from_str(text).unwrap();
            check(&BTreeMap::from([("w".to_owned(), node)]), &Source::default())
        };
        let three = "ca_file = \"/a\"\ncert_file = \"/b\"\nkey_file = \"/c\"\n";
        assert!(table("engine = \"unix:///x\"").is_ok());
        assert!(table("engine = \"ssh://x\"").is_ok());
        assert!(table(&format!("engine = \"tcp://x:1\"\n{three}")).is_ok());
        for (text, what) in [
            ("engine = \"tcp://x:1\"".to_owned(), "without ca_file"),
            (format!("engine = \"unix:///x\"\n{three}"), "for tcp://HOST:PORT alone"),
            (format!("engine = \"ssh://x\"\n{three}"), "for tcp://HOST:PORT alone"),
            (format!("engine = \"tcp://x:1\"\n{}", three.replace("/b", "b")), "no absolute path"),
        ] {
            let error = table(&text).unwrap_err();
            assert!(error.chain().contains(what), "{error}");
        }
    }
}
