//! `warifu reader resolve`: what became of payments without an outcome; and `warifu reader payments`: what the journal
//! says.

use serde_json::{Value, json};
use warifu_proto::request_id::RequestId;
use warifu_reader::{Attempt, CODE_DEAD_AFTER_MS, How, Outcome, Record, Why};
use warifu_server::clock;

use super::pay::Till;
use super::{Folder, PaymentsArgs, ResolveArgs, say};
use crate::fail::{Exit, Failure};
use crate::out::Out;
use crate::paths;
use crate::terminal::time_of_day;

pub(super) async fn run(args: &ResolveArgs, out: &Out) -> Result<(), Failure> {
    let folder = Folder::new(&args.folder.dir);
    let till = Till::open(&folder).await?;
    let records = match &args.request_id {
        Some(text) => vec![one(&till, text)?],
        None => till.journal.open_ones()?,
    };
    let mut ended: Vec<Value> = Vec::new();
    let mut unknown = 0_u32;
    for record in records {
        out.progress(format_args!("asking about {}", record.request_id));
        let object = if record.standing.is_open() {
            let (record, outcome) = resolve(&till, record, args).await?;
            unknown += u32::from(record.standing.is_open());
            tell(&till, &record, &outcome, out);
            say::ended(&record, &outcome)
        } else {
            let amount = say::money(record.amount, Some(&till.directory.current()));
            out.say(format_args!("{}: {} {amount}", record.request_id, say::standing(&record)));
            say::object(&record)
        };
        ended.push(object);
    }
    if ended.is_empty() {
        out.say("every payment of this reader has its outcome");
    }
    out.object(&json!({ "payments": ended, "unknown": unknown }));
    if unknown == 0 {
        return Ok(());
    }
    if out.json {
        return Err(Failure::told(Exit::Unreachable));
    }
    Err(Failure::unreachable(format_args!("{unknown} still without an outcome"))
        .next(format_args!("warifu reader resolve --dir {}", paths::shown(folder.dir()))))
}

fn one(till: &Till, text: &str) -> Result<Record, Failure> {
    let id = RequestId::parse(text)?;
    till.journal.find(&id)?.ok_or_else(|| {
        Failure::usage(format_args!("the journal has no payment {id}"))
            .next("warifu reader payments lists those that it has")
    })
}

async fn resolve(
    till: &Till,
    record: Record,
    args: &ResolveArgs,
) -> Result<(Record, Outcome), Failure> {
    let how = if args.repeat { How::AskThenRepeat } else { How::Ask };
    let id = record.request_id.clone();
    let directory = till.directory.current();
    let attempt = Attempt::resume(record, how, args.wait_ms, &directory, clock::now())
        .map_err(|error| Failure::refused(error).during(id))?;
    till.drive(attempt, |_| {}).await
}

fn tell(till: &Till, record: &Record, outcome: &Outcome, out: &Out) {
    let amount = say::money(record.amount, Some(&till.directory.current()));
    match outcome {
        Outcome::Decided(payment) => out.say(say::decided(payment, &amount)),
        Outcome::Refused(problem) => out.say(format_args!(
            "refused: {} Nothing was paid.\nrequest {}",
            problem.title, record.request_id
        )),
        Outcome::NotTaken => {
            out.say(format_args!("nothing was paid\nrequest {}", record.request_id));
        }
        Outcome::Unknown(why) => {
            out.say(format_args!(
                "UNKNOWN: {amount}: {}\nrequest {}",
                say::why(why),
                record.request_id
            ));
            if *why == Why::NotKnown {
                let dead_at = record.created_at.plus_ms(CODE_DEAD_AFTER_MS);
                out.say(format_args!(
                    "After {} its code is dead, and resolving ends it; --repeat ends it now, \
                     and it may be approved by that.",
                    time_of_day(dead_at)
                ));
            }
        }
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
