//! The bytes of a commit in the journal: one frame, one row, one insert, however many entries it has. Decision 0002.
//!
//! ```text
//! u8 version = 1 · u8 heads · heads × (u8 partition · u64 sequence · [32] chain) · u32 entries · entries × (u16 length · bytes)
//! ```
//!
//! Partition and sequence of an entry lie in its own bytes 2 and 3–10, so they are not written twice.

use crate::store::{Batch, EntryBytes, Frame, Head, StoreError};
use warifu_core::layout::{LayoutError, Reader, Writer};

const VERSION: u8 = 1;

/// The bytes of a batch.
pub fn encode(batch: &Batch) -> Vec<u8> {
    let bytes: usize = batch.entries.iter().map(|it| it.bytes.len() + 2).sum();
    let mut to = Writer(Vec::with_capacity(bytes + batch.after.len() * 41 + 6));
    to.u8(VERSION);
    to.u8(u8::try_from(batch.after.len()).expect("there are 100 partitions"));
    for head in &batch.after {
        to.u8(head.partition);
        to.u64(head.sequence);
        to.raw(&head.chain);
    }
    to.u32(u32::try_from(batch.entries.len()).expect("a batch has at most some thousand entries"));
    for entry in &batch.entries {
        to.u16(u16::try_from(entry.bytes.len()).expect("an entry has less than 64 KiB"));
        to.raw(&entry.bytes);
    }
    to.0
}

/// Reads a frame.
///
/// # Errors
/// When the bytes are damaged.
pub fn decode(position: u64, bytes: &[u8]) -> Result<Frame, StoreError> {
    read(position, &mut Reader(bytes)).map_err(|error| StoreError {
        what: format!("reading the frame at position {position}"),
        source: Some(Box::new(error)),
    })
}

fn read(position: u64, from: &mut Reader<'_>) -> Result<Frame, LayoutError> {
    if from.u8()? != VERSION {
        return Err(LayoutError("a frame's version that this program does not know"));
    }
    let mut after = Vec::new();
    for _ in 0..from.u8()? {
        after.push(Head { partition: from.u8()?, sequence: from.u64()?, chain: from.array()? });
    }
    let mut entries = Vec::new();
    for _ in 0..from.u32()? {
        let length = usize::from(from.u16()?);
        let bytes = from.slice(length)?;
        let mut head = Reader(bytes);
        head.u16()?;
        entries.push(EntryBytes {
            partition: head.u8()?,
            sequence: head.u64()?,
            bytes: bytes.to_vec(),
        });
    }
    from.end()?;
    if entries.is_empty() {
        return Err(LayoutError("a frame without entries"));
    }
    // Whoever reads entries goes by the heads: an entry without one would be passed over in silence.
    let mut last = [0; 256];
    for entry in &entries {
        if let Some(last) = last.get_mut(usize::from(entry.partition)) {
            *last = entry.sequence;
        }
    }
    for head in &after {
        let last = last.get_mut(usize::from(head.partition)).map(std::mem::take);
        if last != Some(head.sequence) || head.sequence == 0 {
            return Err(LayoutError("a frame whose heads are not those of its entries"));
        }
    }
    if last.iter().any(|it| *it != 0) {
        return Err(LayoutError("a frame with an entry that no head covers"));
    }
    Ok(Frame { position, after, entries })
}
