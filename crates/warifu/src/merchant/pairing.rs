//! The merchant's side of pairing a reader: opens the mailbox at the hub, waits, judges proofs, signs the entry.
//!
//! Law: the hub only carries. A reader is signed for when its proof holds under the secret of the link, which the hub
//! never sees; a wrong proof is refused and burns nothing. Ends with the first right proof, the link's ten minutes,
//! or the wish to stop, which cancels the link.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use warifu_proto::directory::{Entry, EntryKind, Reader, Right, Status};
use warifu_proto::id::{MerchantId, NetworkId};
use warifu_proto::key::{PrivateKey, Thumbprint};
use warifu_proto::limits::{NAME_MAX, PAIRING_LIFETIME_MS};
use warifu_proto::mac;
use warifu_proto::message::{PairingRequest, check_text};
use warifu_proto::pairing::{self, PairingLink};
use warifu_proto::time::Timestamp;
use warifu_server::client::{Client, Peer};
use warifu_server::{chance, clock};

use crate::calls;
use crate::fail::Failure;
use crate::network::Network;
use crate::registrar::Standing;

/// How long one look into the mailbox waits, in milliseconds: shorter than proxies commonly allow.
const LOOK_MS: u64 = 25_000;
/// How long an answer may take beyond that.
const SLACK: Duration = Duration::from_secs(10);
/// Pause before asking again a hub that gave no answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Who pairs: a merchant's key, and the hub with the mailbox. Cheap to clone, so that several links can be served.
#[derive(Debug, Clone)]
pub(crate) struct MerchantSide {
    merchant: MerchantId,
    network: NetworkId,
    registrar: Thumbprint,
    key: Arc<PrivateKey>,
    hub: Peer,
    client: Arc<Client>,
}

/// What the reader is to be.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    /// What the merchant calls it; what it calls itself when missing.
    pub(crate) name: Option<String>,
    /// What it may do beyond paying, reading and reversing what it paid itself.
    pub(crate) rights: Vec<Right>,
    /// Days until its entry must be renewed.
    pub(crate) valid_days: u16,
}

/// What happens on the way.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// The link can be used.
    Open {
        /// To be handed to the reader; a secret.
        link: &'a PairingLink,
        /// Until when.
        expires_at: Timestamp,
    },
    /// Somebody without the link asked, and was refused.
    WrongProof {
        /// What it calls itself.
        name: &'a str,
        /// Its key.
        key: Thumbprint,
    },
    /// The hub gave no answer; it is asked again.
    HubAway {
        /// What the network says.
        why: &'a str,
    },
}

/// A reader that belongs to the merchant now.
#[derive(Debug, Clone)]
pub(crate) struct Paired {
    /// As the directory has it.
    pub(crate) reader: Reader,
    /// As it was signed.
    pub(crate) entry: Entry,
}

/// A mailbox that is open.
#[derive(Debug)]
pub(crate) struct OpenPairing {
    /// To be handed to the reader; a secret.
    pub(crate) link: PairingLink,
    /// Until when.
    pub(crate) expires_at: Timestamp,
}

/// `GET /v1/pairings/{par}`.
#[derive(Debug, Deserialize)]
struct Pending {
    request: Option<PairingRequest>,
}

impl MerchantSide {
    /// Speaks for a merchant at a hub whose key is known.
    pub(crate) fn new(
        merchant: MerchantId,
        network: &Network,
        key: Arc<PrivateKey>,
        hub: Peer,
    ) -> Result<Self, Failure> {
        Ok(Self {
            merchant,
            network: network.network_id,
            registrar: network.registrar.thumbprint(),
            client: Arc::new(calls::client(Arc::clone(&key))?),
            key,
            hub,
        })
    }

    /// Opens a mailbox.
    pub(crate) async fn open(&self) -> Result<OpenPairing, Failure> {
        let now = clock::now();
        let link = PairingLink {
            page: format!("{}/till", self.hub.url),
            hub_url: self.hub.url.clone(),
            pairing: chance::id(now),
            secret: chance::bytes::<16>().into(),
            registrar: self.registrar,
        };
        let expires_at = now.plus_ms(PAIRING_LIFETIME_MS);
        let wish = json!({ "pairing_id": link.pairing, "expires_ms": expires_at.as_ms() });
        let _: Value = self.ask(Method::POST, "/v1/pairings", Some(&wish), SLACK).await?;
        Ok(OpenPairing { link, expires_at })
    }

