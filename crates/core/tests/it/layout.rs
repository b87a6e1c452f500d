//! Bytes of entries: read for decades.

use proptest::prelude::*;
use warifu_core::entry::{
    AccountOpened, Decided, Entry, Fact, Holder, Invited, Leg, Linked, Matched, Registered, Side,
    ToppedUp, Unlinked, Withdrawn,
};
use warifu_proto::code::Locator;
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::id::{AccountId, CredentialId, InvitationId, MerchantId, ReaderId};
use warifu_proto::message::{AccountKind, Capture, PaymentStatus};
use warifu_proto::rejection::Rejection;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

fn request_id() -> impl Strategy<Value = RequestId> {
    "[A-Za-z0-9._-]{1,64}".prop_map(|text| RequestId::parse(&text).unwrap())
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![(0..=Timestamp::MAX.as_ms()).prop_map(Timestamp::from_ms), Just(Timestamp::MAX)]
}

fn currency_code() -> impl Strategy<Value = CurrencyCode> {
    "[A-Z]{3}|X[A-Z0-9]{2}".prop_map(|text| CurrencyCode::parse(&text).unwrap())
}

fn locator() -> impl Strategy<Value = Locator> {
    (0_u32..1_000_000).prop_map(|number| Locator::from_number(number).unwrap())
}

fn leg() -> impl Strategy<Value = Leg> {
    let holder = prop_oneof![
        any::<u32>().prop_map(Holder::Account),
        Just(Holder::Merchant),
        Just(Holder::World)
    ];
    let side = prop_oneof![Just(Side::Debit), Just(Side::Credit)];
    (holder, side, any::<u64>()).prop_map(|(holder, side, amount_minor)| Leg {
        holder,
        side,
        amount_minor,
    })
}

fn legs() -> impl Strategy<Value = Vec<Leg>> {
    prop::collection::vec(leg(), 0..6)
}

fn bytes<const N: usize>() -> impl Strategy<Value = [u8; N]> {
    prop::collection::vec(any::<u8>(), N).prop_map(|bytes| bytes.try_into().unwrap())
}

fn accounts() -> impl Strategy<Value = Fact> {
    let kind = prop_oneof![Just(AccountKind::Prepaid), Just(AccountKind::Credit)];
    let currency = (currency_code(), any::<u16>(), any::<u8>())
        .prop_map(|(code, number, exponent)| Currency { code, number, exponent });
    let opened = (request_id(), bytes(), bytes(), kind, currency, any::<i64>()).prop_map(
        |(request, digest, account, kind, currency, floor_minor)| {
            let account = AccountId::from_raw(account);
            Fact::AccountOpened(AccountOpened {
                request,
                digest,
                account,
                kind,
                currency,
                floor_minor,
            })
        },
    );
    let topped_up = (request_id(), bytes(), any::<u32>(), legs()).prop_map(
        |(request, digest, account_number, legs)| {
            Fact::ToppedUp(ToppedUp { request, digest, account_number, legs })
        },
    );
    prop_oneof![opened, topped_up]
}

fn links() -> impl Strategy<Value = Fact> {
    let invited = (bytes(), any::<u32>(), bytes(), time()).prop_map(
        |(invitation, account_number, secret, expires_at)| {
            let invitation = InvitationId::from_raw(invitation);
            Fact::Invited(Invited { invitation, account_number, secret, expires_at })
        },
    );
    let linked =
        (bytes(), bytes(), bytes(), bytes()).prop_map(|(invitation, credential, key, keys)| {
            let (invitation, credential) =
                (InvitationId::from_raw(invitation), CredentialId::from_raw(credential));
            Fact::Linked(Linked { invitation, credential, key, keys })
        });
    let unlinked =
        any::<u32>().prop_map(|credential_number| Fact::Unlinked(Unlinked { credential_number }));
    prop_oneof![invited, linked, unlinked]
}

fn codes() -> impl Strategy<Value = Fact> {
    let registered =
        (any::<u32>(), locator(), any::<u32>(), bytes(), bytes(), time(), any::<u64>()).prop_map(
            |(credential_number, locator, code_sequence, tag, digest, expires_at, cap_minor)| {
                Fact::Registered(Registered {
                    credential_number,
                    locator,
                    code_sequence,
                    tag,
                    digest,
                    expires_at,
                    cap_minor,
                })
            },
        );
    let withdrawn = (any::<u32>(), any::<u32>(), bytes()).prop_map(
        |(credential_number, code_sequence, digest)| {
            Fact::Withdrawn(Withdrawn { credential_number, code_sequence, digest })
        },
    );
    prop_oneof![registered, withdrawn]
}

