//! `warifu reader`: the merchant's device as a program. It drives the machine of `warifu-reader` with a journal, HTTP
//! and a clock.
//!
//! Law: an attempt is in the journal before it leaves and stays there until its outcome is known; what is not known
//! is said to be unknown, with the command that finds out.

mod folder;
mod input;
mod journal;
mod pair;
mod pay;
mod resolve;
mod say;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use warifu_proto::limits::{DEADLINE_DEFAULT_MS, DEADLINE_MAX_MS, DEADLINE_MIN_MS};

pub(crate) use self::folder::Folder;
pub(crate) use self::pair::pair_up;
pub(crate) use self::pay::{Till, Wish};
use crate::fail::Failure;
use crate::out::Out;

/// The merchant's device: scan a code, be paid.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  warifu reader pair '#pair=…' --dir till1 --name \"Till 1\"
  warifu reader pay --dir till1 --amount 1200")]
pub(crate) struct ReaderArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pair this reader with its merchant, by the link that `warifu merchant pair` prints.
    ///
    /// Waits until the merchant's side has answered. If nobody answers, repeat the same command.
    #[command(after_help = "Example:
  warifu reader pair 'http://127.0.0.1:7001/till#pair=….par_….….…' --dir till1 --name \"Till 1\"")]
    Pair(PairArgs),
    /// Ask for a payment by a code, and wait for its outcome.
    ///
    /// The code comes from a scanner that types it and Enter (standard input), from --code, or out of a picture. Exit
    /// code 0: approved. 1: declined or refused, nothing was paid. 3: nobody could be reached, or the outcome is unknown;
    /// then the sale is neither paid nor unpaid until `warifu reader resolve` has found out.
    #[command(after_help = "Example:
  warifu reader pay --dir till1 --amount 1200
  warifu reader pay --dir till1 --amount 12.50 --currency EUR --image code.png --order-id A-17
  echo 710000010728921840110704 | warifu reader pay --dir till1 --amount 1200 --json")]
    Pay(PayArgs),
    /// Find out what became of payments without an outcome.
    ///
    /// Asks the issuer. A payment that the issuer does not know may still be on its way, so it stays unknown until its
    /// code is certainly dead (12 minutes after the scan); then the same request is repeated, which ends it as
    /// declined. --repeat does that at once, and the payment may be approved by it.
    #[command(after_help = "Example:
  warifu reader resolve --dir till1
  warifu reader resolve 06f1y8g… --dir till1 --repeat")]
    Resolve(ResolveArgs),
    /// Show the payments of this reader's journal, the latest first.
    #[command(after_help = "Example:
  warifu reader payments --dir till1
  warifu reader payments --dir till1 --open --json")]
    Payments(PaymentsArgs),
}

#[derive(Debug, Args)]
struct FolderArgs {
    /// The reader's folder
    #[arg(long, default_value = "reader")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct PairArgs {
    /// The pairing link; a secret
    #[arg(value_name = "LINK")]
    link: String,
    /// What this reader calls itself; the merchant may call it otherwise
    #[arg(long, default_value = "Till")]
    name: String,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Debug, Args)]
struct PayArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// How much, in units of the currency, such as 1200 or 12.50
    #[arg(long)]
    amount: String,
    /// In which currency [default: the only one that the code's issuer has]
    #[arg(long, value_name = "CODE")]
    currency: Option<String>,
    /// The code's digits
    #[arg(long, value_name = "DIGITS", conflicts_with = "image")]
    code: Option<String>,
    /// A picture (PNG or JPEG) that shows the code
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// The till's own id of the sale
    #[arg(long, value_name = "ID")]
    order_id: Option<String>,
    /// For people, up to 140 characters
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The name of this attempt, for ever; repeating it never pays twice [default: a new one]
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// How long to wait for the outcome, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = DEADLINE_DEFAULT_MS,
          value_parser = clap::value_parser!(u64).range(DEADLINE_MIN_MS..=DEADLINE_MAX_MS))]
    deadline_ms: u64,
}

#[derive(Debug, Args)]
struct ResolveArgs {
    /// Which one [default: all without an outcome]
    #[arg(value_name = "REQUEST_ID")]
    request_id: Option<String>,
    #[command(flatten)]
    folder: FolderArgs,
    /// Repeat the request if the issuer does not know it: it may be approved now
    #[arg(long)]
    repeat: bool,
    /// How long to ask about each, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000,
          value_parser = clap::value_parser!(u64).range(DEADLINE_MIN_MS..=600_000))]
    wait_ms: u64,
}

#[derive(Debug, Args)]
struct PaymentsArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Only those without an outcome
    #[arg(long)]
    open: bool,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: u32,
}

pub(crate) async fn run(args: ReaderArgs, out: &Out) -> Result<(), Failure> {
    match args.command {
        Command::Pair(args) => pair::run(&args, out).await,
        Command::Pay(args) => pay::run(&args, out).await,
        Command::Resolve(args) => resolve::run(&args, out).await,
        Command::Payments(args) => resolve::payments(&args, out),
    }
}
