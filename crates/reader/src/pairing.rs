//! Pairing a reader with its merchant. The link proves to the merchant's side which key is the reader's; the answer
//! is believed because the merchant's key, for which the registrar vouches, signed the reader's entry.
//!
//! Limits: one request, repeated by the caller while the merchant's side is not there yet; a repeat gets the same answer,
//! so the key has to be stored before the first request.

use serde::{Deserialize, Serialize};
use warifu_proto::Malformed;
use warifu_proto::directory::{Directory, Entry, EntryKind, Record, Right};
use warifu_proto::id::{MerchantId, NetworkId, PairingId, ReaderId};
use warifu_proto::key::{PublicKey, Thumbprint};
use warifu_proto::limits::NAME_MAX;
use warifu_proto::message::{PairingAnswer, PairingRequest, check_text};
use warifu_proto::pairing::{PairingLink, proof};
use warifu_proto::time::Timestamp;

/// Why an answer to a pairing request is not believed, in the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// The directory is another registrar's than the link's.
    #[error("the directory is signed by another registrar than the pairing link names")]
    OtherNetwork,
    /// The entry is no reader's, or can't be read.
    #[error("the answer carries no reader's entry that can be read")]
    Unreadable,
    /// The entry and the answer, or the entry and this reader, differ.
    #[error("the entry does not fit: {what}")]
    Misfit {
        /// What does not fit.
        what: &'static str,
    },
    /// The merchant is not in the directory, or not at the moment.
    #[error("the network's directory has no active merchant with this id")]
    MerchantUnknown,
    /// The entry is not signed by the merchant's key.
    #[error("the entry is not signed by the merchant's key")]
    NotSigned,
    /// The entry says that the reader may not take part now.
    #[error("the merchant's entry for this reader is not active")]
    Inactive,
}

/// A pairing that is being made: typestate between the request and its answer.
#[derive(Debug)]
pub struct Pairing {
    link: PairingLink,
    request: PairingRequest,
}

impl Pairing {
    /// Takes a pairing link and the key made for this reader.
    ///
    /// # Errors
    /// When the name is no text for people.
    pub fn begin(link: PairingLink, key: &PublicKey, name: &str) -> Result<Self, Malformed> {
        check_text("name", name, NAME_MAX)?;
        let proof = proof(&link.secret, link.pairing, key.thumbprint());
        let request = PairingRequest { key: key.clone(), name: name.to_owned(), proof };
        Ok(Self { link, request })
    }

    /// Which pairing: the end of the path `POST /v1/pairings/{par}`.
    pub fn id(&self) -> PairingId {
        self.link.pairing
    }

    /// The hub that carries the messages.
    pub fn hub_url(&self) -> &str {
        &self.link.hub_url
    }

    /// Who vouches for everybody in the network of the link.
    pub fn registrar(&self) -> Thumbprint {
        self.link.registrar
    }

    /// What to send, signed by the key it carries. Repeating it is safe.
    pub fn request(&self) -> &PairingRequest {
        &self.request
    }

    /// Checks the answer and makes the record to store.
    ///
    /// # Errors
    /// In the order of [`PairError`].
    pub fn accept(
        &self,
        answer: &PairingAnswer,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<Paired, PairError> {
        if directory.registrar().thumbprint() != self.link.registrar {
            return Err(PairError::OtherNetwork);
        }
        if answer.entry.kind != EntryKind::Reader {
            return Err(PairError::Unreadable);
        }
        let Ok(Record::Reader(reader)) = answer.entry.read() else {
            return Err(PairError::Unreadable);
        };
        if reader.common.id != answer.reader_id {
            return Err(PairError::Misfit { what: "it names two readers" });
        }
        if reader.key != self.request.key {
            return Err(PairError::Misfit { what: "it names another key than this reader's" });
        }
        if reader.merchant_id != answer.merchant.id {
            return Err(PairError::Misfit { what: "it names two merchants" });
        }
        let merchant = directory
            .merchant(reader.merchant_id)
            .filter(|it| it.common.is_active(now))
            .ok_or(PairError::MerchantUnknown)?;
        if !answer.entry.is_signed_by(directory.network(), &merchant.key) {
            return Err(PairError::NotSigned);
        }
        if !reader.common.is_active(now) {
            return Err(PairError::Inactive);
        }
        Ok(Paired {
            format: Paired::FORMAT,
            network: directory.network(),
            registrar: self.link.registrar,
            hub_url: self.link.hub_url.clone(),
            pairing: self.link.pairing,
            reader: reader.common.id,
            name: reader.name,
            key: self.request.key.thumbprint(),
            merchant: merchant.common.id,
            // The directory's word, not the answer's.
            merchant_name: merchant.name.clone(),
            rights: reader.rights,
            entry: answer.entry.clone(),
        })
    }
}

/// What a reader remembers of its pairing. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paired {
    /// The version of this record: 1.
    pub format: u8,
    /// Which network.
    pub network: NetworkId,
    /// Who vouches for everybody in it.
    pub registrar: Thumbprint,
    /// Where the directory comes from.
    pub hub_url: String,
    /// What the reader was paired by; no longer usable.
    pub pairing: PairingId,
    /// The reader's id.
    pub reader: ReaderId,
    /// What the merchant calls it.
    pub name: String,
    /// The reader's own key.
    pub key: Thumbprint,
    /// Whose reader it is.
    pub merchant: MerchantId,
    /// For people.
    pub merchant_name: String,
    /// What it may do beyond paying.
    pub rights: Vec<Right>,
    /// The merchant's word for all this.
    pub entry: Entry,
}

impl Paired {
    /// The version of the record that this code writes.
    pub const FORMAT: u8 = 1;
}

#[cfg(test)]
mod tests;
