//! What goes wrong how often, as a person writes it: `reader-issuer.answer:drop=0.5,*:delay=0.3@2000,seed=7`.
//!
//! Limits: probabilities from 0 to 1 with at most six decimals, kept as millionths; delays up to [`DELAY_MAX_MS`].

use std::fmt;
use std::str::FromStr;

use super::hop::{Direction, Hop};

/// The grammar, for `--help`.
pub(crate) const GRAMMAR: &str = "\
SPEC, comma separated; what comes later replaces what came before:
  HOP[.request|.answer]:FAULT=PROBABILITY[@MAX_MS]     seed=NUMBER
  HOP    terminal-hub, hub-issuer, reader-issuer, or * for all three
  FAULT  drop       the request or the answer is lost: the connection closes
         delay      it is late by 0 to MAX_MS milliseconds [default: 1000]
         duplicate  the server gets the request twice; of the two answers the first one comes back
                    (request) or the second (answer)
         kill       the server is killed after it has answered, the answer is lost, and it starts again
Without a direction a fault strikes both ways, each by itself (kill: the answer's). The same seed does
the same to the n-th call of each hop.";

/// Longest delay that can be asked for.
pub(super) const DELAY_MAX_MS: u32 = 60_000;
/// Longest delay when nobody says otherwise.
const DELAY_DEFAULT_MS: u32 = 1_000;
/// A certainty, in millionths.
pub(super) const CERTAIN: u32 = 1_000_000;

/// What can go wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is lost.
    Drop,
    /// It is late.
    Delay,
    /// The request arrives twice.
    Duplicate,
    /// The server dies between its answer and the caller.
    Kill,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Drop, Self::Delay, Self::Duplicate, Self::Kill];

    /// As it is written in a plan.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Delay => "delay",
            Self::Duplicate => "duplicate",
            Self::Kill => "kill",
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Drop => 0,
            Self::Delay => 1,
            Self::Duplicate => 2,
            Self::Kill => 3,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each fault strikes in one direction of one hop, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Odds {
    pub(super) of: [u32; Fault::ALL.len()],
    pub(super) delay_max_ms: u32,
}

/// What goes wrong how often. Nothing does in the default one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    odds: [[Odds; Direction::ALL.len()]; Hop::ALL.len()],
    seed: u64,
}

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlanError {
    part: String,
    why: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.part, self.why)
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    pub(super) fn odds(&self, hop: Hop, direction: Direction) -> &Odds {
        &self.odds[hop.index()][direction.index()]
    }

    /// What makes two runs the same.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    fn take(&mut self, part: &str) -> Result<(), String> {
        if let Some(seed) = part.strip_prefix("seed=") {
            let bad = |_| "a seed is a whole number below 2^64, such as seed=7".to_owned();
            self.seed = seed.parse().map_err(bad)?;
            return Ok(());
        }
        let (place, what) =
            part.split_once(':').ok_or("it is neither HOP:FAULT=PROBABILITY nor seed=NUMBER")?;
        let (hop, direction) = match place.split_once('.') {
            Some((hop, direction)) => (hop, Some(direction_named(direction)?)),
            None => (place, None),
        };
        let hops = match hop {
            "*" => Hop::ALL.to_vec(),
            name => vec![hop_named(name)?],
        };
        let (fault, odds) = what.split_once('=').ok_or("how likely? write FAULT=PROBABILITY")?;
        let fault = fault_named(fault)?;
        let (odds, max_ms) = match odds.split_once('@') {
            Some((odds, ms)) => (odds, Some(delay_max_ms(fault, ms)?)),
            None => (odds, None),
        };
        let odds = millionths(odds)?;
        let directions = match (fault, direction) {
            (Fault::Kill, Some(Direction::Request)) => {
                return Err("a server is killed after it has answered: leave .request out".into());
            }
            (Fault::Kill, Some(Direction::Answer) | None) => vec![Direction::Answer],
            (Fault::Drop | Fault::Delay | Fault::Duplicate, Some(one)) => vec![one],
            (Fault::Drop | Fault::Delay | Fault::Duplicate, None) => Direction::ALL.to_vec(),
        };
        for hop in hops {
            for direction in &directions {
                let entry = &mut self.odds[hop.index()][direction.index()];
                entry.of[fault.index()] = odds;
                if fault == Fault::Delay {
                    entry.delay_max_ms = max_ms.unwrap_or(DELAY_DEFAULT_MS);
                }
            }
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let mut plan = Self::default();
        for part in text.split(',').map(str::trim) {
            plan.take(part).map_err(|why| PlanError { part: part.to_owned(), why })?;
        }
        Ok(plan)
    }
}

