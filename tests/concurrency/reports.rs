//! A run as others get it: its page, its `JUnit` file, and JSON that its schema knows.

use std::fs;

use cc_ci_tests::World;
use serde_json::Value;

/// What of `value` the schema of `form` does not allow.
fn wrong(world: &World, form: &str, value: &Value) -> Vec<String> {
    let schema = world.cc_ci(["schema", form]).run().expect(0).json();
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn a_run_keeps_a_page_that_can_be_made_again_and_json_that_its_schema_knows() {
    let world = World::new();
    let recipe = world.recipe("app");
    recipe.write("compose.so called.yml", "").compose("1", "").release("1.0.0+1");
    recipe.compose("2", "").script("tests/custom-a", "echo '<b>said</b>'; exit 1").commit();
    let run = world.cc_ci(["run", "--format", "json", "--pr", "1", "--run-id", "r"]);
    let record = run.arg(recipe.path()).run().expect(1).json();
    let directory = world.runs().join("r");
    for (file, flag) in [("report.html", "--html"), ("junit.xml", "--junit")] {
        let written = fs::read_to_string(directory.join(file)).unwrap();
        let again = world.cc_ci(["report", "r", flag]).run().expect(0).stdout;
        assert!(written == again, "{file} is what report {flag} makes");
    }
    let page = fs::read_to_string(directory.join("report.html")).unwrap();
    assert!(page.contains("&#60;b&#62;said&#60;/b&#62;") && page.contains("recipe/custom-a"), "{page}");
    assert_eq!(wrong(&world, "run", &record), [""; 0]);
    for event in world.events("r") {
        assert_eq!(wrong(&world, "event", &event), [""; 0], "{event}");
    }
    let spans: Vec<&Value> = record["timeline"].as_array().unwrap().iter().collect();
    let phases =
        spans.iter().filter(|span| span["kind"] == "phase").map(|span| span["name"].as_str().unwrap());
    let phases: Vec<&str> = phases.collect();
    assert_eq!(
        phases,
        [
            "fetch", "lock", "recover", "janitor", "install", "upgrade", "backup", "restore", "custom",
            "teardown"
        ]
    );
    assert!(spans.iter().all(|span| span["kind"] == "task" || span["ended"].is_string()), "{spans:#?}");
    assert!(spans.iter().any(|span| span["kind"] == "task"), "{spans:#?}");
    let failed = spans.iter().filter(|span| span["failed"] == true).map(|span| &span["name"]);
    assert_eq!(failed.collect::<Vec<_>>(), ["custom"]);
    let steps = record["tiers"].as_array().unwrap().iter().flat_map(|tier| tier["steps"].as_array().unwrap());
    let logs: Vec<&str> = steps.filter_map(|step| step["log"].as_str()).collect();
    assert_eq!(logs, ["logs/custom-recipe-custom-a.log"]);
    assert!(directory.join(logs[0]).exists());
    assert_eq!(record["releases_before"], serde_json::json!({ "newest": "1.0.0+1", "count": 1 }));
    assert_eq!(record["level"], 5, "{:#}", record["lint"]);
    let lint = &record["lint"];
    let findings: Vec<&str> =
        lint["findings"].as_array().unwrap().iter().map(|finding| finding.as_str().unwrap()).collect();
    assert!(findings[0].starts_with("warning: not judged: 1 compose files"), "it is not clean: {findings:?}");
    let warnings = findings.iter().filter(|finding| finding.starts_with("warning: ")).count();
    assert_eq!(lint["warnings"], warnings, "{findings:?}");
    world.assert_empty();
}
