//! The map of ARCHITECTURE.md, held against the code.

use std::fs;
use std::path::Path;

/// The modules of the map, those that others may use first.
fn map() -> Vec<String> {
    let text = include_str!("../../ARCHITECTURE.md");
    let table = text.split("## The modules of cc-ci-core").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once("` |")?.0.to_owned());
    table.lines().filter_map(row).collect()
}

/// The code of a file: no comments, and no tests, which may use anything.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The modules of the crate that `code` names, which is in a module `depth` levels below the crate.
fn named(code: &str, depth: usize) -> Vec<String> {
    let mut named = Vec::new();
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    for (at, _) in code.match_indices("crate::") {
        named.push(word(&code[at + "crate::".len()..]));
    }
    let mut rest = code;
    while let Some(at) = rest.find("super::") {
        let mut levels = 0;
        rest = &rest[at..];
        while let Some(above) = rest.strip_prefix("super::") {
            (levels, rest) = (levels + 1, above);
        }
        if levels >= depth {
            named.push(word(rest));
        }
    }
    named
}

/// Looks at each file below `directory`, which is that of the module `path`.
fn look(directory: &Path, path: &[String], map: &[String], wrong: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let mut inner = path.to_vec();
        if entry.file_type().unwrap().is_dir() {
            inner.push(name);
            look(&entry.path(), &inner, map, wrong);
            continue;
        }
        let Some(stem) = name.strip_suffix(".rs") else { continue };
        // Suites and doubles for tests use what they test.
        if ["test", "conformance", "memory", "fake"].iter().any(|word| stem.contains(word)) {
            continue;
        }
        if stem != "mod" {
            inner.push(stem.to_owned());
        }
        let Some(module) = inner.first().filter(|module| !["lib", "architecture"].contains(&module.as_str()))
        else {
            continue;
        };
        let shown = inner.join("::");
        let Some(own) = map.iter().position(|known| known == module) else {
            wrong.push(format!("{shown}: {module} is not in the map"));
            continue;
        };
        for used in named(&code(&fs::read_to_string(entry.path()).unwrap()), inner.len()) {
            match map.iter().position(|known| *known == used) {
                Some(other) if other <= own => {}
                Some(_) => wrong.push(format!("{shown} uses {used}, which is below {module}")),
                None => wrong.push(format!("{shown} uses crate::{used}, which is no module of the map")),
            }
        }
    }
}

#[test]
fn arrows_go_one_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let map = map();
    assert!(map.len() > 10, "{map:?}");
    for module in &map {
        assert!(
            source.join(module).is_dir() || source.join(format!("{module}.rs")).is_file(),
            "the map has {module}, and the code has not"
        );
    }
    let mut wrong = Vec::new();
    look(&source, &[], &map, &mut wrong);
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_are_read_wherever_they_stand() {
    assert_eq!(named("use crate::run::Lane; let x = super::super::lock::y();", 2), ["run", "lock"]);
    assert_eq!(named("use super::world::World; pub(in crate::local) fn x() {}", 2), ["local"]);
    assert_eq!(code("a // crate::x\n#[cfg(test)]\nmod tests { crate::y }"), "a ");
}
