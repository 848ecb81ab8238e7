//! Output that never fails and never blocks.
//!
//! A cancelled CI runner closes the log's pipe, or stops reading it: a write then fails or blocks for ever, with
//! an app's lock held. So one thread writes, from a bounded queue: what does not fit is dropped and counted, and
//! what can't be written is forgotten.

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

/// So many lines wait for a slow reader.
const QUEUE: usize = 4096;

enum Message {
    Text(String),
    Done(SyncSender<()>),
}

/// A writer behind a bounded queue. Clones share it.
#[derive(Clone)]
pub struct QueuedWriter {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    /// Whether anything was ever queued.
    used: Arc<AtomicBool>,
}

impl fmt::Debug for QueuedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedWriter").field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

impl QueuedWriter {
    /// Starts the thread that writes to `sink`. It ends when the last clone is gone and all is written.
    ///
    /// # Errors
    /// When the kernel has no thread left.
    pub fn start(name: &str, sink: impl Write + Send + 'static) -> std::io::Result<Self> {
        Self::start_with(name, sink, None)
    }

    /// The same for what a program reads: what was dropped is told by `beside`.
    ///
    /// # Errors
    /// When the kernel has no thread left.
    pub fn start_beside(
        name: &str,
        sink: impl Write + Send + 'static,
        beside: Self,
    ) -> std::io::Result<Self> {
        Self::start_with(name, sink, Some(beside))
    }

    fn start_with(
        name: &str,
        mut sink: impl Write + Send + 'static,
        beside: Option<Self>,
    ) -> std::io::Result<Self> {
        let (queue, messages) = mpsc::sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Ok(message) = messages.recv() {
                // A closed pipe or a full disk is the reader's loss, not the run's.
                match message {
                    Message::Text(text) => {
                        let lines = lost.swap(0, Ordering::Relaxed);
                        let notice = format!("… {lines} lines dropped: the reader was too slow\n");
                        match &beside {
                            _ if lines == 0 => {}
                            Some(beside) => beside.write(notice),
                            None => drop(sink.write_all(notice.as_bytes())),
                        }
                        drop(sink.write_all(text.as_bytes()));
                    }
                    Message::Done(done) => {
                        drop(sink.flush());
                        // Whoever asked may have given up.
                        let _gone = done.try_send(()).is_err();
                    }
                }
            }
        })?;
        Ok(Self { queue, dropped, used: Arc::default() })
    }

    /// Queues text; returns at once.
    pub fn write(&self, text: String) {
        self.used.store(true, Ordering::Relaxed);
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Text(text)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Queues text that must not be dropped, however many lines wait: waits for room, for `bound` at the most.
    pub fn write_within(&self, text: String, bound: Duration) {
        self.used.store(true, Ordering::Relaxed);
        if !self.queue_within(Message::Text(text), Instant::now() + bound) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether there was room until `deadline`. A full queue gets some when the thread writes, or the thread is stuck.
    fn queue_within(&self, mut message: Message, deadline: Instant) -> bool {
        loop {
            match self.queue.try_send(message) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                    message = back;
                    thread::sleep(Duration::from_millis(5));
                }
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return false,
            }
        }
    }

    /// Waits until what was queued so far is written, for `bound` at the most. False when it is not. Where nothing was, the
    /// thread is not even woken.
    ///
    /// Blocks the thread: it is the last thing that a command does.
    pub fn flush(&self, bound: Duration) -> bool {
        if !self.used.load(Ordering::Relaxed) {
            return true;
        }
        let (done, written) = mpsc::sync_channel(1);
        let deadline = Instant::now() + bound;
        if !self.queue_within(Message::Done(done), deadline) {
            return false;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        !matches!(written.recv_timeout(left), Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _};

    use super::*;

    #[test]
    fn a_reader_that_stopped_costs_lines_and_nothing_else() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let writer = QueuedWriter::start("test", pipe).unwrap();
        let line = "x".repeat(1023) + "\n";
        for _ in 0..QUEUE * 2 {
            writer.write(line.clone());
        }
        assert!(!writer.flush(Duration::from_millis(50)), "a full pipe can't be flushed");
        // The reader comes back: the rest arrives, and says what is missing.
        let all = thread::spawn(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).unwrap();
            all
        });
        while !writer.flush(Duration::from_mins(1)) {}
        writer.write("last\n".to_owned());
        drop(writer);
        let all = all.join().unwrap();
        assert!(all.contains("lines dropped"), "the loss is told");
        assert!(all.ends_with("last\n"));
    }

    #[test]
    fn a_result_waits_for_its_place_and_the_loss_is_told_elsewhere() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let (mut told, beside) = io::pipe().unwrap();
        let beside = QueuedWriter::start("beside", beside).unwrap();
        let writer = QueuedWriter::start_beside("test", pipe, beside).unwrap();
        let line = "x".repeat(1023) + "\n";
        for _ in 0..QUEUE * 2 {
            writer.write(line.clone());
        }
        let all = thread::spawn(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).unwrap();
            all
        });
        writer.write_within("the result\n".to_owned(), Duration::from_mins(1));
        drop(writer);
        let all = all.join().unwrap();
        assert!(all.ends_with("the result\n") && !all.contains("dropped"));
        let told = io::read_to_string(&mut told).unwrap();
        assert!(told.contains("lines dropped"), "{told}");
    }

    /// Counts how often it is asked for all that was written.
    #[derive(Clone, Default)]
    struct Flushes(Arc<AtomicU64>);

    impl Write for Flushes {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    #[test]
    fn a_writer_with_nothing_to_write_is_not_waited_for() {
        let sink = Flushes::default();
        let writer = QueuedWriter::start("test", sink.clone()).unwrap();
        assert!(writer.flush(Duration::from_mins(1)));
        assert_eq!(sink.0.load(Ordering::SeqCst), 0);
        writer.clone().write("a line\n".to_owned());
        assert!(writer.flush(Duration::from_mins(1)));
        assert_eq!(sink.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_closed_pipe_is_ignored() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let writer = QueuedWriter::start("test", pipe).unwrap();
        writer.write("nobody reads this\n".to_owned());
        assert!(writer.flush(Duration::from_mins(1)));
    }
}
