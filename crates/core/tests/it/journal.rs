//! Law 10: every state can be recomputed from its entries; and what does not fit changes nothing.

use proptest::prelude::*;
use warifu_core::Corrupt;
use warifu_core::entry::{Entry, Fact, Holder, Leg, Linked, Side};
use warifu_core::partition::Partition;
use warifu_core::undo::UndoLog;
use warifu_core::vault::Vault;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::id::{CredentialId, InvitationId};
use warifu_proto::message::{AccountKind, PaymentStatus};
use warifu_proto::rejection::Rejection;
use warifu_proto::time::Timestamp;

use crate::bench::{Bench, PARTITION, vault};
use crate::universe::{Universe, entries, steps};

/// Folds entries as recovery does: out of their bytes, one by one.
fn fold(state: Partition, entries: &[Entry]) -> Partition {
    fold_with(&vault(), state, entries)
}

fn fold_with(vault: &Vault, mut state: Partition, entries: &[Entry]) -> Partition {
    let mut undo = UndoLog::default();
    for entry in entries {
        let decoded = Entry::decode(&entry.to_bytes()).unwrap();
        state.apply(&decoded, vault, &mut undo).unwrap();
        undo.committed();
        state.forget();
    }
    state
}

proptest! {
    #[test]
    fn replaying_the_entries_gives_the_same_state(steps in steps()) {
        let mut universe = Universe::new();
        steps.iter().for_each(|step| universe.step(step));
        let folded = fold(Partition::new(PARTITION), &universe.bench.entries);
        prop_assert_eq!(folded.state_hash(&vault()), universe.bench.hash());
        prop_assert_eq!(folded.to_snapshot(&vault()), universe.bench.state.to_snapshot(&vault()));
    }

    #[test]
    fn a_snapshot_and_the_tail_are_the_fold_from_the_beginning(entries in entries(), cut: prop::sample::Index) {
        let vault = vault();
        let (head, tail) = entries.split_at(cut.index(entries.len() + 1));
        let before = fold(Partition::new(PARTITION), head);
        let loaded = Partition::from_snapshot(&before.to_snapshot(&vault), &vault).unwrap();
        prop_assert_eq!(loaded.state_hash(&vault), before.state_hash(&vault));
        let whole = fold(Partition::new(PARTITION), &entries);
        prop_assert_eq!(fold(loaded, tail).state_hash(&vault), whole.state_hash(&vault));
        // As snapshots are made: link keys are never opened, and the bytes are the same.
        let sealed = vault.that_leaves_link_keys_sealed();
        let loaded = Partition::from_snapshot(&before.to_snapshot(&vault), &sealed).unwrap();
        prop_assert!((0..).map_while(|it| loaded.credential(it)).all(|it| it.keys.is_none()));
        let folded = fold_with(&sealed, loaded, tail);
        prop_assert_eq!(folded.to_snapshot(&sealed), whole.to_snapshot(&vault));
    }

    #[test]
    fn an_undone_batch_leaves_no_trace(entries in entries(), cut: prop::sample::Index) {
        let vault = vault();
        let (head, batch) = entries.split_at(cut.index(entries.len() + 1));
        let mut state = fold(Partition::new(PARTITION), head);
        let before = state.to_snapshot(&vault);
        let mut undo = UndoLog::default();
        for entry in batch {
            state.apply(entry, &vault, &mut undo).unwrap();
        }
        prop_assert_eq!(undo.is_empty(), batch.is_empty());
        undo.undo(&mut state, 0);
        prop_assert!(undo.is_empty());
        prop_assert_eq!(state.to_snapshot(&vault), before);
        // It is the same state, not only the same bytes: the same batch fits again.
        prop_assert_eq!(
            fold(state, batch).state_hash(&vault),
            fold(Partition::new(PARTITION), &entries).state_hash(&vault)
        );
    }

    #[test]
    fn a_damaged_snapshot_is_no_snapshot_or_another(entries in entries(), at: prop::sample::Index, change in 1_u8..) {
        let vault = vault();
        let bytes = fold(Partition::new(PARTITION), &entries).to_snapshot(&vault);
        let mut damaged = bytes.clone();
        *damaged.get_mut(at.index(bytes.len())).unwrap() ^= change;
        if let Ok(state) = Partition::from_snapshot(&damaged, &vault) {
            prop_assert_ne!(state.to_snapshot(&vault), bytes.clone());
        }
        let cut = at.index(bytes.len());
        prop_assert!(Partition::from_snapshot(bytes.get(..cut).unwrap(), &vault).is_err());
        let other = Vault::new([1; 32]);
        prop_assert!(Partition::from_snapshot(&bytes, &other).is_err());
    }

    #[test]
    fn an_entry_that_does_not_fit_changes_nothing(entries in entries(), at: prop::sample::Index, how in 0..TAMPERS.len()) {
        let tamper = TAMPERS[how].1;
        let at = at.index(entries.len());
        let state = fold(Partition::new(PARTITION), &entries[..at]);
        let mut entry = entries[at].clone();
        if tamper(&mut entry, &entries[..at], &state) {
            refuses(state, &entry, TAMPERS[how].0);
        }
    }

    #[test]
    fn a_decision_once_written_never_fits_again(entries in entries(), at: prop::sample::Index) {
        // Law 2 and law 4 in the journal itself: the same fact as the next entry is damage, whatever it is.
        let mut again = entries[at.index(entries.len())].clone();
        let state = fold(Partition::new(PARTITION), &entries);
        again.sequence = state.sequence() + 1;
        again.at = state.time();
        refuses(state, &again, "again");
    }
}

