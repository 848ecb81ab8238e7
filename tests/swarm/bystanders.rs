//! Others on an engine of a test's own, of every kind that a restart of the daemon leaves as it is.

use cc_ci_tests::engine::{BUSYBOX, Bystanders, Engine, Object};

const NAME: &str = "persistent-";

/// Makes them, and looks.
#[track_caller]
pub fn make(engine: &Engine) -> Bystanders {
    let [volume, network, secret, config, container, service] =
        ["volume", "network", "secret", "config", "container", "service"].map(|kind| format!("{NAME}{kind}"));
    engine.docker(["volume", "create", &volume]);
    engine.docker(["network", "create", "--driver=overlay", "--attachable", &network]);
    engine.docker_with(["secret", "create", &secret, "-"], "not yours");
    engine.docker_with(["config", "create", &config, "-"], "not yours");
    // What runs is another one after a restart.
    let mount = format!("{volume}:/data");
    engine.docker(["create", "--name", &container, "--volume", &mount, BUSYBOX, "true"]);
    let [network, secret, config] = [("network", network), ("secret", secret), ("config", config)]
        .map(|(flag, name)| format!("--{flag}={name}"));
    let words = ["service", "create", "--detach", "--no-resolve-image", "--replicas=0", "--name", &service];
    engine.docker(words.iter().chain(&[
        "--endpoint-mode=dnsrr",
        &network,
        &secret,
        &config,
        BUSYBOX,
        "true",
    ]));
    look(engine)
}

#[track_caller]
fn look(engine: &Engine) -> Bystanders {
    Bystanders::look_at(engine, is_one)
}

/// Asserts that they are as they were, and that there is nothing else but what is expected to stay.
#[track_caller]
pub fn nothing_else(engine: &Engine, before: &Bystanders, stays: impl Fn(&Object) -> bool) {
    before.assert_same(&look(engine));
    let mut others = engine.objects();
    others.retain(|object| !is_one(object) && !stays(object));
    assert_eq!(others, []);
}

fn is_one(object: &Object) -> bool {
    object.name.starts_with(NAME)
}
