//! `warifu terminal link`: an invitation becomes a link. The key is on disk before the request leaves, so that a
//! repeat after a crash comes from the same key and gets the same answer.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use warifu_proto::directory::Status;
use warifu_proto::link::InvitationLink;
use warifu_proto::message::{AccountKind, LinkAnswer};
use warifu_server::client::Peer;
use warifu_server::clock;
use warifu_server::follow::DirectoryFollower;
use warifu_terminal::{Link, LinkError, Linking};

use super::LinkArgs;
use super::folder::{Folder, Only, no_directory};
use crate::fail::Failure;
use crate::out::Out;
use crate::{calls, paths};

/// How often the request is repeated when nobody answers.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(args: &LinkArgs, out: &Out) -> Result<(), Failure> {
    let invitation = InvitationLink::parse(&args.link).map_err(|error| {
        Failure::usage(error).next(
            "give the whole link in single quotes: shells take the part after # for a comment",
        )
    })?;
    let folder = Folder::new(&args.folder.dir);
    let link = link_up(&folder, invitation, &args.label, |text| out.progress(text)).await?;
    let account = &link.account;
    let kind = match account.kind {
        AccountKind::Prepaid => "prepaid",
        AccountKind::Credit => "pay later",
    };
    let (issuer, currency) = (&link.issuer.name, account.currency);
    out.say(format_args!("linked to {issuer}: {} ({kind}, {currency})", account.name));
    out.next(format_args!("warifu terminal show --dir {}", paths::shown(folder.dir())));
    out.object(&about(&link));
    Ok(())
}

/// The public part of a link.
pub(crate) fn about(link: &Link) -> Value {
    json!({
        "credential_id": link.credential,
        "partition": link.partition,
        "account": link.account,
        "limits": link.limits,
        "issuer": link.issuer,
        "hub": link.hub_url,
    })
}

/// Links a folder to an account. Repeating it with the same invitation is safe.
pub(crate) async fn link_up(
    folder: &Folder,
    invitation: InvitationLink,
    label: &str,
    progress: impl Fn(&str),
) -> Result<Link, Failure> {
    if let Some(link) = folder.link()? {
        return already(folder, link, &invitation);
    }
    let dir = folder.dir();
    fs::create_dir_all(dir).map_err(|error| paths::cannot("made", dir, &error))?;
    let Some(_only) = folder.only_one(Only::Shows)? else {
        return Err(Failure::usage(format_args!("{} is being linked already", paths::shown(dir))));
    };
    let registrar = invitation.registrar;
    let key = Arc::new(folder.key_for(invitation.invitation)?);
    let linking = Linking::begin(invitation, key.public(), label)?;
    let hub_url = linking.hub_url();

    let directory = folder
        .directory(Only::Shows, hub_url, registrar, calls::http()?)
        .await
        .map_err(|error| no_directory(&error))?;
    directory.refresh_once().await.map_err(|error| no_directory(&error))?;
    let hub = hub(&directory, hub_url).ok_or_else(|| {
        Failure::refused(format_args!("the registrar has signed no hub at {hub_url}"))
            .next("ask your issuer for an invitation by a hub of its network")
    })?;

    let client = calls::client(key)?;
    let answer = ask(&client, &hub, &linking, progress).await?;
    let link = linking
        .accept(&answer, &directory.current(), clock::now())
        .map_err(|error| not_believed(&error))?;
    folder.store(&link)?;
    Ok(link)
}

fn already(folder: &Folder, link: Link, invitation: &InvitationLink) -> Result<Link, Failure> {
    if link.invitation == invitation.invitation {
        return Ok(link);
    }
    let dir = paths::shown(folder.dir());
    let (name, issuer) = (&link.account.name, &link.issuer.name);
    Err(Failure::usage(format_args!("{dir} is linked to {name} at {issuer} already")).next(
        format_args!(
            "give another folder by --dir, or end that link: warifu terminal unlink --dir {dir}"
        ),
    ))
}

/// The hub at an address, as the registrar names it.
pub(super) fn hub(directory: &DirectoryFollower, url: &str) -> Option<Peer> {
    let current = directory.current();
    // Its dates are not judged: a terminal whose clock is wrong learns so from the issuer, through the hub.
    let hub = current
        .hubs()
        .find(|hub| hub.url.trim_end_matches('/') == url && hub.common.status != Status::Revoked)?;
    Some(Peer { url: hub.url.clone(), key: hub.key.clone() })
}

async fn ask(
    client: &warifu_server::client::Client,
    hub: &Peer,
    linking: &Linking,
    progress: impl Fn(&str),
) -> Result<LinkAnswer, Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        let body = Some(calls::body(linking.request()));
        let answer = client
            .call_signed_by_key(
                hub,
                Method::POST,
                "/v1/links",
                body,
                calls::DEADLINE,
                HeaderMap::new(),
            )
            .await
            .map_err(Failure::from)
            .and_then(|answer| calls::read(&answer));
        match answer {
            Err(failure) if calls::is_passing(&failure) && tries < TRIES => {
                progress(&format!("{failure}; trying again"));
                tokio::time::sleep(PAUSE).await;
            }
            Err(failure) if failure.next.is_none() => {
                return Err(failure.next("ask your issuer for a new invitation"));
            }
            answer => return answer,
        }
    }
}

fn not_believed(error: &LinkError) -> Failure {
    let next = match error {
        LinkError::Unconfirmed => {
            "do not use this link: somebody between you and the issuer answered; ask for a new invitation"
        }
        LinkError::Unreadable => "use a `warifu` of the same version as the issuer's",
        LinkError::Misfit { .. } | LinkError::OtherNetwork => {
            "tell your issuer: its answer does not fit its invitation"
        }
        LinkError::IssuerUnknown | LinkError::CurrencyUnknown => {
            "tell your issuer: the registrar has not signed its card, or not with this key"
        }
    };
    Failure::refused(error).next(next)
}
