//! Many deliveries, of which few are requests.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::delivery::{Delivery, status};
use crate::place::{Place, end};

/// So many deliveries a second.
const RATE: u64 = 200;

/// Every so many is a request.
const REQUEST: u64 = 100;

/// For how long; the minute of docs/bridge.md by hand: `CCCI_TEST_FLOOD_SECONDS=60`.
fn seconds() -> u64 {
    std::env::var("CCCI_TEST_FLOOD_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(5)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `!testme`, from the forge.
    Request,
    /// One of those, once more.
    Replay,
    /// Another comment, from the forge.
    Comment,
    /// A request that the forge did not sign, from somewhere else.
    Forged,
}

impl Kind {
    fn of(at: u64) -> Self {
        match at {
            _ if at.is_multiple_of(REQUEST) => Self::Request,
            _ if at.is_multiple_of(3) => Self::Replay,
            _ if at % 3 == 1 => Self::Comment,
            _ => Self::Forged,
        }
    }

    fn may_be_answered(self, status: Option<u16>) -> bool {
        match self {
            // Who fails to sign too often is not listened to for a while.
            Self::Forged => matches!(status, Some(401 | 429)),
            Self::Request | Self::Replay | Self::Comment => status == Some(200),
        }
    }
}

struct Answered {
    kind: Kind,
    status: Option<u16>,
    /// Since the moment at which it was due: a sender that comes late counts, too.
    after: Duration,
}

#[test]
fn a_flood_is_answered_and_each_request_in_it_is_run_once() {
    let place = Place::new();
    place.ci.lock().at_once = Some("success");
    let serving = place.serve();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let answered = runtime.block_on(flood(&place, serving.hooks));
    assert_eq!(answered.len() as u64, RATE * seconds());
    for one in &answered {
        assert!(one.kind.may_be_answered(one.status), "{:?}: {:?}", one.kind, one.status);
    }
    let mut times: Vec<_> = answered.iter().map(|one| one.after).collect();
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    say(&format!(
        "{} deliveries: p50 {:.1?}, p99 {:.1?}, longest {:.1?}",
        times.len(),
        at(50),
        at(99),
        at(100)
    ));
    let requests = answered.iter().filter(|one| one.kind == Kind::Request).count() as u64;
    assert_eq!(requests, answered.len() as u64 / REQUEST);
    for pull in 1..=requests {
        place.told(pull, "**Green**");
    }
    let ci = place.ci.lock();
    assert!((1..=requests).all(|pull| ci.of_pull(pull).len() == 1), "{:?}", ci.builds);
    assert_eq!(ci.builds.len() as u64, requests);
    drop(ci);
    end(serving.process);
}

/// Sends each delivery when it is due, whether those before were answered or not.
async fn flood(place: &Place, to: SocketAddr) -> Vec<Answered> {
    let (_, comment) = place.comment(120, "maintainer", "thank you");
    let forged = Delivery::signed(comment.body.replace("thank you", "!testme"));
    let forged = forged.with("X-Gitea-Signature", &[&"ab".repeat(32)]).with("X-Forgejo-Signature", &[]);
    let (comment, forged) = (comment.request(to), forged.request(to));
    let mut last = String::new();
    let began = Instant::now();
    let mut sent = Vec::new();
    for at in 0..RATE * seconds() {
        let due = began + Duration::from_micros(at * 1_000_000 / RATE);
        tokio::time::sleep_until(due).await;
        let kind = Kind::of(at);
        let request = match kind {
            Kind::Request => {
                last = place.comment(at / REQUEST + 1, "maintainer", "!testme").1.request(to);
                last.clone()
            }
            Kind::Replay => last.clone(),
            Kind::Comment => comment.clone(),
            Kind::Forged => forged.clone(),
        };
        // The forge is one address, strangers are many.
        let strangers = u8::try_from(at % 50).expect("it is small") + 2;
        let from = Ipv4Addr::new(127, 0, 0, if kind == Kind::Forged { strangers } else { 1 });
        sent.push(tokio::spawn(async move {
            let status = send(from.into(), to, request.as_bytes()).await.ok().flatten();
            Answered { kind, status, after: due.elapsed() }
        }));
    }
    let mut answered = Vec::new();
    for one in sent {
        answered.push(one.await.expect("a delivery was sent"));
    }
    answered
}

async fn send(from: IpAddr, to: SocketAddr, request: &[u8]) -> std::io::Result<Option<u16>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(to).await?;
    // Whoever is refused may not be listened to till the end.
    let _written = stream.write_all(request).await.is_ok();
    let mut answer = Vec::new();
    let _read = stream.read_to_end(&mut answer).await.is_ok();
    Ok(status(&answer))
}

#[expect(clippy::print_stdout, reason = "`--nocapture` shows the figures of docs/bridge.md")]
fn say(text: &str) {
    println!("{text}");
}