    /// Waits for the reader that holds the link, signs its entry, and lets it know.
    pub(crate) async fn wait(
        &self,
        open: &OpenPairing,
        grant: &Grant,
        mut told: impl FnMut(Step<'_>),
    ) -> Result<Paired, Failure> {
        loop {
            let request = match self.look(open).await {
                Ok(Some(request)) => request,
                Ok(None) => continue,
                Err(failure) if calls::is_passing(&failure) => {
                    told(Step::HubAway { why: &failure.message });
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let key = request.key.thumbprint();
            let proof = pairing::proof(&open.link.secret, open.link.pairing, key);
            let holds = mac::equal_in_constant_time(&proof, &request.proof);
            if holds && check_text("name", &request.name, NAME_MAX).is_ok() {
                return self.vouch(open, grant, request, told).await;
            }
            told(Step::WrongProof { name: &request.name, key });
            match self.delete(open, Some(key)).await {
                Err(failure) if !calls::is_passing(&failure) => return Err(failure),
                // Without an answer it is still there, and is refused again.
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Cancels the link.
    pub(crate) async fn cancel(&self, open: &OpenPairing) -> Result<(), Failure> {
        self.delete(open, None).await
    }

    /// One long look into the mailbox.
    async fn look(&self, open: &OpenPairing) -> Result<Option<PairingRequest>, Failure> {
        let left_ms = open.expires_at.since_ms(clock::now());
        if left_ms == 0 {
            return Err(expired());
        }
        let wait_ms = left_ms.min(LOOK_MS);
        let path = format!("/v1/pairings/{}?wait_ms={wait_ms}", open.link.pairing);
        let deadline = SLACK.saturating_add(Duration::from_millis(wait_ms));
        let pending: Pending = self.ask(Method::GET, &path, None, deadline).await?;
        Ok(pending.request)
    }

    /// Signs the entry, and hands it over until the hub has said what became of it.
    async fn vouch(
        &self,
        open: &OpenPairing,
        grant: &Grant,
        request: PairingRequest,
        mut told: impl FnMut(Step<'_>),
    ) -> Result<Paired, Failure> {
        let now = clock::now();
        let standing = Standing { status: Status::Active, valid_days: grant.valid_days };
        let reader = Reader {
            common: standing.common(chance::id(now), 1, now),
            merchant_id: self.merchant,
            name: grant.name.clone().unwrap_or(request.name),
            key: request.key,
            rights: grant.rights.clone(),
        };
        let body = calls::body(&reader);
        let entry = Entry::sign(self.network, EntryKind::Reader, body, &self.key);
        let path = format!("/v1/pairings/{}", open.link.pairing);
        let answer = json!({ "entry": entry });
        loop {
            match self.ask::<Value>(Method::PUT, &path, Some(&answer), SLACK).await {
                Ok(_) => return Ok(Paired { reader, entry }),
                Err(failure) if calls::is_passing(&failure) && clock::now() < open.expires_at => {
                    told(Step::HubAway { why: &failure.message });
                    tokio::time::sleep(PAUSE).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Refuses one reader, or cancels the link.
    async fn delete(&self, open: &OpenPairing, key: Option<Thumbprint>) -> Result<(), Failure> {
        let query = key.map_or_else(String::new, |key| format!("?key={key}"));
        let path = format!("/v1/pairings/{}{query}", open.link.pairing);
        let _: Value = self.ask(Method::DELETE, &path, None, SLACK).await?;
        Ok(())
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<T, Failure> {
        calls::ask(&self.client, &self.hub, method, path, body.map(calls::body), deadline).await
    }
}

fn expired() -> Failure {
    Failure::refused("the ten minutes of the pairing link are over and no reader used it")
        .next("repeat the command for a new link")
}

/// Serves one pairing from its link to the paired reader: what `warifu merchant pair` does, with what happens told to
/// the caller. When `stop` comes first, the link is cancelled.
pub(crate) async fn serve_pairing(
    side: &MerchantSide,
    grant: &Grant,
    stop: impl Future<Output = ()>,
    mut told: impl FnMut(Step<'_>),
) -> Result<Paired, Failure> {
    let open = side.open().await?;
    told(Step::Open { link: &open.link, expires_at: open.expires_at });
    tokio::select! {
        paired = side.wait(&open, grant, told) => paired,
        () = stop => {
            side.cancel(&open).await?;
            Err(Failure::refused("the pairing link was cancelled before a reader used it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_links_can_be_served_at_once_on_any_thread() {
        fn spawned<T: Send + 'static>(_: fn(MerchantSide, Grant) -> T) {}
        spawned(|side, grant| async move {
            serve_pairing(&side, &grant, std::future::pending(), |_| {}).await
        });
    }
}
