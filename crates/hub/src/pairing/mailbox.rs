//! The mailbox through which a reader and its merchant find each other. The hub can't judge a proof: it keeps what
//! readers said, hands it to the merchant's side in order, and keeps the merchant's answer for repeats.
//!
//! Law: a wrong proof burns nothing: it waits among at most [`REQUESTS_MAX`] until the merchant refuses it. A
//! pairing has one answer. Everything ends with the pairing's ten minutes; the entry itself is in the directory's
//! log. In memory and bounded; no clock: times are arguments.

use std::collections::{HashMap, VecDeque};

use tokio::sync::watch;
use warifu_proto::id::{MerchantId, PairingId};
use warifu_proto::key::Thumbprint;
use warifu_proto::limits::PAIRING_LIFETIME_MS;
use warifu_proto::message::{PairingAnswer, PairingRequest};
use warifu_proto::time::Timestamp;

/// Pairings open at once at one hub: about 20 KiB each at most.
const OPEN_MAX: usize = 1_000;
/// Pairings open at once of one merchant, so that none takes all the room.
const OPEN_PER_MERCHANT_MAX: usize = 50;
/// Requests that wait in one pairing, and refused ones that are remembered.
pub(crate) const REQUESTS_MAX: usize = 10;
/// Calls that wait in one pairing: each holds a place among the hub's calls in flight, and a repeat is one more.
const CALLS_MAX: usize = 3 * REQUESTS_MAX;

/// Why the mailbox does not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MailboxError {
    /// Nothing there for this caller, or no more.
    #[error("the pairing is not open")]
    Unknown,
    /// The id is another merchant's.
    #[error("the pairing id is taken")]
    Taken,
    /// Its time is over already.
    #[error("the pairing would have expired already")]
    Expired,
    /// This merchant has many pairings open.
    #[error("this merchant has too many pairings open")]
    TooManyOpen,
    /// Everybody together has.
    #[error("too many pairings are open")]
    Full,
    /// Many readers ask in one pairing, or a few of them very often.
    #[error("too many requests wait in this pairing")]
    TooManyRequests,
    /// The merchant's side did not believe the proof.
    #[error("the proof was refused")]
    Refused,
    /// The pairing has another answer.
    #[error("the pairing was used for another reader")]
    Used,
    /// No reader asked with this key.
    #[error("no reader with this key asked")]
    NobodyAsked,
}

#[derive(Debug)]
struct Pairing {
    merchant: MerchantId,
    expires_at: Timestamp,
    requests: VecDeque<PairingRequest>,
    refused: VecDeque<(Thumbprint, [u8; 32])>,
    answer: Option<(Thumbprint, PairingAnswer)>,
    changed: watch::Sender<()>,
}

/// What a reader's call finds.
#[derive(Debug)]
pub(crate) enum Submitted {
    /// The merchant has answered.
    Answered(Box<PairingAnswer>),
    /// Not yet: wait for a change, then ask again.
    Waiting(watch::Receiver<()>),
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    pairings: HashMap<PairingId, Pairing>,
}

