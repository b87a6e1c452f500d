//! The request ids that memory has: those of the last [`WINDOW`](crate::partition::WINDOW) entries, in order of sequence,
//! and a table that finds them. The table holds places only, so asking for an id that is not there, as every new
//! payment does, touches nothing else.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use warifu_proto::id::MerchantId;
use warifu_proto::request_id::RequestId;

use crate::partition::{Remembered, WINDOW};

/// A partition with so many ids gets a table for a whole window at once, half a megabyte: to grow, a table looks at every
/// line again, which would take some milliseconds later on.
const BUSY: usize = 1024;

/// A request that was answered.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) caller: MerchantId,
    pub(crate) request: RequestId,
    pub(crate) remembered: Remembered,
}

impl Line {
    fn is_of(&self, caller: MerchantId, request: &RequestId) -> bool {
        self.caller == caller && self.request == *request
    }
}

/// Number of a line, counted from the first that ever was.
pub(crate) type LineNumber = u64;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    lines: VecDeque<Line>,
    first: LineNumber,
    /// The newest line of each id.
    newest: HashTable<LineNumber>,
    /// Callers choose request ids: with a secret in the hash they can't choose ids that collide. What is found does not
    /// depend on it.
    hasher: FixedState,
}

impl Default for Requests {
    fn default() -> Self {
        let (lines, newest) = (VecDeque::new(), HashTable::new());
        Self { lines, first: 0, newest, hasher: FixedState::with_seed(0) }
    }
}

impl Requests {
    /// The secret is the vault's and always the same: it is taken before the first line comes.
    pub(crate) fn take_secret(&mut self, secret: u64) {
        if self.newest.is_empty() {
            self.hasher = FixedState::with_seed(secret);
        }
    }

    pub(crate) fn get(&self, caller: MerchantId, request: &RequestId) -> Option<Remembered> {
        let hash = self.hasher.hash_one((caller, request));
        let is_it = |number: &LineNumber| {
            line(&self.lines, self.first, *number).is_some_and(|it| it.is_of(caller, request))
        };
        let number = self.newest.find(hash, is_it)?;
        line(&self.lines, self.first, *number).map(|it| it.remembered)
    }

    /// All, in order of sequence; and whether each is what its id stands for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Line, bool)> {
        self.lines.iter().map(|it| {
            let now = self.get(it.caller, &it.request);
            (it, now.is_some_and(|now| now.sequence == it.remembered.sequence))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Of lines in order of sequence, found by a table with this secret.
    pub(crate) fn of(lines: Vec<Line>, secret: u64) -> Self {
        let room = if lines.len() < BUSY { lines.len() } else { lines.len().max(window()) };
        let newest = HashTable::with_capacity(room);
        let hasher = FixedState::with_seed(secret);
        let mut all = Self { lines: lines.into(), first: 0, newest, hasher };
        for number in (0..).take(all.lines.len()) {
            all.point_to(number);
        }
        all
    }

    /// Adds the newest line. An older one of the same id stays, and is no longer what the id stands for: its number is
    /// given back.
    pub(crate) fn add(&mut self, new: Line) -> Option<LineNumber> {
        let behind = u64::try_from(self.lines.len()).unwrap_or(u64::MAX);
        self.lines.push_back(new);
        self.point_to(self.first.saturating_add(behind))
    }

    /// From now on the id of this line stands for it; gives back what it stood for.
    fn point_to(&mut self, number: LineNumber) -> Option<LineNumber> {
        let Self { lines, first, newest, hasher } = self;
        let new = line(lines, *first, number)?;
        let hash_of = |it: &LineNumber| {
            line(lines, *first, *it).map_or(0, |it| hasher.hash_one((it.caller, &it.request)))
        };
        if newest.len() == BUSY {
            newest.reserve(window(), hash_of);
        }
        let is_it = |it: &LineNumber| {
            line(lines, *first, *it).is_some_and(|it| it.is_of(new.caller, &new.request))
        };
        match newest.entry(hash_of(&number), is_it, hash_of) {
            Entry::Occupied(mut place) => Some(std::mem::replace(place.get_mut(), number)),
            Entry::Vacant(place) => {
                place.insert(number);
                None
            }
        }
    }

    /// Takes the newest line out again, and puts the one that it had superseded in its place.
    pub(crate) fn undo_add(&mut self, before: Option<LineNumber>) {
        let Some(gone) = self.lines.pop_back() else { return };
        let number = self.first.saturating_add(u64::try_from(self.lines.len()).unwrap_or(u64::MAX));
        let hash = self.hasher.hash_one((gone.caller, &gone.request));
        if let Ok(mut place) = self.newest.find_entry(hash, |it| *it == number) {
            match before.filter(|before| *before >= self.first) {
                Some(before) => *place.get_mut() = before,
                None => drop(place.remove()),
            }
        }
    }

    /// Takes the oldest line out if its sequence is `until` or less; and says whether its id is no longer known at all.
    pub(crate) fn forget(&mut self, until: u64) -> Option<(Line, bool)> {
        if self.lines.front()?.remembered.sequence > until {
            return None;
        }
        let gone = self.lines.pop_front()?;
        let number = self.first;
        self.first = self.first.saturating_add(1);
        let hash = self.hasher.hash_one((gone.caller, &gone.request));
        let newest = self.newest.find_entry(hash, |it| *it == number);
        let is_unknown = newest.is_ok();
        if let Ok(place) = newest {
            place.remove();
        }
        Some((gone, is_unknown))
    }
}

fn window() -> usize {
    usize::try_from(WINDOW).unwrap_or(usize::MAX)
}

fn line(lines: &VecDeque<Line>, first: LineNumber, number: LineNumber) -> Option<&Line> {
    lines.get(usize::try_from(number.checked_sub(first)?).ok()?)
}
