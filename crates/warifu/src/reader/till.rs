//! A paired reader at work: its journal, its directory and its signed calls, under the machines of `warifu-reader`.
//!
//! Law: one process per folder, so that nobody else decides about the same record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio::sync::Notify;
use warifu_proto::code::{Prefix, Route, Scanned};
use warifu_proto::directory::{Directory, Status};
use warifu_proto::time::Timestamp;
use warifu_reader::change::{Change, ChangeDriver, ChangeError, Deed, Trial, settle};
use warifu_reader::timing::RESUME_MS;
use warifu_reader::{
    Attempt, Driver, Ended, How, Input, IssuerAt, Paired, Progress, Record, Reply, RouteError,
    Send, Standing, drive, request_id,
};
use warifu_server::client::{CallError, Client, Peer};
use warifu_server::folder::FolderLock;
use warifu_server::follow::DirectoryFollower;
use warifu_server::{chance, clock};

use super::Folder;
use super::journal::{Begun, BegunChange, Journal};
use crate::fail::Failure;
use crate::{calls, paths};

/// How old the copy of the directory may be before it is renewed on the way.
pub(super) const COPY_OLD_MS: u64 = 10 * 60_000;
/// How long a payment waits for the directory, when it waits at all.
const DIRECTORY_PATIENCE: Duration = Duration::from_secs(2);
/// How long a call waits for the directory when its issuer did not answer as it should.
const REROUTE_PATIENCE: Duration = Duration::from_millis(500);
/// How often that may be.
const REROUTE_EVERY: Duration = Duration::from_secs(5);

/// A paired reader, ready to take payments.
#[derive(Debug)]
pub(crate) struct Till {
    pub(super) journal: Journal,
    pub(super) directory: DirectoryFollower,
    client: Client,
    paired: Paired,
    rerouted: Mutex<Option<Instant>>,
    reach: Mutex<BTreeMap<Prefix, Reach>>,
    _lock: FolderLock,
}

impl Till {
    /// Opens a paired folder.
    pub(crate) async fn open(folder: &Folder) -> Result<Self, Failure> {
        let paired = folder.paired()?;
        let lock = FolderLock::take(folder.dir()).map_err(|error| {
            Failure::usage("")
                .because(&error)
                .next("if that is `warifu reader serve`, pay through it: docs/reader.md")
        })?;
        let client = calls::client(Arc::new(folder.key(&paired)?))?;
        let directory = folder.directory(&paired).await?;
        Ok(Self {
            journal: folder.journal()?,
            directory,
            client,
            paired,
            rerouted: Mutex::default(),
            reach: Mutex::default(),
            _lock: lock,
        })
    }

    /// The pairing.
    pub(crate) fn paired(&self) -> &Paired {
        &self.paired
    }

    /// How each issuer that was called could be reached.
    pub(super) fn reach(&self) -> BTreeMap<Prefix, Reach> {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, prefix: Prefix, is_verified: bool) {
        let mut reach = self.reach.lock().unwrap_or_else(PoisonError::into_inner);
        let reach = reach.entry(prefix).or_default();
        let at = Some(clock::now());
        if is_verified { reach.verified_at = at } else { reach.failed_at = at }
    }

    /// The directory, renewed first when it does not know the code's issuer or is old.
    pub(super) async fn directory_for(&self, scanned: &Scanned) -> Arc<Directory> {
        let as_of = self.directory.as_of();
        if as_of.is_none_or(|at| clock::now().since_ms(at) > COPY_OLD_MS) {
            self.renew_directory().await;
        }
        self.followed_directory_for(scanned).await
    }

    /// The directory of who follows it anyway: renewed first only when it does not know the code's issuer.
    pub(super) async fn followed_directory_for(&self, scanned: &Scanned) -> Arc<Directory> {
        let current = self.directory.current();
        let is_known = current.issuer_of(&scanned.code).is_some_and(|it| {
            it.common.status == Status::Active && it.common.is_active(clock::now())
        });
        if is_known {
            return current;
        }
        self.renew_directory().await;
        self.directory.current()
    }

