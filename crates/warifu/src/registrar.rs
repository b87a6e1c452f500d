//! `warifu registrar`: the key, not a server, that says who belongs to the network. It signs what applicants'
//! `init` wrote, keeps every signed entry, and hands them to the hubs.
//!
//! Law: signing needs no network. A hub that can't be reached is told later; the entry stands.

mod folder;
mod publish;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::directory::{Entry, EntryKind, Record, Status};
use warifu_proto::key::PublicKey;
use warifu_proto::limits::NAME_MAX;
use warifu_proto::message::check_text;
use warifu_proto::time::Timestamp;
use warifu_server::clock;

use self::folder::CurrencyWish;
pub(crate) use self::folder::{Registrar, Standing};
use self::publish::Published;
pub(crate) use self::publish::{hand_in, publish};
use crate::card::Card;
use crate::fail::Failure;
use crate::network::Network;
use crate::out::Out;
use crate::paths;

/// Say who belongs to the network: sign hubs, issuers, merchants, currencies.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  warifu registrar init --dir registrar
  warifu registrar add hub hub/hub.card.json --dir registrar")]
pub(crate) struct RegistrarArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new network: its key, network.json for everybody, an empty list of entries.
    #[command(after_help = "Example:\n  warifu registrar init --dir registrar")]
    Init(Folder),
    /// Sign a hub's, issuer's or merchant's card and publish the entry.
    ///
    /// Signing the same card again renews it; --status suspended or revoked ends what it may do, everywhere
    /// within seconds of reaching the hub. A hub that can't be reached is told by `warifu registrar publish`.
    #[command(after_help = "Example:
  warifu registrar add hub hub/hub.card.json --dir registrar
  warifu registrar add merchant bakery/merchant.card.json --dir registrar --status suspended")]
    Add(AddArgs),
    /// Hand the latest entry of everybody to the hubs. Safe to repeat.
    #[command(after_help = "Example:\n  warifu registrar publish --dir registrar")]
    Publish(PublishArgs),
    /// Show everybody that was signed, with revision, status and validity.
    #[command(after_help = "Example:\n  warifu registrar list --dir registrar")]
    List(Folder),
    /// Give out regional currencies.
    #[command(after_help = "Example:
  warifu registrar currency add XAB --number 1001 --exponent 0 --name \"Aoba coin\" --dir registrar")]
    Currency {
        #[command(subcommand)]
        command: CurrencyCommand,
    },
}

#[derive(Debug, Subcommand)]
enum CurrencyCommand {
    /// Sign a regional currency and publish the entry. Signing it again renews it.
    #[command(after_help = "Example:
  warifu registrar currency add XAB --number 1001 --exponent 0 --name \"Aoba coin\" --dir registrar")]
    Add(CurrencyArgs),
}

#[derive(Debug, Args)]
struct Folder {
    /// The registrar's folder
    #[arg(long, default_value = "registrar")]
    dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CardKind {
    /// A first settlement server.
    Hub,
    /// A second settlement server.
    Issuer,
    /// Who is paid.
    Merchant,
}

#[derive(Debug, Args)]
struct AddArgs {
    /// What the card is of
    kind: CardKind,
    /// The card, as the applicant's `init` wrote it
    card: PathBuf,
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    standing: StandingArgs,
}

#[derive(Debug, Args)]
struct StandingArgs {
    /// Days until the entry must be renewed
    #[arg(long, default_value_t = Standing::ACTIVE_FOR_A_YEAR.valid_days,
          value_parser = clap::value_parser!(u16).range(1..=3660))]
    valid_days: u16,
    /// Whether its subject takes part
    #[arg(long, default_value = "active")]
    status: StatusArg,
}

/// [`Status`] as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusArg {
    /// Takes part.
    Active,
    /// Does not for the time being.
    Suspended,
    /// Never will again.
    Revoked,
}

