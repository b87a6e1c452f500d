//! Orders and their attempts: one attempt of an order at a time, which runs on by itself whoever waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use warifu_proto::code::Scanned;
use warifu_proto::message::Capture;
use warifu_proto::request_id::RequestId;
use warifu_reader::timing::{RESUME_MS, REVERSAL_GRACE_MS};
use warifu_reader::{Attempt, Ended, How, Order, Outcome, Record, Standing, UndoError, request_id};
use warifu_server::{chance, clock};

use super::errors::{Answer, Fault};
use super::wire::{self, PayBody};
use crate::fail::Failure;
use crate::reader::say;
use crate::reader::till::Till;

/// The agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) till: Till,
    pub(super) recent_ms: u64,
    /// The attempt of an order that is under way.
    runs: Mutex<Runs>,
    /// What somebody is going on with, so that nobody else does.
    pub(super) kept: Mutex<HashSet<RequestId>>,
    /// One refund, capture or release of a name at a time: what one caller was told must not be changed by another.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

type Runs = HashMap<String, Arc<Run>>;

/// An attempt that is under way.
#[derive(Debug)]
struct Run {
    record: Record,
    cancel: Notify,
    done: watch::Sender<Option<Answer<Ended>>>,
}

/// What taking an order back comes to.
enum Taken {
    /// Its end is to be waited for.
    Running(Arc<Run>),
    /// Nothing is paid, as this says.
    Nothing(Value),
}

impl Run {
    /// Whether the till asks for the same again.
    fn is_of(&self, order: &Order) -> bool {
        let code = self.record.code.as_deref().and_then(|it| Scanned::parse(it).ok());
        code.is_some_and(|it| it.code == order.scanned.code)
            && self.record.amount == order.amount
            && self.record.capture == order.capture
    }

    async fn wait(&self) -> Answer<Ended> {
        let mut done = self.done.subscribe();
        let ended = done.wait_for(Option::is_some).await;
        ended
            .ok()
            .and_then(|it| it.clone())
            .unwrap_or_else(|| Err(Failure::usage("the attempt stopped without an outcome").into()))
    }
}

impl Agent {
    /// An agent for a till.
    pub(super) fn new(till: Till, recent_minutes: u64) -> Self {
        Self {
            till,
            recent_ms: recent_minutes.saturating_mul(60_000),
            runs: Mutex::default(),
            kept: Mutex::default(),
            turns: Mutex::default(),
        }
    }

