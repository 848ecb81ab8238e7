//! Small files in an app's volumes, through the engine's archive API: images may have no shell.
//!
//! The app writes into the same places, and may have put anything there: only a regular file is read or replaced,
//! never a link, a pipe or a device, and never more than [`LIMIT`].
//!
//! # Limitations
//! A volume is reached through a container that mounts it, running or not. One that was mounted from somewhere else
//! (a path of the host, a share of another machine) is not the app's alone, and left out. Of one that exists on several nodes,
//! that of the newest running task is meant, and which one that is is told.

pub(crate) mod copies;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::sync::Arc;

use bollard::Docker;
use bollard::container::PathStatResponse;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, Volume};
use bollard::query_parameters::{
    ContainerArchiveInfoOptions, DownloadFromContainerOptions, InspectContainerOptions,
    ListContainersOptions, ListVolumesOptions, UploadToContainerOptions,
};
use cc_ci_core::engine::{Failure, VolumeFile, VolumePath};
use cc_ci_core::names::Domain;
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::client::{ApiError, Client};
use crate::snapshot::labelled;
use crate::{SwarmEngine, nodes};

/// What a small file has at most.
const LIMIT: usize = 1 << 20;

/// A header, a long name's, and what fills the blocks up.
const AROUND: usize = 16 * 1024;

/// A container may go while it is asked, and another take its place.
const ATTEMPTS: usize = 3;

const NO_PATH: &str = "a path of a volume leads to a file or a directory, and not through a link";
const NO_FILE: &str = "what is there is not a regular file";
const TOO_LONG: &str = "what is there has more than 1 MiB";

/// What Go calls the mode of a file that is no regular one: directory, link, pipe, socket, devices, irregular.
const NOT_REGULAR: u32 = 1 << 31 | 1 << 27 | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19;

/// What Go calls the mode of a directory.
const DIRECTORY: u32 = 1 << 31;

/// The volumes that the app's services have by name.
pub(crate) async fn volumes(engine: &SwarmEngine, domain: &Domain) -> Result<Vec<String>, Failure> {
    Ok(by_node(engine, domain).await?.into_keys().collect())
}

/// The nodes that have them, where there are several.
type Places = Vec<Arc<str>>;

/// The same, with the nodes that have each.
async fn by_node(engine: &SwarmEngine, domain: &Domain) -> Result<BTreeMap<String, Places>, Failure> {
    let list = async |(node, client): (Option<Arc<str>>, &Client)| {
        let options = ListVolumesOptions { filters: Some(labelled(domain.stack().as_str())) };
        let listed = client.call(async |docker| docker.list_volumes(Some(options)).await).await?;
        Ok::<_, ApiError>((node, listed.volumes.unwrap_or_default()))
    };
    let listed = async { try_join_all(nodes::all(engine).await?.into_iter().map(list)).await };
    let listed = listed.await.map_err(|error| error.during(format!("can't list the volumes of {domain}")))?;
    let mut volumes: BTreeMap<String, Places> = BTreeMap::new();
    for (node, listed) in listed {
        for volume in listed.into_iter().filter(is_own) {
            volumes.entry(volume.name).or_default().extend(node.clone());
        }
    }
    Ok(volumes)
}

/// Whether it is kept by this engine, and goes with the volume.
fn is_own(volume: &Volume) -> bool {
    let option = |name: &str| volume.options.get(name).map_or("", String::as_str);
    let in_memory = option("type") == "tmpfs" && option("device") == "tmpfs";
    // With these, the kernel takes the device for a directory of the host, whatever the type says.
    let bound = option("o").split(',').any(|word| matches!(word.trim(), "bind" | "rbind"));
    volume.driver == "local" && !bound && (option("device").is_empty() || in_memory)
}

