//! Commands in an app's services: children of the run, in the environment that the service has.

use std::time::Duration;

use super::state_dir::host;
use super::{LocalExecutor, plan};
use crate::engine::{Failure, RunContext, ServiceCommand};
use crate::lifetime::{ChildError, RunLifetimeExt as _};
use crate::workspace::home_environment;

/// How much of its output an error tells, in bytes.
const TAIL: usize = 800;

/// Runs a command as a child of the run, in a service's environment; gives what it printed.
pub(super) async fn execute(
    executor: &LocalExecutor,
    context: &RunContext,
    command: &ServiceCommand<'_>,
) -> Result<String, Failure> {
    let ServiceCommand { app, service, words, limit } = *command;
    let planned = plan::planned(executor, context, app).await?;
    let planned = planned
        .into_iter()
        .find(|planned| planned.name == service)
        .ok_or_else(|| Failure::recipe(format!("the recipe has no service {service}")))?;
    let (program, args) =
        words.split_first().ok_or_else(|| Failure::recipe("an empty command".to_owned()))?;
    let command = context
        .command(&app.domain, program, &planned.directory)
        .args(args)
        .envs(&planned.environment)
        .grace(Duration::ZERO);
    let command = match context.recipe_code.confined() {
        Some(confined) => {
            let scratch = executor.state_dir.of(&app.domain, "scratch").join(service);
            let (state_dir, made) = (executor.state_dir.clone(), scratch.clone());
            context.lifetime.blocking_tasks().run(move || state_dir.make(&made)).await.map_err(host)?;
            let command = command.envs(home_environment(&scratch, &scratch));
            command.sandbox(planned.sandbox(confined, executor.user_of(&app.domain), &scratch))
        }
        None => command,
    };
    let (mut output, mut answer) = (String::new(), String::new());
    let ended = context
        .lifetime
        .run(command, limit, &mut |line| {
            output.push_str(&line.text);
            output.push('\n');
            answer.push_str(&context.redactor.redact_line(line));
            answer.push('\n');
            // Now and then, not with each line.
            if answer.len() > 1 << 16 {
                answer.drain(..answer.len() - tail(&answer).len());
            }
        })
        .await
        .map_err(|error| {
            let message = format!("{program} in the service {service}");
            match error {
                // Says nothing of the recipe.
                ChildError::Cancelled { .. } => Failure::host(message).with_source(error),
                error => Failure::recipe(message).with_source(error),
            }
        })?;
    if ended.success() {
        Ok(output)
    } else {
        Err(Failure::recipe(format!(
            "{program} in the service {service}: {ended}: {}",
            tail(&answer).trim_end()
        )))
    }
}

/// The end of an output without secrets: whole lines, where one fits.
fn tail(text: &str) -> &str {
    let Some(start) = text.len().checked_sub(TAIL) else { return text };
    let end = &text[text.ceil_char_boundary(start)..];
    match end.split_once('\n') {
        Some((_, lines)) if !lines.is_empty() => lines,
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{App, RecipeCode, Redactor};
    use crate::lifetime::{Bounds, EmbeddedMode};
    use crate::model::event::Silent;
    use crate::sys::system_info::KernelSystemInfo;

    struct World {
        root: tempfile::TempDir,
        context: RunContext,
        app: App,
        executor: LocalExecutor,
    }

    fn world() -> World {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for name in ["tree", "tmp"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let compose = "services: {app: {image: x, x-cc-ci-local: {command: [sleep, '1']}}}";
        std::fs::write(path("tree/compose.yml"), compose).unwrap();
        std::fs::write(path("env"), "DOMAIN=a.test\n").unwrap();
        let context = RunContext {
            run_id: "1".parse().unwrap(),
            lifetime: Arc::new(EmbeddedMode::new(Bounds::default(), Arc::new(Silent)).unwrap()),
            reporter: Arc::new(Silent),
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            tmp: path("tmp"),
            redactor: Redactor::default(),
            recipe_code: RecipeCode::Unconfined("a test's".into()),
        };
        let app = App {
            domain: "a.test".parse().unwrap(),
            recipe: "test".parse().unwrap(),
            tree: path("tree"),
            env_file: path("env"),
        };
        let executor = LocalExecutor::new(path("world"), Arc::new(KernelSystemInfo::new().unwrap()));
        World { root, context, app, executor }
    }

    impl World {
        async fn run(&self, script: &str) -> Result<String, Failure> {
            let words = ["sh", "-c", script].map(str::to_owned);
            let limit = Duration::from_mins(1);
            let command = ServiceCommand { app: &self.app, service: "app", words: &words, limit };
            execute(&self.executor, &self.context, &command).await
        }
    }

    #[tokio::test]
    async fn an_error_tells_no_secret_and_not_all_that_was_said() {
        let world = world();
        world.context.redactor.hide("hunter22");
        assert_eq!(world.run("echo it is hunter22").await.unwrap(), "it is hunter22\n");
        let failed =
            world.run("yes 123456789 | head -n 100000; echo it is hunter22; exit 3").await.unwrap_err();
        let shown = failed.to_string();
        assert!(shown.len() < 1000 && shown.ends_with("123456789\nit is [secret]"), "{}", shown.len());
    }

    #[tokio::test]
    async fn the_recipes_files_are_copied_once_and_again_where_they_changed() {
        let world = world();
        let inner = world.root.path().join("tree/inner");
        std::fs::create_dir_all(world.root.path().join("tree/.git")).unwrap();
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("file"), "one").unwrap();
        let trees = world.executor.state_dir.of(&world.app.domain, "trees");
        let changed = || trees.metadata().unwrap().modified().unwrap();
        assert_eq!(world.run("cat inner/file; ls -A").await.unwrap(), "onecompose.yml\ninner\n");
        let first = changed();
        assert_eq!(world.run("cat inner/file").await.unwrap(), "one\n");
        assert_eq!(changed(), first, "another copy was made beside it");
        std::fs::write(inner.join("file"), "two").unwrap();
        assert_eq!(world.run("cat inner/file").await.unwrap(), "two\n");
    }

    #[test]
    fn an_error_tells_the_last_lines() {
        assert_eq!(tail("one\ntwo\n"), "one\ntwo\n");
        let lines = "123456789\n".repeat(1000);
        assert_eq!(tail(&lines), "123456789\n".repeat(79));
        assert_eq!(tail(&"ü".repeat(1000)), "ü".repeat(400));
    }
}
