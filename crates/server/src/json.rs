//! Strict reading of what callers send: JSON bodies and query parameters.
//!
//! Law: what is refused is refused with a place and a reason, and nothing the caller sent is echoed back. Unknown and
//! doubled fields are refused by the types (`deny_unknown_fields`); fractions, exponents, `NaN` and deep nesting by the
//! parser, because no field takes them.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use warifu_proto::problem::ProblemCode;

use crate::edge::RawBody;
use crate::problem::ApiProblem;

/// The body as JSON of `T`. Give `T` `#[serde(deny_unknown_fields)]`.
#[derive(Debug, Clone, Copy)]
pub struct Strict<T>(pub T);

/// The query parameters as `T`. Unknown ones are refused whether or not `T` says so.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Strict<T> {
    type Rejection = ApiProblem;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiProblem> {
        let (mut parts, _body) = request.into_parts();
        check_type(&parts.headers)?;
        let RawBody(raw) = RawBody::from_request_parts(&mut parts, state).await?;
        parse(&raw).map(Self)
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiProblem> {
        let query = parts.uri.query().unwrap_or_default();
        let fields = crate::config::fields_of::<T>();
        for (name, _value) in url::form_urlencoded::parse(query.as_bytes()) {
            if !fields.iter().any(|it| *it == name) {
                let detail = match fields.join("`, `") {
                    none if none.is_empty() => "This path takes no query parameters.".to_owned(),
                    known => format!("Unknown query parameter: known are `{known}`."),
                };
                return Err(ApiProblem::new(ProblemCode::Malformed, detail));
            }
        }
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(read)) => Ok(Self(read)),
            Err(error) => {
                let said = std::error::Error::source(&error).map(ToString::to_string);
                let said = said.unwrap_or_default();
                // A fault of one value is told behind the name of its field.
                let of_field = said.split_once(": ").filter(|(name, _)| fields.contains(name));
                let detail = match of_field {
                    Some((name, why)) => {
                        format!("The query can't be read: `{name}`: {}.", safe_reason(why))
                    }
                    None => format!("The query can't be read: {}.", safe_reason(&said)),
                };
                Err(ApiProblem::new(ProblemCode::Malformed, detail))
            }
        }
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiProblem> {
    let no = |detail| Err(ApiProblem::new(ProblemCode::UnsupportedMediaType, detail));
    if headers.contains_key(header::CONTENT_ENCODING) {
        return no("Send the body without content-encoding.");
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next().and_then(|it| it.to_str().ok()), types.next()) else {
        return no("Send one header `content-type: application/json`.");
    };
    if only == "application/json" {
        return Ok(());
    }
    let (media, parameter) = only.split_once(';').unwrap_or((only, ""));
    let charset = parameter.trim().to_ascii_lowercase();
    let utf8 = matches!(charset.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\"");
    if media.trim().eq_ignore_ascii_case("application/json") && utf8 {
        Ok(())
    } else {
        no("Send `content-type: application/json` in UTF-8.")
    }
}

/// Reads JSON of `T` from the whole of the bytes.
///
/// # Errors
/// `malformed`, with the place and the reason.
pub fn parse<T: DeserializeOwned>(raw: &[u8]) -> Result<T, ApiProblem> {
    if raw.is_empty() {
        return Err(ApiProblem::new(ProblemCode::Malformed, "The body is empty: send JSON."));
    }
    serde_json::from_slice(raw).map_err(|error| {
        use serde_json::error::Category;
        let reason = match error.classify() {
            Category::Eof => "the JSON ends too early".to_owned(),
            // What the parser itself finds speaks of the syntax only.
            Category::Syntax | Category::Io => without_place(&error.to_string()).to_owned(),
            Category::Data => safe_reason(without_place(&error.to_string())),
        };
        let detail = format!("{reason}, at line {} column {}.", error.line(), error.column());
        ApiProblem::new(ProblemCode::Malformed, detail)
    })
}

fn without_place(text: &str) -> &str {
    text.rfind(" at line ").and_then(|end| text.get(..end)).unwrap_or(text)
}

