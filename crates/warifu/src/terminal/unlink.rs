//! `warifu terminal unlink`: the issuer forgets the terminal, then the terminal forgets its keys.

use std::path::Path;
use std::sync::Arc;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::json;
use warifu_proto::message::UnlinkAnswer;
use warifu_proto::problem::ProblemCode;
use warifu_server::clock;
use warifu_terminal::Link;

use super::folder::{Folder, Only, no_directory};
use super::link::hub;
use super::say::or_link_ended;
use crate::fail::Failure;
use crate::out::Out;
use crate::{calls, paths};

pub(super) async fn run(dir: &Path, out: &Out) -> Result<(), Failure> {
    let folder = Folder::new(dir);
    let link = folder.linked()?;
    let Some(_only) = folder.only_one(Only::Shows)? else {
        return Err(Failure::usage("a code of this link is being shown")
            .next("end `warifu terminal show` on this folder first"));
    };
    let key = Arc::new(folder.key(&link)?);
    let directory = folder
        .directory(Only::Shows, &link.hub_url, link.registrar, calls::http()?)
        .await
        .map_err(|error| no_directory(&error))?;
    let peer = hub(&directory, &link.hub_url).ok_or_else(|| {
        Failure::refused(format_args!("the registrar knows no hub at {} any more", link.hub_url))
            .next(format_args!(
                "ask your issuer to end the link, then delete the folder {}",
                paths::shown(dir)
            ))
    })?;
    let request = link.unlink_request(&key, clock::now());
    let client = calls::client(key)?;
    let path = format!("/v1/links/{}", link.credential);
    let body = Some(calls::body(&request));
    let answer = client
        .call(&peer, Method::DELETE, &path, body, calls::DEADLINE, HeaderMap::new())
        .await
        .map_err(Failure::from)?;
    let refusal = answer.problem().map(|it| it.code).unwrap_or_default();
    // Ended before, by the issuer or by a call whose answer was lost, is ended.
    if refusal != ProblemCode::CredentialUnknown.name() {
        calls::read::<UnlinkAnswer>(&answer)
            .map_err(|failure| not_ended(failure, &refusal, &link, dir))?;
    }
    folder.forget(&link)?;
    out.say(format_args!("unlinked from {}; its keys are deleted", link.issuer.name));
    out.object(&json!({ "credential_id": link.credential, "status": "unlinked" }));
    Ok(())
}

fn not_ended(failure: Failure, code: &str, link: &Link, dir: &Path) -> Failure {
    if code != ProblemCode::KeyUnknown.name() {
        return failure.during("the link was not ended");
    }
    // The hub forgets an ended link after a day, and its key with it. The keys stay here, should the hub be wrong.
    or_link_ended(failure, code, link).next(format_args!(
        "delete the folder {}; should {} still list the terminal, have them end its link",
        paths::shown(dir),
        link.issuer.name
    ))
}
