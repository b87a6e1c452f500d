//! A reader's agent as a process, `warifu reader serve`, and the calls that a till makes to it: plain HTTP, repeated
//! for the same order until it answers.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::check::Said;
use crate::fail::Failure;
use crate::kept::{Kept, Program};
use crate::local::free_port;

/// How long a till waits for an answer before it calls the connection broken.
const PAY_PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer from what the agent knows may take.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// An agent that is kept up.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) kept: Kept,
    url: String,
    http: reqwest::Client,
}

/// What an agent says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// Attempts that have no outcome yet.
    pub(super) unresolved: u64,
    /// For how long the oldest of them has had none.
    pub(super) oldest_s: u64,
}

impl Agent {
    /// Starts it on a paired folder.
    pub(super) async fn start(dir: &Path, http: reqwest::Client) -> Result<Self, Failure> {
        let address = free_port()?;
        let listen = address.to_string();
        let program = Program {
            name: format!("the reader in {}", dir.display()),
            args: vec![
                "reader".into(),
                "serve".into(),
                "--dir".into(),
                dir.into(),
                "--listen".into(),
                listen.into(),
            ],
            log: dir.with_extension("log"),
            address,
        };
        Ok(Self { kept: Kept::start(program).await?, url: format!("http://{address}"), http })
    }

    /// Asks for a payment; nothing when the connection breaks. Asking again for the same order is safe.
    pub(super) async fn pay(&self, order: &str, minor: u64, code: &str) -> Option<Said> {
        let amount = json!({ "minor": minor, "currency": "JPY" });
        let wish = json!({ "order_id": order, "amount": amount, "code": code });
        let sent = self
            .http
            .post(format!("{}/pay", self.url))
            .header("content-type", "application/json")
            .timeout(PAY_PATIENCE)
            .body(wish.to_string())
            .send();
        Said::read(&json_of(sent.await.ok()?).await?)
    }

    /// What it knows of an order.
    pub(super) async fn order(&self, order: &str) -> Option<Said> {
        Said::read(&self.get(&format!("/orders/{order}")).await?)
    }

    /// What it says of itself; nothing while it is down.
    pub(super) async fn health(&self) -> Option<Health> {
        let health = self.get("/health").await?;
        let number = |name: &str| health.get(name).and_then(Value::as_u64);
        Some(Health {
            unresolved: number("unresolved")?,
            oldest_s: number("oldest_unresolved_s").unwrap_or_default(),
        })
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let sent = self.http.get(format!("{}{path}", self.url)).timeout(ASK_PATIENCE).send();
        json_of(sent.await.ok()?).await
    }
}

async fn json_of(answer: reqwest::Response) -> Option<Value> {
    serde_json::from_slice(&answer.bytes().await.ok()?).ok()
}
