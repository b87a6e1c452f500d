//! What befalls one call: drawn from the seed, the hop and the number of the call, and from nothing else.

use std::time::Duration;

use super::hop::{Direction, Hop};
use super::plan::{CERTAIN, Fault, Plan};

/// What befalls a message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Leg {
    pub(super) is_lost: bool,
    pub(super) late_by: Option<Duration>,
    pub(super) is_doubled: bool,
}

/// What befalls a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fate {
    pub(super) request: Leg,
    pub(super) answer: Leg,
    pub(super) kills: bool,
}

impl Plan {
    /// The fate of the call with this number on this hop.
    pub(super) fn fate(&self, hop: Hop, number: u64) -> Fate {
        // Hops draw from streams of their own, so that traffic on one changes nothing on another.
        let stream = SplitMix(self.seed() ^ ((hop.index() as u64 + 1) << 56)).next();
        let mut dice = Dice { plan: self, hop, chance: SplitMix(stream ^ SplitMix(number).next()) };
        let request = dice.leg(Direction::Request);
        let answer = dice.leg(Direction::Answer);
        Fate { request, answer, kills: dice.strikes(Direction::Answer, Fault::Kill) }
    }
}

struct Dice<'a> {
    plan: &'a Plan,
    hop: Hop,
    chance: SplitMix,
}

impl Dice<'_> {
    /// Every fault has its own draw, whatever the odds: raising those of one leaves the others where they strike.
    fn leg(&mut self, direction: Direction) -> Leg {
        let is_lost = self.strikes(direction, Fault::Drop);
        let is_late = self.strikes(direction, Fault::Delay);
        let is_doubled = self.strikes(direction, Fault::Duplicate);
        let max_ms = u64::from(self.plan.odds(self.hop, direction).delay_max_ms);
        let late_by = Duration::from_millis(self.chance.next() % (max_ms + 1));
        Leg { is_lost, late_by: is_late.then_some(late_by), is_doubled }
    }

    fn strikes(&mut self, direction: Direction, fault: Fault) -> bool {
        let odds = self.plan.odds(self.hop, direction).of[fault.index()];
        self.chance.next() % u64::from(CERTAIN) < u64::from(odds)
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): small, fast, and the same everywhere. For dice, never for keys.
#[derive(Debug, Clone)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(spec: &str, hop: Hop) -> Vec<Fate> {
        let plan: Plan = spec.parse().unwrap();
        (0..10_000).map(|number| plan.fate(hop, number)).collect()
    }

    #[test]
    fn the_generator_is_the_published_one() {
        let mut chance = SplitMix(1_234_567);
        let first = [chance.next(), chance.next(), chance.next()];
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_fates_and_another_gives_others() {
        let spec = "*:drop=0.1,*:delay=0.5@2000,*:duplicate=0.1,*:kill=0.01";
        let first = fates(&format!("{spec},seed=7"), Hop::ReaderIssuer);
        assert_eq!(first, fates(&format!("{spec},seed=7"), Hop::ReaderIssuer));
        assert_ne!(first, fates(&format!("{spec},seed=8"), Hop::ReaderIssuer));
        assert_ne!(first, fates(&format!("{spec},seed=7"), Hop::HubIssuer));
    }

    #[test]
    fn faults_strike_as_often_as_planned_and_each_by_itself() {
        let all = fates("*.answer:drop=0.1,*:delay=0.5@2000,*:kill=0.01", Hop::TerminalHub);
        let count = |is: fn(&Fate) -> bool| all.iter().filter(|it| is(it)).count();
        assert!((900..1100).contains(&count(|it| it.answer.is_lost)));
        assert!((4700..5300).contains(&count(|it| it.request.late_by.is_some())));
        assert!((60..140).contains(&count(|it| it.kills)));
        assert!((350..650).contains(&count(|it| it.answer.is_lost && it.answer.late_by.is_some())));
        assert_eq!(count(|it| it.request.is_lost || it.answer.is_doubled), 0);
        let longest = all.iter().filter_map(|it| it.answer.late_by).max().unwrap();
        assert!(longest <= Duration::from_secs(2) && longest > Duration::from_millis(1900));

        let more = fates("*.answer:drop=0.9,*:delay=0.5@2000,*:kill=0.01", Hop::TerminalHub);
        let delays = |all: &[Fate]| all.iter().map(|it| it.request.late_by).collect::<Vec<_>>();
        assert_eq!(delays(&all), delays(&more));
        assert!(
            all.iter().zip(&more).all(|(few, many)| !few.answer.is_lost || many.answer.is_lost)
        );
    }

    #[test]
    fn never_and_always_are_meant() {
        assert!(
            fates("*:drop=0,*:kill=0,seed=3", Hop::HubIssuer)
                .iter()
                .all(|it| *it == Fate::default())
        );
        assert!(
            fates("*:drop=1,*:kill=1,seed=3", Hop::HubIssuer)
                .iter()
                .all(|it| { it.request.is_lost && it.answer.is_lost && it.kills })
        );
    }
}
