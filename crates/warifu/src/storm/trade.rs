//! What goes on in the storm: at each till one payer after the other, and now and then a power cut.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::agent::Agent;
use super::check::{Order, Said};
use crate::fail::Failure;
use crate::payer::Payer;
use crate::terminal::folder::Folder;

/// Pause before a till calls its agent again.
const AGAIN: Duration = Duration::from_millis(300);
/// How long a till calls an agent that never answers.
const GIVE_UP: Duration = Duration::from_secs(120);
/// Pause when no payer is there, or one has no code.
const IDLE: Duration = Duration::from_millis(100);

/// What all tills share.
#[derive(Debug)]
pub(super) struct Trade {
    /// Terminals that wait for their turn.
    queue: Mutex<VecDeque<PathBuf>>,
    orders: Mutex<BTreeMap<String, Order>>,
    is_over: AtomicBool,
    /// Calls to agents that broke off and were repeated.
    pub(super) repeats: AtomicU64,
    /// Payers whose terminal showed nothing.
    pub(super) without_code: AtomicU64,
    longest_ms: AtomicU64,
}

impl Trade {
    pub(super) fn open(terminals: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            queue: Mutex::new(terminals.into_iter().collect()),
            orders: Mutex::default(),
            is_over: AtomicBool::new(false),
            repeats: AtomicU64::new(0),
            without_code: AtomicU64::new(0),
            longest_ms: AtomicU64::new(0),
        }
    }

    /// No new payers; those at the tills are served.
    pub(super) fn close(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// All orders so far.
    pub(super) fn orders(&self) -> Vec<Order> {
        locked(&self.orders).values().cloned().collect()
    }

    /// How many orders there are.
    pub(super) fn count(&self) -> usize {
        locked(&self.orders).len()
    }

    /// The longest time that a payer stood at a till, in milliseconds.
    pub(super) fn longest_ms(&self) -> u64 {
        self.longest_ms.load(Ordering::Relaxed)
    }

    /// Notes what an agent said of an order.
    pub(super) fn said(&self, order: &str, said: Said) {
        if let Some(order) = locked(&self.orders).get_mut(order) {
            order.said.push(said);
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves payers at one till until trade closes.
pub(super) async fn serve(trade: Arc<Trade>, agent: Arc<Agent>, till: usize) {
    let mut number = 0_u64;
    while !trade.is_over() {
        let Some(terminal) = locked(&trade.queue).pop_front() else {
            sleep(IDLE).await;
            continue;
        };
        number += 1;
        let order = format!("storm-{till}-{number}");
        if sale(&trade, &agent, &terminal, &order, 100 + number % 900).await.is_err() {
            trade.without_code.fetch_add(1, Ordering::Relaxed);
            sleep(IDLE).await;
        }
        locked(&trade.queue).push_back(terminal);
    }
}

async fn sale(
    trade: &Trade,
    agent: &Agent,
    terminal: &std::path::Path,
    order: &str,
    amount_minor: u64,
) -> Result<(), Failure> {
    // The app is opened at the till and closed after it, as payers do.
    let mut payer = Payer::open(Folder::new(terminal)).await?;
    let code = payer.code().await?;
    let new = Order { id: order.to_owned(), amount_minor, said: Vec::new() };
    locked(&trade.orders).insert(order.to_owned(), new);
    let began = Instant::now();
    let asked = async {
        while began.elapsed() < GIVE_UP {
            if let Some(said) = agent.pay(order, amount_minor, &code).await {
                trade.said(order, said);
                return;
            }
            // It was killed, or is starting: the same order again, never another.
            trade.repeats.fetch_add(1, Ordering::Relaxed);
            sleep(AGAIN).await;
        }
    };
    payer.during(asked).await?;
    let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    trade.longest_ms.fetch_max(took, Ordering::Relaxed);
    Ok(())
}
