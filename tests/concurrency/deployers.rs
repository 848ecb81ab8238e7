//! Deployers that meddle: with an app's `.env`, with the recipe's checkout, with its files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use cc_ci_core::engine::{App, Backup, Deployer as _, DeployerLayer, Failure, RunContext, Secret};
use cc_ci_core::event::Event;
use cc_ci_core::exit::Exit;
use cc_ci_core::local::LocalExecutor;
use cc_ci_core::run::{RunEnd, Status, TierName};
use cc_ci_core::workspace::RecipeSource;
use cc_ci_tests::{Recipe, World};

use crate::doubles::{block_on, lifetime};

/// The calls that a cold run makes, in their order.
const CALLS: [&str; 6] = ["create", "generate secrets", "deploy", "upgrade", "backup", "restore"];

/// What it does, at the end of which call, on which app.
type Meddling = Box<dyn Fn(&str, &App) + Send + Sync>;

/// The local executor, which does something else too at the end of a call.
struct Meddles {
    real: Arc<LocalExecutor>,
    with: Meddling,
}

impl fmt::Debug for Meddles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Meddles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the meddler")
    }
}

#[async_trait]
impl DeployerLayer for Meddles {
    type Inner = LocalExecutor;

    fn inner(&self) -> &LocalExecutor {
        &self.real
    }
    async fn create(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        self.real.create(context, app).await?;
        (self.with)("create", app);
        Ok(())
    }
    async fn generate_secrets(
        &self,
        context: &RunContext,
        app: &App,
    ) -> Result<BTreeMap<String, Secret>, Failure> {
        let secrets = self.real.generate_secrets(context, app).await?;
        (self.with)("generate secrets", app);
        Ok(secrets)
    }
    async fn deploy(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        self.real.deploy(context, app).await?;
        (self.with)("deploy", app);
        Ok(())
    }
    async fn upgrade(&self, context: &RunContext, app: &App) -> Result<(), Failure> {
        self.real.upgrade(context, app).await?;
        (self.with)("upgrade", app);
        Ok(())
    }
    async fn backup(&self, context: &RunContext, app: &App) -> Result<Backup, Failure> {
        let backup = self.real.backup(context, app).await?;
        context.reporter.report(&Event::Warning { text: "a snapshot stays".to_owned() });
        (self.with)("backup", app);
        Ok(backup)
    }
    async fn restore(&self, context: &RunContext, app: &App, backup: &Backup) -> Result<(), Failure> {
        self.real.restore(context, app, backup).await?;
        (self.with)("restore", app);
        Ok(())
    }
    fn environment(&self) -> Vec<(OsString, OsString)> {
        vec![("MEDDLER_HOST".into(), "unix:///run/meddler".into())]
    }
}

fn run_with(
    world: &World,
    recipe: &Recipe,
    needs: Vec<RecipeSource>,
    with: impl Fn(&str, &App) + Send + Sync + 'static,
) -> RunEnd<()> {
    let mut harness = world.harness(lifetime());
    harness.deployer = Arc::new(Meddles { real: world.executor(world.host()), with: Box::new(with) });
    harness.settings.dependencies.insert(recipe.name().parse().unwrap(), needs);
    let end = block_on(harness.run_cold(&world.request(recipe.path(), 1, "1")));
    world.assert_empty();
    end
}

fn run(world: &World, recipe: &Recipe, with: impl Fn(&str, &App) + Send + Sync + 'static) -> RunEnd<()> {
    run_with(world, recipe, Vec::new(), with)
}

/// A release and a commit on top, whose tests fail unless the checkout and the `.env` are the run's own.
fn recipe(world: &World) -> Recipe {
    let recipe = world.recipe("app");
    let env = "grep -qx TYPE=test \"$CCCI_ENV_FILE\"; ! grep -q hunter22 \"$CCCI_ENV_FILE\"";
    recipe.script("tests/install-env", env).script("tests/custom-env", env);
    for (tier, is) in [("install", "!="), ("upgrade", "="), ("restore", "="), ("custom", "=")] {
        let head = format!("test \"$(cat \"$CCCI_RECIPE_DIR/.git/HEAD\")\" {is} \"$CCCI_COMMIT\"");
        recipe.script(&format!("tests/{tier}-head"), &head);
    }
    recipe.release("1.0.0+1");
    recipe.compose("2", "").commit();
    recipe
}

fn git(tree: &Path, args: &[&str]) {
    let mut git = Command::new("git");
    let git = git.arg("-C").arg(tree).args(["-c", "safe.directory=*", "-c", "advice.detachedHead=false"]);
    assert!(git.args(args).status().unwrap().success(), "git {args:?}");
}

/// Shows that one of the two commits that it does not show.
fn move_head(app: &App, commits: &[String; 2]) {
    let head = fs::read_to_string(app.tree.join(".git/HEAD")).unwrap();
    let other = commits.iter().find(|commit| commit.trim() != head.trim()).unwrap();
    git(&app.tree, &["checkout", "-q", "--detach", other.trim()]);
}

