//! A batch that is decided while the one before is being committed: what becomes of both.

use std::sync::Mutex;
use std::time::Instant;

use tokio::sync::oneshot::Receiver;

use super::crash::decided;
use super::wrapped::{Lost, Wrapped};
use super::*;

type Waiting = Receiver<Result<Answer, Refused>>;

fn send(engine: &Engine, command: Command) -> Waiting {
    engine.send_later(PARTITION, Ask::Decide(Box::new(command)), PATIENCE).unwrap()
}

fn heard(waiting: Waiting) -> Result<Answer, Refused> {
    waiting.blocking_recv().unwrap_or(Err(Refused::Unknown))
}

fn top_up(account: AccountId, name: &str, minor: u64) -> Command {
    let request = RequestId::parse(name).unwrap();
    let amount = Money::new(minor, yen().code).unwrap();
    Command::TopUp(TopUp { request, digest: [1; 16], account, amount })
}

fn small_batches(store: &Arc<Wrapped>, batch_max: usize) -> Engine {
    let config = EngineConfig { batch_max, hand_over_min: 1, ..EngineConfig::new(prefix()) };
    Engine::start(config, Arc::clone(store) as _, vault()).unwrap()
}

/// Lets one commit wait at the store's gate, queues the commands behind it, and lets it pass. Every batch has one
/// command, so the first of them is then being committed and the second decided, and the others wait.
fn queue(store: &Wrapped, engine: &Engine, payer: &Payer, commands: Vec<Command>) -> Vec<Waiting> {
    let arrived = || store.arrived.load(Ordering::SeqCst);
    let wait_for = |count: usize| {
        let end = Instant::now() + PATIENCE;
        while arrived() < count && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(arrived(), count);
    };
    let before = arrived();
    store.let_pass(Some(0));
    let first = send(engine, top_up(payer.account, &format!("first-{before}"), 1));
    wait_for(before + 1);
    let waiting = commands.into_iter().map(|it| send(engine, it)).collect();
    store.let_pass(Some(1));
    heard(first).unwrap();
    wait_for(before + 2);
    // The lane has what it decides next already; a moment for deciding it.
    std::thread::sleep(Duration::from_millis(50));
    waiting
}

#[test]
fn what_was_decided_on_a_refused_commit_goes_back_with_it() {
    let store = Wrapped::new();
    let engine = small_batches(&store, 1);
    let payer = Payer::open(&engine, "back", 1_000);
    let (code, register) = payer.make();
    let (_, other) = payer.make();
    let commands = vec![
        top_up(payer.account, "more", 500),
        register.clone(),
        pay("early", &code, 10, 0),
        other,
    ];
    let waiting = queue(&store, &engine, &payer, commands);
    store.refuse.store(1, Ordering::SeqCst);
    store.let_pass(None);
    let heard: Vec<_> = waiting.into_iter().map(heard).collect();
    for refused in &heard[..2] {
        assert!(matches!(refused, Err(Refused::NotAccepted(_))), "{refused:?}");
    }
    // What came after was decided on what there is: its code was never registered.
    let early = payment(heard[2].clone()).payment;
    assert_eq!(early.rejection, Some(Rejection::CodeUnknown));
    assert!(heard[3].is_ok(), "{:?}", heard[3]);
    assert_eq!(payer.balance(&engine), 1_001);
    // The same again is decided anew: neither the requests nor the code were used.
    decide(&engine, top_up(payer.account, "more", 500)).unwrap();
    let (code, register) = payer.make();
    decide(&engine, register).unwrap();
    let paid = payment(decide(&engine, pay("late", &code, 10, 0))).payment;
    assert_eq!(paid.status, PaymentStatus::Approved);
    assert_eq!(payer.balance(&engine), 1_491);
    engine.stop();
    assert_eq!(hashes(store.as_ref()).len(), 100);
}

#[test]
fn a_repeat_of_what_is_being_committed_hears_the_same() {
    let store = Wrapped::new();
    let engine = small_batches(&store, 1);
    let payer = Payer::open(&engine, "again", 1_000);
    let code = payer.register(&engine);
    let commands = vec![
        top_up(payer.account, "more", 500),
        top_up(payer.account, "more", 500),
        pay("paid", &code, 10, 0),
        pay("paid", &code, 10, 0),
        top_up(payer.account, "more", 500),
    ];
    let waiting = queue(&store, &engine, &payer, commands);
    store.let_pass(None);
    let heard: Vec<_> = waiting.into_iter().map(heard).collect();
    assert!(heard.iter().all(Result::is_ok), "{heard:?}");
    let (first, second) = (payment(heard[2].clone()), payment(heard[3].clone()));
    assert_eq!(first.payment, second.payment);
    assert_eq!(payer.balance(&engine), 1_491);
    engine.stop();
    assert_eq!(decided(store.as_ref()).len(), 1);
}

