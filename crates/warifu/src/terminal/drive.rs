//! Drives the terminal's machine: stores to the folder, sends to the hub, listens to notices, keeps the time. What is
//! for the payer's eyes comes out as [`Event`]s.
//!
//! Law: an input is given only after what it reports has happened. Without a hub, or without a directory that names
//! its key, everything goes on: codes are shown, and become long ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use warifu_proto::id::PaymentId;
use warifu_proto::message::{CodeRequest, ConfirmationRequest, NoticeText};
use warifu_proto::notice::Verdict;
use warifu_proto::time::Timestamp;
use warifu_server::client::{Client, EventsError};
use warifu_server::folder::FolderLock;
use warifu_server::follow::DirectoryFollower;
use warifu_server::{chance, clock};
use warifu_terminal::{
    Answer, Input, Link, Output, Question, Screen, Terminal, Trouble, VerdictAnswer,
};

use super::folder::{Folder, Only};
use super::link::hub;
use crate::calls;
use crate::fail::Failure;

/// How long one registration may take; the next repeat does not wait for it.
const SEND_DEADLINE: Duration = Duration::from_secs(5);
/// How long the stream of notices may be silent: three of the hub's heartbeats.
const SILENCE: Duration = Duration::from_secs(45);
/// First and longest pause before the stream is opened again.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the payer should see.
#[derive(Debug)]
pub(crate) enum Event {
    /// Show this code instead of what is shown; 333 digits work without a network.
    Show(Screen),
    /// The issuer has the code.
    Acked {
        /// Until when it can be paid with, by this device's clock.
        expires_at: Timestamp,
    },
    /// Show no code.
    Hide,
    /// The codes are taken back (or have expired).
    Withdrawn {
        /// Whether the issuer said so.
        acked: bool,
    },
    /// Something happened to the account.
    Notice {
        /// Its number.
        number: u64,
        /// What.
        notice: Box<NoticeText>,
    },
    /// The issuer asks whether to pay.
    Question(Box<Question>),
    /// A question that was put needs no answer any more.
    QuestionOver {
        /// About which payment.
        payment: PaymentId,
    },
    /// The issuer has heard the payer's word.
    Heard {
        /// About which payment.
        payment: PaymentId,
        /// The word that stands.
        verdict: Verdict,
    },
    /// Something went wrong, and it goes on.
    Trouble(Trouble),
    /// The hub refuses to hand out notices.
    NoNotices(Box<Value>),
}

/// What comes back from the tasks.
#[derive(Debug)]
enum Incoming {
    Input(Box<Input>),
    NoNotices(Box<Value>),
}

/// A machine with its folder and its hub.
#[derive(Debug)]
pub(crate) struct Driver {
    machine: Terminal,
    folder: Folder,
    wires: Arc<Wires>,
    inbox: mpsc::Receiver<Incoming>,
    sender: mpsc::Sender<Incoming>,
    events: VecDeque<Event>,
    wake: Option<Timestamp>,
    tasks: Vec<AbortHandle>,
    /// What only one process may do at a time, while this one does it.
    only: Option<FolderLock>,
}

/// What the tasks share.
#[derive(Debug)]
struct Wires {
    hub_url: String,
    client: Client,
    /// Missing when there is neither a copy nor a hub.
    directory: Option<DirectoryFollower>,
    /// The last notice that is on disk as seen.
    acknowledged: AtomicU64,
}

impl Driver {
    /// Opens a linked folder to show codes. The caller holds [`Only::Shows`] where other processes may use the folder.
    pub(crate) async fn open(folder: Folder) -> Result<Self, Failure> {
        Self::with(folder, Only::Shows).await
    }

    /// Opens a linked folder to listen only, unless another process does.
    pub(crate) async fn listening(folder: Folder) -> Result<Option<Self>, Failure> {
        folder.linked()?;
        let Some(lock) = folder.only_one(Only::Listens)? else { return Ok(None) };
        let mut driver = Self::with(folder, Only::Listens).await?;
        driver.begin_to_listen(lock);
        Ok(Some(driver))
    }

    /// Opens a linked folder to answer a question, unless another process does.
    pub(crate) async fn answering(folder: Folder) -> Result<Option<Self>, Failure> {
        let Some(lock) = folder.only_one(Only::Answers)? else { return Ok(None) };
        let mut driver = Self::with(folder, Only::Answers).await?;
        driver.only = Some(lock);
        Ok(Some(driver))
    }