/// What is at `path`.
pub(crate) async fn look(engine: &SwarmEngine, file: &VolumeFile<'_>) -> Result<VolumePath, Failure> {
    let VolumeFile { domain, volume, path } = *file;
    let doing = format!("can't look at {path:?} in the volume {volume:?}");
    let places = check(engine, file, &doing).await?;
    let path = path.trim_end_matches('/');
    let look = |mount: Mount, client| async move { mount.look(client, path).await };
    mounted(engine, domain, volume, &places, false, &doing, look).await
}

/// Replaces the file, or makes it.
pub(crate) async fn write(
    engine: &SwarmEngine,
    file: &VolumeFile<'_>,
    content: &[u8],
) -> Result<(), Failure> {
    let VolumeFile { domain, volume, path } = *file;
    let doing = format!("can't write {path:?} into the volume {volume:?}");
    if content.len() > LIMIT {
        return Err(Failure::host(format!("{doing}: it has more than {LIMIT} bytes")));
    }
    let places = check(engine, file, &doing).await?;
    let archive = archive(path, content).map_err(|error| Failure::host(&*doing).with_source(error))?;
    let archive = &archive;
    mounted(engine, domain, volume, &places, true, &doing, |mount: Mount, client| async move {
        if mount.look(client, parent_of(path)).await? != VolumePath::Directory {
            return Err(Trouble::Refused("the directory that it is to be in is not there"));
        }
        if let Some(stat) = mount.stat(client, path).await? {
            is_small_file(&stat)?;
        }
        Ok(mount.put(client, archive.clone()).await?)
    })
    .await
}

/// Reads the file; nothing where there is none.
pub(crate) async fn read(engine: &SwarmEngine, file: &VolumeFile<'_>) -> Result<Option<Vec<u8>>, Failure> {
    let VolumeFile { domain, volume, path } = *file;
    let doing = format!("can't read {path:?} in the volume {volume:?}");
    let places = check(engine, file, &doing).await?;
    mounted(engine, domain, volume, &places, false, &doing, |mount: Mount, client| async move {
        if mount.look(client, parent_of(path)).await? != VolumePath::Directory {
            return Ok(None);
        }
        let Some(stat) = mount.stat(client, path).await? else { return Ok(None) };
        is_small_file(&stat)?;
        Ok(Some(unpack(&mount.get(client, path).await?)?))
    })
    .await
}

/// The path of the directory that `path` is in; empty at the top.
fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

/// Whether a path is relative, and leads nowhere but down.
fn leads_down(path: &str) -> bool {
    let is_plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
    path.trim_end_matches('/').split('/').all(is_plain)
}

/// Names become parts of paths: the file's must lead down, and the volume must be the app's. Gives where that is.
async fn check(engine: &SwarmEngine, file: &VolumeFile<'_>, doing: &str) -> Result<Places, Failure> {
    let VolumeFile { domain, volume, path } = *file;
    if !leads_down(path) || path.split('/').any(|name| name.len() > 255) {
        return Err(Failure::host(format!(
            "{doing}: its path does not lead down from the top of the volume"
        )));
    }
    is_the_apps(engine, domain, volume, doing).await
}

async fn is_the_apps(
    engine: &SwarmEngine,
    domain: &Domain,
    volume: &str,
    doing: &str,
) -> Result<Places, Failure> {
    let places = by_node(engine, domain).await?.remove(volume);
    places.ok_or_else(|| Failure::host(format!("{doing}: {domain} has no such volume")))
}

