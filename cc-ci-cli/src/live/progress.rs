//! What goes on, as events tell it. It knows no clock: each question names the time.

use std::time::{Duration, Instant};

use cc_ci_core::event::{Event, Lagging};
use cc_ci_core::sys::text::sanitize_line;

use crate::render::holder_text;

/// So long a step or phase takes before it is called slow; then after twice as long, and so on.
const SLOW: Duration = Duration::from_mins(1);

/// So many tiers that are over are shown.
const SHOWN_TIERS: usize = 12;

/// One thing that goes on.
#[derive(Debug)]
struct Span {
    name: String,
    since: Instant,
    limit: Option<Duration>,
}

impl Span {
    fn new(name: &str, since: Instant, limit: Option<Duration>) -> Self {
        // Recipes name their tests: a line feed in one begins no line of ours.
        Self { name: sanitize_line(name), since, limit }
    }

    /// For how long it has gone on, and of how much.
    fn age(&self, now: Instant) -> String {
        let age = whole_seconds(now.saturating_duration_since(self.since));
        match self.limit {
            Some(limit) => format!("{age} of {}", rounded(limit)),
            None => age,
        }
    }

    fn text(&self, now: Instant) -> String {
        format!("{} {}", self.name, self.age(now))
    }
}

/// The services of an app that comes up.
#[derive(Debug)]
struct Services {
    wait: Span,
    up: usize,
    of: usize,
    lagging: Vec<Lagging>,
}

impl Services {
    fn text(&self, now: Instant) -> String {
        format!("{} of {} services up after {}", self.up, self.of, self.wait.age(now))
    }

    fn each(&self) -> impl Iterator<Item = String> {
        let rest = self.of.saturating_sub(self.up + self.lagging.len());
        let line = |Lagging { service, state }: &Lagging| sanitize_line(&format!("{service}: {state}"));
        let lagging = self.lagging.iter().map(line);
        lagging.chain((rest > 0).then(|| format!("{rest} more")))
    }
}

/// The wait for a lock.
#[derive(Debug)]
struct LockWait {
    wait: Span,
    holder: Option<String>,
}

/// What a command does now, and what it has done.
#[derive(Debug, Default)]
pub struct Progress {
    run: Option<Span>,
    /// The tiers that are over: how each ended.
    tiers: Vec<String>,
    phase: Option<Span>,
    /// Of the phase: how many of its steps ended, and whether one failed.
    ended: usize,
    failed: bool,
    step: Option<Span>,
    services: Option<Services>,
    lock: Option<LockWait>,
    /// How often what goes on was called slow.
    called_slow: u32,
}

impl Progress {
    /// Takes what happened at `now`.
    pub fn note(&mut self, event: &Event, now: Instant) {
        match event {
            Event::RunStarted { run_id, recipe, .. } => {
                *self = Self::default();
                self.run = Some(Span::new(&format!("run {run_id} of {recipe}"), now, None));
            }
            Event::Phase { phase, limit } => {
                self.end_phase(now);
                self.phase = Some(Span::new(phase, now, *limit));
            }
            Event::StepStarted { name, limit, .. } => {
                (self.step, self.services, self.called_slow) = (Some(Span::new(name, now, *limit)), None, 0);
            }
            Event::Step { status, .. } => {
                (self.step, self.services, self.called_slow) = (None, None, 0);
                self.ended += 1;
                self.failed |= status == "failed";
            }
            Event::Converging { domain, limit, up, of, lagging } => {
                let goes_on = self.services.take().filter(|services| services.up < services.of);
                let wait = goes_on.map(|services| services.wait).filter(|wait| wait.name == domain.as_str());
                let wait = wait.unwrap_or_else(|| Span::new(domain.as_str(), now, Some(*limit)));
                self.services = Some(Services { wait, up: *up, of: *of, lagging: lagging.clone() });
            }
            Event::LockWaiting { domain, limit } => {
                let wait = Span::new(&format!("waits for the lock of {domain}"), now, *limit);
                self.lock = Some(LockWait { wait, holder: Some("holder unknown".to_owned()) });
            }
            Event::LockHolder { holder, .. } => {
                if let (Some(lock), Some(holder)) = (&mut self.lock, holder) {
                    lock.holder = Some(sanitize_line(&format!("held by {}", holder_text(holder))));
                }
            }
            Event::AdmissionWaiting { what, holders, limit } => {
                let holders: Vec<String> = holders.iter().map(holder_text).collect();
                let holder = match holders.as_slice() {
                    // Room on a disk has no holder, and a place may be somebody's who comes before.
                    [] => None,
                    holders => Some(sanitize_line(&format!("held by {}", holders.join("; ")))),
                };
                let since = self.lock.take().map_or(now, |lock| lock.wait.since);
                self.lock = Some(LockWait {
                    wait: Span::new(&format!("waits for {what}"), since, Some(*limit)),
                    holder,
                });
            }
            Event::LockAcquired { .. } | Event::Admitted { .. } => self.lock = None,
            Event::Sweep { done, of } => {
                let text = of.map_or_else(
                    || "looks what is there".to_owned(),
                    |of| format!("{done} of {of} domains looked after,"),
                );
                let goes_on = *of != Some(*done);
                (self.step, self.called_slow) = (goes_on.then(|| Span::new(&text, now, None)), 0);
            }
            _ => {}
        }
    }

