//! `warifu issuer`: the second settlement server as its operator sees it: making one, running it, and the
//! operator's calls (see [`admin`]).

mod admin;
pub(crate) mod init;
mod standing;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use warifu_proto::code::Prefix;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::message::AccountKind;
use warifu_server::config::{self, process_env};
use warifu_server::telemetry::init_logs;
use warifu_server::{clock, keyfile};

pub(crate) use self::admin::Office;
pub(crate) use self::init::OPERATOR_KEY;
use self::init::{CARD, CONFIG};
pub(crate) use self::init::{Wish, init};
use self::standing::{LimitArgs, OneAccount, TerminalCommand};
use crate::card::Card;
use crate::fail::Failure;
use crate::hub::public_url;
use crate::network::Network;
use crate::out::{self, Out};
use crate::{card, paths, stop};

/// The second settlement server: accounts, invitations, payments.
///
/// An issuer keeps accounts and decides payments by them. Its operator's commands call the running server, signed by
/// operator.key in the folder.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  warifu issuer init --dir aoba --name \"Aoba Pay\" --prefix 71000001 --currency JPY --kind prepaid \\
      --network registrar/network.json --hub http://127.0.0.1:7001
  warifu issuer serve --dir aoba")]
pub(crate) struct IssuerArgs {
    #[command(subcommand)]
    command: Command,
}

impl IssuerArgs {
    /// Whether many calls have to be served at once.
    pub(crate) fn serves(&self) -> bool {
        matches!(self.command, Command::Serve(_))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an issuer: its keys, its settings, and the card that the registrar signs.
    #[command(after_help = "Example:
  warifu issuer init --dir aoba --name \"Aoba Pay\" --prefix 71000001 --currency JPY --kind prepaid \\
      --network registrar/network.json --hub http://127.0.0.1:7001")]
    Init(InitArgs),
    /// Serve until SIGINT or SIGTERM, then finish what is under way.
    #[command(after_help = "Example:\n  warifu issuer serve --dir aoba")]
    Serve(Folder),
    /// Check the settings and tell all faults at once.
    #[command(after_help = "Example:\n  warifu issuer check-config --dir aoba")]
    CheckConfig(Folder),
    /// Open an account, put money into one, look at it, freeze, limit or close it.
    #[command(after_help = "Example:
  warifu issuer account open --name Hana --dir aoba
  warifu issuer account top-up acc_… 5000 --dir aoba
  warifu issuer account freeze acc_… --dir aoba")]
    Account {
        #[command(subcommand)]
        command: AccountCommand,
    },
    /// Make a link by which a payer links a terminal to an account: once, within 15 minutes.
    ///
    /// The link is a secret until it is used. Hand it to the payer by a way that reaches nobody else.
    #[command(after_help = "Example:\n  warifu issuer invite acc_… --dir aoba")]
    Invite(InviteArgs),
    /// List accounts with their balances.
    ///
    /// Read from the views, which follow the journal and may lag by a moment.
    #[command(after_help = "Example:\n  warifu issuer accounts --dir aoba")]
    Accounts(ListArgs),
    /// List terminals with the accounts they are linked to.
    ///
    /// Read from the views, which follow the journal and may lag by a moment.
    #[command(after_help = "Example:\n  warifu issuer terminals --dir aoba")]
    Terminals(ListArgs),
    /// Suspend a terminal, let it pay again, or end its link.
    #[command(after_help = "Example:
  warifu issuer terminal suspend crd_… --dir aoba
  warifu issuer terminal unlink crd_… --dir aoba")]
    Terminal {
        #[command(subcommand)]
        command: TerminalCommand,
    },
    /// List payments, newest first.
    ///
    /// Read from the views, which follow the journal and may lag by a moment.
    #[command(after_help = "Example:\n  warifu issuer payments --dir aoba --limit 20")]
    Payments(ListArgs),
}

#[derive(Debug, Subcommand)]
enum AccountCommand {
    /// Open an account.
    #[command(after_help = "Example:
  warifu issuer account open --name Hana --dir aoba
  warifu issuer account open --name Sora --credit-limit 30000 --dir kaede")]
    Open(OpenArgs),
    /// Put money into an account, in major units of its currency (5000, 12.50).
    #[command(after_help = "Example:\n  warifu issuer account top-up acc_… 5000 --dir aoba")]
    TopUp(TopUpArgs),
    /// Show an account as it stands now.
    #[command(after_help = "Example:\n  warifu issuer account show acc_… --dir aoba")]
    Show(OneAccount),
    /// Let an account pay nothing for now.
    #[command(after_help = "Example:\n  warifu issuer account freeze acc_… --dir aoba")]
    Freeze(OneAccount),
    /// Let a frozen account pay again.
    #[command(after_help = "Example:\n  warifu issuer account unfreeze acc_… --dir aoba")]
    Unfreeze(OneAccount),
    /// Close an account for good. What it holds is booked as paid out; nothing may be reserved or owed.
    #[command(after_help = "Example:\n  warifu issuer account close acc_… --dir aoba")]
    Close(OneAccount),
    /// Give an account limits of its own, all at once, or the issuer's again.
    #[command(after_help = "Example:
  warifu issuer account limit acc_… --payment-max 10000 --confirm-above 3000 --dir aoba
  warifu issuer account limit acc_… --none --dir aoba")]
    Limit(LimitArgs),
}

#[derive(Debug, Args)]
struct Folder {
    /// The issuer's folder
    #[arg(long, default_value = "issuer")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct InitArgs {
    #[command(flatten)]
    folder: Folder,
    /// For people
    #[arg(long)]
    name: String,
    /// First digits of its codes, 4 to 8, its own in the network
    #[arg(long, value_name = "DIGITS")]
    prefix: String,
    /// Of its accounts: ISO 4217, or one that the registrar gave out
    #[arg(long, value_name = "CODE")]
    currency: String,
    /// What its accounts are
    #[arg(long)]
    kind: KindArg,
    /// The registrar's network.json
    #[arg(long, value_name = "FILE")]
    network: PathBuf,
    /// The hub that carries the directory and its notices
    #[arg(long, value_name = "URL")]
    hub: String,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:7101", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Under which address others find it [default: http:// and the address to listen on]
    #[arg(long)]
    url: Option<String>,
}

/// [`AccountKind`] as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindArg {
    /// Holds money that was paid in; never below zero.
    Prepaid,
    /// Pays later, down to its credit limit.
    Credit,
}

