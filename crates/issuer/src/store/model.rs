//! The store in memory: the simplest thing that keeps the promises of [`Store`], to compare others with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use warifu_proto::id::MerchantId;
use warifu_proto::request_id::RequestId;

use crate::engine::chain;
use crate::store::{
    AppendError, Batch, Frame, Head, IndexRow, IndexRows, Snapshot, Store, StoreError,
};

/// A journal in memory.
#[derive(Debug)]
pub struct ModelStore {
    journal_id: [u8; 16],
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    frames: Vec<Arc<Frame>>,
    heads: BTreeMap<u8, Head>,
    snapshots: BTreeMap<u8, Vec<Snapshot>>,
    requests: BTreeMap<(MerchantId, RequestId), IndexRow>,
    changes: BTreeMap<(u8, u64), u64>,
    indexed: u64,
    refuse_appends: bool,
    refused_appends: u64,
}

impl ModelStore {
    /// An empty journal with this id.
    pub fn new(journal_id: [u8; 16]) -> Self {
        Self { journal_id, inner: Mutex::default() }
    }

    /// Lets every append fail as a full disk would, until told otherwise.
    pub fn refuse_appends(&self, refuse: bool) {
        self.lock().refuse_appends = refuse;
    }

    /// How many appends were refused so.
    pub fn refused_appends(&self) -> u64 {
        self.lock().refused_appends
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for ModelStore {
    fn journal_id(&self) -> [u8; 16] {
        self.journal_id
    }

    fn append(&self, batch: Batch) -> Result<u64, AppendError> {
        let mut inner = self.lock();
        if inner.refuse_appends {
            inner.refused_appends += 1;
            return Err(AppendError::NotCommitted("the model was told to refuse".to_owned()));
        }
        for before in &batch.before {
            let empty = Head {
                partition: before.partition,
                sequence: 0,
                chain: chain::start(&self.journal_id, before.partition),
            };
            if inner.heads.get(&before.partition).unwrap_or(&empty) != before {
                return Err(AppendError::NotCommitted("the journal has other entries".to_owned()));
            }
        }
        let position = inner.frames.last().map_or(1, |it| it.last_position() + 1);
        inner.heads.extend(batch.after.iter().map(|head| (head.partition, *head)));
        let frame = Frame { position, after: batch.after, entries: batch.entries };
        let last = frame.last_position();
        inner.frames.push(Arc::new(frame));
        Ok(last)
    }

    fn read(&self, position: u64, bytes_max: usize) -> Result<Vec<Arc<Frame>>, StoreError> {
        let inner = self.lock();
        let from = inner.frames.partition_point(|it| it.last_position() < position);
        let mut bytes = 0;
        let frames = inner.frames.get(from..).unwrap_or_default().iter().take_while(|frame| {
            let is_within = bytes < bytes_max || bytes == 0;
            bytes += frame.bytes();
            is_within
        });
        Ok(frames.cloned().collect())
    }

    fn entry(&self, partition: u8, sequence: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let inner = self.lock();
        let mut entries = inner.frames.iter().flat_map(|it| &it.entries);
        Ok(entries
            .find(|it| it.partition == partition && it.sequence == sequence)
            .map(|it| it.bytes.clone()))
    }

    fn put_snapshot(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let kept = inner.snapshots.entry(snapshot.head.partition).or_default();
        kept.retain(|it| it.head.sequence != snapshot.head.sequence);
        kept.push(snapshot.clone());
        kept.sort_by_key(|it| std::cmp::Reverse(it.head.sequence));
        kept.truncate(2);
        Ok(())
    }

    fn extend_snapshot(&self, partition: u8, position: u64) -> Result<(), StoreError> {
        if let Some(newest) =
            self.lock().snapshots.get_mut(&partition).and_then(|kept| kept.first_mut())
        {
            newest.position = position;
        }
        Ok(())
    }

    fn snapshot(&self, partition: u8, below: u64) -> Result<Option<Snapshot>, StoreError> {
        let inner = self.lock();
        let kept = inner.snapshots.get(&partition);
        Ok(kept.and_then(|kept| kept.iter().find(|it| it.head.sequence < below).cloned()))
    }

    fn index(&self, rows: &IndexRows, position: u64) -> Result<(), StoreError> {
        let mut inner = self.lock();
        for row in &rows.requests {
            inner.requests.insert((row.caller, row.request.clone()), row.clone());
        }
        for row in &rows.changes {
            inner.changes.insert((row.partition, row.first_sequence), row.last_sequence);
        }
        inner.indexed = position;
        Ok(())
    }

    fn indexed(&self) -> Result<u64, StoreError> {
        Ok(self.lock().indexed)
    }

    fn find_request(
        &self,
        caller: MerchantId,
        request: &RequestId,
    ) -> Result<Option<IndexRow>, StoreError> {
        Ok(self.lock().requests.get(&(caller, request.clone())).cloned())
    }

    fn last_change(&self, partition: u8, first_sequence: u64) -> Result<Option<u64>, StoreError> {
        Ok(self.lock().changes.get(&(partition, first_sequence)).copied())
    }
}
