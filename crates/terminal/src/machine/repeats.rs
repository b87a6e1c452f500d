//! When something is sent again: 0.2, 0.4, 0.8 … 5 s apart, from the moment it is stored until it is done or of no use
//! any more.

/// First pause before a repeat.
const PAUSE_MIN_MS: u64 = 200;
/// Longest pause before a repeat.
const PAUSE_MAX_MS: u64 = 5_000;

#[derive(Debug)]
pub(super) struct Repeats {
    /// It may leave when this revision is stored.
    needs_revision: u64,
    /// Until when sending it makes sense, in milliseconds of life.
    pub(super) until_ms: u64,
    /// When it was first sent.
    pub(super) started_ms: Option<u64>,
    next_ms: u64,
    pause_ms: u64,
    /// Acknowledged, or refused for good.
    pub(super) is_done: bool,
}

impl Repeats {
    pub(super) fn new(needs_revision: u64, until_ms: u64) -> Self {
        Self {
            needs_revision,
            until_ms,
            started_ms: None,
            next_ms: 0,
            pause_ms: PAUSE_MIN_MS,
            is_done: false,
        }
    }

    pub(super) fn is_stored(&self, durable_revision: u64) -> bool {
        durable_revision >= self.needs_revision
    }

    /// Whether it is to be sent now; if so, the next time is set.
    pub(super) fn is_due(&mut self, durable_revision: u64, now_ms: u64) -> bool {
        let is_due = !self.is_done
            && self.is_stored(durable_revision)
            && now_ms >= self.next_ms
            && now_ms < self.until_ms;
        if is_due {
            self.started_ms.get_or_insert(now_ms);
            self.next_ms = now_ms.saturating_add(self.pause_ms);
            self.pause_ms = self.pause_ms.saturating_mul(2).min(PAUSE_MAX_MS);
        }
        is_due
    }

    pub(super) fn next_deadline(&self, durable_revision: u64) -> Option<u64> {
        let waits =
            !self.is_done && self.is_stored(durable_revision) && self.next_ms < self.until_ms;
        waits.then_some(self.next_ms)
    }
}