/// What failed first, in all that the record says.
fn red(end: &RunEnd<()>, tier: TierName) -> String {
    let tier = end.record.tiers.iter().find(|found| found.name == tier).unwrap();
    assert_eq!(tier.status, Status::Failed, "{tier:#?}");
    tier.reason.clone().unwrap()
}

#[test]
fn a_rewritten_env_is_put_back_whole_and_told_once_by_name_alone() {
    let world = World::new();
    let recipe = recipe(&world);
    let end = run(&world, &recipe, |call, app| {
        if call != "create" {
            let text = fs::read_to_string(&app.env_file).unwrap();
            let text = text.replace("TYPE=test", "TYPE=test:1.0.0+1") + "PASSWORD=hunter22\n";
            fs::write(&app.env_file, text).unwrap();
        }
    });
    assert_eq!(end.exit, Exit::Green, "{:#?}", end.record);
    let events = world.events("1");
    let notes: Vec<&str> = events.iter().filter_map(|event| event["text"].as_str()).collect();
    let shown: Vec<&&str> = notes.iter().filter(|note| note.contains(".env")).collect();
    assert_eq!(shown.len(), 1, "{notes:#?}");
    assert!(shown[0].contains("the meddler") && shown[0].contains("PASSWORD, TYPE"), "{shown:?}");
    assert!(!format!("{events:?}").contains("hunter22"));
    assert_eq!(end.record.warnings, ["a snapshot stays"], "the checkout moved as the run moved it");
}