    /// Whoever holds it may send the change of this name.
    pub(super) fn turn(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(name.to_owned()).or_default())
    }

    /// Takes up what the journal has not ended: asks, then reverses; repeats refunds.
    pub(super) fn take_up(self: &Arc<Self>) -> Result<(), Failure> {
        let directory = self.till.directory.current();
        let mut runs = self.runs();
        for record in self.till.journal.open_ones()? {
            let order_id = record.order_id.clone().filter(|_| record.standing.claims_order());
            let id = record.request_id.clone();
            let resumed = Attempt::resume(record, How::End, RESUME_MS, &directory, clock::now());
            match (order_id, resumed) {
                // The till that asks for it again gets what becomes of it.
                (Some(order_id), Ok(attempt)) => drop(self.start(&mut runs, order_id, attempt)),
                (None, _) | (_, Err(_)) => self.keep(id),
            }
        }
        for change in self.till.journal.open_changes()? {
            self.keep_change(change);
        }
        Ok(())
    }

    /// Has an order paid, or says how it was.
    pub(super) async fn pay(self: &Arc<Self>, body: PayBody) -> Answer<Value> {
        wire::check_id("order_id", &body.order_id)
            .map_err(|error| Fault::malformed(&error.to_string()))?;
        let order_id = body.order_id.clone();
        let order = order(body)?;
        let directory = self.till.followed_directory_for(&order.scanned).await;
        let run = {
            let mut runs = self.runs();
            match runs.get(&order_id) {
                Some(run) if run.is_of(&order) => Arc::clone(run),
                Some(run) => return Err(in_progress(&run.record)),
                None => {
                    let attempts = self.till.journal.of_order(&order_id)?;
                    if let Some(claimer) = attempts.iter().find(|it| it.standing.claims_order()) {
                        return paid_already(claimer, &order, attempts.len());
                    }
                    let attempt = Attempt::begin(&order, &directory, clock::now())?;
                    self.start(&mut runs, order_id.clone(), attempt)
                }
            }
        };
        let ended = run.wait().await?;
        self.outcome(&order_id, &ended.record)
    }

    /// Takes an order back, whether it is under way or paid.
    pub(super) async fn cancel(self: &Arc<Self>, order_id: &str) -> Answer<Value> {
        let run = self.runs().get(order_id).cloned();
        if let Some(run) = run {
            run.cancel.notify_one();
            let ended = run.wait().await?;
            // It may have been paid just before.
            if !ended.outcome.is_paid() {
                return self.outcome(order_id, &ended.record);
            }
        }
        let run = self.take_back(order_id)?;
        let run = match run {
            Taken::Running(run) => run,
            Taken::Nothing(answer) => return Ok(answer),
        };
        let ended = run.wait().await?;
        if let Outcome::Stands(payment) = &ended.outcome {
            return Err(Fault::new(
                StatusCode::CONFLICT,
                "use_refund",
                "The day of the payment has closed, so it can't be taken back any more.",
                "refund it: POST /refund",
            )
            .with("paid", true)
            .with("payment", serde_json::to_value(payment).unwrap_or_default()));
        }
        self.outcome(order_id, &ended.record)
    }

    /// Begins to take back a paid order, unless that is under way already.
    fn take_back(self: &Arc<Self>, order_id: &str) -> Answer<Taken> {
        let mut runs = self.runs();
        if let Some(run) = runs.get(order_id) {
            return Ok(Taken::Running(Arc::clone(run)));
        }
        let attempts = self.till.journal.of_order(order_id)?;
        let last = attempts.iter().rev().find(|it| it.standing.claims_order());
        let last = last.or(attempts.last()).ok_or_else(Fault::no_order)?;
        if !last.standing.is_paid() {
            return Ok(Taken::Nothing(wire::outcome(last, attempts.len())));
        }
        let directory = self.till.directory.current();
        let undo = Attempt::undo(last.clone(), REVERSAL_GRACE_MS, &directory, clock::now());
        let undo = undo.map_err(|error| match error {
            UndoError::NotPaid => Fault::not_paid(),
            UndoError::Route(error) => Failure::refused(error).into(),
        })?;
        Ok(Taken::Running(self.start(&mut runs, order_id.to_owned(), undo)))
    }

    fn outcome(&self, order_id: &str, record: &Record) -> Answer<Value> {
        Ok(wire::outcome(record, self.till.journal.of_order(order_id)?.len()))
    }

    /// Lets an attempt run to its end, whoever waits for it.
    fn start(self: &Arc<Self>, runs: &mut Runs, order_id: String, attempt: Attempt) -> Arc<Run> {
        let record = attempt.record().clone();
        let run = Arc::new(Run { record, cancel: Notify::new(), done: watch::Sender::new(None) });
        runs.insert(order_id.clone(), Arc::clone(&run));
        self.kept().insert(run.record.request_id.clone());
        let (agent, running) = (Arc::clone(self), Arc::clone(&run));
        tokio::spawn(async move {
            let ended = agent.till.drive(attempt, &running.cancel, |_| {}).await;
            agent.over(&order_id, &running, ended);
        });
        run
    }

    fn over(self: &Arc<Self>, order_id: &str, run: &Run, ended: Result<Ended, Failure>) {
        let id = &run.record.request_id;
        self.kept().remove(id);
        let is_open = match &ended {
            Ok(ended) => {
                count(&ended.record);
                ended.record.standing.is_open()
            }
            Err(_) => true,
        };
        self.runs().remove(order_id);
        if is_open {
            self.keep(id.clone());
        }
        run.done.send_replace(Some(ended.map_err(Fault::from)));
    }

    // Neither is ever held across an await; when both are, runs first.
    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, HashSet<RequestId>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts an attempt by how it ended.
pub(super) fn count(record: &Record) {
    metrics::counter!("warifu_reader_attempts_total", "result" => say::standing(record))
        .increment(1);
}

fn order(body: PayBody) -> Answer<Order> {
    let scanned = Scanned::parse(&body.code).map_err(|_| {
        Fault::new(
            StatusCode::BAD_REQUEST,
            "code_malformed",
            "What was scanned is no payment code: a code is exactly 24 or 333 digits.",
            "scan again, or ask the payer for a new code",
        )
    })?;
    Ok(Order {
        request_id: request_id(clock::now(), chance::bytes()),
        scanned,
        amount: body.amount,
        capture: body.capture.unwrap_or(Capture::Now),
        order_id: Some(body.order_id),
        description: body.description,
        deadline_ms: body.deadline_ms,
    })
}

fn in_progress(record: &Record) -> Fault {
    Fault::new(
        StatusCode::CONFLICT,
        "in_progress",
        "Another attempt of this order is under way.",
        "wait for it: GET /orders/{order_id}, or cancel it: POST /orders/{order_id}/cancel",
    )
    .with("request_id", record.request_id.as_str())
    .with("amount", serde_json::to_value(record.amount).unwrap_or_default())
}

/// An order that is paid is not paid again, whatever code is shown.
fn paid_already(claimer: &Record, order: &Order, attempts: usize) -> Answer<Value> {
    let Standing::Decided { .. } = &claimer.standing else {
        return Err(in_progress(claimer));
    };
    if claimer.amount == order.amount {
        return Ok(wire::outcome(claimer, attempts));
    }
    let amount = |it| serde_json::to_value(it).unwrap_or_default();
    Err(Fault::new(
        StatusCode::CONFLICT,
        "order_paid",
        "This order is paid already, with another amount.",
        "one order, one payment: give another sale another order id",
    )
    .with("paid_amount", amount(claimer.amount))
    .with("asked_amount", amount(order.amount))
    .with("request_id", claimer.request_id.as_str()))
}
