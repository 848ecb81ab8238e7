//! What ARCHITECTURE.md and docs say of the code, held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The path of a module below its crate, name by name.
type Module = Vec<String>;

/// Returns the modules of the map, those that others may use first.
fn map() -> Vec<String> {
    let text = include_str!("../../ARCHITECTURE.md");
    let table = text.split("## The modules of cc-ci-core").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once("` |")?.0.to_owned());
    table.lines().filter_map(row).collect()
}

/// Returns the code of each file below `directory`, which is that of the module `path`. Comments are left out, and so are
/// tests, suites and doubles: they use what they test.
fn files(directory: &Path, path: &[String], found: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let mut module = path.to_vec();
        if entry.file_type().unwrap().is_dir() {
            module.push(name);
            files(&entry.path(), &module, found);
            continue;
        }
        let Some(stem) = name.strip_suffix(".rs") else { continue };
        if ["test", "conformance", "memory", "fake", "lib", "architecture"]
            .iter()
            .any(|word| stem.contains(word))
        {
            continue;
        }
        if stem != "mod" {
            module.push(stem.to_owned());
        }
        found.insert(module, code(&fs::read_to_string(entry.path()).unwrap()));
    }
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Returns the paths below the crate that the code of `module` names; a group of imports is taken apart.
fn paths(module: &[String], code: &str) -> BTreeSet<Module> {
    let mut paths = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        take_apart(&[], &code[at + "crate::".len()..], &mut paths);
    }
    let mut rest = code;
    while let Some(at) = rest.find("super::") {
        let mut base = module;
        rest = &rest[at..];
        while let Some(inner) = rest.strip_prefix("super::") {
            base = base.split_last().map_or(&[], |(_, above)| above);
            rest = inner;
        }
        take_apart(base, rest, &mut paths);
    }
    paths
}

/// Adds what the text of a path or a group of paths, `rest`, names below `base`; gives what follows it.
fn take_apart<'t>(base: &[String], rest: &'t str, paths: &mut BTreeSet<Module>) -> &'t str {
    if let Some(mut rest) = rest.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches([',', ' ', '\n']);
            match rest.strip_prefix('}') {
                Some(after) => return after,
                None if rest.is_empty() => return rest,
                None => rest = take_apart(base, rest, paths),
            }
        }
    }
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    let path = if name.is_empty() { base.to_vec() } else { [base, &[name.to_owned()]].concat() };
    if let Some(inner) = after.strip_prefix("::") {
        return take_apart(&path, inner, paths);
    }
    paths.insert(path);
    // What is no name and no group, `*` or an alias, ends with its item.
    let end = after.find([',', '}', ';', '\n']).unwrap_or(after.len());
    &after[end..]
}

#[test]
fn arrows_go_one_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (map, mut code) = (map(), BTreeMap::new());
    files(&source, &[], &mut code);
    let place = |name: &String| map.iter().position(|known| known == name);
    let mut wrong = BTreeSet::new();
    for (module, code) in &code {
        let (own, shown) = (place(&module[0]), module.join("::"));
        for used in paths(module, code) {
            let why = match (own, place(&used[0])) {
                (Some(own), Some(other)) if other <= own => continue,
                (Some(_), Some(_)) => "which is below it",
                _ => "and one of them is not in the map",
            };
            wrong.insert(format!("{shown} uses {}, {why}", used[0]));
        }
    }
    let missing = map.iter().filter(|name| !code.keys().any(|module| module[0] == **name));
    wrong.extend(missing.map(|name| format!("the map has {name}, and the code has not")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_files_go_in_a_circle() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    for source in ["src", "../cc-ci-docker/src", "../cc-ci-abra/src", "../cc-ci-bridge/src"] {
        let mut code = BTreeMap::new();
        files(&own.join(source), &[], &mut code);
        // A name that is no file's is of the nearest file above it.
        let file_of = |path: &Module| {
            let above = (1..=path.len()).rev().map(|length| path[..length].to_vec());
            above.into_iter().find(|path| code.contains_key(path))
        };
        let mut graph: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
        for (module, text) in &code {
            let named: BTreeSet<Module> = paths(module, text).iter().filter_map(file_of).collect();
            let others = code.keys().filter(|other| *other != module && named.contains(*other));
            graph.insert(module, others.map(Vec::as_slice).collect());
        }
        // Whoever uses nobody that is left is in no circle, and neither is whom nobody uses.
        loop {
            let left: BTreeSet<&[String]> = graph.keys().copied().collect();
            let targets: BTreeSet<&[String]> = graph.values().flatten().copied().collect();
            graph.retain(|module, uses| {
                targets.contains(module) && uses.iter().any(|used| left.contains(used))
            });
            if graph.len() == left.len() {
                break;
            }
        }
        assert!(graph.is_empty(), "{source}: {graph:#?}");
    }
}

/// Adds the texts of all files below `directory` whose names end with `suffix`, by path.
fn texts(directory: &Path, suffix: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            if !name.starts_with('.') && name != "target" {
                texts(&path, suffix, found);
            }
        } else if name.ends_with(suffix) {
            found.insert(path.to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap());
        }
    }
}

