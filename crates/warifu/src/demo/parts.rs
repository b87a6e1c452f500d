//! The parts of the demo's network, started in the order of a network's life.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use warifu_proto::code::{Prefix, Scanned};
use warifu_proto::currency::CurrencyCode;
use warifu_proto::directory::Right;
use warifu_proto::id::{MerchantId, ReaderId};
use warifu_proto::limits::{DEADLINE_DEFAULT_MS, LIFETIME_DEFAULT_S};
use warifu_proto::link::InvitationLink;
use warifu_proto::message::{AccountKind, Payment};
use warifu_proto::pairing::PairingLink;
use warifu_reader::Outcome;
use warifu_server::client::{Client, Peer};
use warifu_server::config::process_env;
use warifu_server::{chance, clock, keyfile};
use warifu_terminal::Input;

use crate::card::{Card, IssuerCard};
use crate::fail::Failure;
use crate::merchant::folder as merchant_folder;
use crate::merchant::pairing::{Grant, MerchantSide, Step, serve_pairing};
use crate::out::Out;
use crate::reader::{self, Till};
use crate::registrar::{Registrar, Standing, publish};
use crate::terminal::drive::{Driver, Event};
use crate::terminal::{folder as terminal_folder, link_up};
use crate::{calls, hub, issuer};

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
    pub(super) dir: PathBuf,
    pub(super) hub: warifu_hub::Running,
    pub(super) issuers: Vec<DemoIssuer>,
    pub(super) merchant_id: MerchantId,
    pub(super) spare_invitations: Vec<(Prefix, String)>,
    pub(super) spare_pairing_links: Vec<String>,
}

/// An issuer with its operator.
pub(super) struct DemoIssuer {
    pub(super) card: IssuerCard,
    pub(super) dir: PathBuf,
    pub(super) running: warifu_issuer::Running,
    operator: Client,
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
    pub(super) async fn start(dir: &Path, out: &Out) -> Result<Self, Failure> {
        let now = clock::now();
        let mut registrar = Registrar::init(&dir.join("registrar"), now)?;
        let network = registrar.network().clone();

        let listen = free_port()?;
        let hub_dir = dir.join("hub");
        let hub_url = format!("http://{listen}");
        let card = hub::init(
            &hub::Wish { dir: &hub_dir, network: &network, listen, url: hub_url.clone() },
            now,
        )?;
        registrar.sign_card(&Card::Hub(card), Standing::ACTIVE_FOR_A_YEAR, now)?;

        let mut cards = Vec::new();
        for (folder, name, prefix, kind) in [
            ("aoba", "Aoba Pay", "71000001", AccountKind::Prepaid),
            ("kaede", "Kaede Later", "71000002", AccountKind::Credit),
        ] {
            let listen = free_port()?;
            let dir = dir.join(folder);
            let (prefix, currency) = (Prefix::parse(prefix)?, CurrencyCode::parse("JPY")?);
            let (hub, url) = (hub_url.clone(), format!("http://{listen}"));
            let card = issuer::init(
                &issuer::Wish {
                    dir: &dir,
                    network: &network,
                    name,
                    prefix,
                    currency,
                    kind,
                    hub,
                    listen,
                    url,
                },
                now,
            )?;
            registrar.sign_card(&Card::Issuer(card.clone()), Standing::ACTIVE_FOR_A_YEAR, now)?;
            cards.push((dir, card));
        }
        let merchant_dir = dir.join("bakery");
        let wish = merchant_folder::Wish {
            dir: &merchant_dir,
            network: &network,
            name: "Aoba Bakery",
            category: "5462",
            hub: hub_url,
        };
        let merchant = merchant_folder::init(&wish, now)?;
        registrar.sign_card(&Card::Merchant(merchant.clone()), Standing::ACTIVE_FOR_A_YEAR, now)?;

        let hub =
            warifu_hub::start(warifu_hub::Config::load(&hub_dir, process_env)?, &hub_dir).await?;
        publish(&registrar, None, out).await?;
        drop(registrar);
        let mut issuers = Vec::new();
        for (dir, card) in cards {
            issuers.push(DemoIssuer::start(dir, card).await?);
        }
        let mut it = Self {
            dir: dir.to_owned(),
            hub,
            issuers,
            merchant_id: merchant.id,
            spare_invitations: Vec::new(),
            spare_pairing_links: Vec::new(),
        };
        it.join().await?;
        Ok(it)
    }

