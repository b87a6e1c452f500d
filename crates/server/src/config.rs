//! Settings: one TOML file per role, unknown keys refused, every key also as `WARIFU_<ROLE>_<KEY>`, and all faults told
//! at once.
//!
//! The keys are learned from the settings' own type by watching what its `Deserialize` asks for (`shape`), so there
//! is no second list of them. Secrets are named ([`SecretRef`]), never written into the file.
//!
//! Limit: a field whose type accepts none of the stand-ins hides missing fields declared behind it until it is given.

mod shape;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};
use zeroize::Zeroizing;

use crate::keyfile::{self, KeyFileError};
pub(crate) use shape::fields_of;
use shape::{Shape, accept, shape_at};

/// Everything that is wrong with a configuration, at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFaults {
    /// Which file.
    pub path: PathBuf,
    /// One sentence each.
    pub faults: Vec<String>,
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.faults.len() == 1 { "" } else { "s" };
        write!(f, "{} has {} fault{plural}:", self.path.display(), self.faults.len())?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  - {fault}"))
    }
}

impl std::error::Error for ConfigFaults {}

/// Reads the file, lets the environment override its keys, and checks all of it.
///
/// A key `listen` of role `hub` is overridden by `WARIFU_HUB_LISTEN`, a key `cert` in the table `tls` by
/// `WARIFU_HUB_TLS_CERT`. Texts are taken as they are, anything else as TOML writes it.
///
/// # Errors
/// All faults at once.
pub fn load<T: DeserializeOwned>(
    path: impl AsRef<Path>,
    role: &str,
    env: impl Fn(&str) -> Option<String>,
) -> Result<T, ConfigFaults> {
    let failed = |faults| ConfigFaults { path: path.as_ref().to_owned(), faults };
    let text = std::fs::read_to_string(path.as_ref())
        .map_err(|error| failed(vec![format!("cannot be read: {error}")]))?;
    parse(&text, role, env).map_err(failed)
}

/// The process environment, for [`load`].
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn parse<T: DeserializeOwned>(
    text: &str,
    role: &str,
    env: impl Fn(&str) -> Option<String>,
) -> Result<T, Vec<String>> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
        vec![format!("is no TOML: {}", error.to_string().trim_end().replace('\n', "\n    "))]
    })?;
    let mut check =
        Check::<T> { faults: Vec::new(), from_env: Vec::new(), settings: Default::default() };
    let prefix = format!("WARIFU_{}", role.to_uppercase());
    check.take_env(&mut table, &mut Vec::new(), &prefix, &env);
    check.table(&table, &mut Vec::new());
    if check.faults.is_empty() {
        return T::deserialize(Value::Table(table))
            .map_err(|error| vec![error.message().to_owned()]);
    }
    Err(check.faults)
}

/// Collects the faults of settings of type `T`.
struct Check<T> {
    faults: Vec<String>,
    /// Which keys came from which variable.
    from_env: Vec<(String, String)>,
    settings: std::marker::PhantomData<fn() -> T>,
}

type Keys = Vec<String>;

impl<T: DeserializeOwned> Check<T> {
    /// Puts what the environment says into the table.
    fn take_env(
        &mut self,
        table: &mut Table,
        at: &mut Keys,
        prefix: &str,
        env: &impl Fn(&str) -> Option<String>,
    ) {
        let Some(Shape::Struct(fields)) = shape_at::<T>(at) else { return };
        for field in fields {
            let variable = format!("{prefix}_{}", field.to_uppercase().replace('-', "_"));
            at.push((*field).to_owned());
            match shape_at::<T>(at) {
                Some(Shape::Struct(_)) => {
                    let mut inner = match table.get(*field) {
                        Some(Value::Table(inner)) => inner.clone(),
                        Some(_) | None => Table::new(),
                    };
                    let before = self.from_env.len();
                    self.take_env(&mut inner, at, &variable, env);
                    if self.from_env.len() > before {
                        table.insert((*field).to_owned(), Value::Table(inner));
                    }
                }
                found => {
                    if let Some(text) = env(&variable) {
                        table.insert((*field).to_owned(), value_of(text, found));
                        self.from_env.push((at.join("."), variable));
                    }
                }
            }
            at.pop();
        }
    }

