//! The settings of a hub, as `hub.toml` in its folder has them. Unknown keys are refused; every key can also be
//! given as `WARIFU_HUB_<KEY>`. Paths are taken from the folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use warifu_proto::id::NetworkId;
use warifu_proto::key::PublicKey;
use warifu_server::config as settings;

use crate::forward::{BreakerSettings, ForwardSettings};

/// Name of the settings file in a hub's folder.
pub const FILE: &str = "hub.toml";

/// The settings. Their defaults are what [`default_config_text`] writes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Under which address the world finds it; `http://<listen>` if it is missing.
    pub url: Option<String>,
    /// Further addresses that callers may have signed for.
    pub more_urls: Vec<String>,
    /// The network's file, as the registrar hands it out.
    pub network: PathBuf,
    /// The hub's private key.
    pub key: PathBuf,
    /// Where the database lies.
    pub data: PathBuf,
    /// The certificate chain, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Whether somebody in front of it does TLS.
    pub behind_tls_proxy: bool,
    /// Certificates that vouch for issuers, PEM, beside the public ones.
    pub ca: Option<PathBuf>,
    /// Connections at the same time, event streams included; more wait.
    pub connections_max: usize,
    /// Calls worked on at the same time; above it: 503.
    pub in_flight_max: usize,
    /// How long forwarding may take, in milliseconds.
    pub forward_deadline_ms: u64,
    /// Calls forwarded to one issuer endpoint at the same time; above it: 503.
    pub forward_in_flight_max: usize,
    /// Links kept of one issuer; above it: 503 for new ones of that issuer.
    pub links_max: u64,
    /// Bytes of unacknowledged notices kept of one issuer; above it: 429 for that issuer.
    pub notice_bytes_max: u64,
    /// Failures in a row after which an issuer endpoint counts as away.
    pub breaker_failures: u32,
    /// How long it counts as away before one call tries again, in milliseconds.
    pub breaker_open_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7001)),
            url: None,
            more_urls: Vec::new(),
            network: PathBuf::from("network.json"),
            key: PathBuf::from("hub.key"),
            data: PathBuf::from("data"),
            tls_cert: None,
            tls_key: None,
            behind_tls_proxy: false,
            ca: None,
            connections_max: 10_000,
            in_flight_max: 4_096,
            forward_deadline_ms: 5_000,
            forward_in_flight_max: 256,
            links_max: 5_000_000,
            notice_bytes_max: 10_000_000_000,
            breaker_failures: 5,
            breaker_open_ms: 2_000,
        }
    }
}

/// `network.json`: which network, and who vouches for everybody in it. Public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFile {
    /// Which network.
    pub network_id: NetworkId,
    /// The registrar's key.
    pub registrar: PublicKey,
}

