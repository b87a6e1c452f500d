//! A wire in front of a server that does on purpose what networks do: lose, delay and repeat messages, and take the
//! server down between its answer and whoever waits for it.
//!
//! Everybody calls the wire: its address is the one in the directory, so requests are signed for it; the server listens
//! elsewhere and knows that address as its own. Bodies pass as they are, answers as streams.
//!
//! Law: nothing is ever altered, and what is lost is lost without a word: the connection closes. What befalls the n-th
//! call on a hop depends on the seed alone. Calls that set a network up (directory, pairing, the operator's) are never
//! touched, and nothing is before [`Faults::begin`] or after [`Faults::heal`].

mod count;
mod fate;
mod forward;
mod hop;
mod plan;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::count::Counts;
pub(crate) use self::count::Report;
use self::fate::Fate;
pub(crate) use self::hop::{Direction, Hop, Server};
pub(crate) use self::plan::{Fault, GRAMMAR, Plan};
use crate::fail::Failure;

/// How many faults may wait to be looked at; more are counted and not told.
const TOLD_MAX: usize = 1024;

/// What is done to a network: one for all of its wires.
#[derive(Debug)]
pub(crate) struct Faults {
    plan: Plan,
    is_on: AtomicBool,
    calls: [AtomicU64; Hop::ALL.len()],
    counts: Counts,
    told: mpsc::Sender<Injected>,
}

/// A fault as it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Injected {
    /// Between whom.
    pub(crate) hop: Hop,
    /// On the way there or back.
    pub(crate) direction: Direction,
    /// What.
    pub(crate) fault: Fault,
}

impl Faults {
    /// Nothing happens yet. What happens later can be watched at the other end.
    pub(crate) fn new(plan: Plan) -> (Arc<Self>, mpsc::Receiver<Injected>) {
        let (told, watched) = mpsc::channel(TOLD_MAX);
        let faults = Self {
            plan,
            is_on: AtomicBool::new(false),
            calls: Default::default(),
            counts: Counts::default(),
            told,
        };
        (Arc::new(faults), watched)
    }

    /// From now on the network is as bad as planned.
    pub(crate) fn begin(&self) {
        self.is_on.store(true, Ordering::Relaxed);
    }

    /// From now on everything passes. What is late already still arrives late.
    pub(crate) fn heal(&self) {
        self.is_on.store(false, Ordering::Relaxed);
    }

    /// What makes two runs the same.
    pub(crate) fn seed(&self) -> u64 {
        self.plan.seed()
    }

    /// What happened so far.
    pub(crate) fn report(&self) -> Report {
        self.counts.report()
    }

    /// What befalls the next call on this hop; nothing when the network is well.
    fn next(&self, hop: Hop) -> Option<Fate> {
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.calls[hop.index()].fetch_add(1, Ordering::Relaxed);
        self.counts.call(hop);
        Some(self.plan.fate(hop, number))
    }

    fn happens(&self, hop: Hop, direction: Direction, fault: Fault) {
        let it = Injected { hop, direction, fault };
        self.counts.add(it);
        // Whoever looks on may be slow, or gone.
        self.told.try_send(it).unwrap_or_default();
    }
}

/// Takes a server down, at once, as a power cut would. Its owner starts it again.
pub(crate) type Kill = Arc<dyn Fn() + Send + Sync>;

/// An address that is taken, and forwards nothing yet: calls wait.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: TcpListener,
    address: SocketAddr,
}

impl Socket {
    /// Takes a free port of this machine.
    pub(crate) async fn open() -> Result<Self, Failure> {
        let cannot =
            |error: std::io::Error| Failure::usage("no port is free on 127.0.0.1").because(&error);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        Ok(Self { listener, address })
    }

    /// Under which address the server behind it is known.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Forwards to this server from now on.
    pub(crate) fn connect(
        self,
        server: Server,
        to: SocketAddr,
        faults: &Arc<Faults>,
        kill: Kill,
    ) -> Wire {
        let end = forward::End::new(server, to, Arc::clone(faults), kill);
        Wire(tokio::spawn(end.accept(self.listener)).abort_handle())
    }
}

/// A wire that forwards until it is dropped.
#[derive(Debug)]
pub(crate) struct Wire(AbortHandle);

impl Drop for Wire {
    fn drop(&mut self) {
        self.0.abort();
    }
}
