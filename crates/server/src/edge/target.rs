//! Where a request is addressed to: the authority in one normal form, and the sanity of method and target.

use axum::extract::Request;
use axum::http::{Method, header};
use warifu_proto::problem::ProblemCode;

use crate::problem::ApiProblem;

/// The authority that a caller of this URL signs for: lower case, the scheme's default port left out.
pub fn authority_of(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let host = url.host_str()?;
    // `port` is none for the scheme's default one.
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

/// A configured authority in its normal form. A whole URL is taken as well.
pub(super) fn normal(configured: &str) -> String {
    if let Some(of_url) = configured.contains("://").then(|| authority_of(configured)).flatten() {
        return of_url;
    }
    let lower = configured.trim().to_ascii_lowercase();
    without_default_port(&lower).to_owned()
}

/// The authority without `:443` or `:80`. Behind a proxy nobody here knows the scheme that the caller used.
pub(super) fn without_default_port(authority: &str) -> &str {
    authority.strip_suffix(":443").or_else(|| authority.strip_suffix(":80")).unwrap_or(authority)
}

/// The authority as it was sent: of the target if that has one, else the header `host`.
pub(super) fn sent(request: &Request) -> Option<&str> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(header::HOST)?.to_str().ok(),
    }
}

/// What is wrong with a request whoever sent it.
pub(super) fn check(request: &Request) -> Result<(), ApiProblem> {
    let malformed = |detail| Err(ApiProblem::new(ProblemCode::Malformed, detail));
    let known = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH];
    if !known.contains(request.method()) {
        let detail = "Use GET, POST, PUT or DELETE.";
        return Err(ApiProblem::new(ProblemCode::MethodNotAllowed, detail));
    }
    if request.headers().get_all(header::HOST).iter().count() > 1 || sent(request).is_none() {
        return malformed("Send exactly one header `host`.");
    }
    if !request.uri().path().starts_with('/') {
        return malformed("The target must be a path.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_have_one_form() {
        for (url, want) in [
            ("http://127.0.0.1:7001", "127.0.0.1:7001"),
            ("https://Pay.Example.com/x?y", "pay.example.com"),
            ("https://pay.example.com:443", "pay.example.com"),
            ("https://pay.example.com:80", "pay.example.com:80"),
            ("http://pay.example.com:80/", "pay.example.com"),
            ("http://[::1]:7001", "[::1]:7001"),
        ] {
            assert_eq!(authority_of(url).as_deref(), Some(want), "{url}");
        }
        assert_eq!(authority_of("mailto:x"), None);
        assert_eq!(authority_of("nonsense"), None);
        for (configured, want) in [
            ("Pay.Example.com", "pay.example.com"),
            ("pay.example.com:443", "pay.example.com"),
            (" 127.0.0.1:7001", "127.0.0.1:7001"),
            ("https://pay.example.com/", "pay.example.com"),
            ("[::1]:7001", "[::1]:7001"),
        ] {
            assert_eq!(normal(configured), want, "{configured}");
        }
    }
}
