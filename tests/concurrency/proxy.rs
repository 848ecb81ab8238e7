//! Apps that are asked through a reverse proxy.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

use cc_ci_tests::{ProxyCertificate, TlsProxy, World, confined, skip, unconfined};
use serde_json::Value;

use crate::paused_runs::{self, RUN};
use crate::warmed::Warmed;

/// A proxy that forwards to the port of the local executor's app that is asked for.
fn proxy(world: &World, shown: Vec<ProxyCertificate>) -> TlsProxy {
    let ports = world.local_root().join("ports");
    TlsProxy::start(shown, move |host, head| {
        let app = TcpStream::connect((Ipv4Addr::LOCALHOST, port(&ports, host)?));
        Some(app.and_then(|mut app| {
            write!(app, "{head}\r\n")?;
            std::io::read_to_string(app)
        }))
    })
}

/// The port of the app at this domain: a link that is called by the port names its owner.
fn port(ports: &Path, domain: &str) -> Option<u16> {
    fs::read_dir(ports).ok()?.flatten().find_map(|entry| {
        let owner = fs::read_link(entry.path()).ok()?;
        (owner == Path::new(domain)).then(|| entry.file_name().to_str()?.parse().ok())?
    })
}

/// The run's generic check `serving` of the tier install.
fn serving(world: &World) -> Value {
    let record = world.record(RUN);
    let steps = record["tiers"].as_array().unwrap().iter().find(|tier| tier["name"] == "install").unwrap();
    let steps = steps["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == "generic/serving").unwrap().clone()
}

#[test]
fn an_app_serves_once_the_proxy_shows_a_certificate_that_is_good() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let (domain, ca_file) = (world.domain("plain", 7), world.path().join("ca.pem"));
    let proxy = proxy(
        &world,
        vec![
            ProxyCertificate::default_of_traefik(),
            ProxyCertificate::default_of_traefik(),
            ProxyCertificate::signed(domain.as_str(), &ca_file),
        ],
    );
    let config = world.path().join("config.toml");
    let text = format!("[proxy]\naddress = \"{}\"\nca_file = {ca_file:?}\n", proxy.address());
    fs::write(&config, unconfined(text)).unwrap();
    paused_runs::run(&world, &recipe).arg("--config").arg(&config).run().expect(0);
    assert_eq!(serving(&world)["status"], "passed");
    let asked = proxy.asked();
    assert_eq!(asked[..2], [None, None], "nothing is said to whoever shows a default certificate");
    assert!(
        asked.len() > 2 && asked[2..].iter().all(|host| host.as_deref() == Some(domain.as_str())),
        "{asked:?}"
    );
    world.assert_empty();
}

#[test]
fn the_systems_roots_are_good_and_a_flag_names_the_proxy() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let (domain, ca_file) = (world.domain("plain", 7), world.path().join("ca.pem"));
    let proxy = proxy(&world, vec![ProxyCertificate::signed(domain.as_str(), &ca_file)]);
    let call = paused_runs::run(&world, &recipe).arg("--proxy").arg(proxy.address().to_string());
    // Where OpenSSL and those who follow it look for the system's roots.
    call.env("SSL_CERT_FILE", &ca_file).env("CCCI_PROXY", "none").run().expect(0);
    assert!(!proxy.asked().is_empty());
    world.assert_empty();
}

#[test]
fn a_proxy_that_is_taken_back_is_not_asked() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let proxy = proxy(&world, vec![ProxyCertificate::default_of_traefik()]);
    let call = paused_runs::run(&world, &recipe).env("CCCI_PROXY", proxy.address().to_string());
    call.arg("--proxy").arg("none").run().expect(0);
    assert_eq!(proxy.asked(), []);
    world.assert_empty();
}

#[test]
fn a_ca_file_that_cannot_be_read_ends_the_call_before_anything() {
    let world = World::new();
    let recipe = world.recipe("plain");
    recipe.commit();
    let config = world.path().join("config.toml");
    let missing = world.path().join("missing.pem");
    for (proxy, says) in [
        (format!("address = \"127.0.0.1:443\"\nca_file = {missing:?}"), "missing.pem"),
        (format!("address = \"127.0.0.1:443\"\nca_file = {config:?}"), "no certificate"),
        (format!("ca_file = {missing:?}"), "no proxy.address"),
        ("address = \"127.0.0.1\"".to_owned(), "ADDRESS:PORT"),
        ("adress = \"127.0.0.1:443\"".to_owned(), "did you mean address?"),
    ] {
        fs::write(&config, unconfined(format!("[proxy]\n{proxy}\n"))).unwrap();
        let end = paused_runs::run(&world, &recipe).arg("--config").arg(&config).run().expect(2);
        assert!(end.stderr.contains(says), "{proxy}: {}", end.stderr);
        assert!(!world.runs().exists() && !world.local_root().exists(), "something was changed");
    }
    let end = paused_runs::run(&world, &recipe).env("CCCI_PROXY", "proxy:https").run().expect(2);
    assert!(end.stderr.contains("ADDRESS:PORT"), "{}", end.stderr);
}

#[test]
fn warm_apps_are_asked_through_the_proxy_too() {
    let warmed = Warmed::new();
    let ca_file = warmed.path().join("ca.pem");
    let proxy = proxy(&warmed, vec![ProxyCertificate::signed(warmed.domain.as_str(), &ca_file)]);
    warmed.configure(&format!("[proxy]\naddress = \"{}\"\nca_file = {ca_file:?}\n", proxy.address()));
    assert_eq!(warmed.reconciled()["outcome"], "at_baseline");
    // A question that is not answered in time is asked again.
    let mut asked = proxy.asked();
    asked.dedup();
    assert_eq!(asked, [Some(warmed.domain.to_string())]);
}

