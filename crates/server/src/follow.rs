//! A durable, checked copy of the network's directory, kept up to date from a hub.
//!
//! Law: an entry counts because of its own signature, by the pinned registrar or a merchant it vouches for, whoever
//! hands it out; the hub's signature on the page only moves the position in the feed and the time as of which the copy
//! is whole. Nothing known is ever taken back: when the feed does not continue the one known (another hub, a hub set up
//! anew), it is read from its beginning over what is there. Without a hub the copy serves on.
//!
//! Limits: pages of [`crate::client::ANSWER_MAX_BYTES`]; a change of one entry copies the directory once (2 µs an entry).

mod copy;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use warifu_proto::directory::{Directory, Entry, EntryKind, Taken};
use warifu_proto::id::NetworkId;
use warifu_proto::key::{PublicKey, Signature, Thumbprint};
use warifu_proto::time::Timestamp;
use warifu_proto::{base64url, mac};

use crate::client::{CallError, Outgoing, SignBy, send};
use crate::clock;
use copy::{Copy, Head};

/// How long a hub is asked to wait for news. Each answer also moves [`DirectoryFollower::as_of`].
const WAIT: Duration = Duration::from_secs(20);
/// How long an answer may take beyond that.
const SLACK: Duration = Duration::from_secs(10);
/// Pauses after failures: at most 5 s, within which a suspension has to be everywhere.
const PAUSES_MS: [u64; 5] = [250, 500, 1_000, 2_500, 5_000];
/// Shortest time between two questions that brought no news, for a hub that does not wait.
const CALM: Duration = Duration::from_secs(1);
/// How often the time alone is written to disk, in milliseconds.
const AS_OF_WRITTEN_EVERY_MS: u64 = 60_000;

/// Which part of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// What a reader needs to find issuers.
    Issuers,
    /// Everything.
    All,
}

impl View {
    fn as_str(self) -> &'static str {
        match self {
            Self::Issuers => "issuers",
            Self::All => "all",
        }
    }
}

/// What to follow and where to keep it.
#[derive(Debug, Clone)]
pub struct FollowParts {
    /// The folder of the copy; made if it is missing.
    pub folder: PathBuf,
    /// Who hands the directory out.
    pub hub_url: String,
    /// Which part.
    pub view: View,
    /// The registrar's thumbprint as it was handed over out of band.
    pub registrar: Thumbprint,
    /// Network and registrar key, where they are known beforehand: then no hub is needed at the first start.
    pub network: Option<(NetworkId, PublicKey)>,
    /// Makes the calls.
    pub http: reqwest::Client,
}

/// Why the directory can't be followed (for now).
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The copy on disk can't be used.
    #[error("cannot use the directory's copy in {}", .0.display())]
    Io(PathBuf, #[source] std::io::Error),
    /// The copy on disk is of another network.
    #[error("the directory's copy in {} is of another network: remove it, or correct the settings", .0.display())]
    OtherCopy(PathBuf),
    /// The registrar is not the pinned one.
    #[error("the hub follows another registrar than the one that was handed over")]
    WrongRegistrar,
    /// The network is not the known one.
    #[error("the hub serves another network")]
    WrongNetwork,
    /// The hub gave no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The hub's answer is no page of the directory.
    #[error("the hub gave no page of the directory but status {0}")]
    NoPage(u16),
    /// Nobody in the directory signed the page. Its entries were taken, each by its own signature.
    #[error("the page is not signed by a hub of the network")]
    HubUnknown,
    /// The page does not continue the feed that is known. It is read again from the beginning.
    #[error("the hub's feed does not continue the one that is known")]
    Chain,
}

/// Follows the directory.
#[derive(Debug)]
pub struct DirectoryFollower {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    parts: FollowParts,
    current: watch::Sender<Arc<Directory>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    head: Head,
    copy: Copy,
    as_of_written_ms: u64,
    /// Entries that count and are not in the copy yet, because it could not be written.
    pending: Vec<Entry>,
}

/// A page as it is read: kinds of entries that this version does not know still count in the chain.
#[derive(Deserialize)]
struct Page {
    network_id: NetworkId,
    registrar: PublicKey,
    version: u64,
    #[serde(with = "base64url")]
    head: [u8; 32],
    as_of_ms: u64,
    entries: Vec<LooseEntry>,
}

#[derive(Deserialize)]
struct LooseEntry {
    kind: String,
    #[serde(with = "base64url::bytes")]
    body: Vec<u8>,
    key: Thumbprint,
    #[serde(with = "base64url")]
    signature: Signature,
}

