//! Real handshakes with certificates of every kind.

use std::time::Duration;

use rcgen::date_time_ymd;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::http::fake_proxy::{
    Authority, FakeProxy, Shown, acceptor, default_certificate, head, listen, page,
};
use crate::http::{Response, get_through};

/// Far more than any of this takes.
const LIMIT: Duration = Duration::from_secs(20);

/// So long a server is waited for that never says a word.
const SHORT: Duration = Duration::from_millis(100);

fn domain() -> Domain {
    "note-012345.ci.example.org".parse().unwrap()
}

/// What a client that trusts `authority` says of a proxy that shows this; nothing is asked of it then.
async fn refused(authority: &Authority, shown: Shown) -> String {
    let server = FakeProxy::start(shown, &[page("200 OK", "")]).await;
    let refused = get_through(&authority.proxy(server.address), &domain(), "/", LIMIT).await;
    assert!(server.seen().is_empty(), "{:?}", server.seen());
    crate::model::error_chain(&refused.unwrap_err())
}

#[tokio::test]
async fn the_proxy_is_asked_for_the_domain_by_name_and_host() {
    let authority = Authority::new();
    let server = FakeProxy::start(authority.certificate(domain().as_str()), &[page("200 OK", "hello")]).await;
    let answer = get_through(&authority.proxy(server.address), &domain(), "/", LIMIT).await.unwrap();
    assert_eq!(answer, Response { status: 200, location: None, body: "hello".into() });
    let [seen] = &server.seen()[..] else { panic!("one request") };
    assert_eq!(seen.name.as_deref(), Some(domain().as_str()));
    assert!(seen.head.starts_with("GET / HTTP/1.1\r\n"), "{}", seen.head);
    assert!(seen.head.contains(&format!("host: {}\r\n", domain())), "{}", seen.head);
}

#[tokio::test]
async fn a_certificate_for_all_of_the_suffix_is_good() {
    let authority = Authority::new();
    let server = FakeProxy::start(authority.certificate("*.ci.example.org"), &[page("200 OK", "")]).await;
    assert!(get_through(&authority.proxy(server.address), &domain(), "/", LIMIT).await.is_ok());
}

#[tokio::test]
async fn every_request_sees_the_certificate_of_its_moment() {
    let authority = Authority::new();
    let server = FakeProxy::start(authority.certificate(domain().as_str()), &[page("200 OK", "")]).await;
    let proxy = authority.proxy(server.address);
    for _ in 0..3 {
        get_through(&proxy, &domain(), "/", LIMIT).await.unwrap();
    }
    let seen = server.seen();
    let whole = |seen: &&crate::http::fake_proxy::Seen| {
        !matches!(seen.handshake, None | Some(rustls::HandshakeKind::Resumed))
    };
    assert_eq!(seen.iter().filter(whole).count(), 3, "{seen:?}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_and_names_it() {
    let authority = Authority::new();
    let message = refused(&authority, authority.certificate("other-012345.ci.example.org")).await;
    assert!(
        message.ends_with("shows a certificate for another name: other-012345.ci.example.org"),
        "{message}"
    );
    let many = authority.certificate_with("a.example.org", |params| {
        let name = |number| rcgen::SanType::DnsName(format!("a{number}.example.org").try_into().unwrap());
        params.subject_alt_names = (0..100).map(name).collect();
    });
    let message = refused(&authority, many).await;
    assert!(message.ends_with("a3.example.org, a4.example.org, and 95 more"), "{message}");
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused_and_says_when() {
    let authority = Authority::new();
    let expired = authority.certificate_with(domain().as_str(), |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 2, 3);
    });
    let message = refused(&authority, expired).await;
    assert!(message.ends_with("shows a certificate that expired at 2021-02-03T00:00:00Z"), "{message}");
    let early = authority.certificate_with(domain().as_str(), |params| {
        params.not_before = date_time_ymd(3000, 1, 1);
        params.not_after = date_time_ymd(3001, 1, 1);
    });
    let message = refused(&authority, early).await;
    assert!(message.ends_with("not valid before 3000-01-01T00:00:00Z"), "{message}");
}

#[tokio::test]
async fn a_certificate_of_somebody_unknown_is_refused() {
    let message = refused(&Authority::new(), Authority::new().certificate(domain().as_str())).await;
    assert!(message.ends_with("shows a certificate of an unknown issuer"), "{message}");
}

#[tokio::test]
async fn the_proxys_own_default_certificate_is_called_by_its_name() {
    let message = refused(&Authority::new(), default_certificate()).await;
    assert!(message.contains("shows its own default certificate"), "{message}");
}

#[tokio::test]
async fn what_speaks_no_tls_is_refused_as_such() {
    let (listener, address) = listen().await;
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let plain = page("200 OK", "plain");
        let _told = tokio::io::AsyncWriteExt::write_all(&mut stream, plain.as_bytes()).await.is_ok();
    };
    let ((), answer) = tokio::join!(serve, async {
        get_through(&Authority::new().proxy(address), &domain(), "/", LIMIT).await
    });
    assert!(matches!(answer, Err(HttpError::Tls { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_proxy_that_never_answers_is_given_up_and_nothing_of_the_call_stays() {
    let authority = Authority::new();
    let tls = acceptor(authority.certificate(domain().as_str()));
    let (listener, address) = listen().await;
    let proxy = authority.proxy(address);
    // Silent before the handshake, and silent after it.
    for handshake in [false, true] {
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            if handshake {
                let mut stream = tls.accept(stream).await.unwrap();
                head(&mut stream).await;
                // An end without a farewell is an end too.
                let _ended = stream.read_to_end(&mut Vec::new()).await.is_ok();
            } else {
                let _ended = stream.read_to_end(&mut Vec::new()).await.is_ok();
            }
        };
        let ask = async { get_through(&proxy, &domain(), "/", SHORT).await };
        let both = async { tokio::join!(serve, ask) };
        let ((), answer) = tokio::time::timeout(LIMIT, both).await.expect("the connection was closed");
        // Only one who shook hands is behind the proxy.
        let error = answer.unwrap_err();
        let as_told = match error {
            HttpError::NoConnection { .. } => !handshake,
            HttpError::TimedOut { .. } => handshake,
            _ => false,
        };
        assert!(as_told && error.is_of_proxy() != handshake, "{handshake}: {error:?}");
    }
}

#[test]
fn a_ca_file_that_says_nothing_of_use_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let refused = || {
        let address = "127.0.0.1:443".parse().unwrap();
        let message = crate::model::error_chain(&Proxy::new(address, Some(&file)).unwrap_err());
        assert!(message.contains(&file.display().to_string()), "{message}");
        message
    };
    assert!(refused().contains("can't read"));
    for (content, says) in [
        ("", "has no certificate"),
        ("hello\n", "has no certificate"),
        ("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n", "is no certificate"),
        ("-----BEGIN CERTIFICATE-----\naGVs", "is no certificate"),
    ] {
        fs::write(&file, content).unwrap();
        let message = refused();
        assert!(message.contains(says), "{content}: {message}");
    }
    fs::write(&file, vec![b'\n'; usize::try_from(CA_LIMIT).unwrap() + 1]).unwrap();
    assert!(refused().contains("more than"));
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(refused().contains("no regular file"));
}

#[test]
fn without_any_root_nobody_is_trusted() {
    let address = "127.0.0.1:443".parse().unwrap();
    let refused = Proxy::trusting(address, RootCertStore::empty());
    assert!(matches!(refused, Err(InvalidProxy::NoRoots)), "{refused:?}");
}
