//! How large commits were: mean and p99, out of the histogram `warifu_batch_entries` of a process's metrics.

/// A reading of the histogram.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Batches {
    entries: u64,
    commits: u64,
    /// Upper bounds, and how many commits were at or below each.
    buckets: Vec<(u64, u64)>,
}

impl Batches {
    const NAME: &'static str = "warifu_batch_entries";

    pub(super) fn of_this_process() -> Self {
        Self::of(&warifu_server::telemetry::metrics_handle().render())
    }

    /// Reads Prometheus text.
    pub(super) fn of(text: &str) -> Self {
        let mut batches = Self::default();
        for line in text.lines().filter_map(|it| it.strip_prefix(Self::NAME)) {
            let Some((what, value)) = line.rsplit_once(' ') else { continue };
            let Some(value) = value.split('.').next().and_then(|it| it.parse().ok()) else {
                continue;
            };
            match what {
                "_sum" => batches.entries = value,
                "_count" => batches.commits = value,
                _ => {
                    let bound = what.split("le=\"").nth(1).and_then(|it| it.split('"').next());
                    let bound = bound.and_then(|it| it.parse().ok());
                    batches.buckets.extend(bound.map(|bound| (bound, value)));
                }
            }
        }
        batches
    }

    /// What came between an earlier reading and this one.
    pub(super) fn since(&self, before: &Self) -> Self {
        let was = |bound| {
            before.buckets.iter().find(|(it, _)| *it == bound).map_or(0, |(_, count)| *count)
        };
        Self {
            entries: self.entries.saturating_sub(before.entries),
            commits: self.commits.saturating_sub(before.commits),
            buckets: self
                .buckets
                .iter()
                .map(|(bound, count)| (*bound, count.saturating_sub(was(*bound))))
                .collect(),
        }
    }

    /// Adds what came between two other readings.
    pub(super) fn add(&mut self, more: &Self) {
        self.entries += more.entries;
        self.commits += more.commits;
        for (bound, count) in &more.buckets {
            match self.buckets.iter_mut().find(|(it, _)| it == bound) {
                Some((_, sum)) => *sum += count,
                None => self.buckets.push((*bound, *count)),
            }
        }
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    pub(super) fn mean_hundredths(&self) -> Option<u64> {
        self.entries.saturating_mul(100).checked_div(self.commits)
    }

    /// So many entries or fewer had 99 of 100 commits: a power of two.
    pub(super) fn p99_at_most(&self) -> Option<u64> {
        let wanted = self.commits.saturating_mul(99).div_ceil(100);
        self.buckets.iter().find(|(_, count)| *count >= wanted.max(1)).map(|(bound, _)| *bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_p99_are_of_what_came_between() {
        let before = Batches::of(
            "warifu_batch_entries_bucket{le=\"1\"} 10\nwarifu_batch_entries_bucket{le=\"2\"} 10\nwarifu_batch_entries_bucket{le=\"+Inf\"} 10\nwarifu_batch_entries_sum 10\nwarifu_batch_entries_count 10\n",
        );
        let after = Batches::of(
            "# TYPE warifu_batch_entries histogram\nwarifu_batch_entries_bucket{le=\"1\"} 60\nwarifu_batch_entries_bucket{le=\"2\"} 109\nwarifu_batch_entries_bucket{le=\"+Inf\"} 110\nwarifu_batch_entries_sum 170\nwarifu_batch_entries_count 110\n",
        );
        let between = after.since(&before);
        assert_eq!((between.commits(), between.mean_hundredths()), (100, Some(160)));
        assert_eq!(between.p99_at_most(), Some(2));
        assert_eq!(Batches::default().mean_hundredths(), None);
        assert_eq!(Batches::default().p99_at_most(), None);
    }
}
