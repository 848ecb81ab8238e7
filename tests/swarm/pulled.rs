//! Images, pulled before anything is deployed.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cc_ci_core::engine::{App, Engine as _, Failure, Fault};
use cc_ci_core::event::Event;
use cc_ci_core::names::Domain;
use cc_ci_core::system_info::KernelSystemInfo;
use cc_ci_core::workspace::{PulledImages, RegistryCredentials};
use cc_ci_docker::{Settings, SwarmEngine};
use cc_ci_tests::OnEvent;
use cc_ci_tests::engine::{BUSYBOX, TestEngine};
use tempfile::TempDir;

use crate::registry::{Registry, SILENCE, nobody};
use crate::support::block_on;

/// `ci:hunter22-is-a-secret`, as HTTP has it.
const LOGIN: &str = "Basic Y2k6aHVudGVyMjItaXMtYS1zZWNyZXQ=";

/// A recipe whose services have these images, and what pulling them says.
struct Pulled {
    tree: TempDir,
    app: App,
    swarm: SwarmEngine,
    output: Arc<Mutex<Vec<String>>>,
}

impl Pulled {
    fn new(engine: &TestEngine, images: &[&str]) -> Self {
        let tree = TempDir::with_prefix("cc-ci-recipe-").expect("a temporary directory");
        let mut compose = "services:\n".to_owned();
        for (i, image) in images.iter().enumerate() {
            writeln!(compose, "  s{i}: {{image: '{image}'}}").expect("memory");
        }
        fs::write(tree.path().join("compose.yml"), compose).expect("a file");
        let env_file = tree.path().join("app.env");
        fs::write(&env_file, "TAG=1\nCOMPOSE_FILE=compose.yml\n").expect("a file");
        let output = Arc::<Mutex<Vec<String>>>::default();
        let notes = Arc::clone(&output);
        let reporter = OnEvent(move |event: &Event| {
            if let Event::Note { text } = event {
                notes.lock().expect("nobody panicked").push(text.clone());
            }
        });
        let suffix = engine.world().suffix().clone();
        let domain: Domain = format!("test-0d0001.{suffix}").parse().expect("a domain");
        let swarm = SwarmEngine::new(Settings {
            socket: engine.socket().to_owned(),
            suffix,
            sources: Vec::new(),
            reporter: Arc::new(reporter),
        });
        let recipe = "some-recipe".parse().expect("a recipe's name");
        let app = App { domain, recipe, tree: tree.path().to_owned(), env_file };
        Self { tree, app, swarm: swarm.with_pull_silence(SILENCE), output }
    }

    /// The same with these lines in the file of credentials.
    fn with_credentials(self, lines: &str) -> Self {
        let file = self.tree.path().join("credentials");
        fs::write(&file, lines).expect("a file");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a mode");
        let credentials = RegistryCredentials::read(&file).expect("credentials");
        Self { swarm: self.swarm.with_credentials(credentials), ..self }
    }

    /// The same, where what is pulled is noted in this runs directory.
    fn noted_in(self, runs: &Path) -> Self {
        Self { swarm: self.swarm.with_pulled_images(images(runs)), ..self }
    }

    /// Removes what no run has used for so long; what can't be looked at is a failure.
    fn remove_unused(&self, unused_for: Duration) -> Vec<String> {
        let end = block_on(self.swarm.remove_images(unused_for, &|| false));
        assert_eq!(end.warnings, [""; 0]);
        end.removed
    }

    fn pull(&self) -> Result<(), Failure> {
        block_on(self.swarm.pre_pull(&self.app))
    }

    fn reported(&self) -> Vec<String> {
        std::mem::take(&mut *self.output.lock().expect("nobody panicked"))
    }
}

/// The images that runs of this directory pulled.
fn images(runs: &Path) -> PulledImages {
    PulledImages::new(runs, Arc::new(KernelSystemInfo::new().expect("/proc")))
}

#[test]
fn an_image_is_pulled_once_and_needs_no_registry_then() {
    let Some(engine) = TestEngine::shared("an_image_is_pulled_once_and_needs_no_registry_then") else {
        return;
    };
    let registry = Registry::start(engine.world().suffix().as_str());
    let image = registry.image("good/x", "1");
    // One of them twice, one by a variable, one that is there.
    let by_variable = registry.image("good/y", "${TAG}");
    let other = registry.image("good/y", "1");
    let pulled = Pulled::new(&engine, &[&image, &image, &by_variable, BUSYBOX]);
    assert_eq!(engine.get(&format!("/images/{image}/json")), None);
    pulled.pull().expect("the registry has them");
    assert!(engine.get(&format!("/images/{image}/json")).is_some());
    assert!(engine.get(&format!("/images/{other}/json")).is_some());
    let output = pulled.reported();
    assert_eq!(output[0], format!("pulling 2 of 3 images: {image}, {other}"));
    assert!(output[1].starts_with("pulled ") && output[1].ends_with("; 1 left"), "{output:?}");
    assert!(output[2].starts_with("pulled ") && output[2].ends_with("; 0 left"), "{output:?}");
    assert_eq!(output.len(), 3);
    // Overlays count, and variables of the app's own.
    let overlay = format!("services: {{s9: {{image: '{}'}}}}", registry.image("good/z", "1"));
    fs::write(pulled.tree.path().join("compose.more.yml"), overlay).expect("a file");
    fs::write(&pulled.app.env_file, "TAG=1\nCOMPOSE_FILE=compose.yml:compose.more.yml\n").expect("a file");
    pulled.pull().expect("the registry has it");
    let z = registry.image("good/z", "1");
    assert_eq!(pulled.reported(), [format!("pulling 1 of 4 images: {z}"), format!("pulled {z}; 0 left")]);
    drop(registry);
    pulled.pull().expect("all of them are there");
    assert_eq!(pulled.reported(), [""; 0]);
    engine.docker(["image", "rm", &image, &other, &z]);
}

