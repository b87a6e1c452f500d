//! The demo's till on a bad network: a payment every second, and a line for each that tells what the network did to it
//! and how it ended all the same.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use warifu_proto::code::Scanned;
use warifu_proto::limits::DEADLINE_MIN_MS;
use warifu_proto::link::InvitationLink;
use warifu_reader::{Outcome, Progress};

use super::parts::DemoNetwork;
use crate::fail::Failure;
use crate::out::Out;
use crate::payer::Payer;
use crate::reader::{self, Till, Wish};
use crate::terminal::{folder as terminal_folder, link_up};
use crate::wire::{Fault, Faults, Injected};

/// A new sale so often, when the one before is done.
const PACE: Duration = Duration::from_secs(1);
/// Payers of each issuer, who take turns: a terminal may show a new code every two seconds.
const PAYERS_EACH: usize = 2;
/// What they have to spend.
const BUDGET_MINOR: u64 = 10_000_000;
/// How patient the cashier is: short, so that much has no answer in time.
const DEADLINE_MS: u64 = 4 * DEADLINE_MIN_MS;
/// Pause before a till asks again after something went wrong on its own side.
const PAUSE: Duration = Duration::from_millis(500);

/// The sales at the demo's till.
pub(super) struct Sales<'a> {
    payers: Vec<Payer>,
    till: Till,
    faults: Arc<Faults>,
    told: mpsc::Receiver<Injected>,
    tally: Tally,
    out: &'a Out,
}

/// What became of all of it.
#[derive(Debug, Default)]
struct Tally {
    payments: u32,
    outcomes: BTreeMap<String, u32>,
    longest: Duration,
}

impl<'a> Sales<'a> {
    /// Links the payers' terminals. The network is still well.
    pub(super) async fn open(
        network: &DemoNetwork,
        faults: Arc<Faults>,
        told: mpsc::Receiver<Injected>,
        out: &'a Out,
    ) -> Result<Self, Failure> {
        let mut payers = Vec::new();
        for number in 0..PAYERS_EACH {
            for issuer in &network.local.issuers {
                let invitation = issuer.invite("Payer", BUDGET_MINOR).await?;
                let name = format!("payer-{}-{number}", issuer.card.prefix);
                let folder = terminal_folder::Folder::new(&network.local.dir.join(name));
                link_up(&folder, InvitationLink::parse(&invitation)?, "Terminal", |_| ()).await?;
                payers.push(Payer::open(folder).await?);
            }
        }
        let till = Till::open(&reader::Folder::new(&network.local.dir.join("till"))).await?;
        Ok(Self { payers, till, faults, told, tally: Tally::default(), out })
    }

    /// Sells until so many payments are made or somebody wishes to stop; then lets the network heal.
    pub(super) async fn make(mut self, most: Option<u32>, stopped: impl Future<Output = ()>) {
        self.faults.begin();
        tokio::pin!(stopped);
        let mut every = tokio::time::interval(PACE);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while most.is_none_or(|most| self.tally.payments < most) {
            let sale = async {
                every.tick().await;
                self.sale().await
            };
            tokio::select! {
                () = sale => {}
                () = &mut stopped => break,
            }
        }
        self.faults.heal();
        self.tell_all();
    }

    async fn sale(&mut self) {
        let number = self.tally.payments + 1;
        let at = usize::try_from(number).unwrap_or_default() % self.payers.len().max(1);
        let Some(payer) = self.payers.get_mut(at) else { return };
        let began = Instant::now();
        let story = Mutex::new(Story::default());
        let till = &self.till;
        let work = async {
            let code = payer.code().await?;
            payer.during(paid(till, &code, number, &story)).await?
        };
        let ended = told_during(&mut self.told, &story, work).await.unwrap_or_else(|failure| {
            lock(&story).parts.push(failure.message);
            "nothing_was_asked".to_owned()
        });
        let took = began.elapsed();
        self.tally.payments = number;
        *self.tally.outcomes.entry(ended.clone()).or_default() += 1;
        self.tally.longest = self.tally.longest.max(took);
        let line = story
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .line(&ended.replace('_', " "), took);
        self.out.say(format_args!("#{number:<4} {line}"));
    }

    fn tell_all(&self) {
        let Tally { payments, outcomes, longest } = &self.tally;
        let report = self.faults.report();
        let shown: Vec<_> = outcomes.iter().map(|(it, count)| format!("{count} {it}")).collect();
        self.out.say(format_args!("\npayments  {payments}: {}", shown.join(", ")));
        self.out.say(format_args!("longest   {} ms", longest.as_millis()));
        self.out.say(format_args!("faults    {}", report.line()));
        self.out.object(&self.object());
    }

