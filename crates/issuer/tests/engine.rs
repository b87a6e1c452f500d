//! The engine as its callers see it: real threads, the model store and SQLite, crashes, full disks, damaged journals.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "engine/crash.rs"]
mod crash;
#[path = "engine/damage.rs"]
mod damage;
#[path = "engine/edges.rs"]
mod edges;
#[path = "engine/flight.rs"]
mod flight;
#[path = "engine/life.rs"]
mod life;
#[path = "engine/verify.rs"]
mod verify;
#[path = "engine/wrapped.rs"]
mod wrapped;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use warifu_core::decide::{
    Command, Invite, Link, OpenAccount, Pay, Refusal, Register, Standing, TopUp,
};
use warifu_core::limits::Limits;
use warifu_core::partition::WINDOW;
use warifu_core::payment::PaymentPlace;
use warifu_core::place::id_in;
use warifu_core::vault::Vault;
use warifu_issuer::engine::recover::{Recovered, fold_from_the_beginning, recover};
use warifu_issuer::engine::{Answer, Ask, Engine, EngineConfig, PaymentState, Refused};
use warifu_issuer::store::Store;
use warifu_issuer::store::model::ModelStore;
use warifu_issuer::store::sqlite::SqliteStore;
use warifu_proto::code::{Code, Prefix};
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::id::{AccountId, CredentialId, InvitationId, MerchantId, ReaderId};
use warifu_proto::key::PrivateKey;
use warifu_proto::link::LinkKeys;
use warifu_proto::message::{AccountKind, Capture, PaymentStatus};
use warifu_proto::money::Money;
use warifu_proto::registration::{Statement, tag};
use warifu_proto::rejection::Rejection;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;
use warifu_server::{chance, clock};
use zeroize::Zeroizing;

const PATIENCE: Duration = Duration::from_secs(30);
const PARTITION: u8 = 7;

fn prefix() -> Prefix {
    Prefix::parse("71000001").unwrap()
}

fn vault() -> Arc<Vault> {
    Arc::new(Vault::new([5; 32]))
}

fn yen() -> Currency {
    Currency::iso(CurrencyCode::parse("JPY").unwrap()).unwrap()
}

fn start(store: &Arc<dyn Store>) -> Engine {
    Engine::start(EngineConfig::new(prefix()), Arc::clone(store), vault()).unwrap()
}

/// Asks and waits, from any thread.
fn ask(engine: &Engine, partition: u8, ask: Ask) -> Result<Answer, Refused> {
    engine.send_later(partition, ask, PATIENCE)?.blocking_recv().unwrap_or(Err(Refused::Unknown))
}

fn decide(engine: &Engine, command: Command) -> Result<Answer, Refused> {
    ask(engine, PARTITION, Ask::Decide(Box::new(command)))
}

/// A payment of any age.
fn payment_at(engine: &Engine, place: PaymentPlace) -> PaymentState {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(engine.payment(place, PATIENCE)).unwrap()
}

#[track_caller]
fn payment(answer: Result<Answer, Refused>) -> PaymentState {
    match answer {
        Ok(Answer::Payment(state)) => state,
        other => panic!("no payment: {other:?}"),
    }
}

/// A linked terminal with money.
struct Payer {
    account: AccountId,
    credential: CredentialId,
    keys: LinkKeys,
    key: [u8; 64],
    sequence: AtomicU64,
}

impl Payer {
    fn open(engine: &Engine, name: &str, minor: u64) -> Self {
        let now = clock::now();
        let key = PrivateKey::from_bytes(&[9; 32]).unwrap();
        let account: AccountId = id_in(PARTITION, now, chance::bytes());
        let id = |what: &str| RequestId::parse(&format!("{what}-{name}")).unwrap();
        let open = OpenAccount {
            request: id("open"),
            digest: [1; 16],
            account,
            kind: AccountKind::Prepaid,
            currency: yen(),
            credit_limit_minor: 0,
        };
        decide(engine, Command::OpenAccount(open)).unwrap();
        let amount = Money::new(minor, yen().code).unwrap();
        decide(
            engine,
            Command::TopUp(TopUp { request: id("top"), digest: [1; 16], account, amount }),
        )
        .unwrap();
        let (secret, invitation): (_, InvitationId) =
            (Zeroizing::new(chance::bytes()), id_in(PARTITION, now, chance::bytes()));
        decide(engine, Command::Invite(Invite { account, invitation, secret: secret.clone() }))
            .unwrap();
        let keys = LinkKeys::derive(&secret, key.thumbprint());
        let proof = keys.proof(prefix(), invitation, key.thumbprint());
        let credential: CredentialId = id_in(PARTITION, now, chance::bytes());
        decide(
            engine,
            Command::Link(Link {
                prefix: prefix(),
                invitation,
                key: key.public().clone(),
                proof,
                credential,
            }),
        )
        .unwrap();
        Self { account, credential, keys, key: key.public().xy(), sequence: AtomicU64::new(0) }
    }

