//! The parts of the demo's network, started in the order of a network's life.

use std::path::Path;
use std::time::{Duration, Instant};

use warifu_proto::code::{Prefix, Scanned};
use warifu_proto::id::ReaderId;
use warifu_proto::limits::{DEADLINE_DEFAULT_MS, LIFETIME_DEFAULT_S};
use warifu_proto::link::InvitationLink;
use warifu_proto::message::{AccountKind, Payment};
use warifu_reader::Outcome;
use warifu_terminal::Input;

use crate::fail::Failure;
use crate::local::{How, IssuerWish, LocalNetwork, pairing_link};
use crate::out::Out;
use crate::reader::{self, Till};
use crate::terminal::drive::{Driver, Event};
use crate::terminal::{folder as terminal_folder, link_up};

/// What every answer rests on.
pub(super) const STORE: &str =
    "SQLite, every commit synced to disk before its answer (WAL, synchronous=FULL)";
/// How many links there are for others to join with, of each kind.
const SPARE: usize = 3;
/// How long a new reader's entry may take to reach an issuer.
const NEWS_PATIENCE: Duration = Duration::from_secs(3);
/// How long the first code may take to be acknowledged.
const ACK_PATIENCE: Duration = Duration::from_secs(5);

/// Everything that is up.
pub(super) struct DemoNetwork {
    pub(super) local: LocalNetwork,
    pub(super) spare_invitations: Vec<(Prefix, String)>,
    pub(super) spare_pairing_links: Vec<String>,
}

/// What the first payment was, and how long its parts took.
pub(super) struct FirstPayment {
    pub(super) payment: Payment,
    pub(super) reader_id: ReaderId,
    pub(super) show_ms: f64,
    pub(super) register_ms: f64,
    pub(super) pay_ms: f64,
}

impl DemoNetwork {
    /// Starts all of it and links and pairs the first phone and till.
    pub(super) async fn start(dir: &Path, how: &How, out: &Out) -> Result<Self, Failure> {
        let wish = |folder: &str, name: &str, prefix, kind| -> Result<IssuerWish, Failure> {
            let prefix = Prefix::parse(prefix)?;
            Ok(IssuerWish { folder: folder.to_owned(), name: name.to_owned(), prefix, kind })
        };
        let wishes = [
            wish("aoba", "Aoba Pay", "71000001", AccountKind::Prepaid)?,
            wish("kaede", "Kaede Later", "71000002", AccountKind::Credit)?,
        ];
        let local = LocalNetwork::start(dir, &wishes, how, out).await?;
        let mut it = Self { local, spare_invitations: Vec::new(), spare_pairing_links: Vec::new() };
        it.join().await?;
        Ok(it)
    }

    /// The demo's own phone and till, and links for others.
    async fn join(&mut self) -> Result<(), Failure> {
        let aoba = self.local.issuers.first();
        let aoba = aoba.ok_or_else(|| Failure::refused("there is no issuer"))?;
        let invitation = aoba.invite("Hana", 50_000).await?;
        let phone = terminal_folder::Folder::new(&self.local.dir.join("phone"));
        link_up(&phone, InvitationLink::parse(&invitation)?, "Demo phone", |_| ()).await?;

        let side = self.local.merchant_side().await?;
        let till = reader::Folder::new(&self.local.dir.join("till"));
        reader::pair_up(&till, pairing_link(&side).await?, "Demo till", |_| ()).await?;

        for issuer in &self.local.issuers {
            for number in 1..=SPARE {
                let link = issuer.invite(&format!("Guest {number}"), 10_000).await?;
                self.spare_invitations.push((issuer.card.prefix, link));
            }
        }
        for _ in 0..SPARE {
            self.spare_pairing_links.push(pairing_link(&side).await?.to_string());
        }
        Ok(())
    }

    /// Shows a code on the phone, has it registered, and lets the till be paid by it.
    pub(super) async fn first_payment(&self) -> Result<FirstPayment, Failure> {
        let began = Instant::now();
        let mut phone =
            Driver::open(terminal_folder::Folder::new(&self.local.dir.join("phone"))).await?;
        phone.give(Input::Show(warifu_terminal::Wish {
            lifetime_s: LIFETIME_DEFAULT_S,
            cap_minor: None,
        }))?;
        let mut shown: Option<(String, Instant)> = None;
        let (digits, shown_at) = loop {
            let event = tokio::time::timeout(ACK_PATIENCE, phone.next()).await;
            match event.map_err(|_| Failure::unreachable("the code was not acknowledged"))?? {
                Event::Show(screen) if shown.is_none() => {
                    shown = Some((screen.digits.to_string(), Instant::now()))
                }
                Event::Acked { .. } => {
                    let (digits, at) = shown
                        .take()
                        .ok_or_else(|| Failure::refused("acknowledged before it was shown"))?;
                    break (digits, at);
                }
                Event::Trouble(trouble) => return Err(Failure::refused(trouble)),
                _ => {}
            }
        };
        let (show_ms, register_ms) = (ms(shown_at - began), ms(shown_at.elapsed()));
        let till = Till::open(&reader::Folder::new(&self.local.dir.join("till"))).await?;
        let wish = reader::Wish {
            amount: "1200".to_owned(),
            currency: None,
            order_id: Some("demo-1".to_owned()),
            description: Some("Bread".to_owned()),
            request_id: None,
            deadline_ms: DEADLINE_DEFAULT_MS,
        };
        let news = Instant::now();
        loop {
            let paying = Instant::now();
            let outcome = till.pay(&wish, Scanned::parse(&digits)?, |_| ()).await?.outcome;
            match outcome {
                Outcome::Decided(payment) => {
                    let reader_id = till.paired().reader;
                    return Ok(FirstPayment {
                        payment,
                        reader_id,
                        show_ms,
                        register_ms,
                        pay_ms: ms(paying.elapsed()),
                    });
                }
                // The till is so new that its entry is still on the way from the hub to the issuer.
                Outcome::Refused(problem)
                    if problem.code == "key_unknown" && news.elapsed() < NEWS_PATIENCE =>
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Outcome::Refused(problem) => {
                    return Err(Failure::problem(
                        serde_json::to_value(problem).unwrap_or_default(),
                    ));
                }
                Outcome::NotTaken
                | Outcome::Reversed { .. }
                | Outcome::Reversing(_)
                | Outcome::Stands(_) => {
                    return Err(Failure::unreachable("the first payment was not answered in time"));
                }
            }
        }
    }
}

/// Milliseconds with two decimals.
#[expect(clippy::float_arithmetic, reason = "a time to be shown, not money")]
pub(super) fn ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 100_000.0).round() / 100.0
}
