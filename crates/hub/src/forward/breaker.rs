//! The circuit breaker of one issuer endpoint: after some failures in a row to get any answer it refuses at
//! once for a while, then lets one call through to try.
//!
//! Law: an answer of whatever status closes it; only calls that it admitted count; a probe that ends without
//! a verdict (its caller hung up) leaves room for the next probe at once. It has no clock: times are arguments.

use std::time::{Duration, Instant};

/// When to open, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BreakerSettings {
    /// Failures in a row that open it.
    pub(crate) failures: u32,
    /// How long it refuses before it tries again.
    pub(crate) open: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing,
}

/// How a call was let through; handed back with its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// One of many.
    Normal,
    /// The one that finds out whether the endpoint answers again.
    Probe,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The endpoint answered, whatever it said.
    Answered,
    /// No answer that could be believed.
    Failed,
    /// Nobody waited for the end.
    Abandoned,
}

/// What a verdict changed, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// Calls are refused from now on.
    Opened,
    /// Calls are let through again.
    Closed,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    state: State,
}

impl Breaker {
    /// A closed one.
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: State::Closed { failures: 0 } }
    }

    /// Whether a call may go out now.
    ///
    /// # Errors
    /// How long to stay away.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<Admission, Duration> {
        match self.state {
            State::Closed { .. } => Ok(Admission::Normal),
            State::Open { until } if now < until => Err(until.duration_since(now)),
            State::Open { .. } => {
                self.state = State::Probing;
                Ok(Admission::Probe)
            }
            State::Probing => Err(self.settings.open),
        }
    }

    /// Takes the verdict on an admitted call.
    pub(crate) fn settle(&mut self, how: Admission, verdict: Verdict, now: Instant) -> Change {
        let before = self.state;
        self.state = match (before, how, verdict) {
            (_, _, Verdict::Answered) => State::Closed { failures: 0 },
            (State::Closed { failures }, _, Verdict::Failed) => {
                let failures = failures.saturating_add(1);
                if failures >= self.settings.failures {
                    State::Open { until: now + self.settings.open }
                } else {
                    State::Closed { failures }
                }
            }
            (State::Probing, Admission::Probe, Verdict::Failed) => {
                State::Open { until: now + self.settings.open }
            }
            (State::Probing, Admission::Probe, Verdict::Abandoned) => State::Open { until: now },
            // A straggler from before it opened says nothing new.
            (state, _, Verdict::Failed | Verdict::Abandoned) => state,
        };
        match (before, self.state) {
            (State::Closed { .. }, State::Open { .. }) => Change::Opened,
            (State::Open { .. } | State::Probing, State::Closed { .. }) => Change::Closed,
            _ => Change::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings = BreakerSettings { failures: 3, open: Duration::from_secs(2) };

    fn fail(breaker: &mut Breaker, now: Instant) -> Change {
        let how = breaker.admit(now).unwrap();
        breaker.settle(how, Verdict::Failed, now)
    }

    #[test]
    fn failures_in_a_row_open_it_and_an_answer_between_them_does_not_let_it_come_to_that() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        assert_eq!(fail(&mut breaker, now), Change::None);
        assert_eq!(fail(&mut breaker, now), Change::None);
        let how = breaker.admit(now).unwrap();
        assert_eq!(breaker.settle(how, Verdict::Answered, now), Change::None);
        assert_eq!(fail(&mut breaker, now), Change::None);
        assert_eq!(fail(&mut breaker, now), Change::None);
        assert_eq!(fail(&mut breaker, now), Change::Opened);
        assert_eq!(breaker.admit(now), Err(Duration::from_secs(2)));
        assert_eq!(
            breaker.admit(now + Duration::from_millis(1500)),
            Err(Duration::from_millis(500))
        );
    }

    #[test]
    fn after_a_while_one_probe_goes_out_and_its_answer_closes_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        (0..3).for_each(|_| {
            fail(&mut breaker, now);
        });
        let later = now + SETTINGS.open;
        assert_eq!(breaker.admit(later), Ok(Admission::Probe));
        assert!(breaker.admit(later).is_err());
        assert_eq!(breaker.settle(Admission::Probe, Verdict::Failed, later), Change::None);
        assert!(breaker.admit(later).is_err());
        let later = later + SETTINGS.open;
        assert_eq!(breaker.admit(later), Ok(Admission::Probe));
        assert_eq!(breaker.settle(Admission::Probe, Verdict::Answered, later), Change::Closed);
        assert_eq!(breaker.admit(later), Ok(Admission::Normal));
    }

    #[test]
    fn a_probe_that_nobody_waited_for_makes_room_for_the_next() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        (0..3).for_each(|_| {
            fail(&mut breaker, now);
        });
        let later = now + SETTINGS.open;
        assert_eq!(breaker.admit(later), Ok(Admission::Probe));
        breaker.settle(Admission::Probe, Verdict::Abandoned, later);
        assert_eq!(breaker.admit(later), Ok(Admission::Probe));
    }

    #[test]
    fn stragglers_do_not_end_a_probe_but_their_answers_count() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SETTINGS);
        let early = breaker.admit(now).unwrap();
        (0..3).for_each(|_| {
            fail(&mut breaker, now);
        });
        let later = now + SETTINGS.open;
        assert_eq!(breaker.admit(later), Ok(Admission::Probe));
        assert_eq!(breaker.settle(early, Verdict::Failed, later), Change::None);
        assert!(breaker.admit(later).is_err());
        assert_eq!(breaker.settle(early, Verdict::Answered, later), Change::Closed);
        assert_eq!(breaker.admit(later), Ok(Admission::Normal));
    }
}