    fn end_phase(&mut self, now: Instant) {
        if let Some(phase) = self.phase.take().filter(|_| self.ended > 0) {
            let end = if self.failed { "failed" } else { "passed" };
            let age = whole_seconds(now.saturating_duration_since(phase.since));
            self.tiers.push(format!("{} {end} {age}", phase.name));
        }
        (self.ended, self.failed, self.called_slow) = (0, false, 0);
        (self.step, self.services, self.lock) = (None, None, None);
    }

    /// What goes on, in one line; `None` where nobody has told.
    pub fn line(&self, now: Instant) -> Option<String> {
        let spans = [&self.phase, &self.step].into_iter().flatten();
        let mut parts: Vec<String> = spans.map(|span| span.text(now)).collect();
        if let Some(LockWait { wait, holder }) = &self.lock {
            parts.push(wait.text(now));
            parts.extend(holder.clone());
        }
        if let Some(services) = &self.services {
            let each: Vec<String> = services.each().collect();
            let each = if each.is_empty() { String::new() } else { format!(": {}", each.join(", ")) };
            parts.push(services.text(now) + &each);
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// The same with the age of the run before it.
    pub fn dated_line(&self, now: Instant) -> Option<String> {
        let age = self.run.as_ref().map(|run| format!("[{}] ", run.age(now))).unwrap_or_default();
        self.line(now).map(|line| age + &line)
    }

    /// The same in lines, with what is over.
    pub fn panel(&self, now: Instant) -> String {
        let mut lines = Vec::new();
        if let Some(run) = &self.run {
            let hidden = self.tiers.len().saturating_sub(SHOWN_TIERS);
            let over = self.tiers[hidden..].join(", ");
            let over = if over.is_empty() { over } else { format!(": {over}") };
            lines.push(run.text(now) + &over);
        }
        lines.extend(self.phase.as_ref().map(|phase| format!("  {}", phase.text(now))));
        lines.extend(self.step.as_ref().map(|step| format!("    {}", step.text(now))));
        if let Some(LockWait { wait, holder }) = &self.lock {
            lines.push(format!("    {}", wait.text(now)));
            lines.extend(holder.as_ref().map(|holder| format!("    {holder}")));
        }
        if let Some(services) = &self.services {
            lines.push(format!("    {}", services.text(now)));
            lines.extend(services.each().map(|service| format!("      {service}")));
        }
        lines.join("\n")
    }

    /// Says once that what goes on is slow, and once more each time that it took twice as long.
    pub fn slow(&mut self, now: Instant) -> Option<String> {
        // Who waits for a lock is not slow: the other one is. A phase of many steps is as long as they are many.
        let alone = self.phase.as_ref().filter(|_| self.ended == 0);
        let span = self.step.as_ref().or(alone).filter(|_| self.lock.is_none())?;
        let threshold = 2_u32.checked_pow(self.called_slow).and_then(|times| SLOW.checked_mul(times))?;
        if now.saturating_duration_since(span.since) < threshold {
            return None;
        }
        self.called_slow += 1;
        let name = match &self.phase {
            Some(phase) if self.step.is_some() => format!("{}: {}", phase.name, span.name),
            _ => span.name.clone(),
        };
        let limit = span.limit.or_else(|| self.services.as_ref()?.wait.limit);
        let end = limit.map(|limit| format!("; it is ended after {}", rounded(limit)));
        Some(format!("SLOW [> {}] {name}{}", whole_seconds(threshold), end.unwrap_or_default()))
    }
}

/// A limit is what is left of a longer one, at times.
fn rounded(limit: Duration) -> String {
    whole_seconds(limit.saturating_add(Duration::from_millis(500)))
}

fn whole_seconds(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
