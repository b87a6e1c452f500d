//! `plain`: code payments as most teams would build them, to be measured beside Warifu.
//!
//! One database transaction a payment, with row locks, on PostgreSQL; balances updated in place; requests unsigned.

mod books;
mod load;
mod pay;
mod serve;

use clap::{Parser, Subcommand};

// Warifu's allocator, so that it makes no difference.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Code payments on PostgreSQL, one transaction each, and a load for them.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the tables anew, with accounts, merchants and registered codes
    Prepare(books::Prepare),
    /// Answer `POST /v1/payments`
    Serve(serve::Serve),
    /// Pay with the registered codes, in a closed loop; prints JSON
    Load(load::Load),
    /// See that the books balance and hold that many payments
    Check(books::Check),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Prepare(args) => books::prepare(&args).await,
        Command::Serve(args) => serve::run(&args).await,
        Command::Load(args) => load::run(&args).await,
        Command::Check(args) => books::check(&args).await,
    }
}