/// The text of a new `hub.toml`: every setting with what it is for.
pub fn default_config_text(listen: &str, url: Option<&str>) -> String {
    let url = url.map_or_else(
        || format!("# url = \"http://{listen}\""),
        |url| format!("url = {}", quoted(url)),
    );
    let listen = quoted(listen);
    format!(
        r#"# Settings of a Warifu hub. Paths are taken from this file's folder. Every key can also be given in the
# environment as WARIFU_HUB_<KEY>, such as WARIFU_HUB_LISTEN.

# Where to listen. Anything but a loopback address needs TLS: tls_cert and tls_key, or behind_tls_proxy.
listen = {listen}

# The address under which terminals, readers, merchants and issuers find this hub; it is in the hub's entry of the
# directory, and callers sign for it. Without it: http:// and the address above.
{url}

# Further addresses of this hub that callers may have signed for.
more_urls = []

# The network's file, handed out by its registrar: network id and registrar key.
network = "network.json"

# The hub's private key (mode 0600), made by `warifu hub init`.
key = "hub.key"

# Where the database lies.
data = "data"

# TLS: certificate chain and private key, PEM.
# tls_cert = "tls.crt"
# tls_key = "tls.key"

# Whether something in front of the hub does TLS for it.
behind_tls_proxy = false

# Certificates that vouch for issuers, PEM, beside the public ones.
# ca = "ca.crt"

# Connections at the same time; more wait. Every terminal that listens for notices holds one, so raise this, and the
# system's limit of open files, with their number.
connections_max = 10000

# Calls worked on at the same time; above it callers get 503 with Retry-After.
in_flight_max = 4096

# How long carrying a message to an issuer and back may take, in milliseconds.
forward_deadline_ms = 5000

# Calls carried to one issuer endpoint at the same time; above it callers get 503 with Retry-After.
forward_in_flight_max = 256

# The share of one issuer, so that none takes the memory and the disk of the others: its links (400 bytes of memory each),
# and the bytes of its notices that terminals have not acknowledged. Above it that issuer is refused, nobody else.
links_max = 5000000
notice_bytes_max = 10000000000

# After so many calls in a row without an answer an issuer endpoint counts as away, and its calls get 503 at once ...
breaker_failures = 5

# ... for so long, in milliseconds; then one call tries again.
breaker_open_ms = 2000
"#
    )
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Config {
    /// Reads `hub.toml` of a folder, and the environment over it.
    ///
    /// # Errors
    /// All faults at once.
    pub fn load(dir: &Path, env: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let config: Self = settings::load(dir.join(FILE), "hub", env)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// All faults at once.
    pub fn check(&self) -> anyhow::Result<()> {
        let mut faults = Vec::new();
        let mut need = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.to_owned());
            }
        };
        need(
            self.tls_cert.is_some() == self.tls_key.is_some(),
            "tls_cert and tls_key: give both or none",
        );
        need(self.connections_max > 0, "connections_max: must be above 0");
        need(self.in_flight_max > 0, "in_flight_max: must be above 0");
        need(self.forward_in_flight_max > 0, "forward_in_flight_max: must be above 0");
        need(
            self.forward_in_flight_max <= tokio::sync::Semaphore::MAX_PERMITS,
            "forward_in_flight_max: is too large",
        );
        need(self.links_max > 0, "links_max: must be above 0");
        need(self.notice_bytes_max > 0, "notice_bytes_max: must be above 0");
        need(
            (100..=60_000).contains(&self.forward_deadline_ms),
            "forward_deadline_ms: must be 100 to 60000",
        );
        need(self.breaker_failures > 0, "breaker_failures: must be above 0");
        need((1..=600_000).contains(&self.breaker_open_ms), "breaker_open_ms: must be 1 to 600000");
        need(
            self.url.is_some() || !self.listen.ip().is_unspecified(),
            "url: is needed when listen names no single address",
        );
        for url in self.url.iter().chain(&self.more_urls) {
            need(
                warifu_server::edge::authority_of(url).is_some(),
                &format!("{url:?} is no address such as https://hub.example.org"),
            );
        }
        anyhow::ensure!(
            faults.is_empty(),
            "the hub's settings are wrong:\n  {}",
            faults.join("\n  ")
        );
        Ok(())
    }

    /// Reads the network's file.
    pub(crate) fn read_network(&self, dir: &Path) -> anyhow::Result<NetworkFile> {
        let path = dir.join(&self.network);
        let text = std::fs::read(&path).with_context(|| {
            format!(
                "cannot read {}: it is the network.json that the registrar hands out",
                path.display()
            )
        })?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a network's file", path.display()))
    }

    pub(crate) fn forward_settings(&self) -> ForwardSettings {
        ForwardSettings {
            deadline: Duration::from_millis(self.forward_deadline_ms),
            in_flight_max: self.forward_in_flight_max,
            breaker: BreakerSettings {
                failures: self.breaker_failures,
                open: Duration::from_millis(self.breaker_open_ms),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, env: &[(&str, &str)]) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        Config::load(folder.path(), |name| {
            env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_written_file_says_the_defaults() {
        let text = default_config_text("127.0.0.1:7001", None);
        assert_eq!(load(&text, &[]).unwrap(), Config::default());
        assert_eq!(load("", &[]).unwrap(), Config::default());
        let text = default_config_text("0.0.0.0:7443", Some("https://hub.example.org"));
        let config = load(&text, &[]).unwrap();
        assert_eq!(config.url.as_deref(), Some("https://hub.example.org"));
        assert_eq!(config.listen.to_string(), "0.0.0.0:7443");
        // Every key is in the file, used or as an example.
        for key in ["tls_cert", "tls_key", "ca", "url", "more_urls"] {
            assert!(text.contains(&format!("{key} = ")), "{key}");
        }
    }

    #[test]
    fn the_environment_wins_and_faults_are_told_together() {
        let config = load("listen = \"127.0.0.1:1\"", &[("WARIFU_HUB_LISTEN", "127.0.0.1:2")]);
        assert_eq!(config.unwrap().listen.port(), 2);
        assert!(load("lisen = \"127.0.0.1:1\"", &[]).is_err());
        let faults = load("breaker_failures = 0\ntls_key = \"x\"\nurl = \"nonsense\"", &[])
            .unwrap_err()
            .to_string();
        for part in ["breaker_failures", "tls_cert", "nonsense"] {
            assert!(faults.contains(part), "{faults}");
        }
    }
}
