//! `warifu reader pay`: one payment. The journal first, then the request, then what the issuer says.

use tokio::sync::Notify;
use warifu_proto::code::Scanned;
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::directory::Directory;
use warifu_proto::limits::DESCRIPTION_MAX;
use warifu_proto::message::{Capture, check_text};
use warifu_proto::money::Money;
use warifu_proto::request_id::RequestId;
use warifu_reader::{
    Attempt, BeginError, Ended, How, Order, Outcome, Progress, Record, RouteError, Standing,
    request_id,
};
use warifu_server::{chance, clock};

use super::till::{Till, issuer_name};
use super::{Folder, PayArgs, input, say};
use crate::fail::{Exit, Failure};
use crate::out::Out;
use crate::paths;

pub(super) async fn run(args: &PayArgs, out: &Out) -> Result<(), Failure> {
    let folder = Folder::new(&args.folder.dir);
    let till = Till::open(&folder).await?;
    let wish = Wish::of(args)?;
    warn_of_open(&till, &folder, out)?;
    let scanned = input::code(args, out).await?;
    let ended = till.pay(&wish, scanned, |progress| tell(progress, out)).await?;
    out.object(&say::object(&ended.record));
    finish(&till, &folder, ended, out)
}

fn tell(progress: Progress, out: &Out) {
    match progress {
        Progress::Repeating => out.progress("no answer; asking again with the same request"),
        Progress::AwaitingPayer => out.progress("the payer has to confirm on the phone"),
        Progress::Reversing => out.progress("no answer in time; making sure that nothing is paid"),
    }
}

fn warn_of_open(till: &Till, folder: &Folder, out: &Out) -> Result<(), Failure> {
    let (open, _) = till.journal.unresolved()?;
    if open > 0 {
        let (things, have) = if open == 1 { ("payment", "has") } else { ("payments", "have") };
        out.warn(format_args!(
            "{open} earlier {things} or refunds {have} not ended: warifu reader resolve --dir {}",
            paths::shown(folder.dir())
        ));
    }
    Ok(())
}

/// Says how it ended, and ends with its exit code.
pub(super) fn finish(till: &Till, folder: &Folder, ended: Ended, out: &Out) -> Result<(), Failure> {
    let Ended { record, outcome } = ended;
    let amount = say::money(record.amount, Some(&till.directory.current()));
    let (id, dir) = (&record.request_id, paths::shown(folder.dir()));
    let told = |exit| if out.json { Err(Failure::told(exit)) } else { Ok(()) };
    match outcome {
        Outcome::Decided(payment) => {
            out.say(say::decided(&payment, &amount));
            if say::is_good(&payment) { Ok(()) } else { Err(Failure::told(Exit::Refused)) }
        }
        Outcome::Reversed { .. } => {
            out.say(say::reversed(&record));
            Err(Failure::told(Exit::Refused))
        }
        Outcome::Stands(payment) => {
            told(Exit::Refused)?;
            Err(Failure::refused(format_args!(
                "the payment {} stands: the day in which it was made has closed",
                payment.payment_id
            ))
            .next(format_args!("warifu reader refund --request-id {id} --dir {dir}")))
        }
        Outcome::Refused(problem) => {
            told(Exit::Refused)?;
            let problem = serde_json::to_value(&problem).unwrap_or_default();
            Err(Failure::problem(problem).during("refused, nothing was paid"))
        }
        Outcome::NotTaken => {
            told(Exit::Unreachable)?;
            let name = issuer_name(&till.directory.current(), record.route);
            Err(Failure::unreachable(format_args!(
                "nothing was paid: {} could not be reached",
                name.as_deref().unwrap_or("the issuer")
            ))
            .next("repeat the command with the same code, or take another way to pay"))
        }
        Outcome::Reversing(why) => {
            told(Exit::Unreachable)?;
            Err(Failure::unreachable(format_args!(
                "NOT PAID: {amount}: {}. It is being reversed, and will never count as paid",
                say::why(&why)
            ))
            .next(format_args!("warifu reader resolve {id} --dir {dir}")))
        }
    }
}

/// What the cashier wants, but for the code.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// In units of the currency, as a person types it.
    pub(crate) amount: String,
    /// The issuer's only one if missing.
    pub(crate) currency: Option<CurrencyCode>,
    /// The till's own id of the sale.
    pub(crate) order_id: Option<String>,
    /// For people.
    pub(crate) description: Option<String>,
    /// A new one if missing.
    pub(crate) request_id: Option<RequestId>,
    /// How long to wait.
    pub(crate) deadline_ms: u64,
}