    /// Without the hub the copy has to do: it says by name what it does not know.
    async fn renew_directory(&self) {
        drop(tokio::time::timeout(DIRECTORY_PATIENCE, self.directory.refresh_once()).await);
    }

    /// Drives an attempt to its outcome.
    pub(super) async fn drive(
        &self,
        attempt: Attempt,
        cancel: &Notify,
        progress: impl FnMut(Progress) + core::marker::Send,
    ) -> Result<Ended, Failure> {
        drive(attempt, &mut Counter { till: self, cancel, progress }).await
    }

    /// One try to end a record that nobody waits for.
    pub(crate) async fn end(&self, record: Record, wait_ms: u64) -> Result<Ended, Failure> {
        let id = record.request_id.clone();
        let directory = self.directory.current();
        let attempt = Attempt::resume(record, How::End, wait_ms, &directory, clock::now());
        let attempt = attempt.map_err(|error| Failure::refused(error).during(id))?;
        self.drive(attempt, &Notify::new(), |_| {}).await
    }

    /// Has a change made, under the till's own id of it: the same again goes on with the first.
    pub(super) async fn change(
        &self,
        record: &Record,
        till_id: String,
        deed: Deed,
    ) -> Result<Change, ChangeFault> {
        let now = clock::now();
        let new = Change::new(record, request_id(now, chance::bytes()), till_id, deed, now)
            .ok_or(ChangeFault::NotPaid)?;
        let settled = match self.journal.begin_change(&new)? {
            BegunChange::New => self.settle(new, Trial::First).await?,
            BegunChange::Known(known) if known.attempt != new.attempt => {
                return Err(ChangeFault::Other);
            }
            // What was refused bound nothing: it may be tried again, also with another amount.
            BegunChange::Known(known) if known.is_refused() => {
                let again = Change { request_id: known.request_id, ..new };
                self.settle(again, Trial::First).await?
            }
            BegunChange::Known(known) if known.deed != new.deed => return Err(ChangeFault::Other),
            BegunChange::Known(known) if known.is_open() => {
                self.settle(*known, Trial::Again).await?
            }
            BegunChange::Known(known) => *known,
        };
        Ok(settled)
    }

    /// Repeats a change for a while.
    pub(super) async fn settle(&self, change: Change, trial: Trial) -> Result<Change, Failure> {
        let directory = self.directory.current();
        let mut counter = Counter { till: self, cancel: &Notify::new(), progress: |_| {} };
        settle(change, trial, RESUME_MS, &directory, &mut counter).await.map_err(
            |error| match error {
                ChangeError::Route(error) => Failure::refused(error),
                ChangeError::Journal(failure) => failure,
            },
        )
    }

    /// One call. Only "never connected" proves that nothing left.
    async fn send(&self, send: &Send) -> Reply {
        let peer = self.peer(send);
        let method = if send.call.method() == "POST" { Method::POST } else { Method::GET };
        let path = send.call.path_and_query();
        let deadline = Duration::from_millis(send.timeout_ms);
        let called = self
            .client
            .call_by_known_key(&peer, method, &path, send.call.body(), deadline, HeaderMap::new())
            .await;
        self.note(send.route.prefix, called.is_ok());
        match called {
            Ok(answer) => Reply::Signed {
                status: answer.status.as_u16(),
                retry_after_s: answer
                    .headers
                    .get(RETRY_AFTER)
                    .and_then(|it| it.to_str().ok()?.parse().ok()),
                body: answer.body.to_vec(),
            },
            Err(CallError::Unreachable { .. }) => {
                self.reroute().await;
                Reply::NotSent
            }
            Err(CallError::Unverified { .. }) => {
                self.reroute().await;
                Reply::Nothing
            }
            Err(CallError::TimedOut { .. } | CallError::Broken { .. }) => Reply::Nothing,
        }
    }

    /// Whom a call goes to by the directory as it is now: keys and addresses change.
    fn peer(&self, send: &Send) -> Peer {
        let issuer: Result<IssuerAt, RouteError> =
            IssuerAt::of_route(&self.directory.current(), send.route);
        match issuer {
            Ok(it) => Peer { url: it.url, key: it.key },
            Err(_) => Peer { url: send.url.clone(), key: send.key.clone() },
        }
    }

