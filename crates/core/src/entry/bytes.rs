//! The bytes of an entry. Law: an entry has exactly one encoding, so bytes that decode encode to the same bytes again.

use warifu_proto::code::Locator;
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::id::{AccountId, CredentialId, InvitationId, MerchantId, ReaderId};
use warifu_proto::limits::PARTITIONS;
use warifu_proto::message::{AccountKind, Capture, PaymentStatus};
use warifu_proto::rejection::Rejection;

use super::{
    AccountOpened, AccountStood, Changed, CredentialStood, Decided, Entry, Fact, Holder, Invited,
    Leg, Limited, Linked, Matched, Offline, Registered, Side, Tombstone, ToppedUp, Unlinked,
    Withdrawn,
};
use crate::account::AccountStanding;
use crate::layout::{LayoutError, Reader, Writer};
use crate::life::Change;
use crate::limits::Limits;
use crate::payment::{Payment, read_status, status_number};

/// Version of every layout so far.
const VERSION: u8 = 1;

impl Fact {
    fn kind(&self) -> u8 {
        match self {
            Self::AccountOpened(_) => 1,
            Self::ToppedUp(_) => 2,
            Self::Invited(_) => 3,
            Self::Linked(_) => 4,
            Self::Unlinked(_) => 5,
            Self::Registered(_) => 6,
            Self::Withdrawn(_) => 7,
            Self::Decided(_) => 8,
            Self::Changed(_) => 9,
            Self::Tombstone(_) => 10,
            Self::AccountStood(_) => 11,
            Self::CredentialStood(_) => 12,
            Self::Limited(_) => 13,
        }
    }
}

impl Entry {
    /// Appends the bytes of this entry.
    pub fn encode(&self, to: &mut Writer) {
        to.u8(self.fact.kind());
        to.u8(VERSION);
        to.u8(self.partition);
        to.u64(self.sequence);
        to.time(self.at);
        match &self.fact {
            Fact::AccountOpened(it) => {
                to.request_id(&it.request);
                to.raw(&it.digest);
                to.raw(&it.account.raw());
                to.u8(account_kind_number(it.kind));
                write_currency(to, &it.currency);
                to.i64(it.floor_minor);
            }
            Fact::ToppedUp(it) => {
                to.request_id(&it.request);
                to.raw(&it.digest);
                to.u32(it.account_number);
                write_legs(to, &it.legs);
            }
            Fact::Invited(it) => {
                to.raw(&it.invitation.raw());
                to.u32(it.account_number);
                to.raw(&it.secret);
                to.time(it.expires_at);
            }
            Fact::Linked(it) => {
                to.raw(&it.invitation.raw());
                to.raw(&it.credential.raw());
                to.raw(&it.key);
                to.raw(&it.keys);
            }
            Fact::Unlinked(it) => to.u32(it.credential_number),
            Fact::Registered(it) => {
                to.u32(it.credential_number);
                to.u32(it.locator.number());
                to.u32(it.code_sequence);
                to.raw(&it.tag);
                to.raw(&it.digest);
                to.time(it.expires_at);
                to.u64(it.cap_minor);
            }
            Fact::Withdrawn(it) => {
                to.u32(it.credential_number);
                to.u32(it.code_sequence);
                to.raw(&it.digest);
            }
            Fact::Decided(it) => it.encode(to),
            Fact::Changed(it) => it.encode(to),
            Fact::Tombstone(it) => {
                to.raw(&it.merchant.raw());
                to.raw(&it.reader.raw());
                to.request_id(&it.request);
            }
            Fact::AccountStood(it) => {
                to.u32(it.account_number);
                to.u8(it.standing.number());
                write_legs(to, &it.legs);
            }
            Fact::CredentialStood(it) => {
                to.u32(it.credential_number);
                to.flag(it.is_suspended);
            }
            Fact::Limited(it) => {
                to.u32(it.account_number);
                to.flag(it.limits.is_some());
                if let Some(limits) = &it.limits {
                    limits.encode(to);
                }
            }
        }
    }

