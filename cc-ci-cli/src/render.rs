//! Events and results as people read them. This text is not stable; JSON is.

pub mod past;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use cc_ci_core::engine::{Kind, Resource};
use cc_ci_core::event::Event;
use cc_ci_core::janitor::Report;
use cc_ci_core::lock::{Holder, LockView};
use cc_ci_core::names::RecipeName;
use cc_ci_core::run::{Lane, Level, Outcome, RunRecord, Status as TierStatus, Tier, Verdict, WarmEnd};
use jiff::Timestamp;
use owo_colors::Style;

#[cfg(feature = "demo")]
use crate::commands::demo::Claim;
use crate::commands::status::Status;
use crate::shown::{Shown, indent};

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What is not as it should be.
    Little,
    Usual,
    All,
}

/// One event, as lines with their line feeds. `None` for what is not worth one.
pub fn event(event: &Event, detail: Detail) -> Option<String> {
    if detail == Detail::Little && !matches!(event, Event::Warning { .. } | Event::Cancelled { .. }) {
        return None;
    }
    Some(match event {
        Event::RunStarted { run_id, recipe, domain, executor, recipe_code } => {
            // Only what is not as it should be is worth the space.
            let recipe_code = match recipe_code.as_str() {
                "confined" => String::new(),
                unconfined => format!("; the recipe's code is {unconfined}"),
            };
            format!("== run {run_id}: {recipe} at {domain}, executor {executor}{recipe_code} ==\n")
        }
        Event::LockWaiting { domain, .. } => format!("== app lock: {domain} in flight — waiting ==\n"),
        Event::LockHolder { holder, queue, .. } => {
            let holder = holder.as_ref().map_or_else(|| "holder unknown".to_owned(), holder_text);
            format!("   held by {holder}; at least {queue} waiting\n")
        }
        Event::LockAcquired { waited, .. } => {
            format!("== app lock: acquired == (waited {})\n", seconds(*waited))
        }
        Event::AdmissionWaiting { what, holders, .. } => {
            let holders = holders.iter().map(|holder| format!("   held by {}\n", holder_text(holder)));
            format!("== admission: {} — waiting ==\n{}", indent(what), holders.collect::<String>())
        }
        Event::Admitted { waited } => format!("== admission: admitted == (waited {})\n", seconds(*waited)),
        Event::Phase { phase, .. } => format!("-- {phase}\n"),
        Event::StepStarted { name, .. } if detail == Detail::All => format!("   begins  {}\n", indent(name)),
        Event::Step { name, status, detail, took, .. } => {
            let detail = detail.as_ref().map(|detail| format!(": {}", indent(detail))).unwrap_or_default();
            format!("   {status:<7} {} ({}){detail}\n", indent(name), seconds(*took))
        }
        Event::Converging { domain, up, of, lagging, .. } if detail == Detail::All => {
            let lagging =
                lagging.iter().map(|lag| format!("\n      {}: {}", lag.service, indent(&lag.state)));
            format!("   {up} of {of} services of {domain} are up{}\n", lagging.collect::<String>())
        }
        Event::Kept { run_id, until, look, .. } => {
            let look: Vec<String> = look.iter().map(|look| indent(look)).collect();
            format!(
                "== red; kept until {until:.0}; look with: {}; end it with `cc-ci cancel {run_id}` ==\n",
                look.join(", ")
            )
        }
        Event::Sweep { done, of: Some(of) } if detail == Detail::All => {
            format!("   {done} of {of} domains are looked after\n")
        }
        Event::ChildrenEnded { groups, escaped, left, .. } if detail == Detail::All => {
            let left = if left.is_empty() { String::new() } else { format!("; still there: pids {left:?}") };
            format!("   ended: process groups {groups}, processes that had left theirs {escaped}{left}\n")
        }
        Event::Note { text } => format!("   {}\n", indent(text)),
        Event::Warning { text } => format!("warning: {}\n", indent(text)),
        Event::Cancelled { cause } => format!("== ended by {cause}: tearing down ==\n"),
        Event::SignalSwallowed { signal } => {
            format!("   {signal} came during teardown, which goes on; it has its own bound\n")
        }
        Event::Output { of, text } if text.trim().is_empty() => {
            format!("   {} printed nothing\n", indent(of))
        }
        Event::Output { of, text } => {
            format!("   the end of the output of {}:\n      {}\n", indent(of), indent(text.trim_end()))
        }
        _ => return None,
    })
}