fn refuses(mut state: Partition, entry: &Entry, how: &str) {
    let vault = vault();
    let before = state.to_snapshot(&vault);
    let mut undo = UndoLog::default();
    match state.apply(entry, &vault, &mut undo) {
        Ok(()) => panic!("{how}: applied {entry:?}"),
        Err(Corrupt { partition, sequence, why }) => {
            assert_eq!((partition, sequence), (PARTITION, entry.sequence), "{why}");
        }
    }
    assert!(undo.is_empty(), "{how}");
    assert!(state.to_snapshot(&vault) == before, "{how}: {entry:?} left a trace");
}

/// Changes an entry so that it does not fit; says whether it could.
type Tamper = fn(&mut Entry, &[Entry], &Partition) -> bool;

fn legs(entry: &mut Entry) -> Option<&mut Vec<Leg>> {
    match &mut entry.fact {
        Fact::ToppedUp(it) => Some(&mut it.legs),
        Fact::Decided(it) if !it.legs.is_empty() => Some(&mut it.legs),
        _ => None,
    }
}

fn first_leg(entry: &mut Entry) -> Option<&mut Leg> {
    legs(entry)?.first_mut()
}

fn did<T>(changed: Option<T>) -> bool {
    changed.is_some()
}

fn set<T>(to: &mut T, value: T) -> Option<()> {
    *to = value;
    Some(())
}

fn moved(entry: &mut Entry, by: i64) -> bool {
    entry.sequence = entry.sequence.saturating_add_signed(by);
    true
}

