//! `warifu demo`: a whole network in one process, over real HTTP, with a first payment.
//!
//! It uses the very folders and functions of the other commands, so everything that it made can be gone on with by
//! hand in another shell, or served again role by role.

mod parts;
mod sales;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use self::parts::{DemoNetwork, FirstPayment};
use self::sales::Sales;
use crate::fail::Failure;
use crate::local::How;
use crate::out::{self, Out};
use crate::wire::{Faults, GRAMMAR, Plan};
use crate::{paths, stop};

const EXAMPLE: &str = "Example:
  warifu demo
  warifu demo --once --json
  warifu demo --dir my-network
  warifu demo --faults 'reader-issuer.answer:drop=0.5,*:delay=0.3@2000,reader-issuer:kill=0.05'";

/// Try it: a whole network in one process, with a first payment.
///
/// Starts a hub, two issuers (Aoba Pay, prepaid, and Kaede Later, pay-later), a merchant with a reader, and a terminal,
/// over real HTTP on free ports of this machine; every answer is on disk before it is given. It stays up until Ctrl-C and
/// prints commands to try in another shell.
///
/// With --faults every server is a process of its own behind a wire that loses, delays and repeats messages, and kills
/// the server. Nothing is done to the network until the first payment is made; from then on there is a payment every
/// second, and a line that tells what happened to it and how it ended.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE, after_long_help = format!("{EXAMPLE}\n\n{GRAMMAR}"))]
pub(crate) struct DemoArgs {
    /// End after the first payment
    #[arg(long)]
    once: bool,
    /// Do this to the network on purpose, such as *:drop=0.1; the grammar is at the end of --help
    #[arg(long, value_name = "SPEC")]
    faults: Option<Plan>,
    /// With --faults: end after so many payments
    #[arg(long, value_name = "N", requires = "faults", value_parser = clap::value_parser!(u32).range(1..))]
    payments: Option<u32>,
    /// Keep the files in this new folder [default: a temporary one, deleted at the end]
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) async fn run(args: DemoArgs, out: &Out) -> Result<(), Failure> {
    let began = Instant::now();
    // On a bad network the log repeats what each line tells, unless somebody asks for it.
    let is_asked_for = std::env::var_os("RUST_LOG").is_some();
    if !args.once && (args.faults.is_none() || is_asked_for) {
        warifu_server::telemetry::init_logs(out::log_format());
    }
    let temporary =
        match &args.dir {
            Some(_) => None,
            None => Some(tempfile::tempdir().map_err(|error| {
                Failure::usage("no temporary folder can be made").because(&error)
            })?),
        };
    let dir = match (&args.dir, &temporary) {
        (Some(dir), _) => {
            std::path::absolute(dir).map_err(|error| paths::cannot("used", dir, &error))?
        }
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => return Err(Failure::usage("there is no folder")),
    };
    let done = demo(&args, &dir, began, out).await;
    if let Some(temporary) = temporary {
        paths::clear(temporary).await;
    }
    done
}

async fn demo(args: &DemoArgs, dir: &Path, began: Instant, out: &Out) -> Result<(), Failure> {
    out.progress("starting a hub, two issuers, a merchant …");
    let faults = args.faults.clone().map(Faults::new);
    // With processes to end, a signal may no longer end just this one.
    let stopped = faults.is_some().then(stop::wished);
    let how = match &faults {
        Some((faults, _)) => How::BehindWires(Arc::clone(faults)),
        None => How::Here,
    };
    let network = DemoNetwork::start(dir, &how, out).await?;
    let first = network.first_payment().await?;
    let ready_ms = parts::ms(began.elapsed());
    out.object(&object(&network, &first, ready_ms));
    tell(&network, &first, dir, ready_ms, out);
    match faults.zip(stopped) {
        Some(((faults, told), stopped)) => {
            let sales = Sales::open(&network, faults, told, out).await?;
            out.say("");
            sales.make(args.payments.or(args.once.then_some(1)), stopped).await;
        }
        None if args.once => {}
        None => {
            tell_what_to_try(&network, dir, out);
            stop::wished().await;
            out.say("stopping");
        }
    }
    network.local.stop().await
}

