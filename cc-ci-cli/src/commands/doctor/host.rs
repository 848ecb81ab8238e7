//! What belongs to this host: directories, programs, disks.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cc_ci_core::Failure;
use cc_ci_core::blocking;
use cc_ci_core::lifetime::{Command, Confinement, Line, NoConfinement, RunLifetimeExt as _};
use cc_ci_core::lock::AppLock as _;
use cc_ci_core::names::{Domain, InvalidName, RecipeName, RunId, Subject};
use cc_ci_core::process::{Marker, MarkerOwner};
use cc_ci_core::run::RecipeScripts;
use cc_ci_core::sys::programs;
use cc_ci_core::sys::text::gibibytes;
use cc_ci_core::system_info::{free_space, is_noexec, is_root, may_write};
use cc_ci_core::workspace::{AbraWorkspace as _, KernelWorkspace, Settings, WorkspaceError};

use super::{Check, Patient};
use crate::engine::{Engine, in_path};

/// What a program may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

/// With less, a run is likely to fail in the middle.
const LOW: u64 = 1 << 30;

pub fn executor(patient: &Patient) -> Check {
    let check = Check::of("executor");
    let choice = match &patient.choice {
        Ok(choice) => choice,
        Err(error) => return check.error(error),
    };
    let check = check.fact(choice.line());
    let suffix = match &choice.engine {
        Engine::Local => patient.base.config.local_suffix(),
        Engine::Swarm(_) => patient.base.config.swarm_suffix(),
    };
    let check = match suffix {
        Ok(suffix) => check.fact(format!("run apps are PREFIX-HEX.{suffix}")),
        Err(error) => check.error(&error),
    };
    match &choice.engine {
        Engine::Local => check
            .fact("it confines services in files and processes at the most: they have this host's network"),
        Engine::Swarm(_) => check,
    }
}

/// What recipes may ask for, and where the operator's own tests and certificates are; nothing where nobody said so.
pub async fn recipes(patient: &Patient) -> Vec<Check> {
    let config = &patient.base.config;
    let mut check = Check::of("recipes");
    for (recipe, granted) in config.run.granted.iter().filter(|(_, granted)| !granted.is_empty()) {
        check = check.fact(format!("{recipe} may ask for {}", granted.join(", ")));
    }
    if config.run.report_only {
        check = check.fact("privileges that are not granted are warnings (report_only)");
    }
    if let Some(tests) = config.run.operator_tests.clone() {
        let shown = tests.display().to_string();
        check = if blocking::run(move || tests.is_dir()).await {
            check.fact(format!("the operator's tests are in {shown}"))
        } else {
            check.problem(format!("{shown} is no directory of tests"), "make it, or correct `tests_dir`")
        };
    }
    check = patient.unusable.iter().fold(check, Check::error);
    if check.facts.is_empty() && check.problems.is_empty() { Vec::new() } else { vec![check] }
}

pub async fn lock_directory(patient: &Patient) -> Vec<Check> {
    let (locks, path) = (patient.base.locks.clone(), patient.base.config.lock_dir.clone());
    let look = move || {
        let mut check = Check::of("lock directory").fact(path.display().to_string());
        if let Err(error) = locks.check_directory() {
            let problem = cc_ci_core::error_chain(&error);
            return check.problem(
                problem,
                "choose or repair it: CCCI_APP_LOCK_DIR, `lock_dir`; the same for all of cc-ci",
            );
        }
        let domains = match locks.domains() {
            Ok(domains) => domains,
            Err(error) => {
                return check.problem(cc_ci_core::error_chain(&error), "choose one that you can read");
            }
        };
        let (mut held, count) = (0, domains.len());
        for domain in domains {
            match locks.inspect(&domain) {
                Ok(view) => held += usize::from(view.is_some_and(|view| view.held)),
                Err(error) => {
                    let fix = format!(
                        "see who made {}: where it is another user's of cc-ci, take trusted_lock_owners or lock_group, \
                         or a lock directory each; remove it only where nobody runs anything on that app",
                        locks.path(&domain).display()
                    );
                    check = check.problem(cc_ci_core::error_chain(&error), fix);
                }
            }
        }
        check.fact(format!("{count} lock files, {held} held"))
    };
    vec![blocking::run(look).await]
}

