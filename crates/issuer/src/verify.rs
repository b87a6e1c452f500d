//! Proves that everything on disk agrees: makes the whole state again from the journal, in two ways that share no code,
//! and compares the ways with each other, with the snapshots, the index and the views.
//!
//! The first way is the issuer's own: `apply`, entry by entry, with every link of the chain. The second are the books of `verify/books.rs`,
//! which know the laws but not the rules. Files that follow the journal are read at the very position they had reached,
//! under one read transaction each, so a live issuer may go on writing meanwhile. Nothing is written.

mod books;
mod codes;
mod compare;
mod feed;
mod files;
mod marks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use warifu_core::entry::Entry;
use warifu_core::undo::UndoLog;
use warifu_core::vault::Vault;
use warifu_proto::code::Prefix;
use warifu_proto::limits::PARTITIONS;

use self::books::Books;
use self::files::Files;
use crate::engine::recover::Folded;
use crate::store::Frame;

/// Differences that are told in words; beyond that they are only counted.
const TOLD_MAX: usize = 100;
/// How much of the journal is read at once, in bytes.
const READ_BYTES: usize = 4 << 20;

/// What was checked, and what differs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// How much of each thing was checked.
    pub checked: BTreeMap<String, u64>,
    /// What differs, in words: the first hundred.
    pub differences: Vec<String>,
    /// How many differences there are.
    pub differences_count: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Report {
    /// Whether everything agrees.
    pub fn is_clean(&self) -> bool {
        self.differences_count == 0
    }

    pub(crate) fn count(&mut self, what: &str, by: u64) {
        *self.checked.entry(what.to_owned()).or_default() += by;
    }

    pub(crate) fn differs(&mut self, what: impl FnOnce() -> String) {
        self.differences_count += 1;
        if self.differences.len() < TOLD_MAX {
            self.differences.push(what());
        }
    }

    pub(crate) fn expect(&mut self, agrees: bool, what: impl FnOnce() -> String) {
        if !agrees {
            self.differs(what);
        }
    }
}

/// Verifies the data folder of an issuer. `progress` hears how many entries have been read.
///
/// # Errors
/// When the folder can't be read at all, or is not this issuer's. Everything else is a difference.
pub fn verify(
    data: &Path,
    prefix: Prefix,
    vault: &Vault,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<Report> {
    let began = Instant::now();
    let files = Files::open(data, prefix)?;
    let mut work = Work {
        folded: (0..PARTITIONS)
            .map(|number| (number, Folded::empty(&files.journal_id, number)))
            .collect(),
        books: Books::new(prefix),
        broken: BTreeMap::new(),
        report: Report::default(),
        snapshots_met: BTreeSet::new(),
        undo: UndoLog::default(),
        prefix,
        vault,
    };
    let mut position = 0;
    let (mut is_viewed, mut is_indexed) = (false, false);
    loop {
        // The followers may be at the very beginning, or where a frame ends.
        is_viewed = is_viewed || work.views(&files, position)?;
        is_indexed = is_indexed || work.index(&files, position)?;
        let frames = match files.frames(position, READ_BYTES) {
            Ok(frames) => frames,
            Err(error) => {
                work.report.differs(|| format!("the journal after position {position}: {error:#}"));
                break;
            }
        };
        if frames.is_empty() {
            break;
        }
        for frame in &frames {
            work.report.expect(frame.position == position + 1, || {
                format!(
                    "the journal has nothing between positions {position} and {}",
                    frame.position
                )
            });
            position = frame.last_position();
            work.frame(frame);
            work.snapshots(&files, frame)?;
            is_viewed = is_viewed || work.views(&files, position)?;
            is_indexed = is_indexed || work.index(&files, position)?;
        }
        progress(work.report.checked.get("entries").copied().unwrap_or_default());
    }
    for (is_met, what, at) in
        [(is_viewed, "views", files.viewed), (is_indexed, "index", files.indexed)]
    {
        work.report.expect(is_met, || {
            format!("the {what} are at position {at}, which is no end of a commit: the journal ends at {position}")
        });
    }
    work.states();
    let Work { snapshots_met, broken, mut report, .. } = work;
    for ((partition, sequence), line) in &files.snapshots {
        report.expect(line.covers <= position, || {
            format!("a snapshot of partition {partition:02} covers position {}, and the journal ends at {position}: its end is lost", line.covers)
        });
        // Before its first entry a partition has a snapshot too.
        let is_met = *sequence == 0 || snapshots_met.contains(&(*partition, *sequence));
        report.expect(is_met || broken.contains_key(partition), || {
            format!("the snapshot of partition {partition:02} at {sequence} is of no moment of the journal")
        });
    }
    report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

/// A verification under way.
struct Work<'a> {
    folded: BTreeMap<u8, Folded>,
    books: Books,
    /// Partitions that can't be followed any further, with the sequence they broke at.
    broken: BTreeMap<u8, u64>,
    report: Report,
    snapshots_met: BTreeSet<(u8, u64)>,
    undo: UndoLog,
    prefix: Prefix,
    vault: &'a Vault,
}

impl Work<'_> {
    /// Follows one commit in both ways.
    fn frame(&mut self, frame: &Frame) {
        self.report.count("frames", 1);
        for (position, bytes) in (frame.position..).zip(&frame.entries) {
            self.report.count("entries", 1);
            self.report.count("entry bytes", u64::try_from(bytes.bytes.len()).unwrap_or_default());
            match Entry::decode(&bytes.bytes) {
                Ok(entry) => {
                    self.books.take(&entry, position, frame.position, &mut self.report);
                }
                Err(error) => self.report.differs(|| {
                    format!("entry {} of partition {:02}: {error}", bytes.sequence, bytes.partition)
                }),
            }
        }
        for head in &frame.after {
            let (number, vault) = (head.partition, self.vault);
            if self.broken.contains_key(&number) {
                continue;
            }
            let Some(folded) = self.folded.get_mut(&number) else { continue };
            if let Err(error) = folded.apply(frame, vault, &mut self.undo) {
                self.report.differs(|| format!("partition {number:02}: {error:#}"));
                self.broken.insert(number, folded.head.sequence);
            }
        }
    }

    /// At the end both ways must have come to the same.
    fn states(&mut self) {
        for (number, folded) in &self.folded {
            if self.broken.contains_key(number) {
                continue;
            }
            if folded.head.sequence > 0 {
                self.report.count("partitions", 1);
            }
            self.report.expect(folded.state.imbalance().values().all(|it| *it == 0), || {
                format!("partition {number:02}: debits and credits differ")
            });
            compare::state(&folded.state, &self.books, &mut self.report);
        }
        self.books.count(&mut self.report);
    }
}
