//! Load in a closed loop: so many connections, each asks again as soon as it was answered. Bodies are made ahead; what is
//! answered while it warms up, or after the end, is not counted, but for its errors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::{Args, value_parser};
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Map, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::books::{CURRENCY, code};
use crate::serve::MERCHANT;

/// Longest latency that is told apart.
const LATENCY_MAX_US: u64 = 60_000_000;
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Where `serve` listens
    #[arg(long)]
    authority: String,
    /// Connections that are kept open
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u16).range(1..=4096))]
    connections: u16,
    /// As of `prepare`
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    merchants: u32,
    /// As of `prepare`
    #[arg(long, default_value_t = 100_000)]
    codes: u64,
    /// Before the clock starts
    #[arg(long, default_value_t = 2)]
    warm_up_seconds: u64,
    /// How long to measure
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..))]
    seconds: u64,
}

struct Round {
    authority: String,
    bodies: Vec<Bytes>,
    merchants: usize,
    next: AtomicUsize,
    /// The clock runs from here …
    from: Instant,
    /// … to here.
    until: Instant,
}

struct Sample {
    latencies: Histogram<u64>,
    approved: u64,
    faults: BTreeMap<String, u64>,
}

pub(crate) async fn run(args: &Load) -> anyhow::Result<()> {
    let bodies = (0..args.codes).map(body).collect();
    let from = Instant::now() + Duration::from_secs(args.warm_up_seconds);
    let seconds = Duration::from_secs(args.seconds);
    let round = Arc::new(Round {
        authority: args.authority.clone(),
        bodies,
        merchants: usize::try_from(args.merchants)?,
        next: AtomicUsize::new(0),
        from,
        until: from + seconds,
    });
    let mut workers = JoinSet::new();
    for _ in 0..args.connections {
        workers.spawn(work(Arc::clone(&round)));
    }
    let mut all = Sample::new()?;
    while let Some(sample) = workers.join_next().await {
        all.add(&sample??)?;
    }
    let done = all.latencies.len();
    let quantiles = QUANTILES
        .iter()
        .map(|(name, it)| ((*name).to_owned(), json!(all.latencies.value_at_quantile(*it))));
    let mut whole: Map<_, _> = quantiles.collect();
    whole.insert("max".to_owned(), json!(all.latencies.max()));
    let errors: u64 = all.faults.values().sum();
    let report = json!({
        "errors": errors,
        "faults": all.faults,
        "scenario": "pay-only",
        "loop": "closed",
        "connections": args.connections,
        "merchants": args.merchants,
        "approved_with_warm_up": all.approved,
        "done": done,
        "measured_ms": seconds.as_millis(),
        "per_second": done / args.seconds,
        "latency_us": { "whole": whole },
        "signed": "unsigned",
    });
    println!("{report}");
    ensure!(errors == 0, "{errors} errors: {:?}", all.faults);
    Ok(())
}

/// A payment by the how-manieth code: what Warifu's reader sends.
fn body(number: u64) -> Bytes {
    let body = json!({
        "request_id": format!("bench-{number:026}"),
        "code": code(number),
        "amount": { "minor": 1, "currency": CURRENCY },
        "capture": "now",
    });
    body.to_string().into()
}

async fn work(round: Arc<Round>) -> anyhow::Result<Sample> {
    let mut sample = Sample::new()?;
    let mut sender = connect(&round.authority).await?;
    loop {
        let start = Instant::now();
        if start >= round.until {
            return Ok(sample);
        }
        let number = round.next.fetch_add(1, Ordering::Relaxed);
        let Some(body) = round.bodies.get(number) else {
            sample.fault("no code was left: register more".to_owned());
            return Ok(sample);
        };
        let merchant = number % round.merchants;
        match ask(&mut sender, &round.authority, merchant, body.clone()).await {
            Ok(()) => {
                sample.approved += 1;
                let end = Instant::now();
                if end >= round.from && end < round.until {
                    let us = u64::try_from((end - start).as_micros()).unwrap_or(u64::MAX);
                    sample.latencies.saturating_record(us);
                }
            }
            Err(fault) => {
                sample.fault(format!("{fault:#}"));
                sender = connect(&round.authority).await?;
            }
        }
    }
}

/// Pays; anything but an approval is a fault, for everybody has enough.
async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    authority: &str,
    merchant: usize,
    body: Bytes,
) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Paid {
        status: String,
        rejection: Option<String>,
    }
    let request = Request::post("/v1/payments")
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/json")
        .header(MERCHANT, merchant)
        .body(Full::new(body))?;
    sender.ready().await?;
    let (parts, answer) = sender.send_request(request).await?.into_parts();
    let answer = answer.collect().await?.to_bytes();
    ensure!(
        parts.status == StatusCode::OK,
        "{} {}",
        parts.status.as_u16(),
        String::from_utf8_lossy(&answer)
    );
    let paid: Paid = serde_json::from_slice(&answer)?;
    let why = paid.rejection.as_deref().unwrap_or_default();
    ensure!(paid.status == "approved", "{} {why}", paid.status);
    Ok(())
}

async fn connect(authority: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(authority).await.context("nobody listens")?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // What ends the connection reaches the call that used it.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

impl Sample {
    fn new() -> anyhow::Result<Self> {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)?;
        Ok(Self { latencies, approved: 0, faults: BTreeMap::new() })
    }

    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.latencies.add(&other.latencies)?;
        self.approved += other.approved;
        for (fault, count) in &other.faults {
            *self.faults.entry(fault.clone()).or_default() += count;
        }
        Ok(())
    }

    fn fault(&mut self, fault: String) {
        *self.faults.entry(fault).or_default() += 1;
    }
}
