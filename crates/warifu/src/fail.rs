//! How a command ends badly: one sentence with its causes, what to do next, and an exit code by family.
//!
//! Law: `error: a: b: c` goes from the outside in, each part said once; `next:` is something to do or paste.
//! With `--json` the same is one object on standard output, or the server's own problem unchanged.

use std::error::Error;
use std::fmt::{self, Display};

use serde_json::{Value, json};
use warifu_server::config::ConfigFaults;
use warifu_server::keyfile::KeyFileError;

use crate::out::Out;

/// The exit code: 0 is success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Somebody said no: a declined payment, a refused request.
    Refused = 1,
    /// The command, a file or a setting is wrong.
    Usage = 2,
    /// Nobody answered, or not so that it can be believed.
    Unreachable = 3,
}

impl Exit {
    /// The number that the process ends with.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Which family.
    pub(crate) exit: Exit,
    /// What went wrong, outermost first; empty when the command has said it already.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) next: Option<String>,
    /// What the server said, for `--json`.
    problem: Option<Box<Value>>,
}

impl Failure {
    /// Somebody said no.
    pub(crate) fn refused(message: impl Display) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// The command, a file or a setting is wrong.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Nobody answered.
    pub(crate) fn unreachable(message: impl Display) -> Self {
        Self::new(Exit::Unreachable, message)
    }

    /// Everything was said already (a declined payment was printed as a payment): only the exit code is left.
    pub(crate) fn told(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string(), next: None, problem: None }
    }

    /// A server's `application/problem+json`, kept as it is for `--json`.
    pub(crate) fn problem(problem: Value) -> Self {
        let text = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default();
        let parts = [text("title"), text("detail")].map(|it| lower_first(it.trim_end_matches('.')));
        let mut said: Vec<String> = parts.into_iter().filter(|it| !it.is_empty()).collect();
        said.dedup();
        let code = text("code");
        let exit = if code == "issuer_unavailable" { Exit::Unreachable } else { Exit::Refused };
        let message = if said.is_empty() {
            "the server refused without saying why".to_owned()
        } else {
            said.join(": ")
        };
        let next = next_of(code).map(str::to_owned);
        Self { exit, message, next, problem: Some(Box::new(problem)) }
    }

    /// Says what to do about it.
    #[must_use]
    pub(crate) fn next(mut self, next: impl Display) -> Self {
        self.next = Some(next.to_string());
        self
    }

    /// Appends the cause and its own causes.
    #[must_use]
    pub(crate) fn because(mut self, cause: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(cause);
        while let Some(it) = cause {
            let text = it.to_string();
            // Some libraries print their source inside of their own text.
            if self.message.is_empty() {
                self.message = text;
            } else if !self.message.ends_with(&text) {
                self.message = format!("{}: {text}", self.message);
            }
            cause = it.source();
        }
        self
    }

    /// Puts what was being done in front.
    #[must_use]
    pub(crate) fn during(mut self, what: impl Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Prints it, and gives the exit code.
    pub(crate) fn print(&self, out: &Out) -> u8 {
        if !self.message.is_empty() {
            let own = json!({"error": {
                "exit": self.exit.name(),
                "message": self.message,
                "next": self.next,
            }});
            let object = self.problem.as_deref().unwrap_or(&own);
            out.error(&self.message, self.next.as_deref(), object);
        }
        self.exit.code()
    }
}

/// What to do about a server's refusal, where the same answer always has the same remedy.
fn next_of(code: &str) -> Option<&'static str> {
    Some(match code {
        "clock_skew" => {
            "set this machine's clock (`timedatectl set-ntp true`), then repeat the command"
        }
        "key_unknown" => {
            "have the registrar sign your card (`warifu registrar add …`) and repeat in a few seconds"
        }
        "not_accepted" | "too_many_requests" | "internal" => "repeat the same command",
        "request_id_conflict" => "give another request id, or none",
        "invitation_unknown" => "ask the issuer for a new invitation",
        "pairing_unknown" => "make a new pairing link: warifu merchant pair",
        "proof_invalid" => "copy the link whole, then repeat the command",
        "issuer_unavailable" => "repeat the command when the issuer is up again",
        _ => return None,
    })
}

/// A sentence as it follows a colon; what begins with a name or an abbreviation stays.
fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<warifu_proto::Malformed> for Failure {
    fn from(malformed: warifu_proto::Malformed) -> Self {
        Self::usage(malformed)
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        Self::usage("a key file can't be used").because(&error)
    }
}

impl From<ConfigFaults> for Failure {
    fn from(faults: ConfigFaults) -> Self {
        let next = format!("edit {}, then check again", faults.path.display());
        Self::usage(faults).next(next)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<ConfigFaults>() {
            Ok(faults) => faults.into(),
            Err(error) => Self::usage("").because(error.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_keeps_its_words_and_gains_a_next_step() {
        let failure = Failure::problem(json!({
            "code": "clock_skew", "title": "Your clock is wrong.", "detail": "It is 70 s behind."
        }));
        assert_eq!(failure.message, "your clock is wrong: it is 70 s behind");
        assert_eq!(failure.exit, Exit::Refused);
        assert!(failure.next.unwrap().contains("clock"));
        let away = Failure::problem(json!({"code": "issuer_unavailable", "title": "Away."}));
        assert_eq!(away.exit, Exit::Unreachable);
    }

    #[test]
    fn causes_are_said_once_from_the_outside_in() {
        let cause = std::io::Error::other("disk on fire");
        let failure = Failure::usage("a file can't be written").because(&cause);
        assert_eq!(failure.message, "a file can't be written: disk on fire");
        let said = failure.during("init").to_string();
        assert_eq!(said, "init: a file can't be written: disk on fire");
    }
}