impl From<StatusArg> for Status {
    fn from(status: StatusArg) -> Self {
        match status {
            StatusArg::Active => Self::Active,
            StatusArg::Suspended => Self::Suspended,
            StatusArg::Revoked => Self::Revoked,
        }
    }
}

impl From<&StandingArgs> for Standing {
    fn from(args: &StandingArgs) -> Self {
        Self { status: args.status.into(), valid_days: args.valid_days }
    }
}

#[derive(Debug, Args)]
struct PublishArgs {
    #[command(flatten)]
    folder: Folder,
    /// Only to this hub, by its address in the directory [default: all active hubs]
    #[arg(long, value_name = "URL")]
    hub: Option<String>,
}

#[derive(Debug, Args)]
struct CurrencyArgs {
    /// X and two of A-Z 0-9 that ISO 4217 does not use
    code: String,
    /// 1000 to 65535, its own in this network
    #[arg(long)]
    number: u16,
    /// Decimal digits of the minor unit, 0 to 6
    #[arg(long)]
    exponent: u8,
    /// For people
    #[arg(long)]
    name: String,
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    standing: StandingArgs,
}

pub(crate) async fn run(args: RegistrarArgs, out: &Out) -> Result<(), Failure> {
    match args.command {
        Command::Init(folder) => init(&folder.dir, out),
        Command::Add(args) => add(args, out).await,
        Command::Publish(args) => publish_all(args, out).await,
        Command::List(folder) => list(&folder.dir, out),
        Command::Currency { command: CurrencyCommand::Add(args) } => add_currency(args, out).await,
    }
}

fn init(dir: &Path, out: &Out) -> Result<(), Failure> {
    let registrar = Registrar::init(dir, clock::now())?;
    let network = registrar.network();
    let file = dir.join(Network::FILE);
    out.say(format_args!("network   {}", network.network_id));
    out.say(format_args!("registrar {}", network.registrar.thumbprint()));
    out.say(format_args!(
        "Hand {} to everybody who takes part; it holds no secret.",
        file.display()
    ));
    out.next(format_args!("warifu hub init --dir hub --network {}", paths::shown(&file)));
    out.object(&json!({
        "network_id": network.network_id,
        "registrar": network.registrar.thumbprint(),
        "network_file": file,
    }));
    Ok(())
}

async fn add(args: AddArgs, out: &Out) -> Result<(), Failure> {
    let dir = args.folder.dir;
    let card: Card = paths::read_json(&args.card, "card").map_err(|failure| {
        failure.next("give the card that `init` wrote: hub.card.json, issuer.card.json or merchant.card.json")
    })?;
    let wanted = match args.kind {
        CardKind::Hub => EntryKind::Hub,
        CardKind::Issuer => EntryKind::Issuer,
        CardKind::Merchant => EntryKind::Merchant,
    };
    if card.kind() != wanted {
        let (is, path) = (card.kind().as_str(), paths::shown(&args.card));
        return Err(Failure::usage(format_args!(
            "{} is the card of a {is}, not of a {}",
            args.card.display(),
            wanted.as_str()
        ))
        .next(format_args!("warifu registrar add {is} {path} --dir {}", paths::shown(&dir))));
    }
    let mut registrar = Registrar::open(&dir)?;
    let entry = registrar.sign_card(&card, (&args.standing).into(), clock::now())?;
    show_entry(&entry, out);
    let published = publish(&registrar, None, out).await?;
    let home = args.card.parent().map(|it| it.display().to_string()).unwrap_or_default();
    let home = if home.is_empty() { ".".to_owned() } else { paths::quoted(&home) };
    let then = match (args.standing.status, &card) {
        (StatusArg::Suspended | StatusArg::Revoked, _) => {
            format!("warifu registrar list --dir {}", paths::shown(&dir))
        }
        (StatusArg::Active, Card::Hub(_)) => format!("warifu hub serve --dir {home}"),
        (StatusArg::Active, Card::Issuer(_)) => format!("warifu issuer serve --dir {home}"),
        (StatusArg::Active, Card::Merchant(_)) => {
            format!("warifu merchant pair --dir {home} --reader 'Till 1'")
        }
    };
    tell_published(&published, out);
    let told = published.iter().all(|it| it.error.is_none());
    let publish = format!("warifu registrar publish --dir {}", paths::shown(&dir));
    match (told, &card) {
        (true, _) => out.next(then),
        (false, Card::Hub(_)) => out.next(format_args!("{then}   (then: {publish})")),
        (false, _) => out.next(format_args!("{publish}   (when the hub is up; then: {then})")),
    }
    out.object(&added(&entry, &published));
    Ok(())
}

