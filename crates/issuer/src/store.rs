//! Where the journal lies. One small trait beside its user, in our words; one suite (`conformance`) runs on every
//! implementation and compares them.
//!
//! - [`sqlite`]: the embedded default.
//! - [`model`]: in memory; what the others are compared with, and what benches use to leave the disk out.
//!
//! A store keeps entries as bytes and never looks inside them.

mod checkpoints;
#[cfg(test)]
mod conformance;
pub mod frame;
pub mod model;
mod recent;
pub mod sqlite;

use std::sync::Arc;

use warifu_proto::id::MerchantId;
use warifu_proto::mac::sha256;
use warifu_proto::request_id::RequestId;

/// Last entry of a partition: what the next one must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Which partition.
    pub partition: u8,
    /// Sequence of its last entry; 0 before the first.
    pub sequence: u64,
    /// Chain after its last entry.
    pub chain: [u8; 32],
}

/// The entries of one commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// For each partition in it: what the store must hold before.
    pub before: Vec<Head>,
    /// For each partition in it: what the store holds after.
    pub after: Vec<Head>,
    /// In order of the journal.
    pub entries: Vec<EntryBytes>,
}

/// An entry as the store sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryBytes {
    /// Which partition.
    pub partition: u8,
    /// Its sequence there.
    pub sequence: u64,
    /// What is chained and kept.
    pub bytes: Vec<u8>,
}

/// A commit read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Position of its first entry in the journal, from 1.
    pub position: u64,
    /// Heads after it, of the partitions in it.
    pub after: Vec<Head>,
    /// Its entries.
    pub entries: Vec<EntryBytes>,
}

impl Frame {
    /// Position of its last entry.
    pub fn last_position(&self) -> u64 {
        self.position + u64::try_from(self.entries.len()).unwrap_or_default() - 1
    }

    /// How many bytes its entries have.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|it| it.bytes.len()).sum()
    }
}

/// A partition's memory at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Head of the partition then.
    pub head: Head,
    /// All entries up to this position are in it.
    pub position: u64,
    /// See [`Snapshot::hash_of`].
    pub hash: [u8; 32],
    /// The state.
    pub body: Vec<u8>,
}

impl Snapshot {
    /// The state of a partition, with the hash that it is believed by.
    pub fn new(head: Head, position: u64, body: Vec<u8>) -> Self {
        Self { head, position, hash: Self::hash_of(&head, &body), body }
    }

    /// SHA-256 of everything that recovery goes on from: an entry that continued a damaged chain would spoil the journal for
    /// ever. How far a snapshot covers the journal is no part of it, as that moves.
    pub fn hash_of(head: &Head, body: &[u8]) -> [u8; 32] {
        let Head { partition, sequence, chain } = head;
        sha256(&[b"warifu/snapshot/v1\n", &[*partition], &sequence.to_be_bytes(), chain, body])
    }
}

/// Where a request was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// Whose request.
    pub caller: MerchantId,
    /// Its id.
    pub request: RequestId,
    /// The partition that answered.
    pub partition: u8,
    /// By which entry.
    pub sequence: u64,
}

/// Where entries lie: from this sequence of the partition on, in the frame at this position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceRow {
    /// Which partition.
    pub partition: u8,
    /// Its first sequence in the frame.
    pub first_sequence: u64,
    /// Position of the frame.
    pub position: u64,
}

/// The last entry that changed a payment: it holds the payment whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeRow {
    /// Where the payment lives.
    pub partition: u8,
    /// The entry that began it.
    pub first_sequence: u64,
    /// The entry that changed it last.
    pub last_sequence: u64,
}

/// What a part of the journal adds to the index.
#[derive(Debug, Clone, Default)]
pub struct IndexRows {
    /// Answered requests. A later row of the same id takes the place of a former one.
    pub requests: Vec<IndexRow>,
    /// Where entries lie. Rows that are there already stay.
    pub places: Vec<PlaceRow>,
    /// Changed payments. A later row of the same payment takes the place of a former one.
    pub changes: Vec<ChangeRow>,
}

/// Why an append did not happen.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// For certain nothing was written: the disk is full, or somebody else's entries are there.
    #[error("nothing was written: {0}")]
    NotCommitted(String),
    /// Whether it was written is not known. Nothing may be answered until the journal itself was read.
    #[error("the commit's outcome is unknown: {0}")]
    Unknown(String),
}

/// Any other failure of a store.
#[derive(Debug, thiserror::Error)]
#[error("the store failed: {what}")]
pub struct StoreError {
    /// What was being done.
    pub what: String,
    /// Why it failed.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// Names what was being done.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }
}

/// Keeps a journal, its snapshots and its index.
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Bound into the first link of every chain.
    fn journal_id(&self) -> [u8; 16];

    /// Writes a batch durably, all or nothing, after exactly the heads it names. Returns the position of its last entry.
    ///
    /// # Errors
    /// [`AppendError::NotCommitted`] when the store is as before, for certain.
    fn append(&self, batch: Batch) -> Result<u64, AppendError>;

    /// Reads frames whose last position is at or after `position`, in order, up to about `bytes_max` of them; at least
    /// one if there is any. Frames are shared: what was appended a moment ago is read by several followers.
    ///
    /// # Errors
    /// When the store can't be read or a frame is damaged.
    fn read(&self, position: u64, bytes_max: usize) -> Result<Vec<Arc<Frame>>, StoreError>;

    /// Reads one entry by its place; the index must have got there.
    ///
    /// # Errors
    /// As [`Store::read`].
    fn entry(&self, partition: u8, sequence: u64) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keeps a snapshot, and forgets all but the last two of its partition.
    ///
    /// # Errors
    /// When the store can't be written.
    fn put_snapshot(&self, snapshot: &Snapshot) -> Result<(), StoreError>;

    /// Says of a partition that changed nothing since its last snapshot that it covers more of the journal.
    ///
    /// # Errors
    /// When the store can't be written.
    fn extend_snapshot(&self, partition: u8, position: u64) -> Result<(), StoreError>;

    /// The newest snapshot of a partition among those below a sequence.
    ///
    /// # Errors
    /// When the store can't be read.
    fn snapshot(&self, partition: u8, below: u64) -> Result<Option<Snapshot>, StoreError>;

    /// Adds to the index, all or nothing, and notes how far it has got.
    ///
    /// # Errors
    /// When the store can't be written.
    fn index(&self, rows: &IndexRows, position: u64) -> Result<(), StoreError>;

    /// How far the index has got: the last position in it.
    ///
    /// # Errors
    /// When the store can't be read.
    fn indexed(&self) -> Result<u64, StoreError>;

    /// Finds a request in the index.
    ///
    /// # Errors
    /// When the store can't be read.
    fn find_request(
        &self,
        caller: MerchantId,
        request: &RequestId,
    ) -> Result<Option<IndexRow>, StoreError>;

    /// The entry that changed a payment last, if the index knows of one after the first.
    ///
    /// # Errors
    /// When the store can't be read.
    fn last_change(&self, partition: u8, first_sequence: u64) -> Result<Option<u64>, StoreError>;
}
