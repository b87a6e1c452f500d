//! The calls that a reader makes to an issuer, as they go on the wire.

use warifu_proto::code::Route;
use warifu_proto::id::PaymentId;
use warifu_proto::key::PublicKey;
use warifu_proto::message::{
    CaptureRequest, PayRequest, RefundRequest, ReleaseRequest, ReversalRequest,
};
use warifu_proto::request_id::RequestId;

/// A call to the issuer, signed by the reader.
#[derive(Debug, Clone)]
pub struct Send {
    /// To name it in [`crate::Input::Answered`].
    pub number: u32,
    /// Where the issuer listens.
    pub url: String,
    /// Who must sign the answer.
    pub key: PublicKey,
    /// The prefix and partition that it goes to: a driver with a newer directory looks them up again.
    pub route: Route,
    /// What to send.
    pub call: Call,
    /// After which to give [`crate::Reply::Nothing`].
    pub timeout_ms: u64,
}

/// What is asked of the issuer.
#[derive(Debug, Clone)]
pub enum Call {
    /// `POST /v1/payments`
    Pay(Box<PayRequest>),
    /// `GET /v1/payments?request_id=…`
    Ask {
        /// Of which payment.
        request_id: RequestId,
        /// Where it lives.
        route: Route,
        /// How long the issuer may wait for a final state.
        wait_ms: u64,
    },
    /// `POST /v1/reversals`
    Reverse(ReversalRequest),
    /// `POST /v1/payments/{pay}/refunds`
    Refund(PaymentId, Box<RefundRequest>),
    /// `POST /v1/payments/{pay}/captures`
    Capture(PaymentId, Box<CaptureRequest>),
    /// `POST /v1/payments/{pay}/release`
    Release(PaymentId),
}

impl Call {
    /// The HTTP method.
    pub fn method(&self) -> &'static str {
        if matches!(self, Self::Ask { .. }) { "GET" } else { "POST" }
    }

    /// Path and query.
    pub fn path_and_query(&self) -> String {
        match self {
            Self::Pay(_) => "/v1/payments".to_owned(),
            // Request ids and routes have only characters that stand for themselves in a query.
            Self::Ask { request_id, route, wait_ms } => {
                format!("/v1/payments?request_id={request_id}&route={route}&wait_ms={wait_ms}")
            }
            Self::Reverse(_) => "/v1/reversals".to_owned(),
            Self::Refund(payment, _) => format!("/v1/payments/{payment}/refunds"),
            Self::Capture(payment, _) => format!("/v1/payments/{payment}/captures"),
            Self::Release(payment) => format!("/v1/payments/{payment}/release"),
        }
    }

    /// The body.
    pub fn body(&self) -> Option<Vec<u8>> {
        let body = match self {
            Self::Ask { .. } => return None,
            Self::Pay(request) => serde_json::to_vec(request),
            Self::Reverse(request) => serde_json::to_vec(request),
            Self::Refund(_, request) => serde_json::to_vec(request),
            Self::Capture(_, request) => serde_json::to_vec(request),
            Self::Release(_) => serde_json::to_vec(&ReleaseRequest {}),
        };
        Some(body.expect("requests are plain JSON"))
    }
}
