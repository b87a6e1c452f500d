//! Linking a terminal to an account, and the record that remembers it.
//!
//! Law: nothing of the issuer's answer is believed before its confirmation holds under the invitation's secret,
//! which the hub never saw. Limits: one request and one answer; when to repeat it is the caller's business (the same
//! key gets the same answer until the invitation expires, so the key has to be stored before the first request).

use std::fmt;

use serde::{Deserialize, Serialize};
use warifu_proto::code::Prefix;
use warifu_proto::currency::Currency;
use warifu_proto::directory::Directory;
use warifu_proto::id::{CredentialId, InvitationId, NetworkId};
use warifu_proto::key::{PrivateKey, PublicKey, Thumbprint};
use warifu_proto::limits::{LIFETIME_MAX_S, NAME_MAX, PARTITIONS};
use warifu_proto::link::{InvitationLink, LinkKeys, unlink_message};
use warifu_proto::mac;
use warifu_proto::message::{
    AccountAbout, IssuerAbout, LimitsAbout, LinkAnswer, LinkRequest, LinkedAccount, UnlinkRequest,
    check_text,
};
use warifu_proto::time::Timestamp;
use warifu_proto::{Malformed, base64url};

use crate::question::{self, Question};

/// Why an answer to a link request is not believed, in the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The confirmation is not what the holder of the invitation's secret would have made.
    #[error("the answer was not made by the issuer that made the invitation")]
    Unconfirmed,
    /// Confirmed, but not the JSON it should be.
    #[error("the issuer's answer can't be read")]
    Unreadable,
    /// Two parts of the answer, or the answer and the invitation, say different things.
    #[error("the issuer's answer does not fit: {what}")]
    Misfit {
        /// What does not fit.
        what: &'static str,
    },
    /// The directory is another registrar's than the invitation's.
    #[error("the directory is signed by another registrar than the invitation names")]
    OtherNetwork,
    /// The registrar does not vouch for this issuer, or not at the moment.
    #[error("the network's directory has no active issuer with this id, prefix and key")]
    IssuerUnknown,
    /// The account's currency is neither ISO 4217's nor the registrar's, or has other decimals.
    #[error("the account's currency is not known in this network")]
    CurrencyUnknown,
}

/// A link that is being made: typestate between the request and its answer.
#[derive(Debug)]
pub struct Linking {
    invitation: InvitationLink,
    hub_url: String,
    keys: LinkKeys,
    request: LinkRequest,
}

impl Linking {
    /// Takes an invitation and the key made for this link.
    ///
    /// # Errors
    /// When the label is no text for people or the invitation's page is no web address.
    pub fn begin(
        invitation: InvitationLink,
        key: &PublicKey,
        label: &str,
    ) -> Result<Self, Malformed> {
        check_text("label", label, NAME_MAX)?;
        let hub_url = hub_of(&invitation.page)?;
        let keys = LinkKeys::derive(&invitation.secret, key.thumbprint());
        let request = LinkRequest {
            prefix: invitation.prefix,
            invitation_id: invitation.invitation,
            key: key.clone(),
            label: label.to_owned(),
            proof: keys.proof(invitation.prefix, invitation.invitation, key.thumbprint()),
        };
        Ok(Self { invitation, hub_url, keys, request })
    }

    /// Where the request goes: the hub whose wallet page the invitation names.
    pub fn hub_url(&self) -> &str {
        &self.hub_url
    }

    /// Who vouches for everybody in the network of the invitation.
    pub fn registrar(&self) -> Thumbprint {
        self.invitation.registrar
    }

    /// What to send to `POST /v1/links`, signed by the key it carries. Repeating it is safe.
    pub fn request(&self) -> &LinkRequest {
        &self.request
    }

