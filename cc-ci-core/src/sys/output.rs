//! Output that never fails and never blocks.
//!
//! A cancelled CI runner closes the log's pipe, or stops reading it: a write then fails or blocks for ever, with
//! an app's lock held. So one thread writes, from a bounded queue: what does not fit is dropped and counted, and
//! what can't be written is forgotten.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// So many lines wait for a slow reader.
const QUEUE: usize = 4096;

enum Message {
    Text(String),
    Done(SyncSender<()>),
}

/// A writer behind a bounded queue. Clones share it.
///
/// Its thread starts with the first text, and ends when the last clone is gone and all is written. Where the kernel has no
/// thread left, whoever writes waits for the reader itself.
#[derive(Clone)]
pub struct QueuedWriter(Arc<Shared>);

struct Shared {
    name: String,
    sink: Arc<Mutex<Sink>>,
    /// To the thread; nothing where there was none to be had.
    queue: OnceLock<Option<SyncSender<Message>>>,
    dropped: Arc<AtomicU64>,
}

/// What only one writes to at a time.
struct Sink {
    to: Box<dyn Write + Send>,
    /// Where it is told what was dropped, if not among the rest.
    beside: Option<QueuedWriter>,
}

impl Sink {
    /// A closed pipe or a full disk is the reader's loss, not the run's.
    fn write(&mut self, text: &str, dropped: &AtomicU64) {
        let lines = dropped.swap(0, Ordering::Relaxed);
        let notice = format!("… {lines} lines dropped: the reader was too slow\n");
        match &self.beside {
            _ if lines == 0 => {}
            Some(beside) => beside.write(notice),
            None => drop(self.to.write_all(notice.as_bytes())),
        }
        drop(self.to.write_all(text.as_bytes()));
    }
}

fn lock(sink: &Mutex<Sink>) -> MutexGuard<'_, Sink> {
    sink.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for QueuedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedWriter").field("dropped", &self.0.dropped).finish_non_exhaustive()
    }
}

impl QueuedWriter {
    /// Writes to `sink`, by a thread of that `name`.
    pub fn new(name: &str, sink: impl Write + Send + 'static) -> Self {
        Self::with_sink(name, Sink { to: Box::new(sink), beside: None })
    }

    /// The same for what a program reads: what was dropped is told by `beside`.
    pub fn beside(name: &str, sink: impl Write + Send + 'static, beside: Self) -> Self {
        Self::with_sink(name, Sink { to: Box::new(sink), beside: Some(beside) })
    }

    fn with_sink(name: &str, sink: Sink) -> Self {
        let sink = Arc::new(Mutex::new(sink));
        Self(Arc::new(Shared {
            name: name.to_owned(),
            sink,
            queue: OnceLock::new(),
            dropped: Arc::default(),
        }))
    }

    fn queue(&self) -> Option<&SyncSender<Message>> {
        let shared = &self.0;
        let start = || {
            let (queue, messages) = mpsc::sync_channel(QUEUE);
            let (sink, dropped) = (Arc::clone(&shared.sink), Arc::clone(&shared.dropped));
            let work = move || {
                while let Ok(message) = messages.recv() {
                    match message {
                        Message::Text(text) => lock(&sink).write(&text, &dropped),
                        Message::Done(done) => {
                            drop(lock(&sink).to.flush());
                            // Whoever asked may have given up.
                            let _gone = done.try_send(()).is_err();
                        }
                    }
                }
            };
            thread::Builder::new().name(shared.name.clone()).spawn(work).ok().map(|_| queue)
        };
        shared.queue.get_or_init(start).as_ref()
    }

    /// Queues text; returns at once.
    pub fn write(&self, text: String) {
        let Some(queue) = self.queue() else { return self.write_here(&text) };
        if let Err(TrySendError::Full(_)) = queue.try_send(Message::Text(text)) {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write_here(&self, text: &str) {
        lock(&self.0.sink).write(text, &self.0.dropped);
    }

    /// Queues text that must not be dropped, however many lines wait: waits for room, for `bound` at the most.
    pub fn write_within(&self, text: String, bound: Duration) {
        let Some(queue) = self.queue() else { return self.write_here(&text) };
        if !queue_within(queue, Message::Text(text), Instant::now() + bound) {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was queued so far is written, for `bound` at the most. False when it is not. Where nothing was, there
    /// is no thread.
    ///
    /// Blocks the thread: it is the last thing that a command does.
    pub fn flush(&self, bound: Duration) -> bool {
        let queue = match self.0.queue.get() {
            None => return true,
            Some(None) => return lock(&self.0.sink).to.flush().is_ok(),
            Some(Some(queue)) => queue,
        };
        let (done, written) = mpsc::sync_channel(1);
        let deadline = Instant::now() + bound;
        if !queue_within(queue, Message::Done(done), deadline) {
            return false;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        !matches!(written.recv_timeout(left), Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected))
    }
}

/// Whether there was room until `deadline`. A full queue gets some when the thread writes, or the thread is stuck.
fn queue_within(queue: &SyncSender<Message>, mut message: Message, deadline: Instant) -> bool {
    loop {
        match queue.try_send(message) {
            Ok(()) => return true,
            Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                message = back;
                thread::sleep(Duration::from_millis(5));
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _};

    use super::*;

    #[test]
    fn a_reader_that_stopped_costs_lines_and_nothing_else() {
        let (mut reader, pipe) = io::pipe().unwrap();
        let writer = QueuedWriter::new("test", pipe);
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
        let beside = QueuedWriter::new("beside", beside);
        let writer = QueuedWriter::beside("test", pipe, beside);
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
        let writer = QueuedWriter::new("test", sink.clone());
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
        let writer = QueuedWriter::new("test", pipe);
        writer.write("nobody reads this\n".to_owned());
        assert!(writer.flush(Duration::from_mins(1)));
    }
}
