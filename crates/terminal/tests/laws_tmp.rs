//! The laws of the terminal's machine under random inputs in any order: late, forged and repeated answers, stores
//! that are slow or never happen, clocks that are set, restarts. The numbers are those of `machine.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use warifu_proto::base64url;
use warifu_proto::code::{Code, Prefix, Scanned};
use warifu_proto::currency::CurrencyCode;
use warifu_proto::id::{
    CredentialId, InvitationId, IssuerId, MerchantId, NetworkId, NoticeId, PaymentId,
};
use warifu_proto::key::{PrivateKey, Thumbprint};
use warifu_proto::link::LinkKeys;
use warifu_proto::message::{
    AccountAbout, AccountKind, CodeAnswer, IssuerAbout, LimitsAbout, MerchantAbout, NoticeText,
    PaymentStatus, SealedNotice,
};
use warifu_proto::money::Money;
use warifu_proto::notice;
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_proto::registration::{Registration, clock_ack, registered_ack, tag};
use warifu_proto::time::Timestamp;
use warifu_terminal::{Answer, Counters, Input, Link, Output, Screen, Terminal, Trouble, Wish};

const NOW_MS: u64 = 1_795_305_600_000;

fn key() -> PrivateKey {
    PrivateKey::from_bytes(&[9; 32]).unwrap()
}

fn jpy() -> CurrencyCode {
    CurrencyCode::parse("JPY").unwrap()
}

fn link() -> Link {
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
    }
}

