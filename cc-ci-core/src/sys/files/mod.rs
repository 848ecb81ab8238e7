//! The one way in which cc-ci changes files (I17).
//!
//! A directory that the operator configured is a root: it is opened once, as `Dir`, through whatever symbolic links
//! the operator has on the way. Everything beneath it is reached from that descriptor, a component at a time, and
//! neither through a link nor into another mount. What is mounted there stays where it is, is named, and is not even
//! looked into: a file system that answers nobody would keep whoever asks it.
//!
//! Removal is one piece of code, `Dir::remove`. A root carries a mark, so that nothing is removed from a directory
//! that was somebody's before.
//!
//! # Limitations
//! The file system of a root itself must answer: where that one hangs, so does whoever works in it.

#![expect(clippy::disallowed_methods, reason = "this is the module through which all else goes")]

mod confined;
mod dir;
mod hidden;
pub(crate) mod mark;
mod private;
mod remove;
mod temporary;
#[cfg(test)]
pub(crate) mod testing;
mod whole;

pub(crate) use dir::{Dir, give_to, parent_of, set_group, set_mode};
pub use hidden::HiddenDirectory;
pub(crate) use mark::{
    RUN_LOCK, RUN_RECORD, RootError, RootKind, check_root, claim_root, is_full, is_run_directory, open_root,
    user,
};
pub use private::{PrivateFileError, read_private};
pub use temporary::TemporaryDirectory;
pub use whole::{link, new_file, private_directory, remove_file, remove_tree, write_whole};
pub(crate) use whole::{new_id, open_log, remove_tree_until, replace_file, write_whole_by};
