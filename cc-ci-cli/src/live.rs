//! What goes on, shown while it does: redrawn on a terminal, in a log told when nothing else was for a while.

mod progress;
mod screen;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cc_ci_core::event::Event;
use cc_ci_core::output::QueuedWriter;
use cc_ci_core::sys::text::sanitize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub use progress::Progress;
use screen::Screen;

/// How often what is shown grows older.
const TICK: Duration = Duration::from_secs(1);

/// So long a log may say nothing.
const SILENCE: Duration = Duration::from_secs(15);

/// It only waits, and writes lines: where memory is scarce, it costs little.
const STACK: usize = 256 << 10;

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Not at all, unless somebody asks.
    Silent,
    /// As lines among the others.
    Log,
    /// Below them, redrawn.
    Screen,
}

/// What goes on. Clones share it.
#[derive(Debug, Clone)]
pub struct Live {
    err: QueuedWriter,
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    progress: Progress,
    /// Where it is shown as it goes on.
    shown: Option<Showing>,
}

#[derive(Debug)]
struct Showing {
    bar: Option<ProgressBar>,
    /// When a line was told last.
    told: Instant,
    silence: Duration,
}

impl Live {
    /// Nothing goes on yet. What is shown is written to `err`.
    pub fn new(err: QueuedWriter) -> Self {
        Self { err, inner: Arc::default() }
    }

    /// Shows what goes on until what is given back is dropped.
    pub fn show(&self, manner: Manner) -> Shows {
        self.show_at(manner, TICK, SILENCE)
    }

    fn show_at(&self, manner: Manner, tick: Duration, silence: Duration) -> Shows {
        let bar = match manner {
            Manner::Silent => return Shows(None),
            Manner::Log => None,
            Manner::Screen => Some(bar(Screen::new(self.err.clone()))),
        };
        self.state().shown = Some(Showing { bar, told: Instant::now(), silence });
        let live = self.clone();
        let thread = thread::Builder::new().name("cc-ci-live".into()).stack_size(STACK);
        match thread.spawn(move || live.keep_up(tick)) {
            Ok(thread) => Shows(Some((self.clone(), thread))),
            Err(error) => {
                tracing::warn!(%error, "nobody shows what goes on");
                self.end();
                Shows(None)
            }
        }
    }

    /// Takes what happened.
    pub fn note(&self, event: &Event) {
        let (mut state, now) = (self.state(), Instant::now());
        state.progress.note(event, now);
        state.draw(now);
    }

    /// What goes on, in one line, where anybody has told.
    pub fn line(&self) -> Option<String> {
        self.state().progress.line(Instant::now())
    }

    /// Has `write` write lines that stay.
    pub fn beside(&self, write: impl FnOnce()) {
        let mut state = self.state();
        let Some(shown) = &mut state.shown else { return write() };
        shown.told = Instant::now();
        match &shown.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn keep_up(&self, tick: Duration) {
        let mut state = self.state();
        while state.shown.is_some() {
            let waited = self.inner.ended.wait_timeout(state, tick);
            state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
            let lines = state.lines(Instant::now());
            if !lines.is_empty() {
                drop(state);
                self.beside(|| self.err.write(sanitize(&lines)));
                state = self.state();
            }
            state.draw(Instant::now());
        }
    }

    fn end(&self) {
        if let Some(bar) = self.state().shown.take().and_then(|shown| shown.bar) {
            bar.finish_and_clear();
        }
        self.inner.ended.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What has to be told now.
    fn lines(&mut self, now: Instant) -> String {
        let Some(shown) = &self.shown else { return String::new() };
        let is_due = shown.bar.is_none() && now.saturating_duration_since(shown.told) >= shown.silence;
        let slow = self.progress.slow(now);
        let line = is_due.then(|| self.progress.dated_line(now)).flatten();
        let indented = |line: String| format!("   {line}\n");
        slow.into_iter().chain(line).map(indented).collect()
    }

    fn draw(&self, now: Instant) {
        if let Some(bar) = self.shown.as_ref().and_then(|shown| shown.bar.as_ref()) {
            bar.set_message(sanitize(&self.progress.panel(now)));
        }
    }
}

fn bar(screen: Screen) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::term_like(Box::new(screen)));
    match ProgressStyle::with_template("{msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Shows what goes on until it is dropped.
#[must_use = "what goes on is shown until this is dropped"]
#[derive(Debug)]
pub struct Shows(Option<(Live, JoinHandle<()>)>);

impl Drop for Shows {
    fn drop(&mut self) {
        let Some((live, thread)) = self.0.take() else { return };
        live.end();
        // It waits for nothing but its next turn. A panic is told by the hook.
        let _panicked = thread.join().is_err();
    }
}

/// How it is shown to whoever reads stderr.
pub fn manner() -> Manner {
    use io::IsTerminal as _;
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if io::stderr().is_terminal() && !is_dumb { Manner::Screen } else { Manner::Log }
}

#[cfg(test)]
mod tests;
