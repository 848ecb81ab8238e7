//! Removing images that runs pulled, once nobody uses them.
//!
//! # Limitations
//! What is pulled on other nodes of a Swarm is not noted, and stays there.
//!
//! Who uses an image is looked at once for all, before the first one goes. What an app that came later uses, the engine
//! itself keeps, unless the image has a second name; then it has that one still.

use std::collections::BTreeSet;
use std::time::Duration;

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListServicesOptions, RemoveImageOptionsBuilder,
};
use cc_ci_core::engine::RemovedImages;
use cc_ci_core::recipe::ImageReference;
use cc_ci_core::workspace::{PulledImage, PulledImages};
use cc_ci_core::{blocking, error_chain};

use super::pull;
use crate::SwarmEngine;
use crate::client::{ApiError, Client};

/// Removes those that no run has used for so long.
pub(crate) async fn remove(
    engine: &SwarmEngine,
    unused_for: Duration,
    stop: &(dyn Fn() -> bool + Sync),
) -> RemovedImages {
    let mut end = RemovedImages::default();
    let Some(pulled) = &engine.pulled else { return end };
    let (due, users) = match due(engine, pulled, unused_for).await {
        Ok(Some(due)) => due,
        Ok(None) => return end,
        Err(warning) => {
            end.warnings.push(format!("unused images are kept: {warning}"));
            return end;
        }
    };
    for image in due.into_iter().map(|record| record.image) {
        if stop() {
            break;
        }
        match remove_one(&engine.client, pulled, &image, unused_for, &users).await {
            Ok(true) => end.removed.push(image),
            Ok(false) => {}
            Err(warning) => end.warnings.push(format!("the image {image} is kept: {warning}")),
        }
    }
    end
}

/// What no run has used, and who uses images; none where there is nothing to remove, and nobody needs be asked.
async fn due(
    engine: &SwarmEngine,
    pulled: &PulledImages,
    unused_for: Duration,
) -> Result<Option<(Vec<PulledImage>, Users)>, String> {
    let records = pulled.clone();
    let due = blocking::run(move || records.unused_for(unused_for)).await;
    let due = due.map_err(|error| error.to_string())?;
    if due.is_empty() {
        return Ok(None);
    }
    let users = Users::look(&engine.client).await.map_err(|error| error_chain(&error))?;
    Ok(Some((due, users)))
}

/// Whether it is gone now, by this.
async fn remove_one(
    client: &Client,
    pulled: &PulledImages,
    image: &str,
    unused_for: Duration,
    users: &Users,
) -> Result<bool, String> {
    let (records, name) = (pulled.clone(), image.to_owned());
    // A run that says now that it uses it waits, and then finds that it is gone.
    let held = blocking::run(move || {
        let held = records.lock()?;
        Ok::<_, std::io::Error>(records.still_unused(&name, unused_for)?.zip(held))
    });
    let Some((record, held)) = held.await.map_err(|error| error.to_string())? else { return Ok(false) };
    let reference: ImageReference = image.parse().map_err(|error| error_chain(&error))?;
    let there = pull::id_of(client, &reference).await.map_err(|error| error_chain(&error))?;
    let removed = match there {
        Some(id) if record.id.as_ref() == Some(&id) => {
            if users.has(&reference, &id) {
                return Ok(false);
            }
            let options = RemoveImageOptionsBuilder::new().force(false).noprune(false).build();
            match client.call(async |docker| docker.remove_image(image, Some(options), None).await).await {
                Ok(_) => true,
                // Somebody uses it since.
                Err(ApiError::Conflict { .. }) => return Ok(false),
                Err(ApiError::Gone { .. }) => false,
                Err(error) => return Err(error_chain(&error)),
            }
        }
        // It is gone, or is another one by that name; one that never came as far as we know may be somebody's.
        _ => false,
    };
    let (records, name) = (pulled.clone(), image.to_owned());
    blocking::run(move || {
        let forgotten = records.forget(&name);
        drop(held);
        forgotten
    })
    .await
    .map_err(|error| error.to_string())?;
    Ok(removed)
}

/// Who uses images: containers, those that have ended too, and services, whose tasks may be elsewhere or yet to come.
#[derive(Debug)]
struct Users {
    ids: BTreeSet<String>,
    /// Registry and name: of what a service names, any version is kept.
    repositories: BTreeSet<String>,
}

impl Users {
    async fn look(client: &Client) -> Result<Self, ApiError> {
        let services =
            client.call(async |docker| docker.list_services(None::<ListServicesOptions>).await).await?;
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let containers = client.call(async |docker| docker.list_containers(Some(options)).await).await?;
        let ordered = services.into_iter().filter_map(|service| {
            service.spec?.task_template?.container_spec?.image?.parse::<ImageReference>().ok()
        });
        Ok(Self {
            ids: containers.into_iter().filter_map(|container| container.image_id).collect(),
            repositories: ordered.map(|image| image.repository()).collect(),
        })
    }

    fn has(&self, image: &ImageReference, id: &str) -> bool {
        self.ids.contains(id) || self.repositories.contains(&image.repository())
    }
}