    fn make(&self) -> (Code, Command) {
        let code = Code::make(prefix(), PARTITION, &chance::bytes()).unwrap();
        let statement = Statement {
            prefix: prefix(),
            locator: code.locator(prefix()),
            lifetime_s: 60,
            sequence: u32::try_from(self.sequence.fetch_add(1, Ordering::Relaxed) + 1).unwrap(),
            credential: self.credential,
            tag: tag(&self.keys.code_key, &code),
            issued_at: clock::now(),
            currency_number: 392,
            cap_minor: 0,
        };
        let digest = statement.digest();
        (code, Command::Register(Register { statement, digest, signed_by: self.key }))
    }

    fn register(&self, engine: &Engine) -> Code {
        let (code, register) = self.make();
        decide(engine, register).unwrap();
        code
    }

    fn balance(&self, engine: &Engine) -> i64 {
        match ask(engine, PARTITION, Ask::Account(self.account)) {
            Ok(Answer::Account(state)) => state.account.balance_minor,
            other => panic!("no account: {other:?}"),
        }
    }
}

fn merchant() -> MerchantId {
    MerchantId::from_raw([3; 16])
}

fn pay(request: &str, code: &Code, minor: u64, wait_ms: u64) -> Command {
    let now = clock::now();
    Command::Pay(Box::new(Pay {
        merchant: merchant(),
        merchant_standing: Standing::Active,
        reader: ReaderId::from_raw([4; 16]),
        reader_standing: Standing::Active,
        request: RequestId::parse(request).unwrap(),
        digest: warifu_proto::mac::first_16(warifu_proto::mac::sha256(&[
            code.as_bytes(),
            &minor.to_be_bytes(),
        ])),
        code: code.clone(),
        locator: code.locator(prefix()),
        amount: Money::new(minor, yen().code).unwrap(),
        deadline_at: now.plus_ms(20_000),
        // The lane's clock may be a moment behind: nothing shall wait that need not.
        wait_until: if wait_ms == 0 { Timestamp::default() } else { now.plus_ms(wait_ms) },
        long_code: None,
        capture: Capture::Now,
        hold_until: now.plus_ms(60_000),
        limits: Limits::default(),
        is_reversed: false,
        business_day: 20_000,
    }))
}

fn unknown_code() -> Code {
    Code::make(prefix(), PARTITION, &chance::bytes()).unwrap()
}

/// Every store, and what has to outlive it.
fn stores() -> Vec<(Arc<dyn Store>, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let sqlite: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path(), prefix()).unwrap());
    vec![(Arc::new(ModelStore::new([8; 16])), tempfile::tempdir().unwrap()), (sqlite, folder)]
}

fn hashes(store: &dyn Store) -> Vec<[u8; 32]> {
    let whole = fold_from_the_beginning(store, &vault()).unwrap();
    whole.partitions.values().map(|it| it.state.state_hash(&vault())).collect()
}

#[test]
fn one_code_pays_once_however_many_tills_ask_at_the_same_time() {
    for (store, _folder) in stores() {
        let engine = start(&store);
        let payer = Payer::open(&engine, "one", 1_000);
        let code = payer.register(&engine);
        let approved = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for till in 0..8 {
                let (engine, code, approved) = (&engine, &code, &approved);
                scope.spawn(move || {
                    for number in 0..10 {
                        let state = payment(decide(
                            engine,
                            pay(&format!("till-{till}-{number}"), code, 10, 0),
                        ));
                        approved.fetch_add(
                            u64::from(state.payment.status == PaymentStatus::Approved),
                            Ordering::Relaxed,
                        );
                    }
                });
            }
        });
        assert_eq!((approved.into_inner(), payer.balance(&engine)), (1, 990));
        engine.stop();
    }
}

