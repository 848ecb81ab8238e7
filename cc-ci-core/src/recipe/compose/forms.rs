//! Forms that several keys have in common.

use std::collections::BTreeMap;

use super::ComposeError;
use super::node::Node;
use super::short;

/// `NAME=value` items or a map, as pairs with the cursor of each.
pub(super) fn pairs<'a>(at: &Node<'a>) -> Result<Vec<(String, Option<String>, Node<'a>)>, ComposeError> {
    if !at.is_list() {
        return at.entries()?.into_iter().map(|(key, at)| Ok((key.to_owned(), at.scalar()?, at))).collect();
    }
    at.list(|item| {
        let text = item.str()?;
        let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
        Ok((key.to_owned(), value.map(str::to_owned), item.clone()))
    })
}

/// Labels, by name.
pub(super) fn labels(at: &Node<'_>) -> Result<BTreeMap<String, String>, ComposeError> {
    let label = |(name, value, at): (String, Option<String>, Node<'_>)| {
        if name.is_ascii() {
            return Ok((name, value.unwrap_or_default()));
        }
        // To Go `ſ` is an `s` in another case.
        Err(at.error("a label's name is of ASCII letters: others are read as them, or not"))
    };
    pairs(at)?.into_iter().map(label).collect()
}

/// The words of a command.
pub(super) fn command(at: &Node<'_>) -> Result<Vec<String>, ComposeError> {
    if at.is_list() { at.list(Node::text) } else { short::words(at.str()?).map_err(|rule| at.error(rule)) }
}
