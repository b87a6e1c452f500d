//! Names, labels, order ids and descriptions: rows that can be erased, apart from the journal, which never can.
//!
//! A text is durable before the command that refers to it enters the lane (decision 0007), so a fact never points to a
//! text that was lost; a text without a fact harms nobody. Writes that wait at the same time share one transaction.
//!
//! What was erased is gone from the file as well: its bytes are overwritten (`secure_delete`) and the write-ahead log
//! ends. Backups are the operator's affair.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::oneshot;
use warifu_proto::id::{AccountId, CredentialId, MerchantId};
use warifu_proto::request_id::RequestId;
use warifu_server::db::{self, Durability};

const TABLES: &[&str] = &["
    CREATE TABLE account (account BLOB PRIMARY KEY, name TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE credential (credential BLOB PRIMARY KEY, label TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE payment (merchant BLOB NOT NULL, request TEXT NOT NULL, order_id TEXT, description TEXT, PRIMARY KEY (merchant, request)) STRICT, WITHOUT ROWID;
"];
/// Most writes in one transaction.
const GROUP_MAX: usize = 512;

type Reply = oneshot::Sender<anyhow::Result<()>>;

enum Write {
    Account(AccountId, String),
    Credential(CredentialId, String),
    Payment(MerchantId, RequestId, Option<String>, Option<String>),
    EraseAccount(AccountId),
}

/// The texts of an issuer.
#[derive(Debug)]
pub struct Texts {
    writes: Sender<(Write, Reply)>,
    reader: Arc<Mutex<Connection>>,
}

/// What a merchant said about a payment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaymentTexts {
    /// The till's own id of the sale.
    pub order_id: Option<String>,
    /// For people.
    pub description: Option<String>,
}

impl Texts {
    /// Opens or makes them in the data folder.
    ///
    /// # Errors
    /// When the file can't be used.
    pub fn open(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("texts.db");
        let mut writer = db::open(&path, Durability::Full)
            .with_context(|| format!("cannot open {}", path.display()))?;
        db::migrate(&writer, TABLES)?;
        writer.pragma_update(None, "secure_delete", true)?;
        let reader = Arc::new(Mutex::new(db::open(&path, Durability::Normal)?));
        let (writes, inbox) = channel();
        std::thread::Builder::new()
            .name("texts".to_owned())
            .spawn(move || run(&mut writer, &inbox))?;
        Ok(Self { writes, reader })
    }

    /// Keeps the name of an account.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn put_account_name(&self, account: AccountId, name: &str) -> anyhow::Result<()> {
        self.write(Write::Account(account, name.to_owned())).await
    }

    /// Keeps what the payer calls a terminal.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn put_credential_label(
        &self,
        credential: CredentialId,
        label: &str,
    ) -> anyhow::Result<()> {
        self.write(Write::Credential(credential, label.to_owned())).await
    }

    /// Keeps what a merchant says about a payment. The first word under a request id stands: a changed repeat is refused by
    /// the lane, and must not change the text either.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn put_payment_texts(
        &self,
        merchant: MerchantId,
        request: &RequestId,
        order_id: Option<&str>,
        description: Option<&str>,
    ) -> anyhow::Result<()> {
        self.write(Write::Payment(
            merchant,
            request.clone(),
            order_id.map(str::to_owned),
            description.map(str::to_owned),
        ))
        .await
    }

    /// Forgets the name of an account for good.
    ///
    /// # Errors
    /// When the disk does not take it: then repeat it, because traces may be left.
    pub async fn erase_account(&self, account: AccountId) -> anyhow::Result<()> {
        self.write(Write::EraseAccount(account)).await
    }

    /// The name of an account, unless it was erased.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn account_name(&self, account: AccountId) -> anyhow::Result<Option<String>> {
        self.read(move |texts| {
            texts
                .prepare_cached("SELECT name FROM account WHERE account = ?1")?
                .query_row([account.raw()], |row| row.get(0))
                .optional()
        })
        .await
    }

    /// What the payer calls a terminal.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn credential_label(
        &self,
        credential: CredentialId,
    ) -> anyhow::Result<Option<String>> {
        self.read(move |texts| {
            texts
                .prepare_cached("SELECT label FROM credential WHERE credential = ?1")?
                .query_row([credential.raw()], |row| row.get(0))
                .optional()
        })
        .await
    }

    /// What a merchant said about a payment.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn payment_texts(
        &self,
        merchant: MerchantId,
        request: &RequestId,
    ) -> anyhow::Result<PaymentTexts> {
        let request = request.clone();
        let found = self.read(move |texts| {
            texts
                .prepare_cached("SELECT order_id, description FROM payment WHERE merchant = ?1 AND request = ?2")?
                .query_row(params![merchant.raw(), request.as_str()], |row| {
                    Ok(PaymentTexts { order_id: row.get(0)?, description: row.get(1)? })
                })
                .optional()
        });
        Ok(found.await?.unwrap_or_default())
    }

    async fn write(&self, write: Write) -> anyhow::Result<()> {
        let (reply, written) = oneshot::channel();
        self.writes.send((write, reply)).ok().context("the texts are closed")?;
        written.await.context("the texts are closed")?
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let reader = Arc::clone(&self.reader);
        let read = move || read(&reader.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(tokio::task::spawn_blocking(read).await.context("reading a text panicked")??)
    }
}

fn run(writer: &mut Connection, inbox: &Receiver<(Write, Reply)>) {
    while let Ok(first) = inbox.recv() {
        let mut group = vec![first];
        group.extend(inbox.try_iter().take(GROUP_MAX - 1));
        let mut written = write_all(writer, &group);
        if written.is_ok() && group.iter().any(|(write, _)| matches!(write, Write::EraseAccount(_)))
        {
            written = end_log(writer);
        }
        for (_, reply) in group {
            let result = written
                .as_ref()
                .copied()
                .map_err(|error| anyhow::anyhow!("a text could not be kept: {error}"));
            // Whoever has gone away does not need the answer.
            drop(reply.send(result));
        }
    }
}

