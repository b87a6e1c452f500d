//! Handing entries to hubs. A hub believes an entry by its signature, so the call itself is unsigned; its answer is
//! believed only when the hub that was meant has signed it.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use warifu_proto::directory::{Entry, Hub, Status};
use warifu_proto::limits::BODY_MAX_BYTES;
use warifu_server::chance;
use warifu_server::client::{Client, Peer};

use super::Registrar;
use crate::calls;
use crate::fail::Failure;
use crate::out::Out;

/// Most entries in one call, as hubs take them.
const ENTRIES_MAX: usize = 100;
/// Room for the object around the entries, in bytes.
const AROUND_BYTES: usize = 64;

/// What became of publishing to one hub.
#[derive(Debug, Serialize)]
pub(crate) struct Published {
    /// Which hub.
    pub(crate) hub_id: String,
    /// Where it is.
    pub(crate) url: String,
    /// What it did with the entries that it got.
    #[serde(flatten)]
    pub(crate) report: Report,
    /// Why it has not got all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// What a hub did with entries.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Entries that were news to it.
    pub(crate) taken: u64,
    /// Entries that it had.
    pub(crate) known: u64,
    /// Entries that it did not take.
    pub(crate) refused: Vec<Refused>,
}

/// An entry that a hub did not take.
#[derive(Debug, Serialize)]
pub(crate) struct Refused {
    /// Whose entry.
    pub(crate) id: String,
    /// The hub's reason.
    pub(crate) why: String,
}

/// The answer to `POST /v1/directory/entries`.
#[derive(Debug, Deserialize)]
struct Taken {
    taken: u64,
    known: u64,
    refused: Vec<RefusedIndex>,
}

#[derive(Debug, Deserialize)]
struct RefusedIndex {
    index: usize,
    why: String,
}

/// Hands the latest entry of everybody to all hubs that are not suspended or revoked, or to the one at `only`. A hub
/// that can't be reached is a line in the result, not a failure.
pub(crate) async fn publish(
    registrar: &Registrar,
    only: Option<&str>,
    out: &Out,
) -> Result<Vec<Published>, Failure> {
    let hubs: Vec<&Hub> = registrar
        .directory()
        .hubs()
        .filter(|hub| match only {
            Some(url) => hub.url == url.trim_end_matches('/'),
            None => hub.common.status == Status::Active,
        })
        .collect();
    if let (Some(url), true) = (only, hubs.is_empty()) {
        return Err(Failure::usage(format_args!("no hub with the address {url} was signed"))
            .next("warifu registrar list   (shows the hubs' addresses)"));
    }
    let entries = registrar.latest();
    let mut done = Vec::new();
    for hub in hubs {
        let (hub_id, url) = (hub.common.id.to_string(), hub.url.clone());
        let peer = Peer { url: url.clone(), key: hub.key.clone() };
        out.progress(format_args!("publishing {} entries to {url} …", entries.len()));
        let mut report = Report::default();
        let handed_in = hand_in_all(&peer, &entries, &mut report).await;
        let error = handed_in.err().map(|failure| failure.message);
        done.push(Published { hub_id, url, report, error });
    }
    Ok(done)
}

/// Hands entries to one hub, in their order.
pub(crate) async fn hand_in(peer: &Peer, entries: &[Entry]) -> Result<Report, Failure> {
    let mut report = Report::default();
    hand_in_all(peer, entries, &mut report).await?;
    Ok(report)
}

async fn hand_in_all(peer: &Peer, entries: &[Entry], report: &mut Report) -> Result<(), Failure> {
    // The call is unsigned: a key of its own keeps the registrar's away from the network.
    let client = calls::client(Arc::new(chance::key()))?;
    let mut rest = entries;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(fitting(rest));
        hand_in_once(&client, peer, now, report).await?;
        rest = later;
    }
    Ok(())
}

async fn hand_in_once(
    client: &Client,
    peer: &Peer,
    entries: &[Entry],
    report: &mut Report,
) -> Result<(), Failure> {
    let body = calls::body(&json!({ "entries": entries }));
    let path = "/v1/directory/entries";
    let answer = client
        .call_unsigned(peer, Method::POST, path, Some(body), calls::DEADLINE, HeaderMap::new())
        .await?;
    let taken: Taken = calls::read(&answer)?;
    report.taken = report.taken.saturating_add(taken.taken);
    report.known = report.known.saturating_add(taken.known);
    for it in taken.refused {
        let id = entries
            .get(it.index)
            .and_then(|entry| entry.read().ok())
            .map_or_else(|| format!("entry {}", it.index), |record| record.revision().0);
        report.refused.push(Refused { id, why: it.why });
    }
    Ok(())
}

/// How many of the first entries fit into one call; at least one.
fn fitting(entries: &[Entry]) -> usize {
    let mut room = BODY_MAX_BYTES.saturating_sub(AROUND_BYTES);
    let fitting = entries
        .iter()
        .take(ENTRIES_MAX)
        .take_while(|entry| {
            let size = calls::body(entry).len().saturating_add(1);
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        })
        .count();
    fitting.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use warifu_proto::directory::{BODY_MAX_BYTES as ENTRY_MAX_BYTES, EntryKind};
    use warifu_proto::id::NetworkId;

    #[test]
    fn a_call_is_never_larger_than_a_server_reads() {
        let key = chance::key();
        let entry = |size: usize| {
            Entry::sign(NetworkId::from_raw([1; 16]), EntryKind::Hub, vec![b'x'; size], &key)
        };
        let large: Vec<Entry> = (0..40).map(|_| entry(ENTRY_MAX_BYTES)).collect();
        let count = fitting(&large);
        assert!(calls::body(&json!({ "entries": large[..count] })).len() <= BODY_MAX_BYTES);
        assert!(calls::body(&json!({ "entries": large[..=count] })).len() > BODY_MAX_BYTES);
        let small: Vec<Entry> = (0..400).map(|_| entry(10)).collect();
        assert_eq!(fitting(&small), ENTRIES_MAX);
    }
}
