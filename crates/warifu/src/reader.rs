//! `warifu reader`: the merchant's device as a program. It drives the machine of `warifu-reader` with a journal, HTTP
//! and a clock.
//!
//! Law: an attempt is in the journal before it leaves and stays there until it has ended; what has no answer by the
//! deadline is reversed, and is not paid.

mod folder;
mod input;
mod journal;
mod later;
mod pair;
mod pay;
mod resolve;
mod say;
mod serve;
mod till;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use warifu_proto::limits::{DEADLINE_DEFAULT_MS, DEADLINE_MAX_MS, DEADLINE_MIN_MS};

pub(crate) use self::folder::Folder;
pub(crate) use self::pair::pair_up;
pub(crate) use self::pay::Wish;
pub(crate) use self::till::Till;
use crate::fail::Failure;
use crate::out::Out;

/// The merchant's device: scan a code, be paid.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  warifu reader pair '#pair=…' --dir till1 --name \"Till 1\"
  warifu reader pay --dir till1 --amount 1200
  warifu reader serve --dir till1")]
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
    /// The code comes from a scanner that types it and Enter (standard input), from --code, or out of a picture. Without
    /// an answer by the deadline the payment is reversed. Exit code 0: approved. 1: declined, refused or reversed, nothing
    /// is paid. 3: nobody could be reached, or the reversal is not acknowledged yet: nothing is paid, and
    /// `warifu reader resolve` goes on reversing.
    #[command(after_help = "Example:
  warifu reader pay --dir till1 --amount 1200
  warifu reader pay --dir till1 --amount 12.50 --currency EUR --image code.png --order-id A-17
  echo 710000010728921840110704 | warifu reader pay --dir till1 --amount 1200 --json")]
    Pay(PayArgs),
    /// End what has not ended: ask once about payments without an answer, then reverse them; repeat refunds.
    ///
    /// A payment that is being reversed never counts as paid. A refund is repeated under its own id, so it is never done
    /// twice. Exit code 3: something is not acknowledged yet.
    #[command(after_help = "Example:
  warifu reader resolve --dir till1
  warifu reader resolve 06f1y8g… --dir till1")]
    Resolve(ResolveArgs),
    /// Take a sale back, on the day of the payment.
    ///
    /// Nothing remains paid. When the issuer's day has closed, the payment stands: refund it. Exit code 1: it stands. 3:
    /// the reversal is not acknowledged yet; `warifu reader resolve` goes on.
    #[command(after_help = "Example:
  warifu reader reverse --request-id 06f1y8g… --dir till1
  warifu reader reverse --payment pay_01kb0h6017e9g0000000000cph --dir till1")]
    Reverse(ReverseArgs),
    /// Give back part or all of a payment.
    ///
    /// Exit code 0: refunded. 1: the issuer refused. 3: not answered yet; `warifu reader resolve` repeats it, and it is never
    /// done twice.
    #[command(after_help = "Example:
  warifu reader refund --request-id 06f1y8g… --amount 500 --dir till1
  warifu reader refund --payment pay_01kb0h6017e9g0000000000cph --dir till1 --reason 'Torn bag'")]
    Refund(RefundArgs),
    /// Serve till software on this machine: plain HTTP and JSON on a loopback address.
    ///
    /// The agent signs, finds the issuer, repeats, journals and reverses; the till asks it once and has its answer at the
    /// deadline. docs/reader.md describes its calls.
    #[command(after_help = "Example:
  warifu reader serve --dir till1
  warifu reader serve --dir till1 --listen 127.0.0.1:7300 --recent-minutes 15
  curl -s http://127.0.0.1:7300/health")]
    Serve(ServeArgs),
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
    /// How long to try with each, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000,
          value_parser = clap::value_parser!(u64).range(DEADLINE_MIN_MS..=600_000))]
    wait_ms: u64,
}

/// Which payment.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhichArgs {
    /// By the request id of its attempt
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// By the issuer's payment id
    #[arg(long, value_name = "PAY")]
    payment: Option<String>,
}

#[derive(Debug, Args)]
struct ReverseArgs {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Debug, Args)]
struct RefundArgs {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    folder: FolderArgs,
    /// How much, in units of the currency [default: all that is left]
    #[arg(long)]
    amount: Option<String>,
    /// For people, up to 140 characters
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Your own name of this refund; repeating it never refunds twice [default: a new one]
    #[arg(long, value_name = "ID")]
    refund_id: Option<String>,
}

#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// Where to listen; loopback addresses only
    #[arg(long, default_value = "127.0.0.1:7300", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// How far back a cashier may look
    #[arg(long, value_name = "MINUTES", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=1_440))]
    recent_minutes: u64,
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

impl ReaderArgs {
    /// Whether many calls have to be served at once.
    pub(crate) fn serves(&self) -> bool {
        matches!(self.command, Command::Serve(_))
    }
}

pub(crate) async fn run(args: ReaderArgs, out: &Out) -> Result<(), Failure> {
    match args.command {
        Command::Pair(args) => pair::run(&args, out).await,
        Command::Pay(args) => pay::run(&args, out).await,
        Command::Resolve(args) => resolve::run(&args, out).await,
        Command::Reverse(args) => later::reverse(&args, out).await,
        Command::Refund(args) => later::refund(&args, out).await,
        Command::Serve(args) => serve::run(&args, out).await,
        Command::Payments(args) => resolve::payments(&args, out),
    }
}
