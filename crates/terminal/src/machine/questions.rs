//! Questions to the payer: put when they are stored, answered by the payer only, and the word sent until the issuer
//! has heard it or the question is over.
//!
//! The list in the link is what is true; what is kept here beside it is only what this process has done so far. So a
//! restart asks again what is open, and goes on sending what was said.

use warifu_proto::id::PaymentId;
use warifu_proto::limits::CONFIRM_LIFETIME_MS;
use warifu_proto::message::{ConfirmationRequest, NoticeText};
use warifu_proto::notice::Verdict;

use super::repeats::Repeats;
use super::{Output, Terminal, Trouble, VerdictAnswer, is_passing};
use crate::link::Link;
use crate::question::{self, QUESTIONS_MAX, Question};

/// What this process does about a question that is not over.
#[derive(Debug)]
pub(super) struct Open {
    payment: PaymentId,
    /// When it is over, in milliseconds of life.
    until_ms: u64,
    /// It may be put, and what was said may be sent, when this revision is stored.
    needs_revision: u64,
    is_put: bool,
    word: Option<Word>,
}

/// The payer's word on its way to the issuer.
#[derive(Debug)]
struct Word {
    request: Box<ConfirmationRequest>,
    repeats: Repeats,
}

impl Terminal {
    /// Takes a notice that asks. A second one about the same payment is the same question.
    pub(super) fn question(&mut self, number: u64, notice: NoticeText, plaintext: Vec<u8>) {
        let now = self.link.issuer_time(self.steady.wall());
        let questions = &mut self.link.questions;
        if questions.iter().any(|it| it.payment() == notice.payment_id) {
            return;
        }
        let fit = Question::new(number, notice.clone(), plaintext, &self.link);
        let questions = &mut self.link.questions;
        match fit {
            Err(why) => self.out.push_back(Output::Trouble(Trouble::NotAsked { number, why })),
            // It was on the way for too long. What became of the payment comes, or came, as another notice.
            Ok(late) if late.expires_at() <= now => {
                self.out.push_back(Output::Notice { number, notice: Box::new(notice) });
            }
            Ok(question) => {
                // Those that are over are kept as long as there is room, so that none is asked twice.
                if questions.len() >= QUESTIONS_MAX
                    && let Some(oldest) = questions.iter().position(|it| it.is_over)
                {
                    questions.remove(oldest);
                }
                if questions.len() < QUESTIONS_MAX {
                    questions.push(question);
                } else {
                    let why = "too many others are open";
                    self.out.push_back(Output::Trouble(Trouble::NotAsked { number, why }));
                }
            }
        }
    }

    /// Whether the payer is, or was, asked about a payment.
    pub(super) fn is_asked_about(&self, payment: PaymentId) -> bool {
        self.link.questions.iter().any(|it| it.payment() == payment)
    }

    /// The payment was decided: nothing is left to ask.
    pub(super) fn decided(&mut self, payment: PaymentId) {
        let question = self.link.questions.iter_mut().find(|it| it.payment() == payment);
        question.into_iter().for_each(|it| it.is_over = true);
    }

    /// Takes the payer's word. The first one stands.
    pub(super) fn say(&mut self, payment: PaymentId, verdict: Verdict) {
        self.adopt_questions();
        let now_ms = self.steady.lived_ms();
        let open = self.open.iter_mut().find(|it| it.payment == payment && now_ms < it.until_ms);
        let question =
            self.link.questions.iter_mut().find(|it| it.payment() == payment && !it.is_over);
        match (open, question) {
            (Some(_), Some(question)) if question.verdict == Some(verdict) => {}
            (Some(_), Some(question)) if question.verdict.is_none() => {
                question.verdict = Some(verdict);
                self.store();
                let needs_revision = self.link.counters.revision;
                let open = self.open.iter_mut().find(|it| it.payment == payment);
                open.into_iter().for_each(|it| it.needs_revision = needs_revision);
            }
            _ => self.out.push_back(Output::Trouble(Trouble::NothingToAnswer { payment })),
        }
    }

