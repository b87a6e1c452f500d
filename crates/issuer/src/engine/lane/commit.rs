//! One durable commit of everything that a batch decided; then every answer.
//!
//! A batch that is not full is committed by the lane itself: nobody else waits, and a second thread would only be in the
//! way. When a batch is full, more are waiting: then another thread writes and answers it while the lane decides the next.
//!
//! ```text
//! lane        decide 1 ──▶ decide 2 ─────▶ decide 3 ─────▶
//! committer                commit 1, answer commit 2, answer
//! ```
//!
//! So one batch at most is decided on what is not durable yet. It is answered after its own commit, which follows; and
//! when the former is refused, both go back.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use super::{Lane, Reply, forget, request_table};
use crate::engine::{Answer, Refused, Shared};
use crate::store::{AppendError, Batch, Head, Store};

const NOT_WRITTEN: Refused =
    Refused::NotAccepted("the journal can't be written now; see the issuer's log");

/// Who asked, and what will be said.
pub(super) type Answers = Vec<(Reply, Result<Answer, Refused>)>;
/// A request id, and the partition that remembered it before.
pub(super) type Claim = (request_table::Key, Option<u8>);

/// A batch that was decided and is not known to be durable.
#[derive(Debug)]
pub(super) struct Flight {
    before: Vec<Head>,
    after: Vec<Head>,
    claimed: Vec<Claim>,
}

/// The thread that commits full batches, one at a time.
#[derive(Debug)]
pub(super) struct Committer {
    /// Dropped to end the thread.
    batches: Option<SyncSender<(Batch, Answers)>>,
    outcomes: Receiver<Result<(), AppendError>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(super) fn start(store: Arc<dyn Store>, shared: Arc<Shared>) -> std::io::Result<Self> {
        let (batches, inbox) = sync_channel::<(Batch, Answers)>(1);
        let (tell, outcomes) = sync_channel(1);
        let thread = std::thread::Builder::new().name("committer".to_owned()).spawn(move || {
            for (batch, mut answers) in inbox {
                let outcome = append(store.as_ref(), &shared, batch);
                match &outcome {
                    Ok(()) => {}
                    Err(AppendError::NotCommitted(_)) => refuse_all(&mut answers),
                    Err(AppendError::Unknown(_)) => answers.clear(),
                }
                // The lane first: it may be waiting to hand over the next.
                if tell.send(outcome).is_err() {
                    break;
                }
                send(&mut answers);
            }
        })?;
        Ok(Self { batches: Some(batches), outcomes, thread: Some(thread) })
    }

    fn commit(&self, batch: Batch, answers: Answers) {
        if let Some(batches) = &self.batches {
            // A thread that has ended drops it: what became of it is then unknown, and so it says when it is asked.
            drop(batches.send((batch, answers)));
        }
    }

    fn outcome(&self) -> Result<(), AppendError> {
        self.outcomes.recv().unwrap_or_else(|_| {
            Err(AppendError::Unknown("the thread that commits has ended".to_owned()))
        })
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that commits panicked");
        }
    }
}

fn append(store: &dyn Store, shared: &Shared, batch: Batch) -> Result<(), AppendError> {
    metrics::histogram!("warifu_batch_entries")
        .record(u32::try_from(batch.entries.len()).unwrap_or(u32::MAX));
    let (after, began) = (batch.after.clone(), Instant::now());
    let position = store.append(batch)?;
    metrics::histogram!("warifu_commit_seconds").record(began.elapsed());
    after.iter().for_each(|head| shared.has_committed(head));
    shared.committed.send_replace(position);
    Ok(())
}

fn send(answers: &mut Answers) {
    for (reply, answer) in answers.drain(..) {
        // Whoever has gone away does not hear it; repeating the request tells them.
        drop(reply.send(answer));
    }
}

fn refuse_all(answers: &mut Answers) {
    answers.iter_mut().for_each(|(_, answer)| *answer = Err(NOT_WRITTEN));
}

