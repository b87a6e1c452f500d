//! A server as a process of its own that is started again whenever it ends: how demo and storm keep what they kill.
//!
//! Law: it is killed as a power cut would, without a signal that it could handle, and it ends with whoever keeps it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::fail::Failure;
use crate::paths;

/// How long it stays down.
const DOWN: Duration = Duration::from_millis(300);
/// How long it may take to listen: many may start at once.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether it listens.
const LOOK: Duration = Duration::from_millis(20);

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// For people.
    pub(crate) name: String,
    /// The arguments of this very program.
    pub(crate) args: Vec<OsString>,
    /// Where its log goes.
    pub(crate) log: PathBuf,
    /// Where it listens when it is up.
    pub(crate) address: SocketAddr,
}

#[derive(Debug)]
enum Order {
    Kill,
    /// Kill it for good; told when it is gone.
    End(oneshot::Sender<()>),
}

/// A process that is kept up until this is dropped.
#[derive(Debug)]
pub(crate) struct Kept {
    orders: mpsc::Sender<Order>,
    kills: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Kept {
    /// Starts it and waits until it listens.
    pub(crate) async fn start(program: Program) -> Result<Self, Failure> {
        let mut child = program.spawn()?;
        program.until_up(&mut child).await?;
        let (orders, ordered) = mpsc::channel(4);
        let kills = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(keep(program, child, ordered, Arc::clone(&kills)));
        Ok(Self { orders, kills, task: task.abort_handle() })
    }

    /// Kills it; it comes back by itself. While it is down this does nothing.
    pub(crate) fn kill(&self) {
        self.orders.try_send(Order::Kill).unwrap_or_default();
    }

    /// Kills it for good, and waits until nothing of it holds its files any more.
    pub(crate) async fn end(&self) {
        let (gone, is_gone) = oneshot::channel();
        if self.orders.send(Order::End(gone)).await.is_ok() {
            // An error means that the task has ended, and the process with it.
            is_gone.await.unwrap_or_default();
        }
    }

    /// How often it was killed.
    pub(crate) fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // The child goes with the task that holds it.
        self.task.abort();
    }
}

impl Program {
    fn spawn(&self) -> Result<Child, Failure> {
        let cannot = |error: &std::io::Error| {
            Failure::usage(format_args!("{} can't be started", self.name)).because(error)
        };
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| paths::cannot("written", &self.log, &error))?;
        let mut command = Command::new(std::env::current_exe().map_err(|error| cannot(&error))?);
        command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        command.spawn().map_err(|error| cannot(&error))
    }

    async fn until_up(&self, child: &mut Child) -> Result<(), Failure> {
        let until = Instant::now() + START_PATIENCE;
        while TcpStream::connect(self.address).await.is_err() {
            let has_ended = !matches!(child.try_wait(), Ok(None));
            if has_ended || Instant::now() > until {
                return Err(Failure::unreachable(format_args!("{} does not come up", self.name))
                    .next(format_args!("see what it says: {}", paths::shown(&self.log))));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Tries until it is up: another process may have its port for a moment.
    async fn start_again(&self) -> Child {
        loop {
            sleep(DOWN).await;
            match self.spawn() {
                Ok(mut child) => {
                    if self.until_up(&mut child).await.is_ok() {
                        return child;
                    }
                    child.kill().await.unwrap_or_default();
                }
                Err(failure) => tracing::warn!(%failure, "not started again yet"),
            }
        }
    }
}

async fn keep(
    program: Program,
    mut child: Child,
    mut ordered: mpsc::Receiver<Order>,
    kills: Arc<AtomicU64>,
) {
    loop {
        tokio::select! {
            _ended = child.wait() => tracing::warn!(name = program.name, "ended by itself"),
            Some(order) = ordered.recv() => {
                // It fails only when the process has ended by itself meanwhile.
                child.kill().await.unwrap_or_default();
                match order {
                    Order::Kill => {
                        kills.fetch_add(1, Ordering::Relaxed);
                    }
                    Order::End(gone) => return gone.send(()).unwrap_or_default(),
                }
            }
        }
        child = program.start_again().await;
        // Who wished to kill it while it was down has what was wished for.
        while let Ok(order) = ordered.try_recv() {
            if let Order::End(gone) = order {
                child.kill().await.unwrap_or_default();
                return gone.send(()).unwrap_or_default();
            }
        }
    }
}
