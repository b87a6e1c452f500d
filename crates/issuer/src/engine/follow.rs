//! Who reads the journal behind the lane: the index of request ids and places, and the snapshots.
//!
//! A follower has a cursor of its own, may lag, and is never waited for, but for one bound: memory forgets a request
//! id only when the index has it, so the lane refuses work when the index lags by a whole window.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use warifu_core::entry::{Entry, Fact};
use warifu_core::partition::WINDOW;
use warifu_core::vault::Vault;

use super::lane::request_of;
use super::{Shared, recover};
use crate::store::{ChangeRow, Frame, IndexRow, IndexRows, PlaceRow, Store};

/// How much of the journal is indexed in one transaction, in bytes: some ten thousands of entries at full load.
const READ_BYTES: usize = 12 << 20;
/// How often the index looks for news.
const IDLE: Duration = Duration::from_millis(20);
/// So many entries of one partition are indexed at once, or what came in [`INDEX_EVERY`]: many in one transaction cost
/// little more than a few, because they share pages. It is a third of the window that memory has.
const INDEX_AT: u64 = WINDOW / 3;
/// See [`INDEX_AT`].
const INDEX_EVERY: Duration = Duration::from_secs(1);

/// Brings the index up to the end of the journal.
///
/// # Errors
/// When the store fails.
pub(crate) fn catch_up_index(store: &dyn Store, shared: &Shared) -> anyhow::Result<()> {
    let mut position = *shared.indexed.borrow();
    loop {
        let frames = store.read(position + 1, READ_BYTES)?;
        if frames.is_empty() {
            break;
        }
        position = index_frames(store, &frames)?;
        frames.iter().flat_map(|it| &it.after).for_each(|head| shared.has_indexed(head));
    }
    shared.indexed.send_replace(position);
    Ok(())
}

fn index_frames(store: &dyn Store, frames: &[Arc<Frame>]) -> anyhow::Result<u64> {
    let mut rows = IndexRows::default();
    for frame in frames {
        let mut seen = [false; 256];
        for entry in &frame.entries {
            let (partition, sequence) = (entry.partition, entry.sequence);
            if let Some(first) = seen.get_mut(usize::from(partition)).filter(|seen| !**seen) {
                *first = true;
                let position = frame.position;
                rows.places.push(PlaceRow { partition, first_sequence: sequence, position });
            }
            let fact = Entry::decode(&entry.bytes)?.fact;
            if let Fact::Changed(it) = &fact {
                let first_sequence = it.payment.first_sequence;
                rows.changes.push(ChangeRow { partition, first_sequence, last_sequence: sequence });
            }
            if let Some((caller, request)) = request_of(&fact) {
                let request = request.clone();
                rows.requests.push(IndexRow { caller, request, partition, sequence });
            }
        }
    }
    // In the order of the tables' keys, so that neighbours are written together. Stable: of one key the last row wins.
    rows.requests.sort_by(|a, b| (a.caller, &a.request).cmp(&(b.caller, &b.request)));
    rows.places.sort_by_key(|it| (it.partition, it.first_sequence));
    rows.changes.sort_by_key(|it| (it.partition, it.first_sequence));
    let position = frames.last().map_or(0, |it| it.last_position());
    store.index(&rows, position)?;
    Ok(position)
}

/// Runs the index until the engine stops.
pub(crate) fn spawn_index(
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("index".to_owned()).spawn(move || {
        let mut written_at = Instant::now();
        while !shared.stopping.load(Ordering::Acquire) {
            std::thread::sleep(IDLE);
            let behind = shared.committed.borrow().saturating_sub(*shared.indexed.borrow());
            let is_early = written_at.elapsed() < INDEX_EVERY;
            let lag = shared.index_lag();
            metrics::gauge!("warifu_index_lag_entries").set(u32::try_from(lag).unwrap_or(u32::MAX));
            if behind == 0 || (is_early && lag < INDEX_AT) {
                continue;
            }
            written_at = Instant::now();
            if let Err(error) = catch_up_index(store.as_ref(), &shared) {
                tracing::error!(%error, "the index could not be written; trying again");
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    })
}

/// Takes snapshots until the engine stops, and a last one at a clean stop. `taken_at` is the position of the former one.
pub(crate) fn spawn_snapshots(
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    shared: Arc<Shared>,
    every: u64,
    mut taken_at: u64,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("snapshots".to_owned()).spawn(move || {
        loop {
            let is_stopping = shared.stopping.load(Ordering::Acquire);
            let committed = *shared.committed.borrow();
            let is_last = is_stopping && shared.last_snapshot.load(Ordering::Acquire);
            let is_due =
                committed.saturating_sub(taken_at) >= every || (is_last && committed > taken_at);
            if is_due && (is_last || !is_stopping) {
                let began = Instant::now();
                let gives_up = || !is_stopping && shared.stopping.load(Ordering::Acquire);
                match recover::take_snapshots(store.as_ref(), &vault, &gives_up) {
                    Ok(()) => {
                        taken_at = committed;
                        tracing::info!(
                            position = committed,
                            took_ms = began.elapsed().as_millis(),
                            "took a snapshot of every partition that changed"
                        );
                    }
                    Err(error) => {
                        tracing::error!(
                            error = format!("{error:#}"),
                            "a snapshot could not be taken; trying again in a minute"
                        );
                        taken_at = committed.saturating_sub(every / 2);
                    }
                }
            }
            if is_stopping {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    })
}
