//! Copies of volumes, for backups.
//!
//! What is in a volume its service put there: where that can't be copied, or brought back, the recipe is red.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use super::state_dir::StateDir;
use crate::engine::{Failure, RunContext};
use crate::lifetime::User;
use crate::sys::files::private_directory;
use crate::workspace::copy_living;

/// What a copy has at the most, as those from a Swarm have.
const LIMIT: u64 = 4 << 30;

/// Copies the volume's directory. `to` is new.
pub(super) async fn save(context: &RunContext, from: PathBuf, to: PathBuf) -> Result<(), Failure> {
    copy(context, from, to).await
}

/// Puts the copy in the place of what the volume holds now. The volume's own directory stays: the app has it open.
pub(super) async fn load(
    context: &RunContext,
    state_dir: &StateDir,
    from: PathBuf,
    to: PathBuf,
    user: User,
) -> Result<(), Failure> {
    let (state_dir, emptied) = (state_dir.clone(), to.clone());
    let empty = move || Ok::<_, io::Error>(state_dir.dir()?.sub(&emptied)?.clear(&|| false)?);
    context.lifetime.blocking_tasks().run(empty).await.map_err(|error| failed("empty", error))?;
    copy(context, from, to.clone()).await?;
    if context.recipe_code.confined().is_none() {
        return Ok(());
    }
    // The confined service goes on with what is its own.
    let owned = context.lifetime.blocking_tasks().run(move || user.own(&to)).await;
    owned.map_err(|error| failed("give back", error))
}

async fn copy(context: &RunContext, from: PathBuf, to: PathBuf) -> Result<(), Failure> {
    let cancellation = context.lifetime.cancellation().clone();
    let work = move || {
        private_directory(&to)?;
        copy_living(&from, &to, LIMIT, &cancellation)
    };
    context.lifetime.blocking_tasks().run(work).await.map_err(|error| failed("copy", error))
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
        save(&context, path("volume"), path("copy")).await.unwrap();
        nix::unistd::mkfifo(&path("volume/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let failure = save(&context, path("volume"), path("another")).await.unwrap_err();
        assert_eq!(failure.fault(), Fault::Recipe);
        assert!(failure.chain().contains("volume/pipe: neither a file"), "{}", failure.chain());
        let of_host = |errno: Errno| failed("copy", errno.into()).fault() == Fault::Host;
        assert!([Errno::ENOSPC, Errno::EIO, Errno::EMFILE].into_iter().all(of_host));
        assert!(![Errno::EACCES, Errno::EAGAIN, Errno::ELOOP, Errno::ENOENT].into_iter().any(of_host));
    }
}
