//! Where laws could be got around: foreign registrations beside guessed digits, overtaken long codes, words of unlinked
//! terminals, ids that wait, disks that stay full.

use warifu_core::account::AccountStanding;
use warifu_core::decide::{Capture as Take, Confirm, LongCode, StandAccount, Unlink};
use warifu_proto::notice::Verdict;

use super::life::{fill_window, held, refund, reverse, settle};
use super::wrapped::Wrapped;
use super::*;

/// A payment by a long code: these digits, with that registration.
fn pay_long(request: &str, code: &Code, carried: &Command, minor: u64) -> Command {
    let (Command::Pay(mut it), Command::Register(registration)) =
        (pay(request, code, minor, 0), carried.clone())
    else {
        panic!("it pays by a registration")
    };
    it.long_code = Some(LongCode {
        statement: registration.statement,
        digest: registration.digest,
        signed_by: Some(registration.signed_by),
    });
    Command::Pay(it)
}

fn model() -> Arc<dyn Store> {
    Arc::new(ModelStore::new([8; 16]))
}

#[test]
fn a_foreign_registration_beside_the_right_digits_charges_nobody() {
    let engine = start(&model());
    let (victim, guesser) =
        (Payer::open(&engine, "victim", 1_000), Payer::open(&engine, "guesser", 1_000));
    let code = victim.register(&engine);
    // The guesser's own registration is sound, but of other digits: a wrong guess would cost nothing.
    let (_, own) = guesser.make();
    let guess = payment(decide(&engine, pay_long("guess", &code, &own, 10))).payment;
    assert_eq!(guess.rejection, Some(Rejection::RegistrationInvalid));
    assert_eq!((victim.balance(&engine), guesser.balance(&engine)), (1_000, 1_000));
    engine.stop();
}

#[test]
fn a_long_code_that_a_newer_code_has_overtaken_is_retired() {
    let engine = start(&model());
    let payer = Payer::open(&engine, "overtaken", 1_000);
    let (photographed, carried) = payer.make();
    payer.register(&engine);
    std::thread::sleep(Duration::from_millis(5_050));
    let late = payment(decide(&engine, pay_long("late", &photographed, &carried, 10))).payment;
    assert_eq!(late.rejection, Some(Rejection::CodeRetired));
    engine.stop();
}

#[test]
fn an_unlinked_terminal_can_confirm_nothing() {
    let engine = start(&model());
    let payer = Payer::open(&engine, "lost", 1_000);
    let code = payer.register(&engine);
    let Command::Pay(mut it) = pay("asked", &code, 100, 0) else { panic!("it pays") };
    it.limits.confirm_above_minor = Some(10);
    let asked = payment(decide(&engine, Command::Pay(it))).payment;
    assert_eq!(asked.status, PaymentStatus::AwaitingPayer);
    let credential = payer.credential;
    decide(&engine, Command::Unlink(Unlink { credential, signed_by: None })).unwrap();
    let word = Command::Confirm(Confirm {
        credential,
        first_sequence: asked.first_sequence,
        verdict: Verdict::Confirm,
        hold_until: clock::now(),
    });
    let unknown = Refusal::CredentialUnknown;
    let answer = decide(&engine, word);
    assert!(
        matches!(answer, Err(Refused::Rule { refusal, .. }) if refusal == unknown),
        "{answer:?}"
    );
    assert_eq!(payer.balance(&engine), 1_000);
    engine.stop();
}

#[test]
fn what_a_reversal_brings_to_a_closed_account_can_be_paid_out() {
    let store = model();
    let engine = start(&store);
    let payer = Payer::open(&engine, "closed", 1_000);
    let code = payer.register(&engine);
    payment(decide(&engine, pay("paid", &code, 100, 0)));
    let close = StandAccount { account: payer.account, standing: AccountStanding::Closed };
    decide(&engine, Command::StandAccount(close.clone())).unwrap();
    assert!(matches!(settle(&engine, reverse("paid")), Ok(Answer::Reversed(Some(_)))));
    assert_eq!(payer.balance(&engine), 100);
    decide(&engine, Command::StandAccount(close.clone())).unwrap();
    assert_eq!(payer.balance(&engine), 0);
    decide(&engine, Command::StandAccount(close)).unwrap();
    let open = StandAccount { account: payer.account, standing: AccountStanding::Active };
    let closed = Refusal::AccountClosed;
    let answer = decide(&engine, Command::StandAccount(open));
    assert!(
        matches!(answer, Err(Refused::Rule { refusal, .. }) if refusal == closed),
        "{answer:?}"
    );
    engine.stop();
    assert_eq!(hashes(store.as_ref()).len(), 100);
}