pub async fn runs_directory(patient: &Patient) -> Vec<Check> {
    let runs_dir = patient.base.config.runs_dir.clone();
    let local_root = patient.uses_local().then(|| patient.base.config.local_root.clone());
    let look = move || {
        let runs = executing(directory("runs directory", &runs_dir, "CCCI_RUNS_DIR"), &runs_dir);
        let mut checks = vec![quarantine(runs, &runs_dir)];
        checks.extend(local_root.map(|path| directory("local root", &path, "CCCI_LOCAL_ROOT")));
        checks
    };
    blocking::run(look).await
}

/// A directory that is made when it is first needed.
fn directory(name: &'static str, path: &Path, knob: &str) -> Check {
    let check = Check::of(name);
    let fix = format!("choose one that you can write: {knob}");
    let (there, missing) = match existing(path) {
        Ok(there) => (there, false),
        Err(there) => (there, true),
    };
    let shown = if missing {
        format!("{}, made when it is needed", path.display())
    } else {
        path.display().to_string()
    };
    let check = check.fact(shown);
    if !there.is_dir() {
        return check.problem(format!("{} is no directory", there.display()), fix);
    }
    if let Err(error) = may_write(&there) {
        return check.problem(format!("{} can't be written: {error}", there.display()), fix);
    }
    disk(check, &there)
}

/// What passes of the janitor could not reap.
fn quarantine(check: Check, runs_dir: &Path) -> Check {
    let runs = Settings::new(runs_dir).and_then(KernelWorkspace::new);
    // What can't be asked has been told above.
    let quarantine = runs.and_then(|runs| runs.quarantine()).ok();
    let records = quarantine.and_then(|quarantine| quarantine.all().ok()).unwrap_or_default();
    let paused = records.into_iter().filter(|record| record.next().is_some());
    paused.fold(check, |check, record| {
        let problem = format!("{} is in quarantine: {}", record.domain, record.in_words());
        let fix = format!("end what is in its way, then: cc-ci janitor --retry {}", record.domain);
        check.problem(problem, fix)
    })
}

/// A recipe's tests are executed from the runs directory.
fn executing(check: Check, path: &Path) -> Check {
    let (Ok(there) | Err(there)) = existing(path);
    match is_noexec(&there) {
        Ok(true) => {
            let error = WorkspaceError::NotExecutable { runs_dir: there };
            check.problem(error.to_string(), error.hint().unwrap_or_default())
        }
        // What can't be asked has been told above.
        Ok(false) | Err(_) => check,
    }
}

