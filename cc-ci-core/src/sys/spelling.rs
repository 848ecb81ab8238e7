//! Of known words the one that an unknown one was meant to be.

/// Returns the known word that is nearest to `unknown`, where one is near enough to have been meant.
pub fn nearest<'k>(unknown: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let distance = |known: &str| strsim::damerau_levenshtein(unknown, known);
    let (distance, nearest) = known.into_iter().map(|known| (distance(known), known)).min()?;
    (distance <= (unknown.chars().count() / 3).max(1)).then_some(nearest)
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
    }
}
