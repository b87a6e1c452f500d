//! Paying, and asking what became of a payment.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use warifu_core::decide::{Command, LongCode, Pay};
use warifu_core::place::partition_of;
use warifu_proto::code::{Locator, Route};
use warifu_proto::id::MerchantId;
use warifu_proto::limits::{DEADLINE_DEFAULT_MS, REGISTRATION_WAIT_MAX_MS, WAIT_MAX_MS};
use warifu_proto::mac;
use warifu_proto::message::{Capture, PayRequest, Payment, PaymentStatus};
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::registration::Registration;
use warifu_proto::rejection::Rejection;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;
use warifu_server::clock;
use warifu_server::edge::Caller;
use warifu_server::json::{Query, Strict};
use warifu_server::problem::{ApiProblem, ApiResult};

use super::render::{id_of, language, render};
use crate::app::{App, KnownReader, PATIENCE, problem};
use crate::engine::{Answer, Ask, PaymentState, Refused};

/// How often a question that waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Decides a payment. A refused payment is no error: it answers 200 with `declined`.
///
/// Repeat: the same request gets the same payment as it now stands, and never decides again; a changed one under the
/// same id is `409 request_id_conflict`.
#[utoipa::path(post, path = "/v1/payments", tag = "readers", request_body = PayRequest, responses(
    (status = 200, description = "decided: approved or declined", body = Payment), (status = 400, description = "malformed, code_malformed", body = Problem),
    (status = 401, body = Problem), (status = 403, body = Problem), (status = 409, description = "request_id_conflict", body = Problem),
    (status = 413, body = Problem), (status = 415, body = Problem), (status = 421, description = "the code is another issuer's", body = Problem), (status = 422, body = Problem),
    (status = 429, description = "too_many_misses", body = Problem), (status = 503, description = "not_accepted: nothing was changed", body = Problem)))]
pub(crate) async fn pay(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Strict(request): Strict<PayRequest>,
) -> ApiResult<Json<Payment>> {
    let arrived = clock::now();
    let scanned = request
        .scanned()
        .map_err(|error| ApiProblem::new(ProblemCode::CodeMalformed, error.to_string()))?;
    request.check()?;
    let reader = app.reader(&caller)?;
    if !app.prefix().begins(&scanned.code) {
        return Err(ApiProblem::new(
            ProblemCode::Misdirected,
            "the code is another issuer's: find it in the directory by the code's first digits",
        ));
    }
    if let Err(problem) = app.fresh_directory().and_then(|()| app.check_misses(&reader, arrived)) {
        // A repeat decides nothing, so nothing but its own outcome may answer it.
        let partition = scanned.code.locator(app.prefix()).partition();
        payment_of(&app, partition, reader.merchant.common.id, &request.request_id)
            .await
            .map_err(|_| problem)?;
    }
    let digest = digest(&app, &request, &scanned.code);
    if request.order_id.is_some() || request.description.is_some() {
        // Texts are erasable and stay out of the journal: they are there before the payment is.
        app.texts
            .put_payment_texts(
                reader.merchant.common.id,
                &request.request_id,
                request.order_id.as_deref(),
                request.description.as_deref(),
            )
            .await
            .map_err(ApiProblem::internal)?;
    }
    let deadline_ms = request.deadline_ms.unwrap_or(DEADLINE_DEFAULT_MS);
    let locator = scanned.code.locator(app.prefix());
    let long_code = match &scanned.registration {
        Some(registration) => Some(long_code(&app, registration, locator).await?),
        None => None,
    };
    let hold_ms = app.config.holds.lifetime_ms(reader.merchant.common.id);
    let command = Command::Pay(Box::new(Pay {
        merchant: reader.merchant.common.id,
        merchant_standing: reader.merchant_standing,
        reader: reader.reader.common.id,
        reader_standing: reader.reader_standing,
        request: request.request_id,
        digest,
        code: scanned.code,
        locator,
        amount: request.amount,
        deadline_at: arrived.plus_ms(deadline_ms),
        wait_until: arrived.plus_ms(REGISTRATION_WAIT_MAX_MS.min(deadline_ms / 2)),
        long_code,
        capture: request.capture,
        hold_until: arrived.plus_ms(hold_ms),
        limits: app.config.limits.into(),
        is_reversed: false,
        business_day: app.business_day(arrived),
    }));
    // A reader that hangs up while its code is looked for has guessed as well.
    let guess = Guess { app: &app, reader: &reader, at: arrived, is_answered: false };
    let patience = Duration::from_millis(deadline_ms);
    let ask = Ask::Decide(Box::new(command));
    let answer = app.engine.ask(locator.partition(), ask, patience).await;
    guess.answered();
    let state = match answer {
        // A repeat of a payment that is older than memory.
        Err(Refused::NotInMemory(place)) => {
            app.engine.payment(place, PATIENCE).await.map_err(problem)?
        }
        answer => payment_state(answer.map_err(problem)?)?,
    };
    // Only a miss of this very request: a repeat of an old one guesses nothing.
    // A long code that nobody verified is a miss whatever it is called: its times and sequence may be made up.
    let missed = state.payment.credential_number.is_none()
        && matches!(
            state.payment.rejection,
            Some(
                Rejection::CodeUnknown
                    | Rejection::RegistrationInvalid
                    | Rejection::CodeExpired
                    | Rejection::CodeRetired
            )
        );
    if missed && state.payment.decided_at >= arrived {
        app.count_miss(&reader, arrived);
    }
    render(app.prefix(), &state, language(&headers)).map(Json)
}

