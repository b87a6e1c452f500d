//! The merchant's feed: every change of every payment of a merchant, gap-free and in order. It is a range of the journal,
//! so it can be read again from any place, by any number of readers.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Deserialize;
use warifu_core::entry::{Entry, Fact};
use warifu_core::life::Change;
use warifu_core::payment::Payment;
use warifu_proto::base64url;
use warifu_proto::directory::Right;
use warifu_proto::id::AccountId;
use warifu_proto::limits::{PAGE_MAX, WAIT_MAX_MS};
use warifu_proto::message::{EventsAnswer, MerchantEvent};
use warifu_proto::money::Money;
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::rejection::Language;
use warifu_server::clock;
use warifu_server::edge::Caller;
use warifu_server::json::Query;
use warifu_server::problem::{ApiProblem, ApiResult};

use super::render::{change_id, language, render};
use crate::app::App;
use crate::engine::PaymentState;
use crate::store::Store;

/// How often a reader that waits for news is looked after.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Version of the cursor's layout: version, position (u64).
const CURSOR_VERSION: u8 = 1;

/// From where, and how long to wait for news.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Feed {
    after: Option<String>,
    #[serde(default)]
    wait_ms: u64,
    limit: Option<usize>,
}

/// Reads the feed of the caller's merchant. Needs the right `feed`. Without `after` it begins with the first event.
///
/// Repeat: the same `after` gets the same events, and those that came since.
#[utoipa::path(get, path = "/v1/events", tag = "readers", params(("after" = Option<String>, Query,), ("wait_ms" = Option<u64>, Query,), ("limit" = Option<usize>, Query,)), responses(
    (status = 200, description = "in order; none when there is no news", body = EventsAnswer), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 421, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Query(feed): Query<Feed>,
) -> ApiResult<Json<EventsAnswer>> {
    let merchant = app.reader_with(&caller, Right::Feed)?.merchant.common.id;
    let after = feed.after.as_deref().map_or(Ok(0), read_cursor)?;
    let limit = feed.limit.unwrap_or(100).clamp(1, PAGE_MAX);
    let until = clock::now().plus_ms(feed.wait_ms.min(WAIT_MAX_MS));
    let (rows, next) = loop {
        let page = app.views.events(merchant, after, limit).await.map_err(ApiProblem::internal)?;
        if !page.0.is_empty() || clock::now() >= until {
            break page;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let store = app.engine.store();
    let read = move || {
        rows.iter()
            .map(|row| Ok((entry_at(store.as_ref(), row.position)?, row.account)))
            .collect::<anyhow::Result<Vec<_>>>()
    };
    let entries = tokio::task::spawn_blocking(read).await.map_err(ApiProblem::internal)?;
    let language = language(&headers);
    let events = entries
        .map_err(ApiProblem::internal)?
        .iter()
        .map(|(entry, account)| event(&app, entry, *account, language))
        .collect::<ApiResult<Vec<_>>>()?;
    Ok(Json(EventsAnswer { events, next: cursor(next.max(after)) }))
}

fn cursor(position: u64) -> String {
    let [a, b, c, d, e, f, g, h] = position.to_be_bytes();
    base64url::encode([CURSOR_VERSION, a, b, c, d, e, f, g, h])
}

fn read_cursor(text: &str) -> ApiResult<u64> {
    let bad = || ApiProblem::new(ProblemCode::Malformed, "after must be `next` of a former answer");
    let [version, position @ ..]: [u8; 9] = base64url::decode_array(text).map_err(|_| bad())?;
    let position = u64::from_be_bytes(position);
    // No journal gets further than its database can count.
    if version == CURSOR_VERSION && i64::try_from(position).is_ok() {
        Ok(position)
    } else {
        Err(bad())
    }
}

fn entry_at(store: &dyn Store, position: u64) -> anyhow::Result<Entry> {
    let frames = store.read(position, 1)?;
    let entry = frames.first().and_then(|frame| {
        let at = usize::try_from(position.checked_sub(frame.position)?).ok()?;
        frame.entries.get(at)
    });
    let entry = entry.ok_or_else(|| anyhow::anyhow!("the journal has no entry {position}"))?;
    Ok(Entry::decode(&entry.bytes)?)
}

fn event(
    app: &App,
    entry: &Entry,
    account: Option<AccountId>,
    language: Language,
) -> ApiResult<MerchantEvent> {
    let gone = || ApiProblem::internal(anyhow::anyhow!("the feed names an entry of no payment"));
    let payment = Payment::left_by(entry).ok_or_else(gone)?;
    let (partition, sequence) = (entry.partition, entry.sequence);
    let (kind, moved_minor, request, change) = match &entry.fact {
        Fact::Changed(it) => {
            let request = it.request.as_ref().map(|(request, _)| request.clone());
            (it.change.name(), it.amount_minor, request, Some(it.change))
        }
        _ => ("decided", payment.reserved_minor().max(payment.captured_minor), None, None),
    };
    let amount = match moved_minor {
        0 => None,
        minor => Some(Money::new(minor, payment.currency)?),
    };
    let refund_id =
        (change == Some(Change::Refunded)).then(|| change_id(partition, &payment, sequence));
    let capture_id =
        (change == Some(Change::Captured)).then(|| change_id(partition, &payment, sequence));
    let state = PaymentState { payment, partition, account };
    Ok(MerchantEvent {
        event_id: format!("{partition:02}.{sequence:016}"),
        kind: kind.to_owned(),
        at: entry.at,
        payment: render(app.prefix(), &state, language)?,
        amount,
        request_id: request,
        refund_id,
        capture_id,
    })
}
