//! A network on this machine, in one folder: registrar, hub, issuers and a merchant, made by the functions of the
//! other commands in the order of a network's life. Demo and storm add terminals and readers.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use warifu_proto::code::Prefix;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::directory::Right;
use warifu_proto::id::MerchantId;
use warifu_proto::message::AccountKind;
use warifu_proto::pairing::PairingLink;
use warifu_server::client::{Client, Peer};
use warifu_server::config::process_env;
use warifu_server::{chance, clock, keyfile};

use crate::card::{Card, IssuerCard};
use crate::fail::Failure;
use crate::kept::{Kept, Program};
use crate::merchant::folder as merchant_folder;
use crate::merchant::pairing::{Grant, MerchantSide, Step, serve_pairing};
use crate::out::Out;
use crate::registrar::{Registrar, Standing, publish};
use crate::wire::{self, Faults, Socket, Wire};
use crate::{calls, hub, issuer};

/// What local tills may do: everything, so that everything can be tried.
const ALL_RIGHTS: [Right; 4] = [Right::Capture, Right::Refund, Right::ReverseAny, Right::Feed];
/// Above this amount local payers confirm on the phone, in minor units.
const CONFIRM_ABOVE_MINOR: u64 = 5_000;

/// How the servers run.
#[derive(Debug, Clone)]
pub(crate) enum How {
    /// In this process.
    Here,
    /// Each a process of its own behind a wire, so that it can be killed.
    BehindWires(Arc<Faults>),
}

/// An issuer to be made.
#[derive(Debug, Clone)]
pub(crate) struct IssuerWish {
    /// Its folder in the network's.
    pub(crate) folder: String,
    /// For people.
    pub(crate) name: String,
    /// The first digits of its codes.
    pub(crate) prefix: Prefix,
    /// What its accounts are.
    pub(crate) kind: AccountKind,
}

/// The servers and the merchant.
pub(crate) struct LocalNetwork {
    pub(crate) dir: PathBuf,
    pub(crate) hub: Server,
    pub(crate) issuers: Vec<LocalIssuer>,
    pub(crate) merchant_id: MerchantId,
}

/// A server that is up.
pub(crate) struct Server {
    /// Under which address others call it.
    pub(crate) url: String,
    served: Served,
}

enum Served {
    Hub(warifu_hub::Running),
    Issuer(warifu_issuer::Running),
    Behind { kept: Arc<Kept>, wire: Wire },
}

/// An issuer with its operator.
pub(crate) struct LocalIssuer {
    pub(crate) card: IssuerCard,
    pub(crate) dir: PathBuf,
    pub(crate) server: Server,
    kind: AccountKind,
    operator: Client,
}

impl LocalNetwork {
    /// Makes and starts all of it.
    pub(crate) async fn start(
        dir: &Path,
        wishes: &[IssuerWish],
        how: &How,
        out: &Out,
    ) -> Result<Self, Failure> {
        let now = clock::now();
        let mut registrar = Registrar::init(&dir.join("registrar"), now)?;
        let network = registrar.network().clone();

        let place = Place::take(how).await?;
        let (hub_dir, hub_url) = (dir.join("hub"), place.url.clone());
        let card = hub::init(
            &hub::Wish {
                dir: &hub_dir,
                network: &network,
                listen: place.listen,
                url: hub_url.clone(),
            },
            now,
        )?;
        registrar.sign_card(&Card::Hub(card), Standing::ACTIVE_FOR_A_YEAR, now)?;

        let mut made = Vec::new();
        for wish in wishes {
            let place = Place::take(how).await?;
            let dir = dir.join(&wish.folder);
            let card = issuer::init(
                &issuer::Wish {
                    dir: &dir,
                    network: &network,
                    name: &wish.name,
                    prefix: wish.prefix,
                    currency: CurrencyCode::parse("JPY")?,
                    kind: wish.kind,
                    hub: hub_url.clone(),
                    listen: place.listen,
                    url: place.url.clone(),
                },
                now,
            )?;
            registrar.sign_card(&Card::Issuer(card.clone()), Standing::ACTIVE_FOR_A_YEAR, now)?;
            made.push((place, dir, card, wish.kind));
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

        let hub = place.serve(wire::Server::Hub, &hub_dir).await?;
        publish(&registrar, None, out).await?;
        drop(registrar);
        let mut issuers = Vec::new();
        for (place, dir, card, kind) in made {
            let server = place.serve(wire::Server::Issuer, &dir).await?;
            let operator = calls::client(Arc::new(keyfile::read(dir.join(issuer::OPERATOR_KEY))?))?;
            issuers.push(LocalIssuer { card, dir, server, kind, operator });
        }
        Ok(Self { dir: dir.to_owned(), hub, issuers, merchant_id: merchant.id })
    }

    /// The merchant's side of pairing.
    pub(crate) async fn merchant_side(&self) -> Result<Arc<MerchantSide>, Failure> {
        let merchant = merchant_folder::Merchant::open(&self.dir.join("bakery"))?;
        Ok(Arc::new(merchant.side().await?))
    }

    /// Ends everything; what was answered is on disk.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        for issuer in self.issuers {
            issuer.server.stop().await?;
        }
        self.hub.stop().await
    }
}