    /// The demo's own phone and till, and links for others.
    async fn join(&mut self) -> Result<(), Failure> {
        let aoba = self.issuers.first().ok_or_else(|| Failure::refused("there is no issuer"))?;
        let invitation = aoba.invite("Hana", 50_000).await?;
        let folder = terminal_folder::Folder::new(&self.dir.join("phone"));
        link_up(&folder, InvitationLink::parse(&invitation)?, "Demo phone", |_| ()).await?;

        let side =
            Arc::new(merchant_folder::Merchant::open(&self.dir.join("bakery"))?.side().await?);
        let link = pairing_link(&side).await?;
        let till = reader::Folder::new(&self.dir.join("till"));
        reader::pair_up(&till, link, "Demo till", |_| ()).await?;

        for issuer in &self.issuers {
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
        let mut phone = Driver::open(terminal_folder::Folder::new(&self.dir.join("phone"))).await?;
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
        let till = Till::open(&reader::Folder::new(&self.dir.join("till"))).await?;
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

    /// Ends everything; what was answered is on disk.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        for issuer in self.issuers {
            issuer.running.shutdown().await?;
        }
        self.hub.shutdown().await?;
        Ok(())
    }
}

impl DemoIssuer {
    async fn start(dir: PathBuf, card: IssuerCard) -> Result<Self, Failure> {
        let config = issuer::load(&dir)?;
        let running = warifu_issuer::start(config, &dir).await?;
        let operator = calls::client(Arc::new(keyfile::read(dir.join(issuer::OPERATOR_KEY))?))?;
        Ok(Self { card, dir, running, operator })
    }

    /// Opens an account with so much to spend, and invites a terminal to it.
    async fn invite(&self, name: &str, minor: u64) -> Result<String, Failure> {
        let prepaid = self.card.name == "Aoba Pay";
        let request_id =
            |what: &str| format!("demo-{what}-{:032x}", u128::from_be_bytes(chance::bytes()));
        let mut wish = json!({ "request_id": request_id("open"), "name": name });
        if !prepaid {
            wish["credit_limit_minor"] = json!(minor);
        }
        let opened = self.post("/admin/v1/accounts", &wish).await?;
        let account = opened["account_id"].as_str().unwrap_or_default().to_owned();
        if prepaid {
            let amount = json!({ "minor": minor, "currency": "JPY" });
            let wish = json!({ "request_id": request_id("top-up"), "amount": amount });
            self.post(&format!("/admin/v1/accounts/{account}/top-ups"), &wish).await?;
        }
        let invitation =
            self.post("/admin/v1/invitations", &json!({ "account_id": account })).await?;
        Ok(invitation["link"].as_str().unwrap_or_default().to_owned())
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let peer = Peer { url: self.running.url.clone(), key: self.card.key.clone() };
        calls::ask(
            &self.operator,
            &peer,
            Method::POST,
            path,
            Some(calls::body(body)),
            calls::DEADLINE,
        )
        .await
    }
}

/// Opens a pairing and serves it until a reader has used it or its time is over.
async fn pairing_link(side: &Arc<MerchantSide>) -> Result<PairingLink, Failure> {
    let (sender, mut links) = mpsc::channel(1);
    let side = Arc::clone(side);
    tokio::spawn(async move {
        let grant = Grant { name: None, rights: vec![Right::Refund], valid_days: 365 };
        let told = |step: Step<'_>| {
            if let Step::Open { link, .. } = step {
                // There is room for the one link that is ever sent.
                drop(sender.try_send(link.clone()));
            }
        };
        if let Err(failure) = serve_pairing(&side, &grant, std::future::pending(), told).await {
            tracing::info!(%failure, "a pairing link ended unused");
        }
    });
    links.recv().await.ok_or_else(|| Failure::unreachable("the hub opened no pairing"))
}

/// A port that nobody listens on at this moment.
fn free_port() -> Result<SocketAddr, Failure> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound.map_err(|error| Failure::usage("no port is free on 127.0.0.1").because(&error))
}

/// Milliseconds with two decimals.
#[expect(clippy::float_arithmetic, reason = "a time to be shown, not money")]
pub(super) fn ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 100_000.0).round() / 100.0
}