/// All names of what was removed, each in a line.
pub fn removed(removed: &[Resource]) -> String {
    let line = |resource: &Resource| format!("    removed {}\n", indent(&resource.to_string()));
    removed.iter().map(line).collect()
}

/// What a process does, for whoever asked it.
pub fn answer(line: Option<String>, children: &[String]) -> String {
    let children = if children.is_empty() { "no child runs".to_owned() } else { children.join("; ") };
    let parts: Vec<String> = line.into_iter().chain([children]).collect();
    format!("   {}\n", indent(&parts.join("; ")))
}

/// The summary of a run, whose `page` is in its directory.
pub fn run(record: &RunRecord, page: Option<&std::path::Path>, colour: bool) -> Shown {
    let mut text = String::new();
    let style = match record.verdict {
        Some(Verdict::Green) => Style::new().green(),
        Some(Verdict::Red | Verdict::Residue) => Style::new().red(),
        _ => Style::new().yellow(),
    };
    let mut shown = Shown::default();
    shown.paint(Verdict::word(record.verdict), colour.then(|| style.bold()));
    let commit: String = record.commit.as_deref().unwrap_or("no commit").chars().take(10).collect();
    // Writing to a string can't fail.
    let _ = writeln!(text, ": run {} of {} ({commit}) at {}", record.run_id, record.recipe, record.domain);
    let labels: Vec<String> = record.tiers.iter().map(Tier::label).collect();
    let width = labels.iter().map(String::len).max().unwrap_or_default().max(8);
    for (tier, label) in record.tiers.iter().zip(labels) {
        let version = tier.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        let reason = tier.reason.as_ref().map(|reason| format!(": {}", indent(reason))).unwrap_or_default();
        let time =
            if tier.status == TierStatus::NotRun { String::new() } else { format!(" {:.1}s", tier.seconds) };
        let _ = writeln!(text, "  {label:<width$} {:<8}{version}{time}{reason}", tier.status.as_str());
    }
    if let Some(level) = Level::of(record) {
        let next = level.next().map(|rule| {
            let why = rule.why.as_ref().map(|why| format!(": {}", indent(why))).unwrap_or_default();
            format!("; next: {}{why}", rule.name)
        });
        let _ = writeln!(text, "  level {level}{}", next.unwrap_or_default());
    }
    if record.lane == Lane::Quick {
        text.push_str(
            "  quick lane: lower confidence: nothing was installed, backed up or restored; the app was a warm one\n",
        );
    }
    if record.lock_waited_seconds >= 0.1 {
        let _ = writeln!(text, "  waited {:.1}s before it began", record.lock_waited_seconds);
    }
    if let Some(kept) = &record.kept {
        let _ = writeln!(text, "  kept up for a look: {}", kept.in_words());
    }
    if record.deploy_count > 0 {
        let _ = writeln!(text, "  deploy-count {}", record.deploy_count);
    }
    if let Some(receipt) = &record.receipt {
        if !receipt.recovered.is_empty() {
            let _ =
                writeln!(text, "  recovered: a dead run had left {}", Resource::counts(&receipt.recovered));
        }
        let what = if record.lane.is_warm() { "rollback" } else { "receipt" };
        let _ = writeln!(text, "  {what}: {}", receipt.in_words(record.lane, record.owned));
        for failure in &receipt.failures {
            let _ = writeln!(text, "  teardown: {}", indent(failure));
        }
    }
    for error in &record.errors {
        let _ = writeln!(text, "  error: {}", indent(error));
    }
    // A run that goes on has none yet, nor has one that died; older ones have none at all.
    if let Some(page) = page {
        let _ = writeln!(text, "  report: {}", page.display());
    }
    if let Some(doing) = record.doing.as_ref().filter(|_| record.verdict.is_none()) {
        let _ = writeln!(text, "  doing: {}, since {:.0}", indent(&doing.to_string()), doing.since);
    }
    if let Some(digest) = &record.digest {
        text.push_str(&past::digest(digest));
    }
    shown.push(&text);
    shown
}

