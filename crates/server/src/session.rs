//! Sessions as the server keeps them: in memory only, forgotten by a restart. `POST /v1/sessions` opens one.
//!
//! Limits: [`SESSIONS_PER_KEY_MAX`] for one key (the oldest is dropped), [`SESSION_LIFETIME_MAX_MS`] of life, and a total
//! bound at which the oldest of all is dropped. Dropping one costs its caller one more signature, nothing else.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use warifu_proto::Malformed;
use warifu_proto::id::SessionId;
use warifu_proto::key::{PrivateKey, Thumbprint};
use warifu_proto::limits::{SESSION_LIFETIME_MAX_MS, SESSIONS_PER_KEY_MAX};
use warifu_proto::message::{SessionAnswer, SessionRequest};
use warifu_proto::session::{SessionKeys, SessionParties};
use warifu_proto::time::Timestamp;

use crate::chance;

/// The path that opens a session, at every server.
pub const PATH: &str = "/v1/sessions";

/// Sessions in total when nobody says otherwise: 300 bytes each, so 30 MB.
const TOTAL_MAX: usize = 100_000;

/// The table of open sessions.
#[derive(Debug)]
pub struct Sessions {
    table: RwLock<Table>,
    total_max: usize,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<SessionId, Open>,
    /// In the order of opening, so the oldest are first; all live equally long.
    by_age: BTreeMap<u64, SessionId>,
    by_key: HashMap<Thumbprint, VecDeque<SessionId>>,
    opened: u64,
}

#[derive(Debug)]
struct Open {
    caller: Thumbprint,
    keys: Arc<SessionKeys>,
    expires_at: Timestamp,
    place: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        Self::new()
    }
}

impl Sessions {
    /// An empty table with the default total bound.
    pub fn new() -> Self {
        Self::bounded(TOTAL_MAX)
    }

    /// An empty table that holds at most so many sessions.
    pub fn bounded(total_max: usize) -> Self {
        Self { table: RwLock::default(), total_max: total_max.max(1) }
    }

    /// Whose session this is and what signs in it, if it is open. A read lock, two copies, no allocation.
    pub fn lookup(&self, id: &SessionId, now: Timestamp) -> Option<(Thumbprint, Arc<SessionKeys>)> {
        let table = self.read();
        let open = table.open.get(id).filter(|it| now < it.expires_at)?;
        Some((open.caller, Arc::clone(&open.keys)))
    }

    /// Opens a session for a caller whose identity was verified.
    ///
    /// # Errors
    /// When the caller's ephemeral key can't be agreed with.
    pub fn open(
        &self,
        server: &PrivateKey,
        caller: Thumbprint,
        request: &SessionRequest,
        now: Timestamp,
    ) -> Result<SessionAnswer, Malformed> {
        let (session, ephemeral) = (chance::id(now), chance::key());
        let parties = SessionParties { session, caller, server: server.thumbprint() };
        let keys = Arc::new(SessionKeys::for_server(parties, &ephemeral, &request.key)?);
        let expires_at = now.plus_ms(SESSION_LIFETIME_MAX_MS);
        self.write().insert(session, caller, keys, expires_at, now, self.total_max);
        Ok(SessionAnswer {
            session_id: session,
            key: ephemeral.public().clone(),
            expires_ms: expires_at.as_ms(),
        })
    }

    /// Drops every session of a key: it died.
    pub fn forget_key(&self, caller: &Thumbprint) {
        let mut table = self.write();
        for id in table.by_key.remove(caller).unwrap_or_default() {
            table.remove(&id);
        }
    }

    /// How many are open, the expired ones that nobody has dropped yet included.
    pub fn len(&self) -> usize {
        self.read().open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // A thread that panicked while holding the lock leaves at worst a session that nobody finds: go on.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn insert(
        &mut self,
        id: SessionId,
        caller: Thumbprint,
        keys: Arc<SessionKeys>,
        expires_at: Timestamp,
        now: Timestamp,
        total_max: usize,
    ) {
        while let Some((_, oldest)) = self.by_age.first_key_value() {
            let oldest = *oldest;
            let expired = self.open.get(&oldest).is_none_or(|it| it.expires_at <= now);
            if !expired && self.open.len() < total_max {
                break;
            }
            self.remove(&oldest);
        }
        let of_key = self.by_key.entry(caller).or_default();
        let dropped = (of_key.len() >= SESSIONS_PER_KEY_MAX).then(|| of_key.pop_front()).flatten();
        of_key.push_back(id);
        if let Some(dropped) = dropped {
            self.remove(&dropped);
        }
        let place = self.opened;
        self.opened = self.opened.wrapping_add(1);
        self.by_age.insert(place, id);
        self.open.insert(id, Open { caller, keys, expires_at, place });
    }

    fn remove(&mut self, id: &SessionId) {
        let Some(gone) = self.open.remove(id) else { return };
        self.by_age.remove(&gone.place);
        if let Some(of_key) = self.by_key.get_mut(&gone.caller) {
            of_key.retain(|it| it != id);
            if of_key.is_empty() {
                self.by_key.remove(&gone.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn request() -> (PrivateKey, SessionRequest) {
        let own = chance::key();
        let request = SessionRequest { key: own.public().clone() };
        (own, request)
    }

    #[test]
    fn both_sides_derive_the_same_keys() {
        let (sessions, server, caller) = (Sessions::new(), chance::key(), chance::key());
        let (own, request) = request();
        let answer = sessions.open(&server, caller.thumbprint(), &request, NOW).unwrap();
        let parties = SessionParties {
            session: answer.session_id,
            caller: caller.thumbprint(),
            server: server.thumbprint(),
        };
        let derived = SessionKeys::for_caller(parties, &own, &answer.key).unwrap();
        let (who, keys) = sessions.lookup(&answer.session_id, NOW).unwrap();
        assert_eq!(who, caller.thumbprint());
        assert!(*keys == derived);
    }

    #[test]
    fn a_fifth_session_drops_the_oldest_of_its_key_only() {
        let (sessions, server) = (Sessions::new(), chance::key());
        let (one, two) = (chance::key().thumbprint(), chance::key().thumbprint());
        let open = |caller| sessions.open(&server, caller, &request().1, NOW).unwrap().session_id;
        let other = open(two);
        let ids: Vec<SessionId> = (0..5).map(|_| open(one)).collect();
        let known = |id| sessions.lookup(id, NOW).is_some();
        assert!(!known(&ids[0]) && ids[1..].iter().all(known) && known(&other));
        assert_eq!(sessions.len(), 5);
        sessions.forget_key(&one);
        assert!(!ids.iter().any(known) && known(&other));
        let table = sessions.read();
        assert_eq!((table.by_age.len(), table.by_key.len()), (1, 1));
    }

    #[test]
    fn sessions_end_by_time_and_by_the_total_bound() {
        let (sessions, server) = (Sessions::bounded(3), chance::key());
        let open = |now| {
            let caller = chance::key().thumbprint();
            sessions.open(&server, caller, &request().1, now).unwrap()
        };
        let first = open(NOW);
        let end = Timestamp::from_ms(first.expires_ms);
        assert!(sessions.lookup(&first.session_id, Timestamp::from_ms(end.as_ms() - 1)).is_some());
        assert!(sessions.lookup(&first.session_id, end).is_none());
        let second = open(NOW);
        open(NOW);
        open(NOW);
        assert_eq!(sessions.len(), 3);
        assert!(sessions.lookup(&first.session_id, NOW).is_none());
        assert!(sessions.lookup(&second.session_id, NOW).is_some());
        open(end);
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions.read().by_key.len(), 1);
    }
}
