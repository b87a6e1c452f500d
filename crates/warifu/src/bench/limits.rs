//! What this machine can do at most, measured with the same calls as the product's: durable appends, HTTP echo,
//! signature checks. A figure beside its limit says more than a figure.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use warifu_proto::code::{Code, Prefix};
use warifu_proto::id::CredentialId;
use warifu_proto::registration::{Registration, Statement, tag};
use warifu_server::client::Peer;
use warifu_server::{chance, clock, serve};

use super::line::{Body, Line, Signer, Target};
use crate::out::Out;

/// Written before the clock starts, so that no append makes the file longer: 64 MiB.
const FILE_BYTES: u64 = 64 << 20;
/// What a payment's request and answer have.
const REQUEST_BYTES: usize = 150;
const ANSWER_BYTES: usize = 620;
/// Connections of the echo.
const CONNECTIONS: usize = 64;

/// All a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Where a journal is on a disk.
    pub(super) appends: Option<Appends>,
    /// Bodies of a payment's size sent and answered, nothing signed, nothing parsed; 64 connections.
    pub(super) echoes: u64,
    /// P-256 checks of a registration on one core, and on all together.
    pub(super) checks_one: u64,
    pub(super) checks_all: u64,
}

/// Durable appends a second, one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Appends {
    /// 4 KiB written over in place and synced.
    pub(super) of_4k: u64,
    /// The same of so many bytes as a commit had on average.
    pub(super) of_batch: u64,
    batch_bytes: u64,
}

impl Appends {
    /// Measures each for so many seconds.
    pub(super) fn measure(
        folder: &Path,
        batch_bytes: u64,
        seconds: u32,
        out: &Out,
    ) -> anyhow::Result<Self> {
        let span = Duration::from_secs(seconds.into());
        out.progress("measuring the machine's limits: durable appends");
        let batch_bytes = batch_bytes.clamp(512, 8 << 20);
        let (of_4k, of_batch) = (appends(folder, 4096, span)?, appends(folder, batch_bytes, span)?);
        Ok(Self { of_4k, of_batch, batch_bytes })
    }
}

impl Limits {
    /// Measures what a call costs at least, each for so many seconds.
    pub(super) fn of_calls(seconds: u32, out: &Out) -> anyhow::Result<Self> {
        let span = Duration::from_secs(seconds.into());
        out.progress("measuring the machine's limits: HTTP echo");
        let echoes = echoes(span)?;
        out.progress("measuring the machine's limits: signature checks");
        let cores = std::thread::available_parallelism()?.get();
        let (checks_one, checks_all) = (checks(1, span)?, checks(cores, span)?);
        Ok(Self { appends: None, echoes, checks_one, checks_all })
    }

    pub(super) fn object(&self) -> Value {
        json!({
            "appends_4k_per_second": self.appends.map(|it| it.of_4k),
            "appends_of_a_batch_per_second": self.appends.map(|it| it.of_batch),
            "batch_bytes": self.appends.map(|it| it.batch_bytes),
            "echoes_per_second": self.echoes,
            "p256_checks_one_core_per_second": self.checks_one,
            "p256_checks_all_cores_per_second": self.checks_all,
        })
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!(
                "limits     {} HTTP echoes/s of bodies of {REQUEST_BYTES} and {ANSWER_BYTES} bytes on {CONNECTIONS} connections, server and generator on these cores",
                self.echoes
            ),
            format!(
                "           {} P-256 checks/s on one core, {} on all",
                self.checks_one, self.checks_all
            ),
        ];
        lines.extend(self.appends.map(|it| {
            format!(
                "           {} durable appends/s of 4 KiB, {}/s of {} bytes (a mean commit), written over in place",
                it.of_4k, it.of_batch, it.batch_bytes
            )
        }));
        lines
    }
}

fn per_second(count: u64, took: Duration) -> u64 {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    count.saturating_mul(1_000_000) / us
}

