//! What the lane says: each answer made of the state that the batch has reached.

use warifu_core::credential::Credential;
use warifu_core::decide::{Command, OldPayment, Refusal};
use warifu_core::entry::{Entry, Fact};
use warifu_core::life::Change;
use warifu_core::partition::{OPERATOR, Partition};
use warifu_core::payment::{Payment, PaymentPlace};
use warifu_proto::id::MerchantId;
use warifu_proto::rejection::Rejection;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;
use zeroize::Zeroizing;

use crate::engine::{AccountState, Answer, CredentialState, PaymentState, Refused};
use crate::store::Store;

pub(super) fn rule(refusal: Refusal, now: Timestamp) -> Refused {
    Refused::Rule { refusal, now, link_key: None }
}

pub(super) fn broken(error: &anyhow::Error) -> Refused {
    tracing::error!(error = format!("{error:#}"), "the journal can't be read");
    Refused::Unknown
}

pub(super) fn refused(
    state: &Partition,
    refusal: Refusal,
    command: &Command,
    now: Timestamp,
) -> Refused {
    // A terminal with a wrong clock may believe ours only if it is authenticated.
    let link_key = match (refusal, command) {
        (Refusal::ClockSkew, Command::Register(it)) => {
            state.credential_by_id(it.statement.credential).and_then(|(_, it)| link_key(it))
        }
        _ => None,
    };
    Refused::Rule { refusal, now, link_key }
}

/// The request that an entry answered, and whose it was.
pub(crate) fn request_of(fact: &Fact) -> Option<(MerchantId, &RequestId)> {
    match fact {
        Fact::AccountOpened(it) => Some((OPERATOR, &it.request)),
        Fact::ToppedUp(it) => Some((OPERATOR, &it.request)),
        Fact::Decided(it) => Some((it.merchant, &it.request)),
        Fact::Tombstone(it) => Some((it.merchant, &it.request)),
        Fact::Changed(it) => Some((it.payment.merchant, &it.request.as_ref()?.0)),
        Fact::Invited(_)
        | Fact::Linked(_)
        | Fact::Unlinked(_)
        | Fact::Registered(_)
        | Fact::Withdrawn(_)
        | Fact::AccountStood(_)
        | Fact::CredentialStood(_)
        | Fact::Limited(_) => None,
    }
}

/// The answer to what was just applied.
pub(super) fn written(state: &Partition, entry: &Entry) -> Result<Answer, Refused> {
    match &entry.fact {
        Fact::AccountOpened(it) => {
            account_state(state, state.account_by_id(it.account).ok_or(Refused::NotFound)?.0)
        }
        Fact::ToppedUp(it) => account_state(state, it.account_number),
        Fact::AccountStood(it) => account_state(state, it.account_number),
        Fact::Limited(it) => account_state(state, it.account_number),
        Fact::Invited(it) => {
            Ok(Answer::Invited { invitation: it.invitation, expires_at: it.expires_at })
        }
        Fact::Linked(it) => credential_state(
            state,
            state.credential_by_id(it.credential).ok_or(Refused::NotFound)?.0,
        ),
        Fact::CredentialStood(it) => credential_state(state, it.credential_number),
        Fact::Unlinked(_) => Ok(Answer::Unlinked),
        Fact::Registered(it) => registered(state, it.credential_number, entry.at, it.expires_at),
        Fact::Withdrawn(it) => registered(state, it.credential_number, entry.at, entry.at),
        Fact::Decided(_) => {
            let payment = state.payment(entry.sequence).ok_or(Refused::NotFound)?;
            Ok(Answer::Payment(payment_state(state, payment.clone())))
        }
        Fact::Changed(it) => {
            let payment = payment_state(state, it.payment.clone());
            Ok(match (it.change, &it.request) {
                (Change::Reversed, _) => Answer::Reversed(Some(Box::new(payment))),
                (_, Some(_)) => Answer::Changed { payment, sequence: entry.sequence },
                (_, None) => Answer::Payment(payment),
            })
        }
        Fact::Tombstone(_) => Ok(Answer::Reversed(None)),
    }
}

