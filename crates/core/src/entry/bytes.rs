//! The bytes of an entry. Law: an entry has exactly one encoding, so bytes that decode encode to the same bytes again.

use warifu_proto::code::Locator;
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::id::{AccountId, CredentialId, InvitationId, MerchantId, ReaderId};
use warifu_proto::limits::PARTITIONS;
use warifu_proto::message::AccountKind;
use warifu_proto::rejection::Rejection;

use super::{
    AccountOpened, Decided, Entry, Fact, Holder, Invited, Leg, Linked, Matched, Registered, Side,
    ToppedUp, Unlinked, Withdrawn,
};
use crate::layout::{LayoutError, Reader, Writer};

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
        to.u8(self.rejection.map_or(0, Rejection::number));
        match &self.matched {
            None => to.u8(0),
            Some(it) => {
                to.u8(1);
                to.u32(it.credential_number);
                to.u32(it.code_sequence);
                to.u64(it.notice_number);
                to.i64(it.balance_minor);
            }
        }
        write_legs(to, &self.legs);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        Ok(Self {
            merchant: MerchantId::from_raw(from.array()?),
            reader: ReaderId::from_raw(from.array()?),
            request: from.request_id()?,
            digest: from.array()?,
            amount_minor: from.u64()?,
            currency: read_currency_code(from)?,
            locator: read_locator(from)?,
            business_day: from.u32()?,
            rejection: match from.u8()? {
                0 => None,
                number => Some(
                    Rejection::from_number(number).ok_or(LayoutError("an unknown rejection"))?,
                ),
            },
            matched: match from.u8()? {
                0 => None,
                1 => Some(Matched {
                    credential_number: from.u32()?,
                    code_sequence: from.u32()?,
                    notice_number: from.u64()?,
                    balance_minor: from.i64()?,
                }),
                _ => return Err(LayoutError("an unknown option")),
            },
            legs: read_legs(from)?,
        })
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