fn decided() -> impl Strategy<Value = Fact> {
    let matched = (any::<u32>(), any::<u32>(), any::<u64>(), any::<i64>()).prop_map(
        |(credential_number, code_sequence, notice_number, balance_minor)| Matched {
            credential_number,
            code_sequence,
            notice_number,
            balance_minor,
        },
    );
    let who = (bytes(), bytes(), request_id(), bytes());
    let what = (any::<u64>(), currency_code(), locator(), any::<u32>());
    let outcome =
        (prop::option::of(prop::sample::select(Rejection::ALL)), prop::option::of(matched), legs());
    (who, what, outcome).prop_map(
        |(
            (merchant, reader, request, digest),
            (amount_minor, currency, locator, business_day),
            (rejection, matched, legs),
        )| {
            Fact::Decided(Decided {
                merchant: MerchantId::from_raw(merchant),
                reader: ReaderId::from_raw(reader),
                request,
                digest,
                amount_minor,
                currency,
                locator,
                business_day,
                capture: Capture::Now,
                status: if rejection.is_some() {
                    PaymentStatus::Declined
                } else {
                    PaymentStatus::Approved
                },
                rejection,
                expires_at: None,
                matched,
                offline: None,
                legs,
            })
        },
    )
}

/// Any entry that can be written down, whether or not any state would take it.
fn entry() -> impl Strategy<Value = Entry> {
    let fact = prop_oneof![accounts(), links(), codes(), decided()];
    (0_u8..100, any::<u64>(), time(), fact).prop_map(|(partition, sequence, at, fact)| Entry {
        partition,
        sequence,
        at,
        fact,
    })
}

/// An entry that decodes is the one encoding of itself.
fn reads_strictly(bytes: &[u8]) {
    if let Ok(entry) = Entry::decode(bytes) {
        assert!(entry.to_bytes() == bytes, "{entry:?} has two encodings");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(entry in entry()) {
        prop_assert_eq!(Entry::decode(&entry.to_bytes()), Ok(entry));
    }

    #[test]
    fn one_wrong_byte_is_never_the_same_entry(entry in entry(), change in 1_u8..) {
        let bytes = entry.to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= change;
            prop_assert_ne!(Entry::decode(&damaged), Ok(entry.clone()), "byte {}", at);
            reads_strictly(&damaged);
        }
    }

    #[test]
    fn missing_and_surplus_bytes_are_errors(entry in entry(), surplus: u8, cut: prop::sample::Index) {
        let mut bytes = entry.to_bytes();
        prop_assert!(Entry::decode(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.push(surplus);
        prop_assert!(Entry::decode(&bytes).is_err());
    }

    #[test]
    fn an_unknown_kind_or_version_stops(entry in entry(), other: u8) {
        let mut bytes = entry.to_bytes();
        let (kind, version) = (bytes[0], bytes[1]);
        if other == 0 || other > 8 {
            bytes[0] = other;
            prop_assert!(Entry::decode(&bytes).is_err());
        }
        if other != version {
            (bytes[0], bytes[1]) = (kind, other);
            prop_assert!(Entry::decode(&bytes).is_err());
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0_u8..10) {
        reads_strictly(&bytes);
        let mut likely = vec![kind, 1, 7];
        likely.extend(&bytes);
        reads_strictly(&likely);
        let vault = crate::bench::vault();
        let _state = warifu_core::partition::Partition::from_snapshot(&bytes, &vault);
        let mut likely = vec![1];
        likely.extend(&bytes);
        let _state = warifu_core::partition::Partition::from_snapshot(&likely, &vault);
    }
}

/// Bytes that were fixed by hand, from the layout in the documentation of `entry`: the encoder may never change them.
#[test]
fn a_withdrawal_byte_by_byte() {
    let entry = Entry {
        partition: 7,
        sequence: 0x0102_0304_0506_0708,
        at: Timestamp::from_ms(0x0000_00a1_b2c3_d4e5),
        fact: Fact::Withdrawn(Withdrawn {
            credential_number: 0x1122_3344,
            code_sequence: 0x5566_7788,
            digest: [0xab; 16],
        }),
    };
    let mut bytes = vec![7, 1, 7, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0xa1, 0xb2, 0xc3, 0xd4, 0xe5];
    bytes.extend([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
    bytes.extend([0xab; 16]);
    assert_eq!(entry.to_bytes(), bytes);
}