/// The answer to a command whose wish is fulfilled already.
pub(super) fn unchanged(state: &Partition, command: &Command, payment: Payment) -> Answer {
    // The reversal came first, and was told of no payment: it is told the same again.
    let came_after = payment.rejection == Some(Rejection::ReversedBeforeArrival);
    let payment = payment_state(state, payment);
    match command {
        Command::Reverse(_) => Answer::Reversed(Some(Box::new(payment)).filter(|_| !came_after)),
        _ => Answer::Payment(payment),
    }
}

pub(super) fn payment_state(state: &Partition, payment: Payment) -> PaymentState {
    let account = payment
        .credential_number
        .and_then(|it| state.credential(it))
        .and_then(|it| state.account(it.account_number));
    PaymentState { account: account.map(|it| it.id), partition: state.number(), payment }
}

/// A payment that memory has, or that was read for this question and is as fresh as memory.
pub(super) fn payment(
    state: &Partition,
    first_sequence: u64,
    old: Option<&OldPayment>,
) -> Result<PaymentState, Refused> {
    if first_sequence == 0 || first_sequence > state.sequence() {
        return Err(Refused::NotFound);
    }
    let is_it = |it: &&OldPayment| it.payment.first_sequence == first_sequence && state.can_use(it);
    match (state.payment(first_sequence), old.filter(is_it)) {
        (Some(payment), _) => Ok(payment_state(state, payment.clone())),
        (None, Some(old)) => Ok(payment_state(state, old.payment.clone())),
        (None, None) => {
            let partition = state.number();
            Err(Refused::NotInMemory(PaymentPlace { partition, first_sequence }))
        }
    }
}

pub(super) fn account_state(state: &Partition, number: u32) -> Result<Answer, Refused> {
    let account = *state.account(number).ok_or(Refused::NotFound)?;
    let limits = state.limits_of(number);
    Ok(Answer::Account(AccountState { account, partition: state.number(), limits }))
}

pub(super) fn credential_state(state: &Partition, number: u32) -> Result<Answer, Refused> {
    let credential = state.credential(number).ok_or(Refused::NotFound)?;
    let account = *state.account(credential.account_number).ok_or(Refused::NotFound)?;
    Ok(Answer::Credential(Box::new(CredentialState {
        id: credential.id,
        key: credential.key,
        keys: credential.keys.clone().ok_or(Refused::NotFound)?,
        is_unlinked: credential.usage.is_unlinked,
        is_suspended: credential.usage.is_suspended,
        account,
        limits: state.limits_of(credential.account_number),
        partition: state.number(),
    })))
}

pub(super) fn registered(
    state: &Partition,
    credential_number: u32,
    registered_at: Timestamp,
    expires_at: Timestamp,
) -> Result<Answer, Refused> {
    let credential = state.credential(credential_number).ok_or(Refused::NotFound)?;
    Ok(Answer::Registered {
        registered_at,
        expires_at,
        link_key: link_key(credential).ok_or(Refused::NotFound)?,
    })
}

fn link_key(of: &Credential) -> Option<Zeroizing<[u8; 32]>> {
    of.keys.as_ref().map(|it| Zeroizing::new(it.link_key))
}

/// The bytes of an entry. One that was committed a moment ago may not be in the index yet: then it is near the end.
pub(super) fn entry_bytes(
    store: &dyn Store,
    place: PaymentPlace,
) -> anyhow::Result<Option<Vec<u8>>> {
    // In this order: the index may get there between the two questions.
    let mut next = store.indexed()? + 1;
    if let Some(bytes) = store.entry(place.partition, place.first_sequence)? {
        return Ok(Some(bytes));
    }
    loop {
        let frames = store.read(next, 1 << 20)?;
        let Some(last) = frames.last() else { return Ok(None) };
        next = last.last_position() + 1;
        let found = frames
            .iter()
            .flat_map(|it| &it.entries)
            .find(|it| it.partition == place.partition && it.sequence == place.first_sequence);
        if let Some(entry) = found {
            return Ok(Some(entry.bytes.clone()));
        }
    }
}
