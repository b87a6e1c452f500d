//! Questions of the issuer at the keyboard: asked one after another, or told with the commands that answer them, or
//! answered as the command line said.
//!
//! Law: only a whole line typed after the question was on the screen counts as an answer. What was typed before it, or
//! faster than anybody reads, answers nothing.

use std::collections::VecDeque;
use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use warifu_proto::id::PaymentId;
use warifu_proto::notice::Verdict;
use warifu_terminal::{Input, Link, Question};

use super::drive::{Driver, Event};
use super::say::{question_line, question_object, wanted};
use super::time_of_day;
use crate::fail::Failure;
use crate::out::Out;
use crate::paths;

/// A line that comes sooner after its question was typed before the question was read.
const READING_TIME: Duration = Duration::from_millis(500);

/// What to do when the issuer asks before it pays.
#[derive(Debug, Args)]
pub(super) struct AskArgs {
    /// What to do when the issuer asks before it pays. Without it a person at a terminal is asked; for a script the
    /// question is printed, and answered by `warifu terminal confirm` or `refuse`
    #[arg(long, value_name = "HOW")]
    confirm: Option<ConfirmArg>,
}

/// See [`AskArgs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ConfirmArg {
    /// Ask here, and read the answer from standard input.
    Ask,
    /// Confirm every payment.
    Yes,
    /// Refuse every payment.
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Ask,
    Tell,
    Always(Verdict),
}

/// What became of an event.
pub(super) enum Step {
    /// It has nothing to do with questions.
    Other(Event),
    /// Done, and nothing to tell.
    Nothing,
    /// To be told.
    Told {
        /// To people.
        line: String,
        /// To programs.
        object: Value,
    },
}

/// Who answers the questions of a command.
#[derive(Debug)]
pub(super) struct Asker {
    how: How,
    out: Out,
    dir: PathBuf,
    /// Put to the payer and not answered, in words; the first is on the screen.
    waiting: VecDeque<(PaymentId, String)>,
    put_at: Instant,
    lines: Option<mpsc::Receiver<String>>,
}

impl Asker {
    pub(super) fn new(args: &AskArgs, dir: &Path, out: &Out) -> Result<Self, Failure> {
        let is_person = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let how = match args.confirm {
            Some(ConfirmArg::Ask) if out.json => {
                return Err(Failure::usage("--confirm ask asks a person, --json tells a program")
                    .next("leave out one of them"));
            }
            Some(ConfirmArg::Ask) => How::Ask,
            Some(ConfirmArg::Yes) => How::Always(Verdict::Confirm),
            Some(ConfirmArg::No) => How::Always(Verdict::Refuse),
            None if is_person && !out.json => How::Ask,
            None => How::Tell,
        };
        let (waiting, put_at) = (VecDeque::new(), Instant::now());
        Ok(Self { how, out: out.clone(), dir: dir.to_owned(), waiting, put_at, lines: None })
    }

    /// Does what is to be done about a question, and gives every other event back.
    pub(super) fn take(&mut self, event: Event, driver: &mut Driver) -> Result<Step, Failure> {
        Ok(match event {
            Event::Question(question) => self.question(&question, driver)?,
            Event::QuestionOver { payment } => {
                if self.waiting.front().is_some_and(|(of, _)| *of == payment) {
                    // Ends the line of the prompt.
                    self.out.say("");
                }
                self.remove(payment);
                Step::Told {
                    line: format!("no longer asked: {}", about(payment, driver.link())),
                    object: json!({ "event": "question_over", "payment_id": payment }),
                }
            }
            Event::Heard { payment, verdict } => Step::Told {
                line: heard_line(payment, verdict, driver.link()),
                object: heard_object(payment, verdict),
            },
            other => Step::Other(other),
        })
    }

