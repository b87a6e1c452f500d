//! The transmission unit: carries a message to an issuer's endpoint and the answer back, both as they are.
//!
//! Law: one deadline over everything (opening a session included); at most so many calls per endpoint at a time,
//! above which nothing is sent; a circuit breaker per endpoint, so that an issuer that is away costs its
//! payers no waiting and the hub no connections. An answer counts only if the issuer signed it. What the hub can't
//! say for sure it does not say: a call without an answer is `issuer_unavailable`, outcome unknown, safe to
//! repeat.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::Semaphore;
use warifu_proto::problem::ProblemCode;
use warifu_server::client::{Answer, CallError, Client, Peer};
use warifu_server::problem::ApiProblem;

use crate::identify::Route;

mod breaker;

pub(crate) use breaker::BreakerSettings;
use breaker::{Admission, Breaker, Change, Verdict};

/// Calls that link get one more place for so many of the others.
const LINKS_SHARE: usize = 8;

/// What bounds forwarding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForwardSettings {
    /// From taking the message to having the answer.
    pub(crate) deadline: Duration,
    /// Calls at a time per endpoint.
    pub(crate) in_flight_max: usize,
    /// When an endpoint counts as away.
    pub(crate) breaker: BreakerSettings,
}

/// What is carried; names the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Errand {
    /// A registration.
    Code,
    /// Linking a terminal.
    Link,
    /// Unlinking it.
    Unlink,
    /// The payer's word on a payment.
    Confirmation,
}

impl Errand {
    fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Link => "link",
            Self::Unlink => "unlink",
            Self::Confirmation => "confirmation",
        }
    }
}

#[derive(Debug)]
struct Endpoint {
    breaker: Mutex<Breaker>,
    room: Semaphore,
    /// Anybody with a key can send a link: they must not take the room of registrations.
    room_for_links: Semaphore,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Forwarder {
    client: Client,
    settings: ForwardSettings,
    /// By address. Grows with the addresses that the registrar has signed, no further.
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
}

impl Forwarder {
    /// One that calls as this client.
    pub(crate) fn new(client: Client, settings: ForwardSettings) -> Self {
        Self { client, settings, endpoints: Mutex::default() }
    }

    /// Carries a message to an issuer and gives its signed answer.
    ///
    /// # Errors
    /// `issuer_unavailable` when there is no answer, or none is tried for; `not_accepted` when too many are
    /// under way to this endpoint.
    pub(crate) async fn carry(
        &self,
        errand: Errand,
        route: Route,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, ApiProblem> {
        let endpoint = self.endpoint(&route.url);
        let mut attempt = match Attempt::begin(&endpoint, &route) {
            Ok(attempt) => attempt,
            Err(away) => {
                count(errand, &route, "breaker_open");
                return Err(unavailable("it did not answer lately; nothing was sent", away));
            }
        };
        let room = match errand {
            Errand::Code | Errand::Unlink | Errand::Confirmation => &endpoint.room,
            Errand::Link => &endpoint.room_for_links,
        };
        let Ok(_room) = room.try_acquire() else {
            count(errand, &route, "full");
            let detail =
                "too many messages to this issuer are under way: repeat the request a little later";
            return Err(ApiProblem::new(ProblemCode::NotAccepted, detail).retry_after_s(1));
        };
        let prefix = route.prefix;
        let begun = Instant::now();
        let peer = Peer { url: route.url.clone(), key: route.key.clone() };
        let deadline = self.settings.deadline;
        let call =
            self.client.call(&peer, method, path, Some(body.to_vec()), deadline, HeaderMap::new());
        let done = match tokio::time::timeout(deadline, call).await {
            Ok(done) => done,
            Err(_) => Err(CallError::TimedOut { url: peer.url.clone() }),
        };
        metrics::histogram!("warifu_hub_forward_seconds", "errand" => errand.as_str())
            .record(begun.elapsed().as_secs_f64());
        match done {
            Ok(answer) => {
                attempt.verdict = Verdict::Answered;
                if is_about_us(errand, &answer) {
                    count(errand, &route, "refused_us");
                    tracing::error!(issuer.prefix = %prefix, status = answer.status.as_u16(), code = %code_of(&answer),
                        "an issuer does not take this hub's calls: is the hub's entry in the issuer's directory, is the clock right?");
                    return Err(unavailable(
                        "it does not take this hub's calls",
                        self.settings.deadline,
                    ));
                }
                count(errand, &route, "answered");
                Ok(answer)
            }
            Err(err) => {
                attempt.verdict = Verdict::Failed;
                count(errand, &route, failure(&err));
                let detail =
                    "it gave no answer in time; the outcome is unknown, repeat the same request";
                Err(unavailable(detail, Duration::from_secs(1)).caused_by(err))
            }
        }
    }

    fn endpoint(&self, url: &str) -> Arc<Endpoint> {
        let mut endpoints = lock(&self.endpoints);
        if let Some(endpoint) = endpoints.get(url) {
            return Arc::clone(endpoint);
        }
        let endpoint = Arc::new(Endpoint {
            breaker: Mutex::new(Breaker::new(self.settings.breaker)),
            room: Semaphore::new(self.settings.in_flight_max),
            room_for_links: Semaphore::new(self.settings.in_flight_max.div_ceil(LINKS_SHARE)),
        });
        endpoints.insert(url.to_owned(), Arc::clone(&endpoint));
        endpoint
    }
}

/// A call that the breaker let through; tells it the verdict even if its caller hangs up.
struct Attempt<'a> {
    endpoint: &'a Endpoint,
    prefix: String,
    how: Admission,
    verdict: Verdict,
}

impl<'a> Attempt<'a> {
    fn begin(endpoint: &'a Endpoint, route: &Route) -> Result<Self, Duration> {
        let how = lock(&endpoint.breaker).admit(Instant::now())?;
        Ok(Self { endpoint, prefix: route.prefix.to_string(), how, verdict: Verdict::Abandoned })
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut breaker = lock(&self.endpoint.breaker);
        let change = breaker.settle(self.how, self.verdict, Instant::now());
        drop(breaker);
        let open = |open: u8| {
            metrics::gauge!("warifu_hub_breaker_open", "issuer" => self.prefix.clone()).set(open);
        };
        match change {
            Change::None => {}
            Change::Opened => {
                open(1);
                tracing::warn!(issuer.prefix = %self.prefix, "an issuer does not answer: its calls are refused at once for a while");
            }
            Change::Closed => {
                open(0);
                tracing::info!(issuer.prefix = %self.prefix, "an issuer answers again");
            }
        }
    }
}

/// Hands an issuer's answer on as it is: status, body, and the headers that matter to a client.
pub(crate) fn hand_on(answer: Answer) -> Response {
    let json = HeaderValue::from_static("application/json");
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    let kind = answer.headers.get(header::CONTENT_TYPE).cloned().unwrap_or(json);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if let Some(wait) = answer.headers.get(header::RETRY_AFTER) {
        response.headers_mut().insert(header::RETRY_AFTER, wait.clone());
    }
    response
}

/// Whether the answer complains about the hub's own signature, which is nothing that a terminal could mend. (What
/// the terminal signed inside its message, the hub has checked before; but for the payer's word, which is signed over
/// what the hub can't see.)
fn is_about_us(errand: Errand, answer: &Answer) -> bool {
    let Some(problem) = answer.problem() else { return false };
    match ProblemCode::from_name(&problem.code) {
        Some(ProblemCode::SignatureInvalid) if errand == Errand::Confirmation => false,
        Some(
            ProblemCode::Unsigned
            | ProblemCode::SignatureInvalid
            | ProblemCode::KeyUnknown
            | ProblemCode::SessionUnknown
            | ProblemCode::Misdirected,
        ) => true,
        // An issuer that means the terminal's clock proves it to the terminal.
        Some(ProblemCode::ClockSkew) => problem.ack.is_none(),
        _ => false,
    }
}

fn code_of(answer: &Answer) -> String {
    answer.problem().map(|it| it.code).unwrap_or_default()
}

fn unavailable(why: &str, wait: Duration) -> ApiProblem {
    ApiProblem::new(
        ProblemCode::IssuerUnavailable,
        format!("the issuer can't be reached at the moment: {why}"),
    )
    .retry_after_s(whole_seconds(wait))
}

/// Rounded up, at least 1: `Retry-After` has no fractions.
pub(crate) fn whole_seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1)
}