/// The path, or the nearest one above it that exists.
fn existing(path: &Path) -> Result<PathBuf, PathBuf> {
    let mut above = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing = false;
    while matches!(above.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
        && above.pop()
    {
        missing = true;
    }
    if missing { Err(above) } else { Ok(above) }
}

/// How much room there is. Blocks.
pub fn disk(check: Check, path: &Path) -> Check {
    match free_space(path) {
        Ok(free) => room(check, path, free),
        Err(error) => {
            check.problem(format!("the disk of {} can't be looked at: {error}", path.display()), "see `df`")
        }
    }
}

fn room(check: Check, path: &Path, free: u64) -> Check {
    let free_text = format!("{} free", gibibytes(free));
    if free < LOW {
        let problem = format!("the disk of {} is nearly full: {free_text}", path.display());
        check
            .problem(problem, "make room; old runs go by `keep_runs`, images that runs pulled by `keep_images`, others by `docker image prune`")
    } else {
        check.fact(free_text)
    }
}

pub async fn git(patient: &Patient) -> Vec<Check> {
    let fix = "install git: apt-get install git";
    vec![program(patient, "git", Some(fix)).await]
}

/// Whether what recipes bring can be confined.
pub async fn confinement(patient: &Patient) -> Vec<Check> {
    let check = Check::of("recipes' code");
    let path = programs::operator_path();
    let marker = match probe_marker(patient) {
        Ok(marker) => marker,
        Err(failure) => return vec![check.error(&failure)],
    };
    let found = Confinement::probe(patient.lifetime.as_ref(), &path, Some(marker)).await;
    vec![match (patient.base.config.run.recipe_scripts, found) {
        (RecipeScripts::Unconfined, _) => {
            check.fact("not confined: the configuration says so (recipe_scripts)".to_owned())
        }
        (_, Ok(confinement)) => {
            check.fact("confined, by bubblewrap".to_owned()).fact(match confinement.unbounded() {
                None if confinement.shares_processor() => {
                    "memory, processes and processor time of a script are bounded by a control group".to_owned()
                }
                None => "memory and processes of a script are bounded by a control group; its processor time is not, as the \
                         group above hands no cpu on"
                    .to_owned(),
                Some(why) => format!("memory and processor time of a script are not bounded as a whole: {why}"),
            })
        }
        (RecipeScripts::Confined, Err(why @ NoConfinement::NotInstalled))
            if patient.uses_local() && !is_root() =>
        {
            check.fact(format!("not confined, as an ordinary user's with the local executor may be: {why}"))
        }
        (RecipeScripts::Confined, Err(why @ NoConfinement::Failed(_))) => {
            check.problem(format!("runs are refused: {why}"), CONFINE)
        }
        (RecipeScripts::Confined, Err(why)) => {
            check.problem(format!("recipes with code that runs on this host are refused: {why}"), CONFINE)
        }
    }]
}

/// What lets recipes' code be confined.
const CONFINE: &str = "apt-get install bubblewrap; a container needs a seccomp profile and capabilities that let it make namespaces";

/// The mark of a run on a domain that no recipe has: without a domain no control group is tried, and what a killed doctor leaves,
/// a janitor finds as it does a run's.
fn probe_marker(patient: &Patient) -> Result<Marker, Failure> {
    let made_up = |error: InvalidName| Failure::host("the probe's domain").with_source(error);
    let recipe: RecipeName = "doctor".parse().map_err(made_up)?;
    let suffix = patient.base.config.local_suffix()?;
    let run_id = RunId::manual(std::process::id());
    let domain = Domain::of_run(&recipe, &Subject::Ref(run_id.to_string()), &suffix);
    Ok(Marker { domain, owner: MarkerOwner::Run { run_id, owner: patient.lifetime.owner().clone() } })
}

/// A program and its version. That it is missing is a problem only where there is a fix for it.
pub async fn program(patient: &Patient, name: &'static str, fix: Option<&str>) -> Check {
    let check = Check::of(name);
    let Some(path) = blocking::run(move || in_path(name)).await else {
        return match fix {
            Some(fix) => check.problem(format!("there is no {name} in PATH"), fix),
            None => check.fact("not there, and not needed"),
        };
    };
    let command = Command::new(&path, "/").arg("--version").envs(env::vars_os()).grace(Duration::ZERO);
    let mut message = String::new();
    let mut hear = |line: &Line| {
        if message.is_empty() {
            message = line.text.chars().take(200).collect();
        }
    };
    let broken = match patient.lifetime.run(command, VERSION_LIMIT, &mut hear).await {
        Ok(ended) if ended.success() => return check.fact(format!("{message} ({})", path.display())),
        Ok(ended) => format!("{} --version: {ended}: {message}", path.display()),
        Err(error) => cc_ci_core::error_chain(&error),
    };
    match fix {
        Some(fix) => check.problem(broken, fix),
        None => check.fact(format!("{broken}; not needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_before_nothing_is_left() {
        let of = |free| room(Check::of("disk"), Path::new("/x"), free);
        assert_eq!(of(LOW).facts, ["1.0 GiB free"]);
        assert_eq!(of(LOW + LOW / 2).facts, ["1.5 GiB free"]);
        let full = of(LOW - 1);
        assert!(full.problems[0].problem.contains("0.9 GiB free"), "{full:?}");
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_made_in_the_nearest_one_that_is() {
        let there = tempfile::tempdir().unwrap();
        assert_eq!(existing(there.path()), Ok(there.path().to_owned()));
        assert_eq!(existing(&there.path().join("a/b")), Err(there.path().to_owned()));
        let file = there.path().join("file");
        std::fs::write(&file, "").unwrap();
        let check = directory("runs", &file, "KNOB");
        assert!(check.problems[0].problem.contains("no directory") && check.problems[0].fix.contains("KNOB"));
        assert_eq!(std::fs::read_dir(there.path()).unwrap().count(), 1);
    }
}
