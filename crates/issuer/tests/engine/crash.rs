//! What crashes, full disks and commits of unknown outcome leave behind.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use warifu_core::payment::Payment;
use warifu_issuer::store::Snapshot;

use super::wrapped::{Lost, Wrapped};
use super::*;

/// What a power cut would leave of a folder: the files as they lie there, in the middle of whatever is being written.
/// The journal comes last, so that nothing that was made of it is ahead of it.
fn image(of: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in [
        "snapshots.db",
        "snapshots.db-wal",
        "index.db",
        "index.db-wal",
        "journal.db",
        "journal.db-wal",
    ] {
        if of.join(name).exists() {
            std::fs::copy(of.join(name), to.path().join(name)).unwrap();
        }
    }
    to
}

fn find(engine: &Engine, request: &str) -> Result<Answer, Refused> {
    ask(engine, PARTITION, Ask::PaymentOf(merchant(), RequestId::parse(request).unwrap()))
}

/// Every payment in the journal, by request id; none may be there twice.
pub(super) fn decided(store: &dyn Store) -> std::collections::BTreeMap<String, Payment> {
    let mut all = std::collections::BTreeMap::new();
    for entry in store.read(1, usize::MAX).unwrap().iter().flat_map(|it| it.entries.clone()) {
        let entry = warifu_core::entry::Entry::decode(&entry.bytes).unwrap();
        if let Some(payment) = Payment::left_by(&entry) {
            let before = all.insert(payment.request.to_string(), payment);
            assert!(before.is_none(), "decided twice: {before:?}");
        }
    }
    all
}

#[test]
fn a_power_cut_in_the_middle_of_load_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path(), prefix()).unwrap());
    let config = EngineConfig { snapshot_every: 100, ..EngineConfig::new(prefix()) };
    let engine = Engine::start(config, Arc::clone(&store), vault()).unwrap();
    let payers: Vec<_> =
        (0..4).map(|it| Payer::open(&engine, &format!("cut-{it}"), 100_000)).collect();
    let (answered, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let (images, count) = std::thread::scope(|scope| {
        for (till, payer) in payers.iter().enumerate() {
            let (engine, answered, is_over) = (&engine, &answered, &is_over);
            scope.spawn(move || {
                for number in 0..10_000 {
                    let code = payer.register(engine);
                    let command = pay(&format!("cut-{till}-{number:04}"), &code, 3, 0);
                    let payment = payment(decide(engine, command.clone())).payment;
                    answered.lock().unwrap().push((command, payment));
                    if is_over.load(Ordering::Acquire) {
                        break;
                    }
                }
            });
        }
        // Each image must hold what had been answered when it began.
        let images: Vec<_> = (1..=4)
            .map(|round| {
                let end = Instant::now() + PATIENCE;
                while answered.lock().unwrap().len() < round * 60 && Instant::now() < end {
                    std::thread::yield_now();
                }
                let before = answered.lock().unwrap().clone();
                (image(folder.path()), before)
            })
            .collect();
        is_over.store(true, Ordering::Release);
        let count = images.iter().map(|(_, before)| before.len()).collect::<Vec<_>>();
        (images, count)
    });
    assert!(count.iter().all(|it| *it >= 60), "{count:?}");
    for (folder, before) in images {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path(), prefix()).unwrap());
        let engine = start(&store);
        let journal = decided(store.as_ref());
        for (command, payment_before) in before {
            assert_eq!(journal.get(payment_before.request.as_str()), Some(&payment_before));
            assert_eq!(payment(decide(&engine, command)).payment, payment_before);
        }
        assert_eq!(decided(store.as_ref()), journal, "no repeat wrote anything");
        engine.stop();
        same_from_snapshots_and_from_the_beginning(store.as_ref());
    }
    engine.stop();
    same_from_snapshots_and_from_the_beginning(store.as_ref());
}

/// Law: snapshot(n) + tail = fold from the beginning.
fn same_from_snapshots_and_from_the_beginning(store: &dyn Store) {
    let short = recover(store, &vault(), None).unwrap();
    let whole = fold_from_the_beginning(store, &vault()).unwrap();
    assert_eq!(short.position, whole.position);
    for (number, folded) in &whole.partitions {
        assert_eq!(short.partitions[number].head, folded.head);
        assert_eq!(
            short.partitions[number].state.state_hash(&vault()),
            folded.state.state_hash(&vault()),
            "partition {number}"
        );
        assert!(folded.state.imbalance().values().all(|it| *it == 0));
    }
}