/// What became of the warm apps.
pub fn warm(ends: &[WarmEnd], detail: Detail) -> String {
    let mut text = String::new();
    for end in ends {
        let name = end.domain.as_ref().map_or_else(|| end.recipe.to_string(), ToString::to_string);
        let version = end.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        let outcome = match end.outcome {
            Outcome::AtBaseline => "as it should be",
            Outcome::Restored => "restored",
            Outcome::Deployed => "deployed",
            Outcome::WouldRestore => "would be restored",
            Outcome::LooksAtBaseline => "looks as it should be",
            Outcome::NotReached => "not reached",
            _ => "could not be restored",
        };
        let reasons = if end.reasons.is_empty() {
            String::new()
        } else {
            format!(": {}", indent(&end.reasons.join("; ")))
        };
        let _ = writeln!(text, "{name} ({}{version}): {outcome}{reasons}", end.recipe);
        if !end.removed.is_empty() {
            let _ = writeln!(text, "  removed what a dead run had added: {}", Resource::brief(&end.removed));
            if detail == Detail::All {
                text.push_str(&removed(&end.removed));
            }
        }
        for error in &end.errors {
            let _ = writeln!(text, "  error: {}", indent(error));
        }
        if let Some(hint) = &end.hint {
            let _ = writeln!(text, "  hint: {}", indent(hint));
        }
    }
    text
}

/// What a janitor's pass found.
pub fn janitor(report: &Report, detail: Detail) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let _ = writeln!(text, "{}", indent(&finding.to_string()));
        if let Some(holder) = &finding.holder {
            let _ = writeln!(text, "   held by {}", holder_text(holder));
        }
        if detail == Detail::All {
            text.push_str(&removed(&finding.removed));
        }
    }
    if report.findings.is_empty() {
        text.push_str("nothing to do: no run app leaves a trace\n");
    }
    if !report.images.is_empty() {
        let images = match report.images.len() {
            1 => "1 image".to_owned(),
            count => format!("{count} images"),
        };
        let _ = writeln!(
            text,
            "removed {images} that runs had pulled and nobody uses: {}",
            report.images.join(", ")
        );
    }
    text
}

/// The locks of a host.
pub fn locks(views: &[LockView], now: std::time::SystemTime) -> String {
    let mut text = String::new();
    for view in views {
        if !view.held {
            let _ = writeln!(text, "{}: free", view.domain);
            continue;
        }
        let holder = view.holder.as_ref().map_or_else(|| "holder unknown".to_owned(), holder_text);
        let age = view.since.and_then(|since| now.duration_since(since.into()).ok());
        let age = age.map(|age| format!(", for {}", seconds(age))).unwrap_or_default();
        let _ = writeln!(text, "{}: held by {holder}{age}; at least {} waiting", view.domain, view.waiting);
    }
    if views.is_empty() {
        text.push_str("no app has a lock file\n");
    }
    text
}

