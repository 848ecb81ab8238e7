//! Recipes that would have findings without a bound.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

#[test]
fn no_number_of_warnings_hides_an_error() {
    let tree = Tree::clean();
    // The router's fault is found after the ports.
    let rule = "traefik.http.routers.${STACK_NAME}.rule=PathPrefix(`/`)";
    let mut text = COMPOSE.replace("traefik.enable=true", rule);
    let ports: Vec<String> = (1..=1100).map(|port| format!("'{port}:80'")).collect();
    text = text.replace("image: pad:1.2", &format!("image: pad:1.2\n    ports: [{}]", ports.join(", ")));
    tree.write("compose.yml", &text);
    let report = tree.report(&History::default());
    assert_eq!((report.count(Severity::Error), report.count(Severity::Warning)), (1, 1000));
    assert_eq!(report.skipped, ["findings beyond 1000 errors and 1000 others"]);
    // Errors have a bound too.
    let volumes: Vec<String> = (0..1100).map(|n| format!("  v{n}:\n    name: victim{n}\n")).collect();
    tree.write("compose.yml", COMPOSE.replace("  data:\n", &format!("  data:\n{}", volumes.concat())));
    let report = tree.report(&History::default());
    assert_eq!(report.count(Severity::Error), 1000);
    assert_eq!(report.skipped.len(), 1);
}

#[test]
fn what_leads_out_is_huge_or_is_no_text_is_one_finding_each() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.yml"), "services: {stolen: {image: stolen}}").unwrap();
    let tree = Tree::clean();
    let at = |name: &str| tree.0.path().join(name);
    symlink(outside.path().join("secret.yml"), at("compose.a-out.yml")).unwrap();
    symlink("compose.b-loop.yml", at("compose.b-loop.yml")).unwrap();
    tree.write("compose.c-huge.yml", vec![b'#'; (1 << 20) + 1]);
    tree.write("compose.d-binary.yml", [0xff, 0, 1]);
    nix::unistd::mkfifo(&at("compose.e-pipe.yml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(at("compose.f-directory.yml")).unwrap();
    tree.write("compose.g-deep.yml", "[".repeat(50_000));
    tree.write("compose.h-\u{1b}[31m:.yml", "services: {}");
    let report = tree.report(&History::default());
    let files: Vec<&str> = report.findings.iter().map(|finding| &finding.file[8..9]).collect();
    assert_eq!(files, ["a", "b", "c", "d", "e", "f", "g"], "{:#?}", report.findings);
    for finding in &report.findings {
        assert_eq!(finding.rule, "compose-invalid");
        assert!(
            !finding.what.contains("stolen") && !finding.what.contains(char::is_control),
            "{}",
            finding.what
        );
    }
    assert_eq!(report.skipped.len(), 1, "{:?}", report.skipped);
}

#[test]
fn what_a_finding_quotes_is_bounded() {
    let tree = Tree::clean();
    tree.replace("compose.yml", "pad:1.2", &format!("\"\\e[31m{}\"", "x".repeat(5000)));
    let report = tree.report(&History::default());
    let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
    assert_eq!(finding.rule, "image-invalid");
    assert!(finding.what.len() < 1000, "{}", finding.what.len());
    assert!(finding.what.contains("[31mxxx") && !finding.what.contains(char::is_control), "{}", finding.what);
}
