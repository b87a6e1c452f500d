//! How the agent does: one state for the till's screen, and metrics for who looks after many tills.

use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use warifu_proto::time::Timestamp;
use warifu_server::clock;
use warifu_server::telemetry::metrics_handle;

use super::agent::Agent;
use super::errors::Answer;
use crate::reader::till::COPY_OLD_MS;

/// How old something that has not ended may be before the agent calls itself degraded.
const UNRESOLVED_OLD_MS: u64 = 60_000;

impl Agent {
    /// `ok`, or `degraded` with what is wrong.
    pub(super) fn health(&self) -> Answer<Value> {
        let now = clock::now();
        let (count, oldest) = self.till.journal.unresolved()?;
        let age_ms = oldest.map(|at| now.since_ms(at));
        let directory = self.till.directory.current();
        let as_of = self.till.directory.as_of();
        let mut wrong: Vec<&str> = Vec::new();
        if age_ms.is_some_and(|ms| ms >= UNRESOLVED_OLD_MS) {
            wrong.push("something has not ended for a minute: it is being repeated");
        }
        if as_of.is_none_or(|at| now.since_ms(at) > COPY_OLD_MS) {
            wrong.push("the hub can't be reached: the directory is old");
        }
        let reach = self.till.reach();
        if reach.values().any(|it| it.failed_at > it.verified_at) {
            wrong.push("an issuer did not answer the last call");
        }
        let issuers: Vec<Value> = reach
            .iter()
            .map(|(prefix, it)| {
                let name = directory.issuer_of(&prefix.to_string()).map(|it| it.name.as_str());
                json!({
                    "prefix": prefix,
                    "name": name,
                    "last_verified_at": it.verified_at,
                    "last_failed_at": it.failed_at,
                })
            })
            .collect();
        Ok(json!({
            "state": if wrong.is_empty() { "ok" } else { "degraded" },
            "wrong": wrong,
            "issuers": issuers,
            "directory_as_of": as_of,
            "directory_age_s": as_of.map(|at| now.since_ms(at) / 1000),
            "unresolved": count,
            "oldest_unresolved_s": age_ms.unwrap_or(0) / 1000,
        }))
    }

    /// In Prometheus' text form.
    pub(super) fn metrics(&self) -> Answer<impl IntoResponse + use<>> {
        let (count, oldest) = self.till.journal.unresolved()?;
        metrics::gauge!("warifu_reader_unresolved").set(count);
        metrics::gauge!("warifu_reader_oldest_unresolved_age_seconds").set(age_s(oldest));
        let text = metrics_handle().render();
        Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
    }
}

fn age_s(oldest: Option<Timestamp>) -> u32 {
    let age_ms = oldest.map_or(0, |at| clock::now().since_ms(at));
    u32::try_from(age_ms / 1000).unwrap_or(u32::MAX)
}
