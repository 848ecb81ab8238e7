//! The pipelines that operators copy, run as Drone and Woodpecker run them, under each shell that they may meet.

#![expect(clippy::expect_used, reason = "this is test code: a panic is a failed test")]

mod cancelled;
mod hostile;
mod ours;
mod status;

use cc_ci_tests::ci::{Cancel, Runner, Shell, System};
use cc_ci_tests::{Recipe, World};
use serde_json::Value;

/// The build's number: the run's id.
const BUILD: &str = "41";

/// One combination of runner and shell, in a world of its own.
struct Ci {
    system: System,
    shell: Shell,
    world: World,
}

/// Does the same for each combination, all at once.
#[track_caller]
fn everywhere(test: impl Fn(&Ci) + Sync) {
    let combinations = [System::Drone, System::Woodpecker]
        .into_iter()
        .flat_map(|system| Shell::ALL.map(|shell| Ci { system, shell, world: World::new() }));
    let failed: Vec<String> = std::thread::scope(|scope| {
        let test = &test;
        let started: Vec<_> = combinations
            .map(|ci| {
                let name = format!("{:?} {:?}", ci.system, ci.shell);
                let thread = std::thread::Builder::new().name(name.clone());
                (name, thread.spawn_scoped(scope, move || test(&ci)).expect("a thread starts"))
            })
            .collect();
        started.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect()
    });
    assert!(failed.is_empty(), "failed with {failed:?}: what they said is above");
}

impl Ci {
    /// The template for operators. What people may write is hostile each time.
    fn template(&self) -> Runner {
        let (path, prefix, number) = match self.system {
            System::Drone => ("examples/drone.yml", "DRONE", "DRONE_BUILD_NUMBER"),
            System::Woodpecker => ("examples/woodpecker.yml", "CI", "CI_PIPELINE_NUMBER"),
        };
        let hostile =
            format!("x\"; touch {0}; '`touch {0}`$(touch {0})\n- touch {0}\n", self.marker().display());
        ["BRANCH", "SOURCE_BRANCH", "COMMIT_BRANCH", "COMMIT_REF", "COMMIT_MESSAGE", "COMMIT_AUTHOR_NAME"]
            .iter()
            .chain(&["PULL_REQUEST_TITLE", "COMMIT_PULL_REQUEST_TITLE", "COMMIT_SOURCE_BRANCH"])
            .fold(Runner::new(&self.world, self.system, self.shell, path), |runner, name| {
                runner.set(&format!("{prefix}_{name}"), &hostile)
            })
            .set(number, BUILD)
    }

    /// A build with parameters: this recipe's pull request 7.
    fn build(&self, recipe: &Recipe) -> Runner {
        self.build_of(recipe, &recipe.commit())
    }

    /// The same, where the commit is there already.
    fn build_of(&self, recipe: &Recipe, commit: &str) -> Runner {
        self.template()
            .set("RECIPE", recipe.path().to_str().expect("a plain path"))
            .set("COMMIT", commit)
            .set("PR", "7")
    }

    /// The same as an event of the recipe's own repository.
    fn pull_request(&self, recipe: &Recipe) -> Runner {
        self.pull_request_at(recipe, &recipe.commit())
    }

    /// The same, where the commit is there already.
    fn pull_request_at(&self, recipe: &Recipe, head: &str) -> Runner {
        let (commit, number, url) = match self.system {
            System::Drone => ("DRONE_COMMIT_SHA", "DRONE_PULL_REQUEST", "DRONE_GIT_HTTP_URL"),
            System::Woodpecker => ("CI_COMMIT_SHA", "CI_COMMIT_PULL_REQUEST", "CI_REPO_CLONE_URL"),
        };
        self.template()
            .set(commit, head)
            .set(number, "7")
            .set(url, format!("file://{}", recipe.path().display()))
    }

    /// What is there when a hostile value was run.
    fn marker(&self) -> std::path::PathBuf {
        self.world.path().join("hostile")
    }

    /// How it is cancelled: Woodpecker's way has changed, and both are out there.
    fn cancels(&self) -> &'static [Cancel] {
        match self.system {
            System::Drone => &[Cancel::Shell],
            System::Woodpecker => &[Cancel::Shell, Cancel::Group],
        }
    }

    /// The run's own record, which says that it ended like this.
    #[track_caller]
    fn recorded(&self, run: &str, verdict: &str, code: i32) -> Value {
        self.world.assert_empty();
        assert!(!self.marker().exists(), "a hostile value was run");
        let record = self.world.record(run);
        assert_eq!((&record["verdict"], &record["exit_code"]), (&verdict.into(), &code.into()), "{record:#}");
        assert_eq!(record["receipt"]["left"], serde_json::json!([]), "{record:#}");
        record
    }
}
