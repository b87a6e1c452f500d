//! The body of a request: read once, bounded in size and time. What is too large is refused without reading on.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use warifu_proto::limits::BODY_MAX_BYTES;
use warifu_proto::problem::ProblemCode;

use crate::problem::ApiProblem;

/// How long a body may take: 64 KiB in 10 s is the speed of a bad modem.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the body.
///
/// # Errors
/// The refusal, which also closes the connection, because the rest of the body is still on it.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Response> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|it| it.to_str().ok())
        .and_then(|it| it.parse::<u64>().ok());
    if announced.is_some_and(|it| usize::try_from(it).map_or(true, |it| it > BODY_MAX_BYTES)) {
        return Err(close(too_large()));
    }
    if axum::body::HttpBody::is_end_stream(&body) {
        return Ok(Bytes::new());
    }
    match tokio::time::timeout(BODY_TIMEOUT, collect(body)).await {
        Ok(read) => read.map_err(close),
        Err(_elapsed) => {
            let detail = "The body did not arrive within 10 seconds. Repeat the request.";
            Err(close(ApiProblem::new(ProblemCode::NotAccepted, detail)))
        }
    }
}

/// Most bodies are one frame, which is handed on as it is; others are put together.
async fn collect(mut body: Body) -> Result<Bytes, ApiProblem> {
    use axum::body::HttpBody;
    let mut first = Bytes::new();
    let mut more: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiProblem::new(ProblemCode::Malformed, "The body broke off.").caused_by(error)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        let so_far = more.as_ref().map_or(first.len(), BytesMut::len);
        if so_far.saturating_add(data.len()) > BODY_MAX_BYTES {
            return Err(too_large());
        }
        match &mut more {
            Some(all) => all.extend_from_slice(&data),
            None if first.is_empty() => first = data,
            None => {
                let mut all = BytesMut::with_capacity(BODY_MAX_BYTES.min(first.len() * 4));
                all.extend_from_slice(&first);
                all.extend_from_slice(&data);
                more = Some(all);
            }
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(more.map_or(first, BytesMut::freeze))
}

fn too_large() -> ApiProblem {
    ApiProblem::new(ProblemCode::TooLarge, "A body has at most 65536 bytes.")
}

fn close(problem: ApiProblem) -> Response {
    let mut response = problem.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Refuses a request whose body was not read: the connection is closed if there is one.
pub(super) fn closing(request: &Request, problem: ApiProblem) -> Response {
    use axum::body::HttpBody;
    if request.body().is_end_stream() { problem.into_response() } else { close(problem) }
}
