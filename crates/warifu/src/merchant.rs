//! `warifu merchant`: who is paid, as its own people see it. A merchant is a key that vouches for its readers; it runs
//! no server.
//!
//! Law: a reader's entry is signed here and nowhere else, and only for a key that proved to hold the pairing link.

pub(crate) mod folder;
pub(crate) mod pairing;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use warifu_proto::directory::{Entry, EntryKind, Reader, Right, Status};
use warifu_proto::id::ReaderId;
use warifu_proto::limits::NAME_MAX;
use warifu_proto::message::check_text;
use warifu_proto::time::Timestamp;
use warifu_server::clock;

use self::folder::{CARD, CONFIG, Merchant, Wish, init};
use self::pairing::{Grant, Step, serve_pairing};
use crate::card;
use crate::fail::Failure;
use crate::network::Network;
use crate::out::Out;
use crate::registrar::{Standing, StatusArg, hand_in};
use crate::{paths, stop};

/// Be paid: pair readers, suspend them.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  warifu merchant init --dir bakery --name \"Aoba Bakery\" --category 5462 \\
      --network registrar/network.json --hub http://127.0.0.1:7001
  warifu merchant pair --dir bakery --reader \"Till 1\"")]
pub(crate) struct MerchantArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a merchant: its key, its settings, and the card that the registrar signs.
    #[command(after_help = "Example:
  warifu merchant init --dir bakery --name \"Aoba Bakery\" --category 5462 \\
      --network registrar/network.json --hub http://127.0.0.1:7001")]
    Init(InitArgs),
    /// Make a pairing link and wait up to ten minutes for the reader that uses it.
    ///
    /// The reader proves that it holds the link; then its entry is signed and published. The link is a secret until it
    /// is used. With --json: one line with the link at once, a second one when the reader is paired.
    #[command(after_help = "Example:
  warifu merchant pair --dir bakery --reader \"Till 1\"
  warifu merchant pair --dir bakery --reader \"Back office\" --right refund --right feed")]
    Pair(PairArgs),
    /// Show the readers, as the directory has them.
    #[command(after_help = "Example:\n  warifu merchant readers --dir bakery")]
    Readers(Folder),
    /// Stop a reader, or let it go on with --status active. In force everywhere within seconds.
    #[command(after_help = "Example:
  warifu merchant suspend-reader rdr_… --dir bakery
  warifu merchant suspend-reader rdr_… --dir bakery --status revoked")]
    SuspendReader(SuspendArgs),
}

#[derive(Debug, Args)]
struct Folder {
    /// The merchant's folder
    #[arg(long, default_value = "merchant")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct InitArgs {
    #[command(flatten)]
    folder: Folder,
    /// For people: payers see it on their phone
    #[arg(long)]
    name: String,
    /// What it sells: four digits of ISO 18245
    #[arg(long, value_name = "DIGITS")]
    category: String,
    /// The registrar's network.json
    #[arg(long, value_name = "FILE")]
    network: PathBuf,
    /// The hub by which readers are paired
    #[arg(long, value_name = "URL")]
    hub: String,
}

#[derive(Debug, Args)]
struct PairArgs {
    #[command(flatten)]
    folder: Folder,
    /// What the merchant calls the reader [default: what it calls itself]
    #[arg(long = "reader", value_name = "NAME")]
    name: Option<String>,
    /// What it may do beyond paying, reading and reversing what it paid itself
    #[arg(long = "right", value_name = "RIGHT")]
    rights: Vec<RightArg>,
    /// Days until the reader's entry must be renewed
    #[arg(long, default_value_t = Standing::ACTIVE_FOR_A_YEAR.valid_days,
          value_parser = clap::value_parser!(u16).range(1..=3660))]
    valid_days: u16,
}

/// [`Right`] as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RightArg {
    /// Capture holds.
    Capture,
    /// Refund payments.
    Refund,
    /// Reverse payments of the merchant's other readers.
    ReverseAny,
    /// Read the merchant's feed.
    Feed,
}