#[test]
fn the_id_of_a_payment_that_waits_is_taken_in_every_partition() {
    let engine = start(&model());
    let payer = Payer::open(&engine, "twice", 1_000);
    let code = payer.register(&engine);
    let paid = payment(decide(&engine, pay("paid", &code, 100, 0))).payment;
    let mut digits = unknown_code().as_str().to_owned();
    digits.replace_range(8..10, "42");
    let waits = pay("same", &Code::parse(&digits).unwrap(), 10, 300);
    let waiting = engine.send_later(42, Ask::Decide(Box::new(waits)), PATIENCE).unwrap();
    let conflict = Refusal::RequestIdConflict;
    let answer = settle(&engine, refund("same", paid.first_sequence, 10));
    assert!(
        matches!(answer, Err(Refused::Rule { refusal, .. }) if refusal == conflict),
        "{answer:?}"
    );
    assert_eq!(payment(waiting.blocking_recv().unwrap()).payment.request.as_str(), "same");
    assert_eq!(payer.balance(&engine), 900);
    engine.stop();
}

#[test]
fn a_reader_without_the_right_does_not_end_what_waits_for_another() {
    let engine = start(&model());
    let payer = Payer::open(&engine, "other", 1_000);
    let (code, register) = payer.make();
    let waits = pay("waits", &code, 10, 20_000);
    let waiting = engine.send_later(PARTITION, Ask::Decide(Box::new(waits)), PATIENCE).unwrap();
    let Command::Reverse(mut wish) = reverse("waits") else { panic!("it reverses") };
    wish.reader = ReaderId::from_raw([5; 16]);
    let not_yours = Refusal::NotYours;
    let answer = settle(&engine, Command::Reverse(wish));
    assert!(
        matches!(answer, Err(Refused::Rule { refusal, .. }) if refusal == not_yours),
        "{answer:?}"
    );
    decide(&engine, register).unwrap();
    let paid = payment(waiting.blocking_recv().unwrap()).payment;
    assert_eq!(paid.status, PaymentStatus::Approved);
    engine.stop();
}

#[test]
fn a_full_disk_is_not_asked_without_pause_because_a_hold_is_over() {
    let model = Arc::new(ModelStore::new([8; 16]));
    let store: Arc<dyn Store> = Arc::clone(&model) as _;
    let engine = start(&store);
    let payer = Payer::open(&engine, "full", 1_000);
    let code = payer.register(&engine);
    let hold = payment(decide(&engine, held("hold", &code, 100, 100))).payment;
    model.refuse_appends(true);
    std::thread::sleep(Duration::from_millis(1_500));
    let tried = model.refused_appends();
    assert!((1..=3).contains(&tried), "{tried} tries in 1.4 s");
    // Nothing but looking needs no disk.
    assert_eq!(payer.balance(&engine), 1_000);
    model.refuse_appends(false);
    let place = PaymentPlace { partition: PARTITION, first_sequence: hold.first_sequence };
    let began = std::time::Instant::now();
    while payment_at(&engine, place).payment.status != PaymentStatus::Expired {
        assert!(began.elapsed() < PATIENCE, "the hold did not run out");
        std::thread::sleep(Duration::from_millis(10));
    }
    let take = Take {
        merchant: merchant(),
        reader: ReaderId::from_raw([4; 16]),
        request: RequestId::parse("take").unwrap(),
        digest: [1; 16],
        first_sequence: hold.first_sequence,
        amount: Money::new(1, yen().code).unwrap(),
        old: None,
    };
    let state = Refusal::PaymentState;
    let answer = settle(&engine, Command::Capture(take));
    assert!(matches!(answer, Err(Refused::Rule { refusal, .. }) if refusal == state), "{answer:?}");
    engine.stop();
}

