//! The only place that prints. Prose and tables go to standard output for people; with `--json` exactly the
//! objects go there instead, one on a line; progress and warnings go to standard error, where no script
//! reads them.
//!
//! Law: text that came from somebody else is printed without characters that move the cursor or turn the
//! writing direction. When nobody reads standard output any more (`| head`), the rest is dropped and the
//! work goes on: a closed pipe is no reason to leave a payment half done.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{Cell, Table, presets};
use serde::Serialize;
use warifu_server::telemetry::LogFormat;

/// Where a command says what it did. Cheap to clone; clones write to the same place.
#[derive(Debug, Clone)]
pub(crate) struct Out {
    /// Whether a program reads: objects instead of prose.
    pub(crate) json: bool,
    closed: Arc<AtomicBool>,
}

impl Out {
    /// Writes to the process's own standard output and error.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, closed: Arc::default() }
    }

    /// Prints a line (or several) for people; nothing with `--json`.
    pub(crate) fn say(&self, text: impl Display) {
        if !self.json {
            self.write(&clean_lines(&text.to_string()));
        }
    }

    /// Puts a question to a person, who answers on the same line; nothing with `--json`.
    pub(crate) fn prompt(&self, text: impl Display) {
        if !self.json && !self.is_closed() {
            let mut stdout = std::io::stdout().lock();
            let text = clean_lines(&text.to_string());
            if write!(stdout, "{text} ").and_then(|()| stdout.flush()).is_err() {
                self.closed.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Prints one object on one line; nothing without `--json`.
    pub(crate) fn object(&self, object: &impl Serialize) {
        if self.json {
            let text = serde_json::to_string(object).expect("our objects have only text keys");
            self.write(&text);
        }
    }

    /// Prints a table for people; nothing with `--json`.
    pub(crate) fn table(&self, header: &[&str], rows: &[Vec<String>]) {
        if self.json {
            return;
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(header.iter().map(|name| Cell::new(name.to_uppercase())));
        for row in rows {
            table.add_row(row.iter().map(|cell| Cell::new(clean(cell))));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.write(&table.trim_fmt());
    }

    /// Names the command to type next, ready to paste; nothing with `--json`.
    pub(crate) fn next(&self, command: impl Display) {
        self.say(format_args!("next: {command}"));
    }

    /// Shows on a terminal that long work goes on; nothing in a pipe.
    #[expect(clippy::unused_self, reason = "callers print by an Out, wherever the text goes")]
    pub(crate) fn progress(&self, text: impl Display) {
        if std::io::stderr().is_terminal() {
            to_stderr(&clean_lines(&text.to_string()));
        }
    }

    /// Warns on standard error, with and without `--json`.
    #[expect(clippy::unused_self, reason = "callers print by an Out, wherever the text goes")]
    pub(crate) fn warn(&self, text: impl Display) {
        to_stderr(&format!("warning: {}", clean_lines(&text.to_string())));
    }

    /// Whether nobody reads standard output any more: what only prints may stop.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Prints an error and what to do about it: on standard error, or with `--json` as the one object.
    pub(crate) fn error(&self, message: &str, next: Option<&str>, object: &serde_json::Value) {
        if self.json {
            self.object(object);
            return;
        }
        to_stderr(&format!("error: {}", clean_lines(message)));
        if let Some(next) = next {
            to_stderr(&format!("next: {}", clean_lines(next)));
        }
    }

    /// Prints text as it is in both modes: help and version.
    pub(crate) fn raw(&self, text: &str) {
        self.write(text.trim_end());
    }

    /// Prints help on standard error, where nothing was asked for that could be done.
    #[expect(clippy::unused_self, reason = "callers print by an Out, wherever the text goes")]
    pub(crate) fn help_instead(&self, text: &str) {
        to_stderr(text.trim_end());
    }

    fn write(&self, text: &str) {
        if self.is_closed() {
            return;
        }
        let mut stdout = std::io::stdout().lock();
        if writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_err() {
            self.closed.store(true, Ordering::Relaxed);
        }
    }
}

/// How a server's log lines look: for people on a terminal, else one JSON object a line.
pub(crate) fn log_format() -> LogFormat {
    if std::io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json }
}

fn to_stderr(text: &str) {
    // Nobody can be told that standard error is gone.
    writeln!(std::io::stderr().lock(), "{text}").unwrap_or_default();
}

/// Whether a character would do something to a terminal instead of being shown on it.
fn acts(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text as it can be shown in one line.
fn clean(text: &str) -> String {
    text.chars().map(|it| if acts(it) { '\u{fffd}' } else { it }).collect()
}

fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_others_cannot_act_on_the_terminal() {
        assert_eq!(clean("Till\u{1b}[2J 1\n"), "Till\u{fffd}[2J 1\u{fffd}");
        assert_eq!(clean("a\u{202e}b"), "a\u{fffd}b");
        assert_eq!(clean_lines("two\nlines\tx"), "two\nlines\u{fffd}x");
        assert_eq!(clean("青葉ベーカリー"), "青葉ベーカリー");
    }
}