#[test]
fn a_repeat_of_what_is_refused_then_is_decided_anew() {
    let store = Wrapped::new();
    let engine = small_batches(&store, 1);
    let payer = Payer::open(&engine, "anew", 1_000);
    let more = || top_up(payer.account, "more", 500);
    let waiting = queue(&store, &engine, &payer, vec![more(), more()]);
    store.refuse.store(1, Ordering::SeqCst);
    store.let_pass(None);
    let heard: Vec<_> = waiting.into_iter().map(heard).collect();
    assert!(matches!(heard[0], Err(Refused::NotAccepted(_))), "{heard:?}");
    assert!(heard[1].is_ok(), "{heard:?}");
    assert_eq!(payer.balance(&engine), 1_501);
    engine.stop();
}

#[test]
fn nobody_hears_of_a_commit_of_unknown_outcome_or_of_what_was_decided_on_it() {
    for lost in [Lost::Written, Lost::Unwritten] {
        let store = Wrapped::new();
        let engine = small_batches(&store, 1);
        let payer = Payer::open(&engine, "lost", 1_000);
        let (code, register) = payer.make();
        let commands = vec![
            register,
            pay("early", &code, 10, 0),
            top_up(payer.account, "more", 500),
            top_up(payer.account, "more", 500),
        ];
        let waiting = queue(&store, &engine, &payer, commands);
        store.lose(Some(lost));
        store.let_pass(None);
        let heard: Vec<_> = waiting.into_iter().map(heard).collect();
        for unknown in &heard[..2] {
            assert!(matches!(unknown, Err(Refused::Unknown)), "{lost:?}: {unknown:?}");
        }
        for refused in &heard[2..] {
            assert!(matches!(refused, Err(Refused::NotAccepted(_))), "{lost:?}: {refused:?}");
        }
        assert!(engine.trouble().is_some());
        drop(engine);
        store.lose(None);
        assert!(decided(store.as_ref()).is_empty(), "what followed was not even written");
        let again = small_batches(&store, 1);
        let paid = payment(decide(&again, pay("early", &code, 10, 0))).payment;
        assert_eq!(paid.status == PaymentStatus::Approved, lost == Lost::Written);
        again.stop();
    }
}

#[test]
fn refused_commits_under_load_leave_memory_as_the_journal_is() {
    const TILLS: usize = 24;
    let store = Wrapped::new();
    let engine = small_batches(&store, 3);
    let payers: Vec<_> =
        (0..TILLS).map(|it| Payer::open(&engine, &format!("load-{it}"), 100_000)).collect();
    let (answered, refused) = (Mutex::new(Vec::new()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for (till, payer) in payers.iter().enumerate() {
            let (engine, store, answered, refused) = (&engine, &store, &answered, &refused);
            scope.spawn(move || {
                for number in 0..60_u64 {
                    let name = format!("load-{till}-{number:03}");
                    if (number + till as u64).is_multiple_of(16) {
                        store.refuse.store(1, Ordering::SeqCst);
                    }
                    let (code, register) = payer.make();
                    if decide(engine, register).is_err() {
                        refused.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    match decide(engine, pay(&name, &code, 3, 0)) {
                        Ok(Answer::Payment(state)) => {
                            answered.lock().unwrap().push((name, state.payment));
                        }
                        Err(Refused::NotAccepted(_)) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    assert!(refused.into_inner() > 0);
    store.refuse.store(0, Ordering::SeqCst);
    let (answered, journal) = (answered.into_inner().unwrap(), decided(store.as_ref()));
    assert_eq!(answered.len(), journal.len(), "each was answered, and nothing else is there");
    assert!(answered.iter().all(|(name, payment)| journal.get(name) == Some(payment)));
    let balances = |engine: &Engine| payers.iter().map(|it| it.balance(engine)).collect::<Vec<_>>();
    let before = balances(&engine);
    assert!(before.iter().sum::<i64>() < 100_000 * TILLS as i64);
    drop(engine);
    let again = small_batches(&store, 3);
    assert_eq!(balances(&again), before);
    again.stop();
}
