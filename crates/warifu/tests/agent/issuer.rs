//! An issuer whose answers can be made to fail: real signatures, made-up money, every payment approved unless told
//! otherwise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use warifu_proto::id::{CaptureId, PaymentId, RefundId};
use warifu_proto::key::{PrivateKey, PublicKey, Thumbprint};
use warifu_proto::problem::ProblemCode;
use warifu_server::edge::{self, Edge, EdgeParts, KeyRing};
use warifu_server::json::{Query, Strict};
use warifu_server::problem::{ApiProblem, ApiResult};
use warifu_server::serve::bind;
use warifu_server::session::Sessions;

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    Good,
    Decline,
    /// Decides at once, answers later.
    Slow(Duration),
    /// Decides payments and never answers them or questions about them; answers reversals.
    LosePayments,
    /// Does one call and does not answer it; good afterwards.
    LoseOne,
    /// Hears nothing.
    Silent,
    /// Cashiers' reversals come too late.
    DayClosed,
}

#[derive(Debug)]
pub(crate) struct Issuer {
    mood: Mutex<Mood>,
    book: Mutex<BTreeMap<String, Value>>,
    refunds: Mutex<BTreeMap<String, Value>>,
}

struct OneReader(PublicKey);

impl KeyRing for OneReader {
    fn key(&self, thumbprint: &Thumbprint) -> Option<PublicKey> {
        (self.0.thumbprint() == *thumbprint).then(|| self.0.clone())
    }
}

type Shared = State<Arc<Issuer>>;

