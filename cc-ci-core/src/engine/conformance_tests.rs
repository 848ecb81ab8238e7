//! The embedded executor keeps the contract.

use std::sync::Arc;

use super::conformance::{CASES, Scene};
use crate::local::LocalExecutor;
use crate::sys::system_info::KernelSystemInfo;

#[tokio::test]
async fn the_local_executor_conforms() {
    for case in CASES {
        println!("{}", case.name);
        let root = tempfile::tempdir().unwrap();
        let host = Arc::new(KernelSystemInfo::new().unwrap());
        let local = Arc::new(LocalExecutor::new(root.path().join("local"), host));
        // A failed case leaves its services: they end by themselves.
        let service = r#"image: "x:1", x-cc-ci-local: { command: [sleep, "60"] }"#.to_owned();
        case.run(Scene { deployer: local.clone(), engine: local, service }).await;
    }
}
