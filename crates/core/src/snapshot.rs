//! A partition's whole memory as bytes: what recovery starts from, and what two states are compared by.
//!
//! ```text
//! u8 version = 1 · u8 partition · u64 sequence · u64 time · u32 business day · accounts · credentials · invitations ·
//! codes · merchants · world · limits · requests · pasts · payments, each a count and so many items in a fixed order
//! ```

use warifu_proto::id::MerchantId;
use warifu_proto::mac;

use crate::account::Account;
use crate::by_id::ById;
use crate::code_book::CodeBook;
use crate::credential::{Credential, Invitation};
use crate::entry::Digest;
use crate::id_table::IdTable;
use crate::layout::{LayoutError, Reader, Writer};
use crate::limits::Limits;
use crate::partition::{Answered, Partition, Past, Remembered, credential_id};
use crate::payment_book::PaymentBook;
use crate::requests::{Line, Requests};
use crate::vault::Vault;

const VERSION: u8 = 1;

impl Partition {
    /// All of the state. Equal states give equal bytes.
    pub fn to_snapshot(&self, vault: &Vault) -> Vec<u8> {
        self.to_snapshot_of(0, vault)
    }

    /// The same, where it is known about how many bytes that will be: megabytes that need not be moved as they grow.
    pub fn to_snapshot_of(&self, bytes: usize, vault: &Vault) -> Vec<u8> {
        let mut to = Writer(Vec::with_capacity(bytes.saturating_add(bytes / 8)));
        to.u8(VERSION);
        to.u8(self.number);
        to.u64(self.sequence);
        to.time(self.time);
        to.u32(self.business_day);
        to.count(self.accounts.len());
        self.accounts.iter().for_each(|it| it.encode(&mut to));
        to.count(self.credentials.len());
        let mut sealed = self.sealed_keys.iter();
        self.credentials.iter().for_each(|it| it.encode(sealed.next(), &mut to, vault));
        to.count(self.invitations.len());
        self.invitations.iter().for_each(|(id, it)| it.encode(*id, &mut to, vault));
        self.codes.encode(&mut to);
        to.count(self.merchants.len());
        for ((merchant, currency), minor) in &self.merchants {
            to.raw(&merchant.raw());
            to.u16(*currency);
            to.raw(&minor.to_be_bytes());
        }
        to.count(self.world.len());
        for (currency, minor) in &self.world {
            to.u16(*currency);
            to.raw(&minor.to_be_bytes());
        }
        to.count(self.limits.len());
        for (account_number, limits) in &self.limits {
            to.u32(*account_number);
            limits.encode(&mut to);
        }
        self.encode_requests(&mut to);
        let pasts: Vec<_> = self
            .pasts
            .iter()
            .filter_map(|(caller, past)| Some((caller, past.greatest_forgotten.as_ref()?)))
            .collect();
        to.count(pasts.len());
        for (caller, greatest) in pasts {
            to.raw(&caller.raw());
            to.request_id(greatest);
        }
        self.payments.encode(&mut to);
        to.0
    }

    /// In order of sequence. A tombstone whose payment came after all lies under the id that the payment has now: its
    /// line says so by a later sequence.
    fn encode_requests(&self, to: &mut Writer) {
        to.count(self.requests.len());
        for (line, is_newest) in self.requests.iter() {
            let now = line.remembered;
            to.u64(now.sequence);
            to.raw(&line.caller.raw());
            to.request_id(&line.request);
            to.flag(is_newest);
            if !is_newest {
                continue;
            }
            to.raw(&now.digest);
            let (kind, first_sequence) = match now.answered {
                Answered::Operator => (1, 0),
                Answered::Payment => (2, 0),
                Answered::Change { first_sequence } => (3, first_sequence),
                Answered::Tombstone => (4, 0),
            };
            to.u8(kind);
            to.u64(first_sequence);
        }
    }

    fn decode_requests(&mut self, from: &mut Reader<'_>, vault: &Vault) -> Result<(), LayoutError> {
        let line = |from: &mut Reader<'_>| {
            let (sequence, caller) = (from.u64()?, MerchantId::from_raw(from.array()?));
            let request = from.request_id()?;
            if !from.flag()? {
                let (digest, answered) = (Digest::default(), Answered::Tombstone);
                let remembered = Remembered { sequence, digest, answered };
                return Ok(Line { caller, request, remembered });
            }
            let digest = from.array()?;
            let answered = match (from.u8()?, from.u64()?) {
                (1, 0) => Answered::Operator,
                (2, 0) => Answered::Payment,
                (3, first_sequence) => Answered::Change { first_sequence },
                (4, 0) => Answered::Tombstone,
                _ => return Err(LayoutError("an unknown kind of request")),
            };
            Ok(Line { caller, request, remembered: Remembered { sequence, digest, answered } })
        };
        self.requests = Requests::of(from.many(line)?, vault.table_secret());
        Ok(())
    }

    /// Reads it again.
    ///
    /// # Errors
    /// On an unknown version, damaged bytes, or another vault key.
    pub fn from_snapshot(bytes: &[u8], vault: &Vault) -> Result<Self, LayoutError> {
        let from = &mut Reader(bytes);
        if from.u8()? != VERSION {
            return Err(LayoutError("a snapshot's version that this program does not know"));
        }
        let mut state = Self::new(from.u8()?);
        state.sequence = from.u64()?;
        state.time = from.time()?;
        state.business_day = from.u32()?;
        state.accounts = from.many(Account::decode)?;
        state.account_numbers =
            ById::of(state.accounts.len(), |it| state.account(it).map(|it| it.id));
        state.credentials = from.many(|from| {
            let (credential, sealed) = Credential::decode(from, vault)?;
            if credential.keys.is_none() {
                state.sealed_keys.push(sealed);
            }
            Ok(credential)
        })?;
        state.credential_numbers =
            IdTable::of(state.credentials.len(), |it| credential_id(&state.credentials, it));
        state.invitations =
            from.many(|from| Invitation::decode(from, vault))?.into_iter().collect();
        state.codes = CodeBook::decode(from)?;
        let merchant = |from: &mut Reader<'_>| {
            Ok((
                (MerchantId::from_raw(from.array()?), from.u16()?),
                i128::from_be_bytes(from.array()?),
            ))
        };
        state.merchants = from.many(merchant)?.into_iter().collect();
        state.world = from
            .many(|from| Ok((from.u16()?, i128::from_be_bytes(from.array()?))))?
            .into_iter()
            .collect();
        state.limits =
            from.many(|from| Ok((from.u32()?, Limits::decode(from)?)))?.into_iter().collect();
        state.decode_requests(from, vault)?;
        let past = |from: &mut Reader<'_>| {
            let caller = MerchantId::from_raw(from.array()?);
            Ok((caller, Past { greatest_forgotten: Some(from.request_id()?) }))
        };
        state.pasts = from.many(past)?.into_iter().collect();
        state.payments = PaymentBook::decode(from)?;
        from.end()?;
        Ok(state)
    }

    /// Names the state: equal states have equal hashes.
    pub fn state_hash(&self, vault: &Vault) -> [u8; 32] {
        mac::sha256(&[&self.to_snapshot(vault)])
    }
}