/// The part of a deserializer's message that holds nothing of the input. Serde's own messages quote what they found,
/// and name what they wanted behind the last `, expected`.
fn safe_reason(text: &str) -> String {
    const QUOTING: [&str; 5] =
        ["unknown field", "unknown variant", "invalid type", "invalid value", "invalid length"];
    let quotes = QUOTING.into_iter().find(|kind| text.starts_with(kind));
    // These name a field of the type, or are our own refusals, which never quote.
    let is_safe = text.starts_with("missing field `")
        || text.starts_with("duplicate field `")
        || text.contains(" is malformed: ");
    match (quotes, text.rfind(", expected ").and_then(|at| text.get(at..))) {
        (Some(kind), Some(expected)) => format!("{kind}{expected}"),
        (Some(kind), None) => kind.to_owned(),
        (None, _) if is_safe => text.to_owned(),
        (None, _) => "a value is wrong".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;
    use warifu_proto::key::Thumbprint;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        minor: u64,
        #[serde(rename = "currency")]
        _currency: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Capture {
        Now,
        Later,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Message {
        amount: Inner,
        capture: Option<Capture>,
        #[serde(rename = "key")]
        _key: Option<Thumbprint>,
    }

    #[track_caller]
    fn refused(body: &str, want: &str) {
        let problem = parse::<Message>(body.as_bytes()).unwrap_err();
        assert_eq!(problem.code, ProblemCode::Malformed);
        assert!(problem.detail.contains(want), "{body}: {}", problem.detail);
        assert!(!problem.detail.contains("hunter2"), "{}", problem.detail);
    }

    #[test]
    fn what_is_refused_is_named_with_its_place_and_not_echoed() {
        let read: Message = parse(br#"{"amount":{"minor":1},"capture":"later"}"#).unwrap();
        assert_eq!(read.amount.minor, 1);
        assert!(matches!(read.capture, Some(Capture::Later)));
        assert!(parse::<Message>(br#"{"amount":{"minor":1},"capture":"now"}"#).is_ok());
        refused("", "The body is empty");
        refused("{", "ends too early, at line 1 column 1.");
        refused("hunter2", "expected value, at line 1 column 1.");
        refused("{}", "missing field `amount`, at line 1 column 2.");
        refused(r#"{"amount":{"minor":1}} hunter2"#, "trailing characters");
        refused(r#"{"amount":{"minor":1},"hunter2":1}"#, "unknown field, expected one of `amount`");
        refused("{\"amount\":{\"minor\":1,\n\"minor\":2}}", "duplicate field `minor`, at line 2");
        refused(r#"{"amount":{"minor":"hunter2"}}"#, "invalid type, expected u64");
        refused(r#"{"amount":{"minor":1.0}}"#, "invalid type, expected u64");
        refused(r#"{"amount":{"minor":1e3}}"#, "invalid type, expected u64");
        refused(r#"{"amount":{"minor":-1}}"#, "invalid value, expected u64");
        refused(r#"{"amount":{"minor":99999999999999999999}}"#, "expected u64");
        refused(r#"{"amount":{"minor":NaN}}"#, "expected value");
        refused(
            r#"{"amount":{"minor":1},"capture":"hunter2"}"#,
            "unknown variant, expected `now` or",
        );
        refused(r#"{"amount":{"minor":1},"key":"hunter2"}"#, "thumbprint is malformed: must be 43");
        refused(
            r#"{"amount":{"minor":1},"x, expected hunter2`, expected no":1}"#,
            "unknown field, expected",
        );
        refused(&"[".repeat(100_000), "");
        refused(&format!(r#"{{"amount":{}"#, r#"{"amount":"#.repeat(5_000)), "unknown field");
        refused("\u{feff}{}", "expected value");
        assert!(parse::<Message>(b"{\"amount\":{\"minor\":1,\"currency\":\"\xff\"}}").is_err());
    }

    proptest! {
        #[test]
        fn no_body_panics_or_comes_back(secret in "[a-z]{9,12}", at in 0_usize..6) {
            let bodies = [
                format!("{{\"{secret}\":1}}"),
                format!("{{\"amount\":\"{secret}\"}}"),
                format!("{{\"amount\":{{\"minor\":1}},\"capture\":\"{secret}\"}}"),
                format!("{{\"amount\":{{\"minor\":1}},\"key\":\"{secret}, expected {secret} is malformed: \"}}"),
                format!("{{\"{secret} is malformed: \":{{}}}}"),
                secret.clone(),
            ];
            let problem = parse::<Message>(bodies[at].as_bytes()).unwrap_err();
            prop_assert!(!problem.detail.contains(&secret), "{}", problem.detail);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            prop_assert!(parse::<Message>(&bytes).is_err());
        }
    }

    #[derive(Debug, Deserialize)]
    struct Page {
        after: Option<u64>,
        view: Option<Capture>,
    }

    async fn query(query: &str) -> Result<Page, String> {
        let request = Request::builder().uri(format!("/x?{query}")).body(()).unwrap();
        let read = Query::<Page>::from_request_parts(&mut request.into_parts().0, &()).await;
        read.map(|it| it.0).map_err(|it| it.detail)
    }

    #[tokio::test]
    async fn queries_are_as_strict() {
        assert_eq!(query("after=7").await.unwrap().after, Some(7));
        assert!(matches!(query("view=now").await.unwrap().view, Some(Capture::Now)));
        assert!(query("").await.unwrap().after.is_none());
        for (text, want) in [
            ("afer=7", "Unknown query parameter: known are `after`, `view`."),
            ("after=hunter2", "The query can't be read"),
            ("after=1&after=2", "duplicate field `after`"),
            ("after=-1", "The query can't be read: `after`"),
            ("view=hunter2", "unknown variant, expected `now` or `later`"),
        ] {
            let said = query(text).await.unwrap_err();
            assert!(said.contains(want) && !said.contains("hunter2"), "{text}: {said}");
        }
    }

    #[test]
    fn only_json_in_utf8_is_taken() {
        let check = |lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            check_type(&headers).is_ok()
        };
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(check(&[("content-type", good)]), "{good}");
        }
        for bad in ["text/json", "application/jsonx", "application/json; charset=latin1", ""] {
            assert!(!check(&[("content-type", bad)]), "{bad}");
        }
        assert!(!check(&[]));
        assert!(!check(&[("content-type", "application/json"), ("content-encoding", "identity")]));
        assert!(!check(&[("content-type", "application/json"), ("content-type", "text/plain")]));
    }
}
