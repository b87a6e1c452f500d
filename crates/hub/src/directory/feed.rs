//! The directory as the hub keeps it: the checked copy, the log behind it, and who waits for news.
//!
//! Law: an entry is in the log before anybody sees it; the version is the position in the log, the head its hash
//! chain. The hub trusts not even its own disk: at start every entry is checked again. Nobody fills the log:
//! an entry is signed by who may say so, an unchanged one is not stored again, and one merchant gets
//! [`PER_MERCHANT_MAX`] entries. Nobody keeps a suspension waiting: a call is over at its first forged entry, and of
//! the calls that nobody signed [`UNSIGNED_MAX`] may wait for their turn.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use warifu_proto::directory::{Directory, Entry, EntryError, EntryKind, Taken};
use warifu_proto::id::NetworkId;
use warifu_proto::key::{PublicKey, Thumbprint};
use warifu_proto::limits::PAGE_MAX;
use warifu_proto::mac;

use crate::store::{Logged, Store, StoreError};

/// Entries one merchant may have in the log: its readers and their revisions. 20 000 are about 20 MB.
const PER_MERCHANT_MAX: u32 = 20_000;
/// Unsigned calls with entries at a time, one of them being checked. A hundred good entries take some 10 ms, and
/// where there was news the copy of the directory: what a suspension may have to wait for sixteen times.
const UNSIGNED_MAX: usize = 16;
/// Why an entry behind a forged one was refused.
const UNCHECKED: &str =
    "not looked at, since an entry before it is wrongly signed: send it again without that one";
/// Entries kept in memory behind the newest, where nearly every follower stands: about 1 MB.
const TAIL_MAX: usize = 1_000;

/// Which entries a follower wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// Hubs, issuers and currencies: what terminals and readers need.
    Issuers,
    /// All of them: what issuers need.
    All,
}

impl View {
    fn shows(self, kind: EntryKind) -> bool {
        match kind {
            EntryKind::Hub | EntryKind::Issuer | EntryKind::Currency => true,
            EntryKind::Merchant | EntryKind::Reader => self == Self::All,
        }
    }
}

/// What everybody sees: replaced as a whole when entries were taken.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    /// The checked copy.
    pub(crate) directory: Arc<Directory>,
    /// Position of the newest entry.
    pub(crate) version: u64,
    /// Hash chain after the newest entry.
    pub(crate) head: [u8; 32],
    keys: Arc<HashMap<Thumbprint, PublicKey>>,
    tail: VecDeque<Arc<Logged>>,
}

impl Published {
    /// The key of an issuer, merchant or reader, whatever its standing: what it may do is another question.
    pub(crate) fn key(&self, thumbprint: &Thumbprint) -> Option<&PublicKey> {
        let reader = || self.directory.reader_by_key(*thumbprint).map(|it| &it.key);
        self.keys.get(thumbprint).or_else(reader)
    }

    fn push(&mut self, logged: Logged) {
        self.version = logged.version;
        self.head = logged.head;
        if self.tail.len() >= TAIL_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(Arc::new(logged));
    }

    fn index_keys(&mut self) {
        let issuers = self.directory.issuers().map(|it| &it.key);
        let keys = issuers.chain(self.directory.merchants().map(|it| &it.key));
        self.keys = Arc::new(keys.map(|key| (key.thumbprint(), key.clone())).collect());
    }
}

/// A page of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) version: u64,
    pub(crate) head: [u8; 32],
    pub(crate) entries: Vec<Entry>,
}

/// What became of entries that were handed in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// News, now in the log.
    pub(crate) taken: usize,
    /// There already.
    pub(crate) known: usize,
    /// By place in the call, with the reason.
    pub(crate) refused: Vec<(usize, String)>,
}

/// Why an entry is not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// Its merchant has its share.
    #[error("this merchant has {0} entries here already")]
    MerchantFull(u32),
    /// It does not belong into the directory.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