#[test]
fn an_env_that_is_gone_or_a_way_out_is_put_back_and_never_followed() {
    for trick in ["gone", "link", "pipe"] {
        let world = World::new();
        let recipe = recipe(&world);
        let theirs = world.path().join("theirs");
        fs::write(&theirs, "theirs").unwrap();
        let target = theirs.clone();
        let end = run(&world, &recipe, move |call, app| {
            if call == "backup" {
                fs::remove_file(&app.env_file).unwrap();
                match trick {
                    "link" => symlink(&target, &app.env_file).unwrap(),
                    "pipe" => nix::unistd::mkfifo(&app.env_file, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                    _ => {}
                }
            }
        });
        assert_eq!(end.exit, Exit::Green, "{trick}: {:#?}", end.record);
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs", "{trick}");
    }
}

#[test]
fn a_checkout_that_moves_under_a_deploy_ends_the_run_and_under_another_call_is_moved_back() {
    for moves in CALLS {
        let world = World::new();
        let recipe = recipe(&world);
        let commits = ["1.0.0+1^{commit}", "HEAD"].map(|rev| recipe.git(["rev-parse", rev]));
        let both = commits.clone();
        let end = run(&world, &recipe, move |call, app| {
            if call == moves {
                move_head(app, &both);
            }
        });
        let message = format!("{:?} {:?}", end.record.errors, end.record.warnings);
        assert!(
            message.contains(&format!("{moves} of the meddler moved the checkout")),
            "{moves}: {message}"
        );
        assert!(commits.iter().all(|commit| message.contains(commit.trim())), "{moves}: {message}");
        let expected = if matches!(moves, "deploy" | "upgrade") { Exit::Harness } else { Exit::Green };
        assert_eq!(end.exit, expected, "{moves}: {:#?}", end.record);
    }
}

#[test]
fn a_deployer_that_changes_the_recipes_files_ends_the_run() {
    for changes in CALLS {
        let world = World::new();
        let recipe = recipe(&world);
        let end = run(&world, &recipe, move |call, app| {
            if call == changes {
                // As sly as can be: git itself would not see it.
                git(&app.tree, &["update-index", "--assume-unchanged", "compose.yml"]);
                let text = fs::read_to_string(app.tree.join("compose.yml")).unwrap();
                fs::write(app.tree.join("compose.yml"), text + "# mine\n").unwrap();
                fs::write(app.tree.join("untracked"), "nobody's").unwrap();
            }
        });
        assert_eq!(end.exit, Exit::Harness, "{changes}: {:#?}", end.record);
        let message = end.record.errors.join("\n");
        assert!(message.contains(&format!("{changes} of the meddler changed files")), "{changes}: {message}");
        assert!(message.contains("compose.yml") && !message.contains("untracked"), "{changes}: {message}");
    }
}

#[test]
fn a_recipe_that_another_one_needs_is_watched_likewise() {
    let world = World::new();
    let recipe = recipe(&world);
    let sso = world.recipe("sso");
    sso.release("1.0.0+1");
    sso.compose("2", "").commit();
    let commits = ["1.0.0+1^{commit}", "HEAD"].map(|rev| sso.git(["rev-parse", rev]));
    let needs = vec![RecipeSource::Path(sso.path().to_owned())];
    let end = run_with(&world, &recipe, needs, move |call, app| {
        if call == "deploy" && app.recipe.as_str() == "sso" {
            move_head(app, &commits);
        }
    });
    assert_eq!(end.exit, Exit::Harness, "{:#?}", end.record);
    assert!(end.record.errors.join("").contains("moved the checkout of sso"), "{:#?}", end.record);
}

#[test]
fn an_install_step_that_changes_what_would_be_deployed_is_red() {
    let tricks = [
        ("echo '# mine' >> compose.yml", "deploy failed", "compose.yml", 1),
        (
            "git update-index --assume-unchanged compose.yml; echo '# mine' >> compose.yml",
            "deploy failed",
            "compose.yml",
            1,
        ),
        // What can't be read is red before anything is done with it.
        ("rm abra.sh; mkfifo abra.sh", "create failed", "abra.sh", 0),
    ];
    for (trick, step, says, count) in tricks {
        let world = World::new();
        let recipe = world.recipe("app");
        recipe.write("abra.sh", "export X=1\n");
        recipe.script("tests/install_steps.sh", &format!("cd \"$CCCI_RECIPE_DIR\"\n{trick}")).commit();
        let end = run(&world, &recipe, |_, _| ());
        assert_eq!((end.exit, end.record.deploy_count), (Exit::Red, count), "{trick}: {:#?}", end.record);
        let reason = red(&end, TierName::Install);
        assert!(reason.starts_with(step) && reason.contains(says), "{trick}: {reason}");
    }
}

#[test]
fn of_a_recipe_that_names_what_is_not_its_own_not_even_secrets_are_made() {
    let world = World::new();
    let recipe = world.recipe("app");
    let long = "X".repeat(64);
    recipe.write(".env.sample", &format!("TYPE=test\nDOMAIN=x\nSECRET_{long}_VERSION=v1\n"));
    let compose = fs::read_to_string(recipe.path().join("compose.yml")).unwrap();
    let name = format!("_{}_${{SECRET_{long}_VERSION}}", long.to_lowercase());
    recipe.write("compose.yml", &compose.replace("_key_${SECRET_KEY_VERSION}", &name)).commit();
    let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
    let made = calls.clone();
    let end = run(&world, &recipe, move |call, _| made.lock().unwrap().push(call.to_owned()));
    assert!(red(&end, TierName::Install).contains("more than 64 characters"), "{:#?}", end.record);
    assert_eq!(*calls.lock().unwrap(), ["create"]);
}

#[test]
fn an_install_step_may_add_a_file() {
    let world = World::new();
    let recipe = world.recipe("app");
    recipe.script("tests/install_steps.sh", "touch \"$CCCI_RECIPE_DIR/compose.ci.yml\"").commit();
    let end = run(&world, &recipe, |_, _| ());
    assert_eq!(end.exit, Exit::Green, "{:#?}", end.record);
}

#[test]
fn a_test_that_moves_the_checkout_is_no_deployers_fault() {
    let world = World::new();
    let recipe = world.recipe("app");
    let moves =
        "cd \"$CCCI_RECIPE_DIR\"; git -c user.name=m -c user.email=m@x commit -q --allow-empty -m mine";
    recipe.script("tests/install-moves", moves).script("tests/install_steps.sh", moves);
    recipe.script("tests/install-head", "test \"$(cat \"$CCCI_RECIPE_DIR/.git/HEAD\")\" = \"$CCCI_COMMIT\"");
    recipe.script("tests/restore-head", "test \"$(cat \"$CCCI_RECIPE_DIR/.git/HEAD\")\" = \"$CCCI_COMMIT\"");
    recipe.commit();
    let end = run(&world, &recipe, |_, _| ());
    assert_eq!(end.exit, Exit::Green, "{:#?}", end.record);
    let warnings = end.record.warnings.join("");
    assert!(warnings.contains("a test or install step moved"), "{warnings}");
    assert!(!warnings.contains("the meddler"), "{warnings}");
}

#[test]
fn what_a_deployer_warns_of_is_in_the_result() {
    let world = World::new();
    let recipe = world.recipe("app");
    recipe.commit();
    let end = run(&world, &recipe, |_, _| ());
    assert_eq!(end.record.warnings, ["a snapshot stays"], "{:#?}", end.record);
    let written = fs::read_to_string(world.runs().join("1/run.json")).unwrap();
    assert!(written.contains("a snapshot stays"), "{written}");
}

#[test]
fn a_child_of_the_run_sees_what_the_deployer_needs() {
    let world = World::new();
    let recipe = world.recipe("app");
    recipe.script("tests/custom", "test \"$MEDDLER_HOST\" = unix:///run/meddler").commit();
    let end = run(&world, &recipe, |_, _| ());
    assert_eq!(end.exit, Exit::Green, "{:#?}", end.record);
}
