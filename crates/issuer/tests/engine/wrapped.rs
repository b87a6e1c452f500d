//! The model store with a few of its answers bent, for what no healthy store does when it is told to.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use warifu_issuer::store::{
    AppendError, Batch, Frame, IndexRow, IndexRows, Snapshot, Store, StoreError,
};

use super::*;

/// What becomes of an append whose outcome the engine does not hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It was written.
    Written,
    /// It was not.
    Unwritten,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Wrapped {
    pub(crate) inner: ModelStore,
    /// Lets the outcome of every append be unknown.
    pub(crate) lose: Mutex<Option<Lost>>,
    /// The lane's next question to the index is answered as of before it had anything, further ones as it stands.
    pub(crate) index_was_behind: AtomicBool,
    /// The index can't be written.
    pub(crate) index_is_stuck: AtomicBool,
    /// How many frames were read.
    pub(crate) frames_read: AtomicUsize,
    /// How many appends may pass; nothing for all.
    gate: Mutex<Option<usize>>,
    opened: Condvar,
    /// How many appends have come to the gate.
    pub(crate) arrived: AtomicUsize,
    /// How many appends will be refused.
    pub(crate) refuse: AtomicUsize,
}

impl Wrapped {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: ModelStore::new([8; 16]),
            lose: Mutex::new(None),
            index_was_behind: AtomicBool::new(false),
            index_is_stuck: AtomicBool::new(false),
            frames_read: AtomicUsize::new(0),
            gate: Mutex::new(None),
            opened: Condvar::new(),
            arrived: AtomicUsize::new(0),
            refuse: AtomicUsize::new(0),
        })
    }

    /// Lets so many more appends pass, or all.
    pub(crate) fn let_pass(&self, count: Option<usize>) {
        *self.gate.lock().unwrap() = count;
        self.opened.notify_all();
    }

    fn pass(&self) {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        let gate = self.gate.lock().unwrap();
        let mut gate = self.opened.wait_while(gate, |it| *it == Some(0)).unwrap();
        *gate = gate.map(|left| left - 1);
    }

    pub(crate) fn lose(&self, lose: Option<Lost>) {
        *self.lose.lock().unwrap() = lose;
    }

    fn is_behind(&self) -> bool {
        std::thread::current().name() == Some("lane")
            && self.index_was_behind.swap(false, Ordering::SeqCst)
    }
}

impl Store for Wrapped {
    fn journal_id(&self) -> [u8; 16] {
        self.inner.journal_id()
    }

    fn append(&self, batch: Batch) -> Result<u64, AppendError> {
        self.pass();
        let left = self.refuse.load(Ordering::SeqCst);
        if left > 0 {
            self.refuse.store(left - 1, Ordering::SeqCst);
            return Err(AppendError::NotCommitted("the disk is full, in a test".to_owned()));
        }
        let lost = *self.lose.lock().unwrap();
        if lost != Some(Lost::Unwritten) {
            let appended = self.inner.append(batch)?;
            if lost.is_none() {
                return Ok(appended);
            }
        }
        Err(AppendError::Unknown("the connection was lost, in a test".to_owned()))
    }

    fn read(&self, position: u64, bytes_max: usize) -> Result<Vec<Arc<Frame>>, StoreError> {
        let frames = self.inner.read(position, bytes_max)?;
        self.frames_read.fetch_add(frames.len(), Ordering::SeqCst);
        Ok(frames)
    }

    fn entry(&self, partition: u8, sequence: u64) -> Result<Option<Vec<u8>>, StoreError> {
        if self.is_behind() { Ok(None) } else { self.inner.entry(partition, sequence) }
    }

    fn put_snapshot(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.inner.put_snapshot(snapshot)
    }

    fn extend_snapshot(&self, partition: u8, position: u64) -> Result<(), StoreError> {
        self.inner.extend_snapshot(partition, position)
    }

    fn snapshot(&self, partition: u8, below: u64) -> Result<Option<Snapshot>, StoreError> {
        self.inner.snapshot(partition, below)
    }

    fn index(&self, rows: &IndexRows, position: u64) -> Result<(), StoreError> {
        if self.index_is_stuck.load(Ordering::SeqCst) {
            return Err(StoreError::new("the index is stuck, in a test"));
        }
        self.inner.index(rows, position)
    }

    fn last_change(&self, partition: u8, first_sequence: u64) -> Result<Option<u64>, StoreError> {
        self.inner.last_change(partition, first_sequence)
    }

    fn indexed(&self) -> Result<u64, StoreError> {
        if self.is_behind() { Ok(0) } else { self.inner.indexed() }
    }

    fn find_request(
        &self,
        caller: MerchantId,
        request: &RequestId,
    ) -> Result<Option<IndexRow>, StoreError> {
        self.inner.find_request(caller, request)
    }
}