const TAMPERS: &[(&str, Tamper)] = &[
    ("another partition", |it, _, _| did(set(&mut it.partition, PARTITION + 1))),
    ("a gap", |it, _, _| moved(it, 1)),
    ("a repeated sequence", |it, _, _| moved(it, -1)),
    ("time goes back", |it, _, state| {
        it.at = Timestamp::from_ms(state.time().as_ms().saturating_sub(1));
        it.at < state.time()
    }),
    ("a leg more than the others", |it, _, _| did(first_leg(it).map(|leg| leg.amount_minor += 1))),
    ("a leg turned round", |it, _, _| {
        did(first_leg(it).map(|leg| {
            leg.side = if leg.side == Side::Debit { Side::Credit } else { Side::Debit };
        }))
    }),
    ("a leg missing", |it, _, _| did(legs(it).and_then(Vec::pop))),
    ("no legs", |it, _, _| did(legs(it).map(Vec::clear))),
    ("legs of nothing", |it, _, _| {
        did(legs(it).map(|legs| legs.iter_mut().for_each(|leg| leg.amount_minor = 0)))
    }),
    ("an amount above 2^63", |it, _, _| {
        did(legs(it).map(|legs| legs.iter_mut().for_each(|leg| leg.amount_minor = 1 << 63)))
    }),
    ("an unknown account", |it, _, _| {
        did(legs(it).map(|legs| {
            legs.iter_mut()
                .filter(|leg| matches!(leg.holder, Holder::Account(_)))
                .for_each(|leg| leg.holder = Holder::Account(99));
        }))
    }),
    ("another account", |it, _, _| {
        // Of another currency, or not the one that the entry names.
        did(legs(it).map(|legs| {
            for leg in legs {
                if let Holder::Account(number) = leg.holder {
                    leg.holder = Holder::Account((number + 1) % 3);
                }
            }
        }))
    }),
    ("more than there is", |it, _, _| match &mut it.fact {
        Fact::Decided(it) if !it.legs.is_empty() => {
            let more = 1 << 52;
            it.amount_minor += more;
            it.legs.iter_mut().for_each(|leg| leg.amount_minor += more);
            if let Some(matched) = &mut it.matched {
                matched.balance_minor -= i64::try_from(more).unwrap();
            }
            true
        }
        _ => false,
    }),
    ("another balance", |it, _, _| match &mut it.fact {
        Fact::Decided(it) => did(it.matched.as_mut().map(|matched| matched.balance_minor += 1)),
        _ => false,
    }),
    ("another notice", |it, _, _| match &mut it.fact {
        Fact::Decided(it) => did(it.matched.as_mut().map(|matched| matched.notice_number += 1)),
        _ => false,
    }),
    ("another currency", |it, _, _| match &mut it.fact {
        Fact::Decided(it) if it.status == PaymentStatus::Approved => {
            did(set(&mut it.currency, CurrencyCode::parse("CHF").unwrap()))
        }
        _ => false,
    }),
    ("a second payer", |it, _, _| match &mut it.fact {
        Fact::Decided(it) if it.status == PaymentStatus::Approved => {
            let more = Leg { amount_minor: 1, ..*it.legs.first().unwrap() };
            it.legs
                .iter_mut()
                .filter(|leg| leg.holder == Holder::Merchant)
                .for_each(|leg| leg.amount_minor += 1);
            it.legs.push(more);
            did(it.matched.as_mut().map(|matched| matched.balance_minor -= 1))
        }
        _ => false,
    }),
    ("another amount than was asked", |it, _, _| match &mut it.fact {
        Fact::Decided(it) if it.status == PaymentStatus::Approved => {
            it.amount_minor += 1;
            true
        }
        _ => false,
    }),
    ("approved without a code", |it, _, _| match &mut it.fact {
        Fact::Decided(it) if it.status == PaymentStatus::Approved => {
            did(set(&mut it.matched, None))
        }
        _ => false,
    }),
    ("declined with money", |it, _, _| match &mut it.fact {
        Fact::Decided(it) if it.status == PaymentStatus::Approved => {
            did(set(&mut it.rejection, Some(Rejection::CodeExpired)))
        }
        _ => false,
    }),
    ("approved although it was declined", |it, _, _| match &mut it.fact {
        Fact::Decided(it) => did(it.rejection.take()),
        _ => false,
    }),
    ("a business day that goes back", |it, _, state| match &mut it.fact {
        Fact::Decided(it) if state.business_day() > 0 => did(set(&mut it.business_day, 0)),
        _ => false,
    }),
    ("an unknown credential", |it, _, _| match &mut it.fact {
        Fact::Decided(it) => did(it.matched.as_mut().map(|matched| matched.credential_number = 99)),
        Fact::Registered(it) => did(set(&mut it.credential_number, 99)),
        Fact::Withdrawn(it) => did(set(&mut it.credential_number, 99)),
        Fact::Unlinked(it) => did(set(&mut it.credential_number, 99)),
        _ => false,
    }),
    ("a code that is not there", |it, _, _| match &mut it.fact {
        // A long code brings its own.
        Fact::Decided(it)
            if it.rejection.is_none_or(Rejection::consumes_code) && it.offline.is_none() =>
        {
            did(it.matched.as_mut().map(|matched| matched.code_sequence = u32::MAX))
        }
        _ => false,
    }),
    ("a sequence that was used", |it, _, state| {
        let used = |number: u32| state.credential(number).map(|it| it.usage.sequence_highest);
        match &mut it.fact {
            Fact::Registered(it) => used(it.credential_number).map(|at| it.code_sequence = at),
            Fact::Withdrawn(it) => used(it.credential_number).map(|at| it.code_sequence = at),
            _ => None,
        }
        .is_some()
    }),
    ("a code of another partition", |it, _, _| match &mut it.fact {
        Fact::Registered(it) => {
            it.locator = warifu_proto::code::Locator::from_number(1).unwrap();
            true
        }
        _ => false,
    }),
    ("a code that was used", |it, _, state| match &mut it.fact {
        Fact::Decided(it) if it.rejection.is_none_or(Rejection::consumes_code) => {
            let slot = u16::try_from(it.locator.slot()).unwrap();
            let Some(matched) = &mut it.matched else { return false };
            let used = state
                .codes_at(slot)
                .iter()
                .find(|code| code.is_used && code.credential_number == matched.credential_number);
            did(used.map(|code| matched.code_sequence = code.code_sequence))
        }
        _ => false,
    }),
    ("a request id that was used", |it, before, _| {
        let used = |entry: &Entry| match (&it.fact, &entry.fact) {
            (Fact::Decided(it), Fact::Decided(old)) if it.merchant == old.merchant => {
                Some(old.request.clone())
            }
            (Fact::ToppedUp(_) | Fact::AccountOpened(_), Fact::ToppedUp(old)) => {
                Some(old.request.clone())
            }
            (Fact::ToppedUp(_) | Fact::AccountOpened(_), Fact::AccountOpened(old)) => {
                Some(old.request.clone())
            }
            _ => None,
        };
        let Some(used) = before.iter().find_map(used) else { return false };
        match &mut it.fact {
            Fact::Decided(it) => it.request = used,
            Fact::ToppedUp(it) => it.request = used,
            Fact::AccountOpened(it) => it.request = used,
            _ => return false,
        }
        true
    }),
    ("an account that exists", |it, _, state| match &mut it.fact {
        Fact::AccountOpened(it) => {
            did(state.accounts().first().map(|account| it.account = account.id))
        }
        _ => false,
    }),
    ("a floor above zero", |it, _, _| match &mut it.fact {
        Fact::AccountOpened(it) => did(set(&mut it.floor_minor, 1)),
        _ => false,
    }),
    ("an invitation to no account", |it, _, _| match &mut it.fact {
        Fact::Invited(it) => did(set(&mut it.account_number, 99)),
        _ => false,
    }),
    ("a secret of another id", |it, _, _| match &mut it.fact {
        Fact::Invited(it) => did(set(&mut it.invitation, InvitationId::from_raw([9; 16]))),
        Fact::Linked(it) => did(set(&mut it.credential, CredentialId::from_raw([9; 16]))),
        _ => false,
    }),
    ("a link by an invitation that has expired", |it, _, _| {
        it.at = it.at.plus_ms(warifu_proto::limits::INVITATION_LIFETIME_MS);
        matches!(it.fact, Fact::Linked(_))
    }),
    ("a link by no invitation", |it, _, _| match &mut it.fact {
        Fact::Linked(it) => did(set(&mut it.invitation, InvitationId::from_raw([9; 16]))),
        _ => false,
    }),
];