async fn add_currency(args: CurrencyArgs, out: &Out) -> Result<(), Failure> {
    let currency =
        Currency::regional(CurrencyCode::parse(&args.code)?, args.number, args.exponent)?;
    check_text("name", &args.name, NAME_MAX)?;
    let dir = args.folder.dir;
    let mut registrar = Registrar::open(&dir)?;
    let wish = CurrencyWish { currency, name: args.name };
    let entry = registrar.sign_currency(wish, (&args.standing).into(), clock::now())?;
    show_entry(&entry, out);
    let published = publish(&registrar, None, out).await?;
    tell_published(&published, out);
    if published.iter().all(|it| it.error.is_none()) {
        out.next(format_args!("warifu issuer init --currency {} --help", currency.code));
    } else {
        out.next(format_args!("warifu registrar publish --dir {}", paths::shown(&dir)));
    }
    out.object(&added(&entry, &published));
    Ok(())
}

async fn publish_all(args: PublishArgs, out: &Out) -> Result<(), Failure> {
    let dir = args.folder.dir;
    let registrar = Registrar::open(&dir)?;
    let published = publish(&registrar, args.hub.as_deref(), out).await?;
    if published.is_empty() {
        return Err(Failure::usage("no active hub was signed yet").next(format_args!(
            "warifu registrar add hub hub/hub.card.json --dir {}",
            paths::shown(&dir)
        )));
    }
    tell_published(&published, out);
    match published.iter().find(|it| it.error.is_none()) {
        Some(told) => out.next(format_args!("warifu hub directory --hub {}", told.url)),
        None => out.next("the same command again, when the hub is up"),
    }
    out.object(&json!({ "published": published }));
    if published.iter().all(|it| it.error.is_some()) {
        return Err(Failure::told(crate::fail::Exit::Unreachable));
    }
    Ok(())
}

/// The order in which a body's fields are shown; others follow.
const SHOWN_FIRST: [&str; 15] = [
    "id",
    "name",
    "url",
    "prefix",
    "category",
    "code",
    "number",
    "exponent",
    "currencies",
    "endpoints",
    "key",
    "revision",
    "status",
    "not_before_ms",
    "not_after_ms",
];

/// Shows exactly what was signed.
fn show_entry(entry: &Entry, out: &Out) {
    let Ok(Value::Object(fields)) = serde_json::from_slice(&entry.body) else { return };
    let mut fields: Vec<(String, Value)> = fields.into_iter().collect();
    fields.sort_by_key(|(name, _)| SHOWN_FIRST.iter().position(|it| it == name).unwrap_or(15));
    out.say(format_args!("Signed this {} entry:", entry.kind.as_str()));
    for (name, value) in &fields {
        out.say(format_args!("  {:<12}{}", name.trim_end_matches("_ms"), shown(name, value)));
    }
}

/// A field of a body for people: times as dates, keys by their thumbprint.
fn shown(name: &str, value: &Value) -> String {
    let time = value.as_u64().filter(|_| name.ends_with("_ms"));
    let key = serde_json::from_value::<PublicKey>(value.clone());
    match (time, key, value) {
        (Some(ms), _, _) => Timestamp::from_ms(ms).to_string(),
        (_, Ok(key), _) => key.thumbprint().to_string(),
        (_, _, Value::String(text)) => text.clone(),
        (_, _, other) => other.to_string(),
    }
}