impl From<RightArg> for Right {
    fn from(right: RightArg) -> Self {
        match right {
            RightArg::Capture => Self::Capture,
            RightArg::Refund => Self::Refund,
            RightArg::ReverseAny => Self::ReverseAny,
            RightArg::Feed => Self::Feed,
        }
    }
}

#[derive(Debug, Args)]
struct SuspendArgs {
    /// Which reader
    #[arg(value_name = "RDR")]
    reader: String,
    /// What it is from now on; revoked is for ever
    #[arg(long, default_value = "suspended")]
    status: StatusArg,
    #[command(flatten)]
    folder: Folder,
}

pub(crate) async fn run(args: MerchantArgs, out: &Out) -> Result<(), Failure> {
    match args.command {
        Command::Init(args) => run_init(&args, out),
        Command::Pair(args) => pair(args, out).await,
        Command::Readers(folder) => readers(&folder.dir, out).await,
        Command::SuspendReader(args) => suspend(&args, out).await,
    }
}

fn run_init(args: &InitArgs, out: &Out) -> Result<(), Failure> {
    let dir = &args.folder.dir;
    let hub = card::parse_url(&args.hub)
        .map_err(|why| Failure::usage(format_args!("--hub {}: it {why}", args.hub)))?;
    let wish = Wish {
        dir,
        network: &Network::read(&args.network)?,
        name: &args.name,
        category: &args.category,
        hub,
    };
    let card = init(&wish, clock::now())?;
    let path = dir.join(CARD);
    out.say(format_args!("merchant {} ({})", card.id, card.name));
    out.say(format_args!("settings: {}", paths::shown_in(dir, CONFIG)));
    out.say("The registrar signs its card:");
    out.next(format_args!("warifu registrar add merchant {} --dir registrar", paths::shown(&path)));
    out.object(&json!({ "id": card.id, "name": card.name, "card_file": path }));
    Ok(())
}

async fn pair(args: PairArgs, out: &Out) -> Result<(), Failure> {
    if let Some(name) = &args.name {
        check_text("--reader", name, NAME_MAX)?;
    }
    let side = Merchant::open(&args.folder.dir)?.side().await?;
    let rights = args.rights.into_iter().map(Right::from).collect();
    let grant = Grant { name: args.name, rights, valid_days: args.valid_days };
    let paired =
        serve_pairing(&side, &grant, stop::wished(), |step| tell(&step, &grant, out)).await?;
    let reader = &paired.reader;
    out.say(format_args!("paired {} ({})", reader.common.id, reader.name));
    out.say(format_args!(
        "It may pay, read, and reverse what it paid itself{}.",
        also(&reader.rights)
    ));
    out.next("warifu reader pay --dir till1 --amount 1200   (on the reader)");
    out.object(&json!({
        "reader_id": reader.common.id,
        "name": reader.name,
        "rights": reader.rights,
        "merchant_id": reader.merchant_id,
        "entry": paired.entry,
    }));
    Ok(())
}

fn tell(step: &Step<'_>, grant: &Grant, out: &Out) {
    match step {
        Step::Open { link, expires_at } => {
            let text = link.to_string();
            let name = grant.name.as_deref().unwrap_or("Till 1");
            out.say(format_args!("Until {expires_at}, the first reader with this link is yours:"));
            out.say(format_args!("\n  {text}\n"));
            out.next(format_args!(
                "warifu reader pair {} --dir till1 --name {}   (on the reader; this waits for it)",
                paths::quoted(&text),
                paths::quoted(name),
            ));
            out.object(&json!({
                "link": text, "pairing_id": link.pairing, "expires_ms": expires_at.as_ms(),
            }));
            out.progress("waiting for the reader … (Ctrl-C cancels the link)");
        }
        Step::WrongProof { name, key } => out.warn(format_args!(
            "somebody who calls itself {name} (key {key}) does not hold the link, and was refused"
        )),
        Step::HubAway { why } => out.progress(format_args!("{why}; trying again …")),
    }
}

