//! `warifu terminal`: the payer's device as a program. It drives the machine of `warifu-terminal` with files, HTTP and
//! a clock.
//!
//! Law: what the machine wants stored is on disk before the machine hears so; nothing of a code is written anywhere
//! but to the screen and the picture that the payer asked for.

mod answer;
mod ask;
pub(crate) mod atomic;
pub(crate) mod drive;
pub(crate) mod folder;
mod link;
pub(crate) mod say;
mod show;
mod unlink;
mod watch;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use warifu_proto::limits::{LIFETIME_DEFAULT_S, LIFETIME_MAX_S};
use warifu_proto::notice::Verdict;
use warifu_terminal::LIFETIME_MIN_S;
use warifu_terminal::picture;

use self::ask::AskArgs;
pub(crate) use self::link::link_up;
pub(crate) use self::say::{amount, time_of_day};
use crate::fail::Failure;
use crate::out::Out;

/// The payer's device: link an account, show a code.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  warifu terminal link 'http://127.0.0.1:7001/wallet#link=…' --dir phone --label \"My phone\"
  warifu terminal show --dir phone")]
pub(crate) struct TerminalArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Link this terminal to an account by an invitation of its issuer.
    ///
    /// The invitation can be used once and for 15 minutes. If nobody answers, repeat the same command.
    #[command(after_help = "Example:
  warifu terminal link 'http://127.0.0.1:7001/wallet#link=71000001.inv_….….…' --dir phone \\
      --label \"My phone\"")]
    Link(LinkArgs),
    /// Show a code to pay with, renew it until Ctrl-C, tell what was paid, and ask what the issuer asks.
    ///
    /// The code is drawn here, or written to a picture with --out. Without a network a long code takes its place after
    /// two seconds; it works without one. Ctrl-C takes the code back. The digits are a secret until they are spent:
    /// they are printed only with --digits or --json, for scripts and for reading them out at a till without a scanner.
    #[command(after_help = "Example:
  warifu terminal show --dir phone
  warifu terminal show --dir phone --once --out code.png
  warifu terminal show --dir phone --once --json | jq -r .code")]
    Show(ShowArgs),
    /// Tell what is paid by this link, as it happens, and ask what the issuer asks.
    #[command(after_help = "Example:
  warifu terminal watch --dir phone
  warifu terminal watch --dir phone --once --json")]
    Watch(WatchArgs),
    /// Confirm a payment that the issuer asks about. The first answer stands.
    ///
    /// `terminal show` and `terminal watch` tell what is asked, and ask themselves at a terminal. A question lasts a
    /// minute; the answer is repeated until the issuer has heard it.
    #[command(after_help = "Example:
  warifu terminal confirm pay_01jt8x… --dir phone")]
    Confirm(AnswerArgs),
    /// Refuse a payment that the issuer asks about. The first answer stands.
    #[command(after_help = "Example:
  warifu terminal refuse pay_01jt8x… --dir phone")]
    Refuse(AnswerArgs),
    /// End the link, and delete its keys.
    #[command(after_help = "Example:\n  warifu terminal unlink --dir phone")]
    Unlink(FolderArgs),
}

#[derive(Debug, Args)]
struct FolderArgs {
    /// The terminal's folder
    #[arg(long, default_value = "terminal")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct AnswerArgs {
    /// The payment, as the question named it
    #[arg(value_name = "PAYMENT_ID")]
    payment: String,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Debug, Args)]
struct LinkArgs {
    /// The invitation, as the issuer handed it out; a secret
    #[arg(value_name = "LINK")]
    link: String,
    /// What you call this terminal; your issuer shows it to you
    #[arg(long, default_value = "Terminal")]
    label: String,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// End when the first code is shown and acknowledged, and leave it payable
    #[arg(long)]
    once: bool,
    /// Write the picture to this file, .png or .svg, instead of drawing it here
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How the digits become black and white; bars need --out
    #[arg(long, default_value = "qr")]
    symbology: SymbologyArg,
    /// Most that one payment may be, in units of the account's currency, such as 1500 or 12.50
    #[arg(long, value_name = "AMOUNT")]
    cap: Option<String>,
    /// Seconds that a code can be paid with
    #[arg(long, value_name = "SECONDS", default_value_t = LIFETIME_DEFAULT_S,
          value_parser = clap::value_parser!(u16).range(i64::from(LIFETIME_MIN_S)..=i64::from(LIFETIME_MAX_S)))]
    lifetime: u16,
    /// Print the digits too. They are money until they are spent: mind who looks on
    #[arg(long)]
    digits: bool,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, Args)]
struct WatchArgs {
    #[command(flatten)]
    folder: FolderArgs,
    /// End after the first notice or question, or when a question was answered here
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// [`picture::Symbology`] as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SymbologyArg {
    /// A square.
    Qr,
    /// Bars, for scanners that read lines only.
    Code128,
}

impl From<SymbologyArg> for picture::Symbology {
    fn from(symbology: SymbologyArg) -> Self {
        match symbology {
            SymbologyArg::Qr => Self::Qr,
            SymbologyArg::Code128 => Self::Code128,
        }
    }
}

pub(crate) async fn run(args: TerminalArgs, out: &Out) -> Result<(), Failure> {
    match args.command {
        Command::Link(args) => link::run(&args, out).await,
        Command::Show(args) => show::run(&args, out).await,
        Command::Watch(args) => watch::run(&args, out).await,
        Command::Confirm(args) => answer::run(&args, Verdict::Confirm, out).await,
        Command::Refuse(args) => answer::run(&args, Verdict::Refuse, out).await,
        Command::Unlink(args) => unlink::run(&args.dir, out).await,
    }
}
