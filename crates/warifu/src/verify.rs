//! `warifu verify`: proves that an issuer's files agree with its journal, from its folder or by asking it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use reqwest::Method;
use serde_json::json;
use warifu_core::vault::Vault;
use warifu_issuer::verify::{Report, verify};
use warifu_server::keyfile;

use crate::fail::{Exit, Failure};
use crate::issuer::{self, Office};
use crate::out::Out;
use crate::paths;

/// How long an issuer may take to verify itself.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How often progress is told.
const TELL: Duration = Duration::from_secs(1);

/// Prove that everything an issuer keeps agrees with its journal.
///
/// Makes all of the state again from the journal, in two ways that share no code, with every link of the hash chain, and
/// compares the ways with each other, with the snapshots, the index of request ids and the views: balances, reserved money,
/// limits' counters, payments, request ids. Nothing is written, and the issuer may be running. Exit code 0: all of it
/// agrees. 1: something differs. docs/verify.md says more.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  warifu verify aoba
  warifu verify aoba --json
  warifu verify http://127.0.0.1:7101 --office aoba")]
pub(crate) struct VerifyArgs {
    /// The issuer's folder, or the address of a running one
    #[arg(value_name = "DIR|URL")]
    target: String,
    /// With an address: the operator's folder, with operator.key and issuer.card.json
    #[arg(long, value_name = "DIR", default_value = "issuer")]
    office: PathBuf,
}

pub(crate) async fn run(args: VerifyArgs, out: &Out) -> Result<(), Failure> {
    let report = if args.target.starts_with("http://") || args.target.starts_with("https://") {
        let office = Office::at(&args.office, &args.target)?;
        out.progress("the issuer verifies itself");
        let report = office.call_for(Method::POST, "/admin/v1/verify", PATIENCE).await?;
        serde_json::from_value(report)
            .map_err(|error| Failure::refused("the report can't be read").because(&error))?
    } else {
        in_folder(Path::new(&args.target), out)?
    };
    tell(&report, &args.target, out);
    if report.is_clean() { Ok(()) } else { Err(Failure::told(Exit::Refused)) }
}

fn in_folder(dir: &Path, out: &Out) -> Result<Report, Failure> {
    let config = issuer::load(dir)?;
    let vault = Vault::new(*keyfile::read_secret(dir.join(&config.vault_key_file))?);
    let mut told = Instant::now();
    let mut progress = |entries: u64| {
        if told.elapsed() >= TELL {
            told = Instant::now();
            out.progress(format_args!("{entries} entries"));
        }
    };
    Ok(verify(&dir.join(&config.data), config.prefix, &vault, &mut progress)?)
}

fn tell(report: &Report, target: &str, out: &Out) {
    let rows: Vec<Vec<String>> =
        report.checked.iter().map(|(what, count)| vec![what.clone(), count.to_string()]).collect();
    out.table(&["checked", "how many"], &rows);
    for difference in &report.differences {
        out.say(format_args!("DIFFERS  {difference}"));
    }
    let told = u64::try_from(report.differences.len()).unwrap_or_default();
    let more = report.differences_count.saturating_sub(told);
    if more > 0 {
        out.say(format_args!("… and {more} more differences"));
    }
    let entries = report.checked.get("entries").copied().unwrap_or_default();
    let rate = entries.saturating_mul(1000) / report.took_ms.max(1);
    let took = format!("{} ms, {rate} entries a second", report.took_ms);
    if report.is_clean() {
        out.say(format_args!("all of it agrees ({took})"));
    } else {
        out.say(format_args!("{} differences ({took})", report.differences_count));
        out.say(
            "Stop the issuer and keep a copy of the folder before anything else. Differences in views or index alone \
             are mended by removing views.db or index.db: they are made again at the next start.",
        );
    }
    out.object(&json!({
        "target": paths::shown(Path::new(target)),
        "clean": report.is_clean(),
        "checked": report.checked,
        "differences": report.differences,
        "differences_count": report.differences_count,
        "took_ms": report.took_ms,
    }));
}