#[test]
fn one_request_is_one_payment_however_often_it_is_sent() {
    for (store, _folder) in stores() {
        let engine = start(&store);
        let payer = Payer::open(&engine, "same", 1_000);
        let code = payer.register(&engine);
        let ids = std::thread::scope(|scope| {
            let asks: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| payment(decide(&engine, pay("same", &code, 10, 0))).payment)
                })
                .collect();
            asks.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(payer.balance(&engine), 990);
        let changed = decide(&engine, pay("same", &code, 11, 0));
        assert!(
            matches!(changed, Err(Refused::Rule { refusal: Refusal::RequestIdConflict, .. })),
            "{changed:?}"
        );
        // The same id with a code of another partition is another request too.
        let mut digits = unknown_code().as_str().to_owned();
        digits.replace_range(8..10, "42");
        let elsewhere = ask(
            &engine,
            42,
            Ask::Decide(Box::new(pay("same", &Code::parse(&digits).unwrap(), 10, 0))),
        );
        assert!(
            matches!(elsewhere, Err(Refused::Rule { refusal: Refusal::RequestIdConflict, .. })),
            "{elsewhere:?}"
        );
        let found = payment(ask(
            &engine,
            42,
            Ask::PaymentOf(merchant(), RequestId::parse("same").unwrap()),
        ));
        assert_eq!(found.payment, ids[0]);
        assert_eq!(
            crash::decided(store.as_ref()).into_values().collect::<Vec<_>>(),
            [ids[0].clone()],
            "one entry"
        );
        engine.stop();
    }
}

#[test]
fn a_payment_waits_for_its_registration_and_repeats_join_it() {
    for (store, _folder) in stores() {
        let engine = start(&store);
        let payer = Payer::open(&engine, "early", 1_000);
        let (code, register) = payer.make();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                engine
                    .send_later(
                        PARTITION,
                        Ask::Decide(Box::new(pay("early", &code, 10, 10_000))),
                        PATIENCE,
                    )
                    .unwrap()
            })
            .collect();
        let conflict = decide(&engine, pay("early", &code, 12, 10_000));
        assert!(matches!(conflict, Err(Refused::Rule { refusal: Refusal::RequestIdConflict, .. })));
        decide(&engine, register).unwrap();
        let paid: Vec<_> =
            waiting.into_iter().map(|it| payment(it.blocking_recv().unwrap()).payment).collect();
        assert!(paid.iter().all(|it| it.status == PaymentStatus::Approved
            && it.first_sequence == paid[0].first_sequence));
        let state = payment(decide(&engine, pay("never", &unknown_code(), 10, 200)));
        assert_eq!(state.payment.rejection, Some(Rejection::CodeUnknown));
        engine.stop();
    }
}

#[test]
fn a_crash_loses_nothing_that_was_answered() {
    for (store, _folder) in stores() {
        let engine = start(&store);
        let payer = Payer::open(&engine, "crash", 1_000);
        let mut answered = Vec::new();
        for number in 0..50 {
            let code = payer.register(&engine);
            answered.push(
                payment(decide(&engine, pay(&format!("crash-{number}"), &code, 3, 0))).payment,
            );
        }
        // Dropped, not stopped: no last snapshot, no goodbye.
        drop(engine);
        let before = hashes(store.as_ref());
        let engine = start(&store);
        for payment_before in &answered {
            let place = PaymentPlace {
                partition: PARTITION,
                first_sequence: payment_before.first_sequence,
            };
            assert_eq!(&payment_at(&engine, place).payment, payment_before);
        }
        assert_eq!(payer.balance(&engine), 850);
        engine.stop();
        assert_eq!(hashes(store.as_ref()), before);
        // Stopping took snapshots: from them the state is the same as from the first entry.
        let short = recover(store.as_ref(), &vault(), None).unwrap();
        assert_eq!(short.applied, 0);
        assert_eq!(
            short.partitions.values().map(|it| it.state.state_hash(&vault())).collect::<Vec<_>>(),
            before
        );
    }
}

