//! A terminal that never blocks: what is drawn goes the way of all other output.

use std::fmt::Write as _;
use std::io;
use std::sync::{Mutex, PoisonError};

use cc_ci_core::output::QueuedWriter;
use console::Term;
use indicatif::TermLike;

/// A terminal behind a queue. One drawing is one piece of it.
#[derive(Debug)]
pub struct Screen {
    err: QueuedWriter,
    term: Term,
    drawing: Mutex<String>,
}

impl Screen {
    pub fn new(err: QueuedWriter) -> Self {
        Self { err, term: Term::stderr(), drawing: Mutex::default() }
    }

    fn draw(&self, part: std::fmt::Arguments<'_>) -> io::Result<()> {
        let mut drawing = self.drawing.lock().unwrap_or_else(PoisonError::into_inner);
        drawing.write_fmt(part).map_err(io::Error::other)
    }

    fn move_by(&self, count: usize, direction: char) -> io::Result<()> {
        // A count of zero would be read as one.
        if count == 0 { Ok(()) } else { self.draw(format_args!("\x1b[{count}{direction}")) }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.term.size().1
    }

    fn height(&self) -> u16 {
        self.term.size().0
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        self.move_by(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        self.move_by(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        self.move_by(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        self.move_by(count, 'D')
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.draw(format_args!("{line}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(format_args!("{text}"))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw(format_args!("\r\x1b[2K"))
    }

    fn flush(&self) -> io::Result<()> {
        let drawing = std::mem::take(&mut *self.drawing.lock().unwrap_or_else(PoisonError::into_inner));
        if !drawing.is_empty() {
            self.err.write(drawing);
        }
        Ok(())
    }
}
