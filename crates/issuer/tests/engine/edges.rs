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
