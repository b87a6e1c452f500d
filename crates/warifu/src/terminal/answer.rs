//! `warifu terminal confirm` and `refuse`: the payer's word on a question that another command has told. What is said
//! is stored first, so a repeat, or any later command on the folder, says the same.

use std::time::Duration;

use tokio::time::Instant;
use warifu_proto::id::PaymentId;
use warifu_proto::limits::CONFIRM_LIFETIME_MS;
use warifu_proto::notice::Verdict;
use warifu_server::clock;
use warifu_terminal::{Input, Question, Trouble};

use super::AnswerArgs;
use super::ask::{heard_line, heard_object};
use super::drive::{Driver, Event};
use super::folder::Folder;
use super::say::or_link_ended;
use crate::fail::Failure;
use crate::out::Out;
use crate::paths;

/// The machine says by itself that a question is over; this is for the case that it does not.
const PATIENCE: Duration = Duration::from_millis(CONFIRM_LIFETIME_MS + 5_000);

pub(super) async fn run(args: &AnswerArgs, verdict: Verdict, out: &Out) -> Result<(), Failure> {
    let payment = PaymentId::parse(&args.payment)?;
    let folder = Folder::new(&args.folder.dir);
    let dir = paths::shown(folder.dir());
    let link = folder.linked()?;
    let question = link.questions.iter().find(|it| it.payment() == payment).ok_or_else(|| {
        Failure::refused(format_args!("{dir} has no question about {payment}"))
            .next(format_args!("see what is asked: warifu terminal watch --dir {dir}"))
    })?;
    match question.verdict {
        Some(said) if said != verdict => return Err(said_before(said)),
        Some(said) if question.is_over => {
            out.say(heard_line(payment, said, &link));
            out.object(&heard_object(payment, said));
            return Ok(());
        }
        None if is_late(question, &link) => return Err(too_late(&dir)),
        Some(_) | None => {}
    }
    let Some(mut driver) = Driver::answering(folder).await? else {
        return Err(Failure::usage(format_args!("another warifu answers a question of {dir}"))
            .next("repeat the command when that one has ended"));
    };
    driver.give(Input::Verdict { payment, verdict })?;
    let stands = heard(&mut driver, payment, &dir, out).await?;
    if stands != verdict {
        return Err(said_before(stands));
    }
    out.say(heard_line(payment, verdict, driver.link()));
    out.object(&heard_object(payment, verdict));
    Ok(())
}

fn is_late(question: &Question, link: &warifu_terminal::Link) -> bool {
    question.is_over || question.expires_at() <= link.issuer_time(clock::now())
}

/// Waits until the issuer has heard it; the word that stands.
async fn heard(
    driver: &mut Driver,
    payment: PaymentId,
    dir: &str,
    out: &Out,
) -> Result<Verdict, Failure> {
    let unheard = || {
        Failure::unreachable("nobody has said that the answer was heard in time")
            .next(format_args!("see what became of the payment: warifu terminal watch --dir {dir}"))
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let event = tokio::select! {
            event = driver.next() => event?,
            () = tokio::time::sleep_until(deadline) => return Err(unheard()),
        };
        match event {
            Event::Heard { payment: of, verdict } if of == payment => return Ok(verdict),
            Event::Trouble(Trouble::NothingToAnswer { payment: of }) if of == payment => {
                return Err(too_late(dir));
            }
            Event::Trouble(Trouble::VerdictUnheard { payment: of }) if of == payment => {
                return Err(unheard());
            }
            Event::Trouble(trouble) => match &trouble {
                Trouble::VerdictRefused { payment: of, code, .. } if *of == payment => {
                    let failure = Failure::refused(&trouble);
                    return Err(or_link_ended(failure, code, driver.link()));
                }
                _ => out.warn(trouble),
            },
            // Told by `show` and `watch`.
            _ => {}
        }
    }
}

fn said_before(said: Verdict) -> Failure {
    Failure::refused(match said {
        Verdict::Confirm => "this payment was confirmed before, and the first word stands",
        Verdict::Refuse => "this payment was refused before, and the first word stands",
    })
}

fn too_late(dir: &str) -> Failure {
    Failure::refused("the question is over: it was decided, answered, or is too late")
        .next(format_args!("see what became of the payment: warifu terminal watch --dir {dir}"))
}