    fn question(&mut self, question: &Question, driver: &mut Driver) -> Result<Step, Failure> {
        let (payment, object) = (question.payment(), question_object(question));
        let line = question_line(question, driver.link());
        match self.how {
            How::Tell => Ok(Step::Told { line: self.with_commands(payment, &line), object }),
            How::Always(verdict) => {
                let word = word(verdict);
                driver.give(Input::Verdict { payment, verdict })?;
                self.out.say(format_args!("{line} {word}, as --confirm says"));
                self.out.object(&object);
                Ok(Step::Nothing)
            }
            How::Ask => {
                self.waiting.push_back((payment, line));
                if self.waiting.len() == 1 {
                    self.again();
                }
                Ok(Step::Nothing)
            }
        }
    }

    fn with_commands(&self, payment: PaymentId, line: &str) -> String {
        let dir = paths::shown(&self.dir);
        let command = |verb| format!("warifu terminal {verb} {payment} --dir {dir}");
        format!("{line}\n  yes: {}\n  no:  {}", command("confirm"), command("refuse"))
    }

    /// Puts the first question that waits, anew if the screen has lost it.
    pub(super) fn again(&mut self) {
        let Some((_, line)) = self.waiting.front() else { return };
        self.put_at = Instant::now();
        self.out.prompt(format_args!("{line} [y/N]"));
        self.lines.get_or_insert_with(keyboard);
    }

    fn remove(&mut self, payment: PaymentId) {
        let was_first = self.waiting.front().is_some_and(|(of, _)| *of == payment);
        self.waiting.retain(|(of, _)| *of != payment);
        if was_first {
            self.again();
        }
    }

    /// What the payer types, for the question on the screen. Dropping the future loses nothing.
    pub(super) async fn answer(&mut self) -> (PaymentId, Verdict) {
        loop {
            let Some(lines) = &mut self.lines else { return std::future::pending().await };
            let Some(line) = lines.recv().await else {
                self.nobody_types();
                continue;
            };
            let Some((payment, _)) = self.waiting.front() else { continue };
            let payment = *payment;
            let verdict = verdict_of(&line).filter(|_| self.put_at.elapsed() >= READING_TIME);
            if let Some(verdict) = verdict {
                self.remove(payment);
                return (payment, verdict);
            }
            self.again();
        }
    }

    /// Standard input has ended: from now on the questions are told.
    fn nobody_types(&mut self) {
        self.lines = None;
        self.how = How::Tell;
        for (payment, line) in std::mem::take(&mut self.waiting) {
            self.out.say(self.with_commands(payment, &line));
        }
    }
}

/// The lines of standard input. A thread of its own: one that waits for a key must not keep the program from ending.
fn keyboard() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Enter alone is a no, as `[y/N]` says; what is neither is no answer.
fn verdict_of(line: &str) -> Option<Verdict> {
    match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Some(Verdict::Confirm),
        "" | "n" | "no" => Some(Verdict::Refuse),
        _ => None,
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Confirm => "yes",
        Verdict::Refuse => "no",
    }
}

/// What a payment is about, if the link knows it.
pub(super) fn about(payment: PaymentId, link: &Link) -> String {
    let question = link.questions.iter().find(|it| it.payment() == payment);
    question.map_or_else(|| payment.to_string(), |it| wanted(&it.notice, link))
}

/// The issuer has heard the payer's word.
pub(super) fn heard_line(payment: PaymentId, verdict: Verdict, link: &Link) -> String {
    let verb = match verdict {
        Verdict::Confirm => "confirmed",
        Verdict::Refuse => "refused",
    };
    format!("{}  {verb}: {}", time_of_day(warifu_server::clock::now()), about(payment, link))
}

/// The same for a program.
pub(super) fn heard_object(payment: PaymentId, verdict: Verdict) -> Value {
    json!({ "event": "verdict", "payment_id": payment, "verdict": verdict })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_pays() {
        for (line, verdict) in [
            ("y", Some(Verdict::Confirm)),
            (" YES\r", Some(Verdict::Confirm)),
            ("", Some(Verdict::Refuse)),
            ("n", Some(Verdict::Refuse)),
            ("No", Some(Verdict::Refuse)),
            ("yy", None),
            ("maybe", None),
        ] {
            assert_eq!(verdict_of(line), verdict, "{line:?}");
        }
    }
}
