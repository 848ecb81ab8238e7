//! Inventory: everything of a stack is seen, and nothing else is called its.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use cc_ci_core::engine::{Engine as _, Failure, Kind, StackSource};
use cc_ci_core::error_chain;
use cc_ci_core::names::{Domain, Stack};
use cc_ci_docker::SwarmEngine;
use cc_ci_tests::engine::{BUSYBOX, TestEngine, until};

use crate::support::{App, By, KEPT, LIMIT, block_on, count, lines, swarm_with};

const ALONE: [Kind; 6] =
    [Kind::Service, Kind::Container, Kind::Volume, Kind::Secret, Kind::Config, Kind::Network];

#[test]
fn each_kind_alone_is_found_and_reaped_by_label_and_by_name() {
    let Some(test) = TestEngine::shared("each_kind_alone_is_found_and_reaped_by_label_and_by_name") else {
        return;
    };
    for (number, kind) in ALONE.into_iter().enumerate() {
        for by in [By::Label, By::Name] {
            let app = App::new(&test, &format!("00000{number}"));
            let made = app.make(kind, by);
            let expected = BTreeSet::from([made]);
            assert_eq!(app.resources(), expected, "{by:?}");
            assert_eq!(app.resources_among_all(), expected, "{by:?}");
            app.remove();
            assert!(test.left().is_empty(), "{kind} {by:?}: {:?}", test.left());
        }
    }
}

#[test]
fn all_kinds_together_are_found_and_reaped_and_those_of_others_are_not() {
    let Some(test) =
        TestEngine::shared("all_kinds_together_are_found_and_reaped_and_those_of_others_are_not")
    else {
        return;
    };
    let (ours, other) = (App::new(&test, "012345"), App::new(&test, "012346"));
    for app in [&ours, &other] {
        app.deploy_four();
        for kind in ALONE {
            app.make(kind, By::Label);
            app.make(kind, By::Name);
        }
    }
    for app in [&ours, &other] {
        app.four_run();
        let seen = app.resources();
        let meant = meant(&seen);
        let counts = [
            (Kind::Service, 4 + 2),
            (Kind::Task, 4),
            (Kind::Container, 4 + 2),
            // The two anonymous ones are seen as one.
            (Kind::Volume, 4 + 2),
            (Kind::Secret, 1 + 2),
            (Kind::Config, 1 + 2),
            (Kind::Network, 1 + 2),
        ];
        for (kind, expected) in counts {
            assert_eq!(count(&meant, kind), expected, "{kind}: {seen:#?}; {:#?}", app.failures());
        }
    }
    let objects_of_other = || -> Vec<_> {
        let of_other = |name: &str| name.contains(&other.stack);
        let mut objects = test.left();
        objects.retain(|object| of_other(&object.name) || object.stack.as_deref().is_some_and(of_other));
        objects
    };
    let (before, seen) = (objects_of_other(), other.resources());
    ours.remove();
    assert_eq!(objects_of_other(), before);
    assert_eq!(other.resources(), seen);
    other.remove();
}

/// What there is, without what it is only because of how it came about. A busy engine may fail to start a task, and
/// makes it anew: the failed one, its container and its anonymous volumes are there too, and are reaped like the rest.
fn meant(seen: &BTreeSet<String>) -> BTreeSet<String> {
    let meant = |line: &String| match line.split_once(' ') {
        // `<service>.<slot>.<id>`
        Some(("task" | "container", _)) => line.splitn(3, '.').take(2).collect::<Vec<_>>().join("."),
        Some(("volume", name)) if name.len() == 64 => "volume without a name".to_owned(),
        _ => line.clone(),
    };
    seen.iter().map(meant).collect()
}

#[test]
fn the_apps_of_others_are_seen_whole_and_never_as_ours() {
    let Some(test) = TestEngine::shared("the_apps_of_others_are_seen_whole_and_never_as_ours") else {
        return;
    };
    let ours = App::new(&test, "012345");
    ours.make(Kind::Secret, By::Name);
    let all = block_on(ours.swarm.inventory(None)).expect("the engine can be looked at");
    let domains: BTreeSet<&str> = all.domains().map(Domain::as_str).collect();
    assert!(
        domains.contains("blog.example.org") && domains.contains("blog-facade.example.org"),
        "{domains:?}"
    );
    // A stack whose name is no domain's.
    assert!(domains.iter().all(|domain| !domain.contains("bystander") && !domain.contains("loose")));
    let blog = lines(&all, &"blog.example.org".parse().expect("a domain"));
    assert!(blog.contains("secret blog_example_org_key_v1"), "by its name alone: {blog:#?}");
    assert_eq!(blog.len(), 7, "{blog:#?}");
    ours.remove();
}

/// Knows one more stack, or can't say.
#[derive(Debug)]
struct Source(Result<Stack, &'static str>);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a source")
    }
}

#[async_trait]
impl StackSource for Source {
    async fn stacks(&self) -> Result<Vec<Stack>, Failure> {
        self.0.clone().map(|stack| vec![stack]).map_err(Failure::host)
    }
}

fn with_source(test: &TestEngine, source: Result<Stack, &'static str>) -> SwarmEngine {
    swarm_with(test, test.world().suffix(), vec![Arc::new(Source(source))])
}

