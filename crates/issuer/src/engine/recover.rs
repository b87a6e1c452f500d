//! State out of the journal: the newest snapshot that holds, and everything after it, through the same `apply` as live.
//!
//! Every entry's chain is checked on the way; the first thing that does not fit stops it, naming partition and sequence.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Context as _;
use warifu_core::entry::Entry;
use warifu_core::partition::Partition;
use warifu_core::undo::UndoLog;
use warifu_core::vault::Vault;
use warifu_proto::limits::PARTITIONS;

use crate::engine::chain;
use crate::store::{Frame, Head, Snapshot, Store};

/// How much of the journal is read at once, in bytes.
const READ_BYTES: usize = 4 << 20;

/// How many such parts wait to be applied while the next is read.
const READ_AHEAD: usize = 2;

/// Partitions are folded together for new snapshots until their former ones have this many bytes.
const GROUP_BYTES: usize = 64 << 20;

/// Partitions at a position of the journal.
#[derive(Debug)]
pub struct Recovered {
    /// By number. Partitions without entries are in it as well.
    pub partitions: BTreeMap<u8, Folded>,
    /// Everything up to here is in them.
    pub position: u64,
    /// Everything up to here came out of snapshots.
    pub from: u64,
    /// How many entries were applied after that.
    pub applied: u64,
}

/// A partition and the head of its chain.
#[derive(Debug, Clone)]
pub struct Folded {
    /// The state.
    pub state: Partition,
    /// Its last entry.
    pub head: Head,
    /// Position up to which this partition has been read.
    pub position: u64,
}

/// What a partition was made of.
struct Loaded {
    folded: Folded,
    /// Sequence of its newest snapshot, whether or not that one holds.
    newest: Option<u64>,
    /// Length of the snapshot that was read.
    bytes: usize,
}

impl Folded {
    /// A partition before its first entry.
    pub fn new(store: &dyn Store, number: u8) -> Self {
        Self::empty(&store.journal_id(), number)
    }

    /// The same of a journal that is known by its id.
    pub(crate) fn empty(journal_id: &[u8; 16], number: u8) -> Self {
        let head = Head { partition: number, sequence: 0, chain: chain::start(journal_id, number) };
        Self { state: Partition::new(number), head, position: 0 }
    }

    /// A partition from its newest snapshot that reads, or before its first entry.
    fn load(store: &dyn Store, vault: &Vault, number: u8) -> anyhow::Result<Loaded> {
        let (mut below, mut newest) = (u64::MAX, None);
        while let Some(snapshot) = store.snapshot(number, below)? {
            below = snapshot.head.sequence;
            newest = newest.or(Some(below));
            match Self::of_snapshot(&snapshot, vault) {
                Ok(folded) => return Ok(Loaded { folded, newest, bytes: snapshot.body.len() }),
                Err(error) => {
                    tracing::warn!(partition = number, sequence = below, %error, "a snapshot does not hold; trying an older one")
                }
            }
        }
        Ok(Loaded { folded: Self::new(store, number), newest, bytes: 0 })
    }

    fn of_snapshot(snapshot: &Snapshot, vault: &Vault) -> anyhow::Result<Self> {
        let hash = Snapshot::hash_of(&snapshot.head, &snapshot.body);
        anyhow::ensure!(hash == snapshot.hash, "its bytes are damaged");
        let state = Partition::from_snapshot(&snapshot.body, vault)?;
        anyhow::ensure!(
            state.sequence() == snapshot.head.sequence && state.number() == snapshot.head.partition,
            "it is of another moment"
        );
        Ok(Self { state, head: snapshot.head, position: snapshot.position })
    }

    /// Applies the entries of a frame that are this partition's and news to it.
    pub(crate) fn apply(
        &mut self,
        frame: &Frame,
        vault: &Vault,
        undo: &mut UndoLog,
    ) -> anyhow::Result<u64> {
        let number = self.head.partition;
        let known = self.head.sequence;
        let mut applied = 0;
        for entry in frame.entries.iter().filter(|it| it.partition == number && it.sequence > known)
        {
            let wrong = || format!("entry {} of partition {number:02}", entry.sequence);
            let decoded = Entry::decode(&entry.bytes).with_context(wrong)?;
            self.state.apply(&decoded, vault, undo)?;
            undo.committed();
            self.state.forget();
            self.head = Head {
                partition: number,
                sequence: entry.sequence,
                chain: chain::next(&self.head.chain, &entry.bytes),
            };
            applied += 1;
        }
        if applied > 0 && frame.after.iter().find(|it| it.partition == number) != Some(&self.head) {
            anyhow::bail!(
                "the chain of partition {number:02} breaks at or before sequence {}: the journal was changed",
                self.head.sequence
            );
        }
        self.position = self.position.max(frame.last_position());
        Ok(applied)
    }
}

/// Folds the journal to its end: all partitions, or one. Partitions do not know each other, so every core folds some.
///
/// # Errors
/// When the store can't be read, an entry does not fit, the chain is broken, or the vault's key is another.
pub fn recover(store: &dyn Store, vault: &Vault, only: Option<u8>) -> anyhow::Result<Recovered> {
    let numbers: Vec<u8> = only.map_or_else(|| (0..PARTITIONS).collect(), |number| vec![number]);
    let loaded = on_every_core(numbers, |numbers| {
        let load = |number| Ok(Folded::load(store, vault, number)?.folded);
        numbers.into_iter().map(load).collect()
    })?;
    continue_to_end(store, vault, loaded, cores())
}

