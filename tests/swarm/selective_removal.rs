//! Removals of what is named, and what services are made of.

use std::collections::BTreeSet;
use std::time::Duration;

use cc_ci_core::engine::{Engine as _, Failure, Kind, Resource};
use cc_ci_core::error_chain;
use cc_ci_tests::engine::{Bystanders, TestEngine, until};

use crate::support::{App, By, KEPT, LIMIT, block_on};

impl App<'_> {
    fn things(&self) -> BTreeSet<Resource> {
        let inventory = block_on(self.swarm.inventory(Some(std::slice::from_ref(&self.domain))));
        inventory.expect("the engine can be looked at").of(&self.domain).into_iter().collect()
    }

    fn remove_selected(&self, residue: &[Resource], limit: Duration) -> Result<(), Failure> {
        block_on(self.swarm.remove_selected(&self.domain, residue, limit))
    }
}

#[test]
fn what_an_upgrade_had_added_goes_and_nothing_else() {
    let Some(engine) = TestEngine::shared("what_an_upgrade_had_added_goes_and_nothing_else") else { return };
    let app = App::new(&engine, "0e3001");
    let old = || app.deploy(&[("app", "volumes: ['data:/data', '/anonymous']")], "volumes: {data: }");
    old();
    app.comes_up();
    let before = app.things();
    let services = app.services();

    let more = format!(
        "volumes: {{data: , cache: , files: }}\nconfigs: {{conf: {{name: {}_conf_v2, file: /proc/version}}}}",
        app.stack
    );
    let added = "volumes: ['files:/files', '/anonymous'], networks: [internal, hidden], configs: [conf]";
    app.deploy(&[("app", "volumes: ['data:/data', 'cache:/cache', '/anonymous']"), ("extra", added)], &more);
    app.make(Kind::Secret, By::Name);
    app.comes_up();
    // Its own deployer rolls it back, and leaves what it had added.
    old();
    app.comes_up();
    let new: Vec<Resource> = app.things().difference(&before).cloned().collect();
    for kind in [Kind::Service, Kind::Container, Kind::Volume, Kind::Secret, Kind::Config, Kind::Network] {
        assert!(new.iter().any(|residue| residue.kind == kind), "{kind} is missing in {new:?}");
    }
    let running = app.services()["app"].clone();

    // Somebody else's, and what is not there.
    let other = App::new(&engine, "0e3002");
    let theirs: Vec<String> = KEPT.iter().map(|kind| other.make(*kind, By::Label)).collect();
    let foreign = other.things();
    let looked = Bystanders::look(&engine);
    let mut named = new.clone();
    named.extend(foreign.iter().cloned());
    named.push(Resource::new(Kind::Volume, format!("{}_never", app.stack)));
    if let Err(error) = app.remove_selected(&named, LIMIT) {
        panic!("{}", error_chain(&error));
    }
    assert_eq!(other.things(), foreign, "{theirs:?}");
    looked.assert_unchanged(&engine);
    // The one that runs goes on, with all that it had.
    assert_eq!(app.services()["app"], running);
    assert_eq!(app.services().len(), services.len());
    let kept = |things: &BTreeSet<Resource>| -> BTreeSet<Resource> {
        let kinds = [Kind::Service, Kind::Secret, Kind::Config, Kind::Network];
        things.iter().filter(|thing| kinds.contains(&thing.kind)).cloned().collect()
    };
    let now = app.things();
    assert_eq!(kept(&now), kept(&before));
    assert_eq!(app.alive("app"), 1);
    // The first container, which is over and was not named, has what it had; the one that runs has an anonymous volume.
    let lost: Vec<_> = before.difference(&now).filter(|thing| thing.kind != Kind::Task).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let more = |kind| now.difference(&before).filter(|thing| thing.kind == kind).count();
    assert_eq!([Kind::Container, Kind::Volume].map(more), [1, 1], "{now:?}");
    // Once more, there is nothing to do.
    app.remove_selected(&named, LIMIT).expect("it is gone");

    // What is in use by what stays is not taken from it.
    let data = Resource::new(Kind::Volume, format!("{}_data", app.stack));
    let error = app.remove_selected(&[data], Duration::from_secs(6)).expect_err("it is in use");
    assert!(error.to_string().contains("used by the container"), "{error}");
    assert_eq!(app.services()["app"], running);
    app.remove();
    other.remove();
}

#[test]
fn a_spec_stays_the_same_over_a_deploy_and_changes_with_what_tasks_are_made_of() {
    let name = "a_spec_stays_the_same_over_a_deploy_and_changes_with_what_tasks_are_made_of";
    let Some(engine) = TestEngine::shared(name) else { return };
    let app = App::new(&engine, "0e3003");
    let deploy = |version: &str, environment: &str| {
        let label = format!("coop-cloud.{}.version={version}", app.stack);
        let service = format!(
            "environment: {{A: one, B: {environment}}}, labels: {{x: y, z: w}}, \
             deploy: {{endpoint_mode: dnsrr, labels: ['{label}', 'a=b']}}"
        );
        app.deploy(&[("app", &service), ("db", "volumes: ['data:/data']")], "volumes: {data: }");
        app.comes_up();
        app.services()
    };
    let first = deploy("1.0.0+1", "two");
    assert_eq!(first["app"].version.as_deref(), Some("1.0.0+1"));
    assert_eq!(first["db"].version, None);
    assert_ne!(first["app"].spec, first["db"].spec);
    let same = deploy("1.1.0+1", "two");
    assert_eq!(same["app"].version.as_deref(), Some("1.1.0+1"));
    assert_eq!(same["app"].spec, first["app"].spec);
    let changed = deploy("1.1.0+1", "three");
    assert_ne!(changed["app"].spec, first["app"].spec);
    assert_eq!(changed["db"].spec, first["db"].spec);
    // Other tasks of the same make.
    engine.docker(["service", "update", "--detach", "--force", &format!("{}_app", app.stack)]);
    until("its task is another one", || app.services()["app"].tasks != changed["app"].tasks);
    app.comes_up();
    assert_eq!(app.services()["app"].spec, changed["app"].spec);
    let back = deploy("1.0.0+1", "two");
    assert_eq!(back["app"].spec, first["app"].spec);
    app.remove();
}
