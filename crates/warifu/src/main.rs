//! The one program people install. This file is its frame: arguments, runtime, exit code. Each role has a file;
//! each command is `async fn run(args, &Out) -> Result<(), Failure>` and prints by [`out::Out`] alone.

mod bench;
mod calls;
mod card;
mod demo;
mod directory;
mod fail;
mod hub;
mod issuer;
mod kept;
mod local;
mod merchant;
mod network;
mod out;
mod paths;
mod payer;
mod reader;
mod registrar;
mod stop;
mod storm;
mod terminal;
mod verify;
mod wire;

use std::future::Future;
use std::num::NonZero;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::fail::{Exit, Failure};
use crate::out::Out;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `{subcommands}` would be one list in one order; a network has a life, so this names each command where it
/// belongs. A test below compares it with what exists.
const HELP: &str = "\
Payment by showing a code, as an open network that anybody can run. The payer's phone makes the code,
the till scans it, and the issuer of the payer's account has a final answer at once.

Usage: warifu [--json] <COMMAND>

Try it
  demo       A whole network in one process, with a first payment
  bench      Measure a network: payments a second, latencies, CPU time
  storm      Check a network in a storm: lost and doubled messages, killed servers

Run a network, in the order of its life
  registrar  Say who belongs to the network: sign hubs, issuers, merchants, currencies
  hub        The first settlement server: route a code's registration to its issuer
  issuer     The second settlement server: accounts, invitations, payments
  verify     Prove that everything an issuer keeps agrees with its journal
  merchant   Be paid: pair readers, suspend them

Take part
  terminal   The payer's device: link an account, show a code
  reader     The merchant's device: scan a code, be paid

Options:
{options}

Environment:
  WARIFU_CA_FILE           Further roots that commands trust, PEM
  WARIFU_<ROLE>_<SETTING>  Any setting of a role's file, such as WARIFU_HUB_LISTEN
  RUST_LOG                 What servers log, such as info or warifu_issuer=debug

Example:
  warifu demo
  warifu hub init --help";

#[derive(Debug, Parser)]
#[command(
    name = "warifu",
    version,
    help_template = HELP,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
struct Cli {
    /// Print JSON for programs instead of prose: one object on one line
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Try it: a whole network in one process, with a first payment.
    Demo(demo::DemoArgs),
    /// Measure a network: payments a second, latencies, CPU time.
    Bench(bench::BenchArgs),
    /// Check a network in a storm: lost, late and doubled messages, killed servers and readers.
    Storm(storm::StormArgs),
    /// Say who belongs to the network: sign hubs, issuers, merchants, currencies.
    Registrar(registrar::RegistrarArgs),
    /// The first settlement server: route a code's registration to its issuer.
    Hub(hub::HubArgs),
    /// The second settlement server: accounts, invitations, payments.
    Issuer(issuer::IssuerArgs),
    /// Prove that everything an issuer keeps agrees with its journal.
    Verify(verify::VerifyArgs),
    /// Be paid: pair readers, suspend them.
    Merchant(merchant::MerchantArgs),
    /// The payer's device: link an account, show a code.
    Terminal(terminal::TerminalArgs),
    /// The merchant's device: scan a code, be paid.
    Reader(reader::ReaderArgs),
}

impl Role {
    /// Whether many calls have to be served at once.
    fn serves(&self) -> bool {
        match self {
            Self::Demo(_) | Self::Bench(_) | Self::Storm(_) => true,
            Self::Hub(args) => args.serves(),
            Self::Issuer(args) => args.serves(),
            Self::Reader(args) => args.serves(),
            Self::Registrar(_) | Self::Merchant(_) | Self::Terminal(_) | Self::Verify(_) => false,
        }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let out = Out::new(cli.json);
    match in_runtime(cli.role.serves(), run(cli.role, &out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.print(&out)),
    }
}

/// Help and version were asked for, or the arguments make no sense.
fn misused(error: &clap::Error) -> ExitCode {
    // The arguments could not be read, so whether a program reads is looked up in them by hand.
    let out = Out::new(std::env::args_os().any(|it| it == "--json"));
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            out.raw(&text);
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !out.json => {
            out.help_instead(&text);
            ExitCode::from(Exit::Usage.code())
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            ExitCode::from(Failure::usage("a command is missing").next("see --help").print(&out))
        }
        _ => ExitCode::from(misunderstood(&text).print(&out)),
    }
}