    async fn with(folder: Folder, who: Only) -> Result<Self, Failure> {
        let link = folder.linked()?;
        let key = folder.key(&link)?;
        let own = Arc::new(folder.key(&link)?);
        let http = calls::http()?;
        // Without a copy and without the hub: codes are shown all the same.
        let directory = folder.directory(who, &link.hub_url, link.registrar, http).await.ok();
        let mut tasks = Vec::new();
        if let Some(directory) = &directory {
            tasks.push(directory.spawn().abort_handle());
        }
        let wires = Wires {
            hub_url: link.hub_url.clone(),
            client: calls::client(own)?,
            directory,
            acknowledged: AtomicU64::new(link.counters.notice),
        };
        let (sender, inbox) = mpsc::channel(64);
        let mut driver = Self {
            machine: Terminal::new(link, key),
            folder,
            wires: Arc::new(wires),
            inbox,
            sender,
            events: VecDeque::new(),
            wake: None,
            tasks,
            only: None,
        };
        // What an earlier process left open goes on without waiting for news.
        driver.give(Input::Tick)?;
        Ok(driver)
    }

    /// The link as it stands.
    pub(crate) fn link(&self) -> &Link {
        self.machine.link()
    }

    /// Listens to notices from now on, unless another process does on this folder.
    pub(crate) fn listen(&mut self) -> Result<bool, Failure> {
        let Some(lock) = self.folder.only_one(Only::Listens)? else { return Ok(false) };
        self.begin_to_listen(lock);
        Ok(true)
    }

    fn begin_to_listen(&mut self, lock: FolderLock) {
        self.only = Some(lock);
        let task = tokio::spawn(listen(Arc::clone(&self.wires), self.sender.clone()));
        self.tasks.push(task.abort_handle());
    }

    /// Gives the machine an input, and does what it wants.
    pub(crate) fn give(&mut self, input: Input) -> Result<(), Failure> {
        self.machine.handle(input, clock::now());
        self.wake = None;
        loop {
            let mut inputs = Vec::new();
            while let Some(output) = self.machine.poll() {
                inputs.extend(self.perform(output)?);
            }
            if inputs.is_empty() {
                break;
            }
            for input in inputs {
                self.machine.handle(input, clock::now());
            }
        }
        self.wires.acknowledged.store(self.machine.acknowledged_notice(), Ordering::Relaxed);
        Ok(())
    }

    /// Does one thing; what it can report at once are the next inputs.
    fn perform(&mut self, output: Output) -> Result<Vec<Input>, Failure> {
        match output {
            Output::NeedChance => return Ok(vec![Input::Chance(Box::new(chance::bytes()))]),
            Output::Store(link) => {
                let on_disk = self.folder.store(&link).map_err(|failure| {
                    failure.during("nothing can be shown, because it can't be stored first")
                })?;
                let stored = Input::Stored { revision: link.counters.revision };
                return Ok(vec![Input::Others(Box::new(on_disk)), stored]);
            }
            Output::Show(screen) | Output::ShowLong(screen) => {
                self.events.push_back(Event::Show(screen));
            }
            Output::Acked { expires_at, .. } => self.events.push_back(Event::Acked { expires_at }),
            Output::Hide => self.events.push_back(Event::Hide),
            Output::Send { sequence, request } => {
                tokio::spawn(send(
                    Arc::clone(&self.wires),
                    self.sender.clone(),
                    sequence,
                    *request,
                ));
            }
            Output::Withdrawn { acked } => self.events.push_back(Event::Withdrawn { acked }),
            Output::Notice { number, notice } => {
                self.events.push_back(Event::Notice { number, notice });
            }
            Output::Ask(question) => self.events.push_back(Event::Question(question)),
            Output::QuestionOver { payment } => {
                self.events.push_back(Event::QuestionOver { payment });
            }
            Output::SendVerdict { request } => {
                tokio::spawn(send_verdict(Arc::clone(&self.wires), self.sender.clone(), *request));
            }
            Output::VerdictHeard { payment, verdict } => {
                self.events.push_back(Event::Heard { payment, verdict });
            }
            Output::Trouble(trouble) => self.events.push_back(Event::Trouble(trouble)),
            Output::WakeAt(at) => self.wake = Some(at),
        }
        Ok(Vec::new())
    }

