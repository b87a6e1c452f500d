//! The issuer's settings: one TOML file, checked once. Unknown keys are refused; every key can be given as
//! `WARIFU_ISSUER_<KEY>` too. Secrets are files, never values.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use warifu_core::limits::Limits;
use warifu_proto::code::Prefix;
use warifu_proto::currency::CurrencyCode;
use warifu_proto::id::{IssuerId, MerchantId};
use warifu_proto::key::PublicKey;
use warifu_proto::limits::HOLD_DEFAULT_S;
use warifu_proto::message::AccountKind;

/// `issuer.toml`. Paths are relative to its folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Under which address others call; `http://<listen>` when missing.
    pub url: Option<String>,
    /// Its id in the directory.
    pub id: IssuerId,
    /// For people.
    pub name: String,
    /// The first digits of its codes.
    pub prefix: Prefix,
    /// Of accounts that name none.
    pub currency: CurrencyCode,
    /// Of accounts that name none.
    pub kind: AccountKind,
    /// The network that it belongs to: `network.json` of the registrar.
    #[serde(default = "default_network_file")]
    pub network_file: PathBuf,
    /// The hub that carries its directory and notices.
    pub hub: String,
    /// Its private key.
    #[serde(default = "default_key_file")]
    pub key_file: PathBuf,
    /// What wraps secrets in the journal. Losing it loses every link.
    #[serde(default = "default_vault_file")]
    pub vault_key_file: PathBuf,
    /// Who may call `/admin/v1`.
    pub operator_key: PublicKey,
    /// Where journal, index and views lie.
    #[serde(default = "default_data")]
    pub data: PathBuf,
    /// Whose midnight ends the business day.
    #[serde(default = "default_time_zone")]
    pub time_zone: String,
    /// Partitions that new accounts are spread over, 1–100. May grow, never shrinks for accounts that exist.
    #[serde(default = "default_partitions")]
    pub partitions: u8,
    /// What payers may spend, in minor units of their account's currency. Accounts may have limits of their own.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// How long money can be held.
    #[serde(default)]
    pub holds: HoldsConfig,
    /// How old the copy of the directory may be before payments are refused, in seconds.
    #[serde(default = "default_directory_max_age_s")]
    pub directory_max_age_s: u64,
    /// Most requests under way at one time.
    #[serde(default = "default_in_flight_max")]
    pub in_flight_max: usize,
    /// Certificate chain, PEM.
    pub tls_cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub tls_key_file: Option<PathBuf>,
    /// More roots to trust when calling the hub, PEM.
    pub ca_file: Option<PathBuf>,
    /// Whether a proxy in front of it does TLS: allows plain HTTP on other addresses than loopback.
    #[serde(default)]
    pub behind_tls_proxy: bool,
}

/// `[limits]`. A missing limit does not exist, but for those of long codes, which have careful defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Most of one payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_max_minor: Option<u64>,
    /// Most of all payments of one business day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_max_minor: Option<u64>,
    /// Most payments of one business day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_count_max: Option<u32>,
    /// Above this amount the payer has to confirm on the phone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_above_minor: Option<u64>,
    /// After so many payments of one terminal and day without a question the payer has to confirm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_above_count: Option<u32>,
    /// Most that a terminal without network can pay, since its last code that was registered.
    #[serde(default = "default_offline_max_minor")]
    pub offline_max_minor: u64,
    /// Most payments of a terminal without network, since then. 0: none at all.
    #[serde(default = "default_offline_count_max")]
    pub offline_count_max: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            payment_max_minor: None,
            day_max_minor: None,
            day_count_max: None,
            confirm_above_minor: None,
            confirm_above_count: None,
            offline_max_minor: default_offline_max_minor(),
            offline_count_max: default_offline_count_max(),
        }
    }
}

impl From<LimitsConfig> for Limits {
    fn from(it: LimitsConfig) -> Self {
        Self {
            payment_max_minor: it.payment_max_minor,
            day_max_minor: it.day_max_minor,
            day_count_max: it.day_count_max,
            confirm_above_minor: it.confirm_above_minor,
            confirm_above_count: it.confirm_above_count,
            offline_max_minor: Some(it.offline_max_minor),
            offline_count_max: Some(it.offline_count_max),
        }
    }
}

/// `[holds]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldsConfig {
    /// How long a hold lasts, in seconds.
    #[serde(default = "default_hold_s")]
    pub default_s: u64,
    /// The same for some merchants, by their id.
    #[serde(default)]
    pub merchants: BTreeMap<MerchantId, u64>,
}

impl Default for HoldsConfig {
    fn default() -> Self {
        Self { default_s: default_hold_s(), merchants: BTreeMap::new() }
    }
}

impl HoldsConfig {
    /// How long a hold of this merchant lasts, in milliseconds.
    pub fn lifetime_ms(&self, merchant: MerchantId) -> u64 {
        self.merchants.get(&merchant).copied().unwrap_or(self.default_s).saturating_mul(1000)
    }
}

/// Longest hold, in seconds: a year. Money that is held longer should have been taken.
const HOLD_MAX_S: u64 = 365 * 86_400;