/// What clap says, as one of our failures: its sentence with its tips, and where to read on.
fn misunderstood(text: &str) -> Failure {
    let mut parts = text.trim().split("\n\n");
    let first = parts.next().unwrap_or_default().trim_start_matches("error: ");
    let mut message = first.to_owned();
    let mut help = "warifu --help".to_owned();
    for part in parts {
        if let Some(usage) = part.strip_prefix("Usage: ") {
            let plain = |word: &&str| word.bytes().all(|it| it.is_ascii_lowercase() || it == b'-');
            let command: Vec<&str> = usage
                .split_whitespace()
                .take_while(plain)
                .take_while(|it| !it.starts_with('-'))
                .collect();
            help = format!("{} --help", command.join(" "));
        } else if part.trim_start().starts_with("tip:") {
            message = format!("{message}\n{part}");
        }
    }
    Failure::usage(message).next(help)
}

/// Servers and the demo get a worker per core; a client needs no thread but its own. With one worker less, as much is
/// paid and a third less is registered: signature checks fill a core (`docs/performance.md`).
fn in_runtime(
    serves: bool,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut builder = if serves {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(cores);
        builder
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::usage("the runtime can't be started").because(&error))?;
    let done = runtime.block_on(work);
    // A thread that still waits for standard input must not keep the program from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

async fn run(role: Role, out: &Out) -> Result<(), Failure> {
    match role {
        Role::Demo(args) => Box::pin(demo::run(args, out)).await,
        Role::Bench(args) => Box::pin(bench::run(args, out)).await,
        Role::Storm(args) => Box::pin(storm::run(args, out)).await,
        Role::Registrar(args) => Box::pin(registrar::run(args, out)).await,
        Role::Hub(args) => Box::pin(hub::run(args, out)).await,
        Role::Issuer(args) => Box::pin(issuer::run(args, out)).await,
        Role::Verify(args) => Box::pin(verify::run(args, out)).await,
        Role::Merchant(args) => Box::pin(merchant::run(args, out)).await,
        Role::Terminal(args) => Box::pin(terminal::run(args, out)).await,
        Role::Reader(args) => Box::pin(reader::run(args, out)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, CommandFactory as _};

    fn each_command(command: &Command, path: &str, see: &mut impl FnMut(&Command, &str)) {
        see(command, path);
        for sub in command.get_subcommands() {
            each_command(sub, &format!("{path} {}", sub.get_name()), see);
        }
    }

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_argument_leads_to_the_help_of_its_command() {
        let said = |args: &[&str]| {
            let error = Cli::try_parse_from(args).unwrap_err();
            let failure = misunderstood(&error.render().to_string());
            (failure.message, failure.next.unwrap())
        };
        let (message, next) = said(&["warifu", "hub", "init", "--netwrk", "x"]);
        assert!(message.contains("'--netwrk'") && message.contains("'--network'"), "{message}");
        assert_eq!(next, "warifu hub init --help");
        let (message, next) = said(&["warifu", "merchant", "suspend-reader"]);
        assert!(message.contains("<RDR>"), "{message}");
        assert_eq!(next, "warifu merchant suspend-reader --help");
        assert_eq!(said(&["warifu", "shop"]).1, "warifu --help");
    }

    #[test]
    fn the_first_help_names_every_command() {
        for role in Cli::command().get_subcommands() {
            assert!(HELP.contains(&format!("\n  {:<11}", role.get_name())), "{}", role.get_name());
        }
    }

    #[test]
    fn every_command_has_an_example_that_can_be_typed() {
        each_command(&Cli::command(), "warifu", &mut |command, path| {
            let help = command.clone().render_long_help().to_string();
            let (_, example) = help.split_once("Example:").unwrap_or_else(|| panic!("{path}"));
            assert!(example.contains(path), "{path} is not in its own example");
        });
    }
}