impl Mailbox {
    /// Opens a pairing, for at most ten minutes; the same merchant may repeat it. Gives its end.
    pub(crate) fn open(
        &mut self,
        id: PairingId,
        merchant: MerchantId,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<Timestamp, MailboxError> {
        self.sweep(now);
        if let Some(pairing) = self.pairings.get(&id) {
            let own = pairing.merchant == merchant;
            return if own { Ok(pairing.expires_at) } else { Err(MailboxError::Taken) };
        }
        let expires_at = expires_at.min(now.plus_ms(PAIRING_LIFETIME_MS));
        if expires_at <= now {
            return Err(MailboxError::Expired);
        }
        if self.pairings.len() >= OPEN_MAX {
            return Err(MailboxError::Full);
        }
        let of_merchant = self.pairings.values().filter(|it| it.merchant == merchant).count();
        if of_merchant >= OPEN_PER_MERCHANT_MAX {
            return Err(MailboxError::TooManyOpen);
        }
        self.pairings.insert(
            id,
            Pairing {
                merchant,
                expires_at,
                requests: VecDeque::new(),
                refused: VecDeque::new(),
                answer: None,
                changed: watch::Sender::new(()),
            },
        );
        Ok(expires_at)
    }

    /// A reader asks, or asks again.
    pub(crate) fn submit(
        &mut self,
        id: PairingId,
        request: &PairingRequest,
        now: Timestamp,
    ) -> Result<Submitted, MailboxError> {
        self.sweep(now);
        let pairing = self.pairings.get_mut(&id).ok_or(MailboxError::Unknown)?;
        let key = request.key.thumbprint();
        match &pairing.answer {
            Some((of, answer)) if *of == key => {
                return Ok(Submitted::Answered(Box::new(answer.clone())));
            }
            Some(_) => return Err(MailboxError::Unknown),
            None => {}
        }
        if pairing.refused.contains(&(key, request.proof)) {
            return Err(MailboxError::Refused);
        }
        if pairing.changed.receiver_count() >= CALLS_MAX {
            return Err(MailboxError::TooManyRequests);
        }
        if !pairing.requests.contains(request) {
            // The same reader with a corrected proof takes its own place.
            pairing.requests.retain(|it| it.key != request.key);
            if pairing.requests.len() >= REQUESTS_MAX {
                return Err(MailboxError::TooManyRequests);
            }
            pairing.requests.push_back(request.clone());
            pairing.changed.send_replace(());
        }
        Ok(Submitted::Waiting(pairing.changed.subscribe()))
    }

    /// The oldest request that has no answer, and how to wait for one.
    pub(crate) fn oldest(
        &mut self,
        id: PairingId,
        merchant: MerchantId,
        now: Timestamp,
    ) -> Result<(Option<PairingRequest>, watch::Receiver<()>), MailboxError> {
        let pairing = self.of_merchant(id, merchant, now)?;
        let request = match pairing.answer {
            Some(_) => None,
            None => pairing.requests.front().cloned(),
        };
        Ok((request, pairing.changed.subscribe()))
    }

    /// Whether the merchant may answer with this reader's key: somebody asked with it, and nobody else was answered.
    pub(crate) fn can_answer(
        &mut self,
        id: PairingId,
        merchant: MerchantId,
        key: Thumbprint,
        now: Timestamp,
    ) -> Result<(), MailboxError> {
        let pairing = self.of_merchant(id, merchant, now)?;
        match &pairing.answer {
            Some((of, _)) if *of == key => Ok(()),
            Some(_) => Err(MailboxError::Used),
            None if pairing.requests.iter().any(|it| it.key.thumbprint() == key) => Ok(()),
            None => Err(MailboxError::NobodyAsked),
        }
    }

    /// Keeps the merchant's answer and lets whoever waits for it go.
    pub(crate) fn answer(
        &mut self,
        id: PairingId,
        merchant: MerchantId,
        key: Thumbprint,
        answer: PairingAnswer,
        now: Timestamp,
    ) -> Result<(), MailboxError> {
        self.can_answer(id, merchant, key, now)?;
        let pairing = self.of_merchant(id, merchant, now)?;
        pairing.answer = Some((key, answer));
        pairing.requests.clear();
        pairing.changed.send_replace(());
        Ok(())
    }

    /// Refuses one reader's request. Refusing what is not there is done already.
    pub(crate) fn refuse(
        &mut self,
        id: PairingId,
        merchant: MerchantId,
        key: Thumbprint,
        now: Timestamp,
    ) -> Result<(), MailboxError> {
        let pairing = self.of_merchant(id, merchant, now)?;
        if let Some(at) = pairing.requests.iter().position(|it| it.key.thumbprint() == key)
            && let Some(request) = pairing.requests.remove(at)
        {
            if pairing.refused.len() >= REQUESTS_MAX {
                pairing.refused.pop_front();
            }
            pairing.refused.push_back((key, request.proof));
            pairing.changed.send_replace(());
        }
        Ok(())
    }

    /// Ends the pairing; whoever waits learns that it is gone.
    pub(crate) fn cancel(
        &mut self,
        id: PairingId,
        merchant: MerchantId,
        now: Timestamp,
    ) -> Result<(), MailboxError> {
        self.of_merchant(id, merchant, now)?;
        self.pairings.remove(&id);
        Ok(())
    }

    /// Until when a pairing lasts.
    pub(crate) fn expires_at(&self, id: PairingId) -> Option<Timestamp> {
        self.pairings.get(&id).map(|it| it.expires_at)
    }

    fn of_merchant(
        &mut self,
        id: PairingId,
        merchant: MerchantId,
        now: Timestamp,
    ) -> Result<&mut Pairing, MailboxError> {
        self.sweep(now);
        self.pairings.get_mut(&id).filter(|it| it.merchant == merchant).ok_or(MailboxError::Unknown)
    }

    /// Everything ends with its time; dropping the sender wakes who waits.
    fn sweep(&mut self, now: Timestamp) {
        self.pairings.retain(|_, it| now < it.expires_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warifu_proto::directory::{Entry, EntryKind};
    use warifu_proto::id::ReaderId;
    use warifu_proto::key::PrivateKey;
    use warifu_proto::message::MerchantAbout;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);
    const LATER: Timestamp = Timestamp::from_ms(1_800_000_060_000);
    const PAIRING: PairingId = PairingId::from_raw([1; 16]);
    const BAKERY: MerchantId = MerchantId::from_raw([2; 16]);
    const OTHER: MerchantId = MerchantId::from_raw([3; 16]);

    fn request(key: u8, proof: u8) -> PairingRequest {
        let key = PrivateKey::from_bytes(&[key; 32]).unwrap();
        PairingRequest { key: key.public().clone(), name: "Till".to_owned(), proof: [proof; 32] }
    }

    fn answer() -> PairingAnswer {
        PairingAnswer {
            reader_id: ReaderId::from_raw([4; 16]),
            merchant: MerchantAbout { id: BAKERY, name: "Bakery".to_owned() },
            entry: Entry {
                kind: EntryKind::Reader,
                body: vec![],
                key: Thumbprint([0; 32]),
                signature: [0; 64],
            },
        }
    }

    fn mailbox() -> Mailbox {
        let mut mailbox = Mailbox::default();
        assert_eq!(mailbox.open(PAIRING, BAKERY, LATER, NOW), Ok(LATER));
        mailbox
    }

    fn is_waiting(submitted: Result<Submitted, MailboxError>) -> bool {
        matches!(submitted, Ok(Submitted::Waiting(_)))
    }

    #[test]
    fn an_answer_reaches_its_reader_and_only_it_as_often_as_it_asks() {
        let mut mailbox = mailbox();
        assert!(is_waiting(mailbox.submit(PAIRING, &request(1, 1), NOW)));
        assert!(is_waiting(mailbox.submit(PAIRING, &request(1, 1), NOW)));
        assert!(is_waiting(mailbox.submit(PAIRING, &request(2, 2), NOW)));
        let (oldest, _) = mailbox.oldest(PAIRING, BAKERY, NOW).unwrap();
        assert_eq!(oldest, Some(request(1, 1)));
        let key = request(1, 1).key.thumbprint();
        mailbox.answer(PAIRING, BAKERY, key, answer(), NOW).unwrap();
        for _ in 0..3 {
            let submitted = mailbox.submit(PAIRING, &request(1, 1), NOW);
            assert!(matches!(submitted, Ok(Submitted::Answered(it)) if *it == answer()));
        }
        let other = mailbox.submit(PAIRING, &request(2, 2), NOW);
        assert!(matches!(other, Err(MailboxError::Unknown)));
        let other = request(2, 2).key.thumbprint();
        assert_eq!(mailbox.answer(PAIRING, BAKERY, other, answer(), NOW), Err(MailboxError::Used));
        assert_eq!(mailbox.oldest(PAIRING, BAKERY, NOW).unwrap().0, None);
    }

    #[test]
    fn a_wrong_proof_burns_nothing() {
        let mut mailbox = mailbox();
        assert!(is_waiting(mailbox.submit(PAIRING, &request(1, 9), NOW)));
        assert!(is_waiting(mailbox.submit(PAIRING, &request(2, 2), NOW)));
        let wrong = request(1, 9).key.thumbprint();
        mailbox.refuse(PAIRING, BAKERY, wrong, NOW).unwrap();
        mailbox.refuse(PAIRING, BAKERY, wrong, NOW).unwrap();
        let again = mailbox.submit(PAIRING, &request(1, 9), NOW);
        assert!(matches!(again, Err(MailboxError::Refused)));
        assert_eq!(mailbox.oldest(PAIRING, BAKERY, NOW).unwrap().0, Some(request(2, 2)));
        assert!(is_waiting(mailbox.submit(PAIRING, &request(1, 1), NOW)));
    }

    #[test]
    fn only_who_asked_can_be_answered_and_only_by_the_merchant() {
        let mut mailbox = mailbox();
        let key = request(1, 1).key.thumbprint();
        assert_eq!(mailbox.can_answer(PAIRING, BAKERY, key, NOW), Err(MailboxError::NobodyAsked));
        assert!(is_waiting(mailbox.submit(PAIRING, &request(1, 1), NOW)));
        assert_eq!(mailbox.can_answer(PAIRING, BAKERY, key, NOW), Ok(()));
        assert_eq!(mailbox.can_answer(PAIRING, OTHER, key, NOW), Err(MailboxError::Unknown));
        assert!(mailbox.oldest(PAIRING, OTHER, NOW).is_err());
        assert_eq!(mailbox.cancel(PAIRING, OTHER, NOW), Err(MailboxError::Unknown));
        assert_eq!(mailbox.open(PAIRING, OTHER, LATER, NOW), Err(MailboxError::Taken));
    }

    #[test]
    fn everything_ends_with_its_time() {
        let mut mailbox = mailbox();
        let Ok(Submitted::Waiting(mut changed)) = mailbox.submit(PAIRING, &request(1, 1), NOW)
        else {
            panic!("must wait")
        };
        changed.mark_unchanged();
        let late = mailbox.submit(PAIRING, &request(1, 1), LATER);
        assert!(matches!(late, Err(MailboxError::Unknown)));
        assert!(changed.has_changed().is_err(), "who waits is woken");
        assert_eq!(mailbox.open(PAIRING, BAKERY, LATER, LATER), Err(MailboxError::Expired));
        let far = LATER.plus_ms(PAIRING_LIFETIME_MS * 2);
        assert_eq!(
            mailbox.open(PAIRING, BAKERY, far, LATER),
            Ok(LATER.plus_ms(PAIRING_LIFETIME_MS))
        );
    }

    #[test]
    fn repeats_that_wait_are_bounded_and_an_answer_is_no_wait() {
        let mut mailbox = mailbox();
        let waiting: Vec<_> =
            (0..CALLS_MAX).map(|_| mailbox.submit(PAIRING, &request(1, 1), NOW).unwrap()).collect();
        let one_more = mailbox.submit(PAIRING, &request(1, 1), NOW);
        assert!(matches!(one_more, Err(MailboxError::TooManyRequests)));
        let key = request(1, 1).key.thumbprint();
        mailbox.answer(PAIRING, BAKERY, key, answer(), NOW).unwrap();
        let answered = mailbox.submit(PAIRING, &request(1, 1), NOW);
        assert!(matches!(answered, Ok(Submitted::Answered(_))));
        drop(waiting);
    }

    #[test]
    fn everything_is_bounded() {
        let mut mailbox = mailbox();
        for key in 1..=10 {
            assert!(is_waiting(mailbox.submit(PAIRING, &request(key, 1), NOW)));
        }
        let one_more = mailbox.submit(PAIRING, &request(11, 1), NOW);
        assert!(matches!(one_more, Err(MailboxError::TooManyRequests)));

        let id = |merchant: u8, number: u8| {
            let mut raw = [merchant; 16];
            raw[0] = number;
            PairingId::from_raw(raw)
        };
        for merchant in 10..30 {
            for number in 0..50 {
                let own = MerchantId::from_raw([merchant; 16]);
                let opened = mailbox.open(id(merchant, number), own, LATER, NOW);
                let full = merchant == 29 && number == 49;
                assert_eq!(opened, if full { Err(MailboxError::Full) } else { Ok(LATER) });
            }
        }
        let mut mailbox = Mailbox::default();
        for number in 0..50 {
            assert!(mailbox.open(id(9, number), BAKERY, LATER, NOW).is_ok());
        }
        assert_eq!(mailbox.open(id(9, 50), BAKERY, LATER, NOW), Err(MailboxError::TooManyOpen));
    }
}
