//! The first failure of a run, and from it and what the services tell, its digest.
//!
//! Nobody is blamed without evidence. What is told apart: who an error itself names (a registry, the host), what the files
//! of the recipe say, what a test of the recipe says of an app that is well, and whether a release that was there before did
//! what the commit under test does not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::evidence::{Evidence, Unwell};
use super::limits::ADMISSION;
use super::lines::{LINE, last_lines, log_end};
use crate::engine::{Redactor, Resource};
use crate::model::digest::{Blame, Digest, Doing, LogEnd, check_command, logs_command, test_name};
use crate::model::exit::Exit;
use crate::model::failure::{Failure, Fault};
use crate::model::record::{RunRecord, TierName};
use crate::recipe::INSTALL_STEPS;
use crate::sys::text::{cut, sanitize, took};

/// As much of what a test prints is kept at hand, in bytes.
const OUTPUT: usize = 8 << 10;

/// What a program ends with that a signal of its own fault has ended: ILL, ABRT, BUS, FPE, SEGV.
const CRASHES: [i64; 5] = [132, 134, 135, 136, 139];

/// What went wrong first.
#[derive(Debug, Default)]
pub(super) struct First(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    failure: Option<FirstFailure>,
    /// What the test of this step printed last: none where no test ran.
    output: Option<String>,
}

#[derive(Debug)]
struct FirstFailure {
    /// Where it happened.
    place: Place,
    /// What happened; the lines after the first are what others said.
    text: String,
    /// What the test printed, where one ran.
    output: Option<String>,
    fault: Fault,
    blame: Option<Blame>,
    hint: Option<String>,
}

/// Where something went wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub tier: Option<TierName>,
    pub step: Option<String>,
    /// The phase, where there is no tier.
    pub phase: Option<String>,
    /// The version that was at work.
    pub version: Option<String>,
    /// Whether that is the commit under test, and no release of before.
    pub is_tested: bool,
}

impl First {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step begins: no test ran in it.
    pub fn begin_step(&self) {
        self.noted().output = None;
    }

    /// A test begins, or has ended well: what was printed until now is no cause.
    pub fn begin_output(&self) {
        self.noted().output = Some(String::new());
    }

    /// Whether a test ran in this step. Only then it has a log.
    pub fn has_run(&self) -> bool {
        self.noted().output.is_some()
    }

    /// Notes a line that a test prints: of one that is ended, it is all there is.
    pub fn note_line(&self, line: &str) {
        let mut noted = self.noted();
        let output = noted.output.get_or_insert_default();
        output.push_str(line);
        if output.len() > 2 * OUTPUT {
            let end = output.floor_char_boundary(output.len() - OUTPUT);
            output.drain(..end);
        }
    }

    /// Notes a failure; what failed later changes nothing.
    pub fn note(&self, place: Place, failure: &Failure) {
        let mut noted = self.noted();
        let output = noted.output.take();
        if noted.failure.is_none() {
            let (text, hint) = (failure.chain(), failure.hint().map(str::to_owned));
            let (fault, blame) = (failure.fault(), failure.blame());
            noted.failure = Some(FirstFailure { place, text, output, fault, blame, hint });
        }
    }
}

/// The digest of a run that ends with `exit`, after what went wrong `first`; `interrupted` is what went on when something ended
/// it early.
pub(super) fn of(
    record: &RunRecord,
    exit: Exit,
    first: &First,
    evidence: &Evidence,
    redactor: &Redactor,
    interrupted: Option<&(Doing, Duration)>,
) -> Option<Digest> {
    let (failure, output) = {
        let mut noted = first.noted();
        (noted.failure.take(), noted.output.take())
    };
    let mut digest = match (exit, failure, interrupted) {
        (Exit::Green, ..) => return None,
        (Exit::Cancelled(_), _, Some((doing, lasted))) => of_interrupted(record, doing, *lasted, output),
        (_, Some(failure), _) => of_failure(evidence, record, &failure),
        (exit, None, _) => of_end(record, exit),
    };
    if let Some(receipt) = record.receipt.as_ref().filter(|receipt| !receipt.left.is_empty()) {
        digest.cause.push(format!("left behind: {}", Resource::brief(&receipt.left)));
        digest.next.insert(0, "cc-ci janitor".to_owned());
    }
    for line in std::iter::once(&mut digest.what)
        .chain(&mut digest.cause)
        .chain([&mut digest.evidence])
        .chain(&mut digest.next)
    {
        *line = cut(&sanitize(&redactor.redact(line)), LINE);
    }
    Some(digest)
}

