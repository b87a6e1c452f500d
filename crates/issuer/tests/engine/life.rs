//! What happens to payments after they were decided, through the lane: races, old payments, the clock, restarts.

use std::sync::Barrier;

use warifu_core::decide::{Refund, Reverse};
use warifu_proto::message::ReversalReason;

use super::*;

/// Decides, and reads the payment from the journal when it has left memory, as the handlers do.
pub(super) fn settle(engine: &Engine, mut command: Command) -> Result<Answer, Refused> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    loop {
        match decide(engine, command.clone()) {
            Err(Refused::NotInMemory(place)) => {
                command.set_old(runtime.block_on(engine.read_payment(place)).unwrap());
            }
            answer => return answer,
        }
    }
}

pub(super) fn refund(request: &str, first_sequence: u64, minor: u64) -> Command {
    Command::Refund(Refund {
        merchant: merchant(),
        reader: ReaderId::from_raw([4; 16]),
        request: RequestId::parse(request).unwrap(),
        digest: warifu_proto::mac::first_16(warifu_proto::mac::sha256(&[&minor.to_be_bytes()])),
        first_sequence,
        amount: Money::new(minor, yen().code).unwrap(),
        old: None,
    })
}

pub(super) fn reverse(request: &str) -> Command {
    Command::Reverse(Reverse {
        merchant: merchant(),
        reader: ReaderId::from_raw([4; 16]),
        may_reverse_any: false,
        request: RequestId::parse(request).unwrap(),
        first_sequence: None,
        reason: ReversalReason::Timeout,
        business_day: 20_000,
        old: None,
    })
}

pub(super) fn held(request: &str, code: &Code, minor: u64, hold_ms: u64) -> Command {
    let Command::Pay(mut it) = pay(request, code, minor, 0) else { panic!("it pays") };
    it.capture = Capture::Later;
    it.hold_until = clock::now().plus_ms(hold_ms);
    Command::Pay(it)
}

/// Fills the window of the partition, so that what was there before leaves memory.
pub(super) fn fill_window(engine: &Engine, name: &str) {
    let mut waiting = std::collections::VecDeque::new();
    for number in 0..WINDOW + 10 {
        let command = pay(&format!("{name}-{number:08}"), &unknown_code(), 1, 0);
        waiting.push_back(
            engine.send_later(PARTITION, Ask::Decide(Box::new(command)), PATIENCE).unwrap(),
        );
        if waiting.len() > 500 {
            payment(waiting.pop_front().unwrap().blocking_recv().unwrap());
        }
    }
    waiting.into_iter().for_each(|it| drop(payment(it.blocking_recv().unwrap())));
}

