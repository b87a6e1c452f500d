//! The pairing mailbox: a reader finds its merchant, and nobody else does.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use warifu_proto::directory::Entry;
use warifu_proto::id::{MerchantId, PairingId};
use warifu_proto::message::{PairingAnswer, PairingRequest};
use warifu_proto::pairing::proof;
use warifu_server::client::Answer;
use warifu_server::{chance, clock};

use crate::harness::{Actor, Hub, Network, code_of, reader, to_json};

const SECRET: [u8; 16] = [7; 16];

struct Bakery {
    actor: Actor,
    id: MerchantId,
    pairing: PairingId,
}

impl Bakery {
    /// A merchant in the directory with an open pairing.
    async fn open(network: &Network, hub: &Hub, lifetime_ms: u64) -> Self {
        let bakery = Self {
            actor: Actor::new(),
            id: chance::id(clock::now()),
            pairing: chance::id(clock::now()),
        };
        hub.publish(&[network.merchant(bakery.id, &bakery.actor.key, 1)]).await;
        for _ in 0..2 {
            let answer = bakery.open_as(&bakery.actor, hub, lifetime_ms).await;
            assert_eq!(answer.status, 201, "{}", code_of(&answer));
        }
        bakery
    }

    async fn open_as(&self, actor: &Actor, hub: &Hub, lifetime_ms: u64) -> Answer {
        let expires_ms = clock::now().as_ms() + lifetime_ms;
        let body = to_json(&json!({"pairing_id": self.pairing, "expires_ms": expires_ms}));
        actor.call(hub, Method::POST, "/v1/pairings", Some(body)).await
    }

    async fn call(&self, hub: &Hub, method: Method, query: &str, body: Option<Vec<u8>>) -> Answer {
        let path = format!("/v1/pairings/{}{query}", self.pairing);
        self.actor.call(hub, method, &path, body).await
    }

    /// What the merchant's side finds.
    async fn look(&self, hub: &Hub) -> Option<PairingRequest> {
        let answer = self.call(hub, Method::GET, "?wait_ms=20000", None).await;
        assert_eq!(answer.status, 200, "{}", code_of(&answer));
        serde_json::from_value(answer.json::<Value>().unwrap()["request"].clone()).unwrap()
    }

    async fn sign(&self, hub: &Hub, entry: &Entry) -> Answer {
        self.call(hub, Method::PUT, "", Some(to_json(&json!({"entry": entry})))).await
    }

    fn request(&self, of: &Actor, secret: &[u8; 16]) -> PairingRequest {
        PairingRequest {
            key: of.key.public().clone(),
            name: "Till 1".to_owned(),
            proof: proof(secret, self.pairing, of.key.thumbprint()),
        }
    }

    /// A reader asks.
    async fn ask(&self, hub: &Hub, of: &Actor, secret: &[u8; 16], wait_ms: u64) -> Answer {
        let path = format!("/v1/pairings/{}?wait_ms={wait_ms}", self.pairing);
        let body = to_json(&self.request(of, secret));
        of.call_by_key(hub, Method::POST, &path, Some(body)).await
    }

    fn believes(&self, request: &PairingRequest) -> bool {
        proof(&SECRET, self.pairing, request.key.thumbprint()) == request.proof
    }
}

#[tokio::test]
async fn a_reader_is_paired_and_a_repeat_gets_the_same() {
    let network = Network::new();
    let hub = network.start().await;
    let bakery = Bakery::open(&network, &hub, 600_000).await;
    let till = Actor::new();
    let merchant = async {
        let request = bakery.look(&hub).await.unwrap();
        assert!(bakery.believes(&request));
        let entry = reader(network.id, bakery.id, &bakery.actor.key, &request.key);
        for _ in 0..2 {
            let answer = bakery.sign(&hub, &entry).await;
            assert_eq!(answer.status, 200, "{}", code_of(&answer));
        }
        entry
    };
    let (answer, entry) = tokio::join!(bakery.ask(&hub, &till, &SECRET, 20_000), merchant);
    assert_eq!(answer.status, 200, "{}", code_of(&answer));
    let paired: PairingAnswer = answer.json().unwrap();
    assert_eq!((paired.merchant.id, &paired.entry), (bakery.id, &entry));
    assert_eq!(paired.merchant.name, "Aoba Bakery");
    let again = bakery.ask(&hub, &till, &SECRET, 0).await;
    assert_eq!(again.json::<PairingAnswer>().unwrap(), paired);
    // The entry is in the directory; the link is used up for others.
    let all = hub.directory("view=all").await;
    assert_eq!(all["entries"].as_array().unwrap().last(), Some(&json!(entry)));
    let other = bakery.ask(&hub, &Actor::new(), &SECRET, 0).await;
    assert_eq!(code_of(&other), "pairing_unknown");
    hub.stop().await;
}

