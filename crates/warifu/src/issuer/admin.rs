//! The operator's calls to a running issuer, signed by `operator.key`.
//!
//! Law: what changes something carries a request id. When nobody knows whether it was done, the failure
//! names the id, and the same command with it does the thing at most once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::id::AccountId;
use warifu_proto::limits::NAME_MAX;
use warifu_proto::link::InvitationLink;
use warifu_proto::message::{AccountKind, check_text};
use warifu_proto::money::Money;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;
use warifu_server::client::{CallError, Client, Peer};
use warifu_server::{chance, clock, keyfile};

use super::init::{CARD, OPERATOR_KEY};
use super::{InviteArgs, KindArg, ListArgs, OpenArgs, TopUpArgs, init_command, load};
use crate::card::{Card, IssuerCard};
use crate::fail::Failure;
use crate::network::Network;
use crate::out::Out;
use crate::{calls, directory, paths};

/// The operator's side of an issuer: its folder, or a copy of operator.key, issuer.card.json and issuer.toml.
pub(crate) struct Office {
    dir: PathBuf,
    card: IssuerCard,
    client: Client,
    issuer: Peer,
}

impl Office {
    pub(super) fn open(dir: &Path) -> Result<Self, Failure> {
        let init = init_command(dir);
        let path = paths::existing(dir, CARD, &init)?;
        let Card::Issuer(card) = paths::read_json(&path, "card")? else {
            return Err(Failure::usage(format_args!("{} is no issuer's card", path.display())));
        };
        let operator = keyfile::read(paths::existing(dir, OPERATOR_KEY, &init)?)?;
        // Every endpoint takes the operator's calls; an issuer of several carries them to the right one.
        let Some(endpoint) = card.endpoints.first() else {
            return Err(Failure::usage(format_args!("{} names no endpoint", path.display())));
        };
        let issuer = Peer { url: endpoint.url.clone(), key: card.key.clone() };
        let client = calls::client(Arc::new(operator))?;
        Ok(Self { dir: dir.to_owned(), card, client, issuer })
    }

    /// The same for an issuer that listens elsewhere than its card says.
    pub(crate) fn at(dir: &Path, url: &str) -> Result<Self, Failure> {
        let mut office = Self::open(dir)?;
        office.issuer.url = url.trim_end_matches('/').to_owned();
        Ok(office)
    }

    /// A call that may take its time and changes nothing.
    pub(crate) async fn call_for(
        &self,
        method: Method,
        path: &str,
        patience: Duration,
    ) -> Result<Value, Failure> {
        calls::ask(&self.client, &self.issuer, method, path, None, patience).await
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None, None).await
    }

    async fn post(
        &self,
        path: &str,
        body: &Value,
        id: Option<&RequestId>,
    ) -> Result<Value, Failure> {
        self.call(Method::POST, path, Some(calls::body(body)), id).await
    }

    /// Sets something to what it may be already, so that repeating it is safe.
    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::PUT, path, Some(calls::body(body)), None).await
    }

    /// Calls the issuer. When nobody knows what came of it, the failure names the request id.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        id: Option<&RequestId>,
    ) -> Result<Value, Failure> {
        let unknown = |failure: Failure| match id {
            Some(id) => failure.next(format_args!(
                "repeat the same command with --request-id {id}: then it is done at most once"
            )),
            None => failure,
        };
        let headers = HeaderMap::new();
        let called =
            self.client.call(&self.issuer, method, path, body, calls::DEADLINE, headers).await;
        let answer = called.map_err(|error| match error {
            CallError::Unreachable { .. } => Failure::from(error)
                .next(format_args!("warifu issuer serve --dir {}   (is it running?)", self.dir())),
            CallError::TimedOut { .. }
            | CallError::Broken { .. }
            | CallError::Unverified { .. } => unknown(error.into()),
        })?;
        let broken = answer.status.is_server_error();
        calls::read(&answer).map_err(|failure| if broken { unknown(failure) } else { failure })
    }

    /// A currency by its letters: ISO's from its table, a regional one from the directory.
    pub(super) async fn currency(&self, code: Option<&str>) -> Result<Currency, Failure> {
        let code = match (code, self.card.currencies.first()) {
            (Some(code), _) => CurrencyCode::parse(code)?,
            (None, Some(own)) => *own,
            (None, None) => return Err(Failure::usage("the card names no currency")),
        };
        if let Some(currency) = Currency::iso(code) {
            return Ok(currency);
        }
        let config = load(&self.dir)?;
        let network = Network::read(&self.dir.join(&config.network_file))?;
        let fetched = directory::fetch(&calls::http()?, &config.hub, Some(&network)).await?;
        fetched.directory.currency(code).ok_or_else(|| {
            Failure::usage(format_args!("{code} is no currency of this network")).next(
                format_args!("have the registrar add it: warifu registrar currency add {code} …"),
            )
        })
    }

    fn dir(&self) -> String {
        paths::shown(&self.dir)
    }
}

