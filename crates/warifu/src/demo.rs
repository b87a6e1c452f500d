//! `warifu demo`: a whole network in one process, over real HTTP, with a first payment.
//!
//! It uses the very folders and functions of the other commands, so everything that it made can be gone on with by
//! hand in another shell, or served again role by role.

mod parts;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use self::parts::{DemoNetwork, FirstPayment};
use crate::fail::Failure;
use crate::out::{self, Out};
use crate::{paths, stop};

/// Try it: a whole network in one process, with a first payment.
///
/// Starts a hub, two issuers (Aoba Pay, prepaid, and Kaede Later, pay-later), a merchant with a reader, and a terminal,
/// over real HTTP on free ports of this machine; every answer is on disk before it is given. It stays up until Ctrl-C and
/// prints commands to try in another shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  warifu demo
  warifu demo --once --json
  warifu demo --dir my-network")]
pub(crate) struct DemoArgs {
    /// End after the first payment
    #[arg(long)]
    once: bool,
    /// Keep the files in this new folder [default: a temporary one, deleted at the end]
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) async fn run(args: DemoArgs, out: &Out) -> Result<(), Failure> {
    let began = Instant::now();
    if !args.once {
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
    out.progress("starting a hub, two issuers, a merchant …");
    let network = DemoNetwork::start(&dir, out).await?;
    let first = network.first_payment().await?;
    let ready_ms = parts::ms(began.elapsed());
    out.object(&object(&network, &first, ready_ms));
    tell(&network, &first, &dir, ready_ms, out);
    if !args.once {
        tell_what_to_try(&network, &dir, out);
        stop::wished().await;
        out.say("stopping");
    }
    network.stop().await
}

fn object(network: &DemoNetwork, first: &FirstPayment, ready_ms: f64) -> Value {
    let issuers: Vec<_> = network
        .issuers
        .iter()
        .map(|it| json!({ "name": it.card.name, "prefix": it.card.prefix, "url": it.running.url, "dir": it.dir }))
        .collect();
    let invitations: Vec<_> = network
        .spare_invitations
        .iter()
        .map(|(prefix, link)| json!({ "prefix": prefix, "link": link }))
        .collect();
    json!({
        "hub": { "url": network.hub.url },
        "issuers": issuers,
        "merchant_id": network.merchant_id,
        "reader_id": first.reader_id,
        "payment": first.payment,
        "timings_ms": { "show": first.show_ms, "register": first.register_ms, "pay": first.pay_ms, "ready": ready_ms },
        "spare_invitations": invitations,
        "spare_pairing_links": network.spare_pairing_links,
        "store": parts::STORE,
        "dir": network.dir,
    })
}

fn tell(network: &DemoNetwork, first: &FirstPayment, dir: &Path, ready_ms: f64, out: &Out) {
    out.say(format_args!("hub          {}", network.hub.url));
    for issuer in &network.issuers {
        out.say(format_args!(
            "issuer       {} ({}) at {}",
            issuer.card.name, issuer.card.prefix, issuer.running.url
        ));
    }
    out.say(format_args!("merchant     Aoba Bakery ({})", network.merchant_id));
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
    if let Some(issuer) = network.issuers.first() {
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