impl Lane {
    /// Commits what was decided. What is handed over goes to the committer, and [`Lane::land`] says what became of it.
    pub(super) fn commit(&mut self, is_handed_over: bool) {
        if self.is_unsure {
            self.batch = Batch::default();
            return self.answers.clear();
        }
        if self.batch.entries.is_empty() {
            return send(&mut self.answers);
        }
        let batch = self.take_batch();
        let flight = Flight {
            before: batch.before.clone(),
            after: batch.after.clone(),
            claimed: std::mem::take(&mut self.claimed),
        };
        if is_handed_over {
            self.flight = Some(flight);
            return self.committer.commit(batch, std::mem::take(&mut self.answers));
        }
        let outcome = append(self.store.as_ref(), &self.shared, batch);
        self.landed(flight, outcome);
        send(&mut self.answers);
    }

    /// Waits for the commit under way, if there is one.
    pub(super) fn land(&mut self) {
        if let Some(flight) = self.flight.take() {
            let outcome = self.committer.outcome();
            self.landed(flight, outcome);
        }
    }

    fn take_batch(&mut self) -> Batch {
        for hot in self.partitions.values_mut() {
            let Some(before) = hot.before.take() else { continue };
            self.batch.before.push(before);
            self.batch.after.push(hot.head);
            std::mem::swap(&mut hot.undo, &mut hot.undo_in_flight);
        }
        std::mem::take(&mut self.batch)
    }

    fn landed(&mut self, flight: Flight, outcome: Result<(), AppendError>) {
        match outcome {
            Ok(()) => self.committed(&flight.after),
            Err(AppendError::NotCommitted(why)) => self.not_committed(flight, &why),
            Err(AppendError::Unknown(why)) => {
                // Answer nothing: only the journal can say, and only a restart reads it.
                self.stop("the outcome of a commit is unknown: restart the issuer", &why);
                self.is_unsure = true;
                self.batch = Batch::default();
                self.answers.clear();
            }
        }
    }

    fn committed(&mut self, after: &[Head]) {
        for head in after {
            let Some(hot) = self.partitions.get_mut(&head.partition) else { continue };
            hot.undo_in_flight.committed();
            hot.state.forget_with(head.sequence, |caller, request| {
                // A tombstone leaves its partition, and its payment is remembered by another.
                let key = (caller, request.clone());
                if self.requests.get(&key) == Some(head.partition) {
                    self.requests.remove(&key);
                }
                forget(&mut self.forgotten, caller, request);
            });
        }
        self.refused_at = None;
    }

    /// Nothing was written, for certain: the state goes back, with what was decided on it since, and everybody is told.
    fn not_committed(&mut self, flight: Flight, why: &str) {
        tracing::error!(why, "a commit was refused; nothing was written and nobody was paid");
        self.batch = Batch::default();
        for hot in self.partitions.values_mut() {
            hot.undo.undo(&mut hot.state, 0);
            hot.head = hot.before.take().unwrap_or(hot.head);
        }
        for before in flight.before {
            let Some(hot) = self.partitions.get_mut(&before.partition) else { continue };
            hot.undo_in_flight.undo(&mut hot.state, 0);
            hot.head = before;
        }
        let claimed = flight.claimed.into_iter().chain(self.claimed.drain(..));
        for (key, before) in claimed.collect::<Vec<_>>().into_iter().rev() {
            let (caller, request) = &key;
            let remembers = |partition: &u8| {
                let hot = self.partitions.get(partition);
                hot.is_some_and(|it| it.state.remembered(*caller, request).is_some())
            };
            if let Some(partition) = before.filter(remembers) {
                self.requests.insert(key, partition);
            } else {
                // Whoever remembered it may have forgotten it since: then the index has it, and is asked.
                forget(&mut self.forgotten, *caller, request);
                self.requests.remove(&key);
            }
        }
        (self.refused_at, self.is_blocked) = (Some(Instant::now()), true);
        refuse_all(&mut self.answers);
    }
}