#[test]
fn every_tampering_is_tried() {
    // Over the entries of the corpus, so that none of them is only ever skipped.
    let entries = crate::corpus::everything();
    let mut tried = vec![0; TAMPERS.len()];
    for (at, good) in entries.iter().enumerate() {
        let state = fold(Partition::new(PARTITION), &entries[..at]);
        for (times, (how, tamper)) in tried.iter_mut().zip(TAMPERS) {
            let mut entry = good.clone();
            if tamper(&mut entry, &entries[..at], &state) {
                refuses(state.clone(), &entry, how);
                *times += 1;
            }
        }
    }
    for (times, (how, _)) in tried.iter().zip(TAMPERS) {
        assert!(*times > 0, "{how} was never tried");
    }
}

#[test]
fn an_invitation_links_once() {
    let mut bench = Bench::new();
    let account = bench.open(AccountKind::Prepaid, "JPY", 0);
    bench.link(account, 1);
    let Some(Entry { fact: Fact::Linked(linked), .. }) = bench.entries.last().cloned() else {
        panic!()
    };
    let credential = CredentialId::from_raw([7; 16]);
    let keys = bench.vault.seal(credential, &[1; 128]).try_into().unwrap();
    let again = Entry {
        partition: PARTITION,
        sequence: bench.state.sequence() + 1,
        at: bench.now,
        fact: Fact::Linked(Linked { credential, keys, ..linked }),
    };
    refuses(bench.state, &again, "a second link");
}

#[test]
fn everything_can_be_undone_and_cut_anywhere() {
    let (entries, vault) = (crate::corpus::everything(), vault());
    let whole = fold(Partition::new(PARTITION), &entries).to_snapshot(&vault);
    for cut in 0..=entries.len() {
        let (head, tail) = entries.split_at(cut);
        let mut state = fold(Partition::new(PARTITION), head);
        let before = state.to_snapshot(&vault);
        let mut undo = UndoLog::default();
        tail.iter().for_each(|entry| state.apply(entry, &vault, &mut undo).unwrap());
        undo.undo(&mut state, 0);
        assert!(state.to_snapshot(&vault) == before, "undone to {cut}");
        let loaded = Partition::from_snapshot(&before, &vault).unwrap();
        assert!(fold(loaded, tail).to_snapshot(&vault) == whole, "loaded at {cut}");
        assert!(fold(state, tail).to_snapshot(&vault) == whole, "again from {cut}");
    }
}
