//! Which recipe a word names: a path, an address, or a name in the canonical abra tree.

use std::path::{Path, PathBuf};

use cc_ci_core::Failure;
use cc_ci_core::workspace::RecipeSource;

/// A name that is also a directory here is refused: the other one would be tested than the one that was meant.
pub fn refuse_ambiguous(source: &RecipeSource, tree: Option<&Path>) -> Result<(), Failure> {
    let (RecipeSource::Name(name), Some(tree)) = (source, tree) else { return Ok(()) };
    let known = tree.join("recipes").join(name.as_str());
    if !Path::new(name.as_str()).is_dir() || !known.is_dir() {
        return Ok(());
    }
    Err(Failure::configuration(format!("{name} is a directory here, and a recipe of {}", tree.display()))
        .with_hint(format!("say which: ./{name} or {}", known.display())))
}

/// The directory that `source` names on this host; `tree` is asked for only where that is needed.
pub fn directory(
    source: &RecipeSource,
    tree: impl FnOnce() -> Result<PathBuf, Failure>,
) -> Result<PathBuf, Failure> {
    match source {
        RecipeSource::Path(path) => Ok(path.clone()),
        RecipeSource::Name(name) => {
            let tree = tree()?;
            refuse_ambiguous(source, Some(&tree))?;
            let directory = tree.join("recipes").join(name.as_str());
            if directory.is_dir() {
                return Ok(directory);
            }
            let failure = Failure::configuration(format!("{} has no recipe {name}", tree.display()));
            let here = Path::new(name.as_str()).is_dir();
            Err(failure.with_any_hint(here.then(|| format!("the directory here is ./{name}"))))
        }
        elsewhere => Err(Failure::configuration(format!("{elsewhere} is no directory of this host"))
            .with_hint("fetch it with git clone, and name the clone")),
    }
}