fn object(network: &DemoNetwork, first: &FirstPayment, ready_ms: f64) -> Value {
    let issuers: Vec<_> = network
        .local
        .issuers
        .iter()
        .map(|it| json!({ "name": it.card.name, "prefix": it.card.prefix, "url": it.server.url, "dir": it.dir }))
        .collect();
    let invitations: Vec<_> = network
        .spare_invitations
        .iter()
        .map(|(prefix, link)| json!({ "prefix": prefix, "link": link }))
        .collect();
    json!({
        "hub": { "url": network.local.hub.url },
        "issuers": issuers,
        "merchant_id": network.local.merchant_id,
        "reader_id": first.reader_id,
        "payment": first.payment,
        "timings_ms": { "show": first.show_ms, "register": first.register_ms, "pay": first.pay_ms, "ready": ready_ms },
        "spare_invitations": invitations,
        "spare_pairing_links": network.spare_pairing_links,
        "store": parts::STORE,
        "dir": network.local.dir,
    })
}

fn tell(network: &DemoNetwork, first: &FirstPayment, dir: &Path, ready_ms: f64, out: &Out) {
    out.say(format_args!("hub          {}", network.local.hub.url));
    for issuer in &network.local.issuers {
        out.say(format_args!(
            "issuer       {} ({}) at {}",
            issuer.card.name, issuer.card.prefix, issuer.server.url
        ));
    }
    out.say(format_args!("merchant     Aoba Bakery ({})", network.local.merchant_id));
    out.say(format_args!("store        {}", parts::STORE));
    out.say(format_args!("files        {}", dir.display()));
    out.say("");
    let payment = &first.payment;
    let amount = json!(payment.amount);
    out.say(format_args!(
        "first payment  {} {} {}, {}",
        json!(payment.status).as_str().unwrap_or_default(),
        amount["minor"],
        amount["currency"].as_str().unwrap_or_default(),
        payment.payment_id
    ));
    out.say(format_args!(
        "               code shown in {:.1} ms, registered in {:.1} ms, paid in {:.1} ms; {ready_ms:.0} ms after the start of the program",
        first.show_ms, first.register_ms, first.pay_ms
    ));
}

fn tell_what_to_try(network: &DemoNetwork, dir: &Path, out: &Out) {
    let program =
        std::env::current_exe().map_or_else(|_| "warifu".to_owned(), |path| paths::shown(&path));
    let at = |name: &str| paths::shown(&dir.join(name));
    out.say("\nTry in another shell:\n");
    out.say("# show a code on the demo's phone, and let the till scan its picture");
    out.say(format_args!("{program} terminal show --dir {} --once --out code.png", at("phone")));
    out.say(format_args!(
        "{program} reader pay --dir {} --amount 1200 --image code.png",
        at("till")
    ));
    if let Some((_, link)) = network.spare_invitations.last() {
        out.say(
            "\n# link a second phone, to the pay-later issuer, and keep its code on the screen",
        );
        out.say(format_args!(
            "{program} terminal link {} --dir phone2 --label 'My phone'",
            paths::quoted(link)
        ));
        out.say(format_args!("{program} terminal show --dir phone2"));
    }
    if let Some(link) = network.spare_pairing_links.first() {
        out.say("\n# pair a second till");
        out.say(format_args!(
            "{program} reader pair {} --dir till2 --name 'Till 2'",
            paths::quoted(link)
        ));
    }
    if let Some(issuer) = network.local.issuers.first() {
        out.say("\n# look into the issuer's books");
        out.say(format_args!("{program} issuer accounts --dir {}", paths::shown(&issuer.dir)));
        out.say(format_args!("{program} issuer payments --dir {}", paths::shown(&issuer.dir)));
    }
    out.say(
        "\nMore to join with (each works once; invitations for 15 minutes, pairing links for 10):",
    );
    for (prefix, link) in &network.spare_invitations {
        out.say(format_args!("  invitation of {prefix}  {link}"));
    }
    for link in &network.spare_pairing_links {
        out.say(format_args!("  pairing link  {link}"));
    }
    out.say("\nCtrl-C ends it.");
}
