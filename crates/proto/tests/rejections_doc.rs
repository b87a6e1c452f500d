//! `docs/rejections.md` is made of the code. When this test says that it is old, run it with `WARIFU_WRITE_DOCS=1`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::disallowed_methods,
    reason = "the test reads and writes the page; what it tests may not"
)]

use std::fmt::Write as _;
use std::path::Path;

use warifu_proto::rejection::{Language, Rejection, Retry};

fn retry(it: Retry) -> &'static str {
    match it {
        Retry::Never => "`never`",
        Retry::NewCode => "`new_code`",
        Retry::PayerActs => "`payer_acts`",
        Retry::SameRequest => "`same_request`",
    }
}

fn page() -> String {
    let mut page = "\
# Why a payment is declined

Every rejection, in the order in which the checks run: the first that applies is the answer. A rejection is a final
answer, not an error: `200` with `status: \"declined\"`, nothing moved. Decide by the code or the number; both never
change. The texts are for people, in the language of `Accept-Language` (English, Japanese).

`retry` says what helps: `never` nothing, `new_code` another code by the same payer, `payer_acts` something that only
the payer can do, `same_request` the same request again. ISO 8583 is the response code that a card terminal would show.

This page is made of `crates/proto/src/rejection.rs` and checked by a test.
"
    .to_owned();
    for consumes in [false, true] {
        page.push_str(if consumes {
            "\n## These consume the code\n\n"
        } else {
            "\n## These do not consume the code\n\n"
        });
        page.push_str("| number | code | retry | ISO 8583 |\n| --- | --- | --- | --- |\n");
        let rows = || Rejection::ALL.iter().filter(|it| it.consumes_code() == consumes);
        for it in rows() {
            let (number, name, retry) = (it.number(), it.name(), retry(it.retry()));
            writeln!(page, "| {number} | `{name}` | {retry} | {} |", it.iso8583()).unwrap();
        }
        for it in rows() {
            writeln!(page, "\n### `{}`\n", it.name()).unwrap();
            for (who, text) in [
                ("Cashier", it.cashier(Language::English)),
                ("店員", it.cashier(Language::Japanese)),
                ("Payer", it.payer(Language::English)),
                ("お客様", it.payer(Language::Japanese)),
            ] {
                writeln!(page, "- {who}: {text}").unwrap();
            }
        }
    }
    page
}

#[test]
fn the_page_of_rejections_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rejections.md");
    if std::env::var_os("WARIFU_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/rejections.md is old: WARIFU_WRITE_DOCS=1 cargo test -p warifu-proto --test rejections_doc"
    );
}
