//! The picture of `cc-ci status --watch` in the README: what the command draws, as an SVG.
//!
//! It is written anew like the snapshots, `INSTA_UPDATE=always cargo test -p cc-ci-cli --bins`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use cc_ci_core::engine::Kind;
use cc_ci_core::names::{Domain, RecipeName, RunId};
use jiff::Timestamp;

use crate::commands::status::{Left, Live, Status, Waiting};
use crate::render;

/// Of a letter, in the picture's own units.
const WIDTH: f64 = 7.25;
const HEIGHT: f64 = 18.0;
const MARGIN: f64 = 16.0;
/// A terminal breaks longer lines.
const COLUMNS: usize = 120;

/// Text of a terminal, light or dark as its reader is.
fn svg(title: &str, text: &str) -> String {
    let (mut lines, mut widest, mut count) = (String::new(), 0.0_f64, 0.0_f64);
    for line in text.lines().flat_map(broken) {
        let escaped = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let y = MARGIN + (count + 0.75) * HEIGHT;
        writeln!(lines, "  <text x=\"{MARGIN}\" y=\"{y}\" xml:space=\"preserve\">{escaped}</text>").unwrap();
        let length = u32::try_from(line.chars().count()).unwrap();
        widest = widest.max(f64::from(length) * WIDTH);
        count += 1.0;
    }
    let (width, height) = ((widest + 2.0 * MARGIN).ceil(), (count * HEIGHT + 2.0 * MARGIN).ceil());
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n\
         \x20 <title>{title}</title>\n\
         \x20 <style>\n\
         \x20   rect {{ fill: #ffffff; stroke: #d0d7de; }}\n\
         \x20   text {{ fill: #1f2328; font: 12px ui-monospace, 'DejaVu Sans Mono', 'Liberation Mono', monospace; }}\n\
         \x20   @media (prefers-color-scheme: dark) {{ rect {{ fill: #0d1117; stroke: #3d444d; }} text {{ fill: #e6edf3; }} }}\n\
         \x20 </style>\n\
         \x20 <rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n{lines}</svg>\n",
        width - 1.0,
        height - 1.0
    )
}

/// A line as a terminal shows it.
fn broken(line: &str) -> Vec<String> {
    let letters: Vec<char> = line.chars().collect();
    let rows = letters.chunks(COLUMNS).map(|row| row.iter().collect());
    if letters.is_empty() { vec![String::new()] } else { rows.collect() }
}

/// A host at work.
fn busy() -> Status {
    let at: Timestamp = "2026-11-29T20:44:05Z".parse().unwrap();
    let since = |minutes| Some(at - Duration::from_mins(minutes));
    let domain = |label: &str| format!("{label}.ci.example.org").parse::<Domain>().unwrap();
    let id = |id: &str| id.parse::<RunId>().unwrap();
    let recipe = |name: &str| Some(name.parse::<RecipeName>().unwrap());
    let exists = |all: &[(Kind, usize)]| all.iter().copied().collect::<BTreeMap<_, _>>();
    let live = |label: &str, run: &str, name: &str, phase: &str, holder, minutes| Live {
        domain: domain(label),
        run_id: Some(id(run)),
        recipe: recipe(name),
        phase: Some(phase.to_owned()),
        holder: Some(holder),
        since: since(minutes),
        warm: false,
        exists: BTreeMap::new(),
        waiting: 0,
    };
    let app =
        [(Kind::Container, 3), (Kind::Service, 3), (Kind::Task, 3), (Kind::Volume, 2), (Kind::Secret, 4)];
    let quarantine = serde_json::from_value(serde_json::json!({
        "schema": "cc-ci.quarantine/v1", "domain": domain("wiki-0b7a15"), "failures": 3, "first": since(40), "last": since(9),
        "boot_id": "b007", "reasons": ["volume data is used by container backup, which is no app's"]
    }));
    Status {
        engine: "Docker Swarm at unix:///var/run/docker.sock".to_owned(),
        at,
        live: vec![
            Live {
                exists: exists(&app),
                waiting: 1,
                ..live("immi-ad3e33", "412", "immich", "upgrade", 20911, 3)
            },
            Live {
                exists: exists(&app[1..]),
                ..live("next-5c1f0e", "409", "nextcloud", "red: kept until 21:14 UTC", 19007, 18)
            },
            live("ghos-71d2c4", "414", "ghost", "admission", 21544, 1),
        ],
        waiting: vec![Waiting {
            run_id: id("413"),
            recipe: recipe("immich"),
            domain: Some(domain("immi-ad3e33")),
            pid: 21102,
            since: since(2),
        }],
        left: vec![Left {
            domain: domain("wiki-0b7a15"),
            by: vec![id("398")],
            exists: exists(&[(Kind::Volume, 1)]),
            quarantine: Some(quarantine.unwrap()),
        }],
        warm: Vec::new(),
        warnings: Vec::new(),
    }
}

#[test]
fn the_picture_in_the_readme_is_what_the_command_draws() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images/status-watch.svg");
    let picture = svg("cc-ci status --watch on a busy host", &render::watched(&busy()));
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        std::fs::write(&file, &picture).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).unwrap_or_default() == picture,
        "{} is an older one",
        file.display()
    );
}