/// Where a signal or the deadline came in the middle of something.
fn of_interrupted(record: &RunRecord, doing: &Doing, lasted: Duration, output: Option<String>) -> Digest {
    let cause = record.cancelled_by.map(|cause| cause.to_string()).unwrap_or_default();
    let lasted = took(lasted.as_secs_f64(), 0);
    let what = format!("ended by {cause} after {lasted} of {doing}");
    let evidence = "a run that was ended says nothing of what it had not come to";
    let mut digest = Digest::new(what, Blame::Unknown, evidence);
    let tier = record.tiers.iter().find(|tier| doing.phase.starts_with(tier.name.as_str()));
    digest.tier = tier.map(|tier| tier.name);
    digest.step.clone_from(&doing.step);
    let output = output.filter(|_| doing.step.is_some());
    let test = doing.step.as_deref().and_then(test_name).filter(|_| output.is_some());
    digest.next.push(logs_command(&record.run_id, test));
    digest.cause = output.as_deref().map(last_lines).unwrap_or_default();
    digest
}

/// An end that nothing failed before: of what is left, or of the record itself.
fn of_end(record: &RunRecord, exit: Exit) -> Digest {
    let what = match exit {
        Exit::Residue => "something was left behind".to_owned(),
        _ => record.errors.first().cloned().unwrap_or_else(|| "the run did not come to its end".to_owned()),
    };
    let (blame, evidence) = match exit {
        Exit::Residue => (Blame::Unknown, "the receipt says what, not why"),
        _ => (Blame::Host, "the host or its engine failed, not the recipe"),
    };
    let mut digest = Digest::new(what, blame, evidence);
    digest.cause =
        record.receipt.iter().flat_map(|receipt| last_lines(&receipt.failures.join("\n"))).collect();
    digest.next.push("cc-ci doctor".to_owned());
    digest
}

fn of_failure(known: &Evidence, record: &RunRecord, failure: &FirstFailure) -> Digest {
    let place = &failure.place;
    let unwell = known.unwell(&failure.text);
    let at = match (&place.tier, &place.step, &place.phase) {
        (Some(tier), Some(step), _) if step == tier.as_str() => format!("{tier} failed"),
        (Some(tier), Some(step), _) => format!("{step} failed in the tier {tier}"),
        (Some(tier), None, _) => format!("{tier} failed"),
        (None, _, Some(phase)) => format!("{phase} failed"),
        (None, ..) => "the run failed".to_owned(),
    };
    let first = failure.text.lines().next().unwrap_or_default().to_owned();
    let (blame, evidence) = blame(failure, unwell.as_ref());
    let mut digest = Digest::new(format!("{at}: {first}"), blame, evidence);
    digest.tier = place.tier;
    digest.step.clone_from(&place.step);
    digest.service = unwell.as_ref().map(|unwell| unwell.task.service.clone());
    digest.cause = causes(failure, unwell.as_ref());
    // What is wrong in a file says no service.
    let is_of_file = names_a_file(&failure.text) && unwell.is_none();
    let shown = unwell.or_else(|| known.of("app").filter(|_| !is_of_file));
    digest.log = shown.as_ref().and_then(|shown| {
        let lines = log_end(&shown.task.log);
        let file = format!("logs/{}", shown.file);
        (!lines.is_empty()).then(|| LogEnd::new(shown.task.service.clone(), file, lines))
    });
    let run_id = &record.run_id;
    digest.next.extend(failure.hint.clone());
    let (test, ran) = (place.step.as_deref().and_then(test_name), failure.output.is_some());
    if let Some(test) = test.filter(|_| ran) {
        digest.next.push(logs_command(run_id, Some(test)));
    }
    if let Some(service) = &digest.service {
        digest.next.push(logs_command(run_id, Some(service)));
    }
    match blame {
        Blame::Host => digest.next.push("cc-ci doctor".to_owned()),
        Blame::Recipe if digest.next.is_empty() && ran && failure.text.starts_with(INSTALL_STEPS) => {
            digest.next.push(logs_command(run_id, Some(INSTALL_STEPS)));
        }
        // A test that did not run can't be run.
        Blame::Recipe if digest.next.is_empty() && (names_a_file(&failure.text) || test.is_some()) => {
            digest.next.push(check_command(record.asked.as_ref()));
        }
        _ => {}
    }
    if digest.next.is_empty() {
        let service = digest.log.as_ref().map(|log| log.service.as_str());
        digest.next.push(logs_command(run_id, service));
    }
    digest
}