/// A driver, a disk, and everything that was ever seen, to hold the laws against.
struct World {
    terminal: Terminal,
    disk: Link,
    to_store: Vec<Link>,
    now: Timestamp,
    sent: Vec<Registration>,
    /// What was said under each sequence.
    said: BTreeMap<u32, [u8; 32]>,
    truly_acked: BTreeSet<u32>,
    code: Option<Code>,
    notice: u64,
    asked: bool,
    log: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self {
            terminal: Terminal::new(link(), key()),
            disk: link(),
            to_store: Vec::new(),
            now: Timestamp::from_ms(NOW_MS),
            sent: Vec::new(),
            said: BTreeMap::new(),
            truly_acked: BTreeSet::new(),
            code: None,
            notice: 0,
            asked: false,
            log: Vec::new(),
        }
    }

    fn give(&mut self, input: Input) -> Option<Timestamp> {
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

    fn shown(&mut self, screen: &Screen, is_long: bool) {
        assert!(self.disk.counters.sequence >= screen.sequence, "law 1");
        let scanned = Scanned::parse(&screen.digits).unwrap();
        assert_eq!(scanned.registration.is_some(), is_long);
        if let Some(registration) = &scanned.registration {
            assert!(registration.is_signed_by(key().public()));
            assert!(self.disk.counters.sequence >= registration.statement.sequence, "law 1");
            assert_eq!(Some(&scanned.code), self.code.as_ref(), "the long code of the same code");
        }
        assert!(scanned.code.starts_with("7100000107"));
        self.code = Some(scanned.code);
        self.log.push(if is_long { "show long" } else { "show" }.to_owned());
    }

    fn sends(&mut self, sequence: u32, registration: Registration) {
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

    /// Puts the oldest waiting record on the disk.
    fn store(&mut self) -> Option<Timestamp> {
        if self.to_store.is_empty() {
            return None;
        }
        self.disk = self.to_store.remove(0);
        self.give(Input::Stored { revision: self.disk.counters.revision })
    }

    fn pass(&mut self, ms: u64) -> Option<Timestamp> {
        self.now = self.now.plus_ms(ms);
        self.give(Input::Tick)
    }

    fn chance(&mut self, seed: u8) -> Option<Timestamp> {
        self.asked = false;
        self.give(Input::Chance(Box::new([seed; 64])))
    }

    fn ack(&mut self, which: usize, is_true: bool) -> Option<Timestamp> {
        let statement = &self.sent.get(which)?.statement;
        let (sequence, digest) = (statement.sequence, statement.digest());
        let now = Timestamp::from_ms(NOW_MS + 5);
        let expires = now.plus_ms(u64::from(statement.lifetime_s) * 1000);
        let keys = if is_true { link().keys } else { LinkKeys::derive(&[6; 32], link().device) };
        let ack = registered_ack(&keys.link_key, &digest, expires, now);
        if is_true {
            self.truly_acked.insert(sequence);
        }
        let answer = CodeAnswer { expires_ms: expires.as_ms(), now_ms: now.as_ms(), ack };
        self.give(Input::Answered { sequence, answer: Answer::Registered(answer) })
    }

    fn refuse(&mut self, which: usize, code: ProblemCode, skew_ms: i64) -> Option<Timestamp> {
        let statement = &self.sent.get(which)?.statement;
        let (sequence, digest) = (statement.sequence, statement.digest());
        let now = Timestamp::from_ms(self.now.as_ms().saturating_add_signed(skew_ms));
        let ack = clock_ack(&link().keys.link_key, &digest, now);
        let problem = Problem {
            kind: format!("urn:warifu:problem:{}", code.name()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: String::new(),
            code: code.name().to_owned(),
            instance: String::new(),
            now_ms: Some(now.as_ms()),
            ack: Some(base64url::encode(ack)),
        };
        self.give(Input::Answered { sequence, answer: Answer::Refused(problem) })
    }

    fn notify(&mut self, number: u64, seal_key: [u8; 32], kind: &str) -> Option<Timestamp> {
        let text = NoticeText {
            kind: kind.to_owned(),
            payment_id: PaymentId::from_raw([1; 16]),
            merchant: MerchantAbout {
                id: MerchantId::from_raw([1; 16]),
                name: "Aoba Bakery".to_owned(),
            },
            amount: Money::new(1200, jpy()).unwrap(),
            status: PaymentStatus::Approved,
            reason: None,
            balance: None,
            expires_at: None,
            at: self.now,
        };
        let plain = serde_json::to_vec(&text).unwrap();
        let credential_id = link().credential;
        let sealed = notice::seal(&seal_key, credential_id, number, [7; 12], &plain);
        let notice_id = NoticeId::from_raw([1; 16]);
        self.give(Input::Notice(SealedNotice { credential_id, notice_id, number, sealed }))
    }

    fn restart(&mut self) {
        self.terminal = Terminal::new(self.disk.clone(), key());
        self.to_store.clear();
        self.notice = self.disk.counters.notice;
        self.code = None;
        self.asked = false;
    }

    /// Shows a code the way a driver without faults does.
    fn show(&mut self) {
        self.give(Input::Show(Wish::default()));
        self.chance(7);
        while !self.to_store.is_empty() {
            self.store();
        }
    }

    fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }
}

#[test]
fn a_code_is_stored_then_shown_then_sent_until_it_is_acknowledged() {
    let mut world = World::new();
    world.give(Input::Show(Wish::default()));
    assert!(world.asked && world.to_store.is_empty());
    world.chance(7);
    assert!(world.log().is_empty(), "nothing before it is stored");
    let mut wake = world.store();
    while let Some(at) = wake.filter(|at| at.as_ms() <= NOW_MS + 6_200) {
        wake = world.pass(at.since_ms(world.now));
    }
    let want = ["show", "send 0", "send 200", "send 600", "send 1400", "show long"];
    let then = ["send 3000", "send 6200"];
    assert_eq!(world.log(), [want.as_slice(), &then].concat());

    assert!(world.ack(0, false).is_some());
    assert!(world.log().is_empty(), "a forged acknowledgement is none");
    world.ack(0, true);
    assert_eq!(world.log(), ["show", "acked"]);
    world.pass(20_000);
    assert!(world.log().is_empty(), "an acknowledged code is not sent again");
}

#[test]
fn a_code_is_renewed_before_it_expires_and_never_shown_afterwards() {
    let mut world = World::new();
    world.show();
    let wake = world.ack(0, true).unwrap();
    assert_eq!(wake.as_ms(), NOW_MS + 50_000);
    world.log();
    world.pass(50_000);
    assert!(world.asked);
    // The random bytes never come: the old code leaves the screen when it is dead.
    world.pass(9_999);
    assert!(world.log().is_empty());
    world.pass(1);
    assert_eq!(world.log(), ["hide"]);
    world.chance(8);
    world.store();
    assert_eq!(world.log(), ["show", "send 60000"]);
}

#[test]
fn a_clock_set_back_does_not_keep_a_code_alive() {
    let mut world = World::new();
    world.show();
    world.ack(0, true);
    world.log();
    world.now = Timestamp::from_ms(NOW_MS - 3_600_000);
    let wake = world.give(Input::Tick).unwrap();
    assert_eq!(wake.since_ms(world.now), 50_000);
    world.pass(60_000);
    assert_eq!(world.log(), ["hide"]);
}

#[test]
fn leaving_withdraws_what_was_shown() {
    let mut world = World::new();
    world.give(Input::Leave);
    assert_eq!(world.log(), ["withdrawn false"]);
    world.show();
    world.log();
    world.pass(1_000);
    world.log();
    world.give(Input::Leave);
    assert_eq!(world.log(), ["hide"], "the withdrawal waits until its sequence is stored");
    world.store();
    assert_eq!(world.log(), ["send 1000"]);
    let statement = &world.sent.last().unwrap().statement;
    assert_eq!(statement.lifetime_s, 0);
    let last = world.sent.len() - 1;
    world.refuse(last, ProblemCode::NotAccepted, 0);
    world.ack(last, false);
    assert!(world.log().is_empty());
    assert_eq!(world.ack(last, true), None);
    assert_eq!(world.log(), ["withdrawn true"]);
}

#[test]
fn a_withdrawal_that_nobody_hears_ends_with_the_code() {
    let mut world = World::new();
    world.show();
    world.give(Input::Leave);
    let mut wake = world.store();
    while let Some(at) = wake {
        wake = world.pass(at.since_ms(world.now));
    }
    assert_eq!(world.now.as_ms(), NOW_MS + 60_000);
    assert_eq!(world.log().last().unwrap(), "withdrawn false");
}

#[test]
fn a_wrong_clock_is_corrected_only_by_the_issuers_own_proof() {
    let mut world = World::new();
    world.show();
    world.log();
    // The hub alone: an hour off, proven with a key that is not the link's.
    let honest = world.sent.clone();
    world.sent[0].statement.tag = [0; 16];
    world.refuse(0, ProblemCode::ClockSkew, 3_600_000);
    assert!(world.to_store.is_empty(), "a proof of another statement proves nothing");
    world.sent = honest;
    world.refuse(0, ProblemCode::ClockSkew, 3_600_000);
    assert!(world.log().is_empty());
    world.store();
    assert_eq!(world.log(), ["send 0"]);
    let statement = &world.sent[1].statement;
    assert_eq!(statement.issued_at.as_ms(), NOW_MS + 3_600_000);
    assert_eq!(statement.tag, world.sent[0].statement.tag, "it is still the same code");
    assert!(statement.sequence > world.sent[0].statement.sequence);
    // An issuer whose clock runs wild does not keep the terminal busy for ever.
    for which in 1..10 {
        world.refuse(which, ProblemCode::ClockSkew, -3_600_000);
        world.store();
    }
    assert_eq!(world.sent.len(), 4);
    assert_eq!(
        world.log().last().unwrap(),
        "trouble: the code was not registered: Your clock is wrong."
    );
}

#[test]
fn a_used_sequence_gets_the_next_and_a_refusal_for_good_ends_the_repeats() {
    let mut world = World::new();
    world.show();
    world.refuse(0, ProblemCode::SequenceUsed, 0);
    world.store();
    assert_eq!(world.log(), ["show", "send 0", "send 0"]);
    world.refuse(1, ProblemCode::TooManyRequests, 0);
    world.pass(200);
    assert_eq!(world.log(), ["send 200"]);
    world.refuse(1, ProblemCode::CredentialUnknown, 0);
    assert_eq!(world.log().len(), 1);
    world.pass(1_000);
    assert!(world.log().is_empty());
    // The long code still works without the hub.
    world.pass(1_000);
    assert_eq!(world.log(), ["show long"]);
}

#[test]
fn a_slow_store_is_waited_for_without_a_loop() {
    let mut world = World::new();
    world.show();
    world.pass(1_900);
    world.refuse(0, ProblemCode::SequenceUsed, 0);
    world.log();
    // The long code would be due, but what it must say is not stored yet.
    let wake = world.pass(300).unwrap();
    assert_eq!(wake.as_ms(), NOW_MS + 50_000);
    world.store();
    assert_eq!(world.log(), ["send 2200", "show long"]);
}

#[test]
fn notices_come_once_each_in_order_and_gaps_are_said() {
    let mut world = World::new();
    let seal_key = link().keys.seal_key;
    world.notify(1, seal_key, "paid");
    world.notify(1, seal_key, "paid");
    world.notify(2, [0; 32], "paid");
    world.notify(9, [0; 32], "paid");
    world.notify(4, seal_key, "declined");
    world.notify(3, seal_key, "paid");
    let forged = "trouble: a notice was not made by the issuer and is ignored";
    let missing = "trouble: 2 notices are missing: look at the account's statement";
    assert_eq!(world.log(), ["notice 1 paid", forged, forged, missing, "notice 4 declined"]);
    assert_eq!(world.terminal.acknowledged_notice(), 0, "not before it is stored");
    world.store();
    assert_eq!(world.terminal.acknowledged_notice(), 1);
    world.store();
    assert_eq!(world.terminal.acknowledged_notice(), 4);
}

#[test]
fn a_payment_makes_room_for_the_next_code() {
    let mut world = World::new();
    world.show();
    world.ack(0, true);
    world.log();
    world.pass(1_000);
    world.notify(1, link().keys.seal_key, "refunded");
    assert!(!world.asked, "a refund is not by this code");
    world.notify(2, link().keys.seal_key, "paid");
    assert!(!world.asked, "one code in two seconds is enough");
    world.pass(1_000);
    assert!(world.asked);
}

#[test]
fn used_up_sequences_are_said_and_nothing_is_shown() {
    let mut world = World::new();
    let mut link = link();
    link.counters.sequence = u32::MAX;
    world.terminal = Terminal::new(link, key());
    world.give(Input::Show(Wish::default()));
    assert_eq!(world.chance(7), None);
    assert_eq!(world.log(), [format!("trouble: {}", Trouble::SequencesUsedUp)]);
}

#[test]
fn a_broken_source_of_chance_does_not_make_a_loop() {
    let mut world = World::new();
    world.give(Input::Show(Wish::default()));
    world.chance(255);
    assert!(world.asked);
    assert_eq!(world.chance(255), None);
    assert!(!world.asked);
    assert_eq!(world.log(), [format!("trouble: {}", Trouble::BadChance)]);
}

#[derive(Debug, Clone)]
enum Op {
    Show(u16, Option<u64>),
    Leave,
    Pass(u64),
    SetClock(u64),
    Store,
    StoredNonsense(u64),
    Chance(u8),
    Ack(usize, bool),
    Refuse(usize, usize, i64),
    Notify(u64, bool, bool),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0_usize..12;
    prop_oneof![
        3 => (any::<u16>(), any::<Option<u64>>()).prop_map(|(s, cap)| Op::Show(s, cap)),
        1 => Just(Op::Leave),
        4 => prop_oneof![0_u64..300, 0_u64..70_000].prop_map(Op::Pass),
        1 => (NOW_MS / 2..NOW_MS * 2).prop_map(Op::SetClock),
        6 => Just(Op::Store),
        1 => (0_u64..9).prop_map(Op::StoredNonsense),
        5 => any::<u8>().prop_map(Op::Chance),
        3 => (which.clone(), any::<bool>()).prop_map(|(which, is_true)| Op::Ack(which, is_true)),
        2 => (which, 0..ProblemCode::ALL.len(), -4_000_000_i64..4_000_000)
            .prop_map(|(which, code, skew)| Op::Refuse(which, code, skew)),
        2 => (0_u64..9, any::<bool>(), any::<bool>()).prop_map(|(n, sealed, paid)| Op::Notify(n, sealed, paid)),
        1 => Just(Op::Restart),
    ]
}

fn run(world: &mut World, op: Op) {
    match op {
        Op::Show(lifetime_s, cap_minor) => {
            world.give(Input::Show(Wish { lifetime_s, cap_minor }));
        }
        Op::Leave => {
            world.give(Input::Leave);
        }
        Op::Pass(ms) => {
            world.pass(ms);
        }
        Op::SetClock(ms) => {
            world.now = Timestamp::from_ms(ms);
            world.give(Input::Tick);
        }
        Op::Store => {
            world.store();
        }
        Op::StoredNonsense(revision) => {
            // A driver that claims what it did not do is believed only about what is under way.
            if world.to_store.first().is_none_or(|it| it.counters.revision != revision) {
                world.give(Input::Stored { revision });
            }
        }
        Op::Chance(seed) => {
            world.chance(seed);
        }
        Op::Ack(which, is_true) => {
            world.ack(which, is_true);
        }
        Op::Refuse(which, code, skew) => {
            world.refuse(which, ProblemCode::ALL[code], skew);
        }
        Op::Notify(number, is_sealed, is_paid) => {
            let seal_key = if is_sealed { link().keys.seal_key } else { [0; 32] };
            world.notify(number, seal_key, if is_paid { "paid" } else { "x" });
        }
        Op::Restart => world.restart(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_laws_hold_and_everything_ends(
        ops in proptest::collection::vec(op(), 0..60),
        stores_at_the_end: bool,
    ) {
        let mut world = World::new();
        for op in ops {
            run(&mut world, op);
        }
        // Law 5: it ends, whether the driver still stores or not.
        let mut wake = world.give(Input::Leave);
        let mut rounds = 0;
        loop {
            if stores_at_the_end && !world.to_store.is_empty() {
                wake = world.store();
            } else if let Some(at) = wake {
                wake = world.pass(at.since_ms(world.now));
            } else {
                break;
            }
            rounds += 1;
            prop_assert!(rounds < 300, "it never ends");
        }
        prop_assert!(world.code.is_none(), "nothing stays on the screen");
    }
}
