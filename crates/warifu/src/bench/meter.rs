//! What the bench reads beside its own clock: CPU time of two processes and the issuer's counters.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::batches::Batches;
use super::network::Site;

/// Linux counts processes' CPU time in hundredths of a second, on every machine that this runs on.
const TICK_US: u64 = 10_000;
/// How long the counters may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counters that only grow, but for the lags.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    /// CPU time of the process that serves hub and issuers.
    pub(super) server_cpu_us: u64,
    /// CPU time of the bench itself.
    pub(super) own_cpu_us: u64,
    /// Commits of the issuer.
    pub(super) batches: Batches,
    /// Notices to payers that are not made yet.
    pub(super) notice_lag: u64,
    /// Entries that the views do not show yet.
    pub(super) view_lag: u64,
}

impl Reading {
    /// The counters first, so that reading them costs the measured time nothing.
    pub(super) async fn before(site: &Site) -> Self {
        let counters = counters(site).await;
        Self { server_cpu_us: servers_cpu_us(site), own_cpu_us: cpu_us("self"), ..counters }
    }

    /// The CPU time first, likewise.
    pub(super) async fn after(site: &Site) -> Self {
        let (server_cpu_us, own_cpu_us) = (servers_cpu_us(site), cpu_us("self"));
        Self { server_cpu_us, own_cpu_us, ..counters(site).await }
    }

    /// Adds what grew between two readings, and takes the later lags.
    pub(super) fn add(&mut self, before: &Self, after: &Self) {
        self.server_cpu_us += after.server_cpu_us.saturating_sub(before.server_cpu_us);
        self.own_cpu_us += after.own_cpu_us.saturating_sub(before.own_cpu_us);
        self.batches.add(&after.batches.since(&before.batches));
        self.notice_lag = after.notice_lag;
        self.view_lag = after.view_lag;
    }
}

async fn counters(site: &Site) -> Reading {
    let url = format!("{}/metrics", site.issuer.url.trim_end_matches('/'));
    let text = match site.http.get(url).timeout(PATIENCE).send().await {
        Ok(answer) => answer.text().await.unwrap_or_default(),
        Err(_) => String::new(),
    };
    let value = |name: &str| {
        let line = text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(' '));
        let whole = line.and_then(|it| it.split('.').next()?.trim().parse().ok());
        whole.unwrap_or_default()
    };
    Reading {
        batches: Batches::of(&text),
        notice_lag: value("warifu_notice_lag_entries"),
        view_lag: value("warifu_view_lag_entries"),
        ..Reading::default()
    }
}

/// Of the servers, if they are a process of ours.
fn servers_cpu_us(site: &Site) -> u64 {
    site.pid.map_or(0, |pid| cpu_us(&pid.to_string()))
}

/// User and system time of a process so far.
pub(super) fn cpu_us(pid: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name stands in parentheses and may hold anything; utime and stime are the 12th and 13th fields after it.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok());
    ticks.sum::<u64>() * TICK_US
}

/// How many cores of what.
pub(super) fn hardware() -> (usize, String) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        text.lines().find(|it| it.starts_with("model name")).and_then(|it| it.split_once(':'));
    let model = model.map_or("unknown", |(_, model)| model.trim());
    (cores, model.to_owned())
}

/// What a folder's files lie on: the kind of file system and where it comes from. On one in memory a sync means nothing.
pub(super) fn file_system(folder: &Path) -> String {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        folder.starts_with(place).then(|| (place.len(), format!("{kind} ({device})")))
    });
    mounts.max_by_key(|(length, _)| *length).map_or_else(|| "unknown".to_owned(), |(_, it)| it)
}

/// The machine's memory.
pub(super) fn memory_mib() -> u64 {
    kib("/proc/meminfo", "MemTotal:") / 1024
}

/// What this process holds of it.
pub(super) fn resident_mib() -> u64 {
    kib("/proc/self/status", "VmRSS:") / 1024
}

fn kib(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|it| it.strip_prefix(name));
    line.and_then(|it| it.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