/// What was said last: by the test, else by the engine of the service.
fn causes(failure: &FirstFailure, unwell: Option<&Unwell>) -> Vec<String> {
    let mut causes = failure.output.as_deref().map(last_lines).unwrap_or_default();
    if let Some(Unwell { task, .. }) = unwell {
        let error = task.error.as_deref().map(|error| format!("{}: {error}", task.service));
        let status = task.exit_status.filter(|status| *status != 0);
        let status = status.map(|status| format!("{}: exit status {status}", task.service));
        causes.extend(error.into_iter().chain(status));
        if let Some(health) = &task.health {
            causes.extend(last_lines(&format!("the healthcheck of {}: {health}", task.service)));
        }
    }
    if causes.is_empty() {
        // The first line is told already.
        let rest = failure.text.split_once('\n').map_or("", |(_, rest)| rest);
        causes = last_lines(rest);
    }
    causes
}

fn blame(failure: &FirstFailure, unwell: Option<&Unwell>) -> (Blame, String) {
    let because = |blame, evidence: &str| (blame, evidence.to_owned());
    if let Some(blame) = failure.blame {
        return because(blame, "the error itself says so");
    }
    match failure.fault {
        Fault::Recipe => {}
        Fault::LockTimeout if failure.place.phase.as_deref() == Some(ADMISSION) => {
            return because(
                Blame::Unknown,
                "this host had no place or no room for it: cc-ci status says who has them",
            );
        }
        Fault::LockTimeout => {
            return because(Blame::Unknown, "another run has the app: cc-ci locks says which");
        }
        Fault::Configuration => {
            return because(Blame::Unknown, "what was asked for, or how cc-ci is configured, can't be done");
        }
        Fault::Host | Fault::Transient | Fault::Cancelled(_) => {
            return because(Blame::Host, "it failed outside of anything that the recipe says or does");
        }
    }
    let place = &failure.place;
    let step = place.step.as_deref().unwrap_or_default();
    if let Some(Unwell { task, .. }) = unwell {
        let service = &task.service;
        let message = [task.error.as_deref(), Some(task.log.as_str())];
        let says = |words: &str| message.into_iter().flatten().any(|text| text.contains(words));
        if says("exec format error") {
            return (
                Blame::UpstreamImage,
                format!("the image of {service} is made for another kind of machine"),
            );
        }
        if let Some(status) = task.exit_status.filter(|status| CRASHES.contains(status)) {
            return (
                Blame::UpstreamImage,
                format!("the program of {service} crashed (exit status {status})"),
            );
        }
    }
    if !place.is_tested && place.tier.is_some() {
        let version = place.version.as_deref().unwrap_or("another one");
        return (
            Blame::Unknown,
            format!("it is the release {version} that failed: the commit under test was not deployed yet"),
        );
    }
    if names_a_file(&failure.text) {
        return because(Blame::Recipe, "a file of the recipe says so");
    }
    let is_test = test_name(step).is_some();
    if place.tier == Some(TierName::Upgrade) && !is_test {
        return because(
            Blame::Recipe,
            "the release before passed the same in this run, and the commit under test does not",
        );
    }
    match (step.split_once('/').map(|(layer, _)| layer), unwell) {
        (Some("recipe"), None) => because(Blame::Recipe, "its own test failed, while every service was well"),
        (_, Some(unwell)) if unwell.task.health.is_some() => {
            let service = &unwell.task.service;
            (Blame::Recipe, format!("the healthcheck that the recipe gives {service} failed"))
        }
        (_, Some(unwell)) => (
            Blame::Unknown,
            format!(
                "{} did not stay up: whether by its image or by what the recipe tells it, its log may say",
                unwell.task.service
            ),
        ),
        (_, None) if failure.text.contains("-hook of the service") => {
            because(Blame::Recipe, "a hook of its labels failed, while every service was well")
        }
        (_, None) => because(Blame::Unknown, "every service that is known was well"),
    }
}

