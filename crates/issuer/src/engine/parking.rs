//! Payments whose registration has not arrived: found by their request id (a repeat joins), by the place of their code
//! (a registration wakes them), and by time (a wait is over).

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use warifu_core::decide::Pay;
use warifu_proto::id::{MerchantId, ReaderId};
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use super::lane::Replies;
use crate::misses::{PER_MERCHANT_MAX, PER_READER_MAX};

/// Most payments that wait at one time.
const PARKED_MAX: usize = 10_000;

type Key = (MerchantId, RequestId);
type Place = (u8, usize);

/// A payment that waits, and who waits for it.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) partition: u8,
    pub(super) pay: Box<Pay>,
    pub(super) replies: Replies,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Parking {
    parked: HashMap<Key, Parked>,
    by_place: HashMap<Place, Vec<Key>>,
    by_time: BTreeSet<(Timestamp, MerchantId, RequestId)>,
    by_reader: HashMap<ReaderId, u32>,
    by_merchant: HashMap<MerchantId, u32>,
}

impl Parking {
    pub(super) fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// Whether this one can't wait as well. A reader and a merchant have as many waiting as they may make misses in a
    /// minute: more at a time would be guesses that nobody has counted yet.
    pub(super) fn is_full_for(&self, pay: &Pay) -> bool {
        let waits = |count: Option<&u32>, max: u32| count.is_some_and(|it| *it >= max);
        self.parked.len() >= PARKED_MAX
            || waits(self.by_reader.get(&pay.reader), PER_READER_MAX)
            || waits(self.by_merchant.get(&pay.merchant), PER_MERCHANT_MAX)
    }

    /// The payment that waits under a request id.
    pub(super) fn of_request(
        &mut self,
        merchant: MerchantId,
        request: &RequestId,
    ) -> Option<&mut Parked> {
        if self.parked.is_empty() {
            return None;
        }
        self.parked.get_mut(&(merchant, request.clone()))
    }

    /// Takes the payment that waits under a request id.
    pub(super) fn take_request(
        &mut self,
        merchant: MerchantId,
        request: &RequestId,
    ) -> Option<Parked> {
        if self.parked.is_empty() { None } else { self.take(&(merchant, request.clone())) }
    }

    /// Since when the one that is to be decided next waits: nobody waits longer than a wait lasts.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let longest_ms = warifu_proto::limits::REGISTRATION_WAIT_MAX_MS;
        self.next_end().map(|at| Timestamp::from_ms(at.as_ms().saturating_sub(longest_ms)))
    }

    /// When the next wait is over.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, ..)| *at)
    }

    pub(super) fn park(&mut self, parked: Parked) {
        let key = (parked.pay.merchant, parked.pay.request.clone());
        self.by_time.insert((parked.pay.wait_until, key.0, key.1.clone()));
        self.by_place.entry(place(&parked)).or_default().push(key.clone());
        *self.by_reader.entry(parked.pay.reader).or_default() += 1;
        *self.by_merchant.entry(parked.pay.merchant).or_default() += 1;
        self.parked.insert(key, parked);
    }

    /// Takes those that wait at a place.
    pub(super) fn take_at(&mut self, partition: u8, slot: usize) -> Vec<Parked> {
        let keys = self.by_place.get(&(partition, slot)).cloned().unwrap_or_default();
        keys.into_iter().filter_map(|key| self.take(&key)).collect()
    }

    /// Takes those whose wait is over.
    pub(super) fn take_over(&mut self, now: Timestamp) -> Vec<Parked> {
        let mut over = Vec::new();
        while let Some((at, merchant, request)) = self.by_time.first() {
            if *at > now {
                break;
            }
            let key = (*merchant, request.clone());
            over.extend(self.take(&key));
        }
        over
    }

    /// Takes all of them.
    pub(super) fn take_all(&mut self) -> Vec<Parked> {
        self.take_over(Timestamp::MAX)
    }

    fn take(&mut self, key: &Key) -> Option<Parked> {
        let parked = self.parked.remove(key)?;
        self.by_time.remove(&(parked.pay.wait_until, key.0, key.1.clone()));
        uncount(&mut self.by_reader, parked.pay.reader);
        uncount(&mut self.by_merchant, parked.pay.merchant);
        let place = place(&parked);
        if let Some(keys) = self.by_place.get_mut(&place) {
            keys.retain(|it| it != key);
            if keys.is_empty() {
                self.by_place.remove(&place);
            }
        }
        Some(parked)
    }
}

fn uncount<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, u32>, of: K) {
    if let Entry::Occupied(mut count) = counts.entry(of) {
        *count.get_mut() = count.get().saturating_sub(1);
        if *count.get() == 0 {
            count.remove();
        }
    }
}

fn place(parked: &Parked) -> Place {
    (parked.partition, parked.pay.locator.slot())
}
