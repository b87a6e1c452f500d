//! `warifu hub`: the first settlement server as its operator sees it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use warifu_proto::time::Timestamp;
use warifu_server::config::process_env;
use warifu_server::telemetry::init_logs;
use warifu_server::{chance, clock, keyfile};

use crate::card::{Card, HubCard, parse_url};
use crate::directory;
use crate::fail::Failure;
use crate::network::Network;
use crate::out::{self, Out};
use crate::{calls, paths, registrar, stop};

const CONFIG: &str = "hub.toml";
const KEY: &str = "hub.key";
const CARD: &str = "hub.card.json";

/// The first settlement server: route a code's registration to its issuer.
///
/// A hub forwards, stores and can withhold; it can't make, read, spend or alter a code, or see who pays whom how much.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  warifu hub init --dir hub --network registrar/network.json
  warifu hub serve --dir hub")]
pub(crate) struct HubArgs {
    #[command(subcommand)]
    command: Command,
}

impl HubArgs {
    /// Whether many calls have to be served at once.
    pub(crate) fn serves(&self) -> bool {
        matches!(self.command, Command::Serve(_))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a hub: its key, its settings, and the card that the registrar signs.
    #[command(after_help = "Example:
  warifu hub init --dir hub --network registrar/network.json
  warifu hub init --dir hub --network network.json --listen 0.0.0.0:7443 --url https://hub.example.org")]
    Init(InitArgs),
    /// Serve until SIGINT or SIGTERM, then finish what is under way.
    #[command(after_help = "Example:\n  warifu hub serve --dir hub")]
    Serve(Folder),
    /// Show the directory that a hub hands out, checked entry by entry.
    #[command(after_help = "Example:
  warifu hub directory --dir hub
  warifu hub directory --hub https://hub.example.org --network network.json")]
    Directory(DirectoryArgs),
    /// Check the settings and tell all faults at once.
    #[command(after_help = "Example:\n  warifu hub check-config --dir hub")]
    CheckConfig(Folder),
}

#[derive(Debug, Args)]
struct Folder {
    /// The hub's folder
    #[arg(long, default_value = "hub")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct InitArgs {
    #[command(flatten)]
    folder: Folder,
    /// The registrar's network.json
    #[arg(long, value_name = "FILE")]
    network: PathBuf,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:7001", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Under which address others find it [default: http:// and the address to listen on]
    #[arg(long)]
    url: Option<String>,
}

#[derive(Debug, Args)]
struct DirectoryArgs {
    #[command(flatten)]
    folder: Folder,
    /// Ask this hub instead of the folder's own
    #[arg(long, value_name = "URL")]
    hub: Option<String>,
    /// With --hub: check against this network.json instead of what the hub says
    #[arg(long, value_name = "FILE", requires = "hub")]
    network: Option<PathBuf>,
}

pub(crate) async fn run(args: HubArgs, out: &Out) -> Result<(), Failure> {
    match args.command {
        Command::Init(args) => {
            let network = Network::read(&args.network)?;
            let url = public_url(args.listen, args.url.as_deref())?;
            let wish = Wish { dir: &args.folder.dir, network: &network, listen: args.listen, url };
            let card = init(&wish, clock::now())?;
            tell_init(&args.folder.dir, &card, args.listen, out);
            Ok(())
        }
        Command::Serve(folder) => serve(&folder.dir).await,
        Command::Directory(args) => show_directory(args, out).await,
        Command::CheckConfig(folder) => check_config(&folder.dir, out),
    }
}

/// The address under which others find a server: as given, or made of where it listens on this machine.
pub(crate) fn public_url(listen: SocketAddr, url: Option<&str>) -> Result<String, Failure> {
    match url {
        Some(url) => parse_url(url).map_err(|why| {
            Failure::usage(format_args!("--url {url}: it {why}"))
                .next("give an address such as https://hub.example.org")
        }),
        None if listen.ip().is_loopback() && listen.port() != 0 => Ok(format!("http://{listen}")),
        None => Err(Failure::usage(format_args!(
            "nobody can tell from --listen {listen} under which address others find it"
        ))
        .next("add --url https://NAME, as it is reached from outside")),
    }
}

/// What `hub init` is asked for.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    /// The folder to make.
    pub(crate) dir: &'a Path,
    /// To which network it belongs.
    pub(crate) network: &'a Network,
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// Under which address others find it, as [`parse_url`] gives it.
    pub(crate) url: String,
}

