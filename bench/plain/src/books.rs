//! The tables: made with everything that stands before the clock starts, and checked after it stopped.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Args;
use futures_util::SinkExt as _;
use tokio_postgres::{Client, NoTls};

/// So much that no account runs out of it.
const OPENING_MINOR: i64 = 1_000_000_000;
pub(crate) const CURRENCY: &str = "JPY";

#[derive(Debug, Args)]
pub(crate) struct Prepare {
    /// Connection of tokio-postgres: `host=/run/postgresql user=bench dbname=bench`
    #[arg(long)]
    database: String,
    /// Accounts, with a credential each
    #[arg(long, default_value_t = 3000)]
    accounts: u64,
    /// Merchants, with an equal share of the payments each
    #[arg(long, default_value_t = 1)]
    merchants: u64,
    /// Codes to register; each pays once
    #[arg(long, default_value_t = 100_000)]
    codes: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// As of `prepare`
    #[arg(long)]
    database: String,
    /// As many approved payments as there must be at least
    #[arg(long)]
    approved: i64,
}

/// The how-manieth code: 24 digits, spread over the index as random ones are.
pub(crate) fn code(number: u64) -> String {
    let mut it = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    format!("71000001{:016}", (it ^ (it >> 31)) % 10_000_000_000_000_000)
}

pub(crate) async fn prepare(args: &Prepare) -> anyhow::Result<()> {
    ensure!(args.accounts > 0 && args.merchants > 0, "there must be accounts and merchants");
    let client = connect(&args.database).await?;
    client.batch_execute(include_str!("schema.sql")).await?;
    fill(&client, "accounts", args.accounts, |it| format!("{it}\t{CURRENCY}\t{OPENING_MINOR}"))
        .await?;
    fill(&client, "credentials", args.accounts, |it| format!("{it}\t{it}")).await?;
    fill(&client, "merchants", args.merchants, |it| format!("{it}\t{CURRENCY}\t0")).await?;
    let row = |it| format!("{}\t{}\tinfinity\tf", code(it), it % args.accounts);
    fill(&client, "codes", args.codes, row).await?;
    // Neither statistics nor what the copying left to be written shall be paid for by the measured time.
    client.batch_execute("vacuum analyze").await?;
    client.batch_execute("checkpoint").await?;
    Ok(())
}

pub(crate) async fn check(args: &Check) -> anyhow::Result<()> {
    let client = connect(&args.database).await?;
    let row = client.query_one(include_str!("check.sql"), &[&OPENING_MINOR]).await?;
    let (approved, sum, wrong): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    ensure!(sum == 0, "the ledger sums to {sum}, not 0");
    ensure!(wrong == 0, "{wrong} balances or payments are not what the ledger says");
    ensure!(
        approved >= args.approved,
        "{} payments were answered as approved, {approved} are in the books",
        args.approved
    );
    Ok(())
}

async fn connect(database: &str) -> anyhow::Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(database, NoTls).await.context("no database")?;
    // What ends the connection reaches the query that used it.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

async fn fill(
    client: &Client,
    table: &str,
    count: u64,
    row: impl Fn(u64) -> String,
) -> anyhow::Result<()> {
    let sink = client.copy_in::<_, Bytes>(&format!("copy {table} from stdin")).await?;
    let mut sink = std::pin::pin!(sink);
    let numbers: Vec<u64> = (0..count).collect();
    for some in numbers.chunks(1000) {
        let mut text = String::new();
        for number in some {
            writeln!(text, "{}", row(*number))?;
        }
        sink.send(text.into()).await?;
    }
    sink.finish().await?;
    Ok(())
}
