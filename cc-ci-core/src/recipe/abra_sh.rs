//! The config versions that a recipe's `abra.sh` exports.
//!
//! A recipe names its configs `${STACK_NAME}_<name>_${<NAME>_VERSION}` and says the versions in `abra.sh`, as
//! `export <NAME>_VERSION=v1` or as a plain assignment. The file comes from a pull request, so it is read as text and
//! never executed.
//!
//! # Limitations
//! Only what stands unindented outside functions, blocks and here-documents is read, only names that end in
//! `_VERSION` (a recipe must not set `STACK_NAME` or `DOMAIN` this way), and only plain or quoted literals of
//! `[A-Za-z0-9._-]`. Anything else is passed over, and refused where a compose file uses it. A string in quotes over several lines is not recognised as one.

use std::collections::{BTreeMap, BTreeSet};

/// What says which app it is, and of which files.
const RESERVED: [&str; 5] = ["COMPOSE_FILE", "DOMAIN", "RECIPE", "STACK_NAME", "TYPE"];

/// The versions in the text of an `abra.sh`, by the name of their variable. The last assignment counts.
pub fn versions(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut depth = 0_usize;
    let mut here_document: Option<&str> = None;
    let mut continued = false;
    for line in text.lines() {
        if let Some(end) = here_document {
            if line.trim_start_matches('\t') == end {
                here_document = None;
            }
            continue;
        }
        let was_continued = std::mem::replace(&mut continued, line.ends_with('\\'));
        if was_continued || line.trim_start().starts_with('#') {
            continue;
        }
        here_document = here_document_end(line);
        let words: Vec<&str> = line.split_whitespace().collect();
        let first = words.first().map_or("", |word| word.trim_end_matches(';'));
        let last = words.last().copied().unwrap_or_default();
        if matches!(first, "fi" | "esac" | "done") || first.starts_with(['}', ')']) {
            depth = depth.saturating_sub(1);
        }
        let opens_block = matches!(first, "if" | "case" | "for" | "while" | "until" | "select")
            && !matches!(last, "fi" | "esac" | "done");
        if opens_block || last.ends_with('{') || last.ends_with('(') {
            depth += 1;
        } else if depth == 0 && !was_continued && !line.starts_with([' ', '\t']) {
            read_assignments(line, &mut found);
        }
    }
    found
}

/// What an `abra.sh` exports that [`versions`] passes over and that counts all the same: the line, from 1, and what is said
/// against it. abra puts what it exports over the `.env`; where in the file it looks for that, and at which forms, nobody can
/// know. `used` are the variables of the compose files.
pub(super) fn doubtful(text: &str, used: &BTreeSet<String>) -> Vec<(usize, String)> {
    let versions = versions(text);
    let mut last: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with('#')) {
        let apart = |c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')' | '{' | '}');
        let mut words = line.split(apart).filter(|word| !word.is_empty());
        if !words.any(|word| matches!(word.trim_start_matches(['"', '\'']), "export" | "declare" | "typeset"))
        {
            continue;
        }
        let assigned =
            words.take_while(|word| !word.starts_with('#')).filter_map(|word| word.split_once('='));
        last.extend(assigned.map(|(name, value)| (name, (number, value))));
    }
    let is_read = |name: &str, value: &str| {
        literal(value).is_some_and(|value| versions.get(name).is_some_and(|read| read == value))
    };
    let counts = |name: &str| RESERVED.contains(&name) || used.contains(name);
    let doubtful = last.into_iter().filter(|(name, (_, value))| counts(name) && !is_read(name, value));
    let mut found: Vec<(usize, String)> = doubtful
        .map(|(name, (line, _))| {
            let why = if RESERVED.contains(&name) {
                "which no recipe chooses there"
            } else if name.ends_with("_VERSION") {
                "which the compose files use, and not at the top level as a plain word"
            } else {
                "which the compose files use and which is no version"
            };
            (line, format!("exports {name}, {why}"))
        })
        .collect();
    found.sort();
    found
}

fn read_assignments(line: &str, found: &mut BTreeMap<String, String>) {
    let rest = line.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
    let rest = rest.unwrap_or(line);
    let mut read = Vec::new();
    for word in rest.split_whitespace().take_while(|word| !word.starts_with('#')) {
        let Some((name, value)) = word.trim_end_matches(';').split_once('=') else { return };
        // `A_VERSION=v1 command` sets it for that command alone: any other word drops the whole line.
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            return;
        }
        if let (true, Some(value)) = (name.ends_with("_VERSION"), literal(value)) {
            read.push((name.to_owned(), value.to_owned()));
        }
        if word.ends_with(';') {
            break;
        }
    }
    found.extend(read);
}

fn literal(value: &str) -> Option<&str> {
    let inner = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (!inner.is_empty() && inner.bytes().all(plain)).then_some(inner)
}