    fn object(&self) -> Value {
        let Tally { payments, outcomes, longest } = &self.tally;
        json!({
            "payments": payments,
            "outcomes": outcomes,
            "longest_ms": u64::try_from(longest.as_millis()).unwrap_or(u64::MAX),
            "seed": self.faults.seed(),
            "faults": self.faults.report().object(),
        })
    }
}

/// What happened on the way to an outcome.
#[derive(Debug, Default)]
struct Story {
    parts: Vec<String>,
    late: u32,
    doubled: u32,
}

impl Story {
    fn happened(&mut self, it: Injected) {
        let hop = it.hop.name().replace('-', "–");
        match it.fault {
            Fault::Drop => self.parts.push(format!("{} lost on {hop}", it.direction)),
            Fault::Kill => self.parts.push(format!("server killed after its answer on {hop}")),
            // So common, and so harmless, that a number tells enough.
            Fault::Delay => self.late += 1,
            Fault::Duplicate => self.doubled += 1,
        }
    }

    fn line(mut self, ended: &str, took: Duration) -> String {
        let mut counts = vec![format!("{} ms", took.as_millis())];
        for (count, what) in [(self.late, "late"), (self.doubled, "doubled")] {
            counts.extend((count > 0).then(|| format!("{count} {what}")));
        }
        self.parts.dedup();
        let way =
            if self.parts.is_empty() { String::new() } else { self.parts.join("; ") + "… " };
        format!("{way}{ended} ({})", counts.join(", "))
    }
}

fn lock(story: &Mutex<Story>) -> MutexGuard<'_, Story> {
    story.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes what the network does while something goes on.
async fn told_during<T>(
    told: &mut mpsc::Receiver<Injected>,
    story: &Mutex<Story>,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    let done = loop {
        tokio::select! {
            biased;
            Some(it) = told.recv() => lock(story).happened(it),
            done = &mut work => break done,
        }
    };
    while let Ok(it) = told.try_recv() {
        lock(story).happened(it);
    }
    done
}

/// Asks for one payment; how it ended, in a word.
async fn paid(
    till: &Till,
    code: &str,
    number: u32,
    story: &Mutex<Story>,
) -> Result<String, Failure> {
    let scanned = Scanned::parse(code)?;
    let wish = Wish {
        amount: "120".to_owned(),
        currency: None,
        order_id: Some(format!("sale-{number}")),
        description: None,
        request_id: None,
        deadline_ms: DEADLINE_MS,
    };
    let tell = |progress| {
        let what = match progress {
            Progress::Repeating => "asking",
            Progress::AwaitingPayer => "the payer is asked",
            Progress::Reversing => "reversing",
        };
        lock(story).parts.push(what.to_owned());
    };
    let mut ended = till.pay(&wish, scanned, tell).await?;
    // The sale is not paid already; what is left is the issuer's word that nothing remains.
    while matches!(ended.outcome, Outcome::Reversing(_)) {
        lock(story).parts.push("not acknowledged yet".to_owned());
        tokio::time::sleep(PAUSE).await;
        ended = till.end(ended.record, DEADLINE_MS).await?;
    }
    Ok(match ended.outcome {
        Outcome::Decided(payment) | Outcome::Stands(payment) => {
            json!(payment.status).as_str().unwrap_or_default().to_owned()
        }
        Outcome::Reversed { .. } => "reversed".to_owned(),
        Outcome::Refused(_) => "refused".to_owned(),
        Outcome::NotTaken => "not_taken".to_owned(),
        Outcome::Reversing(_) => "reversing".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Direction, Hop};

    #[test]
    fn a_line_tells_what_happened_in_its_order() {
        let mut story = Story::default();
        let hop = Hop::ReaderIssuer;
        for fault in [Fault::Delay, Fault::Drop, Fault::Delay, Fault::Duplicate] {
            story.happened(Injected { hop, direction: Direction::Answer, fault });
        }
        story.parts.push("asking".to_owned());
        assert_eq!(
            story.line("approved", Duration::from_millis(1200)),
            "answer lost on reader–issuer; asking… approved (1200 ms, 2 late, 1 doubled)"
        );
        let quiet = Story::default().line("declined", Duration::from_millis(9));
        assert_eq!(quiet, "declined (9 ms)");
    }
}
