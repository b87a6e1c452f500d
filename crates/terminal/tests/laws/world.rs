//! A driver, a disk and an issuer for the machine, and everything that was ever seen, to hold the laws against.

use std::collections::{BTreeMap, BTreeSet};

use warifu_proto::base64url;
use warifu_proto::code::{Code, Prefix, Scanned};
use warifu_proto::currency::CurrencyCode;
use warifu_proto::id::{
    CredentialId, InvitationId, IssuerId, MerchantId, NetworkId, NoticeId, PaymentId,
};
use warifu_proto::key::{PrivateKey, Thumbprint};
use warifu_proto::link::LinkKeys;
use warifu_proto::message::{
    AccountAbout, AccountKind, CodeAnswer, ConfirmationAnswer, ConfirmationRequest, IssuerAbout,
    LimitsAbout, MerchantAbout, NoticeText, PaymentStatus, SealedNotice,
};
use warifu_proto::money::Money;
use warifu_proto::notice::{self, Verdict};
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::registration::{Registration, clock_ack, registered_ack, tag};
use warifu_proto::time::Timestamp;
use warifu_terminal::{
    Answer, Counters, Input, Link, Output, Question, Screen, Terminal, VerdictAnswer, Wish,
};

pub(crate) const NOW_MS: u64 = 1_795_305_600_000;

pub(crate) fn key() -> PrivateKey {
    PrivateKey::from_bytes(&[9; 32]).unwrap()
}

pub(crate) fn jpy() -> CurrencyCode {
    CurrencyCode::parse("JPY").unwrap()
}

pub(crate) fn link() -> Link {
    Link {
        format: Link::FORMAT,
        network: NetworkId::from_raw([1; 16]),
        registrar: Thumbprint([1; 32]),
        hub_url: "http://127.0.0.1:7001".to_owned(),
        invitation: InvitationId::from_raw([4; 16]),
        device: key().thumbprint(),
        label: "My phone".to_owned(),
        credential: CredentialId::from_raw([3; 16]),
        partition: 7,
        keys: LinkKeys::derive(&[5; 32], key().thumbprint()),
        account: AccountAbout {
            name: "Hana".to_owned(),
            kind: AccountKind::Prepaid,
            currency: jpy(),
            exponent: 0,
        },
        currency_number: 392,
        limits: LimitsAbout { lifetime_max_s: 300, ..LimitsAbout::default() },
        issuer: IssuerAbout {
            id: IssuerId::from_raw([2; 16]),
            name: "Aoba Pay".to_owned(),
            prefix: Prefix::parse("71000001").unwrap(),
            key: Thumbprint([2; 32]),
        },
        counters: Counters::default(),
        questions: Vec::new(),
    }
}

