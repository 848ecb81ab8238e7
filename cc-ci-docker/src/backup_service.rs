//! Whether somebody on this engine takes backups of apps.

use bollard::query_parameters::ListServicesOptions;
use cc_ci_core::engine::Failure;
use cc_ci_core::names::RunAppPattern;

use crate::SwarmEngine;
use crate::client::Filters;
use crate::inventory::domain_of_stack;
use crate::snapshot::NAMESPACE;

/// The label that a backup service is known by.
const LABEL: &str = "coop-cloud.backupbot.enabled=true";

/// Whether a service says so that is no run app's: a recipe under test speaks for nobody, and is soon gone.
pub(crate) async fn has_backup_service(engine: &SwarmEngine) -> Result<bool, Failure> {
    let filters = Filters::from([("label".to_owned(), vec![LABEL.to_owned()])]);
    let options = ListServicesOptions { filters: Some(filters), status: None };
    let listed = engine.client.call(async |docker| docker.list_services(Some(options)).await).await;
    let listed = listed.map_err(|error| error.during("can't tell whether somebody takes backups here"))?;
    let pattern = RunAppPattern::new(engine.settings.suffix.clone(), []);
    Ok(listed.into_iter().any(|service| {
        let labels = service.spec.and_then(|spec| spec.labels).unwrap_or_default();
        let domain = labels.get(NAMESPACE).and_then(|stack| domain_of_stack(stack));
        domain.is_none_or(|domain| !pattern.is_run_app(&domain))
    }))
}

#[cfg(test)]
mod tests {
    use crate::fake_engine::{FakeEngine, Reply};

    #[tokio::test]
    async fn a_run_apps_label_speaks_for_nobody() {
        for (stacks, expected) in [
            (&[][..], false),
            (&["immi-012345_ci_example_org"], false),
            (&["backups_example_org"], true),
            (&["immi-012345_ci_example_org", "backup"], true),
        ] {
            let services: Vec<String> = stacks
                .iter()
                .map(|stack| format!(r#"{{"Spec":{{"Labels":{{"com.docker.stack.namespace":"{stack}"}}}}}}"#))
                .collect();
            let body = format!("[{}]", services.join(","));
            let fake = FakeEngine::start(move |_| Reply::Json(200, body.clone()));
            let engine = fake.engine();
            assert_eq!(super::has_backup_service(&engine).await.unwrap(), expected, "{stacks:?}");
            let asked = fake.calls().concat();
            assert!(asked.contains("coop-cloud.backupbot.enabled%3Dtrue"), "{asked}");
        }
    }
}
