//! A gateway between a client that trusts nobody else and a proxy that takes note of what it is asked.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::client::TlsStream;

use super::*;
use crate::http::fake_proxy::{Authority, FakeProxy, acceptor, head, listen, page};
use crate::http::{Response as Answer, get_through};

/// Far more than any of this takes.
const LIMIT: Duration = Duration::from_secs(20);

const OWN: &str = "note-012345.ci.example.org";
const BESIDE: &str = "base-012345.ci.example.org";
const OTHER: &str = "other-012345.ci.example.org";

/// A gateway to two names, as its clients see it.
struct Served {
    seen_as: Proxy,
    address: SocketAddr,
    _directory: tempfile::TempDir,
    _serving: JoinSet<()>,
}

impl Served {
    async fn new(proxy: Proxy) -> Self {
        let gateway = Gateway::new(proxy, [OWN, BESIDE].map(|name| name.parse().unwrap()).to_vec()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, gateway.authority()).unwrap();
        let ((listener, address), gateway) = (listen().await, Arc::new(gateway));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut all = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                all.spawn(gateway.clone().serve(stream));
            }
        });
        let seen_as = Proxy::new(address, Some(&file)).unwrap();
        Self { seen_as, address, _directory: directory, _serving: serving }
    }

    /// A connection that was opened for `name`.
    async fn opened(&self, name: &str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        self.seen_as.connect(stream, &name.parse().unwrap()).await.unwrap()
    }

    /// All that is answered to `text`, on a connection that was opened for the app's own name.
    async fn message(&self, text: &str) -> String {
        let mut stream = self.opened(OWN).await;
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // After what is no HTTP it hangs up without a word of TLS.
        let _ended =
            tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("it hangs up").is_ok();
        String::from_utf8(answer).unwrap()
    }
}

async fn proxied(authority: &Authority, name: &str, answers: &[String]) -> (FakeProxy, Served) {
    let server = FakeProxy::start(authority.certificate(name), answers).await;
    let gateway = Served::new(authority.proxy(server.address)).await;
    (server, gateway)
}

#[tokio::test]
async fn the_proxy_is_asked_for_each_of_the_names() {
    let authority = Authority::new();
    let (server, gateway) = proxied(&authority, "*.ci.example.org", &[page("200 OK", "hello")]).await;
    for name in [OWN, BESIDE] {
        let answer = get_through(&gateway.seen_as, &name.parse().unwrap(), "/a?b=c", LIMIT).await.unwrap();
        assert_eq!(answer, Answer { status: 200, location: None, body: "hello".into() });
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.name.as_deref(), Some(name));
        assert!(seen.head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{}", seen.head);
        assert!(seen.head.contains(&format!("host: {name}\r\n")), "{}", seen.head);
    }
    let elsewhere = get_through(&gateway.seen_as, &OTHER.parse().unwrap(), "/", LIMIT).await;
    assert!(elsewhere.is_err(), "no certificate for it");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn no_request_is_for_another_host_whatever_its_connection_was_opened_for() {
    let authority = Authority::new();
    let (server, gateway) = proxied(&authority, "*.ci.example.org", &[page("200 OK", "another app's")]).await;
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\nHost: {OTHER}\r\n"), "421"),
        (format!("GET / HTTP/1.1\r\nHost: x.{OWN}\r\n"), "421"),
        (format!("GET / HTTP/1.1\r\nHost: {OWN}:8443\r\n"), "421"),
        (format!("GET / HTTP/1.1\r\nHost: {OWN}\r\nHost: {OTHER}\r\n"), "421"),
        (format!("GET / HTTP/1.1\r\nHost: {OTHER}\r\nHost: {OWN}\r\n"), "421"),
        (format!("GET https://{OTHER}/ HTTP/1.1\r\nHost: {OWN}\r\n"), "421"),
        (format!("GET https://{OWN}/ HTTP/1.1\r\nHost: {OTHER}\r\n"), "421"),
        (format!("GET / HTTP/1.1\r\nHost: {OTHER}\r\nX-Forwarded-Host: {OWN}\r\n"), "421"),
        (format!("CONNECT {OWN}:443 HTTP/1.1\r\nHost: {OWN}:443\r\n"), "405"),
        ("GET / HTTP/1.0\r\n".to_owned(), "421"),
        (format!("GET / HTTP/1.1\r\nHost: {OWN}\r\nContent-Length: 1\r\nContent-Length: 2\r\n"), "400"),
    ] {
        let answer = gateway.message(&format!("{request}Connection: close\r\n\r\n")).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.{} {status}", u8::from(!request.contains("1.0")))),
            "{request}: {answer}"
        );
        assert!(server.seen().is_empty(), "{request}: {:?}", server.seen());
    }
    // A connection is no request's: the next one is read, too.
    let own = format!("GET /one HTTP/1.1\r\nHost: {OWN}\r\n\r\n");
    let answer = gateway
        .message(&format!("{own}GET /two HTTP/1.1\r\nHost: {OTHER}\r\nConnection: close\r\n\r\n"))
        .await;
    assert!(answer.contains("another app's") && answer.contains("HTTP/1.1 421"), "{answer}");
    let [seen] = &server.seen()[..] else { panic!("one request") };
    assert!(seen.head.starts_with("GET /one"), "{}", seen.head);
}

