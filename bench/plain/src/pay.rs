//! One payment: one transaction with row locks, safe to repeat by its request id.
//!
//! Locks are taken in one order, the code, its account, the merchant, so payments can't wait for each other in a circle;
//! the merchant's, which everybody wants, comes last and is held for the shortest time.

use deadpool_postgres::{Client, Transaction};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

const BEFORE: &str = "select id, code, amount_minor, currency, status, rejection, \
    (extract(epoch from decided_at) * 1000)::bigint from payments where merchant_id = $1 and request_id = $2";
const LOCK: &str = "select c.is_used, c.expires_at <= now(), a.id, a.balance_minor, a.currency \
    from codes c join credentials k on k.id = c.credential_id join accounts a on a.id = k.account_id \
    where c.code = $1 for update of c, a";
const INSERT: &str = "insert into payments \
    (merchant_id, request_id, code, account_id, amount_minor, currency, status, rejection) \
    values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (merchant_id, request_id) do nothing \
    returning id, (extract(epoch from decided_at) * 1000)::bigint";
const USE_CODE: &str = "update codes set is_used = true where code = $1";
const DEBIT: &str = "update accounts set balance_minor = balance_minor - $2 where id = $1";
const ENTRIES: &str = "insert into ledger_entries (payment_id, account_id, merchant_id, amount_minor) \
    values ($1, $2, null, -$4::bigint), ($1, null, $3, $4::bigint)";
const CREDIT: &str = "update merchants set balance_minor = balance_minor + $2 where id = $1";

/// A reader's wish to be paid: as Warifu's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PayRequest {
    pub(crate) request_id: String,
    pub(crate) code: String,
    pub(crate) amount: Amount,
    #[expect(dead_code, reason = "it has one value: what is taken later is not built")]
    pub(crate) capture: Capture,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Capture {
    Now,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Amount {
    pub(crate) minor: i64,
    pub(crate) currency: String,
}

/// What became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Payment {
    payment_id: String,
    request_id: String,
    status: String,
    amount: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejection: Option<String>,
    decided_at_ms: i64,
}

#[derive(Debug)]
pub(crate) enum Refused {
    /// The request id was used for another payment.
    Conflict,
    /// The database did not do it; nothing is known of the outcome.
    Broken(String),
}

impl<E: std::error::Error> From<E> for Refused {
    fn from(error: E) -> Self {
        let because = error.source().map(ToString::to_string).unwrap_or_default();
        Self::Broken(format!("{error} {because}"))
    }
}

/// Decides and commits a payment, or says what was decided before.
pub(crate) async fn pay(
    client: &mut Client,
    merchant: i64,
    wish: &PayRequest,
) -> Result<Payment, Refused> {
    loop {
        let transaction = client.transaction().await?;
        if let Some(before) = before(&transaction, merchant, wish).await? {
            return before;
        }
        if let Some(payment) = decide(&transaction, merchant, wish).await? {
            transaction.commit().await?;
            return Ok(payment);
        }
        // Another call with the same request id was faster: the next look finds its payment.
        transaction.rollback().await?;
    }
}

async fn before(
    transaction: &Transaction<'_>,
    merchant: i64,
    wish: &PayRequest,
) -> Result<Option<Result<Payment, Refused>>, Refused> {
    let statement = transaction.prepare_cached(BEFORE).await?;
    let row = transaction.query_opt(&statement, &[&merchant, &wish.request_id]).await?;
    Ok(row.map(|row| {
        let amount = Amount { minor: row.get(2), currency: row.get(3) };
        if row.get::<_, &str>(1) != wish.code || amount != wish.amount {
            return Err(Refused::Conflict);
        }
        let (payment_id, request_id) = (row.get::<_, i64>(0).to_string(), wish.request_id.clone());
        let (status, rejection, decided_at_ms) = (row.get(4), row.get(5), row.get(6));
        Ok(Payment { payment_id, request_id, status, amount, rejection, decided_at_ms })
    }))
}

/// Nothing when the request id was taken meanwhile.
async fn decide(
    transaction: &Transaction<'_>,
    merchant: i64,
    wish: &PayRequest,
) -> Result<Option<Payment>, Refused> {
    let minor = wish.amount.minor;
    let lock = transaction.prepare_cached(LOCK).await?;
    let locked = transaction.query_opt(&lock, &[&wish.code]).await?;
    let rejection = rejection(locked.as_ref(), &wish.amount);
    let status = if rejection.is_none() { "approved" } else { "declined" };
    let account: Option<i64> = locked.as_ref().map(|it| it.get(2));
    let insert = transaction.prepare_cached(INSERT).await?;
    let inserted = transaction
        .query_opt(
            &insert,
            &[
                &merchant,
                &wish.request_id,
                &wish.code,
                &account,
                &minor,
                &wish.amount.currency,
                &status,
                &rejection,
            ],
        )
        .await?;
    let Some(inserted) = inserted else { return Ok(None) };
    let id: i64 = inserted.get(0);
    if rejection.is_none() {
        let use_code = transaction.prepare_cached(USE_CODE).await?;
        transaction.execute(&use_code, &[&wish.code]).await?;
        let debit = transaction.prepare_cached(DEBIT).await?;
        transaction.execute(&debit, &[&account, &minor]).await?;
        let entries = transaction.prepare_cached(ENTRIES).await?;
        transaction.execute(&entries, &[&id, &account, &merchant, &minor]).await?;
        let credit = transaction.prepare_cached(CREDIT).await?;
        transaction.execute(&credit, &[&merchant, &minor]).await?;
    }
    Ok(Some(Payment {
        payment_id: id.to_string(),
        request_id: wish.request_id.clone(),
        status: status.to_owned(),
        amount: wish.amount.clone(),
        rejection: rejection.map(str::to_owned),
        decided_at_ms: inserted.get(1),
    }))
}

fn rejection(locked: Option<&Row>, amount: &Amount) -> Option<&'static str> {
    let Some(row) = locked else { return Some("code_unknown") };
    let (is_used, is_expired): (bool, bool) = (row.get(0), row.get(1));
    let (balance_minor, currency): (i64, &str) = (row.get(3), row.get(4));
    if is_expired {
        Some("code_expired")
    } else if is_used {
        Some("code_used")
    } else if currency != amount.currency {
        Some("currency_mismatch")
    } else if balance_minor < amount.minor {
        Some("insufficient_funds")
    } else {
        None
    }
}