impl From<KindArg> for AccountKind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Prepaid => Self::Prepaid,
            KindArg::Credit => Self::Credit,
        }
    }
}

/// What makes repeating a command safe.
#[derive(Debug, Args)]
struct RequestArgs {
    /// Your own id of this wish, 1 to 64 of A-Z a-z 0-9 . _ -; with the same one it is done only once
    /// [default: a new one]
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

#[derive(Debug, Args)]
struct OpenArgs {
    /// For people; kept where it can be erased
    #[arg(long)]
    name: String,
    /// How far below zero it may go, in major units; with kind credit
    #[arg(long, value_name = "AMOUNT")]
    credit_limit: Option<String>,
    /// [default: the issuer's]
    #[arg(long, value_name = "CODE")]
    currency: Option<String>,
    /// [default: the issuer's]
    #[arg(long)]
    kind: Option<KindArg>,
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, Args)]
struct TopUpArgs {
    /// Which account
    #[arg(value_name = "ACC")]
    account: String,
    /// How much, in major units such as 5000 or 12.50
    amount: String,
    /// The account's currency [default: the issuer's]
    #[arg(long, value_name = "CODE")]
    currency: Option<String>,
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, Args)]
struct InviteArgs {
    /// To which account
    #[arg(value_name = "ACC")]
    account: String,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// How many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    #[command(flatten)]
    folder: Folder,
}

pub(crate) async fn run(args: IssuerArgs, out: &Out) -> Result<(), Failure> {
    match args.command {
        Command::Init(args) => run_init(&args, out),
        Command::Serve(folder) => serve(&folder.dir).await,
        Command::CheckConfig(folder) => check_config(&folder.dir, out),
        Command::Account { command } => account(command, out).await,
        Command::Invite(args) => admin::invite(&args, out).await,
        Command::Accounts(args) => admin::accounts(&args, out).await,
        Command::Terminals(args) => standing::terminals(&args, out).await,
        Command::Terminal { command } => standing::terminal(&command, out).await,
        Command::Payments(args) => admin::payments(&args, out).await,
    }
}

async fn account(command: AccountCommand, out: &Out) -> Result<(), Failure> {
    match command {
        AccountCommand::Open(args) => admin::open(args, out).await,
        AccountCommand::TopUp(args) => admin::top_up(args, out).await,
        AccountCommand::Show(args) => standing::show(&args, out).await,
        AccountCommand::Freeze(args) => standing::stand(&args, "frozen", out).await,
        AccountCommand::Unfreeze(args) => standing::stand(&args, "active", out).await,
        AccountCommand::Close(args) => standing::stand(&args, "closed", out).await,
        AccountCommand::Limit(args) => standing::limit(&args, out).await,
    }
}