/// Moves the write-ahead log into the file and empties it: it still has what was erased.
fn end_log(writer: &Connection) -> rusqlite::Result<()> {
    let is_busy: bool =
        writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if is_busy {
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            None,
        ))
    } else {
        Ok(())
    }
}

fn write_all(writer: &mut Connection, group: &[(Write, Reply)]) -> rusqlite::Result<()> {
    let transaction = writer.transaction()?;
    for (write, _) in group {
        match write {
            Write::Account(account, name) => transaction
                .prepare_cached("INSERT INTO account VALUES (?1, ?2) ON CONFLICT DO UPDATE SET name = excluded.name")?
                .execute(params![account.raw(), name])?,
            Write::Credential(credential, label) => transaction
                .prepare_cached("INSERT INTO credential VALUES (?1, ?2) ON CONFLICT DO UPDATE SET label = excluded.label")?
                .execute(params![credential.raw(), label])?,
            Write::Payment(merchant, request, order_id, description) => transaction
                .prepare_cached("INSERT OR IGNORE INTO payment VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![merchant.raw(), request.as_str(), order_id, description])?,
            Write::EraseAccount(account) => {
                transaction.prepare_cached("DELETE FROM account WHERE account = ?1")?.execute([account.raw()])?
            }
        };
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> RequestId {
        RequestId::parse(text).unwrap()
    }

    const ACCOUNT: AccountId = AccountId::from_raw([1; 16]);
    const CREDENTIAL: CredentialId = CredentialId::from_raw([2; 16]);
    const MERCHANT: MerchantId = MerchantId::from_raw([3; 16]);

    #[tokio::test]
    async fn texts_outlive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let texts = Texts::open(folder.path()).unwrap();
        assert_eq!(texts.account_name(ACCOUNT).await.unwrap(), None);
        texts.put_account_name(ACCOUNT, "Hanako").await.unwrap();
        texts.put_account_name(ACCOUNT, "Hanako Aoki").await.unwrap();
        texts.put_credential_label(CREDENTIAL, "My phone").await.unwrap();
        texts.put_payment_texts(MERCHANT, &request("a"), Some("order 7"), None).await.unwrap();
        drop(texts);
        let texts = Texts::open(folder.path()).unwrap();
        assert_eq!(texts.account_name(ACCOUNT).await.unwrap().as_deref(), Some("Hanako Aoki"));
        assert_eq!(texts.credential_label(CREDENTIAL).await.unwrap().as_deref(), Some("My phone"));
        let about = PaymentTexts { order_id: Some("order 7".to_owned()), description: None };
        assert_eq!(texts.payment_texts(MERCHANT, &request("a")).await.unwrap(), about);
        assert_eq!(
            texts.payment_texts(MERCHANT, &request("b")).await.unwrap(),
            PaymentTexts::default()
        );
    }

    #[tokio::test]
    async fn the_first_word_about_a_payment_stands() {
        let folder = tempfile::tempdir().unwrap();
        let texts = Texts::open(folder.path()).unwrap();
        let other = MerchantId::from_raw([4; 16]);
        texts.put_payment_texts(MERCHANT, &request("a"), None, Some("tea")).await.unwrap();
        texts.put_payment_texts(MERCHANT, &request("a"), Some("1"), Some("coffee")).await.unwrap();
        texts.put_payment_texts(other, &request("a"), None, Some("bread")).await.unwrap();
        let of = async |merchant| texts.payment_texts(merchant, &request("a")).await.unwrap();
        assert_eq!(
            of(MERCHANT).await,
            PaymentTexts { order_id: None, description: Some("tea".to_owned()) }
        );
        assert_eq!(of(other).await.description.as_deref(), Some("bread"));
    }

    #[tokio::test]
    async fn what_was_erased_is_in_no_file_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let texts = Texts::open(folder.path()).unwrap();
        texts.put_account_name(ACCOUNT, "Erasable Person").await.unwrap();
        texts.put_account_name(AccountId::from_raw([9; 16]), "Somebody Else").await.unwrap();
        let traces = |of: &str| {
            let files = std::fs::read_dir(folder.path())
                .unwrap()
                .map(|it| std::fs::read(it.unwrap().path()).unwrap());
            files.filter(|bytes| bytes.windows(of.len()).any(|it| it == of.as_bytes())).count()
        };
        assert!(traces("Erasable Person") > 0);
        texts.erase_account(ACCOUNT).await.unwrap();
        assert_eq!(
            (texts.account_name(ACCOUNT).await.unwrap(), traces("Erasable Person")),
            (None, 0)
        );
        assert!(traces("Somebody Else") > 0);
        texts.erase_account(ACCOUNT).await.unwrap();
    }

    #[tokio::test]
    async fn writes_that_come_together_are_all_answered_and_all_there() {
        let folder = tempfile::tempdir().unwrap();
        let texts = Arc::new(Texts::open(folder.path()).unwrap());
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..GROUP_MAX * 2 {
            let texts = Arc::clone(&texts);
            waiting.spawn(async move {
                let (id, text) = (request(&format!("r-{number}")), number.to_string());
                texts.put_payment_texts(MERCHANT, &id, None, Some(&text)).await.unwrap();
                assert_eq!(
                    texts.payment_texts(MERCHANT, &id).await.unwrap().description,
                    Some(text)
                );
            });
        }
        assert_eq!(waiting.join_all().await.len(), GROUP_MAX * 2);
    }
}