fn appends(folder: &Path, bytes: u64, span: Duration) -> anyhow::Result<u64> {
    let path = folder.join("limit");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let block = vec![0x5a; usize::try_from(bytes)?];
    for at in 0..FILE_BYTES.div_ceil(bytes) {
        file.write_all_at(&block, at * bytes)?;
    }
    file.sync_all()?;
    let (began, mut count, mut at) = (Instant::now(), 0, 0);
    while began.elapsed() < span {
        file.write_all_at(&block, at)?;
        file.sync_data()?;
        at = if at + 2 * bytes > FILE_BYTES { 0 } else { at + bytes };
        count += 1;
    }
    let took = began.elapsed();
    std::fs::remove_file(&path)?;
    Ok(per_second(count, took))
}

/// As the servers and the generator run: a worker per core for each.
fn echoes(span: Duration) -> anyhow::Result<u64> {
    let cores = std::thread::available_parallelism()?.get();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(cores).enable_all().build()
    };
    let (server, generator) = (runtime()?, runtime()?);
    let answer = Bytes::from(format!("{{\"echo\":\"{}\"}}", "x".repeat(ANSWER_BYTES - 11)));
    let routes = Router::new().route(
        "/echo",
        post(async move |body: Bytes| {
            drop(body);
            ([("content-type", "application/json")], answer.clone())
        }),
    );
    let bound = server.block_on(serve::bind("127.0.0.1:0".parse()?, None))?;
    let url = format!("http://{}", bound.local_addr());
    server.spawn(bound.serve(routes, std::future::pending()));
    let peer = Peer { url, key: chance::key().public().clone() };
    let target =
        Arc::new(Target::new(&peer, Signer::Nobody, false).map_err(|it| anyhow::anyhow!("{it}"))?);
    let body = Body::of(&json!({ "echo": "x".repeat(REQUEST_BYTES - 11) }));
    let began = Instant::now();
    let count = generator.block_on(async {
        let mut hands = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (mut line, target, body) = (Line::default(), Arc::clone(&target), body.clone());
            hands.spawn(async move {
                let mut count = 0_u64;
                while began.elapsed() < span {
                    line.ask::<IgnoredAny>(&target, "/echo", &body)
                        .await
                        .map_err(|it| anyhow::anyhow!(it))?;
                    count += 1;
                }
                anyhow::Ok(count)
            });
        }
        let mut count = 0;
        while let Some(hand) = hands.join_next().await {
            count += hand??;
        }
        anyhow::Ok(count)
    })?;
    let took = began.elapsed();
    generator.shutdown_background();
    server.shutdown_background();
    Ok(per_second(count, took))
}

fn checks(threads: usize, span: Duration) -> anyhow::Result<u64> {
    let key = chance::key();
    let prefix = Prefix::parse("71000001")?;
    let code = Code::make(prefix, 0, &[7; 64])?;
    let statement = Statement {
        prefix,
        locator: code.locator(prefix),
        lifetime_s: 60,
        sequence: 1,
        credential: CredentialId::from_raw([7; 16]),
        tag: tag(&[7; 32], &code),
        issued_at: clock::now(),
        currency_number: 392,
        cap_minor: 0,
    };
    let registration = Registration::decode(&statement.sign(&key).encode())?;
    let began = Instant::now();
    let count = std::thread::scope(|scope| {
        let check = || {
            let mut count = 0_u64;
            while began.elapsed() < span {
                anyhow::ensure!(registration.is_signed_by(key.public()), "a good signature is bad");
                count += 1;
            }
            anyhow::Ok(count)
        };
        let hands: Vec<_> = (0..threads).map(|_| scope.spawn(check)).collect();
        hands.into_iter().try_fold(0, |sum, hand| {
            let count = hand.join().map_err(|_| anyhow::anyhow!("a check panicked"))??;
            anyhow::Ok(sum + count)
        })
    })?;
    Ok(per_second(count, began.elapsed()))
}