    /// The issuer is not where, or not who, the directory says: perhaps a newer one knows.
    async fn reroute(&self) {
        {
            let mut last = self.rerouted.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|at| at.elapsed() < REROUTE_EVERY) {
                return;
            }
            *last = Some(Instant::now());
        }
        drop(tokio::time::timeout(REROUTE_PATIENCE, self.directory.refresh_once()).await);
    }

    /// Writes a record: a new one only when its order is free.
    fn store(&self, record: &Record) -> Result<(), Failure> {
        let nothing_sent = |failure: Failure| failure.during("nothing was sent");
        if record.standing != Standing::Open {
            return self.journal.put(record);
        }
        match self.journal.begin(record).map_err(nothing_sent)? {
            Begun::New => Ok(()),
            Begun::Known(known) if !known.standing.is_open() => {
                self.journal.put(record).map_err(nothing_sent)
            }
            Begun::Known(_) => Err(Failure::usage(format_args!(
                "nothing was sent: a payment with the request id {} is under way",
                record.request_id
            ))),
            Begun::Claimed(by) => Err(claimed(&by)),
        }
    }
}

/// Why a change was not even tried.
#[derive(Debug)]
pub(super) enum ChangeFault {
    /// The sale is not paid.
    NotPaid,
    /// The till gave this id to something else.
    Other,
    /// The journal or the directory fails.
    Failed(Failure),
}

impl From<Failure> for ChangeFault {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<ChangeFault> for Failure {
    fn from(fault: ChangeFault) -> Self {
        match fault {
            ChangeFault::NotPaid => {
                Self::refused("this sale is not paid").next("there is nothing to give back")
            }
            ChangeFault::Other => Self::usage("this id was used for something else")
                .next("give another id for another refund"),
            ChangeFault::Failed(failure) => failure,
        }
    }
}

/// When an issuer was last called, and how that went.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reach {
    /// It gave an answer that was checked.
    pub(super) verified_at: Option<Timestamp>,
    /// It did not.
    pub(super) failed_at: Option<Timestamp>,
}

/// The order has its payment.
fn claimed(by: &Record) -> Failure {
    let order = by.order_id.as_deref().unwrap_or_default();
    let how = if by.standing.is_paid() { "is paid already" } else { "is being paid" };
    Failure::refused(format_args!(
        "nothing was sent: the order {} {how}, by the request {}",
        paths::quoted(order),
        by.request_id
    ))
    .next("for another sale give another order id; to end what is under way: warifu reader resolve")
}

/// The driver: this till's journal, calls and clock, and a cashier who may cancel.
struct Counter<'a, P> {
    till: &'a Till,
    cancel: &'a Notify,
    progress: P,
}

impl<P: FnMut(Progress) + core::marker::Send> Driver for Counter<'_, P> {
    type Error = Failure;

    fn now(&self) -> Timestamp {
        clock::now()
    }

    async fn store(&mut self, record: &Record) -> Result<(), Failure> {
        self.till.store(record)
    }

    async fn call(&mut self, send: &Send) -> Input {
        tokio::select! {
            reply = self.till.send(send) => Input::Answered { number: send.number, reply },
            () = self.cancel.notified() => Input::Cancel,
        }
    }

    async fn wait(&mut self, until: Timestamp) -> Input {
        let ms = until.since_ms(clock::now());
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(ms)) => Input::Tick,
            () = self.cancel.notified() => Input::Cancel,
        }
    }

    fn progress(&mut self, progress: Progress) {
        (self.progress)(progress);
    }
}

impl<P: FnMut(Progress) + core::marker::Send> ChangeDriver for Counter<'_, P> {
    async fn store_change(&mut self, change: &Change) -> Result<(), Failure> {
        self.till.journal.put_change(change)
    }
}

/// What the directory calls the issuer of a route.
pub(super) fn issuer_name(directory: &Directory, route: Route) -> Option<String> {
    directory.issuer_of(&route.prefix.to_string()).map(|it| it.name.clone())
}
