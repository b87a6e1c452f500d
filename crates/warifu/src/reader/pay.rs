//! `warifu reader pay`: one payment. The journal first, then the request, then what the issuer says.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use warifu_proto::code::Scanned;
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::directory::{Directory, Status};
use warifu_proto::limits::DESCRIPTION_MAX;
use warifu_proto::message::{Capture, check_text};
use warifu_proto::money::Money;
use warifu_proto::request_id::RequestId;
use warifu_reader::{
    Attempt, BeginError, How, Input, Order, Outcome, Output, Paired, Progress, Record, Reply,
    RouteError, Send, Standing, request_id,
};
use warifu_server::client::{CallError, Client, Peer};
use warifu_server::follow::DirectoryFollower;
use warifu_server::{chance, clock};

use super::journal::{Begun, Journal};
use super::{Folder, PayArgs, input, say};
use crate::fail::{Exit, Failure};
use crate::out::Out;
use crate::{calls, paths};

/// How old the copy of the directory may be before it is renewed on the way.
const COPY_OLD_MS: u64 = 10 * 60_000;
/// How long a payment waits for the directory, when it waits at all.
const DIRECTORY_PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn run(args: &PayArgs, out: &Out) -> Result<(), Failure> {
    let folder = Folder::new(&args.folder.dir);
    let till = Till::open(&folder).await?;
    let wish = Wish::of(args)?;
    warn_of_open(&till, &folder, out)?;
    let scanned = input::code(args, out).await?;
    let (record, outcome) = till.pay(&wish, scanned, |progress| tell(progress, out)).await?;
    out.object(&say::ended(&record, &outcome));
    finish(&till, &folder, &record, outcome, out)
}

fn tell(progress: Progress, out: &Out) {
    match progress {
        Progress::Repeating => out.progress("no answer; asking again with the same request"),
        Progress::AwaitingPayer => out.progress("the payer has to confirm on the phone"),
    }
}

fn warn_of_open(till: &Till, folder: &Folder, out: &Out) -> Result<(), Failure> {
    let open = till.journal.open_ones()?.len();
    if open > 0 {
        let (payments, have) = if open == 1 { ("payment", "has") } else { ("payments", "have") };
        out.warn(format_args!(
            "{open} earlier {payments} {have} no outcome: warifu reader resolve --dir {}",
            paths::shown(folder.dir())
        ));
    }
    Ok(())
}