#[test]
fn sixty_four_refunds_of_sixty_on_a_hundred_at_once_are_one() {
    for (store, _folder) in stores() {
        let engine = start(&store);
        let payer = Payer::open(&engine, "refunds", 100);
        let code = payer.register(&engine);
        let paid = payment(decide(&engine, pay("paid", &code, 100, 0))).payment;
        let start_line = Barrier::new(64);
        let refunded: Vec<bool> = std::thread::scope(|scope| {
            let tills: Vec<_> = (0..64)
                .map(|till| {
                    let (engine, start_line) = (&engine, &start_line);
                    scope.spawn(move || {
                        start_line.wait();
                        let wish = refund(&format!("refund-{till}"), paid.first_sequence, 60);
                        match settle(engine, wish) {
                            Ok(Answer::Changed { payment, .. }) => {
                                assert_eq!(payment.payment.refunded_minor, 60);
                                true
                            }
                            Err(Refused::Rule { refusal: Refusal::AmountTooLarge, .. }) => false,
                            other => panic!("neither refunded nor refused: {other:?}"),
                        }
                    })
                })
                .collect();
            tills.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert_eq!(refunded.iter().filter(|it| **it).count(), 1);
        assert_eq!(payer.balance(&engine), 60);
        engine.stop();
    }
}

#[test]
fn a_payment_older_than_memory_is_refunded_reversed_and_repeated() {
    let store: Arc<dyn Store> = Arc::new(ModelStore::new([8; 16]));
    let engine = start(&store);
    let payer = Payer::open(&engine, "old", 1_000);
    let code = payer.register(&engine);
    let old = payment(decide(&engine, pay("0-old", &code, 100, 0))).payment;
    fill_window(&engine, "1");
    let first = settle(&engine, refund("2-refund", old.first_sequence, 30));
    let Ok(Answer::Changed { payment: after, sequence }) = first else { panic!("{first:?}") };
    assert_eq!((after.payment.refunded_minor, payer.balance(&engine)), (30, 930));
    // The change keeps the payment in memory for a window; then the change itself is what is read.
    fill_window(&engine, "3");
    let again = settle(&engine, refund("2-refund", old.first_sequence, 30));
    let Ok(Answer::Changed { payment: same, sequence: at }) = again else { panic!("{again:?}") };
    assert_eq!((same.payment.refunded_minor, at), (30, sequence));
    let conflict = settle(&engine, refund("2-refund", old.first_sequence, 31));
    assert!(matches!(conflict, Err(Refused::Rule { refusal: Refusal::RequestIdConflict, .. })));
    let more = settle(&engine, refund("4-refund", old.first_sequence, 71));
    assert!(matches!(more, Err(Refused::Rule { refusal: Refusal::AmountTooLarge, .. })));
    let reversed = settle(&engine, reverse("0-old"));
    let Ok(Answer::Reversed(Some(state))) = reversed else { panic!("{reversed:?}") };
    assert_eq!(state.payment.status, PaymentStatus::Reversed);
    assert_eq!((state.payment.captured_minor, payer.balance(&engine)), (30, 1_000));
    engine.stop();
    let engine = start(&store);
    let place = PaymentPlace { partition: PARTITION, first_sequence: old.first_sequence };
    assert_eq!(payment_at(&engine, place).payment, state.payment);
    engine.stop();
}

#[test]
fn a_reversal_stands_whichever_arrives_first() {
    for (store, _folder) in stores() {
        let engine = start(&store);
        let payer = Payer::open(&engine, "race", 1_000);
        for round in 0..20 {
            let code = payer.register(&engine);
            let request = format!("race-{round}");
            let both = Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    both.wait();
                    payment(decide(&engine, pay(&request, &code, 10, 0)));
                });
                scope.spawn(|| {
                    both.wait();
                    let answer = settle(&engine, reverse(&request));
                    assert!(matches!(answer, Ok(Answer::Reversed(_))), "{answer:?}");
                });
            });
            let end = payment(decide(&engine, pay(&request, &code, 10, 0))).payment;
            assert!(
                end.status == PaymentStatus::Reversed
                    || end.rejection == Some(Rejection::ReversedBeforeArrival),
                "{end:?}"
            );
            assert!(matches!(settle(&engine, reverse(&request)), Ok(Answer::Reversed(_))));
        }
        assert_eq!(payer.balance(&engine), 1_000);
        engine.stop();
    }
}

#[test]
fn a_reversal_ends_a_payment_that_waits_for_its_code() {
    let store: Arc<dyn Store> = Arc::new(ModelStore::new([8; 16]));
    let engine = start(&store);
    let waiting = engine
        .send_later(
            PARTITION,
            Ask::Decide(Box::new(pay("waits", &unknown_code(), 10, 20_000))),
            PATIENCE,
        )
        .unwrap();
    let began = std::time::Instant::now();
    assert!(matches!(settle(&engine, reverse("waits")), Ok(Answer::Reversed(Some(_)))));
    let ended = payment(waiting.blocking_recv().unwrap()).payment;
    assert_eq!(ended.rejection, Some(Rejection::CodeUnknown));
    assert!(began.elapsed() < Duration::from_secs(10), "nobody waited for the code any more");
    engine.stop();
}

