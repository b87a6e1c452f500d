//! `warifu reader resolve`: end what has not ended; and `warifu reader payments`: what the journal says.

use serde_json::{Value, json};
use warifu_proto::request_id::RequestId;
use warifu_reader::change::Trial;
use warifu_reader::{Ended, Outcome, Record};

use super::till::Till;
use super::{Folder, PaymentsArgs, ResolveArgs, say};
use crate::fail::{Exit, Failure};
use crate::out::Out;
use crate::paths;

pub(super) async fn run(args: &ResolveArgs, out: &Out) -> Result<(), Failure> {
    let folder = Folder::new(&args.folder.dir);
    let till = Till::open(&folder).await?;
    let (records, changes) = match &args.request_id {
        Some(text) => (vec![one(&till, text)?], Vec::new()),
        None => (till.journal.open_ones()?, till.journal.open_changes()?),
    };
    let (mut payments, mut settled) = (Vec::new(), Vec::new());
    let mut open = 0_u32;
    for record in records {
        out.progress(format_args!("ending {}", record.request_id));
        let Ended { record, outcome } = till.end(record, args.wait_ms).await?;
        open = open.saturating_add(u32::from(record.standing.is_open()));
        tell(&till, &record, &outcome, out);
        payments.push(say::object(&record));
    }
    for change in changes {
        let what = say::deed(&change.deed);
        out.progress(format_args!("repeating the {what} {}", change.request_id));
        let change = till.settle(change, Trial::Again).await?;
        open = open.saturating_add(u32::from(change.is_open()));
        let how = say::settled(&change.standing);
        out.say(format_args!("{what} {how}\nrequest {}", change.request_id));
        settled.push(say::change(&change));
    }
    if payments.is_empty() && settled.is_empty() {
        out.say("every payment of this reader has its outcome");
    }
    out.object(&json!({ "payments": payments, "changes": settled, "unresolved": open }));
    if open == 0 {
        return Ok(());
    }
    if out.json {
        return Err(Failure::told(Exit::Unreachable));
    }
    Err(Failure::unreachable(format_args!("{open} not acknowledged yet"))
        .next(format_args!("warifu reader resolve --dir {}", paths::shown(folder.dir()))))
}

fn one(till: &Till, text: &str) -> Result<Record, Failure> {
    let id = RequestId::parse(text)?;
    till.journal.find(&id)?.ok_or_else(|| {
        Failure::usage(format_args!("the journal has no payment {id}"))
            .next("warifu reader payments lists those that it has")
    })
}

fn tell(till: &Till, record: &Record, outcome: &Outcome, out: &Out) {
    let amount = say::money(record.amount, Some(&till.directory.current()));
    match outcome {
        Outcome::Decided(payment) | Outcome::Stands(payment) => {
            out.say(say::decided(payment, &amount));
        }
        Outcome::Reversed { .. } => out.say(say::reversed(record)),
        Outcome::Refused(problem) => out.say(format_args!(
            "refused: {} Nothing was paid.\nrequest {}",
            problem.title, record.request_id
        )),
        Outcome::NotTaken => {
            out.say(format_args!("nothing was paid\nrequest {}", record.request_id));
        }
        Outcome::Reversing(why) => out.say(format_args!(
            "NOT PAID: {amount}, still being reversed: {}\nrequest {}",
            say::why(why),
            record.request_id
        )),
    }
}

/// Lists the journal.
pub(super) fn payments(args: &PaymentsArgs, out: &Out) -> Result<(), Failure> {
    let folder = Folder::new(&args.folder.dir);
    folder.paired()?;
    let journal = folder.journal()?;
    let records = if args.open { journal.open_ones()? } else { journal.latest(args.last)? };
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|record| {
            vec![
                record.created_at.to_string(),
                say::money(record.amount, None),
                say::standing(record).to_owned(),
                record.order_id.clone().unwrap_or_default(),
                record.request_id.to_string(),
            ]
        })
        .collect();
    if rows.is_empty() {
        out.say(if args.open { "every payment has its outcome" } else { "no payments yet" });
    } else {
        out.table(&["when", "amount", "outcome", "order", "request"], &rows);
    }
    let objects: Vec<Value> = records.iter().map(say::object).collect();
    out.object(&json!({ "payments": objects }));
    Ok(())
}
