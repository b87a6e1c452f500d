//! What the calls carry, as JSON. Requests refuse unknown and doubled fields; answers ignore unknown ones.
//!
//! The shapes are fixed within version 1 of the protocol; `docs/protocol.md` is their authority.

use serde::{Deserialize, Serialize};

use crate::code::{Prefix, Scanned};
use crate::currency::CurrencyCode;
use crate::directory::Entry;
use crate::id::{
    CredentialId, InvitationId, IssuerId, MerchantId, NetworkId, NoticeId, PaymentId, ReaderId,
    SessionId,
};
use crate::key::{PublicKey, Thumbprint};
use crate::limits::{DESCRIPTION_MAX, NAME_MAX, ORDER_ID_MAX};
use crate::money::{Money, Sum};
use crate::registration::REGISTRATION_BYTES;
use crate::rejection::{Language, Rejection, Retry};
use crate::request_id::RequestId;
use crate::time::Timestamp;
use crate::{Malformed, base64url};

mod life;

pub use life::{
    CaptureAnswer, CaptureRequest, ConfirmationAnswer, ConfirmationRequest, EventsAnswer,
    MerchantEvent, RefundAnswer, RefundRequest, ReleaseRequest, ReversalAnswer, ReversalReason,
    ReversalRequest,
};

/// Checks a text for people: not empty, bounded, no control characters.
///
/// # Errors
/// When one of these does not hold.
pub fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), Malformed> {
    if text.trim().is_empty() {
        return Err(Malformed::new(what, "must not be empty"));
    }
    if text.chars().count() > max {
        return Err(Malformed::new(what, "is too long"));
    }
    if text.chars().any(char::is_control) {
        return Err(Malformed::new(what, "must not have control characters"));
    }
    Ok(())
}

/// `POST /v1/links`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkRequest {
    /// Which issuer.
    #[schema(value_type = String, example = "71000001")]
    pub prefix: Prefix,
    /// Which invitation.
    #[schema(value_type = String)]
    pub invitation_id: InvitationId,
    /// The terminal's key; the call is signed by it.
    #[schema(value_type = Object)]
    pub key: PublicKey,
    /// What the payer calls the terminal.
    pub label: String,
    /// 32 bytes, base64url.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub proof: [u8; 32],
}

impl LinkRequest {
    /// Checks what its types do not.
    ///
    /// # Errors
    /// When the label is no text for people.
    pub fn check(&self) -> Result<(), Malformed> {
        check_text("label", &self.label, NAME_MAX)
    }
}

/// The answer to [`LinkRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LinkAnswer {
    /// The new credential.
    #[schema(value_type = String)]
    pub credential_id: CredentialId,
    /// The JSON of [`LinkedAccount`], base64url: its bytes are what is confirmed.
    #[serde(with = "base64url::bytes")]
    #[schema(value_type = String)]
    pub answer: Vec<u8>,
    /// 32 bytes, base64url.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub confirmation: [u8; 32],
}

/// What kind of account.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    /// Holds money that was paid in; never below zero.
    Prepaid,
    /// Pays later, down to its credit limit.
    Credit,
}

/// Inside of [`LinkAnswer::answer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LinkedAccount {
    /// The new credential.
    #[schema(value_type = String)]
    pub credential_id: CredentialId,
    /// The two digits after the prefix, 0–99.
    pub partition: u8,
    /// Whose money.
    pub account: AccountAbout,
    /// What the issuer allows.
    pub limits: LimitsAbout,
    /// Who answers for it.
    pub issuer: IssuerAbout,
}

/// The account as the terminal shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AccountAbout {
    /// For people.
    pub name: String,
    /// What kind.
    pub kind: AccountKind,
    /// Its currency.
    #[schema(value_type = String, example = "JPY")]
    pub currency: CurrencyCode,
    /// Digits of the currency's minor unit.
    pub exponent: u8,
}

/// Limits as the terminal shows them, in minor units of the account's currency. A missing one does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LimitsAbout {
    /// Longest lifetime of a code, in seconds.
    pub lifetime_max_s: u16,
    /// Most of one payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_max_minor: Option<u64>,
    /// Most of all payments of one day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_max_minor: Option<u64>,
    /// Most payments of one day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_count_max: Option<u32>,
    /// Above this amount the payer has to confirm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_above_minor: Option<u64>,
    /// After so many payments of one day without a question the payer has to confirm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_above_count: Option<u32>,
    /// Most that can be paid by long codes since the last code that was registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_max_minor: Option<u64>,
    /// Most payments by long codes since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_count_max: Option<u32>,
}

/// The issuer as the terminal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IssuerAbout {
    /// Its id in the directory.
    #[schema(value_type = String)]
    pub id: IssuerId,
    /// For people.
    pub name: String,
    /// The first digits of its codes.
    #[schema(value_type = String)]
    pub prefix: Prefix,
    /// Its key.
    #[schema(value_type = String)]
    pub key: Thumbprint,
}

