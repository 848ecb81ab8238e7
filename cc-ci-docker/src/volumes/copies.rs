//! Copies of volumes for backups: whole ones, or paths in them, as the archives that the engine makes.
//!
//! An archive is written to a file as it comes and read back as it is. Nothing of it is ever unpacked on this host, so
//! that what an app put into its volume stays the app's: links go in and come back as links.
//!
//! # Limitations
//! The app goes on writing: an archive holds each file as it was when its turn came. A file that shrinks meanwhile
//! breaks the archive; it is then taken anew, a few times. Engine 20.10 does nothing else with a container while its
//! files are copied, its healthcheck included.
//!
//! Bringing a copy back overwrites what is in the same place, and leaves files that were made since: as the backup
//! service of a host does it. A volume with a relative link that leads out of it can't be restored: the engine makes
//! no such link. What is called a path must be one without a link when it is looked at; an app that swaps
//! it right then has another part of *its own container* copied.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::query_parameters::{DownloadFromContainerOptions, UploadToContainerOptions};
use cc_ci_core::beneath::{open_beneath, read_beneath};
use cc_ci_core::engine::{Failure, RunContext, VolumeCopy};
use cc_ci_core::files;
use cc_ci_core::recipe::VolumeBackup;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ATTEMPTS, Mount, Trouble, is_the_apps, leads_down, mounted, parent_of};
use crate::SwarmEngine;
use crate::client::{ApiError, Client};

/// What the copies of a backup, which are beside each other, have at most together.
const LIMIT: u64 = 4 << 30;

/// What bringing one archive back may take: the engine answers when it is done.
const LOAD_LIMIT: Duration = Duration::from_mins(15);

/// The paths of a copy, in the order of their archives; the empty one is the volume.
const INDEX: &str = "paths.json";

const INDEX_LIMIT: u64 = 1 << 20;

/// An archive ends with two empty blocks, or it is not whole.
const END: usize = 1024;

const TOO_MUCH: &str = "the backup would hold more than 4 GiB";

/// Copies what `rule` takes of a volume into the new directory `to`.
pub(crate) async fn save(
    engine: &SwarmEngine,
    context: &RunContext,
    copy: &VolumeCopy<'_>,
    rule: &VolumeBackup,
) -> Result<(), Failure> {
    let VolumeCopy { app, volume, directory: to } = *copy;
    let doing = format!("can't copy the volume {volume:?}");
    let whole = [String::new()];
    let paths: &[String] = match rule {
        VolumeBackup::Whole => &whole,
        VolumeBackup::Paths(paths) => paths,
        _ => return Err(Failure::host(format!("{doing}: its backup takes nothing of it"))),
    };
    check_paths(paths, &doing)?;
    let places = is_the_apps(engine, &app.domain, volume, &doing).await?;
    let io = |error: io::Error| Failure::host(&*doing).with_source(error);
    let directory = to.to_owned();
    let made = move || files::private_directory(&directory);
    context.lifetime.blocking_tasks().run(made).await.map_err(io)?;
    let copies = to.parent().unwrap_or(to).to_owned();
    let there = context.lifetime.blocking_tasks().run(move || size(&copies)).await.map_err(io)?;
    let mut room = LIMIT.saturating_sub(there);
    for (number, path) in paths.iter().enumerate() {
        let file = &to.join(archive_name(number));
        let save = |mount: Mount, client| async move { mount.save(client, context, path, file, room).await };
        room -= Box::pin(mounted(engine, &app.domain, volume, &places, false, &doing, save)).await?;
    }
    // Last: without it, there is no copy.
    let (index, text) = (to.join(INDEX), serde_json::json!(paths).to_string());
    let write = move || io::Write::write_all(&mut fresh(&index)?, text.as_bytes());
    context.lifetime.blocking_tasks().run(write).await.map_err(io)
}

/// Brings a copy back, while the app runs.
pub(crate) async fn load(
    engine: &SwarmEngine,
    context: &RunContext,
    copy: &VolumeCopy<'_>,
) -> Result<(), Failure> {
    let VolumeCopy { app, volume, directory: from } = *copy;
    let doing = format!("can't bring the volume {volume:?} back");
    let places = is_the_apps(engine, &app.domain, volume, &doing).await?;
    let lost = |error: Box<dyn std::error::Error + Send + Sync>| {
        Failure::host(format!("{doing}: its copy can't be read")).with_source(error)
    };
    let directory = from.to_owned();
    let read = move || read_beneath(&directory, INDEX, INDEX_LIMIT);
    let index = context.lifetime.blocking_tasks().run(read).await.map_err(|error| lost(error.into()))?;
    let paths: Vec<String> = serde_json::from_slice(&index).map_err(|error| lost(error.into()))?;
    check_paths(&paths, &doing)?;
    for (number, path) in paths.iter().enumerate() {
        let name = archive_name(number);
        let load = |mount: Mount, client| {
            let name = name.clone();
            async move { mount.load(client, context, path, from, name).await }
        };
        Box::pin(mounted(engine, &app.domain, volume, &places, true, &doing, load)).await?;
    }
    Ok(())
}

/// What the files of the copies in `copies` have together.
fn size(copies: &Path) -> io::Result<u64> {
    let mut size = 0_u64;
    for copy in fs::read_dir(copies)? {
        let copy = copy?;
        if copy.file_type()?.is_dir() {
            for file in fs::read_dir(copy.path())? {
                size = size.saturating_add(file?.metadata()?.len());
            }
        }
    }
    Ok(size)
}

fn archive_name(number: usize) -> String {
    format!("{number}.tar")
}

