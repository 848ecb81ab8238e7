//! Apps that are asked through a reverse proxy.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use cc_ci_tests::{World, confined, skip, unconfined};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::Value;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::paused_runs::{self, RUN};
use crate::warmed::Warmed;

/// What the proxy shows.
struct Shown(CertificateDer<'static>, KeyPair);

/// A certificate of a CA whose own is in the file.
fn signed(name: &str, ca_file: &Path) -> Shown {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "a CA of the tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(ca_file, issuer.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    Shown(params.signed_by(&key, &issuer).unwrap().der().clone(), key)
}

/// What it shows until it has one.
fn default() -> Shown {
    let mut params = CertificateParams::new(["0123456789abcdef.traefik.default".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "TRAEFIK DEFAULT CERT");
    let key = KeyPair::generate().unwrap();
    Shown(params.self_signed(&key).unwrap().der().clone(), key)
}

/// A TLS proxy that forwards to the port of the local executor's app that is asked for.
struct Proxy {
    address: SocketAddr,
    /// Of each client in turn: the host that it asked for, if the certificate was good enough for it to ask.
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

impl Proxy {
    /// It shows each client the next certificate, and the last one to all the rest.
    fn start(world: &World, shown: Vec<Shown>) -> Self {
        let shown: Vec<Arc<ServerConfig>> = shown.into_iter().map(config).collect();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (ports, all) = (world.local_root().join("ports"), asked.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                let config = shown.get(number).or(shown.last()).unwrap().clone();
                let mut client =
                    BufReader::new(StreamOwned::new(ServerConnection::new(config).unwrap(), stream));
                let (head, host) = request(&mut client).unzip();
                // First: who has the answer may look at once.
                all.lock().unwrap().push(host.clone());
                if let (Some(head), Some(host)) = (head, host) {
                    forward(client.get_mut(), &head, &host, &ports);
                }
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<Option<String>> {
        self.asked.lock().unwrap().clone()
    }
}

fn config(Shown(certificate, key): Shown) -> Arc<ServerConfig> {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    Arc::new(config.unwrap())
}

type Client = StreamOwned<ServerConnection, TcpStream>;

/// The head of a request, and the host that it is for. `None` of a client that refuses the certificate: it hangs up.
fn request(client: &mut BufReader<Client>) -> Option<(String, String)> {
    let (mut head, mut line) = (String::new(), String::new());
    while line != "\r\n" {
        head.push_str(&line);
        line.clear();
        client.read_line(&mut line).ok().filter(|read| *read > 0)?;
    }
    let host = head.lines().find_map(|line| line.strip_prefix("host: "))?.to_owned();
    Some((head, host))
}

/// Brings a request to its app and the answer back.
fn forward(client: &mut Client, head: &str, host: &str, ports: &Path) {
    let answer = match port(ports, host) {
        Some(port) => {
            // An app that is coming up or going down hangs up, as a real one does to a real proxy.
            ask(port, head).unwrap_or_else(|_| answer("502 Bad Gateway", "bad gateway\n"))
        }
        None => answer("404 Not Found", "404 page not found\n"),
    };
    let _told = client.write_all(answer.as_bytes()).and_then(|()| client.flush()).is_ok();
}

/// Asks the app, and gives its whole answer.
fn ask(port: u16, head: &str) -> std::io::Result<String> {
    let mut app = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    write!(app, "{head}\r\n")?;
    std::io::read_to_string(app)
}

/// An answer of the proxy's own.
fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
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
    let proxy = Proxy::start(&world, vec![default(), default(), signed(domain.as_str(), &ca_file)]);
    let config = world.path().join("config.toml");
    let text = format!("[proxy]\naddress = \"{}\"\nca_file = {ca_file:?}\n", proxy.address);
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
    let proxy = Proxy::start(&world, vec![signed(domain.as_str(), &ca_file)]);
    let call = paused_runs::run(&world, &recipe).arg("--proxy").arg(proxy.address.to_string());
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
    let proxy = Proxy::start(&world, vec![default()]);
    let call = paused_runs::run(&world, &recipe).env("CCCI_PROXY", proxy.address.to_string());
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
    let proxy = Proxy::start(&warmed, vec![signed(warmed.domain.as_str(), &ca_file)]);
    warmed.configure(&format!("[proxy]\naddress = \"{}\"\nca_file = {ca_file:?}\n", proxy.address));
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
    let proxy = Proxy::start(&world, vec![signed(domain.as_str(), &ca_file)]);
    let config =
        format!("{}[proxy]\naddress = \"{}\"\nca_file = {ca_file:?}\n", confined(&world), proxy.address);
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
    let proxy = Proxy::start(&world, vec![signed(&format!("*.{suffix}"), &ca_file)]);
    let config = format!(
        "{}[proxy]\naddress = \"{}\"\nca_file = {ca_file:?}\n[recipes.plain]\ndepends = [{:?}]\n",
        confined(&world),
        proxy.address,
        base.path()
    );
    fs::write(world.config(), config).unwrap();
    let asks = ASK.replace("OTHER", &other).replace("$PROXY", &proxy.address.to_string());
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
