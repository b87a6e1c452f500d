//! What happens to a payment after it was asked for: captures, releases, refunds, reversals, the payer's word, and the
//! merchant's feed of all of it.

use serde::{Deserialize, Serialize};

use super::{Payment, check_text};
use crate::code::Route;
use crate::id::{CaptureId, CredentialId, PaymentId, RefundId};
use crate::limits::DESCRIPTION_MAX;
use crate::money::Money;
use crate::notice::Verdict;
use crate::request_id::RequestId;
use crate::time::Timestamp;
use crate::{Malformed, base64url};

/// `POST /v1/payments/{pay}/captures`: take part or all of a hold, once; the rest is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureRequest {
    /// The reader's own id of this capture.
    #[schema(value_type = String)]
    pub request_id: RequestId,
    /// How much.
    pub amount: Money,
}

/// The answer to [`CaptureRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CaptureAnswer {
    /// The issuer's id.
    #[schema(value_type = String)]
    pub capture_id: CaptureId,
    /// Always `captured`.
    pub status: String,
    /// The payment as it stands now.
    pub payment: Payment,
}

/// `POST /v1/payments/{pay}/release`: give a hold back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {}

/// `POST /v1/payments/{pay}/refunds`: give back part or all of what was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundRequest {
    /// The reader's own id of this refund.
    #[schema(value_type = String)]
    pub request_id: RequestId,
    /// How much.
    pub amount: Money,
    /// For people, up to 140 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl RefundRequest {
    /// Checks what its types do not.
    ///
    /// # Errors
    /// When the reason is no text for people.
    pub fn check(&self) -> Result<(), Malformed> {
        self.reason.as_deref().map_or(Ok(()), |it| check_text("reason", it, DESCRIPTION_MAX))
    }
}

/// The answer to [`RefundRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RefundAnswer {
    /// The issuer's id.
    #[schema(value_type = String)]
    pub refund_id: RefundId,
    /// Always `refunded`.
    pub status: String,
    /// The payment as it stands now.
    pub payment: Payment,
}

/// Why a payment is reversed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReversalReason {
    /// Nobody told the reader in time what happened. Legal at any age.
    Timeout,
    /// The cashier takes the sale back. Legal until the issuer's day closes.
    Cashier,
}

/// `POST /v1/reversals`: make sure that a payment did not happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReversalRequest {
    /// Of the payment.
    #[schema(value_type = String)]
    pub request_id: RequestId,
    /// The prefix and partition of the payment's code: where to look, and where a tombstone goes.
    #[schema(value_type = String, example = "7100000107")]
    pub route: Route,
    /// Why.
    pub reason: ReversalReason,
}

/// The answer to [`ReversalRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReversalAnswer {
    /// Of the payment.
    #[schema(value_type = String)]
    pub request_id: RequestId,
    /// Always `reversed`: the payment has no effect and never will.
    pub status: String,
    /// The payment, if it had arrived before the reversal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub payment_id: Option<PaymentId>,
}

/// `POST /v1/confirmations`, terminal to hub to issuer: the payer's word on a payment that waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmationRequest {
    /// Whose.
    #[schema(value_type = String)]
    pub credential_id: CredentialId,
    /// Of which payment.
    #[schema(value_type = String)]
    pub payment_id: PaymentId,
    /// Yes or no.
    pub verdict: Verdict,
    /// 64 bytes over [`crate::notice::confirm_message`], base64url.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub signature: [u8; 64],
}

/// The answer to [`ConfirmationRequest`]. It says that the word was heard; what became of the payment comes as a notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConfirmationAnswer {
    /// Of which payment.
    #[schema(value_type = String)]
    pub payment_id: PaymentId,
    /// The word that stands.
    pub verdict: Verdict,
}

/// `GET /v1/events` at the issuer: the merchant's feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventsAnswer {
    /// In order; none when there is no news.
    pub events: Vec<MerchantEvent>,
    /// What `after` takes next. Opaque.
    pub next: String,
}

/// One change of one payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MerchantEvent {
    /// Unique, and the same whenever it is read.
    pub event_id: String,
    /// `decided`, `confirmed`, `captured`, `released`, `expired`, `refunded`, `reversed`. Unknown ones may come.
    pub kind: String,
    /// When.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// The payment as this change left it; its `sequence` grows with every change.
    pub payment: Payment,
    /// What moved or was reserved by this change, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
    /// Of a capture or refund: the id that its reader gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub request_id: Option<RequestId>,
    /// Of a refund.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub refund_id: Option<RefundId>,
    /// Of a capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub capture_id: Option<CaptureId>,
}
