//! What `warifu bench` is told: its arguments and the scenarios by name.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, value_parser};

use super::engine::EngineArgs;
use super::fill::FillArgs;
use super::steps::Work;
use crate::fail::Failure;

/// Measure a network: payments a second, latencies, CPU time.
///
/// Starts a demo network of its own in another process, links terminals to accounts by the real calls, and loads it. The
/// figures hold for the machine they were measured on, where generator and servers share the cores.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Example:
  warifu bench pay --seconds 10
  warifu bench pay-only --accounts 20000 --rate 2000   (one schedule: accounts for 10 s of it)
  warifu bench refund --accounts 5000 --ecdsa
  warifu bench mixed --merchants 100 --hot-share 20 --history 10000
  warifu bench lone --json
  warifu bench engine --seconds 60 --accounts 100000
  warifu bench fill --dir aoba --accounts 1000000 --payments 20000000
  warifu bench register --network my-network   (of a running `warifu demo --dir my-network`)
  warifu bench pay --hub http://10.0.0.1:7001 --issuer http://10.0.0.2:7002 \\
      --operator-key issuer/operator.key --reader till1")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(super) alone: Option<Alone>,
    /// What is done again and again
    #[arg(value_enum, default_value = "pay")]
    pub(super) scenario: Scenario,
    /// Accounts to prepare, with a linked terminal each
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(super) accounts: u32,
    /// Merchants that are paid, with a reader each
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(super) merchants: u32,
    /// Percent of the payments that go to one of them [default: all even]
    #[arg(long, value_parser = value_parser!(u32).range(0..=100))]
    pub(super) hot_share: Option<u32>,
    /// Payments made before the clock starts
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u64).range(0..=100_000_000))]
    pub(super) history: u64,
    /// Connections that are kept open
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u16).range(1..=4096))]
    pub(super) connections: u16,
    /// Open loop: start so many a second, whatever the answers do [default: closed loop]
    #[arg(long, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(super) rate: Option<u32>,
    /// How long to measure
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=3600))]
    pub(super) seconds: u32,
    /// Sign every request by ECDSA instead of by HMAC in a session
    #[arg(long)]
    pub(super) ecdsa: bool,
    /// Do not check the signatures of answers, to see what that costs
    #[arg(long)]
    pub(super) no_check_answers: bool,
    /// How long to measure each of the machine's limits before; 0 leaves them out
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(0..=60))]
    pub(super) limits_seconds: u32,
    /// Folder of a running `warifu demo --dir DIR` to load instead
    #[arg(long, value_name = "DIR")]
    pub(super) network: Option<PathBuf>,
    #[command(flatten)]
    pub(super) existing: Option<Existing>,
}

impl BenchArgs {
    /// What can be said before anything is done.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if let Some(existing) = &self.existing {
            is_plain(&existing.hub)?;
            is_plain(&existing.issuer)?;
        }
        if self.scenario == Scenario::Lone && self.rate.is_some() {
            return Err(Failure::usage("lone pays one at a time, at no rate")
                .next("leave out --rate, or take another scenario"));
        }
        if matches!(self.scenario, Scenario::Pay | Scenario::Mixed)
            && self.accounts < 2 * u32::from(self.connections)
        {
            return Err(Failure::usage(
                "a terminal makes one payment at a time: this needs two accounts for each connection",
            )
            .next("give more --accounts or fewer --connections"));
        }
        Ok(())
    }
}

/// The bench speaks no TLS: a generator that encrypts would measure itself.
pub(super) fn is_plain(url: &str) -> Result<(), Failure> {
    if url.starts_with("http://") {
        return Ok(());
    }
    Err(Failure::usage(format_args!("the bench calls plain http:// only, not {url}")).next(
        "give the network of a `warifu demo`, or one whose cards name http:// addresses, by --network or --hub",
    ))
}

/// A network that is up, by its addresses.
#[derive(Debug, Clone, Args)]
#[group(requires_all = ["hub", "issuer", "operator_key", "reader"], conflicts_with = "network")]
pub(super) struct Existing {
    /// An existing network: its hub's address
    #[arg(long, value_name = "URL", required = false)]
    pub(super) hub: String,
    /// The issuer's address
    #[arg(long, value_name = "URL", required = false)]
    pub(super) issuer: String,
    /// The issuer's operator's key, which opens accounts
    #[arg(long, value_name = "FILE", required = false)]
    pub(super) operator_key: PathBuf,
    /// Folder of a paired reader, which is paid
    #[arg(long, value_name = "DIR", required = false)]
    pub(super) reader: PathBuf,
}

/// What is measured without a network.
#[derive(Debug, Subcommand)]
pub(super) enum Alone {
    Engine(EngineArgs),
    Fill(FillArgs),
}

/// What is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Pay with codes that were registered before the clock started
    PayOnly,
    /// Register codes at the hub, which hands them to the issuer
    Register,
    /// Register a code at the issuer, then pay with it
    Pay,
    /// Give back payments that were made before the clock started
    Refund,
    /// Register and pay; of a hundred payments 20 are looked up, 5 refunded, 2 reversed
    Mixed,
    /// Pay 500 times, one at a time, on the idle system
    Lone,
}

impl Scenario {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PayOnly => "pay-only",
            Self::Register => "register",
            Self::Pay => "pay",
            Self::Refund => "refund",
            Self::Mixed => "mixed",
            Self::Lone => "lone",
        }
    }

    /// How codes got to the issuer.
    pub(super) fn about_codes(self) -> &'static str {
        match self {
            Self::PayOnly | Self::Refund | Self::Lone => {
                "registered at the issuer directly, before the clock started; terminals' signatures checked"
            }
            Self::Register => {
                "signed ahead, registered through the hub within its rule (5 at once, then one in 2 s for each terminal)"
            }
            Self::Pay | Self::Mixed => {
                "signed ahead, registered at the issuer directly while the clock runs; terminals' signatures checked"
            }
        }
    }

    pub(super) fn work(self) -> Work {
        match self {
            Self::PayOnly | Self::Lone => Work::Pay,
            Self::Register => Work::RegisterAtHub,
            Self::Pay => Work::RegisterAndPay,
            Self::Refund => Work::Refund,
            Self::Mixed => Work::Mixed,
        }
    }
}

/// Arguments as they are typed after `warifu`.
#[cfg(test)]
pub(super) fn typed(line: &str) -> BenchArgs {
    #[derive(Debug, clap::Parser)]
    struct Typed {
        #[command(flatten)]
        args: BenchArgs,
    }
    <Typed as clap::Parser>::parse_from(line.split(' ')).args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_said_before_anything_is_done() {
        let said = |line: &str| typed(line).check().err().map(|it| it.message);
        assert_eq!(said("bench pay --accounts 128"), None);
        assert!(said("bench pay --accounts 127").is_some_and(|it| it.contains("two accounts")));
        assert!(said("bench lone --rate 5").is_some_and(|it| it.contains("one at a time")));
        let keys = "--operator-key key --reader till";
        let to = |hub, issuer| said(&format!("bench --hub {hub} --issuer {issuer} {keys}"));
        assert_eq!(to("http://a", "http://b"), None);
        assert!(to("https://a", "http://b").is_some_and(|it| it.ends_with("not https://a")));
        assert!(to("http://a", "https://b").is_some_and(|it| it.ends_with("not https://b")));
    }
}
