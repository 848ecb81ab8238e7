//! Of known words the one that an unknown one was meant to be.

/// A longer word is none that somebody misspelt, and costs time to compare.
const LONGEST: usize = 64;

/// Who begins or ends a longer word with so much of it has not met it by chance.
const PART: usize = 3;

/// Returns the known word that is nearest to `unknown`, where one is near enough to have been meant: by a few letters, or
/// as what `unknown` is the begin or the end of.
#[must_use]
pub fn nearest<'k>(unknown: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let length = unknown.chars().count();
    if length > LONGEST {
        return None;
    }
    let known: Vec<&str> = known.into_iter().collect();
    let distance = |known: &str| strsim::damerau_levenshtein(unknown, known);
    let (distance, nearest) = known.iter().map(|known| (distance(known), *known)).min()?;
    if distance <= (length / 3).clamp(1, 3) {
        return Some(nearest);
    }
    let has_it = |known: &&str| length >= PART && (known.starts_with(unknown) || known.ends_with(unknown));
    known.into_iter().filter(has_it).min_by_key(|known| known.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_taken_for_another_only_where_it_is_like_it() {
        assert_eq!(nearest("sufix", ["server", "suffix"]), Some("suffix"));
        assert_eq!(nearest("a", ["b"]), Some("b"));
        assert_eq!(nearest("docker", ["auto", "local", "abra"]), None);
        assert_eq!(nearest("docker", []), None);
        assert_eq!(nearest("test_timeout", ["lock_timeout"]), None, "what is alike is the rest of it");
        assert_eq!(nearest("env", ["command", "environment", "health"]), Some("environment"));
        assert_eq!(nearest("LOCK_DIR", ["RUNS_DIR", "APP_LOCK_DIR"]), Some("APP_LOCK_DIR"));
        assert_eq!(nearest("zzzzzz", ["command", "environment", "health"]), None);
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(nearest(&long, [long.as_str()]), None);
    }
}