    /// Checks a table and gives it back as far as it is usable: wrong and missing values replaced by stand-ins, so
    /// that they don't hide other faults.
    fn table(&mut self, table: &Table, at: &mut Keys) -> Table {
        let Some(Shape::Struct(fields)) = shape_at::<T>(at) else { return table.clone() };
        let mut usable = Table::new();
        for (key, value) in table {
            if !fields.contains(&key.as_str()) {
                let known = fields.join("`, `");
                at.push(key.clone());
                let name = at.join(".");
                self.faults.push(format!("`{name}` is unknown: known here are `{known}`"));
                at.pop();
                continue;
            }
            at.push(key.clone());
            if let Some(value) = self.value(value, at) {
                usable.insert(key.clone(), value);
            }
            at.pop();
        }
        // Each round finds the first missing field and puts a stand-in there.
        for _ in fields {
            let Err(error) = accept::<T>(at, Value::Table(usable.clone())) else { break };
            let missing = error.strip_prefix("missing field `").and_then(|it| it.split('`').next());
            let Some(missing) = missing else { break };
            at.push(missing.to_owned());
            if !table.contains_key(missing) {
                self.faults.push(format!("`{}` is missing", at.join(".")));
            }
            let stand_in = self.stand_in(at);
            at.pop();
            let Some(stand_in) = stand_in else { break };
            usable.insert(missing.to_owned(), stand_in);
        }
        usable
    }

    fn value(&mut self, value: &Value, at: &mut Keys) -> Option<Value> {
        if let (Value::Table(inner), Some(Shape::Struct(_))) = (value, shape_at::<T>(at)) {
            return Some(Value::Table(self.table(inner, at)));
        }
        match accept::<T>(at, value.clone()) {
            Ok(()) => Some(value.clone()),
            Err(why) => {
                let name = at.join(".");
                let from = self.from_env.iter().find(|(key, _)| *key == name);
                let from = from.map(|(_, variable)| format!(" (from {variable})"));
                self.faults.push(format!("`{name}`{}: {why}", from.unwrap_or_default()));
                self.stand_in(at)
            }
        }
    }

    /// Some value that the field takes. It is never used for anything but looking behind it.
    fn stand_in(&mut self, at: &mut Keys) -> Option<Value> {
        if let Some(Shape::Struct(_)) = shape_at::<T>(at) {
            let before = self.faults.len();
            let usable = self.table(&Table::new(), at);
            self.faults.truncate(before);
            return Some(Value::Table(usable));
        }
        shape::stand_ins().into_iter().find(|it| accept::<T>(at, it.clone()).is_ok())
    }
}

/// A variable's text as a TOML value.
fn value_of(text: String, shape: Option<Shape>) -> Value {
    if matches!(shape, Some(Shape::Text)) {
        return Value::String(text);
    }
    let parsed = format!("it = {text}").parse::<Table>().ok();
    parsed
        .filter(|it| it.len() == 1)
        .and_then(|mut it| it.remove("it"))
        .unwrap_or(Value::String(text))
}

/// Where a secret is: settings name it, they never hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// `env:NAME`
    Env(String),
    /// `file:PATH`, relative to the folder of the settings.
    File(PathBuf),
}

