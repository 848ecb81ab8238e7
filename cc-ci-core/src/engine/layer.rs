//! An engine or a deployer around another one: it passes each call on, but for those that it does itself.
//!
//! [`Owned`](super::Owned) is such a layer, and so is a fixture's engine that fails now and then. Whoever implements
//! [`EngineLayer`] is an [`Engine`], and says only what is different; likewise for deployers.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use super::{App, Backup, Deployer, Drift, Endpoint, Engine, Failure, Inventory, LockSpace, Order, Redactor};
use super::{RemovedImages, Resource, RunContext, Secret, ServiceCommand, ServiceState, TaskLog};
use super::{VolumeCopy, VolumeFile, VolumePath};
use crate::model::event::Reporter;
use crate::names::Domain;
use crate::recipe::{Compose, VolumeBackup};

/// Writes a layer of a trait from the trait's methods: those that tell something, those that look, and those that change an
/// app, or make a helper beside it, with the domain of the app.
macro_rules! layer {
    (
        $(#[$about:meta])*
        pub trait $layer:ident around $engine:ident {
            $(fn $told:ident($($t:ident: $told_type:ty),*) -> $told_end:ty;)*
            $(async fn $look:ident($($l:ident: $look_type:ty),*) -> $look_end:ty;)*
            changes: $(async fn $change:ident($($c:ident: $change_type:ty),*) -> $end:ty, of $domain:expr;)*
        }
    ) => {
        $(#[$about])*
        #[async_trait]
        pub trait $layer: fmt::Debug + fmt::Display + Send + Sync {
            /// What is beneath.
            type Inner: $engine + ?Sized;

            /// What is beneath.
            fn inner(&self) -> &Self::Inner;

            /// The same, asked for by each call that changes the app of a domain: where the layer refuses, nothing is
            /// changed.
            fn to_change(&self, _domain: &Domain) -> Result<&Self::Inner, Failure> {
                Ok(self.inner())
            }

            $(
                #[doc = concat!("As [`", stringify!($engine), "::", stringify!($told), "`].")]
                fn $told(&self, $($t: $told_type),*) -> $told_end {
                    self.inner().$told($($t),*)
                }
            )*
            $(
                #[doc = concat!("As [`", stringify!($engine), "::", stringify!($look), "`].")]
                async fn $look(&self, $($l: $look_type),*) -> $look_end {
                    self.inner().$look($($l),*).await
                }
            )*
            $(
                #[doc = concat!("As [`", stringify!($engine), "::", stringify!($change), "`].")]
                async fn $change(&self, $($c: $change_type),*) -> $end {
                    self.to_change($domain)?.$change($($c),*).await
                }
            )*
        }

        #[async_trait]
        impl<L: $layer> $engine for L {
            $(
                fn $told(&self, $($t: $told_type),*) -> $told_end {
                    $layer::$told(self, $($t),*)
                }
            )*
            $(
                async fn $look(&self, $($l: $look_type),*) -> $look_end {
                    $layer::$look(self, $($l),*).await
                }
            )*
            $(
                async fn $change(&self, $($c: $change_type),*) -> $end {
                    $layer::$change(self, $($c),*).await
                }
            )*
        }
    };
}

layer! {
    /// An [`Engine`] around another one.
    pub trait EngineLayer around Engine {
        fn request_lag() -> Duration;
        fn redactor() -> Redactor;
        fn shown_by(domain: &Domain) -> Option<String>;
        async fn storage() -> Vec<PathBuf>;
        async fn version() -> Option<String>;
        async fn claim(claim: &LockSpace) -> Result<(), Failure>;
        async fn inventory(domains: Option<&[Domain]>) -> Result<Inventory, Failure>;
        async fn wait_converged(domain: &Domain, limit: Duration, reporter: &dyn Reporter) -> Result<(), Failure>;
        async fn drift(domain: &Domain, order: &Order) -> Result<Drift, Failure>;
        async fn services(domain: &Domain) -> Result<Vec<ServiceState>, Failure>;
        async fn pre_pull(app: &App) -> Result<(), Failure>;
        async fn remove_images(unused_for: Duration, stop: &(dyn Fn() -> bool + Sync)) -> RemovedImages;
        async fn endpoint(domain: &Domain) -> Result<Endpoint, Failure>;
        async fn volumes(domain: &Domain) -> Result<Vec<String>, Failure>;
        async fn log(domain: &Domain, service: &str) -> Result<String, Failure>;
        async fn logs(domain: &Domain, limit: Duration) -> Result<Vec<TaskLog>, Failure>;
        async fn secrets(domain: &Domain) -> Result<BTreeSet<String>, Failure>;
        async fn has_backup_service() -> Result<bool, Failure>;
        async fn unowned() -> Result<BTreeSet<Resource>, Failure>;
        changes:
        async fn remove(domain: &Domain, limit: Duration) -> Result<(), Failure>, of domain;
        async fn remove_selected(domain: &Domain, named: &[Resource], limit: Duration) -> Result<(), Failure>, of domain;
        async fn adopt_secrets(domain: &Domain, names: &BTreeSet<String>) -> Result<(), Failure>, of domain;
        async fn volume_path(file: &VolumeFile<'_>) -> Result<Option<VolumePath>, Failure>, of file.domain;
        async fn write_volume_file(file: &VolumeFile<'_>, content: &[u8]) -> Result<(), Failure>, of file.domain;
        async fn read_volume_file(file: &VolumeFile<'_>) -> Result<Option<Vec<u8>>, Failure>, of file.domain;
        async fn execute(context: &RunContext, command: &ServiceCommand<'_>) -> Result<String, Failure>,
            of &command.app.domain;
        async fn save_volume(context: &RunContext, copy: &VolumeCopy<'_>, rule: &VolumeBackup) -> Result<(), Failure>,
            of &copy.app.domain;
        async fn load_volume(context: &RunContext, copy: &VolumeCopy<'_>) -> Result<(), Failure>, of &copy.app.domain;
    }
}

layer! {
    /// A [`Deployer`] around another one.
    pub trait DeployerLayer around Deployer {
        fn unfit(compose: &Compose) -> Option<String>;
        fn runs_on_host() -> bool;
        fn version() -> Option<String>;
        fn environment() -> Vec<(OsString, OsString)>;
        changes:
        async fn create(context: &RunContext, app: &App) -> Result<(), Failure>, of &app.domain;
        async fn generate_secrets(context: &RunContext, app: &App) -> Result<BTreeMap<String, Secret>, Failure>,
            of &app.domain;
        async fn deploy(context: &RunContext, app: &App) -> Result<(), Failure>, of &app.domain;
        async fn upgrade(context: &RunContext, app: &App) -> Result<(), Failure>, of &app.domain;
        async fn backup(context: &RunContext, app: &App) -> Result<Backup, Failure>, of &app.domain;
        async fn restore(context: &RunContext, app: &App, backup: &Backup) -> Result<(), Failure>, of &app.domain;
    }
}