/// What an attempt ran into.
enum Trouble {
    Api(ApiError),
    /// The app put there what is not touched.
    Refused(&'static str),
    /// This host's files.
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<&'static str> for Trouble {
    fn from(rule: &'static str) -> Self {
        Self::Refused(rule)
    }
}

/// Works through a container that mounts the volume, which is in `places`. One that goes meanwhile is replaced by another.
async fn mounted<'e, T, W: Future<Output = Result<T, Trouble>>>(
    engine: &'e SwarmEngine,
    domain: &Domain,
    volume: &str,
    places: &[Arc<str>],
    writable: bool,
    doing: &str,
    work: impl Fn(Mount, &'e Client) -> W,
) -> Result<T, Failure> {
    let list = async |(node, client): (Option<Arc<str>>, &'e Client)| {
        let options = ListContainersOptions {
            all: true,
            filters: Some(labelled(domain.stack().as_str())),
            ..ListContainersOptions::default()
        };
        let listed = client.call(async |docker| docker.list_containers(Some(options)).await).await?;
        Ok::<_, ApiError>(listed.into_iter().map(move |container| (container, (node.clone(), client))))
    };
    let mut attempts = ATTEMPTS;
    loop {
        let listed = async {
            let all = nodes::all(engine).await?;
            try_join_all(all.into_iter().map(list)).await
        };
        let listed = listed.await.map_err(|error| error.during(doing))?;
        let (listed, clients): (Vec<_>, Vec<_>) = listed.into_iter().flatten().unzip();
        let mount = Mount::choose(&listed, volume, writable).ok_or_else(|| {
            let how = if writable { "mounts it writable" } else { "mounts it" };
            Failure::recipe(format!("{doing}: no container of {domain} {how}"))
        })?;
        let mut those = listed.iter().zip(clients);
        let place = those.find(|(container, _)| container.id.as_ref() == Some(&mount.container));
        let (node, client) = place.map_or((None, &engine.client), |(_, place)| place);
        if let (Some(node), true) = (node, places.len() > 1) {
            let all = places.join(" and ");
            engine.warn_once(format!(
                "the volume {volume} exists on {all}: what is looked at is that on {node}, where its newest task is"
            ));
        }
        attempts -= 1;
        match work(mount, client).await {
            Ok(done) => return Ok(done),
            Err(Trouble::Api(ApiError::Gone { .. } | ApiError::Conflict { .. })) if attempts > 0 => {}
            Err(Trouble::Api(error)) => return Err(error.during(doing)),
            Err(Trouble::Io(error)) => return Err(Failure::host(doing).with_source(error)),
            Err(Trouble::Refused(rule)) => return Err(Failure::recipe(format!("{doing}: {rule}"))),
        }
    }
}

/// A volume in a container.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    container: String,
    /// Where it is mounted.
    path: String,
}

impl Mount {
    /// Where `volume` is mounted: in a running container rather than in one that has ended, in a newer one rather
    /// than in an older one.
    fn choose(containers: &[ContainerSummary], volume: &str, writable: bool) -> Option<Self> {
        let mounts = containers.iter().flat_map(|container| {
            let mounts = container.mounts.as_deref().unwrap_or_default();
            mounts.iter().map(move |mount| (container, mount))
        });
        mounts
            .filter(|(_, mount)| {
                mount.typ.as_deref() == Some("volume") && mount.name.as_deref() == Some(volume)
            })
            .filter(|(_, mount)| !writable || mount.rw == Some(true))
            .filter_map(|(container, mount)| {
                let runs = container.state == Some(ContainerSummaryStateEnum::RUNNING);
                let path = mount.destination.as_ref()?.trim_end_matches('/').to_owned();
                Some((runs, container.created, Self { container: container.id.clone()?, path }))
            })
            .max_by_key(|(runs, created, _)| (*runs, *created))
            .map(|(_, _, mount)| mount)
    }