fn snapshots(store: &dyn Store) -> Vec<Snapshot> {
    let newest = store.snapshot(PARTITION, u64::MAX).unwrap();
    std::iter::successors(newest, |it| store.snapshot(PARTITION, it.head.sequence).unwrap())
        .collect()
}

#[test]
fn snapshots_taken_while_it_runs_and_the_entries_after_them_are_the_whole_state() {
    for (store, _folder) in stores() {
        let config = EngineConfig { snapshot_every: 40, ..EngineConfig::new(prefix()) };
        let engine = Engine::start(config, Arc::clone(&store), vault()).unwrap();
        let payer = Payer::open(&engine, "snap", 100_000);
        let end = Instant::now() + PATIENCE;
        let mut number = 0;
        while snapshots(store.as_ref()).len() < 2 && Instant::now() < end {
            number += 1;
            let code = payer.register(&engine);
            payment(decide(&engine, pay(&format!("snap-{number:06}"), &code, 1, 0)));
        }
        let kept = snapshots(store.as_ref());
        assert!(kept.len() == 2 && kept[0].head.sequence > kept[1].head.sequence);
        for _ in 0..5 {
            payer.register(&engine);
        }
        drop(engine);
        assert!(recover(store.as_ref(), &vault(), None).unwrap().applied > 0, "there is a tail");
        same_from_snapshots_and_from_the_beginning(store.as_ref());
    }
}

#[test]
fn an_engine_that_is_dropped_lets_go_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path(), prefix()).unwrap());
    let engine = start(&store);
    Payer::open(&engine, "drop", 1_000);
    let before = hashes(store.as_ref());
    drop((engine, store));
    let end = Instant::now() + Duration::from_secs(10);
    let store = loop {
        match SqliteStore::open(folder.path(), prefix()) {
            Ok(store) => break store,
            Err(error) => assert!(Instant::now() < end, "{error:#}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(hashes(&store), before);
    assert!(snapshots(&store).is_empty(), "only a clean stop takes a last snapshot");
}

#[test]
fn a_disk_that_fills_up_under_load_loses_nothing_and_pays_nobody_in_vain() {
    let model = Arc::new(ModelStore::new([8; 16]));
    let store: Arc<dyn Store> = Arc::clone(&model) as _;
    let engine = start(&store);
    let payers: Vec<_> =
        (0..4).map(|it| Payer::open(&engine, &format!("fill-{it}"), 100_000)).collect();
    let refused = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let spenders: Vec<_> = payers
            .iter()
            .enumerate()
            .map(|(till, payer)| {
                let (engine, refused, is_over) = (&engine, &refused, &is_over);
                scope.spawn(move || spend(engine, till, payer, refused, is_over))
            })
            .collect();
        for round in 1..=6 {
            let (before, end) = (refused.load(Ordering::SeqCst), Instant::now() + PATIENCE);
            model.refuse_appends(true);
            while refused.load(Ordering::SeqCst) < before + 20 && Instant::now() < end {
                std::thread::yield_now();
            }
            model.refuse_appends(false);
            let end = Instant::now() + PATIENCE;
            let goal = engine.committed().borrow().saturating_add(100);
            while *engine.committed().borrow() < goal && Instant::now() < end {
                std::thread::yield_now();
            }
            assert!(refused.load(Ordering::SeqCst) >= before + 20, "round {round}");
        }
        is_over.store(true, Ordering::Release);
        let journal =
            |payment: &Payment| decided(store.as_ref()).get(payment.request.as_str()).cloned();
        for spender in spenders {
            let (spent, last) = spender.join().unwrap();
            assert!(spent > 0);
            assert_eq!(journal(&last), Some(last));
        }
    });
    let journal = decided(store.as_ref());
    for (till, payer) in payers.iter().enumerate() {
        let own: Vec<_> = journal
            .values()
            .filter(|it| it.request.as_str().starts_with(&format!("fill-{till}-")))
            .collect();
        assert!(own.iter().all(|it| it.status == PaymentStatus::Approved));
        assert_eq!(payer.balance(&engine), 100_000 - i64::try_from(own.len()).unwrap());
    }
    engine.stop();
    same_from_snapshots_and_from_the_beginning(store.as_ref());
}

