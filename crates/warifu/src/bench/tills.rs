//! Who is paid: the merchants' readers, each with a session of its own. The first is the demo's till; the others are put
//! into the directory by real entries, signed by the registrar and by their merchants.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio::time::sleep;
use warifu_proto::directory::{Common, Entry, EntryKind, Merchant, Reader, Right, Status};
use warifu_proto::id::{MerchantKind, ReaderKind};
use warifu_proto::key::PrivateKey;
use warifu_server::{chance, clock, keyfile};

use super::line::{Signer, Target};
use super::network::Site;
use crate::calls;
use crate::fail::Failure;
use crate::registrar::hand_in;

/// How long an issuer may take to learn of a new reader.
const NEWS_PATIENCE: Duration = Duration::from_secs(30);
/// How long the entries hold.
const YEAR_MS: u64 = 365 * 24 * 3_600_000;

/// Opens the line of every merchant to the issuer.
pub(super) async fn open(
    site: &Site,
    count: u32,
    is_ecdsa: bool,
    is_checked: bool,
) -> Result<Vec<Arc<Target>>, Failure> {
    let mut keys = vec![Arc::clone(&site.reader)];
    if count > 1 {
        let dir = site.dir.as_deref().ok_or_else(|| {
            Failure::usage("more merchants need the registrar's folder")
                .next("give --network DIR, or leave out --merchants")
        })?;
        keys.extend(publish(site, dir, count - 1).await?);
    }
    let mut targets = Vec::with_capacity(keys.len());
    for key in keys {
        targets.push(Arc::new(if is_ecdsa {
            Target::new(&site.issuer, Signer::Key(key), is_checked)?
        } else {
            Target::in_session(&site.issuer, key, is_checked).await?
        }));
    }
    Ok(targets)
}

async fn publish(site: &Site, dir: &Path, count: u32) -> Result<Vec<Arc<PrivateKey>>, Failure> {
    let registrar = keyfile::read(dir.join("registrar").join("registrar.key"))?;
    let network = site.directory.network();
    let (mut entries, mut readers) = (Vec::new(), Vec::new());
    for number in 0..count {
        let (owner, reader) = (chance::key(), Arc::new(chance::key()));
        let merchant = Merchant {
            common: common::<MerchantKind>(),
            name: format!("Bench {number}"),
            category: "5411".to_owned(),
            key: owner.public().clone(),
        };
        let device = Reader {
            common: common::<ReaderKind>(),
            merchant_id: merchant.common.id,
            name: "Till".to_owned(),
            key: reader.public().clone(),
            rights: vec![Right::Refund, Right::ReverseAny],
        };
        let sign = |kind, body, key| Entry::sign(network, kind, body, key);
        entries.push(sign(EntryKind::Merchant, calls::body(&merchant), &registrar));
        entries.push(sign(EntryKind::Reader, calls::body(&device), &owner));
        readers.push(reader);
    }
    let report = hand_in(&site.hub, &entries).await?;
    if let Some(refused) = report.refused.first() {
        return Err(Failure::refused(format_args!("the hub refused an entry: {}", refused.why)));
    }
    if let Some(last) = readers.last() {
        until_known(site, last).await?;
    }
    Ok(readers)
}

fn common<K: warifu_proto::id::Kind>() -> Common<K> {
    let now = clock::now();
    Common {
        id: chance::id(now),
        revision: 1,
        status: Status::Active,
        not_before_ms: now.as_ms().saturating_sub(60_000),
        not_after_ms: now.as_ms() + YEAR_MS,
    }
}

/// Entries reach the issuer by way of the hub.
async fn until_known(site: &Site, reader: &Arc<PrivateKey>) -> Result<(), Failure> {
    let client = calls::client(Arc::clone(reader))?;
    let until = Instant::now() + NEWS_PATIENCE;
    loop {
        let path = "/v1/events?limit=1";
        let called =
            client.call(&site.issuer, Method::GET, path, None, calls::DEADLINE, HeaderMap::new());
        if called.await.is_ok_and(|answer| answer.status.as_u16() != 401) {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(Failure::unreachable("the issuer does not learn of new readers"));
        }
        sleep(Duration::from_millis(50)).await;
    }
}
