//! `warifu reader pair`: a pairing link becomes a reader. The key is on disk before the request leaves, so that a
//! repeat after a crash comes from the same key and gets the same answer.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::time::Instant;
use warifu_proto::limits::PAIRING_LIFETIME_MS;
use warifu_proto::message::PairingAnswer;
use warifu_proto::pairing::PairingLink;
use warifu_reader::{PairError, Paired, Pairing};
use warifu_server::client::{Client, Peer};
use warifu_server::clock;
use warifu_server::folder::{FolderError, FolderLock};

use super::{Folder, PairArgs};
use crate::fail::Failure;
use crate::out::Out;
use crate::{calls, directory, paths};

/// How long one call waits: the hub's 25 s and a slow network's share.
const CALL_DEADLINE: Duration = Duration::from_secs(35);
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(args: &PairArgs, out: &Out) -> Result<(), Failure> {
    let link = PairingLink::parse(&args.link).map_err(|error| {
        Failure::usage(error).next(
            "give the whole link in single quotes: shells take the part after # for a comment",
        )
    })?;
    let folder = Folder::new(&args.folder.dir);
    let paired = pair_up(&folder, link, &args.name, |text| out.progress(text)).await?;
    out.say(format_args!(
        "paired with {} as {} ({})",
        paired.merchant_name, paired.name, paired.reader
    ));
    out.next(format_args!("warifu reader pay --dir {} --amount 1200", paths::shown(folder.dir())));
    out.object(&json!({
        "reader_id": paired.reader,
        "name": paired.name,
        "merchant": { "id": paired.merchant, "name": paired.merchant_name },
        "rights": paired.rights,
        "hub": paired.hub_url,
    }));
    Ok(())
}

/// Pairs a folder with a merchant; waits for the merchant's side. Repeating it with the same link is safe.
pub(crate) async fn pair_up(
    folder: &Folder,
    link: PairingLink,
    name: &str,
    progress: impl Fn(&str),
) -> Result<Paired, Failure> {
    let dir = folder.dir();
    if let Some(paired) = folder.pairing()? {
        if paired.pairing == link.pairing {
            return Ok(paired);
        }
        let merchant = &paired.merchant_name;
        return Err(Failure::usage(format_args!(
            "{} is a reader of {merchant} already",
            paths::shown(dir)
        ))
        .next("give another folder by --dir"));
    }
    fs::create_dir_all(dir).map_err(|error| paths::cannot("made", dir, &error))?;
    let _only = FolderLock::take(dir).map_err(|error| match error {
        FolderError::InUse(_) => Failure::usage(error),
        FolderError::Io(..) => Failure::usage("the folder can't be used").because(&error),
    })?;
    let key = Arc::new(folder.key_for(link.pairing)?);
    let registrar = link.registrar;
    let pairing = Pairing::begin(link, key.public(), name)?;

    let http = calls::http()?;
    let fetched = directory::fetch(&http, pairing.hub_url(), None).await?;
    if fetched.directory.registrar().thumbprint() != registrar {
        return Err(not_believed(&PairError::OtherNetwork));
    }
    let hub = fetched.hub(pairing.hub_url().trim_end_matches('/'))?;
    let client = calls::client(key)?;
    let answer = ask(&client, &hub, &pairing, progress).await?;
    let paired = pairing
        .accept(&answer, &fetched.directory, clock::now())
        .map_err(|error| not_believed(&error))?;
    folder.store(&paired)?;
    // The copy for the first payment; without it that payment would have to wait for the hub.
    folder.directory(&paired).await?.refresh_once().await.unwrap_or_default();
    Ok(paired)
}

/// Asks until the merchant's side has answered or the link must be dead.
async fn ask(
    client: &Client,
    hub: &Peer,
    pairing: &Pairing,
    progress: impl Fn(&str),
) -> Result<PairingAnswer, Failure> {
    let until = Instant::now() + Duration::from_millis(PAIRING_LIFETIME_MS);
    let path = format!("/v1/pairings/{}", pairing.id());
    progress("waiting for the merchant's side; Ctrl-C ends, and the same command goes on");
    loop {
        let body = Some(calls::body(pairing.request()));
        let called = client
            .call_signed_by_key(hub, Method::POST, &path, body, CALL_DEADLINE, HeaderMap::new())
            .await;
        let failure = match called {
            Ok(answer) if answer.status == StatusCode::ACCEPTED => None,
            Ok(answer) if answer.is_ok() => return calls::read(&answer),
            Ok(answer) if is_passing(answer.status) => Some(calls::read::<()>(&answer)),
            Ok(answer) => return calls::read(&answer).map_err(refused),
            Err(error) => Some(Err(error.into())),
        };
        let failure = failure.and_then(Result::err);
        if Instant::now() >= until {
            let gone = Failure::unreachable("the merchant's side has not answered");
            return Err(failure.unwrap_or(gone).next("ask the merchant for a new link"));
        }
        if let Some(failure) = failure {
            progress(&format!("{failure}; trying again"));
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

fn refused(failure: Failure) -> Failure {
    if failure.next.is_some() {
        return failure;
    }
    failure.next("ask the merchant for a new link: `warifu merchant pair`")
}

fn not_believed(error: &PairError) -> Failure {
    let next = match error {
        PairError::OtherNetwork => {
            "ask who gave you the link: it names a registrar that this hub does not follow"
        }
        PairError::Unreadable | PairError::Misfit { .. } | PairError::NotSigned => {
            "do not use this link: the answer is not the merchant's; ask for a new one"
        }
        PairError::MerchantUnknown => "ask the merchant whether the registrar has signed its card",
        PairError::Inactive => "ask the merchant for a new link, and check this machine's clock",
    };
    Failure::refused(error).next(next)
}