fn run_init(args: &InitArgs, out: &Out) -> Result<(), Failure> {
    let dir = &args.folder.dir;
    let wish = Wish {
        dir,
        network: &Network::read(&args.network)?,
        name: &args.name,
        prefix: Prefix::parse(&args.prefix)?,
        currency: CurrencyCode::parse(&args.currency)?,
        kind: args.kind.into(),
        hub: card::parse_url(&args.hub)
            .map_err(|why| Failure::usage(format_args!("--hub {}: it {why}", args.hub)))?,
        listen: args.listen,
        url: public_url(args.listen, args.url.as_deref())?,
    };
    let card = init(&wish, clock::now())?;
    let path = dir.join(CARD);
    out.say(format_args!("issuer {} at {}", card.id, wish.url));
    out.say(format_args!("settings: {}", paths::shown_in(dir, CONFIG)));
    out.say(format_args!(
        "Back up the keys in {}: without vault.key every link to a terminal is lost.",
        paths::shown(dir)
    ));
    if !args.listen.ip().is_loopback() {
        out.say("Before it can serve: set tls_cert_file and tls_key_file there, or behind_tls_proxy = true.");
    }
    out.say("The registrar signs its card:");
    out.next(format_args!("warifu registrar add issuer {} --dir registrar", paths::shown(&path)));
    out.object(&json!({
        "id": card.id, "prefix": card.prefix, "url": wish.url, "card_file": path,
    }));
    Ok(())
}

pub(crate) fn load(dir: &Path) -> Result<warifu_issuer::Config, Failure> {
    let path = paths::existing(dir, CONFIG, &init_command(dir))?;
    Ok(config::load(path, "issuer", process_env)?)
}

fn init_command(dir: &Path) -> String {
    format!("warifu issuer init --dir {} …   (see --help)", paths::shown(dir))
}

async fn serve(dir: &Path) -> Result<(), Failure> {
    let config = load(dir)?;
    init_logs(out::log_format());
    Ok(warifu_issuer::run(config, dir, stop::wished()).await?)
}

fn check_config(dir: &Path, out: &Out) -> Result<(), Failure> {
    let config = load(dir)?;
    let mut faults = config.faults();
    let plain = config.tls_cert_file.is_none() && !config.behind_tls_proxy;
    if plain && !config.listen.ip().is_loopback() {
        faults.push(
            "listen: others than loopback need tls_cert_file and tls_key_file, or behind_tls_proxy"
                .to_owned(),
        );
    }
    let key = keyfile::read(dir.join(&config.key_file));
    if let Err(error) = &key {
        faults.push(format!("key_file: {error}"));
    }
    if let Err(error) = keyfile::read_secret(dir.join(&config.vault_key_file)) {
        faults.push(format!("vault_key_file: {error}"));
    }
    if let Err(failure) = Network::read(&dir.join(&config.network_file)) {
        faults.push(format!("network_file: {failure}"));
    }
    if let Err(why) = card::parse_url(&config.hub) {
        faults.push(format!("hub: {why}"));
    }
    if let Ok(operator) = keyfile::read(dir.join(OPERATOR_KEY))
        && *operator.public() != config.operator_key
    {
        faults.push(format!("operator_key: is not the public half of {OPERATOR_KEY}"));
    }
    if let Ok(Card::Issuer(card)) = paths::read_json(&dir.join(CARD), "card") {
        let mut same = |holds: bool, field: &str| {
            if !holds {
                faults.push(format!("{field}: is another in {CARD}, which the registrar signs"));
            }
        };
        same(card.id == config.id, "id");
        same(card.prefix == config.prefix, "prefix");
        same(card.name == config.name, "name");
        same(card.currencies.contains(&config.currency), "currency");
        same(key.is_err() || key.is_ok_and(|key| *key.public() == card.key), "key_file");
        let own = config.url.as_deref();
        same(own.is_none_or(|url| card.endpoints.iter().any(|it| it.url == url)), "url");
    }
    paths::no_faults(&dir.join(CONFIG), &faults)?;
    out.say(format_args!("{} is good", paths::shown_in(dir, CONFIG)));
    out.next(format_args!("warifu issuer serve --dir {}", paths::shown(dir)));
    out.object(&json!({ "config_file": dir.join(CONFIG), "faults": faults }));
    Ok(())
}
