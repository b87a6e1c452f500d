//! Three small pages for people who opened a link or the hub's address in a browser. No script, nothing from
//! elsewhere, a policy that allows neither; what stands in a link's fragment never reaches the hub.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use warifu_proto::{base64url, mac};

use crate::app::App;

const STYLE: &str = "\
body{font:16px/1.6 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;color:#1c1c1c;\
background:#fdfcf8}h1{font-size:1.4rem}pre{background:#f0ede2;padding:.8rem 1rem;overflow-x:auto;\
border-radius:.3rem}small{color:#666}@media(prefers-color-scheme:dark){body{color:#eee;background:#1a1a1a}\
pre{background:#2a2a2a}small{color:#aaa}}";

const WALLET: &str = "<h1>You were invited to link a terminal</h1>
<p>The address of this page, with everything behind the <code>#</code>, is an invitation. It can be used once and for \
fifteen minutes. Copy all of it from the address bar and give it to the terminal:</p>
<pre>warifu terminal link '&lt;paste the link&gt;'</pre>
<p>Then show a code with <code>warifu terminal show</code>.</p>
<p><small>Give the link to nobody else: whoever has it can pay with the account. This page did not read it.</small></p>";

const TILL: &str = "<h1>You were asked to pair a reader</h1>
<p>The address of this page, with everything behind the <code>#</code>, is a pairing link. It can be used for ten \
minutes, while the merchant's side waits. Copy all of it from the address bar and give it to the reader:</p>
<pre>warifu reader pair '&lt;paste the link&gt;'</pre>
<p>Then take a payment with <code>warifu reader pay</code>.</p>
<p><small>This page did not read the link.</small></p>";

/// The page of a link to a terminal.
#[utoipa::path(get, path = "/wallet", tag = "pages",
    responses((status = 200, description = "How to use an invitation link.", content_type = "text/html", body = String)))]
pub(crate) async fn wallet() -> Response {
    page("Warifu: link a terminal", WALLET)
}

/// The page of a pairing link.
#[utoipa::path(get, path = "/till", tag = "pages",
    responses((status = 200, description = "How to use a pairing link.", content_type = "text/html", body = String)))]
pub(crate) async fn till() -> Response {
    page("Warifu: pair a reader", TILL)
}

/// What this server is.
#[utoipa::path(get, path = "/", tag = "pages",
    responses((status = 200, description = "What this server is.", content_type = "text/html", body = String)))]
pub(crate) async fn root(State(app): State<Arc<App>>) -> Response {
    let published = app.feed.now();
    page(
        "Warifu hub",
        &format!(
            "<h1>Warifu hub</h1>\n<p>The first settlement server of network <code>{}</code>. Its directory is at \
             version {}.</p>\n<ul><li><a href=\"/v1/directory?view=issuers\">the directory</a></li>\
             <li><a href=\"/openapi.json\">the interface, as OpenAPI</a></li><li><a href=\"/healthz\">health</a>, \
             <a href=\"/readyz\">readiness</a>, <a href=\"/metrics\">metrics</a></li></ul>\n<p>The protocol is \
             described in <code>docs/protocol.md</code> of Warifu; <code>warifu --help</code> tells what the \
             program can do.</p>",
            published.directory.network(),
            published.version
        ),
    )
}

fn page(title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n{body}\n</html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    (headers, html).into_response()
}

/// Nothing but the one style sheet, which it names by its hash.
fn policy() -> String {
    let hash = base64url::encode(mac::sha256(&[STYLE.as_bytes()]));
    let hash = hash.replace('-', "+").replace('_', "/");
    format!(
        "default-src 'none'; style-src 'sha256-{hash}='; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_no_script_and_the_policy_names_their_style() {
        let response = page("T", WALLET);
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe"));
        for text in [WALLET, TILL] {
            assert!(!text.contains("<script") && !text.contains("style="));
        }
    }
}
