//! The timeline of a run: bars on one scale, and a table of what is no step.

use jiff::Timestamp;

use super::outcome;
use super::words::line;
use crate::model::record::{RunRecord, Span, SpanKind, Status};
use crate::sys::text::took;

/// So many rows are drawn: the table has all.
const ROWS: usize = 80;

/// How high a row is, and the scale above them.
const ROW: usize = 30;
const TOP: usize = 22;

/// Steps between two marks of the scale, in seconds.
const TICKS: [u32; 14] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

/// So many marks fit onto a phone.
const MARKS: f64 = 5.0;

#[derive(Debug)]
pub(super) struct Timeline {
    pub height: usize,
    pub summary: String,
    pub ticks: Vec<Tick>,
    pub rows: Vec<Row>,
    pub legend: Vec<(&'static str, &'static str)>,
    pub table: Vec<Line>,
}

#[derive(Debug)]
pub(super) struct Tick {
    pub x: String,
    pub label: String,
    pub anchor: &'static str,
}

#[derive(Debug)]
pub(super) struct Row {
    pub y: usize,
    pub bars: Vec<Bar>,
    pub label: String,
    pub label_x: String,
    pub label_y: usize,
    pub anchor: &'static str,
}

#[derive(Debug)]
pub(super) struct Bar {
    pub x: String,
    pub width: String,
    pub class: String,
}

#[derive(Debug)]
pub(super) struct Line {
    pub name: String,
    pub kind: &'static str,
    pub after: String,
    pub took: String,
    pub failed: bool,
}

/// The scale: from the first beginning to the last end.
#[derive(Debug, Clone, Copy)]
struct Scale {
    from: Timestamp,
    seconds: f64,
}

impl Scale {
    fn of(record: &RunRecord) -> Option<Self> {
        let from = record.timeline.iter().map(|span| span.began).min()?;
        let ends = record.timeline.iter().flat_map(|span| [Some(span.began), span.ended]).flatten();
        // Of a run that was killed it is the last that it is known to have done.
        let doing = record.doing.as_ref().map(|doing| doing.since);
        let to = ends.chain(record.finished).chain(doing).max()?;
        Some(Self { from, seconds: seconds(from, to).max(0.001) })
    }

    /// Where a time lies, in per cent; what a record may not say lies at the edge.
    fn place(self, at: Timestamp) -> f64 {
        (seconds(self.from, at) / self.seconds * 100.0).clamp(0.0, 100.0)
    }

    fn bar(self, began: Timestamp, ended: Option<Timestamp>, class: String) -> Bar {
        let (from, to) = (self.place(began), ended.map_or(100.0, |ended| self.place(ended)));
        Bar { x: format!("{from:.2}"), width: format!("{:.2}", (to - from).max(0.15)), class }
    }

    fn ticks(self) -> Vec<Tick> {
        let step = TICKS.iter().copied().map(f64::from).find(|step| self.seconds / step <= MARKS);
        // Of a day and more there are no marks but the first.
        let step = step.unwrap_or(self.seconds);
        let mut ticks = Vec::new();
        let mut at = 0.0;
        while at <= self.seconds && ticks.len() <= 6 {
            let x = at / self.seconds * 100.0;
            let anchor = match x {
                x if x < 1.0 => "start",
                x if x > 95.0 => "end",
                _ => "middle",
            };
            ticks.push(Tick { x: format!("{x:.2}"), label: took(at, 0), anchor });
            at += step;
        }
        ticks
    }
}

