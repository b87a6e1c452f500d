//! The one thread that writes. It takes what has arrived (one write when idle, so a lone one waits for nobody),
//! does each inside a savepoint, commits once, then answers everybody.
//!
//! Law: nobody is told of a write before the commit that holds it. A commit that fails is told to all in it. SQLite may
//! end a transaction by itself (a full disk, an I/O error); what was done in it is gone then, and nothing more is done
//! of its batch: outside of a transaction each savepoint would be one of its own, and durable.

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::StoreError;

/// Most writes in one transaction: bounds how long the first of them waits.
const BATCH_MAX: usize = 256;

/// Tells a waiting caller how the commit went.
type Tell = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// One write: done inside the transaction, tells its caller afterwards. `None`: it failed, was undone, and its
/// caller has been told. Without a transaction it does nothing, and tells its caller why there is none.
pub(super) type Job = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Option<Tell> + Send>;

/// Wraps a piece of work and its caller.
pub(super) fn job<T: Send + 'static>(
    work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    caller: oneshot::Sender<Result<T, StoreError>>,
) -> Job {
    Box::new(move |to| match to.and_then(|to| Ok(alone(to, work)?)) {
        Ok(value) => Some(Box::new(move |committed| {
            // A caller that hung up needs no answer.
            let _gone = caller.send(committed.map(|()| value)).is_err();
        })),
        Err(err) => {
            let _gone = caller.send(Err(err)).is_err();
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
        // Where SQLite has ended the transaction, the savepoint went with it. Where it can't go back, all must.
        if !to.is_autocommit() && to.prepare_cached("ROLLBACK TO alone")?.execute([]).is_err() {
            to.execute_batch("ROLLBACK")?;
        }
        if to.is_autocommit() {
            return done;
        }
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
    let mut open = db.execute_batch("BEGIN IMMEDIATE").map_err(StoreError::from);
    for job in batch.drain(..) {
        waiting.extend(job(open.clone().map(|()| db)));
        if open.is_ok() && db.is_autocommit() {
            open = Err(StoreError::Undone);
        }
    }
    let done = open.and_then(|()| Ok(db.execute_batch("COMMIT")?));
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
