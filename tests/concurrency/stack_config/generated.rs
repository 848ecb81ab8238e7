//! Generated documents: many in one call of Docker's, each judged alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::compared::differences;
use super::corpus::{self, Document};
use super::{docker, names, ours, own};

/// So many are looked at where nothing else is asked for, and the first of them.
const DOCUMENTS: u64 = 2000;
/// How many are asked, and from which on.
const ASKED: &str = "CCCI_TEST_DOCUMENTS";
const FIRST: &str = "CCCI_TEST_FIRST_DOCUMENT";
/// So many are put into one call.
const BATCH: u64 = 50;

/// What became of documents.
#[derive(Debug, Default)]
struct Figures {
    alike: u64,
    refused_by_both: u64,
    /// Refused by cc-ci alone, by its reason.
    refused: BTreeMap<&'static str, u64>,
    /// What must not be.
    wrong: Vec<String>,
}

#[test]
fn generated_documents_are_read_as_docker_does() {
    if !super::is_there("generated_documents_are_read_as_docker_does") {
        return;
    }
    let given = |name: &str| std::env::var(name).ok().map(|number| number.parse::<u64>().expect("a number"));
    let (count, first) = (given(ASKED).unwrap_or(DOCUMENTS), given(FIRST).unwrap_or(0));
    let batches: Vec<u64> = (first..first + count).step_by(usize::try_from(BATCH).unwrap()).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let mut whole = Figures::default();
    std::thread::scope(|scope| {
        let shares = (0..workers).map(|worker| {
            let mine: Vec<u64> = batches.iter().skip(worker).step_by(workers).copied().collect();
            scope.spawn(move || {
                let mut figures = Figures::default();
                for start in mine {
                    batch(start..(start + BATCH).min(first + count), &mut figures);
                }
                figures
            })
        });
        for share in shares.collect::<Vec<_>>() {
            let share = share.join().unwrap();
            whole.alike += share.alike;
            whole.refused_by_both += share.refused_by_both;
            whole.wrong.extend(share.wrong);
            for (reason, times) in share.refused {
                *whole.refused.entry(reason).or_default() += times;
            }
        }
    });
    println!(
        "{count} documents from {first} on: {} alike, {} refused by both",
        whole.alike, whole.refused_by_both
    );
    for (reason, times) in &whole.refused {
        println!("{times} refused by cc-ci alone: {reason}");
    }
    let shown = whole.wrong.iter().take(4000).map(String::as_str).collect::<Vec<_>>().join("\n\n");
    assert!(whole.wrong.is_empty(), "{} disagreements:\n{shown}", whole.wrong.len());
    assert!(whole.alike > count / 2, "only {} are read by both", whole.alike);
}

fn batch(numbers: std::ops::Range<u64>, figures: &mut Figures) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in corpus::ENV_FILES {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let mut read = Vec::new();
    for number in numbers {
        let alone = vec![Document::of(number)];
        let count = write(directory.path(), &alone);
        match ours(directory.path(), count) {
            Ok(compose) => read.extend(alone.into_iter().map(|document| (document, compose.clone()))),
            Err(refusal) => match (docker(directory.path(), count), own(&refusal)) {
                (Err(_), _) => figures.refused_by_both += 1,
                (Ok(_), Some(reason)) => *figures.refused.entry(reason).or_default() += 1,
                (Ok(_), None) => {
                    figures.wrong.push(format!(
                        "{}: only cc-ci refuses it: {refusal}\n{}",
                        number,
                        shown(&alone)
                    ));
                }
            },
        }
    }
    together(directory.path(), read, figures);
}

/// Asks Docker for all at once, and where it refuses, for both halves of them.
fn together(directory: &Path, mut read: Vec<(Document, cc_ci_core::recipe::Compose)>, figures: &mut Figures) {
    if read.is_empty() {
        return;
    }
    let (documents, composes): (Vec<_>, Vec<_>) = read.drain(..).unzip();
    let count = write(directory, &documents);
    match docker(directory, count) {
        Ok(printed) => {
            let printed: Value = serde_saphyr::from_str(&printed).expect("Docker prints YAML");
            for (document, compose) in documents.iter().zip(&composes) {
                let found = differences(&document.name(), directory, compose, &printed);
                if found.is_empty() {
                    figures.alike += 1;
                } else {
                    let shown = shown(std::slice::from_ref(document));
                    figures.wrong.push(format!("{}: {}\n{shown}", document.number, found.join("\n")));
                }
            }
        }
        Err(refusal) if documents.len() == 1 => {
            figures.wrong.push(format!(
                "{}: only Docker refuses it: {refusal}{}",
                documents[0].number,
                shown(&documents)
            ));
        }
        Err(_) => {
            let mut first: Vec<_> = documents.into_iter().zip(composes).collect();
            let second = first.split_off(first.len() / 2);
            together(directory, first, figures);
            together(directory, second, figures);
        }
    }
}

/// Writes the files, and says how many they are.
fn write(directory: &Path, documents: &[Document]) -> usize {
    let files = corpus::files(documents);
    for (name, text) in names(files.len()).zip(&files) {
        fs::write(directory.join(name), text).unwrap();
    }
    files.len()
}

fn shown(documents: &[Document]) -> String {
    corpus::files(documents).join("---\n")
}
