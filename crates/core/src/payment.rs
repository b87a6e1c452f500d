//! A payment as the issuer remembers it, and its id.

use warifu_proto::code::Prefix;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::id::{MerchantId, PaymentId, ReaderId};
use warifu_proto::limits::PARTITIONS;
use warifu_proto::message::PaymentStatus;
use warifu_proto::rejection::Rejection;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use crate::entry::{Decided, Digest, Entry, Fact, read_currency_code};
use crate::layout::{LayoutError, Reader, Writer};

/// A payment as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Sequence of its first entry: with the partition, its identity.
    pub first_sequence: u64,
    /// Sequence of the last entry that changed it.
    pub last_sequence: u64,
    /// Who is paid.
    pub merchant: MerchantId,
    /// By which reader.
    pub reader: ReaderId,
    /// The reader's id of the attempt.
    pub request: RequestId,
    /// What is compared when it is repeated.
    pub digest: Digest,
    /// Where it stands.
    pub status: PaymentStatus,
    /// Why it was declined.
    pub rejection: Option<Rejection>,
    /// How much was asked.
    pub amount_minor: u64,
    /// In which currency.
    pub currency: CurrencyCode,
    /// How much was taken.
    pub captured_minor: u64,
    /// How much was given back.
    pub refunded_minor: u64,
    /// Whose credential paid; nothing when no registration matched.
    pub credential_number: Option<u32>,
    /// When it was decided.
    pub decided_at: Timestamp,
}

impl Payment {
    /// The payment that an entry began.
    pub fn begun_by(entry: &Entry) -> Option<Self> {
        let Fact::Decided(decided) = &entry.fact else { return None };
        Some(Self::of(decided, entry.sequence, entry.at))
    }

    /// Its id for others.
    pub fn id(&self, prefix: Prefix, partition: u8) -> PaymentId {
        let place = PaymentPlace { partition, first_sequence: self.first_sequence };
        payment_id(prefix, place, self.decided_at)
    }

    pub(crate) fn of(decided: &Decided, sequence: u64, at: Timestamp) -> Self {
        let (status, captured_minor) = match decided.rejection {
            None => (PaymentStatus::Approved, decided.amount_minor),
            Some(_) => (PaymentStatus::Declined, 0),
        };
        Self {
            first_sequence: sequence,
            last_sequence: sequence,
            merchant: decided.merchant,
            reader: decided.reader,
            request: decided.request.clone(),
            digest: decided.digest,
            status,
            rejection: decided.rejection,
            amount_minor: decided.amount_minor,
            currency: decided.currency,
            captured_minor,
            refunded_minor: 0,
            credential_number: decided.matched.map(|it| it.credential_number),
            decided_at: at,
        }
    }

    pub(crate) fn encode(&self, to: &mut Writer) {
        to.u64(self.first_sequence);
        to.u64(self.last_sequence);
        to.raw(&self.merchant.raw());
        to.raw(&self.reader.raw());
        to.request_id(&self.request);
        to.raw(&self.digest);
        to.u8(match self.status {
            PaymentStatus::Approved => 1,
            PaymentStatus::Held => 2,
            PaymentStatus::AwaitingPayer => 3,
            PaymentStatus::Declined => 4,
            PaymentStatus::Reversed => 5,
            PaymentStatus::Released => 6,
            PaymentStatus::Expired => 7,
            PaymentStatus::Unknown => 0,
        });
        to.u8(self.rejection.map_or(0, Rejection::number));
        to.u64(self.amount_minor);
        to.raw(self.currency.as_str().as_bytes());
        to.u64(self.captured_minor);
        to.u64(self.refunded_minor);
        to.u64(self.credential_number.map_or(0, |number| u64::from(number).saturating_add(1)));
        to.time(self.decided_at);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            first_sequence: from.u64()?,
            last_sequence: from.u64()?,
            merchant: MerchantId::from_raw(from.array()?),
            reader: ReaderId::from_raw(from.array()?),
            request: from.request_id()?,
            digest: from.array()?,
            status: match from.u8()? {
                1 => PaymentStatus::Approved,
                2 => PaymentStatus::Held,
                3 => PaymentStatus::AwaitingPayer,
                4 => PaymentStatus::Declined,
                5 => PaymentStatus::Reversed,
                6 => PaymentStatus::Released,
                7 => PaymentStatus::Expired,
                _ => return Err(LayoutError("an unknown status")),
            },
            rejection: match from.u8()? {
                0 => None,
                number => Some(
                    Rejection::from_number(number).ok_or(LayoutError("an unknown rejection"))?,
                ),
            },
            amount_minor: from.u64()?,
            currency: read_currency_code(from)?,
            captured_minor: from.u64()?,
            refunded_minor: from.u64()?,
            credential_number: match from.u64()?.checked_sub(1) {
                None => None,
                Some(number) => Some(
                    u32::try_from(number).map_err(|_| LayoutError("a credential above 2^32"))?,
                ),
            },
            decided_at: from.time()?,
        })
    }
}