    /// The next thing for the payer. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let wake = self.wake;
            tokio::select! {
                incoming = self.inbox.recv() => match incoming {
                    Some(Incoming::Input(input)) => self.give(*input)?,
                    Some(Incoming::NoNotices(problem)) => return Ok(Event::NoNotices(problem)),
                    // This side holds a sender, so the channel stays open.
                    None => {}
                },
                () = sleep_until(wake) => self.give(Input::Tick)?,
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn sleep_until(wake: Option<Timestamp>) {
    match wake {
        Some(at) => tokio::time::sleep(Duration::from_millis(at.since_ms(clock::now()))).await,
        None => std::future::pending().await,
    }
}

/// Sends one registration. No answer that can be believed is no input: the machine repeats by itself.
async fn send(
    wires: Arc<Wires>,
    inbox: mpsc::Sender<Incoming>,
    sequence: u32,
    request: CodeRequest,
) {
    let Some(peer) = wires.directory.as_ref().and_then(|it| hub(it, &wires.hub_url)) else {
        return;
    };
    let body = Some(calls::body(&request));
    let called = wires
        .client
        .call_unsigned(&peer, Method::POST, "/v1/codes", body, SEND_DEADLINE, HeaderMap::new())
        .await;
    let Ok(answer) = called else { return };
    let read = if answer.is_ok() {
        answer.json().ok().map(Answer::Registered)
    } else {
        answer.problem().map(Answer::Refused)
    };
    if let Some(answer) = read {
        let input = Input::Answered { sequence, answer };
        // Nobody waits for it any more when the program ends.
        inbox.send(Incoming::Input(Box::new(input))).await.unwrap_or_default();
    }
}

/// Sends the payer's word, signed by the device. No answer that can be believed is no input, as of a registration.
async fn send_verdict(
    wires: Arc<Wires>,
    inbox: mpsc::Sender<Incoming>,
    request: ConfirmationRequest,
) {
    let Some(peer) = wires.directory.as_ref().and_then(|it| hub(it, &wires.hub_url)) else {
        return;
    };
    let body = Some(calls::body(&request));
    let path = "/v1/confirmations";
    let called =
        wires.client.call(&peer, Method::POST, path, body, SEND_DEADLINE, HeaderMap::new()).await;
    let Ok(answer) = called else { return };
    let read = if answer.is_ok() {
        answer.json().ok().map(VerdictAnswer::Heard)
    } else {
        answer.problem().map(VerdictAnswer::Refused)
    };
    if let Some(answer) = read {
        let input = Input::VerdictAnswered { payment: request.payment_id, answer };
        inbox.send(Incoming::Input(Box::new(input))).await.unwrap_or_default();
    }
}

/// Reads notices for ever, opening the stream again where it ends.
async fn listen(wires: Arc<Wires>, inbox: mpsc::Sender<Incoming>) {
    let mut pause = PAUSE_MIN;
    loop {
        match listen_once(&wires, &inbox).await {
            Heard::Something => pause = PAUSE_MIN,
            Heard::Nothing => {}
            Heard::Refusal(problem) => {
                if inbox.send(Incoming::NoNotices(problem)).await.is_err() {
                    return;
                }
                pause = PAUSE_MAX;
            }
            Heard::Enough => return,
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

/// What a stream brought until it ended.
enum Heard {
    Something,
    Nothing,
    Refusal(Box<Value>),
    /// The program ends.
    Enough,
}

async fn listen_once(wires: &Wires, inbox: &mpsc::Sender<Incoming>) -> Heard {
    let Some(peer) = wires.directory.as_ref().and_then(|it| hub(it, &wires.hub_url)) else {
        return Heard::Nothing;
    };
    let last = wires.acknowledged.load(Ordering::Relaxed);
    let last = (last > 0).then(|| last.to_string());
    let opened =
        wires.client.events(&peer, "/v1/events", last.as_deref(), calls::DEADLINE, SILENCE).await;
    let mut events = match opened {
        Ok(events) => events,
        Err(EventsError::Refused(answer)) => {
            let is_passing = answer.status.is_server_error() || answer.status.as_u16() == 429;
            return match answer.json::<Value>() {
                Ok(problem) if !is_passing => Heard::Refusal(Box::new(problem)),
                Ok(_) | Err(_) => Heard::Nothing,
            };
        }
        Err(EventsError::Call(_)) => return Heard::Nothing,
    };
    let mut heard = Heard::Nothing;
    while let Some(Ok(event)) = events.next().await {
        let Ok(notice) = serde_json::from_str(&event.data) else { continue };
        if event.event != "notice" {
            continue;
        }
        heard = Heard::Something;
        let input = Box::new(Input::Notice(notice));
        if inbox.send(Incoming::Input(input)).await.is_err() {
            return Heard::Enough;
        }
    }
    heard
}