    /// The bytes of this entry.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut to = Writer::default();
        self.encode(&mut to);
        to.0
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// On an unknown kind or version, a field outside of its range, and bytes missing or left.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let mut from = Reader(bytes);
        let kind = from.u8()?;
        if from.u8()? != VERSION {
            return Err(LayoutError("an entry's version that this program does not know"));
        }
        let (partition, sequence, at) = (from.u8()?, from.u64()?, from.time()?);
        if partition >= PARTITIONS {
            return Err(LayoutError("a partition above 99"));
        }
        let from = &mut from;
        let fact = match kind {
            1 => Fact::AccountOpened(AccountOpened {
                request: from.request_id()?,
                digest: from.array()?,
                account: AccountId::from_raw(from.array()?),
                kind: read_account_kind(from)?,
                currency: read_currency(from)?,
                floor_minor: from.i64()?,
            }),
            2 => Fact::ToppedUp(ToppedUp {
                request: from.request_id()?,
                digest: from.array()?,
                account_number: from.u32()?,
                legs: read_legs(from)?,
            }),
            3 => Fact::Invited(Invited {
                invitation: InvitationId::from_raw(from.array()?),
                account_number: from.u32()?,
                secret: from.array()?,
                expires_at: from.time()?,
            }),
            4 => Fact::Linked(Linked {
                invitation: InvitationId::from_raw(from.array()?),
                credential: CredentialId::from_raw(from.array()?),
                key: from.array()?,
                keys: from.array()?,
            }),
            5 => Fact::Unlinked(Unlinked { credential_number: from.u32()? }),
            6 => Fact::Registered(Registered {
                credential_number: from.u32()?,
                locator: read_locator(from)?,
                code_sequence: from.u32()?,
                tag: from.array()?,
                digest: from.array()?,
                expires_at: from.time()?,
                cap_minor: from.u64()?,
            }),
            7 => Fact::Withdrawn(Withdrawn {
                credential_number: from.u32()?,
                code_sequence: from.u32()?,
                digest: from.array()?,
            }),
            8 => Fact::Decided(Decided::decode(from)?),
            9 => Fact::Changed(Box::new(Changed::decode(from)?)),
            10 => Fact::Tombstone(Tombstone {
                merchant: MerchantId::from_raw(from.array()?),
                reader: ReaderId::from_raw(from.array()?),
                request: from.request_id()?,
            }),
            11 => Fact::AccountStood(AccountStood {
                account_number: from.u32()?,
                standing: AccountStanding::read(from)?,
                legs: read_legs(from)?,
            }),
            12 => Fact::CredentialStood(CredentialStood {
                credential_number: from.u32()?,
                is_suspended: from.flag()?,
            }),
            13 => Fact::Limited(Limited {
                account_number: from.u32()?,
                limits: if from.flag()? { Some(Limits::decode(from)?) } else { None },
            }),
            _ => return Err(LayoutError("an entry's kind that this program does not know")),
        };
        from.end()?;
        Ok(Self { partition, sequence, at, fact })
    }
}

impl Decided {
    fn encode(&self, to: &mut Writer) {
        to.raw(&self.merchant.raw());
        to.raw(&self.reader.raw());
        to.request_id(&self.request);
        to.raw(&self.digest);
        to.u64(self.amount_minor);
        to.raw(self.currency.as_str().as_bytes());
        to.u32(self.locator.number());
        to.u32(self.business_day);
        to.u8(capture_number(self.capture));
        to.u8(status_number(self.status));
        to.u8(self.rejection.map_or(0, Rejection::number));
        if is_open(self.status) {
            to.time(self.expires_at.unwrap_or_default());
        }
        match &self.matched {
            None => to.u8(0),
            Some(it) => {
                to.u8(if self.offline.is_some() { 2 } else { 1 });
                to.u32(it.credential_number);
                to.u32(it.code_sequence);
                to.u64(it.notice_number);
                to.i64(it.balance_minor);
            }
        }
        if let (Some(_), Some(it)) = (&self.matched, &self.offline) {
            to.raw(&it.tag);
            to.raw(&it.digest);
            to.time(it.expires_at);
            to.u64(it.cap_minor);
        }
        write_legs(to, &self.legs);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let (merchant, reader) =
            (MerchantId::from_raw(from.array()?), ReaderId::from_raw(from.array()?));
        let (request, digest) = (from.request_id()?, from.array()?);
        let (amount_minor, currency) = (from.u64()?, read_currency_code(from)?);
        let (locator, business_day) = (read_locator(from)?, from.u32()?);
        let (capture, status) = (read_capture(from)?, read_status(from)?);
        let rejection = match from.u8()? {
            0 => None,
            number => {
                Some(Rejection::from_number(number).ok_or(LayoutError("an unknown rejection"))?)
            }
        };
        let expires_at = if is_open(status) { Some(from.time()?) } else { None };
        let matching = from.u8()?;
        let matched = match matching {
            0 => None,
            1 | 2 => Some(Matched {
                credential_number: from.u32()?,
                code_sequence: from.u32()?,
                notice_number: from.u64()?,
                balance_minor: from.i64()?,
            }),
            _ => return Err(LayoutError("an unknown option")),
        };
        let offline = if matching == 2 {
            Some(Offline {
                tag: from.array()?,
                digest: from.array()?,
                expires_at: from.time()?,
                cap_minor: from.u64()?,
            })
        } else {
            None
        };
        let legs = read_legs(from)?;
        Ok(Self {
            merchant,
            reader,
            request,
            digest,
            amount_minor,
            currency,
            locator,
            business_day,
            capture,
            status,
            rejection,
            expires_at,
            matched,
            offline,
            legs,
        })
    }
}

fn is_open(status: PaymentStatus) -> bool {
    matches!(status, PaymentStatus::Held | PaymentStatus::AwaitingPayer)
}