impl Issuer {
    /// Serves at this address until the test ends.
    pub(crate) async fn serve(address: &str, key: PrivateKey, reader: PublicKey) -> Arc<Self> {
        let issuer = Arc::new(Self {
            mood: Mutex::new(Mood::Good),
            book: Mutex::default(),
            refunds: Mutex::default(),
        });
        let router = Router::new()
            .route("/v1/payments", post(pay).get(ask))
            .route("/v1/reversals", post(reverse))
            .route("/v1/payments/{payment}/refunds", post(refund))
            .route("/v1/payments/{payment}/captures", post(capture))
            .route("/v1/payments/{payment}/release", post(release))
            .layer(from_fn_with_state(Arc::clone(&issuer), moody))
            .with_state(Arc::clone(&issuer));
        let edge = Edge::new(EdgeParts {
            key: Arc::new(key),
            authorities: vec![address.to_owned()],
            ring: Arc::new(OneReader(reader)),
            sessions: Arc::new(Sessions::new()),
            max_in_flight: 100,
        });
        let bound = bind(address.parse().unwrap(), None).await.unwrap();
        tokio::spawn(bound.serve(edge::apply(router, Arc::new(edge)), std::future::pending()));
        issuer
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Payments that were ever made, whatever became of them.
    pub(crate) fn payments(&self) -> usize {
        let book = self.book.lock().unwrap();
        book.values().filter(|it| it["status"] != "declined" && !it["payment_id"].is_null()).count()
    }

    /// Payments that move or reserve money now.
    pub(crate) fn effects(&self) -> usize {
        let book = self.book.lock().unwrap();
        book.values().filter(|it| it["status"] == "approved" || it["status"] == "held").count()
    }

    fn change(
        &self,
        payment: &str,
        work: impl FnOnce(&mut Value) -> ApiResult<()>,
    ) -> ApiResult<Value> {
        let mut book = self.book.lock().unwrap();
        let found = book.values_mut().find(|it| it["payment_id"] == payment);
        let found = found.ok_or_else(|| ApiProblem::new(ProblemCode::NotFound, ""))?;
        work(found)?;
        Ok(found.clone())
    }
}

/// What keeps the answer back, or the request out.
async fn moody(State(issuer): Shared, request: Request, next: Next) -> Response {
    let mood = *issuer.mood.lock().unwrap();
    let forever = std::future::pending::<Response>();
    let is_reversal = request.uri().path() == "/v1/reversals";
    match mood {
        Mood::Silent => forever.await,
        Mood::LosePayments if !is_reversal => {
            drop(next.run(request).await);
            forever.await
        }
        Mood::LoseOne => {
            issuer.set(Mood::Good);
            drop(next.run(request).await);
            forever.await
        }
        Mood::Slow(pause) => {
            let answer = next.run(request).await;
            tokio::time::sleep(pause).await;
            answer
        }
        Mood::Good | Mood::Decline | Mood::DayClosed | Mood::LosePayments => {
            next.run(request).await
        }
    }
}

async fn pay(State(issuer): Shared, Strict(body): Strict<Value>) -> Json<Value> {
    let mut book = issuer.book.lock().unwrap();
    let id = body["request_id"].as_str().unwrap().to_owned();
    let number = u8::try_from(book.len()).unwrap();
    let is_declined = *issuer.mood.lock().unwrap() == Mood::Decline || book.contains_key(&id);
    let entry = book.entry(id.clone()).or_insert(Value::Null);
    if entry.is_null() {
        let zero = json!({"minor": 0, "currency": "JPY"});
        let status = match (is_declined, body["capture"] == "later") {
            (true, _) => "declined",
            (false, true) => "held",
            (false, false) => "approved",
        };
        *entry = json!({
            "payment_id": PaymentId::from_raw([number; 16]), "request_id": id, "status": status,
            "amount": body["amount"], "refunded": zero, "account_hint": "8yz2",
            "captured": if status == "approved" { body["amount"].clone() } else { zero.clone() },
            "decided_at": "2026-11-22T00:00:02.041Z", "sequence": "1",
        });
    }
    Json(entry.clone())
}

#[derive(serde::Deserialize)]
struct Asked {
    request_id: String,
    #[serde(rename = "route")]
    _route: String,
    #[serde(rename = "wait_ms")]
    _wait_ms: Option<u64>,
}

async fn ask(State(issuer): Shared, Query(asked): Query<Asked>) -> ApiResult<Json<Value>> {
    let book = issuer.book.lock().unwrap();
    let found = book.get(&asked.request_id).filter(|it| !it.is_null());
    found.cloned().map(Json).ok_or_else(|| ApiProblem::new(ProblemCode::NotFound, ""))
}

async fn reverse(State(issuer): Shared, Strict(body): Strict<Value>) -> ApiResult<Json<Value>> {
    let mut book = issuer.book.lock().unwrap();
    let id = body["request_id"].as_str().unwrap().to_owned();
    let entry = book.entry(id.clone()).or_insert(Value::Null);
    let has_closed = *issuer.mood.lock().unwrap() == Mood::DayClosed;
    if has_closed && body["reason"] == "cashier" && entry["status"] == "approved" {
        return Err(ApiProblem::new(ProblemCode::UseRefund, ""));
    }
    if entry["status"] == "approved" || entry["status"] == "held" {
        entry["status"] = json!("reversed");
    }
    Ok(Json(json!({"request_id": id, "status": "reversed"})))
}

async fn refund(
    State(issuer): Shared,
    Path(payment): Path<String>,
    Strict(body): Strict<Value>,
) -> ApiResult<Json<Value>> {
    let id = body["request_id"].as_str().unwrap().to_owned();
    if let Some(known) = issuer.refunds.lock().unwrap().get(&id) {
        return Ok(Json(known.clone()));
    }
    let after = issuer.change(&payment, |it| {
        let number = |it: &Value| it["minor"].as_u64().unwrap();
        let refunded = number(&it["refunded"]) + number(&body["amount"]);
        if refunded > number(&it["captured"]) {
            return Err(ApiProblem::new(ProblemCode::AmountTooLarge, ""));
        }
        it["refunded"]["minor"] = json!(refunded);
        Ok(())
    })?;
    let mut refunds = issuer.refunds.lock().unwrap();
    let number = u8::try_from(refunds.len()).unwrap();
    let answer = json!({"refund_id": RefundId::from_raw([number; 16]), "status": "refunded", "payment": after});
    refunds.insert(id, answer.clone());
    Ok(Json(answer))
}

async fn capture(
    State(issuer): Shared,
    Path(payment): Path<String>,
    Strict(body): Strict<Value>,
) -> ApiResult<Json<Value>> {
    let after = issuer.change(&payment, |it| {
        it["status"] = json!("approved");
        it["captured"] = body["amount"].clone();
        Ok(())
    })?;
    let id = CaptureId::from_raw([1; 16]);
    Ok(Json(json!({"capture_id": id, "status": "captured", "payment": after})))
}

async fn release(State(issuer): Shared, Path(payment): Path<String>) -> ApiResult<Json<Value>> {
    let after = issuer.change(&payment, |it| {
        it["status"] = json!("released");
        Ok(())
    })?;
    Ok(Json(after))
}
