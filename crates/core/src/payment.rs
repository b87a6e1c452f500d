//! A payment as the issuer remembers it, and its id.

use warifu_proto::code::Prefix;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::id::{MerchantId, PaymentId, ReaderId};
use warifu_proto::limits::PARTITIONS;
use warifu_proto::message::{Capture, PaymentStatus};
use warifu_proto::rejection::Rejection;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use crate::entry::{
    Decided, Digest, Entry, Fact, capture_number, read_capture, read_currency_code,
};
use crate::layout::{LayoutError, Reader, Writer};

/// Whether the payer was asked, and what they said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Question {
    /// No.
    #[default]
    None,
    /// Yes; without an answer yet, or ever.
    Asked,
    /// Yes, and they confirmed.
    Confirmed,
    /// Yes, and they refused.
    Refused,
}

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
    /// Whether the money was to be taken at once.
    pub capture: Capture,
    /// Where it stands.
    pub status: PaymentStatus,
    /// Whether the payer was asked.
    pub question: Question,
    /// Until when it is held, or the payer may answer.
    pub expires_at: Option<Timestamp>,
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
    /// The day in the issuer's time zone, counted from 1970-01-01.
    pub business_day: u32,
}

impl Payment {
    /// The payment as an entry left it, if it began or changed one.
    pub fn left_by(entry: &Entry) -> Option<Self> {
        match &entry.fact {
            Fact::Decided(it) => Some(Self::of(it, entry.sequence, entry.at)),
            Fact::Changed(it) => Some(it.payment.clone()),
            Fact::AccountOpened(_)
            | Fact::ToppedUp(_)
            | Fact::Invited(_)
            | Fact::Linked(_)
            | Fact::Unlinked(_)
            | Fact::Registered(_)
            | Fact::Withdrawn(_)
            | Fact::Tombstone(_)
            | Fact::AccountStood(_)
            | Fact::CredentialStood(_)
            | Fact::Limited(_) => None,
        }
    }

    /// Its id for others.
    pub fn id(&self, prefix: Prefix, partition: u8) -> PaymentId {
        let place = PaymentPlace { partition, first_sequence: self.first_sequence };
        payment_id(prefix, place, self.decided_at)
    }

    pub(crate) fn of(decided: &Decided, sequence: u64, at: Timestamp) -> Self {
        let captured_minor =
            if decided.status == PaymentStatus::Approved { decided.amount_minor } else { 0 };
        let question = if decided.status == PaymentStatus::AwaitingPayer {
            Question::Asked
        } else {
            Question::None
        };
        Self {
            first_sequence: sequence,
            last_sequence: sequence,
            merchant: decided.merchant,
            reader: decided.reader,
            request: decided.request.clone(),
            digest: decided.digest,
            capture: decided.capture,
            status: decided.status,
            question,
            expires_at: decided.expires_at,
            rejection: decided.rejection,
            amount_minor: decided.amount_minor,
            currency: decided.currency,
            captured_minor,
            refunded_minor: 0,
            credential_number: decided.matched.map(|it| it.credential_number),
            decided_at: at,
            business_day: decided.business_day,
        }
    }

    pub(crate) fn encode(&self, to: &mut Writer) {
        to.u64(self.first_sequence);
        to.u64(self.last_sequence);
        to.raw(&self.merchant.raw());
        to.raw(&self.reader.raw());
        to.request_id(&self.request);
        to.raw(&self.digest);
        to.u8(capture_number(self.capture));
        to.u8(status_number(self.status));
        to.u8(match self.question {
            Question::None => 0,
            Question::Asked => 1,
            Question::Confirmed => 2,
            Question::Refused => 3,
        });
        to.flag(self.expires_at.is_some());
        to.time(self.expires_at.unwrap_or_default());
        to.u8(self.rejection.map_or(0, Rejection::number));
        to.u64(self.amount_minor);
        to.raw(self.currency.as_str().as_bytes());
        to.u64(self.captured_minor);
        to.u64(self.refunded_minor);
        to.u64(self.credential_number.map_or(0, |number| u64::from(number).saturating_add(1)));
        to.time(self.decided_at);
        to.u32(self.business_day);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            first_sequence: from.u64()?,
            last_sequence: from.u64()?,
            merchant: MerchantId::from_raw(from.array()?),
            reader: ReaderId::from_raw(from.array()?),
            request: from.request_id()?,
            digest: from.array()?,
            capture: read_capture(from)?,
            status: read_status(from)?,
            question: match from.u8()? {
                0 => Question::None,
                1 => Question::Asked,
                2 => Question::Confirmed,
                3 => Question::Refused,
                _ => return Err(LayoutError("an unknown word of the payer")),
            },
            expires_at: match (from.flag()?, from.time()?) {
                (true, at) => Some(at),
                (false, at) if at == Timestamp::default() => None,
                (false, _) => return Err(LayoutError("a missing time with a value")),
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
            business_day: from.u32()?,
        })
    }
}

/// Number of a status in layouts.
pub(crate) fn status_number(status: PaymentStatus) -> u8 {
    match status {
        PaymentStatus::Unknown => 0,
        PaymentStatus::Approved => 1,
        PaymentStatus::Held => 2,
        PaymentStatus::AwaitingPayer => 3,
        PaymentStatus::Declined => 4,
        PaymentStatus::Reversed => 5,
        PaymentStatus::Released => 6,
        PaymentStatus::Expired => 7,
    }
}

pub(crate) fn read_status(from: &mut Reader<'_>) -> Result<PaymentStatus, LayoutError> {
    Ok(match from.u8()? {
        1 => PaymentStatus::Approved,
        2 => PaymentStatus::Held,
        3 => PaymentStatus::AwaitingPayer,
        4 => PaymentStatus::Declined,
        5 => PaymentStatus::Reversed,
        6 => PaymentStatus::Released,
        7 => PaymentStatus::Expired,
        _ => return Err(LayoutError("an unknown status")),
    })
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
