//! The last frames that this program appended, kept in memory: the index, the views, the notices, the feeds and the
//! snapshots all read them within moments, and need not read them back from the disk, each for itself.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Frame;

/// Most bytes of entries that are kept.
const BYTES_MAX: usize = 16 << 20;

/// Without gaps, up to the end of the journal.
#[derive(Debug, Default)]
pub(super) struct Recent {
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
}

impl Recent {
    pub(super) fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes();
        self.frames.push_back(Arc::new(frame));
        while self.bytes > BYTES_MAX && self.frames.len() > 1 {
            let Some(gone) = self.frames.pop_front() else { break };
            self.bytes -= gone.bytes();
        }
    }

    /// What [`Store::read`](super::Store::read) answers; nothing when it begins before what is kept.
    pub(super) fn read(&self, position: u64, bytes_max: usize) -> Option<Vec<Arc<Frame>>> {
        if position < self.frames.front()?.position {
            return None;
        }
        let from = self.frames.partition_point(|it| it.last_position() < position);
        let mut bytes = 0;
        let wanted = self.frames.range(from..).take_while(|frame| {
            let is_wanted = bytes < bytes_max || bytes == 0;
            bytes += frame.bytes();
            is_wanted
        });
        Some(wanted.map(Arc::clone).collect())
    }
}
