//! A "no" of the edge or of a handler, with its two faces: what the caller reads, and the private cause for the log.
//!
//! Law: the cause has no way into the answer. A problem is logged once, at the edge, together with the request's log
//! id, which the caller finds in `instance`.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use warifu_proto::Malformed;
use warifu_proto::problem::{Problem, ProblemCode};

/// A problem on its way to the caller. What handlers return as their error.
#[derive(Debug)]
pub struct ApiProblem {
    /// Which one.
    pub code: ProblemCode,
    /// What to do, for the caller's developer. Never a value that the caller sent.
    pub detail: String,
    /// With `clock_skew`: the server's time.
    pub now_ms: Option<u64>,
    /// With `clock_skew` of a registration: the issuer's proof of `now_ms`, base64url.
    pub ack: Option<String>,
    /// When to try again, in seconds.
    pub retry_after_s: Option<u32>,
    /// What went wrong inside. Logged, never sent.
    pub source: Option<anyhow::Error>,
}

/// What handlers return.
pub type ApiResult<T> = Result<T, ApiProblem>;

/// How soon to come back after a 429 or 503 that names no time, in seconds.
const RETRY_AFTER_S: u32 = 1;

impl ApiProblem {
    /// Names what was wrong and what to do.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            now_ms: None,
            ack: None,
            retry_after_s: None,
            source: None,
        }
    }

    /// Something broke here: the fixed public text, and the cause for the log.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(ProblemCode::Internal, "Repeat the same request with the same request id.")
            .caused_by(cause)
    }

    /// Tells when to try again.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Tells the server's time.
    #[must_use]
    pub fn now_ms(mut self, now_ms: u64) -> Self {
        self.now_ms = Some(now_ms);
        self
    }

    /// Carries the issuer's proof of its time.
    #[must_use]
    pub fn ack(mut self, ack: impl Into<String>) -> Self {
        self.ack = Some(ack.into());
        self
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// Its HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The public face, as an answer.
    pub(crate) fn render(&self, instance: String) -> Response {
        let body = Problem {
            kind: format!("urn:warifu:problem:{}", self.code.name()),
            title: self.code.title().to_owned(),
            status: self.code.status(),
            detail: self.detail.clone(),
            code: self.code.name().to_owned(),
            instance,
            now_ms: self.now_ms,
            ack: self.ack.clone(),
        };
        // Texts and numbers only: this can't fail.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        let problem_json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem_json);
        let retry_after_s =
            self.retry_after_s.or(matches!(self.code.status(), 429 | 503).then_some(RETRY_AFTER_S));
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<Malformed> for ApiProblem {
    fn from(it: Malformed) -> Self {
        Self::new(ProblemCode::Malformed, it.to_string())
    }
}

/// How a problem travels from a handler to the edge, inside the answer's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Carried(pub(crate) Arc<ApiProblem>);

impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        // The edge renders it again with the log id; without an edge (a test of one handler) this answer is whole.
        let mut response = self.render(String::new());
        response.extensions_mut().insert(Carried(Arc::new(self)));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn the_cause_stays_inside() {
        let problem = ApiProblem::new(ProblemCode::NotAccepted, "Try again.")
            .caused_by(anyhow::anyhow!("disk /var/secret is full"));
        let response = problem.into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let read: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!((read.code.as_str(), read.status), ("not_accepted", 503));
        assert_eq!(read.kind, "urn:warifu:problem:not_accepted");
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }

    #[test]
    fn retry_after_is_the_callers_or_one_second_where_the_protocol_wants_one() {
        let rendered = |problem: ApiProblem| {
            let response = problem.into_response();
            response.headers().get("retry-after").map(|it| it.to_str().unwrap().to_owned())
        };
        let new = |code| ApiProblem::new(code, "");
        assert_eq!(rendered(new(ProblemCode::Malformed)), None);
        assert_eq!(rendered(new(ProblemCode::TooManyMisses)).as_deref(), Some("1"));
        assert_eq!(
            rendered(new(ProblemCode::TooManyMisses).retry_after_s(60)).as_deref(),
            Some("60")
        );
        assert_eq!(rendered(Malformed::new("id", "is bad").into()), None);
    }
}
