//! An app on another node, reached through the proxy of the CI host.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::process::Stdio;

use cc_ci_tests::engine::{BUSYBOX, Node};
use cc_ci_tests::{ProxyCertificate, Recipe, TlsProxy};

use crate::spread::{assert_told, call, edited, is_green_and_leaves_nothing};
use crate::support::OnNodes;

/// A container in the network of the apps, on the manager: what a proxy's own leg there is.
const RELAY: &str = "relay";

/// The example of three nodes, whose app is on the first worker.
fn elsewhere(test: &OnNodes) -> Recipe {
    edited(test, |_, text| {
        let here = "node.role == manager";
        assert!(text.contains(here));
        text.replace(here, "node.hostname == worker-1")
    })
}

/// Brings a request to a service over the network of the apps, and the answer back.
fn ask(manager: &Node, service: &str, head: &str) -> io::Result<String> {
    // Debian's static busybox looks no name up by itself.
    let script = "address=$(nslookup \"tasks.$0\" | sed -n 's/^Address.*: *\\(10[.0-9]*\\).*/\\1/p' | head -n 1)\n\
                  [ -n \"$address\" ] && exec nc \"$address\" 8080";
    let mut command = manager.command(["exec", "--interactive", RELAY, "sh", "-c", script, service]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    // Taken, so that it is closed.
    child.stdin.take().expect("it is a pipe").write_all(format!("{head}\r\n").as_bytes())?;
    let answer = child.wait_with_output()?.stdout;
    if answer.is_empty() {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    String::from_utf8(answer).map_err(io::Error::other)
}

#[test]
fn an_app_on_another_node_serves_through_the_proxy() {
    let Some(test) = OnNodes::new("an_app_on_another_node_serves_through_the_proxy") else { return };
    test.configure();
    let manager = test.nodes.manager().clone();
    manager.docker(["run", "--detach", "--name", RELAY, "--network", "proxy", BUSYBOX, "sleep", "1000000"]);
    let ca_file = test.world.path().join("ca.pem");
    let (suffix, asked_by) = (test.world.suffix().to_string(), manager.clone());
    let shown = vec![ProxyCertificate::signed(&format!("*.{suffix}"), &ca_file)];
    let proxy = TlsProxy::start(shown, move |host, head| {
        host.ends_with(&format!(".{suffix}"))
            .then(|| ask(&asked_by, &format!("{}_app", host.replace('.', "_")), head))
    });
    let mut config = OpenOptions::new().append(true).open(test.world.config()).expect("a configuration");
    write!(config, "\n[proxy]\naddress = \"{}\"\nca_file = {ca_file:?}\n", proxy.address()).expect("a file");
    let record = is_green_and_leaves_nothing(&test, &elsewhere(&test));
    let domain = record["domain"].as_str().expect("a domain");
    assert!(proxy.asked().iter().any(|host| host.as_deref() == Some(domain)), "{:?}", proxy.asked());
    manager.docker(["rm", "--force", RELAY]);
}

#[test]
fn an_app_on_another_node_wants_a_proxy() {
    let Some(test) = OnNodes::new("an_app_on_another_node_wants_a_proxy") else { return };
    test.configure();
    let ended = call(&test, &elsewhere(&test), "1").run().expect(3);
    assert!(ended.stdout.contains("it has tasks on others"), "{}", ended.stdout);
    assert_told(&test, "1", "name the proxy that leads there: [proxy] address");
    test.assert_empty();
}