fn tell_published(published: &[Published], out: &Out) {
    for it in published {
        match &it.error {
            None => {
                let (taken, known) = (it.report.taken, it.report.known);
                out.say(format_args!("told the hub at {}: {taken} new, {known} known", it.url));
            }
            Some(error) => out.warn(format_args!("the hub at {} was not told: {error}", it.url)),
        }
        for refused in &it.report.refused {
            out.warn(format_args!("{} refused {}: {}", it.url, refused.id, refused.why));
        }
    }
}

fn added(entry: &Entry, published: &[Published]) -> Value {
    let body: Value = serde_json::from_slice(&entry.body).unwrap_or_default();
    json!({ "kind": entry.kind, "body": body, "entry": entry, "published": published })
}

/// A line of the list.
#[derive(Debug, Serialize)]
struct Line {
    kind: EntryKind,
    id: String,
    name: String,
    revision: u64,
    status: Status,
    not_before_ms: u64,
    not_after_ms: u64,
}

impl Line {
    fn of(record: &Record) -> Self {
        let (id, revision) = record.revision();
        let (kind, name, not_before_ms, not_after_ms) = match record {
            Record::Hub(it) => {
                (EntryKind::Hub, it.url.clone(), it.common.not_before_ms, it.common.not_after_ms)
            }
            Record::Issuer(it) => (
                EntryKind::Issuer,
                format!("{} ({})", it.name, it.prefix),
                it.common.not_before_ms,
                it.common.not_after_ms,
            ),
            Record::Merchant(it) => (
                EntryKind::Merchant,
                it.name.clone(),
                it.common.not_before_ms,
                it.common.not_after_ms,
            ),
            Record::Reader(it) => (
                EntryKind::Reader,
                it.name.clone(),
                it.common.not_before_ms,
                it.common.not_after_ms,
            ),
            Record::Currency(it) => (
                EntryKind::Currency,
                format!("{} ({})", it.name, it.code),
                it.common.not_before_ms,
                it.common.not_after_ms,
            ),
        };
        let status = folder::status(record);
        Self { kind, id, name, revision, status, not_before_ms, not_after_ms }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let status = match self.status {
            Status::Revoked => "revoked",
            Status::Suspended => "suspended",
            Status::Active if self.not_after_ms <= now.as_ms() => "expired",
            Status::Active => "active",
        };
        vec![
            self.kind.as_str().to_owned(),
            self.id.clone(),
            self.name.clone(),
            self.revision.to_string(),
            status.to_owned(),
            paths::day(Timestamp::from_ms(self.not_after_ms)),
        ]
    }
}

/// Prints records as a table or as objects.
pub(crate) fn show_records(records: &[Record], about: Value, now: Timestamp, out: &Out) {
    let mut lines: Vec<Line> = records.iter().map(Line::of).collect();
    lines.sort_by_key(|line| line.kind);
    let rows: Vec<Vec<String>> = lines.iter().map(|line| line.row(now)).collect();
    out.table(&["kind", "id", "name", "revision", "status", "valid until"], &rows);
    let mut object = about;
    if let Some(fields) = object.as_object_mut() {
        fields.insert("entries".to_owned(), json!(lines));
    }
    out.object(&object);
}

fn list(dir: &Path, out: &Out) -> Result<(), Failure> {
    let registrar = Registrar::open(dir)?;
    let records: Vec<Record> =
        registrar.latest().iter().filter_map(|entry| entry.read().ok()).collect();
    let network = registrar.network();
    out.say(format_args!("network {}", network.network_id));
    let about = json!({
        "network_id": network.network_id,
        "registrar": network.registrar.thumbprint(),
    });
    show_records(&records, about, clock::now(), out);
    if records.is_empty() {
        out.next(format_args!(
            "warifu hub init --dir hub --network {}",
            paths::shown_in(dir, Network::FILE)
        ));
    }
    Ok(())
}
