//! The operator's word on accounts and terminals: look, freeze, close, limit, suspend, unlink. Repeating any of them does
//! nothing.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::id::{AccountId, CredentialId};

use super::admin::{Office, list, listing, more, text};
use super::{Folder, ListArgs};
use crate::fail::Failure;
use crate::out::Out;

#[derive(Debug, Args)]
pub(super) struct OneAccount {
    /// Which account
    #[arg(value_name = "ACC")]
    account: String,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    #[command(flatten)]
    one: OneAccount,
    /// Give the account the issuer's limits again
    #[arg(long, conflicts_with_all = ["payment_max", "day_max", "day_count_max", "confirm_above", "confirm_above_count", "offline_max", "offline_count_max"])]
    none: bool,
    /// Most of one payment, in major units
    #[arg(long, value_name = "AMOUNT")]
    payment_max: Option<String>,
    /// Most of all payments of one day, in major units
    #[arg(long, value_name = "AMOUNT")]
    day_max: Option<String>,
    /// Most payments of one day
    #[arg(long, value_name = "N")]
    day_count_max: Option<u32>,
    /// Above this amount the payer confirms on the phone, in major units
    #[arg(long, value_name = "AMOUNT")]
    confirm_above: Option<String>,
    /// After so many payments a day without a question the payer confirms
    #[arg(long, value_name = "N")]
    confirm_above_count: Option<u32>,
    /// Most that a phone without network can pay, in major units [default: as in the settings' defaults]
    #[arg(long, value_name = "AMOUNT")]
    offline_max: Option<String>,
    /// Most payments of a phone without network
    #[arg(long, value_name = "N")]
    offline_count_max: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(super) enum TerminalCommand {
    /// Let a terminal pay nothing for now.
    #[command(after_help = "Example:\n  warifu issuer terminal suspend crd_… --dir aoba")]
    Suspend(OneTerminal),
    /// Let a suspended terminal pay again.
    #[command(after_help = "Example:\n  warifu issuer terminal resume crd_… --dir aoba")]
    Resume(OneTerminal),
    /// End a terminal's link for good: a lost phone.
    #[command(after_help = "Example:\n  warifu issuer terminal unlink crd_… --dir aoba")]
    Unlink(OneTerminal),
}

#[derive(Debug, Args)]
pub(super) struct OneTerminal {
    /// Which terminal
    #[arg(value_name = "CRD")]
    credential: String,
    #[command(flatten)]
    folder: Folder,
}

pub(super) async fn show(args: &OneAccount, out: &Out) -> Result<(), Failure> {
    let account = AccountId::parse(&args.account)?;
    let office = Office::open(&args.folder.dir)?;
    let now = office.get(&format!("/admin/v1/accounts/{account}")).await?;
    tell(&now, out);
    Ok(())
}

/// Freezes, unfreezes or closes an account.
pub(super) async fn stand(args: &OneAccount, standing: &str, out: &Out) -> Result<(), Failure> {
    let account = AccountId::parse(&args.account)?;
    let office = Office::open(&args.folder.dir)?;
    let path = format!("/admin/v1/accounts/{account}/standing");
    let now = office.put(&path, &json!({ "standing": standing })).await?;
    tell(&now, out);
    Ok(())
}

pub(super) async fn limit(args: &LimitArgs, out: &Out) -> Result<(), Failure> {
    let account = AccountId::parse(&args.one.account)?;
    let office = Office::open(&args.one.folder.dir)?;
    let path = format!("/admin/v1/accounts/{account}");
    let mut limits = Value::Null;
    if !args.none {
        let now = office.get(&path).await?;
        let code = text(&now["balance"], "currency");
        let currency = office.currency(Some(&code)).await?;
        let minor = |amount: &Option<String>| -> Result<Value, Failure> {
            Ok(match amount {
                Some(amount) => json!(currency.parse_minor(amount)?),
                None => Value::Null,
            })
        };
        let wished = [
            ("payment_max_minor", minor(&args.payment_max)?),
            ("day_max_minor", minor(&args.day_max)?),
            ("day_count_max", json!(args.day_count_max)),
            ("confirm_above_minor", minor(&args.confirm_above)?),
            ("confirm_above_count", json!(args.confirm_above_count)),
            ("offline_max_minor", minor(&args.offline_max)?),
            ("offline_count_max", json!(args.offline_count_max)),
        ];
        let wished: serde_json::Map<_, _> = wished
            .into_iter()
            .filter(|(_, limit)| !limit.is_null())
            .map(|(name, limit)| (name.to_owned(), limit))
            .collect();
        if wished.is_empty() {
            return Err(Failure::usage("no limit was given")
                .next("name one, such as --payment-max 10000, or --none for the issuer's"));
        }
        limits = Value::Object(wished);
    }
    let now = office.put(&format!("{path}/limits"), &json!({ "limits": limits })).await?;
    tell(&now, out);
    Ok(())
}

fn tell(now: &Value, out: &Out) {
    let sum = |name: &str| {
        let minor = now[name]["minor"].as_i64().unwrap_or_default();
        let code = text(&now[name], "currency");
        let currency = CurrencyCode::parse(&code).ok().and_then(Currency::iso);
        currency.map_or_else(
            || format!("{minor} minor units of {code}"),
            |currency| currency.format(i128::from(minor)),
        )
    };
    out.say(format_args!(
        "{} is {}: balance {}, of it reserved {}",
        text(now, "account_id"),
        text(now, "standing"),
        sum("balance"),
        sum("reserved")
    ));
    let whose = if now["has_own_limits"] == json!(true) { "its own" } else { "the issuer's" };
    let limits: Vec<String> = now["limits"]
        .as_object()
        .map(|limits| limits.iter().map(|(name, limit)| format!("{name} {limit}")).collect())
        .unwrap_or_default();
    out.say(format_args!("limits, {whose}: {}", limits.join(", ")));
    out.object(now);
}

pub(super) async fn terminals(args: &ListArgs, out: &Out) -> Result<(), Failure> {
    let office = Office::open(&args.folder.dir)?;
    let page = office.get(&listing("credentials", args)).await?;
    let rows: Vec<Vec<String>> = list(&page, "credentials")
        .iter()
        .map(|row| {
            ["credential_id", "label", "standing", "account_id"].map(|it| text(row, it)).to_vec()
        })
        .collect();
    out.table(&["terminal", "label", "standing", "account"], &rows);
    more(&page, "terminals", &office, out);
    out.object(&page);
    Ok(())
}

pub(super) async fn terminal(command: &TerminalCommand, out: &Out) -> Result<(), Failure> {
    let (one, suspended) = match command {
        TerminalCommand::Suspend(one) => (one, Some(true)),
        TerminalCommand::Resume(one) => (one, Some(false)),
        TerminalCommand::Unlink(one) => (one, None),
    };
    let credential = CredentialId::parse(&one.credential)?;
    let office = Office::open(&one.folder.dir)?;
    let path = format!("/admin/v1/credentials/{credential}");
    let (now, word) = match suspended {
        Some(suspended) => {
            let wish = json!({ "suspended": suspended });
            let now = office.put(&format!("{path}/standing"), &wish).await?;
            (now, if suspended { "suspended" } else { "active" })
        }
        None => (office.call(Method::DELETE, &path, None, None).await?, "unlinked"),
    };
    out.say(format_args!("{credential} is {word}"));
    out.object(&now);
    Ok(())
}