/// Where a payment lies: its id says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaymentPlace {
    /// The partition, 0–99.
    pub partition: u8,
    /// Sequence of its first entry.
    pub first_sequence: u64,
}

/// Makes the id of a payment: a UUID version 7 whose 74 free bits are the partition (7), nothing (5), the sequence
/// (46) and 16 bits of the issuer's prefix, so that ids of two issuers differ.
pub fn payment_id(prefix: Prefix, place: PaymentPlace, decided_at: Timestamp) -> PaymentId {
    let partition = u16::from(place.partition).checked_shl(5).unwrap_or_default();
    let [_, _, s0, s1, s2, s3, s4, s5] = place.first_sequence.to_be_bytes();
    let [p0, p1] = prefix_mark(prefix);
    let [a, b] = partition.to_be_bytes();
    PaymentId::new(decided_at, [a, b, s0 & 0x3f, s1, s2, s3, s4, s5, p0, p1])
}

/// Reads where a payment lies; nothing when this issuer did not make the id. The time inside is not looked at: whoever
/// finds a payment there compares its own id ([`Payment::id`]).
pub fn payment_place(prefix: Prefix, id: PaymentId) -> Option<PaymentPlace> {
    let [_, _, _, _, _, _, a, b, s0, s1, s2, s3, s4, s5, p0, p1] = id.raw();
    let partition = u8::try_from(u16::from_be_bytes([a & 0x0f, b]).checked_shr(5)?).ok()?;
    let first_sequence = u64::from_be_bytes([0, 0, s0 & 0x3f, s1, s2, s3, s4, s5]);
    let is_version_7 = a & 0xf0 == 0x70 && s0 & 0xc0 == 0x80 && b & 0x1f == 0;
    (is_version_7 && [p0, p1] == prefix_mark(prefix) && partition < PARTITIONS)
        .then_some(PaymentPlace { partition, first_sequence })
}

fn prefix_mark(prefix: Prefix) -> [u8; 2] {
    let [a, b, ..] = warifu_proto::mac::sha256(&[prefix.to_string().as_bytes()]);
    [a, b]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_says_where_its_payment_lies(partition in 0_u8..100, first_sequence in 0_u64..1 << 46, at in 0_u64..1 << 47) {
            let prefix = Prefix::parse("71000001").unwrap();
            let place = PaymentPlace { partition, first_sequence };
            let id = payment_id(prefix, place, Timestamp::from_ms(at));
            prop_assert_eq!(payment_place(prefix, id), Some(place));
            prop_assert_eq!(payment_place(Prefix::parse("71000002").unwrap(), id), None);
        }

        #[test]
        fn no_foreign_id_panics(raw: [u8; 16]) {
            let _place = payment_place(Prefix::parse("7100").unwrap(), PaymentId::from_raw(raw));
        }
    }
}
