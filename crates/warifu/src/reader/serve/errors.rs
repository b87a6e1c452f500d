//! What the agent says when it does not do what it was asked: `{error, message, next}`, and more where it helps.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use warifu_proto::problem::Problem;
use warifu_reader::{BeginError, PayError, RouteError};
use warifu_server::problem::ApiProblem;

use crate::fail::Failure;
use crate::reader::till::ChangeFault;

/// A "no" to the till software.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    status: StatusCode,
    error: String,
    message: String,
    next: String,
    more: Map<String, Value>,
}

/// What handlers return.
pub(super) type Answer<T> = Result<T, Fault>;

impl Fault {
    /// Names it, says it in a sentence, and what to do about it.
    pub(super) fn new(status: StatusCode, error: &str, message: &str, next: &str) -> Self {
        Self {
            status,
            error: error.to_owned(),
            message: message.to_owned(),
            next: next.to_owned(),
            more: Map::new(),
        }
    }

    /// Adds a field.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// The till asks for something that makes no sense.
    pub(super) fn malformed(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message, "correct the request")
    }

    /// There is no such order.
    pub(super) fn no_order() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "order_unknown",
            "This till has no such order.",
            "nothing was asked for under this order id; check it",
        )
    }

    /// The order is not paid, so there is nothing to change.
    pub(super) fn not_paid() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "not_paid",
            "This order is not paid.",
            "there is nothing to give back or to take",
        )
    }

    /// What the issuer said, in our shape.
    pub(super) fn of_issuer(problem: &Problem) -> Self {
        let next = match problem.code.as_str() {
            "use_refund" => "refund the order: POST /refund",
            "amount_too_large" => "ask for at most what is left of the payment",
            "account_closed" => "give the money back in another way",
            "forbidden" => "the merchant grants the right: warifu merchant pair --right …",
            _ => "see what the issuer says",
        };
        let status = StatusCode::from_u16(problem.status)
            .ok()
            .filter(|it| matches!(it.as_u16(), 403 | 404 | 409 | 422))
            .unwrap_or(StatusCode::BAD_GATEWAY);
        Self::new(status, &problem.code, &problem.title, next).with("detail", &*problem.detail)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut body = self.more;
        body.insert("error".to_owned(), self.error.into());
        body.insert("message".to_owned(), self.message.into());
        body.insert("next".to_owned(), self.next.into());
        (self.status, Json(Value::Object(body))).into_response()
    }
}

/// Journal, directory and the like.
impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        tracing::error!(error = %failure, "the agent can't do its work");
        let next = failure.next.unwrap_or_else(|| {
            "what was begun is in the journal and will be ended: ask GET /orders/{order_id}"
                .to_owned()
        });
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "internal", &failure.message, &next)
    }
}

impl From<ChangeFault> for Fault {
    fn from(fault: ChangeFault) -> Self {
        match fault {
            ChangeFault::NotPaid => Self::not_paid(),
            ChangeFault::Other => Self::new(
                StatusCode::CONFLICT,
                "id_conflict",
                "This id was used for something else.",
                "one refund, one id: repeat it with the same fields, or give another refund another id",
            ),
            ChangeFault::Failed(failure) => failure.into(),
        }
    }
}

impl From<BeginError> for Fault {
    fn from(error: BeginError) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let way = "take another way to pay; nobody was asked and nothing was paid";
        match error {
            BeginError::Malformed(malformed) => Self::malformed(&malformed.to_string()),
            BeginError::Route(RouteError::PrefixUnknown) => Self::new(
                status,
                "issuer_unknown",
                "No issuer of this network makes such codes.",
                way,
            ),
            BeginError::Route(it) => Self::new(status, "issuer_inactive", &it.to_string(), way),
            BeginError::CurrencyUnknown { .. } => {
                Self::new(status, "currency_unknown", &error.to_string(), way)
            }
        }
    }
}

impl From<PayError<Failure>> for Fault {
    fn from(error: PayError<Failure>) -> Self {
        match error {
            PayError::Begin(error) => error.into(),
            PayError::Journal(failure) => failure.into(),
        }
    }
}

impl From<ApiProblem> for Fault {
    fn from(problem: ApiProblem) -> Self {
        Self::malformed(&problem.detail)
    }
}