    /// What is there; links are not followed.
    async fn stat(&self, client: &Client, file: &str) -> Result<Option<PathStatResponse>, Trouble> {
        let options = ContainerArchiveInfoOptions { path: format!("{}/{file}", self.path) };
        let stat =
            async |docker: &Docker| docker.get_container_archive_info(&self.container, Some(options)).await;
        match client.call(stat).await {
            Ok(stat) => Ok(Some(stat)),
            // Of the file or of the container?
            Err(ApiError::Gone { .. }) => {
                let inspect = async |docker: &Docker| {
                    docker.inspect_container(&self.container, None::<InspectContainerOptions>).await
                };
                Ok(client.call(inspect).await.map(|_| None)?)
            }
            // An answer without a body has no reason in it; a question for the content itself has.
            Err(error @ ApiError::Refused { .. }) => match self.get(client, file).await {
                Err(ApiError::Refused { message, .. }) if message.contains("too many links") => {
                    Err(Trouble::Refused(NO_FILE))
                }
                Err(error) => Err(error.into()),
                Ok(_) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// What `path` leads to; the empty one is the volume's top.
    async fn look(&self, client: &Client, path: &str) -> Result<VolumePath, Trouble> {
        Ok(match self.walk(client, path).await? {
            (missing, _) if !missing.is_empty() => VolumePath::Missing,
            (_, true) => VolumePath::Directory,
            (_, false) => VolumePath::Other,
        })
    }

    /// Looks at each part of `path`, from the top. Gives those that are not there, and whether the last one that is there is a
    /// directory: a regular file may be at the very end.
    async fn walk<'p>(&self, client: &Client, path: &'p str) -> Result<(Vec<&'p str>, bool), Trouble> {
        if path.is_empty() {
            return Ok((Vec::new(), true));
        }
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        let parts: Vec<&str> = ends.map(|end| &path[..end]).collect();
        for (index, part) in parts.iter().enumerate() {
            match self.stat(client, part).await? {
                None => return Ok((parts[index..].to_vec(), true)),
                Some(stat) if stat.file_mode & NOT_REGULAR == DIRECTORY => {}
                Some(stat) if stat.file_mode & NOT_REGULAR == 0 && index + 1 == parts.len() => {
                    return Ok((Vec::new(), false));
                }
                Some(_) => return Err(Trouble::Refused(NO_PATH)),
            }
        }
        Ok((Vec::new(), true))
    }

    async fn get(&self, client: &Client, file: &str) -> Result<Vec<u8>, ApiError> {
        let options = DownloadFromContainerOptions { path: format!("{}/{file}", self.path) };
        let download = async |docker: &Docker| {
            let mut archive = Vec::new();
            let mut parts = docker.download_from_container(&self.container, Some(options)).boxed();
            // What is more than it can be is not read any further.
            while let Some(part) = parts.try_next().await? {
                archive.extend_from_slice(&part);
                if archive.len() > LIMIT + AROUND {
                    break;
                }
            }
            Ok(archive)
        };
        client.call(download).await
    }

    async fn put(&self, client: &Client, archive: Vec<u8>) -> Result<(), ApiError> {
        let options = UploadToContainerOptions {
            path: self.path.clone(),
            // A directory in the file's place is not replaced.
            no_overwrite_dir_non_dir: Some("1".to_owned()),
            copy_uidgid: None,
        };
        let body = bollard::body_full(archive.into());
        client
            .call(async |docker| docker.upload_to_container(&self.container, Some(options), body).await)
            .await
    }
}

fn is_small_file(stat: &PathStatResponse) -> Result<(), &'static str> {
    if stat.file_mode & NOT_REGULAR != 0 {
        Err(NO_FILE)
    } else if usize::try_from(stat.size).is_ok_and(|size| size <= LIMIT) {
        Ok(())
    } else {
        Err(TOO_LONG)
    }
}

fn archive(file: &str, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, file, content)?;
    archive.into_inner()
}

/// The content of the one file in an archive: the app may have swapped it since it was looked at.
fn unpack(archive: &[u8]) -> Result<Vec<u8>, &'static str> {
    const BROKEN: &str = "what the engine gave is no archive of one file";
    let mut archive = tar::Archive::new(archive);
    let entry = archive.entries().map_err(|_| BROKEN)?.next().ok_or(BROKEN)?.map_err(|_| BROKEN)?;
    if !entry.header().entry_type().is_file() {
        return Err(NO_FILE);
    }
    let size = entry.size();
    if size > LIMIT as u64 {
        return Err(TOO_LONG);
    }
    let mut content = Vec::new();
    entry.take(LIMIT as u64).read_to_end(&mut content).map_err(|_| BROKEN)?;
    if content.len() as u64 == size { Ok(content) } else { Err(BROKEN) }
}

#[cfg(test)]
mod tests;