/// Says what each of these brings: the page, its status, and why there is none.
const ASK: &str = r#"
ask() { curl --silent --show-error --max-time 20 --write-out '\n= %{http_code}\n' "$@" || echo "= $?"; }
ask "https://$CCCI_DOMAIN/"
ask "http://$CCCI_DOMAIN/"
ask "https://$CCCI_DEPENDENCY_BASE_DOMAIN/"
ask "http://$CCCI_DEPENDENCY_BASE_DOMAIN/"
ask --header "Host: OTHER" "https://$CCCI_DOMAIN/"
ask --request-target "https://OTHER/" "https://$CCCI_DOMAIN/"
ask --connect-to "OTHER:443:$CCCI_DOMAIN:443" --insecure "https://OTHER/"
ask "https://OTHER/"
ask --insecure "https://$PROXY/"
"#;

/// Programs, and what each has to print of a page that it got over https. Those of the host, not what a user has of their own.
const PROGRAMS: [(&str, &str, &str); 6] = [
    ("curl", r#"curl --silent --show-error --max-time 20 "$1""#, "version 1"),
    ("wget", r#"wget --quiet --timeout=20 --tries=1 --output-document=- "$1""#, "version 1"),
    // The app is no repository: git says so of what it got.
    ("git", r#"git ls-remote "$1""#, "not valid: is this a git repository?"),
    (
        "openssl",
        r#"openssl s_client -connect "$CCCI_DOMAIN:443" -verify_hostname "$CCCI_DOMAIN" -verify_return_error -brief </dev/null"#,
        "Verification: OK",
    ),
    (
        "python3",
        r#"python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read())' "$1""#,
        "version 1",
    ),
    (
        "node",
        r#"node -e 'fetch(process.argv[1]).then(answer => answer.text()).then(console.log)' "$1""#,
        "version 1",
    ),
];

#[test]
fn programs_in_a_confined_test_trust_its_way_to_the_proxy_as_they_are() {
    let test = "programs_in_a_confined_test_trust_its_way_to_the_proxy_as_they_are";
    let has_bwrap = std::process::Command::new("bwrap").arg("--version").output();
    if !has_bwrap.is_ok_and(|done| done.status.success()) {
        return skip(test, "bwrap is not installed");
    }
    let is_there = |program: &str| Path::new("/usr/bin").join(program).exists();
    let (tried, missing): (Vec<_>, Vec<_>) =
        PROGRAMS.into_iter().partition(|(program, ..)| is_there(program));
    for (program, ..) in missing {
        skip(test, &format!("{program} is not in /usr/bin"));
    }
    let world = World::new();
    let recipe = world.recipe("plain");
    for (program, call, _) in &tried {
        let call = format!("PATH=/usr/bin\nset -- \"https://$CCCI_DOMAIN/\"\n{call} 2>&1 || true");
        recipe.script(&format!("tests/custom-{program}"), &call);
    }
    recipe.commit();
    let (domain, ca_file) = (world.domain("plain", 7), world.path().join("ca.pem"));
    let proxy = proxy(&world, vec![ProxyCertificate::signed(domain.as_str(), &ca_file)]);
    let config =
        format!("{}[proxy]\naddress = \"{}\"\nca_file = {ca_file:?}\n", confined(&world), proxy.address());
    fs::write(world.config(), config).unwrap();
    paused_runs::run(&world, &recipe).run().expect(0);
    for (program, _, says) in tried {
        let log = world.runs().join(RUN).join(format!("logs/custom-recipe-custom-{program}.log"));
        let printed = fs::read_to_string(log).unwrap();
        assert!(printed.contains(says), "{program}: {printed}");
    }
    world.assert_empty();
}

#[test]
fn a_confined_test_reaches_its_apps_through_the_proxy_and_no_other() {
    let test = "a_confined_test_reaches_its_apps_through_the_proxy_and_no_other";
    for program in ["bwrap", "curl"] {
        if !std::process::Command::new(program)
            .arg("--version")
            .output()
            .is_ok_and(|done| done.status.success())
        {
            return skip(test, &format!("{program} is not installed"));
        }
    }
    let world = World::new();
    let (recipe, base) = (world.recipe("plain"), world.recipe("base"));
    base.commit();
    let (domain, ca_file) = (world.domain("plain", 7), world.path().join("ca.pem"));
    let (_, suffix) = domain.as_str().split_once('.').unwrap();
    let other = format!("other-012345.{suffix}");
    let proxy = proxy(&world, vec![ProxyCertificate::signed(&format!("*.{suffix}"), &ca_file)]);
    let config = format!(
        "{}[proxy]\naddress = \"{}\"\nca_file = {ca_file:?}\n[recipes.plain]\ndepends = [{:?}]\n",
        confined(&world),
        proxy.address(),
        base.path()
    );
    fs::write(world.config(), config).unwrap();
    let asks = ASK.replace("OTHER", &other).replace("$PROXY", &proxy.address().to_string());
    recipe.script("tests/custom-asks", &asks).commit();
    paused_runs::run(&world, &recipe).run().expect(0);
    let log = world.runs().join(RUN).join("logs/custom-recipe-custom-asks.log");
    let asked = fs::read_to_string(log).unwrap();
    let ends = asked.lines().filter_map(|line| line.strip_prefix("= "));
    // Six and seven: no such name, no connection.
    assert_eq!(
        ends.collect::<Vec<_>>(),
        ["200", "200", "200", "200", "421", "421", "421", "000", "6", "000", "7"],
        "{asked}"
    );
    let asked: Vec<String> = proxy.asked().into_iter().flatten().collect();
    assert!(asked.contains(&domain.to_string()) && !asked.contains(&other), "{asked:?}");
    world.assert_empty();
}