fn failure(err: &CallError) -> &'static str {
    match err {
        CallError::Unreachable { .. } => "unreachable",
        CallError::TimedOut { .. } => "timed_out",
        CallError::Broken { .. } => "broken",
        CallError::Unverified { .. } => "unverified",
    }
}

fn count(errand: Errand, route: &Route, outcome: &'static str) {
    metrics::counter!("warifu_hub_forwarded_total", "errand" => errand.as_str(),
        "issuer" => route.prefix.to_string(), "outcome" => outcome)
    .increment(1);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    fn answer(status: u16, body: serde_json::Value) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
        headers.insert("x-private", HeaderValue::from_static("1"));
        let kind = if status < 400 { "application/json" } else { "application/problem+json" };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Bytes::from(serde_json::to_vec(&body).unwrap()),
        }
    }

    fn problem(code: ProblemCode, ack: Option<&str>) -> Answer {
        let body = serde_json::json!({
            "type": "urn:x", "title": "T", "status": code.status(), "detail": "D",
            "code": code.name(), "instance": "i", "now_ms": 1, "ack": ack,
        });
        answer(code.status(), body)
    }

    #[test]
    fn answers_are_handed_on_as_they_are() {
        let given = hand_on(problem(ProblemCode::NotAccepted, None));
        assert_eq!(given.status(), 503);
        assert_eq!(given.headers()["retry-after"], "7");
        assert_eq!(given.headers()["content-type"], "application/problem+json");
        assert!(!given.headers().contains_key("x-private"));
    }

    #[test]
    fn complaints_about_the_hub_do_not_reach_the_terminal_but_its_own_do() {
        for code in [ProblemCode::KeyUnknown, ProblemCode::Misdirected, ProblemCode::ClockSkew] {
            assert!(is_about_us(Errand::Code, &problem(code, None)), "{code:?}");
            assert!(is_about_us(Errand::Confirmation, &problem(code, None)), "{code:?}");
        }
        let about_us = |answer: Answer| is_about_us(Errand::Code, &answer);
        assert!(!about_us(problem(ProblemCode::ClockSkew, Some("AAAA"))));
        assert!(!about_us(problem(ProblemCode::SequenceUsed, None)));
        assert!(!about_us(answer(201, serde_json::json!({"code": "key_unknown"}))));
        let forged = problem(ProblemCode::SignatureInvalid, None);
        assert!(!is_about_us(Errand::Confirmation, &forged), "the payer's own signature");
        assert!(about_us(forged));
    }

    #[test]
    fn waits_are_whole_seconds_and_never_none() {
        for (ms, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (5_000, 5)] {
            assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds);
        }
    }
}