/// The request id as given, or a new one.
fn request_id(given: Option<&str>) -> Result<RequestId, Failure> {
    match given {
        Some(text) => Ok(RequestId::parse(text)?),
        None => {
            let id: AccountId = chance::id(clock::now());
            let id = id.to_string().replacen("acc_", "op-", 1);
            Ok(RequestId::parse(&id).expect("letters, digits and a hyphen"))
        }
    }
}

pub(super) async fn open(args: OpenArgs, out: &Out) -> Result<(), Failure> {
    check_text("name", &args.name, NAME_MAX)?;
    let office = Office::open(&args.folder.dir)?;
    let id = request_id(args.request.request_id.as_deref())?;
    let mut wish = json!({ "request_id": id, "name": args.name });
    let mut set = |key: &str, value: Value| wish[key] = value;
    if let Some(code) = &args.currency {
        set("currency", json!(CurrencyCode::parse(code)?));
    }
    if let Some(kind) = args.kind {
        set("kind", json!(AccountKind::from(kind)));
    }
    if let Some(limit) = &args.credit_limit {
        if args.kind == Some(KindArg::Prepaid) {
            return Err(Failure::usage("a prepaid account has no credit limit")
                .next("leave --credit-limit out, or open it with --kind credit"));
        }
        let currency = office.currency(args.currency.as_deref()).await?;
        set("credit_limit_minor", json!(currency.parse_minor(limit)?));
    }
    let opened = office.post("/admin/v1/accounts", &wish, Some(&id)).await?;
    let account = text(&opened, "account_id");
    out.say(format_args!(
        "account {account} for {}: {}, {}",
        args.name,
        text(&opened, "kind"),
        text(&opened, "currency"),
    ));
    let next = if text(&opened, "kind") == "prepaid" {
        format!("warifu issuer account top-up {account} 5000 --dir {}", office.dir())
    } else {
        format!("warifu issuer invite {account} --dir {}", office.dir())
    };
    out.next(next);
    out.object(&opened);
    Ok(())
}

pub(super) async fn top_up(args: TopUpArgs, out: &Out) -> Result<(), Failure> {
    let account = AccountId::parse(&args.account)?;
    let office = Office::open(&args.folder.dir)?;
    let id = request_id(args.request.request_id.as_deref())?;
    let currency = office.currency(args.currency.as_deref()).await?;
    let amount = Money::new(currency.parse_minor(&args.amount)?, currency.code)?;
    let path = format!("/admin/v1/accounts/{account}/top-ups");
    let wish = json!({ "request_id": id, "amount": amount });
    let done = office.post(&path, &wish, Some(&id)).await?;
    let balance = done["balance"]["minor"].as_i64().unwrap_or_default();
    out.say(format_args!("{account} now has {}", currency.format(i128::from(balance))));
    out.next(format_args!("warifu issuer invite {account} --dir {}", office.dir()));
    out.object(&done);
    Ok(())
}