/// `DELETE /v1/links/{crd}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnlinkRequest {
    /// By the terminal's clock.
    pub at_ms: u64,
    /// 64 bytes over [`crate::link::unlink_message`], base64url.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub signature: [u8; 64],
}

/// The answer to [`UnlinkRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UnlinkAnswer {
    /// What was unlinked.
    #[schema(value_type = String)]
    pub credential_id: CredentialId,
    /// Always `unlinked`.
    pub status: String,
}

/// `POST /v1/codes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeRequest {
    /// 128 bytes, base64url.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub registration: [u8; REGISTRATION_BYTES],
}

/// The answer to [`CodeRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CodeAnswer {
    /// Until when the code can be paid with; of a withdrawal: its own time.
    pub expires_ms: u64,
    /// The issuer's time.
    pub now_ms: u64,
    /// 16 bytes, base64url.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub ack: [u8; 16],
}

/// What to do with an approved amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// Move it at once.
    Now,
    /// Reserve it.
    Later,
}

/// `POST /v1/payments`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PayRequest {
    /// The reader's own id of this attempt.
    #[schema(value_type = String)]
    pub request_id: RequestId,
    /// What was scanned: 24 or 333 digits.
    pub code: String,
    /// How much.
    pub amount: Money,
    /// At once or later.
    pub capture: Capture,
    /// The till's own id of the sale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// For people, up to 140 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How long the reader waits; 1 000–60 000, 10 000 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

impl PayRequest {
    /// Reads the code. White space around it is the reader's to trim: here it is refused.
    ///
    /// # Errors
    /// `code_malformed`.
    pub fn scanned(&self) -> Result<Scanned, Malformed> {
        if self.code.bytes().all(|byte| byte.is_ascii_digit()) {
            Scanned::parse(&self.code)
        } else {
            Err(Malformed::new("code", "must be 24 or 333 digits"))
        }
    }

    /// Checks what its types do not, but for the code.
    ///
    /// # Errors
    /// In this order: order id, description, deadline.
    pub fn check(&self) -> Result<(), Malformed> {
        use crate::limits::{DEADLINE_MAX_MS, DEADLINE_MIN_MS};
        if let Some(order_id) = &self.order_id
            && !((1..=ORDER_ID_MAX).contains(&order_id.len())
                && order_id.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(Malformed::new("order_id", "must be 1 to 64 visible ASCII characters"));
        }
        if let Some(description) = &self.description {
            check_text("description", description, DESCRIPTION_MAX)?;
        }
        if self.deadline_ms.is_some_and(|ms| !(DEADLINE_MIN_MS..=DEADLINE_MAX_MS).contains(&ms)) {
            return Err(Malformed::new("deadline_ms", "must lie in 1000 to 60000"));
        }
        Ok(())
    }
}

// The code is a secret until it is spent, so it is never printed.
impl std::fmt::Debug for PayRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PayRequest")
            .field("request_id", &self.request_id)
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
}

/// Where a payment stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Money moved.
    Approved,
    /// Reserved.
    Held,
    /// The payer must confirm.
    AwaitingPayer,
    /// Nothing moved; final.
    Declined,
    /// Nothing remains moved; final.
    Reversed,
    /// Nothing remains reserved; final.
    Released,
    /// Nothing remains reserved; final.
    Expired,
    /// One that this version does not know: not final.
    #[serde(other)]
    Unknown,
}

/// A payment as it stands: the answer to paying and to asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Payment {
    /// The issuer's id.
    #[schema(value_type = String)]
    pub payment_id: PaymentId,
    /// The reader's id.
    #[schema(value_type = String)]
    pub request_id: RequestId,
    /// Where it stands.
    pub status: PaymentStatus,
    /// How much was asked.
    pub amount: Money,
    /// How much was taken.
    pub captured: Sum,
    /// How much was given back.
    pub refunded: Sum,
    /// Why it was declined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<RejectionAbout>,
    /// Until when a hold or a question to the payer lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Timestamp>,
    /// Tells two payers apart on a receipt; empty when no account was found.
    pub account_hint: String,
    /// When it was decided.
    #[schema(value_type = String)]
    pub decided_at: Timestamp,
    /// Opaque; grows with every change of the payment.
    pub sequence: String,
}

/// Why a payment was declined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RejectionAbout {
    /// Its name.
    pub code: String,
    /// Its number.
    pub number: u8,
    /// What may be done.
    pub retry: Retry,
    /// The ISO 8583 response code.
    pub iso8583: String,
    /// For the cashier.
    pub cashier: String,
    /// For the payer.
    pub payer: String,
}