    /// Takes what another process stored about this link: whoever stored a word first has said it.
    pub(super) fn others(&mut self, stored: &Link) {
        if stored.credential != self.link.credential {
            return;
        }
        let before: Vec<_> =
            self.link.questions.iter().map(|it| (it.payment(), it.verdict)).collect();
        question::update(&mut self.link.questions, &stored.questions);
        for (payment, was) in before {
            let question = self.link.questions.iter().find(|it| it.payment() == payment);
            if question.is_none_or(|it| it.verdict == was) {
                continue;
            }
            let put = self.open.iter_mut().find(|it| it.payment == payment && it.is_put);
            self.out.extend(match (was, put) {
                (Some(_), _) => Some(Output::Trouble(Trouble::NothingToAnswer { payment })),
                (None, Some(open)) => {
                    open.is_put = false;
                    Some(Output::QuestionOver { payment })
                }
                (None, None) => None,
            });
        }
    }

    /// Takes what came back for the payer's word.
    pub(super) fn verdict_answered(&mut self, payment: PaymentId, answer: VerdictAnswer) {
        let is_sent =
            |it: &Open| it.word.as_ref().is_some_and(|it| it.repeats.started_ms.is_some());
        if !self.open.iter().any(|it| it.payment == payment && is_sent(it)) {
            return;
        }
        let output = match answer {
            VerdictAnswer::Heard(heard) if heard.payment_id == payment => {
                Output::VerdictHeard { payment, verdict: heard.verdict }
            }
            VerdictAnswer::Refused(problem) if !is_passing(&problem) => {
                let (code, title) = (problem.code, problem.title);
                Output::Trouble(Trouble::VerdictRefused { payment, code, title })
            }
            // Something else, or for now only: repeat.
            VerdictAnswer::Heard(_) | VerdictAnswer::Refused(_) => return,
        };
        self.out.push_back(output);
        self.open.retain(|it| it.payment != payment);
        self.decided(payment);
        self.store();
    }

    /// Begins to care for questions that are in the link: new ones, and after a restart all that are open.
    fn adopt_questions(&mut self) {
        let now = self.link.issuer_time(self.steady.wall());
        for question in self.link.questions.iter().filter(|it| !it.is_over) {
            let payment = question.payment();
            if self.open.iter().any(|it| it.payment == payment) {
                continue;
            }
            let left_ms = question.expires_at().since_ms(now).min(CONFIRM_LIFETIME_MS);
            self.open.push(Open {
                payment,
                until_ms: self.steady.lived_ms().saturating_add(left_ms),
                needs_revision: self.link.counters.revision,
                is_put: false,
                word: None,
            });
        }
    }

    pub(super) fn progress_questions(&mut self, now_ms: u64) {
        self.adopt_questions();
        let mut open = std::mem::take(&mut self.open);
        open.retain_mut(|it| self.progress_question(it, now_ms));
        self.open = open;
    }

    /// Does what is due about one question; whether it is still open.
    fn progress_question(&mut self, open: &mut Open, now_ms: u64) -> bool {
        let payment = open.payment;
        let found = self.link.questions.iter().position(|it| it.payment() == payment);
        let Some(question) = found.and_then(|at| self.link.questions.get_mut(at)) else {
            return false;
        };
        if question.is_over || now_ms >= open.until_ms {
            let is_late = !std::mem::replace(&mut question.is_over, true);
            self.out.extend(match question.verdict {
                None if open.is_put => Some(Output::QuestionOver { payment }),
                Some(_) if is_late => Some(Output::Trouble(Trouble::VerdictUnheard { payment })),
                None | Some(_) => None,
            });
            if is_late {
                self.store();
            }
            return false;
        }
        let durable = self.store.durable_revision;
        if durable < open.needs_revision {
            return true;
        }
        match question.verdict {
            None if !open.is_put => {
                open.is_put = true;
                self.out.push_back(Output::Ask(Box::new(question.clone())));
            }
            None => {}
            Some(verdict) => {
                let question = question.clone();
                let word = open.word.get_or_insert_with(|| Word {
                    request: Box::new(question.request(verdict, &self.link, &self.key)),
                    repeats: Repeats::new(open.needs_revision, open.until_ms),
                });
                if word.repeats.is_due(durable, now_ms) {
                    self.out.push_back(Output::SendVerdict { request: word.request.clone() });
                }
            }
        }
        true
    }

    pub(super) fn question_deadlines(&self) -> impl Iterator<Item = u64> {
        let durable = self.store.durable_revision;
        let of = move |it: &Open| {
            let word = it.word.as_ref().and_then(|word| word.repeats.next_deadline(durable));
            [Some(it.until_ms), word].into_iter().flatten()
        };
        self.open.iter().flat_map(of)
    }
}