impl Changed {
    fn encode(&self, to: &mut Writer) {
        let (change, rejection) = match self.change {
            Change::Confirmed => (1, 0),
            Change::Stopped(rejection) => (2, rejection.number()),
            Change::Refused => (3, 0),
            Change::TimedOut => (4, 0),
            Change::Captured => (5, 0),
            Change::Released => (6, 0),
            Change::Expired => (7, 0),
            Change::Refunded => (8, 0),
            Change::Reversed => (9, 0),
        };
        to.u8(change);
        to.u8(rejection);
        to.flag(self.reader.is_some());
        if let Some(reader) = &self.reader {
            to.raw(&reader.raw());
        }
        to.flag(self.request.is_some());
        if let Some((request, digest)) = &self.request {
            to.request_id(request);
            to.raw(digest);
        }
        to.u64(self.amount_minor);
        self.payment.encode(to);
        write_legs(to, &self.legs);
        to.u64(self.notice_number);
        to.i64(self.balance_minor);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let change = match (from.u8()?, from.u8()?) {
            (1, 0) => Change::Confirmed,
            (2, number) => Change::Stopped(
                Rejection::from_number(number).ok_or(LayoutError("an unknown rejection"))?,
            ),
            (3, 0) => Change::Refused,
            (4, 0) => Change::TimedOut,
            (5, 0) => Change::Captured,
            (6, 0) => Change::Released,
            (7, 0) => Change::Expired,
            (8, 0) => Change::Refunded,
            (9, 0) => Change::Reversed,
            _ => return Err(LayoutError("an unknown change")),
        };
        Ok(Self {
            change,
            reader: if from.flag()? { Some(ReaderId::from_raw(from.array()?)) } else { None },
            request: if from.flag()? { Some((from.request_id()?, from.array()?)) } else { None },
            amount_minor: from.u64()?,
            payment: Payment::decode(from)?,
            legs: read_legs(from)?,
            notice_number: from.u64()?,
            balance_minor: from.i64()?,
        })
    }
}

/// Number of the wish to take at once or later in layouts.
pub(crate) fn capture_number(capture: Capture) -> u8 {
    match capture {
        Capture::Now => 1,
        Capture::Later => 2,
    }
}

pub(crate) fn read_capture(from: &mut Reader<'_>) -> Result<Capture, LayoutError> {
    match from.u8()? {
        1 => Ok(Capture::Now),
        2 => Ok(Capture::Later),
        _ => Err(LayoutError("neither now nor later")),
    }
}

/// Number of an account kind in layouts.
pub(crate) fn account_kind_number(kind: AccountKind) -> u8 {
    match kind {
        AccountKind::Prepaid => 1,
        AccountKind::Credit => 2,
    }
}

pub(crate) fn read_account_kind(from: &mut Reader<'_>) -> Result<AccountKind, LayoutError> {
    match from.u8()? {
        1 => Ok(AccountKind::Prepaid),
        2 => Ok(AccountKind::Credit),
        _ => Err(LayoutError("an unknown kind of account")),
    }
}

fn read_locator(from: &mut Reader<'_>) -> Result<Locator, LayoutError> {
    Locator::from_number(from.u32()?).ok_or(LayoutError("a locator above 999999"))
}

pub(crate) fn write_currency(to: &mut Writer, currency: &Currency) {
    to.raw(currency.code.as_str().as_bytes());
    to.u16(currency.number);
    to.u8(currency.exponent);
}

pub(crate) fn read_currency(from: &mut Reader<'_>) -> Result<Currency, LayoutError> {
    Ok(Currency { code: read_currency_code(from)?, number: from.u16()?, exponent: from.u8()? })
}

pub(crate) fn read_currency_code(from: &mut Reader<'_>) -> Result<CurrencyCode, LayoutError> {
    let bytes: [u8; 3] = from.array()?;
    let text = std::str::from_utf8(&bytes).map_err(|_| LayoutError("not a currency"))?;
    CurrencyCode::parse(text).map_err(|_| LayoutError("not a currency"))
}

fn write_legs(to: &mut Writer, legs: &[Leg]) {
    to.u8(u8::try_from(legs.len()).expect("an entry has a handful of legs"));
    for leg in legs {
        let (holder, number) = match leg.holder {
            Holder::Account(number) => (1, number),
            Holder::Merchant => (2, 0),
            Holder::World => (3, 0),
        };
        to.u8(holder);
        to.u32(number);
        to.u8(match leg.side {
            Side::Debit => 1,
            Side::Credit => 2,
        });
        to.u64(leg.amount_minor);
    }
}

fn read_legs(from: &mut Reader<'_>) -> Result<Vec<Leg>, LayoutError> {
    let count = from.u8()?;
    let mut legs = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let holder = from.u8()?;
        let number = from.u32()?;
        let holder = match (holder, number) {
            (1, number) => Holder::Account(number),
            (2, 0) => Holder::Merchant,
            (3, 0) => Holder::World,
            _ => return Err(LayoutError("an unknown holder")),
        };
        let side = match from.u8()? {
            1 => Side::Debit,
            2 => Side::Credit,
            _ => return Err(LayoutError("an unknown side")),
        };
        legs.push(Leg { holder, side, amount_minor: from.u64()? });
    }
    Ok(legs)
}