#[derive(Debug)]
struct Work {
    directory: Directory,
    known: HashSet<[u8; 32]>,
    by_merchant: HashMap<Thumbprint, u32>,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Feed {
    store: Store,
    work: Mutex<Work>,
    turns: Arc<Semaphore>,
    published: watch::Sender<Arc<Published>>,
}

impl Feed {
    /// Reads the log and checks all of it.
    ///
    /// # Errors
    /// When the log can't be read, or is not what was written.
    pub(crate) async fn load(
        store: Store,
        network: NetworkId,
        registrar: PublicKey,
    ) -> anyhow::Result<Self> {
        let directory = Directory::new(network, registrar);
        let mut published = Published {
            directory: Arc::new(directory.clone()),
            version: 0,
            head: [0; 32],
            keys: Arc::default(),
            tail: VecDeque::new(),
        };
        let mut work = Work { directory, known: HashSet::new(), by_merchant: HashMap::new() };
        loop {
            let page = store.entries_after(published.version, false, PAGE_MAX).await?;
            if page.is_empty() {
                break;
            }
            for logged in page {
                let version = logged.version;
                check(&mut work, &published, &logged).with_context(|| {
                    format!("entry {version} of the directory's log is damaged: restore the data folder from a copy, or remove it and let the registrar publish again")
                })?;
                work.remember(&logged.entry);
                published.push(logged);
            }
        }
        published.directory = Arc::new(work.directory.clone());
        published.index_keys();
        let published = watch::Sender::new(Arc::new(published));
        let turns = Arc::new(Semaphore::new(UNSIGNED_MAX));
        Ok(Self { store, work: Mutex::new(work), turns, published })
    }

    /// What everybody sees at the moment.
    pub(crate) fn now(&self) -> Arc<Published> {
        Arc::clone(&self.published.borrow())
    }