#[test]
fn tombstones_are_found_in_every_partition_and_at_every_age() {
    let store: Arc<dyn Store> = Arc::new(ModelStore::new([8; 16]));
    let engine = start(&store);
    let payer = Payer::open(&engine, "tomb", 1_000);
    // The reversal is sent to another partition than the code's.
    let elsewhere = ask(&engine, 3, Ask::Decide(Box::new(reverse("0-elsewhere"))));
    assert!(matches!(elsewhere, Ok(Answer::Reversed(None))), "{elsewhere:?}");
    assert!(matches!(settle(&engine, reverse("0-old")), Ok(Answer::Reversed(None))));
    fill_window(&engine, "1");
    for request in ["0-elsewhere", "0-old"] {
        let code = payer.register(&engine);
        let declined = payment(decide(&engine, pay(request, &code, 10, 0))).payment;
        assert_eq!(declined.rejection, Some(Rejection::ReversedBeforeArrival), "{request}");
        let repeated = payment(decide(&engine, pay(request, &code, 10, 0))).payment;
        assert_eq!(repeated, declined, "{request}");
        let again = settle(&engine, reverse(request));
        assert!(matches!(again, Ok(Answer::Reversed(None))), "{request}: {again:?}");
        let changed = decide(&engine, pay(request, &code, 11, 0));
        let conflict = Refusal::RequestIdConflict;
        assert!(matches!(changed, Err(Refused::Rule { refusal, .. }) if refusal == conflict));
    }
    assert_eq!(payer.balance(&engine), 1_000);
    drop(engine);
    let engine = start(&store);
    assert!(matches!(settle(&engine, reverse("0-old")), Ok(Answer::Reversed(None))));
    engine.stop();
}

#[test]
fn holds_run_out_by_the_clock_also_after_a_crash() {
    for (store, _folder) in stores() {
        let engine = start(&store);
        let payer = Payer::open(&engine, "holds", 100);
        let (first, second) = (payer.register(&engine), payer.make());
        let short = payment(decide(&engine, held("short", &first, 60, 300))).payment;
        assert_eq!(short.status, PaymentStatus::Held);
        decide(&engine, second.1).unwrap();
        let over = payment(decide(&engine, pay("over", &second.0, 50, 0))).payment;
        assert_eq!(over.rejection, Some(Rejection::InsufficientFunds), "what is held is not free");
        // Nobody asks: the entry comes by itself, at the next start if need be.
        drop(engine);
        let engine = start(&store);
        let place = PaymentPlace { partition: PARTITION, first_sequence: short.first_sequence };
        let began = std::time::Instant::now();
        while payment_at(&engine, place).payment.status != PaymentStatus::Expired {
            assert!(began.elapsed() < PATIENCE, "the hold did not run out");
            std::thread::sleep(Duration::from_millis(10));
        }
        let code = payer.register(&engine);
        let paid = payment(decide(&engine, pay("paid", &code, 100, 0))).payment;
        assert_eq!(paid.status, PaymentStatus::Approved);
        engine.stop();
        let whole = fold_from_the_beginning(store.as_ref(), &vault()).unwrap();
        assert!(
            whole.partitions.values().all(|it| it.state.imbalance().values().all(|it| *it == 0))
        );
    }
}

#[test]
fn a_refused_commit_takes_back_changes_tombstones_and_timers() {
    let model = Arc::new(ModelStore::new([8; 16]));
    let store: Arc<dyn Store> = Arc::clone(&model) as _;
    let engine = start(&store);
    let payer = Payer::open(&engine, "undo", 1_000);
    let code = payer.register(&engine);
    let paid = payment(decide(&engine, pay("paid", &code, 100, 0))).payment;
    let code = payer.register(&engine);
    payment(decide(&engine, held("held", &code, 100, 200)));
    model.refuse_appends(true);
    std::thread::sleep(Duration::from_millis(400));
    for command in [refund("refund", paid.first_sequence, 60), reverse("tomb"), reverse("paid")] {
        let refused = settle(&engine, command);
        assert!(matches!(refused, Err(Refused::NotAccepted(_))), "{refused:?}");
    }
    model.refuse_appends(false);
    let refunded = settle(&engine, refund("refund", paid.first_sequence, 100));
    assert!(matches!(refunded, Ok(Answer::Changed { .. })), "{refunded:?}");
    let code = payer.register(&engine);
    let late = payment(decide(&engine, pay("tomb", &code, 10, 0))).payment;
    assert_eq!(late.status, PaymentStatus::Approved, "its reversal was not accepted");
    engine.stop();
    assert_eq!(hashes(store.as_ref()).len(), 100);
}