#[test]
fn a_refused_commit_leaves_no_trace_and_pays_nobody() {
    let model = Arc::new(ModelStore::new([8; 16]));
    let store: Arc<dyn Store> = Arc::clone(&model) as _;
    let engine = start(&store);
    let payer = Payer::open(&engine, "full", 1_000);
    let code = payer.register(&engine);
    let before = hashes(store.as_ref());
    model.refuse_appends(true);
    for number in 0..20 {
        let refused = decide(&engine, pay(&format!("full-{number}"), &code, 10, 0));
        assert!(matches!(refused, Err(Refused::NotAccepted(_))), "{refused:?}");
    }
    let (_, register) = payer.make();
    assert!(matches!(decide(&engine, register), Err(Refused::NotAccepted(_))));
    assert_eq!((hashes(store.as_ref()), payer.balance(&engine)), (before, 1_000));
    model.refuse_appends(false);
    // The very same request is taken now, and the code was not consumed by the refused tries.
    assert_eq!(
        payment(decide(&engine, pay("full-3", &code, 10, 0))).payment.status,
        PaymentStatus::Approved
    );
    assert_eq!(payer.balance(&engine), 990);
    engine.stop();
}

#[test]
fn payments_older_than_memory_are_found_and_never_decided_again() {
    let store: Arc<dyn Store> = Arc::new(ModelStore::new([8; 16]));
    let engine = start(&store);
    let payer = Payer::open(&engine, "old", 1_000);
    let code = payer.register(&engine);
    let old = payment(decide(&engine, pay("0-old", &code, 10, 0))).payment;
    let mut waiting = std::collections::VecDeque::new();
    for number in 0..WINDOW + 100 {
        let command = pay(&format!("1-{number:08}"), &unknown_code(), 1, 0);
        waiting.push_back(
            engine.send_later(PARTITION, Ask::Decide(Box::new(command)), PATIENCE).unwrap(),
        );
        if waiting.len() > 500 {
            payment(waiting.pop_front().unwrap().blocking_recv().unwrap());
        }
    }
    waiting.into_iter().for_each(|it| drop(payment(it.blocking_recv().unwrap())));
    let place = PaymentPlace { partition: PARTITION, first_sequence: old.first_sequence };
    assert_eq!(payment_at(&engine, place).payment, old);
    // What has left memory is named, for the caller to read: not the lane's thread.
    let ask_old = Ask::PaymentOf(merchant(), RequestId::parse("0-old").unwrap());
    let answers = [
        ask(&engine, PARTITION, ask_old),
        decide(&engine, pay("0-old", &code, 10, 0)),
        ask(&engine, PARTITION, Ask::Payment(place, None)),
    ];
    for answer in answers {
        assert!(matches!(answer, Err(Refused::NotInMemory(at)) if at == place), "{answer:?}");
    }
    let changed = decide(&engine, pay("0-old", &code, 11, 0));
    assert!(matches!(changed, Err(Refused::Rule { refusal: Refusal::RequestIdConflict, .. })));
    assert_eq!(payer.balance(&engine), 990);
    engine.stop();
}

#[test]
fn a_journal_that_was_changed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path(), prefix()).unwrap());
    let engine = start(&store);
    let payer = Payer::open(&engine, "changed", 1_000);
    let code = payer.register(&engine);
    payment(decide(&engine, pay("changed", &code, 10, 0)));
    drop(engine);
    let wrong = Vault::new([6; 32]);
    assert!(
        fold_from_the_beginning(store.as_ref(), &wrong)
            .unwrap_err()
            .to_string()
            .contains("vault key")
    );
    drop(store);

    let journal = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    assert!(
        journal
            .execute("UPDATE frame SET body = body", [])
            .unwrap_err()
            .to_string()
            .contains("append only")
    );
    journal.execute_batch("DROP TRIGGER frame_is_never_changed").unwrap();
    let (position, mut body): (i64, Vec<u8>) = journal
        .query_row("SELECT position, body FROM frame ORDER BY position DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    // The business day of the last payment: a fact that no rule looks at.
    let at = body.len() - 60;
    body[at] ^= 1;
    journal
        .execute(
            "UPDATE frame SET body = ?1 WHERE position = ?2",
            rusqlite::params![body, position],
        )
        .unwrap();
    drop(journal);
    let store = SqliteStore::open(folder.path(), prefix()).unwrap();
    let error = format!("{:#}", fold_from_the_beginning(&store, &vault()).unwrap_err());
    assert!(error.contains("07"), "{error}");
}