    /// A turn for a call that nobody signed; none if too many wait already.
    pub(crate) fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).try_acquire_owned().ok()
    }

    /// Takes entries of a member, in their order.
    pub(crate) async fn take(self: &Arc<Self>, entries: Vec<Entry>) -> Result<Report, StoreError> {
        self.take_within((), entries).await
    }

    /// Takes entries in their order, and gives the turn back afterwards. Runs to its end even if nobody waits for it
    /// any more, so that log and memory stay together.
    pub(crate) async fn take_within(
        self: &Arc<Self>,
        turn: impl Send + 'static,
        entries: Vec<Entry>,
    ) -> Result<Report, StoreError> {
        let feed = Arc::clone(self);
        let done = tokio::spawn(async move {
            let done = feed.take_all(entries).await;
            drop(turn);
            done
        });
        done.await.map_err(|_| StoreError::Lost)?
    }

    async fn take_all(&self, entries: Vec<Entry>) -> Result<Report, StoreError> {
        let mut work = self.work.lock().await;
        let before = self.now();
        let mut report = Report::default();
        let mut after = Published::clone(&before);
        let mut news = Vec::new();
        let mut entries = entries.into_iter().enumerate();
        for (index, entry) in entries.by_ref() {
            // Checking a signature takes long enough for others to have their turn.
            tokio::task::yield_now().await;
            match work.take(&entry) {
                Ok(Taken::Same) => report.known += 1,
                Ok(Taken::New) => {
                    let head = entry.head_after(&after.head);
                    let logged = Logged { version: after.version + 1, entry, head };
                    after.push(logged.clone());
                    news.push(logged);
                }
                Err(why) => {
                    report.refused.push((index, why.to_string()));
                    // An honest sender has none, and looking for another costs more than sending it.
                    if matches!(why, Refusal::Entry(EntryError::NotSigned)) {
                        break;
                    }
                }
            }
        }
        report.refused.extend(entries.map(|(index, _)| (index, UNCHECKED.to_owned())));
        if news.is_empty() {
            return Ok(report);
        }
        report.taken = news.len();
        match self.store.log_entries(news.clone()).await {
            Ok(()) => {
                self.publish(&mut work, after, &news);
                Ok(report)
            }
            Err(err) => {
                let stored = self.publish_stored(&mut work).await;
                if stored == news { Ok(report) } else { Err(err) }
            }
        }
    }

    /// Lets everybody see what is in the log now.
    fn publish(&self, work: &mut Work, mut after: Published, news: &[Logged]) {
        let who = |kind| matches!(kind, EntryKind::Issuer | EntryKind::Merchant);
        after.directory = Arc::new(work.directory.clone());
        if news.iter().any(|it| who(it.entry.kind)) {
            after.index_keys();
        }
        news.iter().for_each(|it| work.remember(&it.entry));
        self.published.send_replace(Arc::new(after));
    }

    /// After a write that is said to have failed: goes by what the log really holds. A position that is on disk
    /// and not in memory would be given out again, and refused by the log each time.
    async fn publish_stored(&self, work: &mut Work) -> Vec<Logged> {
        let before = self.now();
        work.directory = Directory::clone(&before.directory);
        let found = self.store.entries_after(before.version, false, PAGE_MAX).await;
        let found = found.unwrap_or_else(|err| {
            tracing::error!(error = ?err, "the directory's log can't be read");
            Vec::new()
        });
        let mut after = Published::clone(&before);
        let mut stored = Vec::new();
        for logged in found {
            if let Err(err) = check(work, &after, &logged) {
                tracing::error!(error = ?err, version = logged.version, "the directory's log is damaged");
                break;
            }
            after.push(logged.clone());
            stored.push(logged);
        }
        if !stored.is_empty() {
            self.publish(work, after, &stored);
        }
        stored
    }

    /// The entries after a position, waiting for some if there are none. A `version` below `after` in the page says
    /// that the log is shorter than the follower's: begin again at 0.
    pub(crate) async fn page(
        &self,
        view: View,
        after: u64,
        wait: Duration,
    ) -> Result<Page, StoreError> {
        let deadline = Instant::now() + wait;
        let mut news = self.published.subscribe();
        loop {
            let published = Arc::clone(&news.borrow_and_update());
            let page = self.page_of(&published, view, after).await?;
            if !page.entries.is_empty() || page.version < after {
                return Ok(page);
            }
            match tokio::time::timeout_at(deadline, news.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(page),
            }
        }
    }

    async fn page_of(
        &self,
        published: &Published,
        view: View,
        after: u64,
    ) -> Result<Page, StoreError> {
        let end = Page { version: published.version, head: published.head, entries: Vec::new() };
        if after >= published.version {
            return Ok(end);
        }
        let first = published.tail.front().map_or(u64::MAX, |it| it.version);
        let found: Vec<Logged> = if after + 1 >= first {
            let news = published.tail.iter().filter(|it| it.version > after);
            let shown = news.filter(|it| view.shows(it.entry.kind));
            shown.take(PAGE_MAX).map(|it| Logged::clone(it)).collect()
        } else {
            let found = self.store.entries_after(after, view == View::Issuers, PAGE_MAX).await?;
            found.into_iter().filter(|it| it.version <= published.version).collect()
        };
        let (version, head) = match found.last() {
            Some(last) if found.len() >= PAGE_MAX => (last.version, last.head),
            _ => (end.version, end.head),
        };
        Ok(Page { version, head, entries: found.into_iter().map(|it| it.entry).collect() })
    }
}

impl Work {
    fn take(&mut self, entry: &Entry) -> Result<Taken, Refusal> {
        if self.known.contains(&digest(entry)) {
            return Ok(Taken::Same);
        }
        let own = self.by_merchant.get(&entry.key).copied().unwrap_or_default();
        if entry.kind == EntryKind::Reader && own >= PER_MERCHANT_MAX {
            return Err(Refusal::MerchantFull(own));
        }
        Ok(self.directory.take(entry)?)
    }

    fn remember(&mut self, entry: &Entry) {
        self.known.insert(digest(entry));
        if entry.kind == EntryKind::Reader {
            *self.by_merchant.entry(entry.key).or_default() += 1;
        }
    }
}

fn digest(entry: &Entry) -> [u8; 32] {
    mac::sha256(&[
        &entry.signature,
        &entry.key.0,
        entry.kind.as_str().as_bytes(),
        b"\n",
        &entry.body,
    ])
}

fn check(work: &mut Work, published: &Published, logged: &Logged) -> anyhow::Result<()> {
    anyhow::ensure!(logged.version == published.version + 1, "the log has a gap");
    anyhow::ensure!(
        logged.head == logged.entry.head_after(&published.head),
        "the hash chain does not hold"
    );
    let taken = work.directory.take(&logged.entry)?;
    anyhow::ensure!(taken == Taken::New, "the entry is there twice");
    Ok(())
}

#[cfg(test)]
mod tests;
