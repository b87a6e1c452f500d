//! A payer for demo and storm: a linked terminal that shows another code whenever it is asked for one.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use warifu_proto::limits::{CODE_DIGITS, LIFETIME_DEFAULT_S};
use warifu_proto::notice::Verdict;
use warifu_terminal::{Input, Wish};

use crate::fail::Failure;
use crate::terminal::drive::{Driver, Event};
use crate::terminal::folder::Folder;

/// How long a code may take: without a hub the long one comes after two seconds.
const CODE_PATIENCE: Duration = Duration::from_secs(10);

/// A terminal with its payer.
#[derive(Debug)]
pub(crate) struct Payer {
    driver: Driver,
    is_odd: bool,
    /// The short digits of the last code that was handed out.
    last: String,
}

impl Payer {
    /// Opens the folder of a linked terminal.
    pub(crate) async fn open(folder: Folder) -> Result<Self, Failure> {
        Ok(Self { driver: Driver::open(folder).await?, is_odd: false, last: String::new() })
    }

    /// Shows a new code, and waits until the issuer has it or until the long code takes its place.
    pub(crate) async fn code(&mut self) -> Result<String, Failure> {
        // Another wish is another code, without taking the former one back first.
        self.is_odd = !self.is_odd;
        let lifetime_s = LIFETIME_DEFAULT_S + u16::from(self.is_odd);
        self.driver.give(Input::Show(Wish { lifetime_s, cap_minor: None }))?;
        let until = Instant::now() + CODE_PATIENCE;
        let mut shown = String::new();
        loop {
            let event = timeout_at(until, self.driver.next()).await;
            let event =
                event.map_err(|_| Failure::unreachable("the terminal shows no new code"))??;
            match event {
                Event::Show(screen) => {
                    let short: String = screen.digits.chars().take(CODE_DIGITS).collect();
                    if short == self.last {
                        continue;
                    }
                    shown.clone_from(&screen.digits);
                    if screen.is_acked || screen.digits.len() > CODE_DIGITS {
                        self.last = short;
                        return Ok(shown);
                    }
                }
                Event::Acked { .. } if !shown.is_empty() => {
                    self.last = shown.chars().take(CODE_DIGITS).collect();
                    return Ok(shown);
                }
                Event::Hide => shown.clear(),
                event => self.answer(event)?,
            }
        }
    }

    /// Keeps the terminal awake while something else goes on: it repeats registrations by itself.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                event = self.driver.next() => self.answer(event?)?,
            }
        }
    }

    /// This payer confirms whatever the issuer asks about.
    fn answer(&mut self, event: Event) -> Result<(), Failure> {
        let Event::Question(question) = event else { return Ok(()) };
        let payment = question.notice.payment_id;
        self.driver.give(Input::Verdict { payment, verdict: Verdict::Confirm })
    }
}