pub(super) async fn invite(args: &InviteArgs, out: &Out) -> Result<(), Failure> {
    let account = AccountId::parse(&args.account)?;
    let office = Office::open(&args.folder.dir)?;
    let wish = json!({ "account_id": account });
    let invitation = office.post("/admin/v1/invitations", &wish, None).await?;
    let link = text(&invitation, "link");
    InvitationLink::parse(&link)?;
    let expires =
        invitation["expires_ms"].as_u64().map_or(Timestamp::default(), Timestamp::from_ms);
    out.say(format_args!("Until {expires}, whoever has this link first can pay with {account}:"));
    out.say(format_args!("\n  {link}\n"));
    out.next(format_args!(
        "warifu terminal link {} --dir phone --label 'My phone'",
        paths::quoted(&link)
    ));
    out.object(&invitation);
    Ok(())
}

pub(super) async fn accounts(args: &ListArgs, out: &Out) -> Result<(), Failure> {
    let office = Office::open(&args.folder.dir)?;
    let page = office.get(&listing("accounts", args)).await?;
    let rows: Vec<Vec<String>> = list(&page, "accounts")
        .iter()
        .map(|row| {
            vec![
                text(row, "account_id"),
                text(row, "name"),
                text(row, "kind"),
                money(row, "balance_minor"),
                money(row, "credit_limit_minor"),
                text(row, "credentials"),
            ]
        })
        .collect();
    out.table(&["account", "name", "kind", "balance", "credit limit", "terminals"], &rows);
    more(&page, "accounts", &office, out);
    if rows.is_empty() && args.after.is_none() {
        out.next(format_args!("warifu issuer account open --name Hana --dir {}", office.dir()));
    }
    out.object(&page);
    Ok(())
}

pub(super) async fn payments(args: &ListArgs, out: &Out) -> Result<(), Failure> {
    let office = Office::open(&args.folder.dir)?;
    let page = office.get(&listing("payments", args)).await?;
    let mut rows = Vec::new();
    for row in list(&page, "payments") {
        let status = match &row["rejection"] {
            Value::Null => text(row, "status"),
            why => format!("{}: {}", text(row, "status"), why.as_str().unwrap_or(&why.to_string())),
        };
        rows.push(vec![
            text(row, "decided_at"),
            text(row, "payment_id"),
            amount(&row["amount"]),
            status,
            text(row, "merchant"),
            text(row, "account_id"),
        ]);
    }
    out.table(&["decided at", "payment", "amount", "status", "merchant", "account"], &rows);
    more(&page, "payments", &office, out);
    if rows.is_empty() && args.after.is_none() {
        out.next("warifu reader pay --dir till1 --amount 1200");
    }
    out.object(&page);
    Ok(())
}

pub(super) fn listing(what: &str, args: &ListArgs) -> String {
    let limit = args.limit;
    let after = args.after.as_deref().map_or_else(String::new, |after| {
        let all = percent_encoding::NON_ALPHANUMERIC;
        format!("&after={}", percent_encoding::utf8_percent_encode(after, all))
    });
    format!("/admin/v1/{what}?limit={limit}{after}")
}

pub(super) fn list<'a>(page: &'a Value, what: &str) -> &'a [Value] {
    page[what].as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn more(page: &Value, what: &str, office: &Office, out: &Out) {
    if let Some(after) = page["next"].as_str() {
        let after = paths::quoted(after);
        out.next(format_args!("warifu issuer {what} --after {after} --dir {}", office.dir()));
    }
}

/// A field as a cell; nothing for what is missing.
pub(super) fn text(row: &Value, name: &str) -> String {
    match &row[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A field in minor units, by the row's currency and exponent.
fn money(row: &Value, name: &str) -> String {
    let exponent = row["exponent"].as_u64().and_then(|it| u8::try_from(it).ok());
    let code = CurrencyCode::parse(&text(row, "currency")).ok();
    let known = row[name].as_i64().zip(exponent).zip(code);
    known.map_or_else(String::new, |((minor, exponent), code)| {
        Currency { code, number: 0, exponent }.format(i128::from(minor))
    })
}

/// An amount with its currency; of a regional one, whose exponent is not in the row, in minor units.
fn amount(amount: &Value) -> String {
    let minor = amount["minor"].as_i64().unwrap_or_default();
    let code = text(amount, "currency");
    let currency = CurrencyCode::parse(&code).ok().and_then(Currency::iso);
    currency.map_or_else(
        || format!("{minor} minor units of {code}"),
        |currency| currency.format(i128::from(minor)),
    )
}
