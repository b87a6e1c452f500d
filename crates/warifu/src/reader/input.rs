//! Where the code comes from: an argument, a picture, or a scanner, which is a keyboard that types digits and Enter.

use std::io::{BufRead, IsTerminal as _};
use std::path::Path;

use serde_json::json;
use warifu_proto::code::Scanned;
use warifu_proto::problem::ProblemCode;
use warifu_reader::scan::{IMAGE_BYTES_MAX, digits_in_image};

use super::PayArgs;
use crate::fail::Failure;
use crate::out::Out;
use crate::paths;

/// Longest line that is read: a long code has 333 digits, and a scanner may add some white space.
const LINE_MAX_BYTES: u64 = 1024;

/// Reads the code.
pub(super) async fn code(args: &PayArgs, out: &Out) -> Result<Scanned, Failure> {
    let digits = match (&args.code, &args.image) {
        (Some(digits), _) => digits.clone(),
        (None, Some(path)) => picture(path)?,
        (None, None) => line(out).await?,
    };
    parse(&digits)
}

/// A code is 24 or 333 digits; anything else is nobody's, and nobody is asked.
pub(super) fn parse(digits: &str) -> Result<Scanned, Failure> {
    Scanned::parse(digits).map_err(|_| {
        let code = ProblemCode::CodeMalformed;
        Failure::problem(json!({
            "type": format!("urn:warifu:problem:{}", code.name()),
            "title": code.title(),
            "status": code.status(),
            "detail": "What was read is something else.",
            "code": code.name(),
            "instance": "",
        }))
        .next("scan again, or ask the payer for a new code")
    })
}

fn picture(path: &Path) -> Result<String, Failure> {
    let size = path.metadata().map_err(|error| paths::cannot("read", path, &error))?.len();
    if u64::try_from(IMAGE_BYTES_MAX).is_ok_and(|max| size > max) {
        return Err(Failure::usage(format_args!("{} is larger than 12 MB", paths::shown(path))));
    }
    let bytes = std::fs::read(path).map_err(|error| paths::cannot("read", path, &error))?;
    digits_in_image(&bytes).map_err(|error| {
        Failure::refused(error).during(paths::shown(path)).next("take another picture, and repeat")
    })
}

async fn line(out: &Out) -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        out.progress("Scan the code, or type its digits and Enter:");
    }
    let read = tokio::task::spawn_blocking(|| first_line(std::io::stdin().lock()));
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::usage("standard input can't be read").because(error)
    };
    let text = read.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    text.ok_or_else(|| {
        Failure::usage("no code was given")
            .next("give it by --code or --image, or let a scanner type it")
    })
}

/// The first line that is not blank.
fn first_line(input: impl BufRead) -> std::io::Result<Option<String>> {
    let mut input = input.take(LINE_MAX_BYTES);
    let mut text = String::new();
    while input.read_line(&mut text)? > 0 {
        if !text.trim().is_empty() {
            return Ok(Some(text));
        }
        text.clear();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fail::Exit;

    #[test]
    fn a_scanner_may_type_blank_lines_first_and_nothing_without_end() {
        let read = |text: &str| first_line(text.as_bytes()).unwrap();
        assert_eq!(read("\r\n \n123\n456\n").as_deref(), Some("123\n"));
        assert_eq!(read("\n\n"), None);
        assert_eq!(read(&"1".repeat(5_000)).unwrap().len(), 1024);
    }

    #[test]
    fn what_is_no_code_is_refused_without_showing_it() {
        assert!(parse(" 710000010728921840110704\r\n").is_ok());
        for bad in ["4901234567894", "https://example.org", "", "71000001072892184011070x"] {
            let failure = parse(bad).unwrap_err();
            assert_eq!(failure.exit, Exit::Refused);
            assert!(bad.is_empty() || !failure.message.contains(bad));
        }
    }
}