    /// Checks the answer and makes the record to store.
    ///
    /// # Errors
    /// In the order of [`LinkError`]; the caller may ask again, a refused answer changes nothing.
    pub fn accept(
        &self,
        answer: &LinkAnswer,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<Link, LinkError> {
        let expected = self.keys.confirmation(answer.credential_id, &answer.answer);
        if !mac::equal_in_constant_time(&expected, &answer.confirmation) {
            return Err(LinkError::Unconfirmed);
        }
        let linked: LinkedAccount =
            serde_json::from_slice(&answer.answer).map_err(|_| LinkError::Unreadable)?;
        if linked.credential_id != answer.credential_id {
            return Err(LinkError::Misfit { what: "it names two credentials" });
        }
        if linked.issuer.prefix != self.invitation.prefix {
            return Err(LinkError::Misfit { what: "its prefix is not the invitation's" });
        }
        if linked.partition >= PARTITIONS {
            return Err(LinkError::Misfit { what: "its partition is above 99" });
        }
        let currency = self.check_with(directory, &linked, now)?;
        Ok(Link {
            format: Link::FORMAT,
            network: directory.network(),
            registrar: self.invitation.registrar,
            hub_url: self.hub_url.clone(),
            invitation: self.invitation.invitation,
            device: self.request.key.thumbprint(),
            label: self.request.label.clone(),
            credential: linked.credential_id,
            partition: linked.partition,
            keys: self.keys.clone(),
            account: linked.account,
            currency_number: currency.number,
            limits: linked.limits,
            issuer: linked.issuer,
            counters: Counters::default(),
            questions: Vec::new(),
        })
    }

    /// What the directory has to say about the issuer and the currency.
    fn check_with(
        &self,
        directory: &Directory,
        linked: &LinkedAccount,
        now: Timestamp,
    ) -> Result<Currency, LinkError> {
        if directory.registrar().thumbprint() != self.invitation.registrar {
            return Err(LinkError::OtherNetwork);
        }
        let about = &linked.issuer;
        let is_this_one = directory.issuers().any(|it| {
            it.common.id == about.id
                && it.prefix == about.prefix
                && it.key.thumbprint() == about.key
                && it.common.is_active(now)
        });
        if !is_this_one {
            return Err(LinkError::IssuerUnknown);
        }
        directory
            .currency(linked.account.currency)
            .filter(|it| it.exponent == linked.account.exponent)
            .ok_or(LinkError::CurrencyUnknown)
    }
}

/// The address of the hub whose wallet page this is: the page without `/wallet`, or else its origin.
fn hub_of(page: &str) -> Result<String, Malformed> {
    const BAD: Malformed =
        Malformed::new("invitation link", "must begin with https:// and the hub's address");
    let (scheme, rest) = page.split_once("://").ok_or(BAD)?;
    let rest = rest.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let hub = match rest.strip_suffix("/wallet") {
        Some(hub) => hub,
        None => rest.split('/').next().unwrap_or_default(),
    };
    let is_address = !hub.is_empty() && !hub.contains(|c: char| c.is_whitespace() || c == '@');
    if matches!(scheme, "http" | "https") && is_address {
        Ok(format!("{scheme}://{hub}"))
    } else {
        Err(BAD)
    }
}

/// What a terminal remembers of a link. It holds the keys that make codes: store it where only the payer can read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The version of this record: 1.
    pub format: u8,
    /// Which network.
    pub network: NetworkId,
    /// Who vouches for everybody in it.
    pub registrar: Thumbprint,
    /// Where registrations go and notices come from.
    pub hub_url: String,
    /// What the link was made of; no longer usable.
    pub invitation: InvitationId,
    /// The terminal's own key for this link.
    pub device: Thumbprint,
    /// What the payer calls the terminal.
    pub label: String,
    /// The terminal's name at the issuer and the hub.
    pub credential: CredentialId,
    /// The two digits after the prefix.
    pub partition: u8,
    /// What only the issuer and this terminal know.
    #[serde(with = "keys")]
    pub keys: LinkKeys,
    /// The account as the payer sees it.
    pub account: AccountAbout,
    /// The number of the account's currency.
    pub currency_number: u16,
    /// What the issuer allows.
    pub limits: LimitsAbout,
    /// Who answers for the account.
    pub issuer: IssuerAbout,
    /// What changes.
    pub counters: Counters,
    /// What the issuer asks of the payer, oldest first; missing in records of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<Question>,
}

/// The part of a [`Link`] that changes. None of these ever goes back, but for the clock's correction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Grows with every change of the record.
    pub revision: u64,
    /// The last sequence that was used in a registration; 0 for none.
    pub sequence: u32,
    /// The last notice that was opened; 0 for none.
    pub notice: u64,
    /// What to add to the terminal's clock to get the issuer's, in milliseconds; learned of the issuer itself.
    pub clock_offset_ms: i64,
}

impl Link {
    /// The version of the record that this code writes.
    pub const FORMAT: u8 = 1;

    /// The prefix of its codes.
    pub fn prefix(&self) -> Prefix {
        self.issuer.prefix
    }

    /// The account's currency.
    pub fn currency(&self) -> Currency {
        Currency {
            code: self.account.currency,
            number: self.currency_number,
            exponent: self.account.exponent,
        }
    }

    /// Longest lifetime of a code that the issuer allows, in seconds.
    pub fn lifetime_max_s(&self) -> u16 {
        match self.limits.lifetime_max_s {
            0 => LIFETIME_MAX_S,
            limit => limit.min(LIFETIME_MAX_S),
        }
    }

    /// What the issuer's clock says when the terminal's says `now`.
    pub fn issuer_time(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_ms(now.as_ms().saturating_add_signed(self.counters.clock_offset_ms))
    }

    /// Takes over what another process stored about the same link meanwhile, so that no counter goes back and no word
    /// of the payer is changed.
    pub fn merge(&mut self, other: &Self) {
        if self.credential == other.credential {
            question::merge(&mut self.questions, &other.questions);
            let (own, other) = (&mut self.counters, &other.counters);
            own.revision = own.revision.max(other.revision);
            own.sequence = own.sequence.max(other.sequence);
            own.notice = own.notice.max(other.notice);
        }
    }

    /// What to send to `DELETE /v1/links/{crd}` to end the link.
    pub fn unlink_request(&self, key: &PrivateKey, now: Timestamp) -> UnlinkRequest {
        let at = self.issuer_time(now);
        let signature = key.sign(&unlink_message(self.credential, at));
        UnlinkRequest { at_ms: at.as_ms(), signature }
    }
}

// Neither keys nor names may reach a log.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("credential", &self.credential)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// All four keys as one base64url text.
mod keys {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    use super::{LinkKeys, base64url};

    pub(super) fn serialize<S: Serializer>(keys: &LinkKeys, to: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(base64url::encode(keys.to_bytes().as_slice()));
        to.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<LinkKeys, D::Error> {
        let text = Zeroizing::new(String::deserialize(from)?);
        let bytes = base64url::decode_array(&text).map_err(serde::de::Error::custom)?;
        Ok(LinkKeys::from_bytes(&Zeroizing::new(bytes)))
    }
}

#[cfg(test)]
mod tests;