fn hop_named(name: &str) -> Result<Hop, String> {
    let hop = Hop::ALL.into_iter().find(|it| it.name() == name);
    hop.ok_or_else(|| {
        format!("no hop is called {name}: there are {}, and * for all", names(Hop::ALL))
    })
}

fn direction_named(name: &str) -> Result<Direction, String> {
    let direction = Direction::ALL.into_iter().find(|it| it.name() == name);
    direction.ok_or_else(|| format!("after the hop comes .request or .answer, not .{name}"))
}

fn fault_named(name: &str) -> Result<Fault, String> {
    let fault = Fault::ALL.into_iter().find(|it| it.name() == name);
    fault.ok_or_else(|| format!("no fault is called {name}: there are {}", names(Fault::ALL)))
}

fn names<T: fmt::Display, const N: usize>(all: [T; N]) -> String {
    all.map(|it| it.to_string()).join(", ")
}

fn delay_max_ms(fault: Fault, text: &str) -> Result<u32, String> {
    if fault != Fault::Delay {
        return Err("only delay has @MAX_MS".to_owned());
    }
    text.parse()
        .ok()
        .filter(|ms| (1..=DELAY_MAX_MS).contains(ms))
        .ok_or_else(|| format!("a delay lies in 1 to {DELAY_MAX_MS} milliseconds"))
}

/// A probability in millionths, without floats: what is written is what is meant.
fn millionths(text: &str) -> Result<u32, String> {
    let bad = || format!("{text} is no probability: give 0 to 1, such as 0.25");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || whole.len() > 1 || decimals.len() > 6 {
        return Err(bad());
    }
    let digits = format!("{whole}{decimals:0<6}");
    digits.parse().ok().filter(|it| *it <= CERTAIN).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Plan {
        text.parse().unwrap()
    }

    #[track_caller]
    fn refused(text: &str, want: &str) {
        let why = text.parse::<Plan>().unwrap_err().to_string();
        assert!(why.contains(want), "{text}: {why}");
    }

    #[test]
    fn a_plan_says_what_happens_where() {
        let plan = plan(
            "reader-issuer.answer:drop=0.5,*:delay=0.3@2000,*:duplicate=0.1,reader-issuer:kill=0.05,seed=7",
        );
        let answer = plan.odds(Hop::ReaderIssuer, Direction::Answer);
        assert_eq!(answer.of, [500_000, 300_000, 100_000, 50_000]);
        assert_eq!(answer.delay_max_ms, 2000);
        let request = plan.odds(Hop::ReaderIssuer, Direction::Request);
        assert_eq!(request.of, [0, 300_000, 100_000, 0]);
        assert_eq!(plan.odds(Hop::TerminalHub, Direction::Answer).of, [0, 300_000, 100_000, 0]);
        assert_eq!(plan.seed(), 7);
    }

    #[test]
    fn what_comes_later_replaces_what_came_before() {
        let plan = plan("*:drop=1, hub-issuer.request:drop=0, *:delay=0.000001");
        assert_eq!(plan.odds(Hop::HubIssuer, Direction::Request).of, [0, 1, 0, 0]);
        assert_eq!(plan.odds(Hop::HubIssuer, Direction::Answer).of, [CERTAIN, 1, 0, 0]);
        assert_eq!(plan.odds(Hop::TerminalHub, Direction::Request).delay_max_ms, DELAY_DEFAULT_MS);
    }

    #[test]
    fn a_wrong_part_is_named_with_what_would_be_right() {
        refused("", "neither");
        refused("drop=0.5", "neither");
        refused("*:drop=0.5,,seed=1", "``: it is neither");
        refused("till-hub:drop=0.5", "terminal-hub, hub-issuer, reader-issuer");
        refused("*.back:drop=0.5", ".request or .answer");
        refused("*:dealy=0.5", "drop, delay, duplicate, kill");
        refused("*:drop", "FAULT=PROBABILITY");
        for odds in ["1.5", "2", "-1", "50%", "", ".5", "0.1234567", "1.000001", "0.", "00.5"] {
            refused(&format!("*:drop={odds}"), "0 to 1");
        }
        refused("*:drop=0.5@100", "only delay");
        refused("*:delay=0.5@0", "1 to 60000");
        refused("*:delay=0.5@60001", "1 to 60000");
        refused("hub-issuer.request:kill=0.5", "leave .request out");
        refused("seed=-1", "whole number");
    }
}