/// What goes on here.
pub fn status(status: &Status) -> String {
    let mut text = format!("engine: {}\n", status.engine);
    let age = |since: Option<Timestamp>| {
        let age = since.and_then(|since| Duration::try_from(status.at.duration_since(since)).ok());
        age.map(|age| format!(", for {}", humantime::format_duration(Duration::from_secs(age.as_secs()))))
            .unwrap_or_default()
    };
    let of =
        |recipe: &Option<RecipeName>| recipe.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
    if !status.live.is_empty() {
        text.push_str("live:\n");
    }
    for live in &status.live {
        let who = match (&live.run_id, &live.phase) {
            (Some(id), _) => format!("run {id}{}", of(&live.recipe)),
            (None, Some(_)) => "no run".to_owned(),
            (None, None) => "a holder that says nothing of itself".to_owned(),
        };
        let phase = live.phase.as_ref().map(|phase| format!(", {phase}")).unwrap_or_default();
        let pid = live.holder.map_or_else(|| ", pid unknown".to_owned(), |pid| format!(", pid {pid}"));
        let queue =
            if live.waiting > 0 { format!("; at least {} waiting", live.waiting) } else { String::new() };
        let exists = if live.warm { "a warm app".to_owned() } else { counts(&live.exists) };
        let _ = writeln!(text, "  {}: {who}{phase}{pid}{}: {exists}{queue}", live.domain, age(live.since));
    }
    if !status.waiting.is_empty() {
        text.push_str("waiting:\n");
    }
    for run in &status.waiting {
        let what = run.domain.as_ref().map_or_else(
            || "has not asked for its lock yet".to_owned(),
            |domain| format!("awaits the lock of {domain}"),
        );
        let _ = writeln!(
            text,
            "  run {}{} {what}, pid {}{}",
            run.run_id,
            of(&run.recipe),
            run.pid,
            age(run.since)
        );
    }
    if !status.left.is_empty() {
        text.push_str("left behind:\n");
    }
    for left in &status.left {
        let by: Vec<String> = left.by.iter().map(|id| format!("run {id}")).collect();
        let by = if by.is_empty() { "nobody known".to_owned() } else { by.join(", ") };
        let quarantine =
            left.quarantine.as_ref().map(|record| format!("\n     {}", indent(&record.in_words())));
        let exists = counts(&left.exists);
        let _ = writeln!(text, "  {}: by {by}: {exists}{}", left.domain, quarantine.unwrap_or_default());
    }
    if !status.warm.is_empty() {
        text.push_str("warm apps that a run ended on before it had restored them:\n");
    }
    for warm in &status.warm {
        let by: Vec<String> = warm.by.iter().map(|id| format!("run {id}")).collect();
        let _ =
            writeln!(text, "  {}: by {}: cc-ci warm reconcile {}", warm.domain, by.join(", "), warm.domain);
    }
    if status.live.is_empty() && status.waiting.is_empty() && status.left.is_empty() && status.warm.is_empty()
    {
        text.push_str("nothing goes on: no live run, nobody waits, nothing is left behind\n");
    }
    text
}

/// The same as a screen of its own: what would be told beside it stands in it.
pub fn watched(status: &Status) -> String {
    let warnings = status.warnings.iter().map(|warning| format!("warning: {}\n", indent(warning)));
    format!("{:.0}, again each 2 s\n\n{}{}", status.at, self::status(status), warnings.collect::<String>())
}

fn counts(exists: &BTreeMap<Kind, usize>) -> String {
    if exists.is_empty() {
        return "nothing yet".to_owned();
    }
    exists.iter().map(|(kind, count)| kind.counted(*count)).collect::<Vec<_>>().join(", ")
}

/// One claim of the demo, as it is tested.
#[cfg(feature = "demo")]
pub fn claim(claim: &Claim, colour: bool) -> Shown {
    let (word, style) = if claim.holds { ("ok", Style::new().green()) } else { ("FAIL", Style::new().red()) };
    let padded = format!("{word:<4}");
    let mut shown = Shown::default();
    shown.paint(&padded, colour.then(|| style.bold()));
    shown.push(&format!(" {}: {}\n", claim.claim, indent(&claim.detail)));
    shown
}

/// The last line of the demo.
#[cfg(feature = "demo")]
pub fn demo_end(claims: &[Claim], took: Duration) -> String {
    let failed = claims.iter().filter(|claim| !claim.holds).count();
    match failed {
        0 => format!("all {} claims hold ({})\n", claims.len(), seconds(took)),
        failed => format!("{failed} of {} claims failed ({})\n", claims.len(), seconds(took)),
    }
}

pub fn holder_text(holder: &Holder) -> String {
    let mut text = format!("pid {}", holder.pid);
    if let Some(description) = &holder.description {
        if let Some(run_id) = &description.run_id {
            let _ = write!(text, ", run {run_id}");
        }
        if let Some(recipe) = &description.recipe {
            let _ = write!(text, " of {recipe}");
        }
        let _ = write!(text, ", {}", description.phase);
    }
    if let Some(since) = holder.since {
        let _ = write!(text, ", since {since:.0}");
    }
    text
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}
