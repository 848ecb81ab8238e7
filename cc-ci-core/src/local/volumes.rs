//! Copies of volumes, for backups, and small files in them.
//!
//! What is in a volume its service put there: where that can't be copied, or brought back, the recipe is red.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::state_dir::StateDir;
use crate::engine::{Failure, RunContext, VolumePath};
use crate::lifetime::User;
use crate::recipe::VolumeBackup;
use crate::sys::beneath::read_beneath;
use crate::sys::files::{private_directory, write_whole};
use crate::workspace::copy_living;

/// What a copy has at the most, as those from a Swarm have.
const LIMIT: u64 = 4 << 30;

/// The copied paths, as JSON; the empty one is all of the volume.
const INDEX: &str = "paths.json";

const INDEX_LIMIT: u64 = 1 << 20;

/// What was at them, beside it.
const CONTENT: &str = "content";

/// What is at `path`, of a volume.
pub(super) fn look(state_dir: &StateDir, path: &Path) -> Result<VolumePath, Failure> {
    match state_dir.dir().map_err(io::Error::from).and_then(|dir| dir.find(path)) {
        Ok(None) => Ok(VolumePath::Missing),
        Ok(Some(found)) if found.is_directory() => Ok(VolumePath::Directory),
        Ok(Some(_)) => Ok(VolumePath::Other),
        Err(error) => Err(failed("look into", error)),
    }
}

/// Writes the small file `path` of a volume.
pub(super) fn write(state_dir: &StateDir, path: &Path, content: &[u8]) -> Result<(), Failure> {
    state_dir.write(path, content, 0o644).map_err(|error| failed("write into", error))
}

/// Copies what `rule` takes of the volume's directory. `to` is new.
pub(super) async fn save(
    context: &RunContext,
    from: PathBuf,
    rule: &VolumeBackup,
    to: PathBuf,
) -> Result<(), Failure> {
    let paths = match rule {
        VolumeBackup::Whole => vec![String::new()],
        VolumeBackup::Paths(paths) => paths.clone(),
        VolumeBackup::Excluded => return Err(Failure::host("a volume is not in the backup")),
    };
    let cancellation = context.lifetime.cancellation().clone();
    let work = move || {
        let copies = to.join(CONTENT);
        private_directory(&copies)?;
        copy_living(&from, &paths, &copies, LIMIT, &cancellation)?;
        write_whole(&to.join(INDEX), serde_json::json!(paths).to_string().as_bytes(), 0o600)
    };
    context.lifetime.blocking_tasks().run(work).await.map_err(|error| failed("copy", error))
}

/// Puts the copy in the place of what the volume holds there now. The volume's own directory stays: the app has it open.
pub(super) async fn load(
    context: &RunContext,
    state_dir: &StateDir,
    from: PathBuf,
    to: PathBuf,
    user: User,
) -> Result<(), Failure> {
    let (state_dir, volume) = (state_dir.clone(), to.clone());
    let cancellation = context.lifetime.cancellation().clone();
    let work = move || {
        let index = read_beneath(&from, INDEX, INDEX_LIMIT).map_err(io::Error::other)?;
        let paths: Vec<String> = serde_json::from_slice(&index)?;
        let dir = state_dir.dir()?.sub(&volume)?;
        for path in &paths {
            match path.as_str() {
                "" => dir.clear(&|| false)?,
                path => dir.remove(path.as_ref(), &|| false)?,
            }
        }
        copy_living(&from.join(CONTENT), &paths, &volume, LIMIT, &cancellation)
    };
    context.lifetime.blocking_tasks().run(work).await.map_err(|error| failed("bring back", error))?;
    if context.recipe_code.confined().is_none() {
        return Ok(());
    }
    // The confined service goes on with what is its own.
    let owned = context.lifetime.blocking_tasks().run(move || user.own(&to)).await;
    owned.map_err(|error| failed("give back", error))
}

fn failed(doing: &str, error: io::Error) -> Failure {
    let text = format!("can't {doing} a volume");
    let failure = if is_of_host(&error) { Failure::host(text) } else { Failure::recipe(text) };
    failure.with_source(error)
}

/// Whether it tells of the host, or of the run's end, and not of what is in the volume.
fn is_of_host(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let kinds = [Interrupted, OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, StorageFull];
    let errnos = [Errno::EIO, Errno::EMFILE, Errno::ENFILE];
    let chain = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    chain.filter_map(|error| error.downcast_ref::<io::Error>()).any(|error| {
        kinds.contains(&error.kind())
            || error.raw_os_error().is_some_and(|errno| errnos.contains(&Errno::from_raw(errno)))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;

    use super::*;
    use crate::engine::{RecipeCode, Redactor};
    use crate::lifetime::{Bounds, EmbeddedMode};
    use crate::model::event::Silent;
    use crate::model::failure::Fault;

    #[tokio::test]
    async fn what_a_service_wrote_is_the_recipes_fault_and_no_disk_is() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let context = RunContext {
            run_id: "1".parse().unwrap(),
            lifetime: Arc::new(EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap()),
            reporter: Arc::new(Silent),
            environment: Vec::new(),
            tmp: path("tmp"),
            redactor: Redactor::default(),
            recipe_code: RecipeCode::Unconfined("a test's".into()),
        };
        fs::create_dir(path("volume")).unwrap();
        let _listener = UnixListener::bind(path("volume/socket")).unwrap();
        save(&context, path("volume"), &VolumeBackup::Whole, path("copy")).await.unwrap();
        nix::unistd::mkfifo(&path("volume/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let failure =
            save(&context, path("volume"), &VolumeBackup::Whole, path("another")).await.unwrap_err();
        assert_eq!(failure.fault(), Fault::Recipe);
        assert!(failure.chain().contains("volume/pipe: neither a file"), "{}", failure.chain());
        let of_host = |errno: Errno| failed("copy", errno.into()).fault() == Fault::Host;
        assert!([Errno::ENOSPC, Errno::EIO, Errno::EMFILE].into_iter().all(of_host));
        assert!(![Errno::EACCES, Errno::EAGAIN, Errno::ELOOP, Errno::ENOENT].into_iter().any(of_host));
    }
}