/// Whether an error is of a file that the commit brings.
fn names_a_file(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    ["compose.", "abra.sh", ".env", "services.", "install_steps.sh"].iter().any(|file| first.contains(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::TaskLog;

    fn failed(place: Place, failure: &Failure) -> FirstFailure {
        let first = First::default();
        first.note(place, failure);
        first.0.into_inner().unwrap().failure.unwrap()
    }

    fn at(tier: TierName, step: &str, is_tested: bool) -> Place {
        Place { tier: Some(tier), step: Some(step.to_owned()), is_tested, ..Place::default() }
    }

    fn unwell(change: impl FnOnce(&mut TaskLog)) -> Unwell {
        let mut task = TaskLog { service: "app".to_owned(), ..TaskLog::default() };
        change(&mut task);
        Unwell { file: "service-app.log".to_owned(), task }
    }

    #[test]
    fn nobody_is_blamed_without_evidence() {
        use TierName::{Custom, Install, Upgrade};
        let recipe = Failure::recipe("it ended");
        let ended = unwell(|task| task.exit_status = Some(1));
        let cases = [
            (at(Install, "deploy", true), &recipe, Some(&ended), Blame::Unknown),
            (at(Install, "deploy", false), &recipe, Some(&ended), Blame::Unknown),
            (at(Upgrade, "upgrade", true), &recipe, Some(&ended), Blame::Recipe),
            (at(Custom, "recipe/custom-a", true), &recipe, None, Blame::Recipe),
            (at(Custom, "recipe/custom-a", true), &recipe, Some(&ended), Blame::Unknown),
            (at(Upgrade, "generic/serving", true), &recipe, None, Blame::Recipe),
            (at(Custom, "operator/custom-a", true), &recipe, None, Blame::Unknown),
            (at(Custom, "generic/serving", true), &recipe, None, Blame::Unknown),
        ];
        for (place, failure, unwell, blamed) in cases {
            let message = format!("{place:?} {unwell:?}");
            assert_eq!(blame(&failed(place, failure), unwell).0, blamed, "{message}");
        }
        let sick = unwell(|task| task.health = Some("503".to_owned()));
        assert_eq!(blame(&failed(at(Install, "deploy", true), &recipe), Some(&sick)).0, Blame::Recipe);
        let crashed = unwell(|task| task.exit_status = Some(139));
        assert_eq!(
            blame(&failed(at(Upgrade, "upgrade", true), &recipe), Some(&crashed)).0,
            Blame::UpstreamImage
        );
        let file = Failure::recipe("compose.yml:3: no such field");
        assert_eq!(blame(&failed(at(Install, "create", true), &file), None).0, Blame::Recipe);
        let registry = Failure::host("no more pulls").with_blame(Blame::Registry);
        assert_eq!(blame(&failed(Place::default(), &registry), None).0, Blame::Registry);
        assert_eq!(blame(&failed(Place::default(), &Failure::host("disk full")), None).0, Blame::Host);
        let hook = Failure::recipe("the backup.pre-hook of the service db failed: exit status 1");
        assert_eq!(blame(&failed(at(TierName::Backup, "backup", true), &hook), None).0, Blame::Recipe);
        let asked = Failure::configuration("there is no such commit");
        assert_eq!(blame(&failed(Place::default(), &asked), None).0, Blame::Unknown);
    }

    #[test]
    fn the_first_failure_counts_with_what_its_test_printed_last() {
        let first = First::default();
        let lines: Vec<String> = (0..100).map(|line| format!("line {line}\n")).collect();
        first.note_line("of the test before\n");
        first.begin_output();
        for line in &lines {
            first.note_line(line);
        }
        first.note_line("\nValueError: 7\n");
        first.note(at(TierName::Custom, "recipe/a", true), &Failure::recipe("exit status 1"));
        first.note(at(TierName::Custom, "recipe/b", true), &Failure::recipe("exit status 2"));
        let failure = first.0.into_inner().unwrap().failure.unwrap();
        assert_eq!(failure.text, "exit status 1");
        let causes = causes(&failure, None);
        assert_eq!((causes.len(), causes.last().unwrap().as_str()), (12, "ValueError: 7"));
    }

    #[test]
    fn what_a_test_prints_is_bounded() {
        let first = First::default();
        for _ in 0..10_000 {
            first.note_line("ä line of a test\n");
        }
        assert!(first.noted().output.as_ref().unwrap().len() <= 2 * OUTPUT);
    }
}
