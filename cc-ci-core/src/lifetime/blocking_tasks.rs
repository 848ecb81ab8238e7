//! Blocking work that belongs to a run: nothing of it outlives the run's body.

use tokio_util::task::TaskTracker;

use crate::sys::blocking::joined;

/// Runs blocking work off the runtime, and knows how much of it is still going on.
///
/// A future that waits for a task can be dropped at any time; the task then goes on to its end, and whoever tears
/// down waits for it with [`BlockingTasks::idle`] before anything is removed. Long tasks look at the run's cancellation
/// between two steps.
#[derive(Debug)]
pub struct BlockingTasks {
    tracker: TaskTracker,
}

impl Default for BlockingTasks {
    fn default() -> Self {
        let tracker = TaskTracker::new();
        // A wait ends only on a closed tracker, which takes new tasks all the same.
        tracker.close();
        Self { tracker }
    }
}

impl BlockingTasks {
    /// Runs `work` on a thread where it may block.
    ///
    /// # Panics
    /// Passes a panic of `work` on.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        joined(self.tracker.spawn_blocking(work)).await
    }

    /// Runs async `work` to its end on a task of its own, whether or not somebody still waits for it: for work
    /// that holds a lock while an engine is busy on its behalf.
    ///
    /// # Panics
    /// Passes a panic of `work` on.
    pub async fn task<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        joined(self.tracker.spawn(work)).await
    }

    /// How many tasks are running.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until no task is running. Cancel-safe.
    pub async fn idle(&self) {
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_wait_leaves_the_job_counted() {
        let blocking_tasks = BlockingTasks::default();
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        {
            let job = blocking_tasks.run(move || blocked.recv());
            tokio::pin!(job);
            // Polled once, so that the job runs, then dropped.
            assert!(futures_util::poll!(job.as_mut()).is_pending());
        }
        {
            let idle = blocking_tasks.idle();
            tokio::pin!(idle);
            assert!(futures_util::poll!(idle.as_mut()).is_pending());
            release.send(()).unwrap();
            idle.await;
        }
        assert_eq!(blocking_tasks.running(), 0);
    }
}