impl SecretRef {
    /// Reads `env:NAME` or `file:PATH`.
    ///
    /// # Errors
    /// When it is neither: likely the secret itself, so it is not echoed.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const BAD: &str = "must be `env:NAME` or `file:PATH`, never the secret itself";
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(_) | None => Err(BAD),
        }
    }

    /// Fetches the secret, without white space at its end.
    ///
    /// # Errors
    /// When the variable is not set, or the file can't be read or is readable by others.
    pub fn resolve(&self, base_dir: impl AsRef<Path>) -> Result<Zeroizing<String>, SecretError> {
        self.resolve_with(base_dir.as_ref(), process_env)
    }

    fn resolve_with(
        &self,
        base_dir: &Path,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Zeroizing<String>, SecretError> {
        let secret = match self {
            Self::Env(name) => {
                Zeroizing::new(env(name).ok_or_else(|| SecretError::Unset(name.clone()))?)
            }
            Self::File(path) => keyfile::read_private(&base_dir.join(path))?,
        };
        Ok(Zeroizing::new(secret.trim_end().to_owned()))
    }

    /// The path of the secret's file, if it is in one.
    pub fn file(&self, base_dir: impl AsRef<Path>) -> Option<PathBuf> {
        match self {
            Self::Env(_) => None,
            Self::File(path) => Some(base_dir.as_ref().join(path)),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl<'de> serde::Deserialize<'de> for SecretRef {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(from)?);
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for SecretRef {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Why a secret can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// The file can't be used.
    #[error(transparent)]
    File(#[from] KeyFileError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::net::SocketAddr;
    use warifu_proto::id::NetworkId;
    use warifu_proto::key::Thumbprint;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Tls {
        cert: PathBuf,
        key: PathBuf,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Durability {
        Full,
        Normal,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        listen: SocketAddr,
        url: String,
        network_id: NetworkId,
        registrar: Thumbprint,
        key: SecretRef,
        #[serde(default = "eight")]
        workers: usize,
        #[serde(default)]
        behind_tls_proxy: bool,
        tls: Option<Tls>,
        #[serde(default)]
        hubs: Vec<String>,
        durability: Option<Durability>,
    }

    fn eight() -> usize {
        8
    }

    const GOOD: &str = r#"
        listen = "127.0.0.1:7001"
        url = "http://127.0.0.1:7001"
        network_id = "net_01h455vb4pex5vsknk084sn02q"
        registrar = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        key = "file:hub.key"
    "#;

    fn no_env(_: &str) -> Option<String> {
        None
    }

    fn faults(text: &str) -> Vec<String> {
        parse::<Settings>(text, "hub", no_env).unwrap_err()
    }

    #[test]
    fn defaults_and_overrides_apply() {
        let read: Settings = parse(GOOD, "hub", no_env).unwrap();
        assert_eq!((read.workers, read.behind_tls_proxy, &read.tls), (8, false, &None));
        assert_eq!(read.key, SecretRef::File("hub.key".into()));
        let env = |name: &str| {
            let value = match name {
                "WARIFU_HUB_LISTEN" => "127.0.0.1:1",
                "WARIFU_HUB_WORKERS" => "3",
                "WARIFU_HUB_BEHIND_TLS_PROXY" => "true",
                "WARIFU_HUB_TLS_CERT" => "a.pem",
                "WARIFU_HUB_TLS_KEY" => "b.pem",
                "WARIFU_HUB_HUBS" => r#"["http://one", "http://two"]"#,
                "WARIFU_HUB_DURABILITY" => "full",
                "WARIFU_HUB_URL" => "12",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let read: Settings = parse(GOOD, "hub", env).unwrap();
        assert_eq!(read.listen.port(), 1);
        assert_eq!((read.workers, read.behind_tls_proxy), (3, true));
        assert_eq!(read.tls, Some(Tls { cert: "a.pem".into(), key: "b.pem".into() }));
        assert_eq!(read.hubs, ["http://one", "http://two"]);
        assert_eq!(read.durability, Some(Durability::Full));
        assert_eq!(read.url, "12");
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = r#"
            lisen = "127.0.0.1:7001"
            url = 5
            network_id = "iss_01h455vb4pex5vsknk084sn02q"
            key = "hunter2"
            workers = -1
            durability = "some"
            [tls]
            cert = "a.pem"
            password = "x"
        "#;
        let faults = faults(text);
        let wanted = [
            "`lisen` is unknown: known here are `listen`",
            "`url`: invalid type",
            "`network_id`: id is malformed",
            "`key`: must be `env:NAME` or `file:PATH`, never the secret itself",
            "`workers`: invalid value",
            "`durability`: unknown variant",
            "`tls.password` is unknown: known here are `cert`, `key`",
            "`tls.key` is missing",
            "`listen` is missing",
            "`registrar` is missing",
        ];
        for want in wanted {
            assert!(faults.iter().any(|it| it.starts_with(want)), "{want}: {faults:#?}");
        }
        assert_eq!(faults.len(), wanted.len(), "{faults:#?}");
        assert!(!faults.join("").contains("hunter2"));
    }

    #[test]
    fn an_empty_file_names_every_key_it_needs() {
        let missing = ["listen", "url", "network_id", "registrar", "key"];
        assert_eq!(faults(""), missing.map(|it| format!("`{it}` is missing")));
    }

    #[test]
    fn faults_of_the_environment_name_the_variable() {
        let env = |name: &str| (name == "WARIFU_HUB_LISTEN").then(|| "here".to_owned());
        let faults = parse::<Settings>(GOOD, "hub", env).unwrap_err();
        assert!(faults[0].starts_with("`listen` (from WARIFU_HUB_LISTEN): "), "{faults:?}");
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_place() {
        let faults = faults("listen = \n");
        assert!(faults[0].contains("line 1"), "{faults:?}");
        let dir = tempfile::tempdir().unwrap();
        let missing = load::<Settings>(dir.path().join("hub.toml"), "hub", no_env).unwrap_err();
        assert!(missing.to_string().contains("hub.toml has 1 fault:\n  - cannot be read"));
    }

    #[test]
    fn secrets_are_fetched_from_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        keyfile::create_secret(dir.path().join("s.key"), &[7; 32]).unwrap();
        let file = SecretRef::parse("file:s.key").unwrap();
        let text = file.resolve(dir.path()).unwrap();
        assert_eq!(*text, warifu_proto::base64url::encode([7; 32]));
        assert_eq!(file.file(dir.path()), Some(dir.path().join("s.key")));
        let env = SecretRef::parse("env:NAME").unwrap();
        let known = |name: &str| (name == "NAME").then(|| "secret\n".to_owned());
        assert_eq!(*env.resolve_with(dir.path(), known).unwrap(), "secret");
        assert!(matches!(env.resolve_with(dir.path(), no_env), Err(SecretError::Unset(_))));
        assert!(SecretRef::parse("env:").is_err() && SecretRef::parse("hunter2").is_err());
    }
}