/// A driver, a disk, and everything that was ever seen, to hold the laws against.
pub(crate) struct World {
    pub(crate) terminal: Terminal,
    pub(crate) disk: Link,
    pub(crate) to_store: Vec<Link>,
    pub(crate) now: Timestamp,
    pub(crate) sent: Vec<Registration>,
    /// What was said under each sequence.
    pub(crate) said: BTreeMap<u32, [u8; 32]>,
    pub(crate) truly_acked: BTreeSet<u32>,
    pub(crate) code: Option<Code>,
    /// What the last long code carried.
    pub(crate) long: Option<Registration>,
    pub(crate) notice: u64,
    pub(crate) asked: bool,
    /// The plaintext of every notice that the issuer made.
    pub(crate) issued: Vec<Vec<u8>>,
    /// What was put to the payer in this life.
    pub(crate) put: BTreeSet<PaymentId>,
    /// What the payer said, here or by another process.
    pub(crate) payers: BTreeSet<(PaymentId, bool)>,
    /// The words that were sent.
    pub(crate) words: BTreeMap<PaymentId, Verdict>,
    /// Whether nobody has set a clock.
    pub(crate) is_clock_true: bool,
    pub(crate) log: Vec<String>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            terminal: Terminal::new(link(), key()),
            disk: link(),
            to_store: Vec::new(),
            now: Timestamp::from_ms(NOW_MS),
            sent: Vec::new(),
            said: BTreeMap::new(),
            truly_acked: BTreeSet::new(),
            code: None,
            long: None,
            notice: 0,
            asked: false,
            issued: Vec::new(),
            put: BTreeSet::new(),
            payers: BTreeSet::new(),
            words: BTreeMap::new(),
            is_clock_true: true,
            log: Vec::new(),
        }
    }

    pub(crate) fn give(&mut self, input: Input) -> Option<Timestamp> {
        self.terminal.handle(input, self.now);
        let mut wake = None;
        while let Some(output) = self.terminal.poll() {
            assert!(wake.is_none(), "WakeAt is the last of a round");
            match output {
                Output::NeedChance => self.asked = true,
                Output::Store(link) => self.to_store.push(*link),
                Output::Show(screen) => self.shown(&screen, false),
                Output::ShowLong(screen) => self.shown(&screen, true),
                Output::Hide => {
                    assert!(self.code.take().is_some(), "only what is shown can be hidden");
                    self.log.push("hide".to_owned());
                }
                Output::Acked { sequence, .. } => {
                    assert!(self.truly_acked.contains(&sequence), "law 2");
                    self.log.push("acked".to_owned());
                }
                Output::Send { sequence, request } => {
                    self.sends(sequence, Registration::decode(&request.registration).unwrap());
                }
                Output::Withdrawn { acked } => self.log.push(format!("withdrawn {acked}")),
                Output::Notice { number, notice } => {
                    assert!(number > self.notice, "law 4");
                    self.notice = number;
                    self.log.push(format!("notice {number} {}", notice.kind));
                }
                Output::Ask(question) => self.asks(&question),
                Output::QuestionOver { payment } => {
                    assert!(self.put.contains(&payment), "only what was put can be over");
                    self.log.push(format!("over {}", payment.raw()[0]));
                }
                Output::SendVerdict { request } => self.says(&request),
                Output::VerdictHeard { payment, verdict } => {
                    assert!(self.words.contains_key(&payment));
                    self.log.push(format!("heard {} {verdict:?}", payment.raw()[0]));
                }
                Output::Trouble(trouble) => self.log.push(format!("trouble: {trouble}")),
                Output::WakeAt(at) => wake = Some(at),
            }
        }
        assert!(self.terminal.poll().is_none());
        if let Some(at) = wake {
            assert!(at > self.now, "waking for the past would never end");
        }
        wake
    }

    pub(crate) fn shown(&mut self, screen: &Screen, is_long: bool) {
        assert!(self.disk.counters.sequence >= screen.sequence, "law 1");
        let scanned = Scanned::parse(&screen.digits).unwrap();
        assert_eq!(scanned.registration.is_some(), is_long);
        if let Some(registration) = &scanned.registration {
            assert!(registration.is_signed_by(key().public()));
            assert!(self.disk.counters.sequence >= registration.statement.sequence, "law 1");
            assert_eq!(Some(&scanned.code), self.code.as_ref(), "the long code of the same code");
            self.long = Some((**registration).clone());
        }
        assert!(scanned.code.starts_with("7100000107"));
        self.code = Some(scanned.code);
        self.log.push(if is_long { "show long" } else { "show" }.to_owned());
    }

    pub(crate) fn sends(&mut self, sequence: u32, registration: Registration) {
        let statement = &registration.statement;
        assert_eq!(statement.sequence, sequence);
        assert!(registration.is_signed_by(key().public()));
        assert!(self.disk.counters.sequence >= sequence, "law 1");
        assert!(statement.lifetime_s <= 300);
        if let Some(code) = self.code.as_ref().filter(|_| statement.lifetime_s > 0) {
            assert_eq!(statement.tag, tag(&link().keys.code_key, code));
        }
        match self.said.get(&sequence) {
            Some(digest) => assert_eq!(*digest, statement.digest(), "law 3"),
            None => {
                assert!(self.said.keys().all(|before| *before < sequence), "law 3");
                self.said.insert(sequence, statement.digest());
            }
        }
        self.log.push(format!("send {}", self.now.since_ms(Timestamp::from_ms(NOW_MS))));
        self.sent.push(registration);
    }

    fn asks(&mut self, question: &Question) {
        let payment = question.payment();
        let stored = self.disk.questions.iter().find(|it| it.payment() == payment);
        assert_eq!(stored.unwrap().plaintext, question.plaintext, "law 6: stored");
        assert!(self.put.insert(payment), "law 6: once a life");
        assert!(self.issued.contains(&question.plaintext), "the bytes as they came");
        let notice: NoticeText = serde_json::from_slice(&question.plaintext).unwrap();
        assert_eq!(question.notice, notice);
        self.notice = self.notice.max(question.number);
        self.log.push(format!("ask {}", payment.raw()[0]));
    }

    fn says(&mut self, request: &ConfirmationRequest) {
        let ConfirmationRequest { credential_id, payment_id, verdict, signature } = request;
        assert_eq!(*credential_id, link().credential);
        let is_yes = *verdict == Verdict::Confirm;
        assert!(self.payers.contains(&(*payment_id, is_yes)), "law 6: the payer's word only");
        let stored = self.disk.questions.iter().find(|it| it.payment() == *payment_id);
        let Question { notice, plaintext, verdict: first, .. } = stored.unwrap();
        assert_eq!(*first, Some(*verdict), "law 6: stored first");
        let word = *self.words.entry(*payment_id).or_insert(*verdict);
        assert_eq!(word, *verdict, "law 6: one word for ever");
        if self.is_clock_true {
            assert!(self.now < notice.expires_at.unwrap(), "law 6: in time");
        }
        let (merchant, amount) = (notice.merchant.id, notice.amount.minor());
        let message =
            notice::confirm_message(*verdict, *payment_id, merchant, amount, 392, plaintext);
        assert!(key().public().verifies(&message, signature));
        self.log.push(format!("say {} {verdict:?}", payment_id.raw()[0]));
    }

    /// Puts the oldest waiting record on the disk, as a driver does that is not alone there.
    pub(crate) fn store(&mut self) -> Option<Timestamp> {
        if self.to_store.is_empty() {
            return None;
        }
        let mut link = self.to_store.remove(0);
        let revision = link.counters.revision;
        link.merge(&self.disk);
        for before in self.disk.questions.iter().filter(|it| it.verdict.is_some()) {
            let after = link.questions.iter().find(|it| it.payment() == before.payment());
            assert!(after.is_none_or(|it| it.verdict == before.verdict), "law 6: one word");
        }
        self.disk = link;
        self.give(Input::Others(Box::new(self.disk.clone())));
        self.give(Input::Stored { revision })
    }

    pub(crate) fn pass(&mut self, ms: u64) -> Option<Timestamp> {
        self.now = self.now.plus_ms(ms);
        self.give(Input::Tick)
    }

    pub(crate) fn chance(&mut self, seed: u8) -> Option<Timestamp> {
        self.asked = false;
        self.give(Input::Chance(Box::new([seed; 64])))
    }

    pub(crate) fn ack(&mut self, which: usize, is_true: bool) -> Option<Timestamp> {
        self.acknowledge(which, is_true, self.now.plus_ms(5))
    }

    /// By an issuer whose clock says something else than the terminal's.
    pub(crate) fn ack_at(&mut self, which: usize, now: Timestamp) -> Option<Timestamp> {
        self.acknowledge(which, true, now)
    }

    fn acknowledge(&mut self, which: usize, is_true: bool, now: Timestamp) -> Option<Timestamp> {
        let statement = &self.sent.get(which)?.statement;
        let (sequence, digest) = (statement.sequence, statement.digest());
        let expires = now.plus_ms(u64::from(statement.lifetime_s) * 1000);
        let keys = if is_true { link().keys } else { LinkKeys::derive(&[6; 32], link().device) };
        let ack = registered_ack(&keys.link_key, &digest, expires, now);
        if is_true {
            self.truly_acked.insert(sequence);
        }
        let answer = CodeAnswer { expires_ms: expires.as_ms(), now_ms: now.as_ms(), ack };
        self.give(Input::Answered { sequence, answer: Answer::Registered(answer) })
    }

    pub(crate) fn refuse(
        &mut self,
        which: usize,
        code: ProblemCode,
        skew_ms: i64,
    ) -> Option<Timestamp> {
        let statement = &self.sent.get(which)?.statement;
        let (sequence, digest) = (statement.sequence, statement.digest());
        let now = Timestamp::from_ms(self.now.as_ms().saturating_add_signed(skew_ms));
        let ack = clock_ack(&link().keys.link_key, &digest, now);
        let problem = Problem {
            now_ms: Some(now.as_ms()),
            ack: Some(base64url::encode(ack)),
            ..problem(code)
        };
        self.give(Input::Answered { sequence, answer: Answer::Refused(problem) })
    }

    pub(crate) fn notify(
        &mut self,
        number: u64,
        seal_key: [u8; 32],
        kind: &str,
    ) -> Option<Timestamp> {
        self.notify_of(number, seal_key, &self.notice_text(kind, 1))
    }

    /// What a notice about the payment of this number says.
    pub(crate) fn notice_text(&self, kind: &str, payment: u8) -> NoticeText {
        let asks = kind == "confirm";
        NoticeText {
            kind: kind.to_owned(),
            payment_id: PaymentId::from_raw([payment; 16]),
            merchant: MerchantAbout {
                id: MerchantId::from_raw([1; 16]),
                name: "Aoba Bakery".to_owned(),
            },
            amount: Money::new(1200, jpy()).unwrap(),
            status: if asks { PaymentStatus::AwaitingPayer } else { PaymentStatus::Approved },
            reason: None,
            balance: None,
            expires_at: asks.then(|| self.now.plus_ms(60_000)),
            at: self.now,
        }
    }

    pub(crate) fn notify_of(
        &mut self,
        number: u64,
        seal_key: [u8; 32],
        text: &NoticeText,
    ) -> Option<Timestamp> {
        // Not as this machine would write it: the bytes count, whatever they look like.
        let plain = [b" ".as_slice(), &serde_json::to_vec(text).unwrap()].concat();
        let credential_id = link().credential;
        let sealed = notice::seal(&seal_key, credential_id, number, [7; 12], &plain);
        if seal_key == link().keys.seal_key {
            self.issued.push(plain);
        }
        let notice_id = NoticeId::from_raw([1; 16]);
        self.give(Input::Notice(SealedNotice { credential_id, notice_id, number, sealed }))
    }

    /// The issuer asks about a payment.
    pub(crate) fn ask(&mut self, number: u64, payment: u8) -> Option<Timestamp> {
        self.notify_of(number, link().keys.seal_key, &self.notice_text("confirm", payment))
    }

    /// The payer answers.
    pub(crate) fn say(&mut self, payment: u8, verdict: Verdict) -> Option<Timestamp> {
        let payment = PaymentId::from_raw([payment; 16]);
        self.payers.insert((payment, verdict == Verdict::Confirm));
        self.give(Input::Verdict { payment, verdict })
    }

    /// The issuer has heard it.
    pub(crate) fn hear(&mut self, payment: u8, verdict: Verdict) -> Option<Timestamp> {
        let payment = PaymentId::from_raw([payment; 16]);
        let answer = VerdictAnswer::Heard(ConfirmationAnswer { payment_id: payment, verdict });
        self.give(Input::VerdictAnswered { payment, answer })
    }

    /// The issuer or the hub refuses it.
    pub(crate) fn refuse_word(&mut self, payment: u8, code: ProblemCode) -> Option<Timestamp> {
        let payment = PaymentId::from_raw([payment; 16]);
        let answer = VerdictAnswer::Refused(problem(code));
        self.give(Input::VerdictAnswered { payment, answer })
    }

    /// Another process on the same link stores the payer's word, unless there is one.
    pub(crate) fn say_elsewhere(&mut self, payment: u8, verdict: Verdict) {
        let payment = PaymentId::from_raw([payment; 16]);
        let question = self.disk.questions.iter_mut().find(|it| it.payment() == payment);
        if let Some(question) = question.filter(|it| it.verdict.is_none()) {
            question.verdict = Some(verdict);
            self.payers.insert((payment, verdict == Verdict::Confirm));
        }
    }

    pub(crate) fn store_all(&mut self) {
        while !self.to_store.is_empty() {
            self.store();
        }
    }

    pub(crate) fn restart(&mut self) {
        self.terminal = Terminal::new(self.disk.clone(), key());
        self.to_store.clear();
        self.notice = self.disk.counters.notice;
        self.code = None;
        self.asked = false;
        self.put.clear();
    }

    /// Shows a code the way a driver without faults does.
    pub(crate) fn show(&mut self) {
        self.give(Input::Show(Wish::default()));
        self.chance(7);
        self.store_all();
    }

    pub(crate) fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }
}

fn problem(code: ProblemCode) -> Problem {
    Problem {
        kind: format!("urn:warifu:problem:{}", code.name()),
        title: code.title().to_owned(),
        status: code.status(),
        detail: String::new(),
        code: code.name().to_owned(),
        instance: String::new(),
        now_ms: None,
        ack: None,
    }
}