fn also(rights: &[Right]) -> String {
    let words: Vec<&str> = rights.iter().map(|right| right_name(*right)).collect();
    if words.is_empty() { String::new() } else { format!("; also: {}", words.join(", ")) }
}

fn right_name(right: Right) -> &'static str {
    match right {
        Right::Capture => "capture",
        Right::Refund => "refund",
        Right::ReverseAny => "reverse_any",
        Right::Feed => "feed",
        Right::Unknown => "one that this version does not know",
    }
}

async fn readers(dir: &Path, out: &Out) -> Result<(), Failure> {
    let merchant = Merchant::open(dir)?;
    let fetched = merchant.directory().await?;
    let own: Vec<&Reader> =
        fetched.directory.readers().filter(|it| it.merchant_id == merchant.id()).collect();
    let now = clock::now();
    let rows: Vec<Vec<String>> = own.iter().map(|reader| row(reader, now)).collect();
    out.table(&["reader", "name", "rights", "status", "valid until"], &rows);
    out.object(&json!({ "merchant_id": merchant.id(), "readers": own }));
    if own.is_empty() {
        out.next(format_args!(
            "warifu merchant pair --dir {} --reader 'Till 1'",
            paths::shown(dir)
        ));
    }
    Ok(())
}

fn row(reader: &Reader, now: Timestamp) -> Vec<String> {
    let status = match reader.common.status {
        Status::Revoked => "revoked",
        Status::Suspended => "suspended",
        Status::Active if !reader.common.is_active(now) => "expired",
        Status::Active => "active",
    };
    let rights: Vec<&str> = reader.rights.iter().map(|right| right_name(*right)).collect();
    vec![
        reader.common.id.to_string(),
        reader.name.clone(),
        rights.join(", "),
        status.to_owned(),
        paths::day(Timestamp::from_ms(reader.common.not_after_ms)),
    ]
}

async fn suspend(args: &SuspendArgs, out: &Out) -> Result<(), Failure> {
    let id = ReaderId::parse(&args.reader)?;
    let merchant = Merchant::open(&args.folder.dir)?;
    let fetched = merchant.directory().await?;
    let hub = merchant.hub(&fetched)?;
    let own = |reader: &&Reader| reader.merchant_id == merchant.id();
    let Some(mut reader) = fetched.directory.reader(id).filter(own).cloned() else {
        return Err(Failure::refused(format_args!("{id} is no reader of this merchant")).next(
            format_args!("warifu merchant readers --dir {}", paths::shown(&args.folder.dir)),
        ));
    };
    let status = Status::from(args.status);
    if reader.common.status == Status::Revoked && status != Status::Revoked {
        return Err(Failure::refused(format_args!("{id} is revoked, and that is for ever"))
            .next("pair it anew: warifu merchant pair"));
    }
    let standing = Standing { status, ..Standing::ACTIVE_FOR_A_YEAR };
    reader.common = standing.common(id, reader.common.revision.saturating_add(1), clock::now());
    let entry = merchant.sign_reader(&reader);
    hand_in_one(&hub, &entry).await?;
    out.say(format_args!("{id} ({}) is {} from now on", reader.name, status_name(status)));
    out.next(format_args!("warifu merchant readers --dir {}", paths::shown(&args.folder.dir)));
    out.object(&json!({ "reader_id": id, "status": status, "entry": entry }));
    Ok(())
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Active => "active",
        Status::Suspended => "suspended",
        Status::Revoked => "revoked",
    }
}

async fn hand_in_one(hub: &warifu_server::client::Peer, entry: &Entry) -> Result<(), Failure> {
    debug_assert_eq!(entry.kind, EntryKind::Reader);
    let report = hand_in(hub, std::slice::from_ref(entry)).await?;
    match report.refused.first() {
        None => Ok(()),
        Some(refused) => Err(Failure::refused(format_args!("the hub refused it: {}", refused.why))),
    }
}
