//! Who looks at a host, and cleans it up, keeps the thread that drives the runtime free.

use std::sync::Arc;

use crate::engine::{Kind, Resource};
use crate::inventory::ci_host::CiHost;
use crate::inventory::env_files::EnvFiles;
use crate::janitor::{HostJanitor, Janitor as _, Pass};
use crate::lifetime::{Bounds, EmbeddedMode};
use crate::local::LocalExecutor;
use crate::lock::{AppLock as _, FlockLocks};
use crate::model::cancellation::Cancellation;
use crate::model::event::Silent;
use crate::names::{Domain, RunAppPattern};
use crate::sys::blocking::Unblocked;
use crate::sys::system_info::KernelSystemInfo;
use crate::workspace::{AbraWorkspace as _, KernelWorkspace, Settings};

#[tokio::test]
async fn looking_and_cleaning_up_block_nobody_else() {
    let world = tempfile::tempdir().unwrap();
    let path = |name: &str| world.path().join(name);
    for name in ["locks", "servers/local"] {
        std::fs::create_dir_all(path(name)).unwrap();
    }
    let host = Arc::new(KernelSystemInfo::new().unwrap());
    let runs = KernelWorkspace::new(Settings::new(path("runs")).unwrap()).unwrap();
    let locks = FlockLocks::new(path("locks"), host.clone());
    let [left, held]: [Domain; 2] =
        ["left-000001.unblocked.test", "held-000002.unblocked.test"].map(|domain| domain.parse().unwrap());
    drop(runs.create(&"1".parse().unwrap()).unwrap());
    std::fs::write(path(&format!("servers/local/{left}.env")), "").unwrap();
    let _guard = locks.try_acquire(&held).unwrap().unwrap();
    let ci_host = CiHost {
        host: host.clone(),
        pattern: RunAppPattern::new("unblocked.test".parse().unwrap(), []),
        locks: Arc::new(locks),
        engine: Arc::new(LocalExecutor::new(path("local"), host)),
        env_files: EnvFiles::new(&path("servers"), "local"),
        runs: Arc::new(runs),
        reporter: Arc::new(Silent),
    };
    let lifetime = Arc::new(EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap());
    let janitor = HostJanitor::new(ci_host.clone(), lifetime);
    let pass = Pass::by_hand(Cancellation::new());

    let _unblocked = Unblocked::begin();
    ci_host.claim().await.unwrap();
    let inventory = ci_host.inventory(None, None).await.unwrap();
    let env_file =
        Resource::new(Kind::EnvFile, path(&format!("servers/local/{left}.env")).display().to_string());
    assert_eq!(inventory.of(&left), [env_file]);
    assert_eq!(ci_host.app_status(None).await.unwrap().apps.len(), 2);
    assert!(ci_host.live_owners(&[&left, &held], None).await.unwrap().is_empty());
    let (dirty, untouched) = ci_host.over_on(&left, "local").await.unwrap();
    assert!(dirty.is_empty() && untouched.is_empty());
    assert_eq!(janitor.pass(&Pass { dry_run: true, ..pass.clone() }).await.unwrap().findings.len(), 2);
    assert!(!janitor.pass(&pass).await.unwrap().leaves_residue());
    assert_eq!(janitor.prune(0, &pass).await, [""; 0]);
    assert!(ci_host.inventory(Some(&[left]), None).await.unwrap().domains().next().is_none());
}
