//! The generic checks: what every app must hold, whatever it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::recipe;
use super::state::Run;
use crate::engine::{App, Endpoint, Engine, ServiceState};
use crate::http::{self, Proxy, Response};
use crate::model::error_chain;
use crate::model::failure::Failure;
use crate::names::Domain;
use crate::recipe::served_path;

/// How long an app that has converged may take to serve: not every recipe has a healthcheck.
const SERVING_LIMIT: Duration = Duration::from_mins(1);

/// And one answer of it.
const GET_LIMIT: Duration = Duration::from_secs(10);

/// Traefik's page where no router leads to an app.
const NO_ROUTER: &str = "404 page not found";

/// The app answers at its domain, with something that is not an error: through the proxy where one is configured,
/// else straight from its task; at a path that its routers take.
pub(super) async fn serving(run: &Run<'_>, app: &App) -> Result<(), Failure> {
    let path = served_path(&recipe::load(run, app).await?.compose, &app.domain);
    let (engine, proxy) = (run.harness.ci_host.engine.as_ref(), run.harness.settings.proxy.as_ref());
    serving_within(engine, proxy, &app.domain, &path, SERVING_LIMIT).await
}

async fn serving_within(
    engine: &dyn Engine,
    proxy: Option<&Proxy>,
    domain: &Domain,
    path: &str,
    limit: Duration,
) -> Result<(), Failure> {
    let way = match proxy {
        Some(proxy) => Way::Proxy(proxy),
        None => Way::Task(engine.endpoint(domain).await?),
    };
    let until = Instant::now() + limit;
    let mut pause = Duration::from_millis(25);
    // The last thing that says something of the app: once the proxy led to it, a proxy that is gone explains nothing.
    let mut of_app = None;
    loop {
        let answer = match &way {
            Way::Proxy(proxy) => http::get_through(proxy, domain, path, GET_LIMIT).await,
            Way::Task(endpoint) => http::get(endpoint.address, endpoint.host.as_str(), path, GET_LIMIT).await,
        };
        let (seen, of_proxy) = match answer {
            Ok(response) if way.leads_back(&response, domain, path) => {
                (format!("HTTP status {}: it leads to itself, for ever", response.status), false)
            }
            // An app that asks who is there serves.
            Ok(response) if response.status < 400 || matches!(response.status, 401 | 403) => return Ok(()),
            Ok(response) => (way.refusal(&response), false),
            Err(error) => (error_chain(&error), matches!(way, Way::Proxy(_)) && error.is_of_proxy()),
        };
        if !of_proxy {
            of_app = Some(seen.clone());
        }
        if Instant::now() >= until {
            let failed = |seen: &str| format!("{}, for {limit:?}: {seen}", way.asked(domain, path));
            return Err(match of_app {
                Some(seen) => Failure::recipe(failed(&seen)),
                // A proxy that is not there, or not in order, says nothing of the recipe.
                None => Failure::host(failed(&seen)),
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// The way in to an app.
enum Way<'p> {
    Proxy(&'p Proxy),
    Task(Endpoint),
}

impl Way<'_> {
    fn asked(&self, domain: &Domain, path: &str) -> String {
        match self {
            Self::Proxy(proxy) => format!("GET https://{domain}{path} through {proxy}"),
            Self::Task(endpoint) => format!("GET {path} as {domain} straight from {}", endpoint.address),
        }
    }

    /// Whether an answer leads to the very address that was asked. Straight from the task it may lead to the proxy's
    /// `https`.
    fn leads_back(&self, response: &Response, domain: &Domain, path: &str) -> bool {
        let scheme = match self {
            Self::Proxy(_) => "https:",
            Self::Task(_) => "http:",
        };
        response.location.as_deref().is_some_and(|location| {
            let location = location.strip_prefix(scheme).unwrap_or(location);
            let location = location.strip_prefix(&format!("//{domain}")).unwrap_or(location);
            location == path || location.is_empty() && path == "/"
        })
    }

    /// What a page that is an error says.
    fn refusal(&self, response: &Response) -> String {
        let (status, body) = (response.status, first_line(&response.body));
        match self {
            // An app may say so itself: the words are those of Go's library.
            Self::Proxy(_) if status == 404 && response.body.trim_end() == NO_ROUTER => {
                format!("HTTP status 404: {body}: the proxy knows no such app, or it is the app's own page")
            }
            Self::Proxy(_) | Self::Task(_) => format!("HTTP status {status}: {body}"),
        }
    }
}

/// Every service runs what it is meant to run, healthy.
pub(super) fn healthy(services: &[ServiceState]) -> Result<(), Failure> {
    let sick: Vec<&str> =
        services.iter().filter(|service| !service.healthy).map(|service| service.name.as_str()).collect();
    if services.is_empty() {
        return Err(Failure::recipe("the app has no services".to_owned()));
    }
    if sick.is_empty() { Ok(()) } else { Err(Failure::recipe(format!("not healthy: {}", sick.join(", ")))) }
}

/// No service has other tasks than right after it was deployed or upgraded. A task that ended, and of which the
/// service is whole without it, has done its work.
pub(super) fn no_restart(before: &[ServiceState], now: &[ServiceState]) -> Result<(), Failure> {
    let now: BTreeMap<&str, &ServiceState> =
        now.iter().map(|service| (service.name.as_str(), service)).collect();
    let is_same = |before: &&ServiceState| {
        now.get(before.name.as_str()).is_some_and(|now| {
            let is_known = |task: &String| before.tasks.contains(task);
            now.tasks.iter().all(is_known) && (now.healthy || now.tasks.len() == before.tasks.len())
        })
    };
    let restarted: Vec<&str> =
        before.iter().filter(|service| !is_same(service)).map(|service| service.name.as_str()).collect();
    if restarted.is_empty() {
        Ok(())
    } else {
        Err(Failure::recipe(format!("restarted since it was deployed: {}", restarted.join(", "))))
    }
}

/// Every service of the first deploy that is still there is the very same one: the run deployed once (I10).
pub(super) fn in_place(first: &[ServiceState], now: &[ServiceState]) -> Result<(), Failure> {
    let made_anew: Vec<&str> = now
        .iter()
        .filter(|service| {
            first.iter().any(|old| {
                old.name == service.name && (&old.id, &old.created) != (&service.id, &service.created)
            })
        })
        .map(|service| service.name.as_str())
        .collect();
    if now.is_empty() && !first.is_empty() {
        return Err(Failure::recipe("every service of the first deploy is gone".to_owned()));
    }
    if made_anew.is_empty() {
        Ok(())
    } else {
        Err(Failure::recipe(format!("made anew instead of upgraded in place: {}", made_anew.join(", "))))
    }
}

fn first_line(body: &str) -> String {
    body.lines().next().unwrap_or_default().chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MemoryEngine;
    use crate::http::fake_proxy::{Authority, FakeProxy, Shown, default_certificate, page};
    use crate::model::failure::Fault;
    use rcgen::date_time_ymd;

    fn service(name: &str, id: &str, task: &str) -> ServiceState {
        ServiceState {
            name: name.into(),
            id: id.into(),
            created: "1".into(),
            order: String::new(),
            tasks: vec![task.into()],
            healthy: true,
            spec: String::new(),
            version: None,
        }
    }

    #[tokio::test]
    async fn a_proxy_out_of_order_is_the_hosts_and_what_it_says_of_the_app_the_recipes() {
        let authority = Authority::new();
        let judged = async |shown: Shown, answer: &str| {
            let server = FakeProxy::start(shown, &[answer.to_owned()]).await;
            let proxy = authority.proxy(server.address);
            serving_within(&MemoryEngine::default(), Some(&proxy), &domain(), "/", Duration::ZERO).await
        };
        let ok = page("200 OK", "");
        let of_host = [
            authority
                .certificate_with(domain().as_str(), |params| params.not_after = date_time_ymd(2001, 1, 1)),
            authority
                .certificate_with(domain().as_str(), |params| params.not_before = date_time_ymd(4000, 1, 1)),
            Authority::new().certificate(domain().as_str()),
        ];
        for shown in of_host {
            let message = judged(shown, &ok).await;
            assert_eq!(message.unwrap_err().fault(), Fault::Host);
        }
        for shown in [default_certificate(), authority.certificate("other.example.org")] {
            let message = judged(shown, &ok).await;
            assert_eq!(message.unwrap_err().fault(), Fault::Recipe);
        }
        let message = judged(authority.certificate(domain().as_str()), "no HTTP").await;
        assert_eq!(message.unwrap_err().fault(), Fault::Recipe);
    }

    #[tokio::test]
    async fn an_app_that_answered_with_an_error_stays_red_when_the_proxy_goes() {
        let authority = Authority::new();
        let answers = [page("502 Bad Gateway", "the app is down")];
        let mut server = Some(FakeProxy::start(authority.certificate(domain().as_str()), &answers).await);
        let proxy = authority.proxy(server.as_ref().unwrap().address);
        let engine = MemoryEngine::default();
        let domain = domain();
        let judging = serving_within(&engine, Some(&proxy), &domain, "/", Duration::from_millis(300));
        let going = async {
            while server.as_ref().unwrap().seen().is_empty() {
                tokio::task::yield_now().await;
            }
            // Its listener goes with its task.
            server.take();
        };
        let (message, ()) = tokio::join!(judging, going);
        let message = message.unwrap_err();
        assert_eq!(message.fault(), Fault::Recipe);
        assert!(message.to_string().contains("HTTP status 502"), "{message}");
    }

    async fn through(server: &FakeProxy, authority: &Authority, limit: Duration) -> Result<(), String> {
        // An engine that would be asked for the task has none to tell.
        let (engine, proxy) = (MemoryEngine::default(), authority.proxy(server.address));
        serving_within(&engine, Some(&proxy), &domain(), "/", limit).await.map_err(|message| {
            assert_eq!(message.fault(), Fault::Recipe, "a check fails as a check");
            message.to_string()
        })
    }

    fn domain() -> Domain {
        "note-012345.ci.example.org".parse().unwrap()
    }

    #[tokio::test]
    async fn an_app_behind_the_proxy_is_waited_for_until_it_serves() {
        let authority = Authority::new();
        let answers = [page("503 Service Unavailable", "no available server"), page("200 OK", "")];
        let server = FakeProxy::start(authority.certificate(domain().as_str()), &answers).await;
        assert_eq!(through(&server, &authority, SERVING_LIMIT).await, Ok(()));
        assert_eq!(server.seen().len(), 2);
        let proxy = authority.proxy(server.address);
        let engine = MemoryEngine::default();
        serving_within(&engine, Some(&proxy), &domain(), "/app/", SERVING_LIMIT).await.unwrap();
        assert!(server.seen()[2].head.starts_with("GET /app/ HTTP/1.1"), "{:?}", server.seen()[2]);
    }

    #[tokio::test]
    async fn the_proxys_own_pages_are_not_the_app() {
        let authority = Authority::new();
        for (status, body, says) in [
            (
                "404 Not Found",
                "404 page not found\n",
                "HTTP status 404: 404 page not found: the proxy knows no such app",
            ),
            ("404 Not Found", "no such page, says the app", "HTTP status 404: no such page, says the app"),
            ("502 Bad Gateway", "Bad Gateway", "HTTP status 502: Bad Gateway"),
            ("503 Service Unavailable", "no available server\n", "HTTP status 503: no available server"),
            ("504 Gateway Timeout", "Gateway Timeout", "HTTP status 504: Gateway Timeout"),
        ] {
            let server =
                FakeProxy::start(authority.certificate(domain().as_str()), &[page(status, body)]).await;
            let message = through(&server, &authority, Duration::ZERO).await.unwrap_err();
            let way = format!("GET https://{}/ through the proxy at {}, for", domain(), server.address);
            assert!(message.starts_with(&way) && message.contains(says), "{message}");
            assert_eq!(message.contains("knows no such app"), body.starts_with("404"), "{message}");
        }
    }

    #[tokio::test]
    async fn an_app_that_the_proxy_has_no_certificate_for_does_not_serve() {
        let server = FakeProxy::start(default_certificate(), &[page("200 OK", "")]).await;
        let message = through(&server, &Authority::new(), Duration::ZERO).await.unwrap_err();
        assert!(message.contains("its own default certificate"), "{message}");
    }

    #[tokio::test]
    async fn an_app_that_asks_who_is_there_serves_and_without_a_proxy_the_engine_is_asked() {
        let authority = Authority::new();
        let answers = [page("401 Unauthorized", "")];
        let server = FakeProxy::start(authority.certificate(domain().as_str()), &answers).await;
        assert_eq!(through(&server, &authority, Duration::ZERO).await, Ok(()));
        let direct = serving_within(&MemoryEngine::default(), None, &domain(), "/", Duration::ZERO).await;
        let failure = direct.unwrap_err();
        assert_eq!(failure.fault(), Fault::Host);
        assert!(failure.chain().contains("memory serves nothing"), "{failure}");
    }

    #[tokio::test]
    async fn who_is_led_back_to_where_they_asked_is_not_served() {
        let authority = Authority::new();
        let address = |rest: &str| format!("https://{}{rest}", domain());
        for (headers, path, serves) in [
            ("Location: /\r\n".to_owned(), "/", false),
            (format!("Location: {}\r\n", address("")), "/", false),
            (format!("Location: {}\r\n", address("/app/")), "/app/", false),
            (format!("Location: //{}/app/\r\n", domain()), "/app/", false),
            ("Location: /login\r\n".to_owned(), "/", true),
            (format!("Location: {}\r\n", address("/app")), "/app/", true),
            ("Location: https://id.example.org/\r\n".to_owned(), "/", true),
            (format!("Location: http://{}/\r\n", domain()), "/", true),
            // It may answer otherwise, once it knows who asks.
            ("Location: /\r\nSet-Cookie: a=b\r\n".to_owned(), "/", true),
        ] {
            let answer = format!("HTTP/1.1 302 Found\r\n{headers}Content-Length: 0\r\n\r\n");
            let server = FakeProxy::start(authority.certificate(domain().as_str()), &[answer]).await;
            let proxy = authority.proxy(server.address);
            let judged =
                serving_within(&MemoryEngine::default(), Some(&proxy), &domain(), path, Duration::ZERO).await;
            assert_eq!(judged.is_ok(), serves, "{headers:?} of {path}: {judged:?}");
            if let Err(failure) = judged {
                assert!(failure.to_string().contains("it leads to itself"), "{failure}");
            }
        }
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_there_says_nothing_of_the_recipe() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Authority::new().proxy(listener.local_addr().unwrap());
        drop(listener);
        let message =
            serving_within(&MemoryEngine::default(), Some(&proxy), &domain(), "/", Duration::ZERO).await;
        let failure = message.unwrap_err();
        assert_eq!(failure.fault(), Fault::Host);
        assert!(failure.to_string().contains("can't connect to"), "{failure}");
    }

    #[test]
    fn a_second_deploy_is_not_an_upgrade() {
        let first = [service("app", "a", "1"), service("db", "b", "1")];
        assert!(in_place(&first, &[service("app", "a", "2"), service("db", "b", "1")]).is_ok());
        assert!(in_place(&first, &[service("app", "a", "2"), service("cache", "c", "1")]).is_ok());
        assert!(in_place(&first, &[service("app", "z", "2"), service("db", "b", "1")]).is_err());
        assert!(in_place(&first, &[]).is_err());
    }

    #[test]
    fn another_task_is_a_restart() {
        let first = [service("app", "a", "1")];
        assert!(no_restart(&first, &first).is_ok());
        assert!(no_restart(&first, &[service("app", "a", "2")]).is_err());
        assert!(no_restart(&first, &[]).is_err());
        // What ended and is not missed has done its work.
        let ended = |healthy| ServiceState { tasks: Vec::new(), healthy, ..service("app", "a", "1") };
        assert!(no_restart(&first, &[ended(true)]).is_ok());
        assert!(no_restart(&first, &[ended(false)]).is_err());
        assert!(no_restart(&[ended(true)], &first).is_err());
    }

    #[test]
    fn one_sick_service_is_named() {
        let sick = ServiceState { healthy: false, ..service("db", "b", "1") };
        let failure = healthy(&[service("app", "a", "1"), sick]).unwrap_err();
        assert_eq!((failure.fault(), failure.to_string().as_str()), (Fault::Recipe, "not healthy: db"));
        assert!(healthy(&[]).is_err());
    }
}
