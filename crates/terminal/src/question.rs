//! A question of the issuer to the payer, as it is kept in the link: whether this payment is to happen.
//!
//! Law: the payer's word, once it is here, stays; of two processes on one link the first to store it has said it.
//! Limits: [`QUESTIONS_MAX`] at a time, each at most a notice long.

use serde::{Deserialize, Serialize};
use warifu_proto::base64url;
use warifu_proto::id::PaymentId;
use warifu_proto::key::PrivateKey;
use warifu_proto::message::{ConfirmationRequest, NoticeText, PaymentStatus};
use warifu_proto::notice::{Verdict, confirm_message};
use warifu_proto::time::Timestamp;

use crate::link::Link;

/// Questions kept at a time, those that are over included: more than a payer at one till can meet within the minute that a question lasts.
pub const QUESTIONS_MAX: usize = 8;

/// A question that waits, or waited, for the payer's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The number of the notice that asks.
    pub number: u64,
    /// What the notice says: who wants how much, and until when the payer may answer.
    pub notice: NoticeText,
    /// The notice's very bytes: the payer's word is signed over them.
    #[serde(with = "base64url::bytes")]
    pub plaintext: Vec<u8>,
    /// What the payer said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Whether there is nothing more to ask or to send: it was heard, decided without the payer, or is too late.
    #[serde(default)]
    pub is_over: bool,
}

impl Question {
    /// Takes a notice of kind `confirm`.
    ///
    /// # Errors
    /// Why it can't be put to the payer of this link.
    pub(crate) fn new(
        number: u64,
        notice: NoticeText,
        plaintext: Vec<u8>,
        link: &Link,
    ) -> Result<Self, &'static str> {
        if notice.status != PaymentStatus::AwaitingPayer {
            return Err("the payment does not wait for the payer");
        }
        if notice.expires_at.is_none() {
            return Err("it does not say until when");
        }
        // The signature names a currency by the account's number: of another one it would say something else.
        if notice.amount.currency() != link.account.currency {
            return Err("its amount is not in the account's currency");
        }
        Ok(Self { number, notice, plaintext, verdict: None, is_over: false })
    }

    /// About which payment.
    pub fn payment(&self) -> PaymentId {
        self.notice.payment_id
    }

    /// Until when the payer may answer, by the issuer's clock.
    pub fn expires_at(&self) -> Timestamp {
        self.notice.expires_at.unwrap_or_default()
    }

    /// The payer's word, signed.
    pub(crate) fn request(
        &self,
        verdict: Verdict,
        link: &Link,
        key: &PrivateKey,
    ) -> ConfirmationRequest {
        let NoticeText { payment_id, merchant, amount, .. } = &self.notice;
        let message = confirm_message(
            verdict,
            *payment_id,
            merchant.id,
            amount.minor(),
            link.currency_number,
            &self.plaintext,
        );
        ConfirmationRequest {
            credential_id: link.credential,
            payment_id: *payment_id,
            verdict,
            signature: key.sign(&message),
        }
    }
}

/// Takes over what another process stored about the same questions: a word that is stored stands.
pub(crate) fn update(own: &mut [Question], stored: &[Question]) {
    for other in stored {
        if let Some(question) = own.iter_mut().find(|it| it.payment() == other.payment()) {
            question.verdict = other.verdict.or(question.verdict);
            question.is_over |= other.is_over;
        }
    }
}

/// The same, and keeps what only the other process knows, unless it is over.
pub(crate) fn merge(own: &mut Vec<Question>, stored: &[Question]) {
    update(own, stored);
    for other in stored.iter().filter(|it| !it.is_over) {
        if own.len() < QUESTIONS_MAX && own.iter().all(|it| it.payment() != other.payment()) {
            own.push(other.clone());
        }
    }
}