/// Says how it ended, and ends with its exit code.
fn finish(
    till: &Till,
    folder: &Folder,
    record: &Record,
    outcome: Outcome,
    out: &Out,
) -> Result<(), Failure> {
    let amount = say::money(record.amount, Some(&till.directory.current()));
    let (id, dir) = (&record.request_id, paths::shown(folder.dir()));
    let told = |exit| if out.json { Err(Failure::told(exit)) } else { Ok(()) };
    match outcome {
        Outcome::Decided(payment) => {
            out.say(say::decided(&payment, &amount));
            if say::is_good(&payment) { Ok(()) } else { Err(Failure::told(Exit::Refused)) }
        }
        Outcome::Refused(problem) => {
            told(Exit::Refused)?;
            let problem = serde_json::to_value(&problem).unwrap_or_default();
            Err(Failure::problem(problem).during("refused, nothing was paid"))
        }
        Outcome::NotTaken => {
            told(Exit::Unreachable)?;
            let issuer = till.directory.current();
            let name = issuer.issuer_of(&record.route.prefix.to_string()).map(|it| it.name.clone());
            Err(Failure::unreachable(format_args!(
                "nothing was paid: {} could not be reached",
                name.as_deref().unwrap_or("the issuer")
            ))
            .next("repeat the command with the same code, or take another way to pay"))
        }
        Outcome::Unknown(why) => {
            told(Exit::Unreachable)?;
            Err(Failure::unreachable(format_args!(
                "UNKNOWN whether {amount} was paid: {}. Do not take it for paid, and not for unpaid",
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

/// A paired reader, ready to take payments.
#[derive(Debug)]
pub(crate) struct Till {
    pub(super) journal: Journal,
    pub(super) directory: DirectoryFollower,
    client: Client,
    paired: Paired,
}

impl Till {
    /// Opens a paired folder.
    pub(crate) async fn open(folder: &Folder) -> Result<Self, Failure> {
        let paired = folder.paired()?;
        let client = calls::client(Arc::new(folder.key(&paired)?))?;
        let directory = folder.directory(&paired).await?;
        Ok(Self { journal: folder.journal()?, directory, client, paired })
    }

    /// The pairing.
    pub(crate) fn paired(&self) -> &Paired {
        &self.paired
    }

    /// Asks for a payment and drives it to its outcome.
    pub(crate) async fn pay(
        &self,
        wish: &Wish,
        scanned: Scanned,
        progress: impl Fn(Progress),
    ) -> Result<(Record, Outcome), Failure> {
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
            Some(known) => self.again(known, &order, &directory)?,
            None => Attempt::begin(&order, &directory, now).map_err(|error| not_begun(&error))?,
        };
        self.drive(attempt, progress).await
    }

    /// An id that is in the journal already: the same attempt is repeated, another is refused.
    fn again(
        &self,
        known: Record,
        order: &Order,
        directory: &Directory,
    ) -> Result<Attempt, Failure> {
        let id = &order.request_id;
        let now = clock::now();
        match &known.standing {
            // The id was never bound.
            Standing::Refused { .. } | Standing::NotTaken => {
                Attempt::begin(order, directory, now).map_err(|error| not_begun(&error))
            }
            Standing::Open | Standing::Unknown if known.is_same_as(order) => {
                let wait_ms = order.deadline_ms.unwrap_or(known.deadline_ms);
                Attempt::resume(known, How::Repeat, wait_ms, directory, now)
                    .map_err(|error| not_begun(&error.into()))
            }
            Standing::Decided { payment } if known.is_same_as(order) => {
                let status = say::word(payment.status);
                Err(Failure::usage(format_args!(
                    "the request {id} has its outcome already: {status}"
                ))
                .next("for another sale give another --request-id, or none"))
            }
            Standing::Open | Standing::Unknown | Standing::Decided { .. } => Err(Failure::usage(
                format_args!("the request id {id} was used for another payment"),
            )
            .next("give another --request-id, or none")),
        }
    }

    /// The directory, renewed first when it does not know the code's issuer or is old.
    async fn directory_for(&self, scanned: &Scanned) -> Arc<Directory> {
        let current = self.directory.current();
        let is_old =
            self.directory.as_of().is_none_or(|at| clock::now().since_ms(at) > COPY_OLD_MS);
        let is_known = current.issuer_of(&scanned.code).is_some_and(|it| {
            it.common.status == Status::Active && it.common.is_active(clock::now())
        });
        if is_known && !is_old {
            return current;
        }
        // Without the hub the copy has to do: it says by name what it does not know.
        let renewed = tokio::time::timeout(DIRECTORY_PATIENCE, self.directory.refresh_once()).await;
        drop(renewed);
        self.directory.current()
    }

    /// Drives an attempt to its outcome.
    pub(super) async fn drive(
        &self,
        mut attempt: Attempt,
        progress: impl Fn(Progress),
    ) -> Result<(Record, Outcome), Failure> {
        let mut is_first_store = attempt.record().standing == Standing::Open;
        loop {
            let (mut next, mut wake) = (None, None);
            while let Some(output) = attempt.poll() {
                match output {
                    Output::Store(record)
                        if is_first_store && record.standing == Standing::Open =>
                    {
                        is_first_store = false;
                        self.begin(&record)?;
                        next = Some(Input::Stored);
                    }
                    // What the cashier is told may not wait for a disk: the record stays open, and is resolved later.
                    Output::Store(record) => self.journal.put(&record).unwrap_or_default(),
                    Output::Send(send) => {
                        let reply = self.send(&send).await;
                        next = Some(Input::Answered { number: send.number, reply });
                    }
                    Output::Progress(it) => progress(it),
                    Output::Outcome(outcome) => return Ok((attempt.record().clone(), *outcome)),
                    Output::WakeAt(at) => wake = Some(at),
                }
            }
            let input = match (next, wake) {
                (Some(input), _) => input,
                (None, at) => {
                    let ms = at.map_or(0, |at| at.since_ms(clock::now()));
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    Input::Tick
                }
            };
            attempt.handle(input, clock::now());
        }
    }

    fn begin(&self, record: &Record) -> Result<(), Failure> {
        let nothing_sent = |failure: Failure| failure.during("nothing was sent");
        match self.journal.begin(record).map_err(nothing_sent)? {
            Begun::New => Ok(()),
            Begun::Known(known) if !known.standing.is_open() => {
                self.journal.put(record).map_err(nothing_sent)
            }
            Begun::Known(_) => Err(Failure::usage(format_args!(
                "nothing was sent: another warifu is paying with the request id {}",
                record.request_id
            ))),
        }
    }

    /// One call. Only "never connected" proves that nothing left.
    async fn send(&self, send: &Send) -> Reply {
        let peer = Peer { url: send.url.clone(), key: send.key.clone() };
        let method = if send.call.method() == "POST" { Method::POST } else { Method::GET };
        let path = send.call.path_and_query();
        let deadline = Duration::from_millis(send.timeout_ms);
        let called = self
            .client
            .call(&peer, method, &path, send.call.body(), deadline, HeaderMap::new())
            .await;
        match called {
            Ok(answer) => Reply::Signed {
                status: answer.status.as_u16(),
                retry_after_s: answer
                    .headers
                    .get(RETRY_AFTER)
                    .and_then(|it| it.to_str().ok()?.parse().ok()),
                body: answer.body.to_vec(),
            },
            Err(CallError::Unreachable { .. }) => Reply::NotSent,
            Err(
                CallError::TimedOut { .. }
                | CallError::Broken { .. }
                | CallError::Unverified { .. },
            ) => Reply::Nothing,
        }
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

fn not_begun(error: &BeginError) -> Failure {
    match error {
        BeginError::Malformed(malformed) => Failure::usage(malformed),
        BeginError::Route(RouteError::PrefixUnknown) => Failure::refused(error)
            .next("ask for another way to pay; nobody was asked and nothing was paid"),
        BeginError::Route(_) | BeginError::CurrencyUnknown { .. } => {
            Failure::refused(error).next("nothing was paid: ask for another way to pay")
        }
    }
}
