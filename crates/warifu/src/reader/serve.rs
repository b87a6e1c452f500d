//! `warifu reader serve`: the agent for till software on the same machine. Plain HTTP and JSON, loopback addresses only;
//! `docs/reader.md` describes it for till makers.
//!
//! Laws: an order is paid by at most one attempt; every call that asks for a payment is answered by its deadline and the
//! grace of `warifu_reader::timing`; a till that goes away changes nothing, the attempt ends by itself; what has not
//! ended is in the journal, and the agent goes on with it until it has, across restarts.

mod agent;
mod api;
mod errors;
mod health;
mod keep;
mod later;
mod wire;

use std::sync::Arc;

use serde_json::json;
use warifu_server::serve::bind;
use warifu_server::telemetry::{init_logs, metrics_handle};

use self::agent::Agent;
use super::till::Till;
use super::{Folder, ServeArgs};
use crate::fail::Failure;
use crate::out::{self, Out};
use crate::stop;

pub(super) async fn run(args: &ServeArgs, out: &Out) -> Result<(), Failure> {
    if !args.listen.ip().to_canonical().is_loopback() {
        return Err(Failure::usage(format_args!(
            "--listen {}: the agent takes orders from whoever reaches it, so it listens on this machine only",
            args.listen
        ))
        .next("give a loopback address: --listen 127.0.0.1:7300"));
    }
    let till = Till::open(&Folder::new(&args.folder.dir)).await?;
    init_logs(out::log_format());
    // Before anything is counted.
    metrics_handle();
    let bound = bind(args.listen, None).await.map_err(|error| {
        Failure::usage("").because(&error).next("is another agent running? give another --listen")
    })?;
    let following = till.directory.spawn();
    let agent = Arc::new(Agent::new(till, args.recent_minutes));
    agent.take_up()?;
    let url = format!("http://{}", bound.local_addr());
    out.say(format_args!("the till is served at {url}; Ctrl-C ends it"));
    out.object(&json!({ "url": url }));
    let served = bound.serve(api::router(Arc::clone(&agent)), stop::wished()).await;
    following.abort();
    served.map_err(|error| Failure::unreachable("the agent ended").because(&error))
}
