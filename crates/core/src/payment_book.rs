//! The payments that memory has: those of the last [`WINDOW`](crate::partition::WINDOW) entries, those changed within
//! them, and every one that time alone can still change. What else there was is read from the journal: the last entry
//! that changed a payment holds it whole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use warifu_proto::limits::CONFIRM_LIFETIME_MS;
use warifu_proto::message::PaymentStatus;
use warifu_proto::time::Timestamp;

use crate::layout::{LayoutError, Reader, Writer};
use crate::payment::Payment;

/// The payments of a partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct PaymentBook {
    /// Begun within the window, in order of their first sequence.
    recent: VecDeque<Payment>,
    /// Begun before it.
    older: BTreeMap<u64, Payment>,
    /// Which payment each changing entry of the window changed, in order: entry, payment.
    changes: VecDeque<(u64, u64)>,
    /// When open payments run out. Follows from the payments.
    timers: BTreeSet<(Timestamp, u64)>,
    /// What was last changed at or before this and is not open has been forgotten.
    forgotten_until: u64,
}

impl PaymentBook {
    pub(crate) fn get(&self, first_sequence: u64) -> Option<&Payment> {
        // Most are asked for right after they began.
        if let Some(newest) = self.recent.back().filter(|it| it.first_sequence == first_sequence) {
            return Some(newest);
        }
        match self.recent.binary_search_by_key(&first_sequence, |it| it.first_sequence) {
            Ok(at) => self.recent.get(at),
            Err(_) => self.older.get(&first_sequence),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.recent.len().saturating_add(self.older.len())
    }

    /// Payments that hold money back.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Payment> {
        self.timers.iter().filter_map(|(_, first_sequence)| self.get(*first_sequence))
    }

    /// The open payment whose time is over first.
    pub(crate) fn due(&self, now: Timestamp) -> Option<&Payment> {
        let (at, first_sequence) = self.timers.first()?;
        if *at <= now { self.get(*first_sequence) } else { None }
    }

    /// When the next open payment runs out.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Since when the oldest question to a payer, or hold whose time is over, waits for its end.
    pub(crate) fn unresolved_since(&self, now: Timestamp) -> Option<Timestamp> {
        let soon = now.plus_ms(CONFIRM_LIFETIME_MS);
        let front = self.timers.iter().take_while(|(at, _)| *at <= soon);
        front
            .filter_map(|(at, first_sequence)| {
                let payment = self.get(*first_sequence)?;
                let is_question = payment.status == PaymentStatus::AwaitingPayer;
                if is_question {
                    Some(payment.decided_at)
                } else {
                    Some(*at).filter(|at| *at <= now)
                }
            })
            .min()
    }

    pub(crate) fn begin(&mut self, payment: Payment) {
        self.set_timer(&payment, true);
        self.recent.push_back(payment);
    }

    pub(crate) fn undo_begin(&mut self) {
        if let Some(payment) = self.recent.pop_back() {
            self.set_timer(&payment, false);
        }
    }

    /// Puts a changed payment in the place of the former one, which it gives back.
    pub(crate) fn change(&mut self, payment: Payment) -> Option<Payment> {
        self.changes.push_back((payment.last_sequence, payment.first_sequence));
        self.put(payment)
    }

    pub(crate) fn undo_change(&mut self, first_sequence: u64, old: Option<Payment>) {
        self.changes.pop_back();
        match old {
            Some(old) => {
                // It would have been forgotten meanwhile, had the change not come.
                let is_over = !old.is_open() && old.last_sequence <= self.forgotten_until;
                self.put(old);
                if is_over {
                    self.remove_older(first_sequence);
                }
            }
            None => self.remove_older(first_sequence),
        }
    }

    fn put(&mut self, payment: Payment) -> Option<Payment> {
        self.set_timer(&payment, true);
        let first_sequence = payment.first_sequence;
        let at = self.recent.binary_search_by_key(&first_sequence, |it| it.first_sequence);
        let old = match at.ok().and_then(|at| self.recent.get_mut(at)) {
            Some(place) => Some(std::mem::replace(place, payment.clone())),
            None => self.older.insert(first_sequence, payment.clone()),
        };
        if let Some(old) = old.as_ref().filter(|it| it.expires_at != payment.expires_at) {
            self.set_timer(old, false);
        }
        old
    }

    fn remove_older(&mut self, first_sequence: u64) {
        if let Some(payment) = self.older.remove(&first_sequence) {
            self.set_timer(&payment, false);
        }
    }

    fn set_timer(&mut self, payment: &Payment, is_set: bool) {
        let Some(at) = payment.expires_at else { return };
        let timer = (at, payment.first_sequence);
        if is_set {
            self.timers.insert(timer);
        } else {
            self.timers.remove(&timer);
        }
    }

    /// Forgets what was last changed at or before a sequence and is not open.
    pub(crate) fn forget(&mut self, until: u64) {
        self.forgotten_until = self.forgotten_until.max(until);
        while self.recent.front().is_some_and(|it| it.first_sequence <= until) {
            let Some(payment) = self.recent.pop_front() else { break };
            if payment.is_open() || payment.last_sequence > until {
                self.older.insert(payment.first_sequence, payment);
            }
        }
        while self.changes.front().is_some_and(|(sequence, _)| *sequence <= until) {
            let Some((_, first_sequence)) = self.changes.pop_front() else { break };
            let is_over = |it: &Payment| !it.is_open() && it.last_sequence <= until;
            if self.older.get(&first_sequence).is_some_and(is_over) {
                self.older.remove(&first_sequence);
            }
        }
    }

    pub(crate) fn encode(&self, to: &mut Writer) {
        to.count(self.recent.len());
        self.recent.iter().for_each(|it| it.encode(to));
        to.count(self.older.len());
        self.older.values().for_each(|it| it.encode(to));
        to.count(self.changes.len());
        for (sequence, first_sequence) in &self.changes {
            to.u64(*sequence);
            to.u64(*first_sequence);
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let mut book = Self { recent: from.many(Payment::decode)?.into(), ..Self::default() };
        book.older =
            from.many(Payment::decode)?.into_iter().map(|it| (it.first_sequence, it)).collect();
        book.changes = from.many(|from| Ok((from.u64()?, from.u64()?)))?.into();
        let payments = book.recent.iter().chain(book.older.values());
        book.timers = payments.filter_map(|it| Some((it.expires_at?, it.first_sequence))).collect();
        Ok(book)
    }
}
