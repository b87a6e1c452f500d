//! `warifu reader refund` and `warifu reader reverse`: give back what was paid, or take the sale back on its day.

use tokio::sync::Notify;
use warifu_proto::id::PaymentId;
use warifu_proto::limits::DESCRIPTION_MAX;
use warifu_proto::message::{Payment, check_text};
use warifu_proto::money::Money;
use warifu_proto::request_id::RequestId;
use warifu_reader::change::{Deed, Settled};
use warifu_reader::timing::{RESUME_MS, REVERSAL_GRACE_MS};
use warifu_reader::{Attempt, Record, Standing, UndoError};
use warifu_server::{chance, clock};

use super::till::Till;
use super::{Folder, RefundArgs, ReverseArgs, WhichArgs, pay, say};
use crate::fail::{Exit, Failure};
use crate::out::Out;
use crate::paths;

/// A till's own id of a refund: as long as an order's, of visible characters.
pub(super) fn refund_name(id: &str) -> String {
    format!("refund:{id}")
}

pub(super) async fn refund(args: &RefundArgs, out: &Out) -> Result<(), Failure> {
    let folder = Folder::new(&args.folder.dir);
    let till = Till::open(&folder).await?;
    let record = which(&till, &args.which)?;
    if let Some(text) = &args.reason {
        check_text("--reason", text, DESCRIPTION_MAX)?;
    }
    let Standing::Decided { payment } = &record.standing else {
        return Err(not_paid(&record));
    };
    let amount = match &args.amount {
        Some(text) => units(&till, text, &record)?,
        None => rest(payment).ok_or_else(|| not_paid(&record))?,
    };
    let name = args
        .refund_id
        .clone()
        .unwrap_or_else(|| warifu_reader::request_id(clock::now(), chance::bytes()).to_string());
    let deed = Deed::Refund { amount, reason: args.reason.clone() };
    let change = till.change(&record, refund_name(&name), deed).await?;
    out.object(&say::change(&change));
    let told = |exit| if out.json { Err(Failure::told(exit)) } else { Ok(()) };
    match change.standing {
        Settled::Done { id, .. } => {
            let amount = say::money(amount, Some(&till.directory.current()));
            let id = id.unwrap_or_default();
            out.say(format_args!("refunded: {amount}\nrefund {id}, request {}", change.request_id));
            Ok(())
        }
        Settled::Refused { problem } => {
            told(Exit::Refused)?;
            let problem = serde_json::to_value(&problem).unwrap_or_default();
            Err(Failure::problem(problem).during("nothing was refunded"))
        }
        Settled::Open => {
            told(Exit::Unreachable)?;
            Err(Failure::unreachable("the refund is not answered yet; it is never done twice")
                .next(format_args!("warifu reader resolve --dir {}", paths::shown(folder.dir()))))
        }
    }
}

pub(super) async fn reverse(args: &ReverseArgs, out: &Out) -> Result<(), Failure> {
    let folder = Folder::new(&args.folder.dir);
    let till = Till::open(&folder).await?;
    let record = which(&till, &args.which)?;
    let directory = till.directory.current();
    let ended = if record.standing.is_paid() {
        let undo = Attempt::undo(record, REVERSAL_GRACE_MS, &directory, clock::now());
        let undo = undo.map_err(|error| match error {
            UndoError::NotPaid => Failure::refused(&error),
            UndoError::Route(error) => Failure::refused(error),
        })?;
        till.drive(undo, &Notify::new(), |_| {}).await?
    } else {
        till.end(record, RESUME_MS).await?
    };
    out.object(&say::object(&ended.record));
    if ended.outcome.is_paid() || ended.record.standing.is_open() {
        return pay::finish(&till, &folder, ended, out);
    }
    out.say(format_args!(
        "nothing is paid: {}\nrequest {}",
        say::standing(&ended.record),
        ended.record.request_id
    ));
    Ok(())
}

/// The attempt that is meant.
fn which(till: &Till, args: &WhichArgs) -> Result<Record, Failure> {
    let found = match (&args.request_id, &args.payment) {
        (Some(text), _) => till.journal.find(&RequestId::parse(text)?)?,
        (None, Some(text)) => till.journal.find_payment(PaymentId::parse(text)?)?,
        (None, None) => None,
    };
    found.ok_or_else(|| {
        Failure::usage("the journal of this reader has no such payment")
            .next("warifu reader payments lists those that it has")
    })
}

fn not_paid(record: &Record) -> Failure {
    Failure::refused(format_args!("the request {} is not paid", record.request_id))
        .next("there is nothing to give back")
}

fn units(till: &Till, text: &str, record: &Record) -> Result<Money, Failure> {
    let code = record.amount.currency();
    let currency = till.directory.current().currency(code).ok_or_else(|| {
        Failure::usage(format_args!("no currency {code} is known in this network"))
    })?;
    let during = |failure: Failure| failure.during(format_args!("--amount, in {code}"));
    let minor = currency.parse_minor(text).map_err(|error| during(error.into()))?;
    Money::new(minor, code).map_err(|error| during(error.into()))
}

/// What can still be given back, as far as this reader knows.
pub(super) fn rest(payment: &Payment) -> Option<Money> {
    let rest = payment.captured.minor.checked_sub(payment.refunded.minor)?;
    Money::new(u64::try_from(rest).ok()?, payment.amount.currency()).ok()
}