impl RejectionAbout {
    /// In a language.
    pub fn new(rejection: Rejection, language: Language) -> Self {
        Self {
            code: rejection.name().to_owned(),
            number: rejection.number(),
            retry: rejection.retry(),
            iso8583: rejection.iso8583().to_owned(),
            cashier: rejection.cashier(language).to_owned(),
            payer: rejection.payer(language).to_owned(),
        }
    }
}

/// `POST /v1/notices`, issuer to hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoticeRequest {
    /// For whom.
    #[schema(value_type = String)]
    pub credential_id: CredentialId,
    /// Its id: repeating it changes nothing.
    #[schema(value_type = String)]
    pub notice_id: NoticeId,
    /// Counts the notices of the credential from 1.
    pub number: u64,
    /// Nonce and AES-256-GCM, base64url.
    #[serde(with = "base64url::bytes")]
    #[schema(value_type = String)]
    pub sealed: Vec<u8>,
}

/// `POST /v1/notices/batch`, issuer to hub: up to [`NOTICES_MAX`](crate::limits::NOTICES_MAX) at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoticesRequest {
    /// Those of one credential in the order of their numbers.
    pub notices: Vec<NoticeRequest>,
}

/// The answer: what became of each, in the order of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NoticesAnswer {
    /// As many as there were notices.
    pub results: Vec<NoticeResult>,
}

/// What became of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoticeResult {
    /// It stays until the terminal acknowledges it, or was delivered already.
    Stored,
    /// Another notice of the credential has its number.
    Conflict,
    /// Nobody is linked by this credential at the caller's prefix.
    CredentialUnknown,
}

/// The data of one server-sent event at the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SealedNotice {
    /// For whom.
    #[schema(value_type = String)]
    pub credential_id: CredentialId,
    /// Which one.
    #[schema(value_type = String)]
    pub notice_id: NoticeId,
    /// Counts the notices of the credential from 1.
    pub number: u64,
    /// Nonce and AES-256-GCM, base64url.
    #[serde(with = "base64url::bytes")]
    #[schema(value_type = String)]
    pub sealed: Vec<u8>,
}

/// What a notice says, inside its seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NoticeText {
    /// What happened: `paid`, `held`, `declined`, `confirm` (the payer is asked), `captured`, `released`, `expired`,
    /// `refunded`, `reversed`. Unknown ones are shown as they are.
    pub kind: String,
    /// To which payment.
    #[schema(value_type = String)]
    pub payment_id: PaymentId,
    /// By whom.
    pub merchant: MerchantAbout,
    /// How much it is about: the payment; of a capture, refund or reversal what was taken or came back by it.
    pub amount: Money,
    /// Where the payment stands.
    pub status: PaymentStatus,
    /// Why it was declined, for the payer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the account holds afterwards, with what is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Sum>,
    /// Of `held` and `confirm`: until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Timestamp>,
    /// When.
    #[schema(value_type = String)]
    pub at: Timestamp,
}

/// A merchant as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MerchantAbout {
    /// Its id.
    #[schema(value_type = String)]
    pub id: MerchantId,
    /// For people.
    pub name: String,
}

/// `POST /v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// The caller's ephemeral key.
    #[schema(value_type = Object)]
    pub key: PublicKey,
}

/// The answer to [`SessionRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionAnswer {
    /// The key id of the calls that follow.
    #[schema(value_type = String)]
    pub session_id: SessionId,
    /// The server's ephemeral key.
    #[schema(value_type = Object)]
    pub key: PublicKey,
    /// Until when it can be used.
    pub expires_ms: u64,
}

/// `POST /v1/pairings/{par}`, reader to hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PairingRequest {
    /// The reader's key; the call is signed by it.
    #[schema(value_type = Object)]
    pub key: PublicKey,
    /// What the merchant calls the reader.
    pub name: String,
    /// 32 bytes, base64url.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub proof: [u8; 32],
}

/// The answer to [`PairingRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PairingAnswer {
    /// The reader's id.
    #[schema(value_type = String)]
    pub reader_id: ReaderId,
    /// Whose reader it is now.
    pub merchant: MerchantAbout,
    /// Its entry in the directory, signed by the merchant.
    pub entry: Entry,
}

/// `GET /v1/directory`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DirectoryPage {
    /// Which network.
    #[schema(value_type = String)]
    pub network_id: NetworkId,
    /// The registrar's key; trusted only if its thumbprint is the one that was handed over out of band.
    #[schema(value_type = Object)]
    pub registrar: PublicKey,
    /// Position in the feed after these entries: what `after` takes next.
    pub version: u64,
    /// 32 bytes, base64url: the hash chain over all entries of the feed up to `version`.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub head: [u8; 32],
    /// The hub's time.
    pub as_of_ms: u64,
    /// In the order of the feed.
    pub entries: Vec<Entry>,
}
