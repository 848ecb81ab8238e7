//! The way in to an app.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use cc_ci_core::engine::{Endpoint, Engine as _, Failure, Fault};
use cc_ci_tests::EVENT_LIMIT;
use cc_ci_tests::engine::{NOTE_KEEPER, TestEngine};

use crate::support::{App, block_on};

fn endpoint(app: &App<'_>) -> Result<Endpoint, Failure> {
    block_on(app.swarm.endpoint(&app.domain))
}

/// The answer to a real `GET path`.
#[track_caller]
fn get(endpoint: &Endpoint, path: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&endpoint.address, EVENT_LIMIT).expect("it listens");
    stream.set_read_timeout(Some(EVENT_LIMIT)).expect("a socket can be told so");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", endpoint.host).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn the_app_answers_at_its_endpoint() {
    let Some(engine) = TestEngine::shared("the_app_answers_at_its_endpoint") else { return };
    let app = App::new(&engine, "0e0001");
    let (stack, image) = (&app.stack, NOTE_KEEPER[0]);
    engine
        .docker_with(["secret", "create", &format!("{stack}_write_key_v1"), "-"], "a key that nobody knows");
    app.deploy(
        &[
            (
                "app",
                &format!(
                    "image: '{image}', command: [note-keeper, serve, --data-format, lines], secrets: [write_key], networks: [internal, proxy], \
                     volumes: ['data:/data', 'stats:/stats'], environment: {{NOTES_PORT: '8181'}}, \
                     healthcheck: {{test: [CMD, note-keeper, get, 'http://127.0.0.1:8181/health'], interval: 0.5s}}, \
                     deploy: {{endpoint_mode: dnsrr, \
                     labels: ['traefik.http.services.{stack}.loadbalancer.server.port=8181']}}"
                ),
            ),
            ("db", "deploy: {endpoint_mode: dnsrr, labels: ['traefik.http.services.x.loadbalancer.server.port=1']}"),
        ],
        &format!(
            "volumes: {{data: , stats: }}\nsecrets: {{write_key: {{external: true, name: {stack}_write_key_v1}}}}"
        ),
    );
    app.comes_up();
    let found = endpoint(&app).expect("it has an address");
    assert_eq!((found.address.port(), &found.host), (8181, &app.domain));
    let answer = get(&found, "/health");
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    app.remove();
    let error = endpoint(&app).expect_err("it is gone");
    assert!(error.to_string().contains("no service is called app"), "{error}");
}

#[test]
fn an_app_that_can_not_be_reached_says_why() {
    let Some(engine) = TestEngine::shared("an_app_that_can_not_be_reached_says_why") else { return };
    let app = App::new(&engine, "0e0002");
    app.deploy(&[("app", "networks: [hidden]")], "");
    app.comes_up();
    let error = endpoint(&app).expect_err("nothing leads there");
    assert_eq!(error.fault(), Fault::Recipe);
    assert!(error.to_string().contains("the service app is not reached from this host"), "{error}");
    engine.docker(["service", "scale", "--detach", &format!("{}_app=0", app.stack)]);
    app.comes_up();
    let error = endpoint(&app).expect_err("nothing runs");
    assert!(error.to_string().contains("the service app has no running task"), "{error}");
    app.remove();
}
