//! Logs, metrics and health: what an operator sees.
//!
//! Logs go to stderr, one line an event; `RUST_LOG` filters them. No code, key, name or amount is ever logged; a
//! request is named by the log id that its caller finds in `instance`.

use std::sync::{Arc, OnceLock};

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Filter when `RUST_LOG` says nothing.
const FILTER_DEFAULT: &str = "info";

/// Starts logging on stderr. A second call changes nothing.
pub fn init_logs(format: LogFormat) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER_DEFAULT));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        return;
    }
    // A panic is a log line like any other, so that a log reader sees it.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or_default();
        tracing::error!(place, text, "panic");
    }));
}

/// Upper bounds of the buckets of spans of time, in seconds: from a request that touches memory only to a long poll.
const SECONDS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Upper bounds of the buckets of counts: how much goes into a commit.
const COUNTS: [f64; 13] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// The metrics of this process. The first call installs the recorder; make it before anything is counted.
pub fn metrics_handle() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
                .expect("the list of buckets is not empty")
                .set_buckets_for_metric(Matcher::Suffix("_entries".to_owned()), &COUNTS)
                .expect("the list of buckets is not empty")
                .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), &COUNTS)
                .expect("the list of buckets is not empty")
                .build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("another metrics recorder is installed: /metrics stays empty");
            }
            handle
        })
        .clone()
}

/// `/healthz` (the process answers), `/readyz` (the closure says whether it can do its work, and if not, why not) and
/// `/metrics` (Prometheus text). Merge them after [`crate::edge::apply`]: they are unsigned and answer under overload.
pub fn health_routes<F>(ready: F) -> axum::Router
where
    F: Fn() -> Result<(), String> + Send + Sync + 'static,
{
    let ready = Arc::new(ready);
    axum::Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route(
            "/readyz",
            get(async move || match ready() {
                Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
                Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            }),
        )
        .route("/metrics", get(metrics_text))
}

async fn metrics_text() -> impl IntoResponse {
    let text = metrics_handle().render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorder_is_installed_once_and_counts() {
        let handle = metrics_handle();
        metrics::counter!("telemetry_test_total").increment(2);
        metrics::histogram!("telemetry_test_seconds").record(0.003);
        let text = metrics_handle().render();
        assert!(text.contains("telemetry_test_total 2"), "{text}");
        assert!(text.contains("telemetry_test_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        assert_eq!(handle.render(), text);
    }
}
