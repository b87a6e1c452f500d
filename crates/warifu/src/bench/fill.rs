//! `warifu bench fill`: a long past for a new issuer, faster than any network could make it. What is then measured over HTTP
//! lies among a million accounts and millions of payments.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Args, value_parser};
use serde_json::json;
use warifu_core::vault::Vault;
use warifu_issuer::Config;
use warifu_issuer::engine::{Engine, EngineConfig, open_store};
use warifu_proto::currency::Currency;
use warifu_server::keyfile;

use super::engine::load::{Load, Mix};
use super::engine::payers::{Opening, Payers};
use super::engine::{BATCH_BUILD, QUEUE_MAX, Stop, until};
use crate::fail::Failure;
use crate::out::Out;
use crate::{issuer, paths};

/// Fill the books of a new issuer that is not running with accounts and payments, to measure it among them.
///
/// Each payment is a code registered and paid by the same commands as in life, but without HTTP and signatures, many in a
/// commit. The accounts' terminals exist nowhere, and their merchants are in no directory. Only books that hold nothing yet are
/// filled, so that no real money comes to lie beside this.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  warifu bench fill --dir aoba --accounts 1000000 --payments 20000000
  warifu issuer serve --dir aoba")]
pub(crate) struct FillArgs {
    /// Folder of an issuer, as `warifu issuer init` made it
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Accounts, with a credential each
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=10_000_000))]
    accounts: u32,
    /// Payments by them, in turn
    #[arg(long, default_value_t = 100_000, value_parser = value_parser!(u64).range(0..=1_000_000_000))]
    payments: u64,
    /// Merchants that are paid
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..=100_000))]
    merchants: u32,
}

pub(super) async fn run(
    args: FillArgs,
    out: &Out,
    stopped: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let config = issuer::load(&args.dir)?;
    let (dir, told) = (args.dir.clone(), out.clone());
    let done = until(stopped, move |stop| fill(&args, &config, stop, &told)).await?;
    done.map_err(|error| {
        Failure::refused(format_args!("the books in {} were not filled", paths::shown(&dir)))
            .because(&*error)
    })
}

fn fill(args: &FillArgs, config: &Config, stop: &Stop, out: &Out) -> anyhow::Result<()> {
    let began = Instant::now();
    let opening = Opening {
        accounts: args.accounts,
        partitions: config.partitions,
        prefix: config.prefix,
        currency: Currency::iso(config.currency).context("only a currency of ISO 4217")?,
    };
    let engine = start(&args.dir, config)?;
    anyhow::ensure!(
        *engine.committed().borrow() == 0,
        "they hold entries already: make a new issuer with warifu issuer init, and fill it before it is served"
    );
    let mut payers = Payers::open(&engine, &opening, stop, out)?;
    let mix = Mix { merchants: args.merchants, hot_share: None, random_ids: false };
    Load::new(&mix, stop).history(&engine, &mut payers, args.payments, out)?;
    let entries = *engine.committed().borrow();
    engine.stop();
    let took_ms = u64::try_from(began.elapsed().as_millis())?;
    let &FillArgs { accounts, payments, .. } = args;
    out.object(&json!({ "accounts": accounts, "payments": payments, "entries": entries, "took_ms": took_ms }));
    out.say(format_args!(
        "{accounts} accounts and {payments} payments: {entries} entries in {} s",
        took_ms / 1000
    ));
    Ok(())
}

fn start(dir: &Path, config: &Config) -> anyhow::Result<Engine> {
    let vault_key = keyfile::read_secret(dir.join(&config.vault_key_file))?;
    let store = open_store(&dir.join(&config.data), config.prefix)?;
    let defaults = EngineConfig::new(config.prefix);
    let config = EngineConfig { batch_max: BATCH_BUILD, queue_max: QUEUE_MAX, ..defaults };
    Engine::start(config, store, Arc::new(Vault::new(*vault_key)))
}