/// The word that ends the here-document which `line` begins.
fn here_document_end(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("<<")?;
    if rest.starts_with('<') || before.ends_with('(') {
        return None;
    }
    let word = rest.strip_prefix('-').unwrap_or(rest).trim_start().trim_start_matches(['\'', '"', '\\']);
    let len = word.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    (len > 0).then(|| &word[..len])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        versions(text).into_iter().collect()
    }

    #[test]
    fn exported_and_plain_literals_at_top_level_are_read() {
        let text = "#!/bin/bash\n\nexport NGINX_CONF_VERSION=v1\nENTRYPOINT_VERSION=\"v2\"  # bumped\n\
                    export A_VERSION='v3' B_VERSION=v4\nC_VERSION=v5;\nNGINX_CONF_VERSION=v6\n\
                    one_line() { X_VERSION=v9; }\nif true; then fi\nexport D_VERSION=v7\n";
        let expected = [
            ("A_VERSION", "v3"),
            ("B_VERSION", "v4"),
            ("C_VERSION", "v5"),
            ("D_VERSION", "v7"),
            ("ENTRYPOINT_VERSION", "v2"),
            ("NGINX_CONF_VERSION", "v6"),
        ];
        assert_eq!(read(text), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_a_shell_would_compute_or_not_reach_is_not_read() {
        for text in [
            "export A_VERSION=$(id)",
            "export A_VERSION=`id`",
            "export A_VERSION=$B",
            "export A_VERSION=\"v$B\"",
            "export A_VERSION=",
            "export A_VERSION=../x",
            "export A_VERSION='v1",
            "A_VERSION=v1 run_it",
            "echo A_VERSION=v1",
            "# export A_VERSION=v1",
            "export STACK_NAME=other_stack DOMAIN=other.example.org PATH=/tmp",
            "f() {\nA_VERSION=v1\n}",
            "f()\n{\nA_VERSION=v1\n}",
            "f() {\nif x; then\nA_VERSION=v1\nfi\nA_VERSION=v1\n}",
            "if false; then\nA_VERSION=v1\nfi",
            "case $1 in\nx)\nA_VERSION=v1 ;;\nesac",
            "cat <<EOF\nA_VERSION=v1\nEOF",
            "cat <<-'END'\nA_VERSION=v1\n\tEND",
            "echo \\\nA_VERSION=v1",
        ] {
            assert_eq!(read(text), [], "{text}");
        }
    }

    #[test]
    fn reading_goes_on_after_a_block() {
        for block in [
            "f() {\nx\n}",
            "cat <<EOF\n}\nEOF",
            "if x; then\ny\nfi",
            "cat <<< word",
            "for i in 1; do\nx\ndone",
        ] {
            assert_eq!(versions(&format!("{block}\nA_VERSION=v1\n"))["A_VERSION"], "v1", "{block}");
        }
    }

    #[test]
    fn what_is_exported_and_passed_over_is_told_where_it_counts() {
        let used = ["A_VERSION", "HOST"].map(str::to_owned).into();
        for (text, lines) in [
            ("export A_VERSION=v1\nexport OTHER=x B_VERSION=$(id)\n# export HOST=x", &[][..]),
            ("export A_VERSION=v0\nexport A_VERSION='v1' # HOST=x", &[]),
            ("A_VERSION=v1\nf() {\n  export A_VERSION=v1\n}", &[]),
            ("HOST=x command", &[]),
            ("\nexport HOST=victim.org", &[2]),
            ("export COMPOSE_FILE=compose.evil.yml STACK_NAME=other", &[1, 1]),
            ("f() { export DOMAIN=victim.org; }", &[1]),
            ("if x; then\n\texport TYPE=x\nfi", &[2]),
            ("export RECIPE=x", &[1]),
            ("cat <<EOF\nexport HOST=x\nEOF", &[2]),
            ("export A_VERSION=v1\nf() {\nexport A_VERSION=v2\n}", &[3]),
            ("export A_VERSION=$(id)", &[1]),
            ("declare -x HOST=x", &[1]),
            ("x && export HOST=\"a b\"", &[1]),
            ("eval 'export HOST=x'", &[1]),
        ] {
            let found: Vec<usize> = doubtful(text, &used).into_iter().map(|(line, _)| line).collect();
            assert_eq!(found, lines, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_only_plain_versions(text in "([A-Z_ ={}<'\"\\n$;\\\\]|_VERSION=v1|export |EOF|fi\\n){0,30}|\\PC{0,60}") {
            for (name, value) in versions(&text) {
                prop_assert!(name.ends_with("_VERSION"));
                prop_assert!(!value.is_empty() && !value.contains(['$', '/', ' ', '`', '"']));
            }
        }
    }
}