#[test]
fn a_name_that_nests_belongs_to_the_longest_stack_that_is_known() {
    let Some(test) = TestEngine::shared("a_name_that_nests_belongs_to_the_longest_stack_that_is_known")
    else {
        return;
    };
    let ours = App::new(&test, "012345");
    let longer: Stack = format!("{}_uk", ours.stack).parse().expect("a stack");
    let names: Vec<String> = KEPT.iter().map(|kind| format!("{longer}_{kind}")).collect();
    let theirs: BTreeSet<String> =
        KEPT.iter().zip(&names).map(|(kind, name)| format!("{kind} {name}")).collect();
    test.docker(["volume", "create", &names[0]]);
    test.docker_with(["secret", "create", &names[1], "-"], "content");
    test.docker_with(["config", "create", &names[2], "-"], "content");
    test.docker(["network", "create", "--driver=overlay", &names[3]]);
    let mine = ours.make(Kind::Secret, By::Name);
    let mut all = theirs.clone();
    all.insert(mine.clone());
    assert_eq!(ours.resources(), all, "nobody knows another stack");

    // By a source.
    let knows = with_source(&test, Ok(longer.clone()));
    let look = |swarm: &SwarmEngine| {
        let look = block_on(swarm.inventory(Some(std::slice::from_ref(&ours.domain))));
        lines(&look.expect("the engine can be looked at"), &ours.domain)
    };
    assert_eq!(look(&knows), BTreeSet::from([mine.clone()]));
    block_on(knows.remove(&ours.domain, LIMIT)).expect("what is ours can be removed");
    assert_eq!(ours.resources(), theirs);

    // By the domain that is asked for beside it.
    let uk: Domain = longer.as_str().replace('_', ".").parse().expect("a domain");
    let both = block_on(ours.swarm.inventory(Some(&[ours.domain.clone(), uk.clone()])));
    let both = both.expect("the engine can be looked at");
    assert_eq!(lines(&both, &ours.domain), BTreeSet::new());
    assert_eq!(lines(&both, &uk), theirs);

    // By a label.
    let label = format!("--label=com.docker.stack.namespace={longer}");
    test.docker_with(["secret", "create", &label, "any-of-uk", "-"], "content");
    assert_eq!(ours.resources(), BTreeSet::new());
    ours.remove();
    block_on(ours.swarm.remove(&uk, LIMIT)).expect("it can be removed");
}

#[test]
fn what_a_name_alone_says_is_only_reported_where_a_source_fails() {
    let Some(test) = TestEngine::shared("what_a_name_alone_says_is_only_reported_where_a_source_fails")
    else {
        return;
    };
    let ours = App::new(&test, "012345");
    let mut named: BTreeSet<String> = BTreeSet::new();
    for kind in ALONE {
        named.insert(ours.make(kind, By::Name));
        ours.make(kind, By::Label);
    }
    let blind = with_source(&test, Err("the servers can't be listed"));
    let look = || {
        let look = block_on(blind.inventory(Some(std::slice::from_ref(&ours.domain))));
        lines(&look.expect("the engine can be looked at"), &ours.domain)
    };
    assert_eq!(look().len(), 12);
    let error = block_on(blind.remove(&ours.domain, LIMIT)).expect_err("something is left");
    assert_eq!(look(), named, "what is labelled is gone, and the rest still reported");
    let message = error_chain(&error);
    assert!(message.contains("the servers can't be listed"), "{message}");
    for line in named {
        assert!(message.contains(&line), "{line} is not in {message}");
    }
    ours.remove();
}

#[test]
fn somebody_elses_anonymous_volume_is_not_ours_because_we_name_it() {
    let Some(test) = TestEngine::shared("somebody_elses_anonymous_volume_is_not_ours_because_we_name_it")
    else {
        return;
    };
    let mounts = |container: &str| {
        test.docker(["inspect", "--format", "{{range .Mounts}}{{.Name}}{{end}}", container])
    };
    // Nobody has it mounted now: only who made it knows whose it is.
    test.docker([
        "run",
        "--detach",
        "--name",
        "of-others",
        "--volume",
        "/anonymous",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let volume = mounts("of-others");
    test.docker(["rm", "--force", "of-others"]);

    let ours = App::new(&test, "012345");
    let label = format!("com.docker.stack.namespace={}", ours.stack);
    let name = format!("{}_app", ours.stack);
    let named = format!("type=volume,source={volume},target=/named");
    let words = ["service", "create", "--detach", "--no-resolve-image", "--name", &name, "--label", &label];
    let more =
        ["--container-label", &label, "--mount", &named, "--mount", "type=volume,target=/own", BUSYBOX];
    test.docker(words.iter().chain(&more).chain(&["sleep", "1000"]));
    until("the service runs", || test.running(&name) == 1);

    let plain = format!("{}_tool", ours.stack);
    let bind = format!("{volume}:/named");
    let words = ["run", "--detach", "--name", &plain, "--label", &label, "--volume", &bind];
    test.docker(words.iter().chain(&["--volume", "/own", BUSYBOX, "sleep", "1000"]));

    let seen = ours.resources();
    assert!(!seen.contains(&format!("volume {volume}")), "{seen:#?}");
    assert_eq!(count(&seen, Kind::Volume), 2, "its own are its: {seen:#?}");
    ours.remove();
    test.docker(["volume", "rm", &volume]);
}
