//! Time that never goes back, made of the wall clock that the driver gives: a step back counts as no time passed,
//! so that setting the clock can't keep a dead code on the screen. A step forward counts in full (the phone slept).

use warifu_proto::time::Timestamp;

/// Milliseconds of life of the machine, and the wall clock as it was last given.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Steady {
    wall: Option<Timestamp>,
    lived_ms: u64,
}

impl Steady {
    /// Takes the wall clock.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        let passed_ms = self.wall.map_or(0, |before| now.since_ms(before));
        self.lived_ms = self.lived_ms.saturating_add(passed_ms);
        self.wall = Some(now);
    }

    /// Now, in milliseconds of life.
    pub(crate) fn lived_ms(self) -> u64 {
        self.lived_ms
    }

    /// Now, as the wall clock says.
    pub(crate) fn wall(self) -> Timestamp {
        self.wall.unwrap_or_default()
    }

    /// A moment of life as the wall clock will say it, if nobody sets it until then.
    pub(crate) fn wall_at(self, lived_ms: u64) -> Timestamp {
        let ahead = lived_ms.saturating_sub(self.lived_ms);
        let behind = self.lived_ms.saturating_sub(lived_ms);
        Timestamp::from_ms(self.wall().plus_ms(ahead).as_ms().saturating_sub(behind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_is_no_time_and_a_step_forward_is_time() {
        let mut steady = Steady::default();
        let lived = [5_000, 6_000, 1_000, 1_500, 90_000].map(|ms| {
            steady.advance(Timestamp::from_ms(ms));
            steady.lived_ms()
        });
        assert_eq!(lived, [0, 1_000, 1_000, 1_500, 90_000]);
        assert_eq!(steady.wall_at(90_007), Timestamp::from_ms(90_007));
        assert_eq!(steady.wall_at(89_000), Timestamp::from_ms(89_000));
    }
}