/// What a long code carries, with the key that signed it, if it holds. Checked here, off the lane.
async fn long_code(
    app: &App,
    registration: &Registration,
    locator: Locator,
) -> ApiResult<LongCode> {
    let statement = &registration.statement;
    let fits = statement.prefix == app.prefix()
        && statement.locator == locator
        && partition_of(statement.credential) == Some(locator.partition());
    let signed_by = if fits {
        match app.credential_key(statement.credential).await {
            Ok(key) => registration.is_signed_by(&key.key).then_some(key.xy),
            Err(problem) if problem.code == ProblemCode::CredentialUnknown => None,
            Err(problem) => return Err(problem),
        }
    } else {
        None
    };
    Ok(LongCode { statement: statement.clone(), digest: statement.digest(), signed_by })
}

/// A payment that is being decided: dropped before its answer, it counts as a miss.
struct Guess<'a> {
    app: &'a App,
    reader: &'a KnownReader,
    at: Timestamp,
    is_answered: bool,
}

impl Guess<'_> {
    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.app.count_miss(self.reader, self.at);
        }
    }
}

/// What is compared of a repeated request. Keyed, so that the journal does not give away texts to who guesses them.
fn digest(app: &App, request: &PayRequest, code: &str) -> [u8; 16] {
    let capture = match request.capture {
        Capture::Now => b"now\n".as_slice(),
        Capture::Later => b"later\n",
    };
    let text = |text: &Option<String>| {
        text.as_ref().map_or_else(|| "-\n".to_owned(), |text| format!("{}:{text}\n", text.len()))
    };
    let amount = request.amount.minor().to_be_bytes();
    mac::first_16(mac::hmac_sha256(
        app.digest_key.as_slice(),
        &[
            b"warifu/request/v1\npay\n",
            code.as_bytes(),
            &amount,
            request.amount.currency().as_str().as_bytes(),
            capture,
            text(&request.order_id).as_bytes(),
            text(&request.description).as_bytes(),
        ],
    ))
}

/// Whether to wait for the payer's word.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    #[serde(default)]
    wait_ms: u64,
}

/// Shows a payment of the caller's merchant by its id; waits while its payer is being asked.
#[utoipa::path(get, path = "/v1/payments/{payment_id}", tag = "readers", params(("payment_id" = String, Path,), ("wait_ms" = Option<u64>, Query,)), responses(
    (status = 200, description = "as it stands", body = Payment), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 404, description = "none of this merchant", body = Problem), (status = 421, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Path(payment): Path<String>,
    Query(wait): Query<Wait>,
) -> ApiResult<Json<Payment>> {
    let reader = app.reader(&caller)?;
    let (id, place) = app.place_of(&payment)?;
    let until = wait_until(wait.wait_ms);
    loop {
        let state = app.engine.payment(place, PATIENCE).await.map_err(problem)?;
        // The time of the decision is part of the id: with another time it names nothing.
        // Another merchant's is not waited for either: that would say how it stands.
        let is_theirs = state.payment.merchant == reader.merchant.common.id;
        if !is_theirs || id_of(app.prefix(), state.partition, &state.payment) != id {
            return Err(problem(Refused::NotFound));
        }
        if state.payment.status != PaymentStatus::AwaitingPayer || clock::now() >= until {
            return shown(&app, &reader, &state, &headers);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn wait_until(wait_ms: u64) -> Timestamp {
    clock::now().plus_ms(wait_ms.min(WAIT_MAX_MS))
}

/// By whose request a payment is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Find {
    request_id: RequestId,
    route: String,
    #[serde(default)]
    wait_ms: u64,
}

/// Shows a payment of the caller's merchant by its request id. A 404 is no end: only a final payment is.
#[utoipa::path(get, path = "/v1/payments", tag = "readers", params(("request_id" = String, Query,), ("route" = String, Query,), ("wait_ms" = Option<u64>, Query,)), responses(
    (status = 200, description = "as it stands", body = Payment), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 404, description = "none of this merchant, yet", body = Problem), (status = 421, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn find(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Query(find): Query<Find>,
) -> ApiResult<Json<Payment>> {
    let reader = app.reader(&caller)?;
    let route = Route::parse(&find.route)?;
    if route.prefix != app.prefix() {
        return Err(ApiProblem::new(ProblemCode::Misdirected, "the route is another issuer's"));
    }
    let until = wait_until(find.wait_ms);
    let merchant = reader.merchant.common.id;
    loop {
        let found = payment_of(&app, route.partition, merchant, &find.request_id).await;
        let waits = match &found {
            // A payment that still waits for its code is not there yet.
            Err(Refused::NotFound) => true,
            Ok(state) => state.payment.status == PaymentStatus::AwaitingPayer,
            Err(_) => false,
        };
        if !waits || clock::now() >= until {
            return shown(&app, &reader, &found.map_err(problem)?, &headers);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A payment by its request, whatever its age.
async fn payment_of(
    app: &App,
    partition: u8,
    merchant: MerchantId,
    request: &RequestId,
) -> Result<PaymentState, Refused> {
    let ask = Ask::PaymentOf(merchant, request.clone());
    match app.engine.ask(partition, ask, PATIENCE).await {
        Ok(Answer::Payment(state)) => Ok(state),
        Ok(_) => Err(Refused::NotFound),
        Err(Refused::NotInMemory(place)) => app.engine.payment(place, PATIENCE).await,
        Err(refused) => Err(refused),
    }
}

fn shown(
    app: &App,
    reader: &KnownReader,
    state: &PaymentState,
    headers: &HeaderMap,
) -> ApiResult<Json<Payment>> {
    if state.payment.merchant != reader.merchant.common.id {
        return Err(problem(Refused::NotFound));
    }
    render(app.prefix(), state, language(headers)).map(Json)
}

fn payment_state(answer: Answer) -> ApiResult<PaymentState> {
    match answer {
        Answer::Payment(state) => Ok(state),
        _ => Err(problem(Refused::NotFound)),
    }
}
