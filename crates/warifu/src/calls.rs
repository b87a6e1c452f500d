//! Calls to servers as commands make them: one deadline, answers believed only when signed, refusals as
//! [`Failure`]s. What the network does not answer is told apart: certainly not done, or perhaps done.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use warifu_proto::key::PrivateKey;
use warifu_server::client::{Answer, CallError, Client, Peer, http_client};
use warifu_server::config::process_env;

use crate::fail::{Exit, Failure};

/// How long a command waits for an answer that needs no waiting.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Roots to trust beside the public ones, PEM: for networks with a certificate authority of their own.
const CA_FILE: &str = "WARIFU_CA_FILE";

/// A client that signs with this key.
pub(crate) fn client(key: Arc<PrivateKey>) -> Result<Client, Failure> {
    Ok(Client::new(key, http()?))
}

/// The HTTP client under all calls of a command.
pub(crate) fn http() -> Result<reqwest::Client, Failure> {
    let ca_file = process_env(CA_FILE).map(PathBuf::from);
    http_client(ca_file.as_deref())
        .map_err(|error| Failure::usage("no HTTP client can be made").because(&error))
}

/// A JSON body.
pub(crate) fn body(object: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(object).expect("our objects have only text keys")
}

/// Calls, signed, and reads the answer.
pub(crate) async fn ask<T: DeserializeOwned>(
    client: &Client,
    peer: &Peer,
    method: Method,
    path_and_query: &str,
    body: Option<Vec<u8>>,
    deadline: Duration,
) -> Result<T, Failure> {
    let answer =
        client.call(peer, method, path_and_query, body, deadline, HeaderMap::new()).await?;
    read(&answer)
}

/// Reads what a server answered.
pub(crate) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    if !answer.is_ok() {
        return Err(refusal(answer));
    }
    answer.json().map_err(|error| {
        Failure::unreachable("the answer can't be understood")
            .because(&error)
            .next("use a server and a `warifu` of the same version")
    })
}

fn refusal(answer: &Answer) -> Failure {
    match answer.json::<Value>() {
        Ok(problem) if problem.is_object() => Failure::problem(problem),
        _ => Failure::refused(format_args!("the server answered with status {}", answer.status)),
    }
}

/// Whether repeating the same call may get an answer that this one did not.
pub(crate) fn is_passing(failure: &Failure) -> bool {
    failure.exit == Exit::Unreachable
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let next = match &error {
            CallError::Unreachable { .. } => "is the server running, and is its address right?",
            CallError::TimedOut { .. } | CallError::Broken { .. } => {
                "nobody knows whether it was done: repeat the same command"
            }
            CallError::Unverified { .. } => {
                "something else than the server answers at this address, or its key was replaced: \
                 ask the registrar which key is right"
            }
        };
        Self::unreachable(&error).next(next)
    }
}
