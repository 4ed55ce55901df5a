//! A few threads that live as long as the program, for inflating and deflating: one a core, made when first needed.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// More cores than this do not help: the reader has to keep up with them.
const THREADS_MAX: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    state: Mutex<State>,
    wake: Condvar,
    limit: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// The answer of a job, some time.
pub(super) struct Task<T>(Arc<(Mutex<Answer<T>>, Condvar)>);

enum Answer<T> {
    Open,
    /// `None`: the job has panicked.
    Done(Option<T>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Task<T> {
    /// Waits for the answer; `None`: the job has panicked, or the answer was taken before.
    pub fn wait(self) -> Option<T> {
        let (answer, done) = &*self.0;
        let mut answer = lock(answer);
        loop {
            match std::mem::replace(&mut *answer, Answer::Open) {
                Answer::Done(value) => return value,
                Answer::Open => answer = done.wait(answer).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Pool { state: Mutex::default(), wake: Condvar::new(), limit: cores.min(THREADS_MAX) }
    })
}

/// How many jobs can run side by side.
pub(super) fn width() -> usize {
    pool().limit
}

/// Has a thread of the pool do `work`. It must not wait for another task.
pub(super) fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Task<T> {
    let slot = Arc::new((Mutex::new(Answer::Open), Condvar::new()));
    let task = Task(Arc::clone(&slot));
    let job: Job = Box::new(move || {
        let value = catch_unwind(AssertUnwindSafe(work)).ok();
        *lock(&slot.0) = Answer::Done(value);
        slot.1.notify_all();
    });
    let pool = pool();
    let mut state = lock(&pool.state);
    state.jobs.push_back(job);
    if state.idle < state.jobs.len() && state.threads < pool.limit {
        let named = std::thread::Builder::new().name("imgsh-codec".into());
        match named.spawn(move || serve(pool)) {
            Ok(_) => state.threads += 1,
            // The host gives no threads: then this one does the work.
            Err(_) if state.threads == 0 => {
                let job = state.jobs.pop_back();
                drop(state);
                job.into_iter().for_each(|job| job());
                return task;
            }
            Err(_) => {}
        }
    }
    drop(state);
    pool.wake.notify_one();
    task
}

fn serve(pool: &Pool) {
    let mut state = lock(&pool.state);
    loop {
        match state.jobs.pop_front() {
            Some(job) => {
                drop(state);
                job();
                state = lock(&pool.state);
            }
            None => {
                state.idle += 1;
                state = pool.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_answered() {
        let tasks: Vec<_> = (0..200u64).map(|n| start(move || n * n)).collect();
        for (n, task) in (0..).zip(tasks) {
            assert_eq!(task.wait(), Some(n * n));
        }
        assert!(width() >= 1);
    }
}