/// The same from the very first entry, believing no snapshot.
///
/// # Errors
/// As [`recover`].
pub fn fold_from_the_beginning(store: &dyn Store, vault: &Vault) -> anyhow::Result<Recovered> {
    let partitions = (0..PARTITIONS).map(|number| Folded::new(store, number)).collect();
    continue_to_end(store, vault, partitions, cores())
}

/// Reads the journal once and lets so many threads apply it, each to its own share of the partitions.
fn continue_to_end(
    store: &dyn Store,
    vault: &Vault,
    partitions: Vec<Folded>,
    threads: usize,
) -> anyhow::Result<Recovered> {
    let from = partitions.iter().map(|it| it.position).min().unwrap_or_default();
    let mut position = from;
    let (folded, applied) = std::thread::scope(|scope| {
        let mut hands = Vec::new();
        for share in shares(partitions, threads) {
            let (give, frames) = sync_channel::<Vec<Arc<Frame>>>(READ_AHEAD);
            hands.push((give, scope.spawn(move || apply_all(share, &frames, vault))));
        }
        let mut read = Ok(());
        loop {
            let frames = match store.read(position + 1, READ_BYTES) {
                Ok(frames) => frames,
                Err(error) => break read = Err(error),
            };
            let Some(last) = frames.last() else { break };
            position = last.last_position();
            // Whoever takes no more has found damage, which it tells when it is joined.
            if hands.iter().any(|(give, _)| give.send(frames.clone()).is_err()) {
                break;
            }
        }
        let (mut folded, mut applied) = (BTreeMap::new(), 0);
        for (give, hand) in hands {
            drop(give);
            let joined = hand.join().map_err(|_| anyhow::anyhow!("applying entries panicked"))?;
            let (share, count) = joined?;
            folded.extend(share.into_iter().map(|it| (it.head.partition, it)));
            applied += count;
        }
        read?;
        anyhow::Ok((folded, applied))
    })?;
    let mut partitions = folded;
    // A snapshot may know of more than the journal has: then the journal has lost its end. Where all of them know the
    // same, no entry was read above: then the journal is asked for the last one.
    let ends_before = position > 0 && store.read(position, 1)?.is_empty();
    anyhow::ensure!(
        !ends_before,
        "the journal ends before position {position}, which every snapshot covers: the end of the journal is lost"
    );
    for folded in partitions.values_mut() {
        anyhow::ensure!(
            folded.position <= position,
            "the journal ends at position {position}, but a snapshot of partition {:02} covers position {}: the end of the journal is lost",
            folded.head.partition,
            folded.position
        );
        folded.position = position;
    }
    Ok(Recovered { partitions, position, from, applied })
}

/// Applies what arrives to the partitions of one share.
fn apply_all(
    mut share: Vec<Folded>,
    frames: &Receiver<Vec<Arc<Frame>>>,
    vault: &Vault,
) -> anyhow::Result<(Vec<Folded>, u64)> {
    let (mut undo, mut applied) = (UndoLog::default(), 0);
    for frame in frames.iter().flatten() {
        for folded in &mut share {
            if frame.after.iter().any(|it| it.partition == folded.head.partition) {
                applied += folded.apply(&frame, vault, &mut undo)?;
            }
        }
    }
    Ok((share, applied))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Neighbours go to different shares: accounts are opened in the first partitions first.
fn shares<T>(all: Vec<T>, count: usize) -> Vec<Vec<T>> {
    let count = count.clamp(1, all.len().max(1));
    let mut shares: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
    for (number, it) in all.into_iter().enumerate() {
        shares[number % count].push(it);
    }
    shares
}

fn on_every_core<T: Send, U: Send>(
    all: Vec<T>,
    work: impl Fn(Vec<T>) -> anyhow::Result<Vec<U>> + Sync,
) -> anyhow::Result<Vec<U>> {
    std::thread::scope(|scope| {
        let work = &work;
        let hands: Vec<_> = shares(all, cores())
            .into_iter()
            .map(|share| scope.spawn(move || work(share)))
            .collect();
        let mut done = Vec::new();
        for hand in hands {
            done.extend(hand.join().map_err(|_| anyhow::anyhow!("loading panicked"))??);
        }
        Ok(done)
    })
}

/// Makes a new snapshot of every partition that has changed, out of the journal alone: the lane is not asked and does
/// not pause. Partitions are folded some at a time, so that the journal's tail is read a few times at most and memory
/// never holds a second copy of everything.
///
/// # Errors
/// As [`recover`], and when a snapshot can't be kept.
pub fn take_snapshots(
    store: &dyn Store,
    vault: &Vault,
    is_stopping: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    let vault = &vault.that_leaves_link_keys_sealed();
    let mut numbers = (0..PARTITIONS).peekable();
    while numbers.peek().is_some() && !is_stopping() {
        let (mut group, mut kept) = (Vec::new(), BTreeMap::new());
        let mut bytes = 0;
        while let Some(number) = numbers.next_if(|_| bytes < GROUP_BYTES) {
            let loaded = Folded::load(store, vault, number)?;
            bytes += loaded.bytes;
            kept.insert(number, (loaded.newest, loaded.bytes));
            group.push(loaded.folded);
        }
        // One thread: the lane works at the same time, and is not to be pushed aside.
        let recovered = continue_to_end(store, vault, group, 1)?;
        for (number, folded) in recovered.partitions {
            // An empty partition has a snapshot like any other: without it, every start would read the journal from its first entry.
            let (newest, bytes) = kept.get(&number).copied().unwrap_or_default();
            if newest == Some(folded.head.sequence) {
                store.extend_snapshot(number, recovered.position)?;
                continue;
            }
            let body = folded.state.to_snapshot_of(bytes, vault);
            store.put_snapshot(&Snapshot::new(folded.head, recovered.position, body))?;
        }
    }
    Ok(())
}