#[tokio::test]
async fn a_wrong_proof_is_refused_and_burns_nothing() {
    let network = Network::new();
    let hub = network.start().await;
    let bakery = Bakery::open(&network, &hub, 600_000).await;
    let (thief, till) = (Actor::new(), Actor::new());
    let first = bakery.ask(&hub, &thief, &[0; 16], 0).await;
    assert_eq!(first.status, 202);
    assert_eq!(first.json::<Value>().unwrap(), json!({"status": "waiting"}));
    let merchant = async {
        loop {
            let request = bakery.look(&hub).await.unwrap();
            if bakery.believes(&request) {
                let entry = reader(network.id, bakery.id, &bakery.actor.key, &request.key);
                return bakery.sign(&hub, &entry).await;
            }
            let query = format!("?key={}", request.key.thumbprint());
            let refused = bakery.call(&hub, Method::DELETE, &query, None).await;
            assert_eq!(refused.status, 200, "{}", code_of(&refused));
        }
    };
    let (theft, answer, signed) = tokio::join!(
        bakery.ask(&hub, &thief, &[0; 16], 20_000),
        bakery.ask(&hub, &till, &SECRET, 20_000),
        merchant
    );
    assert_eq!(signed.status, 200, "{}", code_of(&signed));
    assert!(["proof_invalid", "pairing_unknown"].contains(&code_of(&theft).as_str()));
    assert_eq!(answer.status, 200, "{}", code_of(&answer));
    hub.stop().await;
}

#[tokio::test]
async fn only_the_merchant_answers_and_only_readers_who_asked() {
    let network = Network::new();
    let hub = network.start().await;
    let bakery = Bakery::open(&network, &hub, 600_000).await;
    let rival = Bakery::open(&network, &hub, 600_000).await;
    let (till, other) = (Actor::new(), Actor::new());
    assert_eq!(bakery.ask(&hub, &till, &SECRET, 0).await.status, 202);

    // Another merchant sees nothing, and can't take the id.
    let path = format!("/v1/pairings/{}", bakery.pairing);
    let foreign = rival.actor.call(&hub, Method::GET, &path, None).await;
    assert_eq!(code_of(&foreign), "pairing_unknown");
    assert_eq!(code_of(&bakery.open_as(&rival.actor, &hub, 1_000).await), "conflict");

    let of = |key: &Actor| reader(network.id, bakery.id, &bakery.actor.key, key.key.public());
    let refused = async |entry: &Entry| code_of(&bakery.sign(&hub, entry).await);
    assert_eq!(refused(&of(&other)).await, "unprocessable");
    let of_rival = reader(network.id, rival.id, &rival.actor.key, till.key.public());
    assert_eq!(refused(&of_rival).await, "unprocessable");
    let forged = reader(network.id, bakery.id, &rival.actor.key, till.key.public());
    assert_eq!(refused(&forged).await, "unprocessable");
    assert_eq!(refused(&network.merchant(bakery.id, &bakery.actor.key, 2)).await, "unprocessable");
    assert_eq!(bakery.sign(&hub, &of(&till)).await.status, 200);
    assert_eq!(refused(&of(&other)).await, "conflict");

    // A reader signs by the key that it carries, even if it is known by another.
    let path = format!("/v1/pairings/{}", rival.pairing);
    let body = to_json(&rival.request(&till, &SECRET));
    let answer = bakery.actor.call_by_key(&hub, Method::POST, &path, Some(body)).await;
    assert_eq!(code_of(&answer), "signature_invalid");
    hub.stop().await;
}

#[tokio::test]
async fn pairings_end_by_time_by_cancelling_and_with_the_merchant() {
    let network = Network::new();
    let hub = network.start().await;
    let bakery = Bakery::open(&network, &hub, 400).await;
    let till = Actor::new();
    let answer = bakery.ask(&hub, &till, &SECRET, 20_000).await;
    assert_eq!(code_of(&answer), "pairing_unknown");
    assert_eq!(code_of(&bakery.call(&hub, Method::GET, "", None).await), "pairing_unknown");

    let bakery = Bakery::open(&network, &hub, 600_000).await;
    let (answer, cancelled) = tokio::join!(bakery.ask(&hub, &till, &SECRET, 20_000), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        bakery.call(&hub, Method::DELETE, "", None).await
    });
    assert_eq!(cancelled.status, 200);
    assert_eq!(code_of(&answer), "pairing_unknown");

    let unknown = Actor::new();
    let never = PairingId::from_raw([1; 16]);
    let stray = Bakery { actor: Actor::new(), id: bakery.id, pairing: never };
    assert_eq!(code_of(&stray.ask(&hub, &unknown, &SECRET, 0).await), "pairing_unknown");
    assert_eq!(code_of(&stray.open_as(&bakery.actor, &hub, 0).await), "unprocessable");
    hub.stop().await;
}