#[tokio::test]
async fn what_a_request_says_of_its_way_is_said_anew() {
    let authority = Authority::new();
    let (server, gateway) = proxied(&authority, "*.ci.example.org", &[page("200 OK", "")]).await;
    let upper = OWN.to_uppercase();
    for way in [
        format!("Host: {upper}:443\r\nConnection: host, x-hop\r\nX-Hop: 1\r\n"),
        format!(
            "Host: {OWN}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        ),
        format!("Host: {OWN}\r\nTransfer-Encoding: chunked\r\nContent-Length: 30\r\n"),
    ] {
        let body = if way.contains("chunked") { "0\r\n\r\n" } else { "" };
        let close = if way.contains("Connection") { "" } else { "Connection: close\r\n" };
        let mut stream = gateway.opened(OWN).await;
        stream.write_all(format!("POST / HTTP/1.1\r\n{way}{close}\r\n{body}").as_bytes()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'H', "{way}");
        let seen = server.seen().pop().unwrap().head.to_lowercase();
        assert_eq!(seen.matches("\r\nhost: ").count(), 1, "{seen}");
        assert!(seen.contains(&format!("\r\nhost: {OWN}\r\n")), "{seen}");
        for gone in ["x-hop", "h2c", "http2-settings", "content-length: 30"] {
            assert!(!seen.contains(gone), "{gone}: {seen}");
        }
    }
}

/// A proxy that answers one request with `answer`, and then sends back what comes, in capitals.
async fn changes_protocol(authority: &Authority, answer: &'static str) -> (JoinSet<()>, Served) {
    let ((listener, address), acceptor) = (listen().await, acceptor(authority.certificate(OWN)));
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let asked = head(&mut stream).await.to_lowercase();
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut word = [0; 4];
        while asked.contains("upgrade: websocket") && stream.read_exact(&mut word).await.is_ok() {
            word.make_ascii_uppercase();
            stream.write_all(&word).await.unwrap();
        }
    });
    (serving, Served::new(authority.proxy(address)).await)
}

#[tokio::test]
async fn a_websocket_goes_through_and_no_other_protocol() {
    let authority = Authority::new();
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (_serving, gateway) = changes_protocol(&authority, answer).await;
    let mut stream = gateway.opened(OWN).await;
    let asks = format!(
        "GET / HTTP/1.1\r\nHost: {OWN}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
    );
    stream.write_all(asks.as_bytes()).await.unwrap();
    let answered = {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap().to_lowercase()
    };
    assert!(answered.starts_with("http/1.1 101") && answered.contains("upgrade: websocket"), "{answered}");
    for word in ["ping", "pong"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, *word.to_uppercase().as_bytes());
    }
    for (asks, answer) in [
        ("", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        (
            "Upgrade: websocket\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        ),
    ] {
        let (_serving, gateway) = changes_protocol(&authority, answer).await;
        let connection = if asks.is_empty() { "close" } else { "close, Upgrade" };
        let asks = format!("GET / HTTP/1.1\r\nHost: {OWN}\r\n{asks}Connection: {connection}\r\n\r\n");
        let answer = gateway.message(&asks).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{asks}: {answer}");
    }
}

#[tokio::test]
async fn a_proxy_that_shows_what_is_not_good_is_said_so() {
    let authority = Authority::new();
    let (server, gateway) = proxied(&authority, OTHER, &[page("200 OK", "")]).await;
    let answer = get_through(&gateway.seen_as, &OWN.parse().unwrap(), "/", LIMIT).await.unwrap();
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains(&format!("a certificate for another name: {OTHER}")), "{answer:?}");
    assert!(server.seen().is_empty());
}
