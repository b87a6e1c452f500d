//! The network under load: one of its own in another process, or a running demo's by its folder.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use warifu_proto::directory::{Directory, Issuer};
use warifu_proto::key::PrivateKey;
use warifu_server::client::{Client, Peer};
use warifu_server::keyfile;

use super::args::Existing;
use crate::card::{Card, IssuerCard};
use crate::fail::Failure;
use crate::network::Network;
use crate::out::Out;
use crate::{calls, directory, issuer, paths, reader};

/// A network that is up, seen from outside.
pub(super) struct Site {
    pub(super) http: reqwest::Client,
    pub(super) directory: Directory,
    pub(super) hub: Peer,
    pub(super) issuer: Peer,
    pub(super) operator: Client,
    /// The till's key: it asks for the payments.
    pub(super) reader: Arc<PrivateKey>,
    /// The network's folder, if it is on this machine.
    pub(super) dir: Option<PathBuf>,
    /// Who serves all of it, if it is a process of ours.
    pub(super) pid: Option<u32>,
    /// How old its books are, for the report.
    pub(super) store: String,
    _own: Option<Own>,
}

/// A process and a folder that end with the bench.
struct Own {
    process: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Own {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        self.process.kill().unwrap_or_default();
        drop(self.process.wait());
    }
}

impl Site {
    /// Starts a demo of our own, or uses the running one in this folder.
    pub(super) async fn open(dir: Option<&Path>, out: &Out) -> Result<Self, Failure> {
        if let Some(dir) = dir {
            return Self::of(dir, format!("of the network in {}", paths::shown(dir)), None).await;
        }
        out.progress("starting a network of its own: `warifu demo` in another process");
        let (own, dir) = Own::start()?;
        Self::of(&dir, "new, made for this run".to_owned(), Some(own)).await
    }

    async fn of(dir: &Path, store: String, own: Option<Own>) -> Result<Self, Failure> {
        let network = Network::read(&dir.join("registrar").join(Network::FILE))?;
        let till_dir = dir.join("till");
        let till = reader::Folder::new(&till_dir).paired()?;
        let reader = keyfile::read(till_dir.join(format!("reader-{}.key", till.pairing)))?;
        let http = calls::http()?;
        let fetched = directory::fetch(&http, &till.hub_url, Some(&network)).await?;
        let card = card(&dir.join("aoba").join("issuer.card.json"))?;
        let url = card.endpoints.first().map(|it| it.url.clone()).unwrap_or_default();
        let operator = keyfile::read(dir.join("aoba").join(issuer::OPERATOR_KEY))?;
        let pid = match &own {
            Some(own) => Some(own.process.id()),
            None => Some(listener(&url).ok_or_else(|| {
                Failure::usage(format_args!("no process of yours listens at {url}"))
                    .next("start it as the same user: warifu demo --dir DIR")
            })?),
        };
        Ok(Self {
            hub: fetched.hub(&till.hub_url)?,
            directory: fetched.directory,
            issuer: Peer { url, key: card.key },
            operator: Client::new(Arc::new(operator), http.clone()),
            http,
            reader: Arc::new(reader),
            dir: Some(dir.to_owned()),
            pid,
            store,
            _own: own,
        })
    }

    /// Uses a network by its addresses.
    pub(super) async fn existing(it: &Existing) -> Result<Self, Failure> {
        let folder = reader::Folder::new(&it.reader);
        let paired = folder.paired()?;
        let reader = keyfile::read(it.reader.join(format!("reader-{}.key", paired.pairing)))?;
        let http = calls::http()?;
        let fetched = directory::fetch(&http, &it.hub, None).await?;
        let url = it.issuer.trim_end_matches('/').to_owned();
        let has_url = |issuer: &&Issuer| issuer.endpoints.iter().any(|it| it.url == url);
        let key = fetched.directory.issuers().find(has_url).map(|it| it.key.clone());
        let key = key.ok_or_else(|| {
            Failure::usage(format_args!("no issuer of this network is at {url}"))
                .next(format_args!("warifu hub directory --hub {}   (lists them)", it.hub))
        })?;
        let operator = keyfile::read(&it.operator_key)?;
        Ok(Self {
            hub: fetched.hub(&it.hub)?,
            directory: fetched.directory,
            pid: listener(&url),
            issuer: Peer { url, key },
            operator: Client::new(Arc::new(operator), http.clone()),
            http,
            reader: Arc::new(reader),
            dir: None,
            store: format!("of the network at {}", it.hub),
            _own: None,
        })
    }
}

impl Site {
    /// Whether the issuer runs on this machine, as far as its address tells.
    pub(super) fn is_here(&self) -> bool {
        self.pid.is_some() || is_of_this_machine(&self.issuer.url)
    }
}

fn is_of_this_machine(url: &str) -> bool {
    ["//127.0.0.1:", "//localhost:", "//[::1]:"].iter().any(|it| url.contains(it))
}

fn card(path: &Path) -> Result<IssuerCard, Failure> {
    match paths::read_json(path, "card")? {
        Card::Issuer(card) => Ok(card),
        Card::Hub(_) | Card::Merchant(_) => {
            Err(Failure::usage(format_args!("{} is no issuer's card", path.display())))
        }
    }
}

impl Own {
    fn start() -> Result<(Self, PathBuf), Failure> {
        let cannot = |error: &std::io::Error| {
            Failure::usage("the network under load can't be started").because(error)
        };
        let folder = tempfile::tempdir().map_err(|error| cannot(&error))?;
        let dir = folder.path().join("network");
        let program = std::env::current_exe().map_err(|error| cannot(&error))?;
        let mut command = Command::new(program);
        command.args(["--json", "demo", "--dir"]).arg(&dir).stdout(Stdio::piped());
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        let process = command.spawn().map_err(|error| cannot(&error))?;
        let mut own = Self { process, _folder: folder };
        let mut line = String::new();
        if let Some(stdout) = own.process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(|error| cannot(&error))?;
        }
        // Its one line comes after its first payment.
        if !line.contains("\"payment\"") {
            return Err(Failure::unreachable("the network under load did not come up")
                .next("see what it says: warifu demo --once"));
        }
        Ok((own, dir))
    }
}

/// Which of our processes listens on the port of this URL.
fn listener(url: &str) -> Option<u32> {
    let port: u16 = url.rsplit(':').next()?.trim_end_matches('/').parse().ok()?;
    if !is_of_this_machine(url) {
        return None;
    }
    let ending = format!(":{port:04X}");
    let table = ["/proc/net/tcp", "/proc/net/tcp6"].map(|it| fs::read_to_string(it).ok());
    let inode = table.iter().flatten().flat_map(|text| text.lines()).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1)?.ends_with(&ending) && *fields.get(3)? == "0A";
        is_it.then(|| fields.get(9).map(|it| format!("socket:[{it}]")))?
    })?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|it| it.as_os_str() == inode.as_str())
    })
}