impl Timeline {
    /// `None` of a run that kept no times.
    pub fn of(record: &RunRecord) -> Option<Self> {
        let scale = Scale::of(record)?;
        let spans = &record.timeline;
        let rows: Vec<Row> = spans
            .iter()
            .take(ROWS)
            .enumerate()
            .map(|(place, span)| row(record, scale, span, TOP + place * ROW))
            .collect();
        let drawn = rows.len();
        let of_all = if drawn < spans.len() {
            format!("The first {drawn} of {} bars.", spans.len())
        } else {
            String::new()
        };
        let phases = spans.iter().filter(|span| span.kind == SpanKind::Phase);
        let longest = phases.max_by(|one, other| length(scale, one).total_cmp(&length(scale, other)));
        let longest = longest
            .map(|span| format!(" The longest phase is {}, {}.", line(&span.name), lasted(scale, span)));
        let summary = format!(
            "What the run did when, over {}.{} {of_all}",
            took(scale.seconds, 1),
            longest.unwrap_or_default()
        );
        let has = |kind| spans.iter().any(|span| span.kind == kind);
        let mut legend = vec![("", "a phase"), ("passed", "a step that passed"), ("failed", "what failed")];
        legend.extend(has(SpanKind::Work).then_some(("work", "what a phase waits for")));
        legend.extend(has(SpanKind::Task).then_some(("task", "a task of a service")));
        Some(Self {
            height: TOP + drawn * ROW,
            summary: summary.trim_end().to_owned(),
            ticks: scale.ticks(),
            rows,
            legend,
            table: spans.iter().map(|span| table_line(scale, span)).collect(),
        })
    }
}

fn row(record: &RunRecord, scale: Scale, span: &Span, y: usize) -> Row {
    let class = match (span.kind, span.failed) {
        (SpanKind::Phase, false) => "",
        (SpanKind::Phase | SpanKind::Work, true) => "failed",
        (SpanKind::Work, false) => "work",
        (SpanKind::Task, false) => "task",
        (SpanKind::Task, true) => "task failed",
    };
    let mut bars = vec![scale.bar(span.began, span.ended, class.to_owned())];
    if span.kind == SpanKind::Phase {
        bars.extend(steps(record, scale, span));
    }
    // Above the beginning, or the end of what begins late: the label stays on the page.
    let (from, to) = (scale.place(span.began), span.ended.map_or(100.0, |ended| scale.place(ended)));
    let (at, anchor) = if from <= 50.0 { (from, "start") } else { (to, "end") };
    let label = format!("{} {}", line(&span.name), lasted(scale, span));
    Row { y: y + 15, bars, label, label_x: format!("{at:.2}"), label_y: y + 11, anchor }
}

/// The steps of the tier that a phase is.
fn steps<'r>(record: &'r RunRecord, scale: Scale, phase: &'r Span) -> impl Iterator<Item = Bar> + 'r {
    let is_within = |at: Timestamp| at >= phase.began && phase.ended.is_none_or(|end| at < end);
    let steps = record.tiers.iter().flat_map(|tier| &tier.steps);
    steps.filter_map(move |step| {
        let began = step.started.filter(|began| is_within(*began))?;
        let length = jiff::SignedDuration::try_from_secs_f64(step.seconds).ok()?;
        let class = match step.status {
            Status::Passed | Status::Failed => outcome::of_status(step.status).class,
            Status::Skipped | Status::NotRun => "",
        };
        Some(scale.bar(began, began.checked_add(length).ok(), class.to_owned()))
    })
}

fn table_line(scale: Scale, span: &Span) -> Line {
    let kind = match span.kind {
        SpanKind::Phase => "phase",
        SpanKind::Work => "work",
        SpanKind::Task => "task",
    };
    Line {
        name: line(&span.name),
        kind,
        after: took(seconds(scale.from, span.began), 1),
        took: lasted(scale, span),
        failed: span.failed,
    }
}

/// How long something took, in words; of what has no end, nobody knows.
fn lasted(scale: Scale, span: &Span) -> String {
    span.ended.map_or_else(|| "?".to_owned(), |_| took(length(scale, span), 1))
}

/// How long something took; what goes on lasts until the end of the scale.
fn length(scale: Scale, span: &Span) -> f64 {
    match span.ended {
        Some(ended) => seconds(span.began, ended).max(0.0),
        None => (scale.seconds - seconds(scale.from, span.began)).max(0.0),
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}