#[test]
fn nothing_is_written_past_the_index_by_a_way_round() {
    let wrapped = Wrapped::new();
    let store: Arc<dyn Store> = Arc::clone(&wrapped) as _;
    let engine = start(&store);
    let payer = Payer::open(&engine, "stuck", 1_000);
    let code = payer.register(&engine);
    wrapped.index_is_stuck.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(100));
    let waits = pay("waits", &unknown_code(), 1, 12_000);
    let waiting_long =
        engine.send_later(PARTITION, Ask::Decide(Box::new(waits)), PATIENCE).unwrap();
    let mut waiting = std::collections::VecDeque::new();
    for number in 0..WINDOW + 1_000 {
        if number == WINDOW / 2 {
            payment(decide(&engine, pay("paid", &code, 10, 0)));
        }
        let command = pay(&format!("fill-{number:08}"), &unknown_code(), 1, 0);
        let sent = engine.send_later(PARTITION, Ask::Decide(Box::new(command)), PATIENCE);
        waiting.push_back(sent.unwrap());
        if waiting.len() > 500 {
            drop(waiting.pop_front().unwrap().blocking_recv().unwrap());
        }
    }
    waiting.into_iter().for_each(|it| drop(it.blocking_recv().unwrap()));
    let full = decide(&engine, reverse("new"));
    assert!(matches!(full, Err(Refused::NotAccepted(_))), "{full:?}");
    // Sent to a partition that is well, about what lies in the one that is not.
    let elsewhere = ask(&engine, 3, Ask::Decide(Box::new(reverse("paid"))));
    assert!(matches!(elsewhere, Err(Refused::NotAccepted(_))), "{elsewhere:?}");
    let waited = waiting_long.blocking_recv().unwrap();
    assert!(matches!(waited, Err(Refused::NotAccepted(_))), "{waited:?}");
    engine.stop();
}

#[test]
fn a_payment_outlives_the_tombstone_of_another_partition() {
    let store = model();
    let engine = start(&store);
    let payer = Payer::open(&engine, "outlives", 1_000);
    let elsewhere = ask(&engine, 3, Ask::Decide(Box::new(reverse("0-late"))));
    assert!(matches!(elsewhere, Ok(Answer::Reversed(None))), "{elsewhere:?}");
    let code = payer.register(&engine);
    let declined = payment(decide(&engine, pay("0-late", &code, 10, 0))).payment;
    fill_window(&engine, "1");
    drop(engine);
    let engine = start(&store);
    match decide(&engine, pay("0-late", &code, 10, 0)) {
        Err(Refused::NotInMemory(place)) => {
            assert_eq!(place.first_sequence, declined.first_sequence)
        }
        other => panic!("decided again: {other:?}"),
    }
    engine.stop();
}

#[test]
fn one_reader_can_not_have_more_guesses_under_way_than_it_may_make_misses() {
    let engine = start(&model());
    let guess = |number: usize| {
        let command = pay(&format!("guess-{number}"), &unknown_code(), 1, 1_000);
        engine.send_later(PARTITION, Ask::Decide(Box::new(command)), PATIENCE).unwrap()
    };
    let payer = Payer::open(&engine, "guessed", 1_000);
    let code = payer.register(&engine);
    let guesses: Vec<_> = (0..50).map(guess).collect();
    // The one that is refused has not been compared: it would have been right.
    let right = decide(&engine, pay("right", &code, 10, 1_000));
    assert!(matches!(right, Err(Refused::NotAccepted(_))), "{right:?}");
    let answers: Vec<_> = guesses.into_iter().map(|it| it.blocking_recv().unwrap()).collect();
    let refused = answers.iter().filter(|it| matches!(it, Err(Refused::NotAccepted(_)))).count();
    assert_eq!(refused, 30);
    // They have ended: others may wait.
    let later = guess(50).blocking_recv().unwrap();
    assert_eq!(payment(later).payment.rejection, Some(Rejection::CodeUnknown));
    engine.stop();
}