/// A path of a backup is relative, and leads nowhere but down.
fn check_paths(paths: &[String], doing: &str) -> Result<(), Failure> {
    match paths.iter().find(|path| !path.is_empty() && !leads_down(path)) {
        Some(path) => Err(Failure::recipe(format!(
            "{doing}: the path {:?} does not lead down from the top of the volume",
            crate::sanitize::written(path)
        ))
        .with_hint("name it relative to the volume: backupbot.backup.volumes.<volume>.path=dir/file")),
        None => Ok(()),
    }
}

/// A new file for our eyes only; what an earlier attempt left goes.
fn fresh(path: &Path) -> io::Result<File> {
    files::new_file(path)
}

impl Mount {
    /// Writes the archive of `path` into `file`; gives its size, which is `room` at the most.
    async fn save(
        &self,
        client: &Client,
        context: &RunContext,
        path: &str,
        file: &Path,
        room: u64,
    ) -> Result<u64, Trouble> {
        let path = path.trim_end_matches('/');
        if !self.walk(client, path).await?.0.is_empty() {
            return Err(Trouble::Refused("a path of its backup is not there"));
        }
        let mut attempts = ATTEMPTS;
        loop {
            let target: PathBuf = file.to_owned();
            let opened = context.lifetime.blocking_tasks().run(move || fresh(&target)).await?;
            let mut target = tokio::fs::File::from_std(opened);
            let (size, whole) = self.download(client, path, &mut target, room).await?;
            target.flush().await?;
            attempts -= 1;
            match whole {
                true => return Ok(size),
                false if attempts > 0 => {}
                false => return Err(Trouble::Refused("a file shrank while it was copied, again and again")),
            }
        }
    }

    /// Copies an archive as it comes; gives its size, and whether it has an end.
    async fn download(
        &self,
        client: &Client,
        path: &str,
        to: &mut tokio::fs::File,
        room: u64,
    ) -> Result<(u64, bool), Trouble> {
        // With a dot at its end, what is in it has names relative to it.
        let path = if path.is_empty() { format!("{}/.", self.path) } else { format!("{}/{path}", self.path) };
        let options = DownloadFromContainerOptions { path };
        let docker = client.docker().await?;
        let mut parts = docker.download_from_container(&self.container, Some(options)).boxed();
        let (mut size, mut end) = (0_u64, Vec::new());
        loop {
            let silence = client.call_limit();
            let part = tokio::time::timeout(silence, parts.try_next()).await;
            let part = part.map_err(|_| ApiError::Hangs { limit: silence, node: None })?;
            let Some(part) = part.map_err(|error| client.explain(error))? else { break };
            size += part.len() as u64;
            if size > room {
                return Err(Trouble::Refused(TOO_MUCH));
            }
            end.extend_from_slice(&part[part.len().saturating_sub(END)..]);
            end.drain(..end.len().saturating_sub(END));
            to.write_all(&part).await?;
        }
        Ok((size, end.len() == END && end.iter().all(|&byte| byte == 0)))
    }

    /// Hands an archive of `path` to the engine, which unpacks it inside of the container.
    async fn load(
        &self,
        client: &Client,
        context: &RunContext,
        path: &str,
        from: &Path,
        name: String,
    ) -> Result<(), Trouble> {
        // It holds the last part of the path by its name.
        let above = parent_of(path.trim_end_matches('/'));
        for missing in self.walk(client, above).await?.0 {
            self.put(client, directory(missing)?).await?;
        }
        let from = from.to_owned();
        let opened = context.lifetime.blocking_tasks().run(move || open_beneath(&from, name)).await;
        let archive = tokio::fs::File::from_std(opened.map_err(io::Error::other)?);
        let parts = stream::try_unfold(archive, |mut archive| async move {
            let mut part = vec![0; 256 * 1024];
            let read = archive.read(&mut part).await?;
            part.truncate(read);
            Ok::<_, io::Error>((read > 0).then_some((part.into(), archive)))
        });
        let options = UploadToContainerOptions {
            path: format!("{}/{above}", self.path),
            no_overwrite_dir_non_dir: None,
            copy_uidgid: None,
        };
        let docker = client.docker().await?.clone().with_timeout(LOAD_LIMIT);
        let body = bollard::body_try_stream(parts);
        let loaded = docker.upload_to_container(&self.container, Some(options), body);
        let loaded = tokio::time::timeout(LOAD_LIMIT, loaded).await;
        let loaded = loaded.map_err(|_| ApiError::Hangs { limit: LOAD_LIMIT, node: None })?;
        match loaded.map_err(|error| client.explain(error)) {
            Ok(()) => Ok(()),
            // Also where the link is what the app had made itself.
            Err(ApiError::Refused { message, .. }) if message.contains("invalid symlink") => Err(
                Trouble::Refused("it holds a link that leads out of it by `..`, and the engine makes none"),
            ),
            Err(error) => Err(error.into()),
        }
    }
}

/// An archive of one directory.
fn directory(path: &str) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o755);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, format!("{path}/"), io::empty())?;
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_down_or_is_refused() {
        let check = |path: &str| check_paths(&[path.to_owned()], "x");
        for path in ["", "a", "a/b", "a/b/", "a..", ".a", "a b"] {
            assert!(check(path).is_ok(), "{path}");
        }
        for path in ["/", "/a", "..", "a/..", "a/../b", ".", "./a", "a//b", "../../etc", "a\0b"] {
            assert!(check(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_file_is_made_anew_and_for_our_eyes_only() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let directory = tempfile::tempdir().unwrap();
        let [target, path] = ["target", "0.tar"].map(|name| directory.path().join(name));
        fs::write(&target, "precious").unwrap();
        symlink(&target, &path).unwrap();
        io::Write::write_all(&mut fresh(&path).unwrap(), b"archive").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&path).unwrap(), "archive");
        assert_eq!(path.symlink_metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
