//! A child's output, by lines and bounded: what comes from a recipe must not fill our memory.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use tokio::net::unix::pipe::Receiver;

/// Which of a child's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of output, without its end. Bytes that are no UTF-8 are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it came from.
    pub stream: Stream,
    /// The text, cut at [`Line::MAX`] bytes or what the command asked for.
    pub text: String,
}

impl Line {
    /// Longer lines are cut here, unless the command asked for more.
    pub const MAX: usize = 16 * 1024;
}

/// The lines of both streams.
#[derive(Debug, Default)]
pub(super) struct Lines {
    stdout: Option<Pipe>,
    stderr: Option<Pipe>,
    queue: Queue,
}

/// What is read and not told yet.
#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<Line>,
    /// Bytes that may still be told.
    left: usize,
    dropped: usize,
    /// Where a line is cut.
    line_limit: usize,
}

/// One stream, and its unfinished line.
#[derive(Debug)]
struct Pipe {
    stream: Stream,
    receiver: Receiver,
    partial: Vec<u8>,
}

impl Lines {
    /// Needs a runtime with I/O, and at most `limit` bytes of memory and the reader's patience.
    pub(super) fn new(
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
        limit: usize,
        line_limit: usize,
    ) -> io::Result<Self> {
        let pipe = |stream, fd: Option<OwnedFd>| {
            fd.map(|fd| {
                Ok::<_, io::Error>(Pipe {
                    stream,
                    receiver: Receiver::from_owned_fd(fd)?,
                    partial: Vec::new(),
                })
            })
            .transpose()
        };
        Ok(Self {
            stdout: pipe(Stream::Stdout, stdout)?,
            stderr: pipe(Stream::Stderr, stderr)?,
            queue: Queue { left: limit, line_limit, ..Queue::default() },
        })
    }

    /// The next line, `None` when both streams are closed. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.queue.ready.pop_front() {
                return Some(line);
            }
            let pipe = match (&self.stdout, &self.stderr) {
                (None, None) => return self.said_last(),
                (Some(_), None) => &mut self.stdout,
                (None, Some(_)) => &mut self.stderr,
                (Some(out), Some(err)) => {
                    tokio::select! {
                        _ = out.receiver.readable() => &mut self.stdout,
                        _ = err.receiver.readable() => &mut self.stderr,
                    }
                }
            };
            if let Some(open) = pipe {
                let mut buffer = [0; 8192];
                // Not `read`: data that was taken must not be lost with a dropped future.
                let _error = open.receiver.readable().await.is_err();
                match open.receiver.try_read(&mut buffer) {
                    Ok(0) => close(pipe, &mut self.queue),
                    Ok(n) => open.take(&buffer[..n], &mut self.queue),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => close(pipe, &mut self.queue),
                }
            }
        }
    }

    /// The next of the lines that are in the pipes now, without waiting; `None` when there is nothing more.
    /// For a child that has ended: who still holds its pipes is not its group.
    pub(super) fn rest(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.queue.ready.pop_front() {
                return Some(line);
            }
            let pipe = if self.stdout.is_some() { &mut self.stdout } else { &mut self.stderr };
            let Some(open) = pipe else { return self.said_last() };
            let mut buffer = [0; 8192];
            // Past the runtime: its readiness may be older than the last write.
            match nix::unistd::read(open.receiver.as_fd(), &mut buffer) {
                Ok(n) if n > 0 && self.queue.left > 0 => {
                    open.take(&buffer[..n], &mut self.queue);
                }
                Err(Errno::EINTR) => {}
                // The end, nothing there, or more than anybody wants from one who escaped and writes on.
                _ => close(pipe, &mut self.queue),
            }
        }
    }

    /// The next of the lines that are in the pipes now, without waiting; more may come. It reads once, whoever writes on.
    pub(super) fn now(&mut self) -> Option<Line> {
        if self.queue.ready.is_empty() {
            for pipe in [&mut self.stdout, &mut self.stderr] {
                let Some(open) = pipe else { continue };
                let mut buffer = [0; 8192];
                // Past the runtime, as above.
                match nix::unistd::read(open.receiver.as_fd(), &mut buffer) {
                    Ok(0) => close(pipe, &mut self.queue),
                    Ok(n) => open.take(&buffer[..n], &mut self.queue),
                    // Nothing there; another error is there again at the next look.
                    Err(_) => {}
                }
            }
        }
        self.queue.ready.pop_front()
    }

    /// Once, at the end: how much was dropped.
    fn said_last(&mut self) -> Option<Line> {
        let dropped = std::mem::take(&mut self.queue.dropped);
        (dropped > 0).then(|| Line {
            stream: Stream::Stderr,
            text: format!("({dropped} more lines were dropped: too much output)"),
        })
    }
}

fn close(pipe: &mut Option<Pipe>, queue: &mut Queue) {
    if let Some(mut open) = pipe.take()
        && !open.partial.is_empty()
    {
        open.finish(queue);
    }
}

impl Pipe {
    fn take(&mut self, bytes: &[u8], queue: &mut Queue) {
        let mut parts = bytes.split(|&byte| byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let room = queue.line_limit.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&part[..part.len().min(room)]);
            if parts.peek().is_some() {
                self.finish(queue);
            }
        }
    }

    fn finish(&mut self, queue: &mut Queue) {
        let size = self.partial.len() + 1;
        if let Some(rest) = queue.left.checked_sub(size) {
            queue.left = rest;
            let text = String::from_utf8_lossy(&self.partial).into_owned();
            queue.ready.push_back(Line { stream: self.stream, text });
        } else {
            queue.left = 0;
            queue.dropped += 1;
        }
        self.partial.clear();
    }
}