fn default_offline_max_minor() -> u64 {
    10_000
}
fn default_offline_count_max() -> u32 {
    3
}
fn default_hold_s() -> u64 {
    HOLD_DEFAULT_S
}
fn default_network_file() -> PathBuf {
    "network.json".into()
}
fn default_key_file() -> PathBuf {
    "issuer.key".into()
}
fn default_vault_file() -> PathBuf {
    "vault.key".into()
}
fn default_data() -> PathBuf {
    "data".into()
}
fn default_time_zone() -> String {
    "UTC".to_owned()
}
fn default_partitions() -> u8 {
    16
}
fn default_directory_max_age_s() -> u64 {
    86_400
}
fn default_in_flight_max() -> usize {
    4096
}

impl Config {
    /// Everything that its types do not check, all faults at once.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=100).contains(&self.partitions) {
            faults.push("partitions must lie in 1 to 100".to_owned());
        }
        if self.tls_cert_file.is_some() != self.tls_key_file.is_some() {
            faults.push("tls_cert_file and tls_key_file go together".to_owned());
        }
        if let Err(error) =
            warifu_proto::message::check_text("name", &self.name, warifu_proto::limits::NAME_MAX)
        {
            faults.push(error.to_string());
        }
        if jiff::tz::TimeZone::get(&self.time_zone).is_err() {
            faults.push(format!(
                "time_zone `{}` is not known: give a name like Asia/Tokyo",
                self.time_zone
            ));
        }
        let holds = std::iter::once(&self.holds.default_s).chain(self.holds.merchants.values());
        if holds.into_iter().any(|it| !(1..=HOLD_MAX_S).contains(it)) {
            faults.push("holds must last 1 second to 365 days".to_owned());
        }
        if self.in_flight_max == 0 {
            faults.push("in_flight_max must be above 0".to_owned());
        }
        faults
    }
}

/// What `warifu issuer init` knows.
#[derive(Debug, Clone)]
pub struct InitFacts<'a> {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Under which address others call.
    pub url: &'a str,
    /// Its id in the directory.
    pub id: IssuerId,
    /// For people.
    pub name: &'a str,
    /// The first digits of its codes.
    pub prefix: Prefix,
    /// Its currency.
    pub currency: CurrencyCode,
    /// What kind of accounts it opens.
    pub kind: AccountKind,
    /// Its hub.
    pub hub: &'a str,
    /// Who may call `/admin/v1`.
    pub operator_key: &'a PublicKey,
}

/// The commented file that `warifu issuer init` writes and that works as it is.
pub fn default_config_text(facts: &InitFacts<'_>) -> String {
    let kind = match facts.kind {
        AccountKind::Prepaid => "prepaid",
        AccountKind::Credit => "credit",
    };
    let jwk = serde_json::to_value(facts.operator_key).unwrap_or_default();
    let part = |name: &str| jwk.get(name).and_then(|it| it.as_str()).unwrap_or_default().to_owned();
    let text = |value: &str| toml::Value::from(value).to_string();
    format!(
        r#"# An issuer of Warifu. Every setting can be given as WARIFU_ISSUER_<KEY> too.
# Check it with: warifu issuer check-config

# Where to listen. Other addresses than loopback need tls_cert_file and tls_key_file,
# or behind_tls_proxy = true.
listen = "{listen}"
# The address that stands in the directory; requests for another are refused.
url = {url}

# Who this is. The registrar signs these: changing one means asking it again.
id = "{id}"
name = {name}
prefix = "{prefix}"

# Accounts that name no currency or kind get these. kind is "prepaid" or "credit".
currency = "{currency}"
kind = "{kind}"

# Whose midnight ends the business day.
time_zone = "UTC"
# Partitions that new accounts are spread over, 1 to 100.
partitions = 16

# The hub that carries the directory and the notices.
hub = {hub}
# Payments are refused when the copy of the directory is older than this.
directory_max_age_s = 86400

# Most requests under way at one time; more are refused at once, for free.
in_flight_max = 4096

# Files, relative to this one. Back up the keys and the data folder; losing vault.key loses every link.
network_file = "network.json"
key_file = "issuer.key"
vault_key_file = "vault.key"
data = "data"
# tls_cert_file = "cert.pem"
# tls_key_file = "key.pem"
# ca_file = "roots.pem"
behind_tls_proxy = false

# What payers may spend, in minor units of their account's currency; accounts may have limits of their own.
# A limit that is not named does not exist. The day is that of time_zone.
[limits]
# payment_max_minor = 100000
# day_max_minor = 300000
# day_count_max = 50
# Above these the payer has to confirm on the phone: an amount, a number of payments a day.
# confirm_above_minor = 30000
# confirm_above_count = 20
# What a phone without network can pay by long codes, until its next code is registered.
offline_max_minor = 10000
offline_count_max = 3

# How long money can be held, in seconds; merchants may have times of their own.
[holds]
default_s = 604800
# [holds.merchants]
# mer_... = 86400

# Who may open accounts, top up and invite: the public half of operator.key.
[operator_key]
kty = "EC"
crv = "P-256"
x = "{x}"
y = "{y}"
"#,
        listen = facts.listen,
        url = text(facts.url),
        id = facts.id,
        name = text(facts.name),
        prefix = facts.prefix,
        currency = facts.currency,
        hub = text(facts.hub),
        x = part("x"),
        y = part("y"),
    )
}