impl Wish {
    fn of(args: &PayArgs) -> Result<Self, Failure> {
        if let Some(text) = &args.description {
            check_text("--description", text, DESCRIPTION_MAX)?;
        }
        Ok(Self {
            amount: args.amount.clone(),
            currency: args.currency.as_deref().map(CurrencyCode::parse).transpose()?,
            order_id: args.order_id.clone(),
            description: args.description.clone(),
            request_id: args.request_id.as_deref().map(RequestId::parse).transpose()?,
            deadline_ms: args.deadline_ms,
        })
    }
}

impl Till {
    /// Asks for a payment and drives it to its outcome.
    pub(crate) async fn pay(
        &self,
        wish: &Wish,
        scanned: Scanned,
        progress: impl Fn(Progress) + Send,
    ) -> Result<Ended, Failure> {
        let directory = self.directory_for(&scanned).await;
        let amount = amount(wish, &scanned, &directory)?;
        let now = clock::now();
        let order = Order {
            request_id: wish.request_id.clone().unwrap_or_else(|| request_id(now, chance::bytes())),
            scanned,
            amount,
            capture: Capture::Now,
            order_id: wish.order_id.clone(),
            description: wish.description.clone(),
            deadline_ms: Some(wish.deadline_ms),
        };
        let known = self.journal.find(&order.request_id)?;
        let attempt = match known {
            Some(known) => again(known, &order, &directory)?,
            None => Attempt::begin(&order, &directory, now).map_err(|error| not_begun(&error))?,
        };
        self.drive(attempt, &Notify::new(), progress).await
    }
}

/// An id that is in the journal already: the same attempt is repeated, another is refused.
fn again(known: Record, order: &Order, directory: &Directory) -> Result<Attempt, Failure> {
    let id = &order.request_id;
    let now = clock::now();
    let ended = |how: &str| {
        Failure::usage(format_args!("the request {id} has ended already: {how}"))
            .next("for another sale give another --request-id, or none")
    };
    match &known.standing {
        // The id was never bound.
        Standing::Refused { .. } | Standing::NotTaken => {
            Attempt::begin(order, directory, now).map_err(|error| not_begun(&error))
        }
        _ if !known.is_same_as(order) => {
            Err(Failure::usage(format_args!("the request id {id} was used for another payment"))
                .next("give another --request-id, or none"))
        }
        Standing::Open | Standing::Unknown => {
            let wait_ms = order.deadline_ms.unwrap_or(known.deadline_ms);
            Attempt::resume(known, How::Repeat, wait_ms, directory, now)
                .map_err(|error| not_begun(&error.into()))
        }
        Standing::Reversing { .. } => Err(Failure::usage(format_args!(
            "the request {id} is being reversed, and will never count as paid"
        ))
        .next("for another try give another --request-id, or none")),
        Standing::Reversed { .. } => Err(ended("reversed")),
        Standing::Decided { payment } => Err(ended(say::word(payment.status))),
    }
}

/// The amount in the currency that was given, or in the issuer's only one.
fn amount(wish: &Wish, scanned: &Scanned, directory: &Directory) -> Result<Money, Failure> {
    let issuer = directory
        .issuer_of(&scanned.code)
        .ok_or_else(|| not_begun(&BeginError::Route(RouteError::PrefixUnknown)))?;
    let code = match (wish.currency, issuer.currencies.as_slice()) {
        (Some(code), _) => code,
        (None, [only]) => *only,
        (None, several) => {
            let several: Vec<_> = several.iter().map(ToString::to_string).collect();
            return Err(Failure::usage(format_args!(
                "{} has accounts in several currencies",
                issuer.name
            ))
            .next(format_args!("say which: --currency {}", several.join(" or --currency "))));
        }
    };
    let currency: Currency = directory.currency(code).ok_or_else(|| {
        Failure::usage(format_args!("no currency {code} is known in this network"))
            .next("give the ISO 4217 code, such as JPY, or the code that the registrar gave out")
    })?;
    let during = |failure: Failure| failure.during(format_args!("--amount, in {code}"));
    let minor = currency.parse_minor(&wish.amount).map_err(|error| during(error.into()))?;
    Money::new(minor, code).map_err(|error| during(error.into()))
}

pub(super) fn not_begun(error: &BeginError) -> Failure {
    match error {
        BeginError::Malformed(malformed) => Failure::usage(malformed),
        BeginError::Route(RouteError::PrefixUnknown) => Failure::refused(error)
            .next("ask for another way to pay; nobody was asked and nothing was paid"),
        BeginError::Route(_) | BeginError::CurrencyUnknown { .. } => {
            Failure::refused(error).next("nothing was paid: ask for another way to pay")
        }
    }
}