impl LooseEntry {
    fn head_after(&self, head: &[u8; 32]) -> [u8; 32] {
        mac::sha256(&[head, self.kind.as_bytes(), b"\n", &self.body, &self.key.0, &self.signature])
    }

    fn known(self) -> Option<Entry> {
        let kind = EntryKind::deserialize(serde::de::value::StrDeserializer::<
            serde::de::value::Error,
        >::new(&self.kind));
        kind.ok().map(|kind| Entry {
            kind,
            body: self.body,
            key: self.key,
            signature: self.signature,
        })
    }
}

/// A page and what it was the answer to.
struct Fetched {
    page: Page,
    answer: crate::client::Unverified,
    outgoing: Outgoing,
    after: u64,
}

impl DirectoryFollower {
    /// Loads the copy. Where there is none and the network is not known beforehand, asks the hub: what it says of
    /// network and registrar is believed only if the registrar's key is the pinned one.
    ///
    /// # Errors
    /// When the copy can't be used, or the first contact is needed and fails.
    pub async fn open(parts: FollowParts) -> Result<Self, FollowError> {
        let given = parts.network.clone();
        if given.as_ref().is_some_and(|(_, key)| key.thumbprint() != parts.registrar) {
            return Err(FollowError::WrongRegistrar);
        }
        let (mut head, first) = match (Copy::head(&parts.folder)?, &given) {
            (Some(head), _) => (head, None),
            (None, Some((network, key))) => (Head::new(*network, key.clone(), parts.view), None),
            (None, None) => {
                let fetched = fetch(&parts, 0, Duration::ZERO).await?;
                let page = &fetched.page;
                if page.registrar.thumbprint() != parts.registrar {
                    return Err(FollowError::WrongRegistrar);
                }
                let head = Head::new(page.network_id, page.registrar.clone(), parts.view);
                (head, Some(fetched))
            }
        };
        let is_other = given.is_some_and(|(network, _)| network != head.network_id);
        if is_other || head.registrar.thumbprint() != parts.registrar {
            return Err(FollowError::OtherCopy(parts.folder));
        }
        if head.view != parts.view {
            head.view = parts.view;
            head.rewind();
        }
        let (copy, directory) = Copy::open(&parts.folder, &mut head)?;
        let state = Mutex::new(State { head, copy, as_of_written_ms: 0, pending: Vec::new() });
        let current = watch::Sender::new(Arc::new(directory));
        let inner = Arc::new(Inner { parts, current, state });
        match first.map(|fetched| inner.apply(fetched)) {
            // A hub that is not in its own directory yet: the entries count all the same.
            None | Some(Ok(_) | Err(FollowError::HubUnknown)) => Ok(Self { inner }),
            Some(Err(error)) => Err(error),
        }
    }

    /// The directory as it is known now. Cheap; the snapshot does not change afterwards.
    pub fn current(&self) -> Arc<Directory> {
        self.inner.current()
    }

    /// Wakes up whenever the directory changes.
    pub fn changes(&self) -> watch::Receiver<Arc<Directory>> {
        self.inner.current.subscribe()
    }

    /// When a hub last vouched for the copy, by the hub's clock but never later than by ours. None: never yet.
    pub fn as_of(&self) -> Option<Timestamp> {
        let as_of_ms = self.inner.state().head.as_of_ms;
        (as_of_ms > 0).then(|| Timestamp::from_ms(as_of_ms))
    }

    /// Where the copy lies.
    pub fn folder(&self) -> &Path {
        &self.inner.parts.folder
    }

    /// Asks the hub without waiting for news, until it has no more.
    ///
    /// # Errors
    /// When it gave no answer or one that is not to be believed.
    pub async fn refresh_once(&self) -> Result<(), FollowError> {
        while self.inner.step(Duration::ZERO).await? {}
        Ok(())
    }

    /// Follows until the handle is aborted or the runtime ends.
    pub fn spawn(&self) -> JoinHandle<()> {
        tokio::spawn(Arc::clone(&self.inner).run())
    }
}

impl Inner {
    fn current(&self) -> Arc<Directory> {
        Arc::clone(&self.current.borrow())
    }

