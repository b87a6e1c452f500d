//! The one thread that writes. It takes what has arrived (one write when idle, so a lone one waits for nobody),
//! does each inside a savepoint, commits once, then answers everybody.
//!
//! Law: nobody is told of a write before the commit that holds it. A commit that fails is told to all in it.

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::StoreError;

/// Most writes in one transaction: bounds how long the first of them waits.
const BATCH_MAX: usize = 256;

/// Tells a waiting caller how the commit went.
type Tell = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// One write: done inside the transaction, tells its caller afterwards. `None`: it failed, was undone, and its
/// caller has been told.
pub(super) type Job = Box<dyn FnOnce(&Connection) -> Option<Tell> + Send>;

/// Wraps a piece of work and its caller.
pub(super) fn job<T: Send + 'static>(
    work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    caller: oneshot::Sender<Result<T, StoreError>>,
) -> Job {
    Box::new(move |to| match alone(to, work) {
        Ok(value) => Some(Box::new(move |committed| {
            // A caller that hung up needs no answer.
            let _gone = caller.send(committed.map(|()| value)).is_err();
        })),
        Err(err) => {
            let _gone = caller.send(Err(err.into())).is_err();
            None
        }
    })
}

/// Does the work inside a savepoint, which it undoes when the work fails.
fn alone<T>(
    to: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    to.prepare_cached("SAVEPOINT alone")?.execute([])?;
    let done = work(to);
    if done.is_err() {
        to.prepare_cached("ROLLBACK TO alone")?.execute([])?;
    }
    to.prepare_cached("RELEASE alone")?.execute([])?;
    done
}

/// Starts the thread; it ends when the last sender is gone.
pub(super) fn start(db: Connection, queue: usize) -> std::io::Result<mpsc::Sender<Job>> {
    let (sender, receiver) = mpsc::channel(queue);
    std::thread::Builder::new().name("hub-store".to_owned()).spawn(move || run(&db, receiver))?;
    Ok(sender)
}

fn run(db: &Connection, mut jobs: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while jobs.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        commit(db, &mut batch);
    }
}

fn commit(db: &Connection, batch: &mut Vec<Job>) {
    metrics::histogram!("warifu_hub_store_batch_size")
        .record(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
    let mut waiting = Vec::with_capacity(batch.len());
    // Without a transaction every savepoint would be one of its own: then do nothing, and say so.
    let begun = db.execute_batch("BEGIN IMMEDIATE");
    let done = begun.and_then(|()| {
        waiting.extend(batch.drain(..).filter_map(|job| job(db)));
        db.execute_batch("COMMIT")
    });
    batch.clear();
    let done = done.map_err(StoreError::from);
    if let Err(err) = &done {
        tracing::error!(error = ?err, "the store could not commit");
        if !db.is_autocommit()
            && let Err(err) = db.execute_batch("ROLLBACK")
        {
            tracing::error!(error = %err, "the store could not roll back");
        }
    }
    for tell in waiting {
        tell(done.clone());
    }
}