/// Pays until told to stop, repeating what was not accepted. Every code must pay exactly once in the end.
fn spend(
    engine: &Engine,
    till: usize,
    payer: &Payer,
    refused: &AtomicU64,
    is_over: &AtomicBool,
) -> (usize, Payment) {
    let until_accepted = |command: &Command| loop {
        match decide(engine, command.clone()) {
            Err(Refused::NotAccepted(_)) => refused.fetch_add(1, Ordering::SeqCst),
            answer => break answer,
        };
    };
    let mut number = 0;
    loop {
        let (code, register) = payer.make();
        until_accepted(&register).unwrap();
        let paid =
            payment(until_accepted(&pay(&format!("fill-{till}-{number:06}"), &code, 1, 0))).payment;
        assert_eq!(paid.status, PaymentStatus::Approved, "{:?}", paid.rejection);
        number += 1;
        if is_over.load(Ordering::Acquire) {
            return (number, paid);
        }
    }
}

#[test]
fn after_a_commit_of_unknown_outcome_only_the_journal_can_say_what_is() {
    for lost in [Lost::Written, Lost::Unwritten] {
        let wrapped = Wrapped::new();
        let store: Arc<dyn Store> = Arc::clone(&wrapped) as _;
        let engine = start(&store);
        let payer = Payer::open(&engine, "unknown", 1_000);
        let code = payer.register(&engine);
        wrapped.lose(Some(lost));
        let unheard = decide(&engine, pay("unknown", &code, 10, 0));
        assert!(matches!(unheard, Err(Refused::Unknown)), "{unheard:?}");
        wrapped.lose(None);
        assert!(engine.trouble().is_some());
        // Memory knows of an approval that may not be in the journal: nobody may hear of it.
        let asked = [
            find(&engine, "unknown"),
            ask(&engine, PARTITION, Ask::Account(payer.account)),
            decide(&engine, pay("unknown", &code, 10, 0)),
        ];
        for answer in asked {
            assert!(
                matches!(answer, Err(Refused::NotAccepted(_) | Refused::Unknown)),
                "{lost:?}: {answer:?}"
            );
        }
        engine.stop();
        let engine = start(&store);
        match lost {
            Lost::Written => assert_eq!(
                payment(find(&engine, "unknown")).payment.status,
                PaymentStatus::Approved
            ),
            Lost::Unwritten => assert!(matches!(find(&engine, "unknown"), Err(Refused::NotFound))),
        }
        // Repeating it ends the unknown either way.
        assert_eq!(
            payment(decide(&engine, pay("unknown", &code, 10, 0))).payment.status,
            PaymentStatus::Approved
        );
        assert_eq!(payer.balance(&engine), 990);
        engine.stop();
    }
}

fn until_indexed(engine: &Engine) {
    let end = Instant::now() + PATIENCE;
    while engine.indexed() < *engine.committed().borrow() {
        assert!(Instant::now() < end, "the index does not get there");
        std::thread::yield_now();
    }
}

#[test]
fn a_repeat_is_found_even_while_the_index_is_catching_up() {
    let wrapped = Wrapped::new();
    let store: Arc<dyn Store> = Arc::clone(&wrapped) as _;
    let engine = start(&store);
    let payer = Payer::open(&engine, "race", 1_000);
    until_indexed(&engine);
    let amount = Money::new(1_000, yen().code).unwrap();
    let again = TopUp {
        request: RequestId::parse("top-race").unwrap(),
        digest: [1; 16],
        account: payer.account,
        amount,
    };
    // The entry was not in the index when the lane looked for it, and is when the lane asks how far the index has got.
    wrapped.index_was_behind.store(true, Ordering::SeqCst);
    let repeated = decide(&engine, Command::TopUp(again));
    assert!(
        matches!(&repeated, Ok(Answer::Account(it)) if it.account.balance_minor == 1_000),
        "{repeated:?}"
    );
    assert!(!wrapped.index_was_behind.load(Ordering::SeqCst), "the lane asked");
    engine.stop();
}

#[test]
fn a_start_after_a_clean_stop_reads_no_old_entries() {
    let wrapped = Wrapped::new();
    let store: Arc<dyn Store> = Arc::clone(&wrapped) as _;
    let engine = start(&store);
    let payer = Payer::open(&engine, "read", 1_000);
    for _ in 0..50 {
        payer.register(&engine);
    }
    until_indexed(&engine);
    engine.stop();
    wrapped.frames_read.store(0, Ordering::SeqCst);
    start(&store).stop();
    let read = wrapped.frames_read.load(Ordering::SeqCst);
    assert!(read <= 2, "{read} frames were read, though snapshots cover the whole journal");
}