/// A longer file has two subjects.
const LONGEST: usize = 450;

/// Returns which files are too long, and how long they are.
fn too_long(code: &BTreeMap<String, String>) -> Vec<(&str, usize)> {
    let lengths = code.iter().map(|(path, text)| (path.as_str(), text.lines().count()));
    lengths.filter(|(_, lines)| *lines > LONGEST).collect()
}

#[test]
fn a_file_has_one_subject_and_so_not_too_many_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut code = BTreeMap::new();
    texts(&root, ".rs", &mut code);
    assert!(code.len() > 500, "{} files were read", code.len());
    assert_eq!(too_long(&code), []);
    let lines = |count: usize| ("file".to_owned(), "x\n".repeat(count));
    assert_eq!(too_long(&[lines(LONGEST)].into()), []);
    assert_eq!(too_long(&[lines(LONGEST + 1)].into()), [("file", LONGEST + 1)]);
}

/// Returns what is wrong with `name`, as a document writes it: a file, or a function in one or anywhere.
fn missing(name: &str, code: &BTreeMap<String, String>) -> Option<&'static str> {
    let (place, function) =
        name.rsplit_once("::").map_or((name, None), |(place, function)| (place, Some(function)));
    let is_file = Path::new(place).extension().is_some_and(|extension| extension == "rs");
    // Shorter ones may be fields and methods.
    let is_test = |function: &&str| function.matches('_').count() >= 3;
    let function = function.filter(|function| is_file || is_test(function));
    if !is_file && function.is_none() {
        return None;
    }
    let of_file = |path: &str| !is_file || path.ends_with(&format!("/{place}"));
    let mut files = code.iter().filter(|(path, _)| of_file(path)).peekable();
    if files.peek().is_none() {
        return Some("no such file");
    }
    let function = function.map(|function| format!("fn {function}("))?;
    files.all(|(_, text)| !text.contains(&function)).then_some("no such function")
}

#[test]
fn documents_name_files_and_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut code, mut documents) = (BTreeMap::new(), BTreeMap::new());
    texts(&root, ".rs", &mut code);
    texts(&root, ".md", &mut documents);
    documents.retain(|path, _| !path.ends_with("/CHANGELOG.md"));
    let mut wrong = BTreeSet::new();
    for (path, text) in &documents {
        for name in text.split('`').skip(1).step_by(2).filter(|name| !name.contains([' ', '\n', '*'])) {
            wrong.extend(missing(name, &code).map(|why| format!("{path}: {name}: {why}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (name, why) in [
        ("architecture.rs::documents_name_files_and_tests_that_are_there", None),
        ("architecture::documents_name_files_and_tests_that_are_there", None),
        ("Engine::remove_only", None),
        ("nowhere.rs", Some("no such file")),
        ("architecture.rs::nowhere", Some("no such function")),
        ("architecture::nowhere_is_there_a_test", Some("no such function")),
    ] {
        assert_eq!(missing(name, &code), why, "{name}");
    }
}

#[test]
fn paths_are_read_wherever_they_stand() {
    let read = |code: &str| {
        let module = ["a".to_owned(), "b".to_owned()];
        paths(&module, code).iter().map(|path| path.join("::")).collect::<Vec<_>>()
    };
    assert_eq!(read("use crate::run::Lane; let x = super::super::lock::y();"), ["lock::y", "run::Lane"]);
    assert_eq!(
        read("use super::{c::{self, D as _}, e};\nuse super::f::*;"),
        ["a::c::D", "a::c::self", "a::e", "a::f"]
    );
    assert_eq!(code("a // crate::x\n#[cfg(test)]\nmod tests { crate::y }"), "a ");
}