impl Server {
    /// The process that it is, when it is one of its own.
    pub(crate) fn kept(&self) -> Option<&Arc<Kept>> {
        match &self.served {
            Served::Hub(_) | Served::Issuer(_) => None,
            Served::Behind { kept, .. } => Some(kept),
        }
    }

    async fn stop(self) -> Result<(), Failure> {
        match self.served {
            Served::Hub(running) => running.shutdown().await?,
            Served::Issuer(running) => running.shutdown().await?,
            Served::Behind { kept, wire } => {
                drop(wire);
                kept.end().await;
            }
        }
        Ok(())
    }
}

/// Where a server will listen, and under which address others will call it.
struct Place {
    listen: SocketAddr,
    url: String,
    wire: Option<(Socket, Arc<Faults>)>,
}

impl Place {
    async fn take(how: &How) -> Result<Self, Failure> {
        match how {
            How::Here => {
                let listen = free_port()?;
                Ok(Self { listen, url: format!("http://{listen}"), wire: None })
            }
            How::BehindWires(faults) => {
                let socket = Socket::open().await?;
                let (listen, url) = (free_port()?, socket.url());
                Ok(Self { listen, url, wire: Some((socket, Arc::clone(faults))) })
            }
        }
    }

    async fn serve(self, server: wire::Server, dir: &Path) -> Result<Server, Failure> {
        let Self { listen, url, wire } = self;
        let served = match (wire, server) {
            (None, wire::Server::Hub) => {
                let config = warifu_hub::Config::load(dir, process_env)?;
                Served::Hub(warifu_hub::start(config, dir).await?)
            }
            (None, wire::Server::Issuer) => {
                Served::Issuer(warifu_issuer::start(issuer::load(dir)?, dir).await?)
            }
            (Some((socket, faults)), server) => {
                let role = match server {
                    wire::Server::Hub => "hub",
                    wire::Server::Issuer => "issuer",
                };
                let program = Program {
                    name: format!("the {role} in {}", dir.display()),
                    args: vec![role.into(), "serve".into(), "--dir".into(), dir.into()],
                    log: dir.with_extension("log"),
                    address: listen,
                };
                let kept = Arc::new(Kept::start(program).await?);
                let victim = Arc::clone(&kept);
                let wire = socket.connect(server, listen, &faults, Arc::new(move || victim.kill()));
                Served::Behind { kept, wire }
            }
        };
        Ok(Server { url, served })
    }
}

impl LocalIssuer {
    /// Opens an account with so much to spend, and invites a terminal to it.
    pub(crate) async fn invite(&self, name: &str, minor: u64) -> Result<String, Failure> {
        let request_id =
            |what: &str| format!("local-{what}-{:032x}", u128::from_be_bytes(chance::bytes()));
        let mut wish = json!({ "request_id": request_id("open"), "name": name });
        if self.kind == AccountKind::Credit {
            wish["credit_limit_minor"] = json!(minor);
        }
        let opened = self.post("/admin/v1/accounts", &wish).await?;
        let account = opened["account_id"].as_str().unwrap_or_default().to_owned();
        if self.kind == AccountKind::Prepaid {
            let amount = json!({ "minor": minor, "currency": "JPY" });
            let wish = json!({ "request_id": request_id("top-up"), "amount": amount });
            self.post(&format!("/admin/v1/accounts/{account}/top-ups"), &wish).await?;
        }
        // Above that the phone asks, so that this can be tried as well.
        let limits = json!({ "limits": { "confirm_above_minor": CONFIRM_ABOVE_MINOR } });
        let path = format!("/admin/v1/accounts/{account}/limits");
        self.ask(Method::PUT, &path, Some(&limits)).await?;
        let invitation =
            self.post("/admin/v1/invitations", &json!({ "account_id": account })).await?;
        Ok(invitation["link"].as_str().unwrap_or_default().to_owned())
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// A call of the operator.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let peer = Peer { url: self.server.url.clone(), key: self.card.key.clone() };
        let body = body.map(calls::body);
        calls::ask(&self.operator, &peer, method, path, body, calls::DEADLINE).await
    }
}

/// Opens a pairing and serves it until a reader has used it or its time is over.
pub(crate) async fn pairing_link(side: &Arc<MerchantSide>) -> Result<PairingLink, Failure> {
    let (sender, mut links) = mpsc::channel(1);
    let side = Arc::clone(side);
    tokio::spawn(async move {
        let grant = Grant { name: None, rights: ALL_RIGHTS.to_vec(), valid_days: 365 };
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
pub(crate) fn free_port() -> Result<SocketAddr, Failure> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound.map_err(|error| Failure::usage("no port is free on 127.0.0.1").because(&error))
}