    async fn run(self: Arc<Self>) {
        let mut failures = 0_usize;
        loop {
            let began = Instant::now();
            match self.step(WAIT).await {
                Ok(had_news) => {
                    if failures > 0 {
                        tracing::info!(hub = %self.parts.hub_url, "the directory is followed again");
                    }
                    failures = 0;
                    if !had_news {
                        sleep(CALM.saturating_sub(began.elapsed())).await;
                    }
                }
                Err(error) => {
                    // Said once, not every five seconds of an outage.
                    if failures == 0 {
                        let error = anyhow::Error::from(error);
                        tracing::warn!(hub = %self.parts.hub_url, error = format!("{error:#}"), "the directory can't be followed, its copy serves on");
                    }
                    let pause_ms = PAUSES_MS.get(failures).or(PAUSES_MS.last()).copied();
                    sleep(Duration::from_millis(pause_ms.unwrap_or_default())).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// One page. Whether it brought entries.
    async fn step(self: &Arc<Self>, wait: Duration) -> Result<bool, FollowError> {
        let after = self.state().head.version;
        let fetched = fetch(&self.parts, after, wait).await?;
        let follower = Arc::clone(self);
        // Signatures and files: not on a thread that serves calls.
        let applied = tokio::task::spawn_blocking(move || follower.apply(fetched)).await;
        // An aborted runtime: nothing was learned.
        applied.unwrap_or(Ok(false))
    }

    /// Takes a page: its entries by their own signatures, its position and time by the hub's.
    fn apply(&self, fetched: Fetched) -> Result<bool, FollowError> {
        let Fetched { page, answer, outgoing, after } = fetched;
        let mut state = self.state();
        if page.registrar.thumbprint() != self.parts.registrar {
            return Err(FollowError::WrongRegistrar);
        }
        if page.network_id != state.head.network_id {
            return Err(FollowError::WrongNetwork);
        }
        let continues = match self.parts.view {
            View::All => {
                let chained = |head, entry: &LooseEntry| entry.head_after(&head);
                page.entries.iter().fold(state.head.head, chained) == page.head
            }
            View::Issuers => page.version >= after,
        };
        let had_news = !page.entries.is_empty();
        let mut directory = self.current();
        let (mut has_new, mut ignored) = (false, 0_usize);
        for entry in page.entries.into_iter().map(LooseEntry::known) {
            match entry.map(|it| (Arc::make_mut(&mut directory).take(&it), it)) {
                Some((Ok(Taken::New), entry)) => {
                    has_new = true;
                    state.pending.push(entry);
                }
                Some((Ok(Taken::Same), _)) => {}
                Some((Err(_), _)) | None => ignored = ignored.saturating_add(1),
            }
        }
        if ignored > 0 {
            tracing::warn!(ignored, "entries of the directory were ignored");
        }
        let now = clock::now();
        let is_of_hub = directory
            .hubs()
            .filter(|hub| hub.common.is_active(now))
            .any(|hub| answer.check(&outgoing, &hub.key, None).is_ok());
        // A suspension is in force by its own signature, whatever the disk says.
        if has_new {
            self.current.send_replace(directory);
        }
        let State { head: kept, copy, as_of_written_ms, pending } = &mut *state;
        let mut head = kept.clone();
        // Another step may have been faster with another page; then only the entries are of use.
        let is_next = head.version == after;
        if is_of_hub && is_next && continues {
            head.version = page.version;
            head.head = page.head;
            head.as_of_ms = head.as_of_ms.max(page.as_of_ms.min(now.as_ms()));
        } else if is_of_hub && is_next {
            head.rewind();
        }
        let is_due = head.as_of_ms.saturating_sub(*as_of_written_ms) >= AS_OF_WRITTEN_EVERY_MS;
        if !pending.is_empty() || head.version != after || is_due {
            // The position moves when the copy has got there: until then the page comes again.
            copy.append(pending, &mut head)?;
            pending.clear();
            *as_of_written_ms = head.as_of_ms;
        }
        *kept = head;
        if !is_of_hub {
            return Err(FollowError::HubUnknown);
        }
        if is_next && !continues {
            return Err(FollowError::Chain);
        }
        Ok(had_news)
    }

    // Held while a page is taken, never across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the hub for the page after a position.
async fn fetch(parts: &FollowParts, after: u64, wait: Duration) -> Result<Fetched, FollowError> {
    let path = format!(
        "/v1/directory?view={}&after={after}&wait_ms={}",
        parts.view.as_str(),
        wait.as_millis()
    );
    let outgoing = Outgoing::to_url(&parts.hub_url, Method::GET, &path, None, HeaderMap::new())?;
    let asked = async {
        let sent = send(&parts.http, &outgoing, SignBy::Nobody).await?;
        sent.unverified().await
    };
    let answer = timeout(wait.saturating_add(SLACK), asked)
        .await
        .map_err(|_elapsed| CallError::TimedOut { url: parts.hub_url.clone() })??;
    let status = answer.answer.status;
    let page = status.is_success().then(|| answer.answer.json().ok()).flatten();
    let page = page.ok_or(FollowError::NoPage(status.as_u16()))?;
    Ok(Fetched { page, answer, outgoing, after })
}