/// Makes a hub's folder.
pub(crate) fn init(wish: &Wish<'_>, now: Timestamp) -> Result<HubCard, Failure> {
    let dir = wish.dir;
    paths::prepare(dir, &[KEY, CARD, CONFIG, Network::FILE])?;
    let key = chance::key();
    let card = HubCard { id: chance::id(now), url: wish.url.clone(), key: key.public().clone() };
    keyfile::create(dir.join(KEY), &key)?;
    paths::write_new_json(&dir.join(Network::FILE), wish.network)?;
    paths::write_new_json(&dir.join(CARD), &Card::Hub(card.clone()))?;
    let config = warifu_hub::default_config_text(&wish.listen.to_string(), Some(&wish.url));
    paths::write_new(&dir.join(CONFIG), &config)?;
    Ok(card)
}

fn tell_init(dir: &Path, card: &HubCard, listen: SocketAddr, out: &Out) {
    let path = dir.join(CARD);
    out.say(format_args!("hub {} at {}", card.id, card.url));
    out.say(format_args!("settings: {}", paths::shown_in(dir, CONFIG)));
    if !listen.ip().is_loopback() {
        out.say("Before it can serve: set tls_cert and tls_key there, or behind_tls_proxy = true.");
    }
    out.say("The registrar signs its card:");
    out.next(format_args!("warifu registrar add hub {} --dir registrar", paths::shown(&path)));
    out.object(&json!({ "id": card.id, "url": card.url, "card_file": path }));
}

fn load(dir: &Path) -> Result<warifu_hub::Config, Failure> {
    let init = format!("warifu hub init --dir {} --network network.json", paths::shown(dir));
    paths::existing(dir, CONFIG, &init)?;
    warifu_hub::Config::load(dir, process_env).map_err(Failure::from)
}

async fn serve(dir: &Path) -> Result<(), Failure> {
    let config = load(dir)?;
    init_logs(out::log_format());
    warifu_hub::run(config, dir, stop::wished()).await.map_err(Failure::from)
}

fn check_config(dir: &Path, out: &Out) -> Result<(), Failure> {
    let config = load(dir)?;
    let mut faults = Vec::new();
    if !config.listen.ip().is_loopback() && config.tls_cert.is_none() && !config.behind_tls_proxy {
        faults.push(
            "listen: others than loopback need tls_cert and tls_key, or behind_tls_proxy"
                .to_owned(),
        );
    }
    let key = keyfile::read(dir.join(&config.key));
    if let Err(error) = &key {
        faults.push(format!("key: {error}"));
    }
    if let Err(failure) = Network::read(&dir.join(&config.network)) {
        faults.push(format!("network: {failure}"));
    }
    if let (Ok(key), Ok(Card::Hub(card))) = (key, paths::read_json(&dir.join(CARD), "card")) {
        if card.key != *key.public() {
            faults.push(format!("key: is not the key of {CARD}, which the registrar signs"));
        }
        if config.url.as_ref().is_some_and(|url| *url != card.url) {
            faults.push(format!("url: is not {}, the address in {CARD}", card.url));
        }
    }
    paths::no_faults(&dir.join(CONFIG), &faults)?;
    out.say(format_args!("{} is good", paths::shown_in(dir, CONFIG)));
    out.next(format_args!("warifu hub serve --dir {}", paths::shown(dir)));
    out.object(&json!({ "config_file": dir.join(CONFIG), "faults": faults }));
    Ok(())
}

async fn show_directory(args: DirectoryArgs, out: &Out) -> Result<(), Failure> {
    let (url, network) = match &args.hub {
        Some(url) => (url.clone(), args.network.as_deref().map(Network::read).transpose()?),
        None => {
            let dir = &args.folder.dir;
            let config = load(dir)?;
            let url = config.url.unwrap_or_else(|| format!("http://{}", config.listen));
            (url, Some(Network::read(&dir.join(&config.network))?))
        }
    };
    let fetched = directory::fetch(&calls::http()?, &url, network.as_ref()).await;
    let fetched = fetched.map_err(|failure| {
        if calls::is_passing(&failure) && args.hub.is_none() {
            let dir = paths::shown(&args.folder.dir);
            failure.next(format_args!("warifu hub serve --dir {dir}   (is it running?)"))
        } else {
            failure
        }
    })?;
    let thumbprint = fetched.directory.registrar().thumbprint();
    out.say(format_args!("network   {}", fetched.directory.network()));
    out.say(format_args!("registrar {thumbprint}"));
    out.say(format_args!("version   {} as of {}", fetched.version, fetched.as_of));
    if network.is_none() {
        out.warn(
            "which registrar that is was taken from the hub: compare it, or give --network FILE",
        );
    }
    for ignored in &fetched.ignored {
        out.warn(format_args!("not believed: {ignored}"));
    }
    let about = json!({
        "network_id": fetched.directory.network(),
        "registrar": thumbprint,
        "registrar_checked": network.is_some(),
        "version": fetched.version,
        "as_of_ms": fetched.as_of.as_ms(),
    });
    registrar::show_records(&fetched.records(), about, clock::now(), out);
    if fetched.version == 0 {
        out.next("warifu registrar publish --dir registrar");
    }
    Ok(())
}
