//! The linked terminals in memory, as the table `link` has them: the key of a credential for every registration,
//! the credential of a key for every signed call.
//!
//! Law: only what the store has committed is put here. About 400 bytes a terminal. Ended links stay for a day:
//! they can do nothing any more but repeat their unlinking.

use std::collections::{HashMap, VecDeque};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use warifu_proto::code::Prefix;
use warifu_proto::id::CredentialId;
use warifu_proto::key::{PublicKey, Thumbprint};
use warifu_proto::time::Timestamp;

use crate::store::{ENDED_KEPT_MS, Link};

#[derive(Debug, Default)]
struct Tables {
    by_credential: HashMap<CredentialId, Link>,
    by_key: HashMap<Thumbprint, CredentialId>,
    counts: HashMap<Prefix, u64>,
    /// In the order of their ends.
    ended: VecDeque<(Timestamp, CredentialId)>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Terminals {
    tables: RwLock<Tables>,
}

impl Terminals {
    /// Of the links in the store.
    pub(crate) fn new(links: Vec<Link>) -> Self {
        let terminals = Self::default();
        let mut ended: Vec<_> =
            links.iter().filter_map(|it| Some((it.ended_at?, it.credential))).collect();
        ended.sort_unstable();
        terminals.write().ended = ended.into();
        links.into_iter().for_each(|link| terminals.put(link));
        terminals
    }

    /// A link that has not ended.
    pub(crate) fn link(&self, credential: CredentialId) -> Option<Link> {
        self.link_or_ended(credential).filter(|it| it.ended_at.is_none())
    }

    /// A link, ended or not.
    pub(crate) fn link_or_ended(&self, credential: CredentialId) -> Option<Link> {
        self.read().by_credential.get(&credential).cloned()
    }

    /// The link of a key, ended or not.
    pub(crate) fn link_of_key(&self, key: Thumbprint) -> Option<Link> {
        let tables = self.read();
        tables.by_key.get(&key).and_then(|it| tables.by_credential.get(it)).cloned()
    }

    /// The key itself, ended or not.
    pub(crate) fn key(&self, thumbprint: &Thumbprint) -> Option<PublicKey> {
        let tables = self.read();
        let credential = tables.by_key.get(thumbprint)?;
        tables.by_credential.get(credential).map(|it| it.key.parse())
    }

    /// Whether a link has this key, ended or not.
    pub(crate) fn knows(&self, key: Thumbprint) -> bool {
        self.read().by_key.contains_key(&key)
    }

    /// How many are linked, ended ones of the last day included.
    pub(crate) fn count(&self) -> usize {
        self.read().by_credential.len()
    }

    /// How many of them are one issuer's.
    pub(crate) fn count_of(&self, prefix: Prefix) -> u64 {
        self.read().counts.get(&prefix).copied().unwrap_or_default()
    }

    /// Takes a link that the store has.
    pub(crate) fn put(&self, link: Link) {
        let mut tables = self.write();
        let (credential, key, prefix) = (link.credential, link.key.thumbprint(), link.prefix);
        match tables.by_credential.insert(credential, link) {
            // The store lets no credential change its prefix.
            Some(before) => drop(tables.by_key.remove(&before.key.thumbprint())),
            None => *tables.counts.entry(prefix).or_default() += 1,
        }
        tables.by_key.insert(key, credential);
    }

    /// Ends a link that the store has ended, and forgets those that ended long ago.
    pub(crate) fn end(&self, credential: CredentialId, now: Timestamp) {
        let mut tables = self.write();
        let Tables { by_credential, by_key, counts, ended } = &mut *tables;
        if let Some(link) = by_credential.get_mut(&credential)
            && link.ended_at.is_none()
        {
            link.ended_at = Some(now);
            ended.push_back((now, credential));
        }
        while let Some((at, credential)) =
            ended.pop_front_if(|(at, _)| now.since_ms(*at) > ENDED_KEPT_MS)
        {
            // It may have been linked again since.
            if by_credential.get(&credential).is_some_and(|it| it.ended_at == Some(at))
                && let Some(link) = by_credential.remove(&credential)
            {
                by_key.remove(&link.key.thumbprint());
                counts.entry(link.prefix).and_modify(|count| *count = count.saturating_sub(1));
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warifu_proto::id::InvitationId;
    use warifu_proto::key::PrivateKey;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn link(credential: u8, key: u8) -> Link {
        Link {
            credential: CredentialId::from_raw([credential; 16]),
            key: PrivateKey::from_bytes(&[key; 32]).unwrap().public().into(),
            prefix: Prefix::parse("71000001").unwrap(),
            partition: 7,
            invitation: InvitationId::from_raw([credential; 16]),
            linked_at: NOW,
            ended_at: None,
        }
    }

    #[test]
    fn both_tables_say_the_same() {
        let terminals = Terminals::new(vec![link(1, 1), link(2, 2)]);
        terminals.put(link(1, 3));
        let key = |number| link(1, number).key.thumbprint();
        assert!(terminals.key(&key(1)).is_none());
        assert_eq!(terminals.link_of_key(key(3)), Some(link(1, 3)));
        terminals.end(link(2, 2).credential, NOW);
        assert!(terminals.link(link(2, 2).credential).is_none());
        assert!(terminals.link_or_ended(link(2, 2).credential).is_some());
        assert!(terminals.key(&key(2)).is_some());
        terminals.end(link(9, 9).credential, NOW.plus_ms(ENDED_KEPT_MS + 1));
        assert!(terminals.key(&key(2)).is_none());
        assert_eq!(terminals.count(), 1);
        assert_eq!(terminals.count_of(link(1, 3).prefix), 1);
        assert_eq!(terminals.count_of(Prefix::parse("71000002").unwrap()), 0);
    }
}
