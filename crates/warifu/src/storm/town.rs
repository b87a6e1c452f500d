//! Everybody in the storm: a hub and issuers behind wires, a merchant with tills, payers with terminals. All of it is made
//! while the network is well.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep};
use warifu_proto::code::Prefix;
use warifu_proto::link::InvitationLink;
use warifu_proto::message::AccountKind;
use warifu_server::client::Peer;
use warifu_server::keyfile;

use super::StormArgs;
use super::agent::Agent;
use super::check::Booked;
use crate::fail::Failure;
use crate::kept::Kept;
use crate::local::{How, IssuerWish, LocalIssuer, LocalNetwork, pairing_link};
use crate::merchant::pairing::MerchantSide;
use crate::out::Out;
use crate::terminal::{folder as terminal_folder, link_up};
use crate::wire::Faults;
use crate::{calls, reader};

/// What each payer has to spend: more than a storm can take.
const BUDGET_MINOR: u64 = 100_000_000;
/// How many are linked or paired at the same time.
const AT_ONCE: usize = 8;
/// How long a new reader's entry may take to reach all issuers.
const NEWS_PATIENCE: Duration = Duration::from_secs(30);
/// Rows of a page of the operator's list.
const PAGE: usize = 500;

/// Everybody.
pub(super) struct Town {
    pub(super) network: LocalNetwork,
    pub(super) agents: Vec<Arc<Agent>>,
    /// Folders of linked terminals.
    pub(super) terminals: Vec<PathBuf>,
}

impl Town {
    /// Makes and starts all of it.
    pub(super) async fn build(
        args: &StormArgs,
        dir: &Path,
        faults: &Arc<Faults>,
        out: &Out,
    ) -> Result<Self, Failure> {
        let wishes = (0..args.issuers).map(issuer_wish).collect::<Result<Vec<_>, _>>()?;
        out.progress(format_args!("starting a hub and {} issuers", args.issuers));
        let how = How::BehindWires(Arc::clone(faults));
        let network = LocalNetwork::start(dir, &wishes, &how, out).await?;

        out.progress(format_args!("pairing {} readers", args.readers));
        let side = network.merchant_side().await?;
        let http = calls::http()?;
        let tills: Vec<PathBuf> =
            (0..args.readers).map(|it| dir.join(format!("till-{it}"))).collect();
        stream::iter(&tills)
            .map(|till| pair(&side, till))
            .buffered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        for till in &tills {
            until_known(&network, till).await?;
        }
        let agents = stream::iter(&tills)
            .map(|till| Agent::start(till, http.clone()))
            .buffered(AT_ONCE)
            .map_ok(Arc::new)
            .try_collect()
            .await?;

        out.progress(format_args!("linking {} terminals", args.terminals));
        let terminals = stream::iter(0..usize::from(args.terminals))
            .map(|number| link(&network, number))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(Self { network, agents, terminals })
    }

    /// The issuers' processes.
    pub(super) fn issuers(&self) -> impl Iterator<Item = &Arc<Kept>> {
        self.network.issuers.iter().filter_map(|it| it.server.kept())
    }

    /// All that all issuers have booked.
    pub(super) async fn books(&self) -> Result<Vec<Booked>, Failure> {
        let mut booked = Vec::new();
        for issuer in &self.network.issuers {
            booked.extend(book(issuer).await?);
        }
        Ok(booked)
    }

    /// Ends everybody, and has the journal of each issuer checked from its first entry by a program of its own. What it
    /// says of those that are not right.
    pub(super) async fn end_and_verify(self) -> Result<Vec<String>, Failure> {
        for agent in &self.agents {
            agent.kept.end().await;
        }
        let folders: Vec<_> = self.network.issuers.iter().map(|it| it.dir.clone()).collect();
        self.network.stop().await?;
        let mut wrong = Vec::new();
        for folder in folders {
            wrong.extend(verify(&folder).await?);
        }
        Ok(wrong)
    }
}

fn issuer_wish(number: u8) -> Result<IssuerWish, Failure> {
    // Every second one pays later, so that both kinds of account are in it.
    let kind = if number.is_multiple_of(2) { AccountKind::Prepaid } else { AccountKind::Credit };
    Ok(IssuerWish {
        folder: format!("issuer-{number}"),
        name: format!("Issuer {number}"),
        prefix: Prefix::parse(&format!("710000{number:02}"))?,
        kind,
    })
}

async fn pair(side: &Arc<MerchantSide>, till: &Path) -> Result<(), Failure> {
    let folder = reader::Folder::new(till);
    reader::pair_up(&folder, pairing_link(side).await?, "Till", |_| ()).await?;
    Ok(())
}

/// Waits until every issuer takes calls of this reader: its entry goes by the hub.
async fn until_known(network: &LocalNetwork, till: &Path) -> Result<(), Failure> {
    let paired = reader::Folder::new(till).paired()?;
    let key = keyfile::read(till.join(format!("reader-{}.key", paired.pairing)))?;
    let client = calls::client(Arc::new(key))?;
    let until = Instant::now() + NEWS_PATIENCE;
    for issuer in &network.issuers {
        let peer = Peer { url: issuer.server.url.clone(), key: issuer.card.key.clone() };
        let path = format!("/v1/payments?request_id=none&route={}00", issuer.card.prefix);
        loop {
            let called =
                client.call(&peer, Method::GET, &path, None, calls::DEADLINE, HeaderMap::new());
            if called.await.is_ok_and(|answer| answer.status.as_u16() != 401) {
                break;
            }
            if Instant::now() > until {
                let name = &issuer.card.name;
                return Err(Failure::unreachable(format_args!(
                    "{name} does not learn of a reader"
                )));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

async fn link(network: &LocalNetwork, number: usize) -> Result<PathBuf, Failure> {
    let count = network.issuers.len().max(1);
    let issuer = network.issuers.get(number % count);
    let issuer = issuer.ok_or_else(|| Failure::usage("a storm needs an issuer"))?;
    let invitation = issuer.invite(&format!("Payer {number}"), BUDGET_MINOR).await?;
    let dir = network.dir.join(format!("terminal-{number}"));
    let folder = terminal_folder::Folder::new(&dir);
    link_up(&folder, InvitationLink::parse(&invitation)?, "Terminal", |_| ()).await?;
    Ok(dir)
}

/// Everything in an issuer's list, page by page.
async fn book(issuer: &LocalIssuer) -> Result<Vec<Booked>, Failure> {
    let mut booked = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/admin/v1/payments?limit={PAGE}{after}");
        let page = issuer.ask(Method::GET, &path, None).await?;
        let rows = page.get("payments").and_then(Value::as_array);
        let rows = rows.ok_or_else(|| Failure::unreachable("a list of payments has no rows"))?;
        for row in rows {
            let read = Booked::read(&issuer.card.name, row);
            booked.push(read.ok_or_else(|| Failure::unreachable("a payment can't be read"))?);
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) if !rows.is_empty() => after = format!("&after={next}"),
            Some(_) | None => return Ok(booked),
        }
    }
}

async fn verify(folder: &Path) -> Result<Option<String>, Failure> {
    let cannot =
        |error: std::io::Error| Failure::usage("`warifu verify` can't be started").because(&error);
    let program = std::env::current_exe().map_err(cannot)?;
    let mut command = Command::new(program);
    command.arg("verify").arg(folder).kill_on_drop(true);
    let output = command.output().await.map_err(cannot)?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let is_good = output.status.success();
    Ok((!is_good).then(|| format!("the journal in {} is not right: {said}", folder.display())))
}
