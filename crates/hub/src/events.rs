//! `GET /v1/events`: a terminal reads its notices as server-sent events.
//!
//! Law: in the order of their numbers, at least once: a notice is kept until a later call acknowledges its number by
//! `Last-Event-ID`. One stream per credential: a newer one ends the older, because a terminal that lost its
//! connection does not know yet that the hub still holds it. A comment every 15 s keeps the way open.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use tokio::sync::watch;
use warifu_proto::id::CredentialId;
use warifu_proto::message::SealedNotice;
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_server::edge::Caller;
use warifu_server::problem::ApiProblem;

use crate::app::App;
use crate::receive::credential_unknown;

/// How often a comment shows that the stream lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Streams at a time; a few KiB each.
const STREAMS_MAX: usize = 50_000;
/// Notices read from the store at once.
const READ_MAX: usize = 50;

/// Who listens: at most one stream per credential.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: Mutex<HashMap<CredentialId, (u64, watch::Sender<()>)>>,
    opened: AtomicU64,
}

impl Streams {
    /// A stream begins; the credential's older one ends.
    fn begin(self: &Arc<Self>, credential: CredentialId) -> Option<Seat> {
        let mut open = self.lock();
        if open.len() >= STREAMS_MAX && !open.contains_key(&credential) {
            return None;
        }
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let (sender, news) = watch::channel(());
        open.insert(credential, (number, sender));
        drop(open);
        Some(Seat { streams: Arc::clone(self), credential, number, news })
    }

    /// There is a notice for the credential.
    pub(crate) fn wake(&self, credential: CredentialId) {
        if let Some((_, sender)) = self.lock().get(&credential) {
            sender.send_replace(());
        }
    }

    /// The credential's stream ends.
    pub(crate) fn end(&self, credential: CredentialId) {
        self.lock().remove(&credential);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CredentialId, (u64, watch::Sender<()>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream's place among the streams; given back when the stream ends, unless a newer one has it.
#[derive(Debug)]
struct Seat {
    streams: Arc<Streams>,
    credential: CredentialId,
    number: u64,
    news: watch::Receiver<()>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        if open.get(&self.credential).is_some_and(|(number, _)| *number == self.number) {
            open.remove(&self.credential);
        }
    }
}

/// Streams a terminal's notices.
#[utoipa::path(get, path = "/v1/events", tag = "terminals",
    params(("Last-Event-ID" = Option<u64>, Header, description = "The number of the last notice that the terminal has kept: acknowledges it and all before it.")),
    description = "Signed by the terminal's key. Each event: `id` = the notice's number, `event` = `notice`, `data` = \
                   the JSON of SealedNotice. In order, at least once; kept until acknowledged. One stream per \
                   credential: a newer one ends the older.",
    responses(
        (status = 200, description = "Events until one side ends it.", body = SealedNotice, content_type = "text/event-stream"),
        (status = 400, description = "`malformed`: Last-Event-ID is no number", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unsigned`, `signature_invalid`, `key_unknown`, `session_unknown`, `clock_skew`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`credential_unknown`", body = Problem, content_type = "application/problem+json"),
        (status = 421, description = "`misdirected`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`not_accepted`, with Retry-After", body = Problem, content_type = "application/problem+json"),
    ))]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    headers: HeaderMap,
) -> Result<Response, ApiProblem> {
    let link = app
        .terminals
        .link_of_key(caller)
        .filter(|it| it.ended_at.is_none())
        .ok_or_else(credential_unknown)?;
    let credential = link.credential;
    if let Some(number) = last_event_id(&headers)? {
        app.store.acknowledge(credential, number).await?;
    }
    let seat = app.streams.begin(credential).ok_or_else(|| {
        let detail = "too many streams are open: come back a little later";
        ApiProblem::new(ProblemCode::NotAccepted, detail).retry_after_s(5)
    })?;
    let sse = Sse::new(notices(app, seat)).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    Ok(sse.into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiProblem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let digits = value.to_str().ok().filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|it| it.parse().ok()).ok_or_else(|| {
        ApiProblem::new(ProblemCode::Malformed, "Last-Event-ID: must be the number of a notice")
    })?;
    Ok(Some(number))
}

struct Reading {
    app: Arc<App>,
    seat: Seat,
    sent: u64,
    ready: VecDeque<SealedNotice>,
}

/// Everything that is kept, in order, then what comes, until a newer stream, the link's end or the hub's end. What
/// was acknowledged is gone from the store, so it begins at the beginning.
fn notices(app: Arc<App>, seat: Seat) -> impl Stream<Item = Result<Event, Infallible>> {
    let reading = Reading { app, seat, sent: 0, ready: VecDeque::new() };
    stream::unfold(reading, |mut reading| async move {
        let notice = reading.next().await?;
        Some((Ok(event(&notice)?), reading))
    })
}

impl Reading {
    async fn next(&mut self) -> Option<SealedNotice> {
        loop {
            if let Some(notice) = self.ready.pop_front() {
                self.sent = notice.number;
                // A newer stream must not find this one still talking.
                return self.seat.news.has_changed().is_ok().then_some(notice);
            }
            // Marked as seen before reading, so that what comes meanwhile wakes again.
            self.seat.news.borrow_and_update();
            let credential = self.seat.credential;
            match self.app.store.notices_after(credential, self.sent, READ_MAX).await {
                Ok(found) if found.is_empty() => self.seat.news.changed().await.ok()?,
                Ok(found) => self.ready = found.into(),
                Err(err) => {
                    tracing::error!(error = ?err, "notices can't be read: the stream ends");
                    return None;
                }
            }
        }
    }
}

fn event(notice: &SealedNotice) -> Option<Event> {
    let data = serde_json::to_string(notice).ok()?;
    Some(Event::default().id(notice.number.to_string()).event("notice").data(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: CredentialId = CredentialId::from_raw([1; 16]);

    #[tokio::test]
    async fn a_newer_stream_ends_the_older_and_keeps_its_place() {
        let streams = Arc::new(Streams::default());
        let mut older = streams.begin(ONE).unwrap();
        let mut newer = streams.begin(ONE).unwrap();
        assert!(older.news.changed().await.is_err());
        drop(older);
        assert_eq!(streams.count(), 1);
        streams.wake(ONE);
        assert!(newer.news.changed().await.is_ok());
        streams.end(ONE);
        assert!(newer.news.changed().await.is_err());
        drop(newer);
        assert_eq!(streams.count(), 0);
    }

    #[test]
    fn only_a_number_acknowledges() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("last-event-id", value.parse().unwrap());
            last_event_id(&headers).map_err(|problem| problem.code)
        };
        assert_eq!(last_event_id(&HeaderMap::new()).unwrap(), None);
        assert_eq!(read("17"), Ok(Some(17)));
        for bad in ["", "-1", "+1", "x", "1.5", "99999999999999999999"] {
            assert_eq!(read(bad), Err(ProblemCode::Malformed), "{bad}");
        }
    }
}
