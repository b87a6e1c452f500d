//! Questions to payers, as they were put: the very bytes that a payer's word signs. Kept until nobody can answer or
//! repeat an answer any more, so that a merchant's new name does not make a word worthless.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use warifu_proto::id::PaymentId;
use warifu_proto::time::Timestamp;
use warifu_server::db::{self, Durability};

/// How long a question is kept after its end, for words that are repeated.
const KEPT_MS: u64 = 3_600_000;

/// The questions of an issuer.
#[derive(Debug)]
pub struct Questions(Mutex<Connection>);

impl Questions {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        Ok(Self(Mutex::new(db::open(path, Durability::Normal)?)))
    }

    /// The text that was put to the payer of a payment, if one was.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn text(
        self: &std::sync::Arc<Self>,
        payment: PaymentId,
    ) -> anyhow::Result<Option<Vec<u8>>> {
        let questions = std::sync::Arc::clone(self);
        tokio::task::spawn_blocking(move || questions.read(payment))
            .await
            .context("reading a question panicked")?
    }

    fn read(&self, payment: PaymentId) -> anyhow::Result<Option<Vec<u8>>> {
        let questions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut select =
            questions.prepare_cached("SELECT text FROM question WHERE payment = ?1")?;
        Ok(select.query_row([payment.raw()], |row| row.get(0)).optional()?)
    }

    /// Keeps a text before it is sent. The first one stands, so that what is sent again is the same.
    pub(super) fn keep(
        &self,
        payment: PaymentId,
        text: &[u8],
        until: Timestamp,
        now: Timestamp,
    ) -> anyhow::Result<Vec<u8>> {
        {
            let questions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            questions
                .prepare_cached("DELETE FROM question WHERE until_ms < ?1")?
                .execute([now.as_ms()])?;
            questions
                .prepare_cached("INSERT OR IGNORE INTO question VALUES (?1, ?2, ?3)")?
                .execute(params![payment.raw(), text, until.plus_ms(KEPT_MS).as_ms()])?;
        }
        self.read(payment)?.context("a question was not kept")
    }
}