#[test]
fn what_a_registry_does_not_have_is_the_recipes_fault() {
    let Some(engine) = TestEngine::shared("what_a_registry_does_not_have_is_the_recipes_fault") else {
        return;
    };
    let registry = Registry::start(engine.world().suffix().as_str());
    let [missing, denied, broken] = [("good/x", "2"), ("denied/x", "1"), ("broken/x", "1")]
        .map(|(repository, tag)| registry.image(repository, tag));
    let error = Pulled::new(&engine, &[&missing, &denied, &broken]).pull().expect_err("none can be pulled");
    assert_eq!(error.fault(), Fault::Recipe);
    let (host, _) = missing.split_once('/').expect("a registry");
    let message = error.to_string();
    for says in [
        "3 of 3 images can't be pulled: ".to_owned(),
        format!("{host} has no good/x with the tag 2 ("),
        format!("{host} has no denied/x for everybody ("),
        format!("can't pull broken/x with the tag 1 from {host} (received unexpected HTTP status: 500"),
    ] {
        assert!(message.contains(&says), "{says}\nis not in\n{message}");
    }
    assert!(error.hint().is_some_and(|hint| hint.contains("[registry] credentials_file")), "{error:?}");
}

#[test]
fn a_registry_that_can_not_serve_is_the_hosts_fault() {
    let Some(engine) = TestEngine::shared("a_registry_that_can_not_serve_is_the_hosts_fault") else { return };
    let registry = Registry::start(engine.world().suffix().as_str());
    for (image, says) in [
        (format!("{}/x:1", nobody()), "connection refused"),
        (registry.image("busy/x", "1"), "lets this host pull no more for now (toomanyrequests"),
        (registry.image("broken/x", "1"), "500 Internal Server Error"),
    ] {
        let error = Pulled::new(&engine, &[&image]).pull().expect_err("it can't be pulled");
        assert_eq!(error.fault(), Fault::Host, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_registry_that_falls_silent_is_given_up_on() {
    let Some(engine) = TestEngine::shared("a_registry_that_falls_silent_is_given_up_on") else { return };
    let registry = Registry::start(engine.world().suffix().as_str());
    for repository in ["hanging/x", "stuck/x"] {
        let image = registry.image(repository, "1");
        let began = Instant::now();
        let error = Pulled::new(&engine, &[&image]).pull().expect_err("it never comes");
        let took = began.elapsed();
        assert_eq!(error.fault(), Fault::Host, "{error}");
        assert!(error.to_string().contains(&format!("sent nothing of {image} for 2s")), "{error}");
        assert!(took >= SILENCE && took < Duration::from_secs(30), "{took:?}");
    }
}

#[test]
fn a_private_image_comes_with_the_login_of_its_registry_and_nobody_elses_is_told() {
    let test = "a_private_image_comes_with_the_login_of_its_registry_and_nobody_elses_is_told";
    let Some(engine) = TestEngine::shared(test) else { return };
    let unique = engine.world().suffix().as_str();
    let (private, public) = (Registry::private(unique, LOGIN), Registry::start(&format!("{unique}-public")));
    let (image, other) = (private.image("good/x", "1"), public.image("good/x", "1"));
    let everybody = Pulled::new(&engine, &[&image]).pull().expect_err("it is private");
    assert!(everybody.to_string().contains("has no good/x for everybody"), "{everybody}");
    assert!(
        everybody.hint().is_some_and(|hint| hint.contains("[registry] credentials_file")),
        "{everybody:?}"
    );
    let line = |password: &str| format!("https://ci:{password}@{}\n", private.address());
    let wrong = Pulled::new(&engine, &[&image]).with_credentials(&line("wrong-and-a-secret"));
    let wrong = wrong.pull().expect_err("it is another password");
    assert!(wrong.to_string().contains("for the user that [registry] credentials_file has for"), "{wrong}");
    assert!(!format!("{wrong:?}").contains("wrong-and-a-secret"), "{wrong:?}");
    let pulled = Pulled::new(&engine, &[&image, &other]).with_credentials(&line("hunter22-is-a-secret"));
    pulled.pull().expect("both come");
    assert!(engine.get(&format!("/images/{image}/json")).is_some());
    assert!(private.logins().iter().any(|login| login == LOGIN), "{:?}", private.logins());
    assert_eq!(public.logins(), [""; 0], "somebody else's registry was told");
    assert!(!pulled.reported().concat().contains("hunter22"));
    let redacted = pulled.swarm.redactor().redact("it says hunter22-is-a-secret");
    assert_eq!(redacted, "it says [secret]");
    engine.docker(["image", "rm", &image, &other]);
}

#[test]
fn what_is_no_image_reaches_no_registry() {
    let Some(engine) = TestEngine::shared("what_is_no_image_reaches_no_registry") else { return };
    let registry = Registry::start(engine.world().suffix().as_str());
    let good = registry.image("good/x", "1");
    for bad in ["../../containers/json?all=1#", "UPPER", "x:"] {
        let error = Pulled::new(&engine, &[&good, bad]).pull().expect_err("no image");
        assert_eq!(error.fault(), Fault::Recipe);
        assert!(error.to_string().contains("services.s1.image"), "{error}");
    }
    assert_eq!(registry.asked(), [""; 0]);
}

#[test]
fn an_image_that_a_run_pulled_is_removed_once_nobody_uses_it() {
    let Some(engine) = TestEngine::shared("an_image_that_a_run_pulled_is_removed_once_nobody_uses_it") else {
        return;
    };
    let (suffix, runs) = (engine.world().suffix().as_str(), engine.world().runs());
    let registry = Registry::start(suffix);
    let image = registry.image("good/x", "1");
    let is_there = || engine.get(&format!("/images/{image}/json")).is_some();
    let pulled = Pulled::new(&engine, &[&image]).noted_in(&runs);
    pulled.pull().expect("the registry has it");
    // It is used, by a run not long ago.
    assert_eq!(pulled.remove_unused(Duration::from_hours(1)), [""; 0]);
    // By a container, and be it one that never ran.
    let name = format!("test-{suffix}");
    engine.docker(["create", "--name", &name, &image]);
    assert_eq!(pulled.remove_unused(Duration::ZERO), [""; 0]);
    engine.docker(["rm", &name]);
    // By a service that has no task, in another version.
    let service = engine.stack("test-0d0001");
    let other = registry.image("good/x", "2");
    engine.docker([
        "service",
        "create",
        "--detach",
        "--no-resolve-image",
        "--replicas",
        "0",
        "--name",
        &service,
        &other,
    ]);
    assert_eq!(pulled.remove_unused(Duration::ZERO), [""; 0]);
    engine.docker(["service", "rm", &service]);
    // Whoever asks for an end has it.
    let stopped = block_on(pulled.swarm.remove_images(Duration::ZERO, &|| true));
    assert_eq!(stopped.removed, [""; 0]);
    assert!(is_there());
    assert_eq!(pulled.remove_unused(Duration::ZERO), [image.as_str()]);
    assert!(!is_there());
    assert_eq!(pulled.remove_unused(Duration::ZERO), [""; 0]);
    // What is needed again comes again, and is known again.
    pulled.pull().expect("the registry has it still");
    assert_eq!(pulled.remove_unused(Duration::ZERO), [image.as_str()]);
}

#[test]
fn an_image_that_somebody_else_brought_is_kept() {
    let Some(engine) = TestEngine::shared("an_image_that_somebody_else_brought_is_kept") else { return };
    let (suffix, runs) = (engine.world().suffix().as_str(), engine.world().runs());
    let registry = Registry::start(suffix);
    let [before, renamed, killed] =
        ["before", "renamed", "killed"].map(|name| registry.image(&format!("good/{name}"), "1"));
    let id = |image: &str| engine.get(&format!("/images/{image}/json")).expect("it is there")["Id"].clone();
    // There before a run that needs it.
    Pulled::new(&engine, &[&before]).pull().expect("the registry has it");
    let pulled = Pulled::new(&engine, &[&before, &renamed]).noted_in(&runs);
    pulled.pull().expect("the registry has it");
    // By a name that somebody has given to another one since.
    engine.docker(["image", "rm", &renamed]);
    engine.docker(["tag", BUSYBOX, &renamed]);
    // By a name that a run that was killed was about to pull.
    images(&runs).note(&killed, None).expect("the runs directory is ours");
    engine.docker(["tag", BUSYBOX, &killed]);
    assert_eq!(pulled.remove_unused(Duration::ZERO), [""; 0]);
    assert_eq!(images(&runs).unused_for(Duration::ZERO).expect("it can be read"), []);
    assert_ne!(id(&before), id(&renamed));
    assert_eq!((id(&renamed), id(&killed)), (id(BUSYBOX), id(BUSYBOX)));
    engine.docker(["image", "rm", &before, &renamed, &killed]);
}
