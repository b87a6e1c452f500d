//! The payer's word, step by step: asked once, stored, sent until heard, never otherwise and never too late.

use warifu_proto::currency::CurrencyCode;
use warifu_proto::id::PaymentId;
use warifu_proto::message::PaymentStatus;
use warifu_proto::money::Money;
use warifu_proto::notice::Verdict::{Confirm, Refuse};
use warifu_proto::problem::ProblemCode;
use warifu_terminal::{Link, QUESTIONS_MAX};

use crate::world::{NOW_MS, World, link};

fn nothing() -> [&'static str; 0] {
    []
}

#[test]
fn a_question_is_stored_then_put_then_answered_until_it_is_heard() {
    let mut world = World::new();
    world.ask(1, 5);
    assert_eq!(world.log(), nothing(), "nothing before it is stored");
    let wake = world.store().unwrap();
    assert_eq!(world.log(), ["ask 5"]);
    assert_eq!(wake.as_ms(), NOW_MS + 60_000);
    world.pass(10_000);
    assert_eq!(world.log(), nothing(), "the payer thinks");

    world.say(5, Confirm);
    assert_eq!(world.log(), nothing(), "not before it is stored");
    world.store();
    assert_eq!(world.log(), ["say 5 Confirm"]);
    for ms in [200, 400, 800] {
        world.refuse_word(5, ProblemCode::IssuerUnavailable);
        world.pass(ms);
        assert_eq!(world.log(), ["say 5 Confirm"]);
    }
    world.hear(6, Confirm);
    assert_eq!(world.log(), nothing(), "about another payment");
    world.hear(5, Confirm);
    assert_eq!(world.log(), ["heard 5 Confirm"]);
    world.store_all();
    world.restart();
    assert_eq!(world.pass(1_000), None);
    assert_eq!(world.log(), nothing(), "heard is done, over a restart too");
}

#[test]
fn a_restart_asks_again_and_goes_on_with_the_same_word() {
    let mut world = World::new();
    world.ask(1, 5);
    world.store();
    world.restart();
    world.pass(1_000);
    assert_eq!(world.log(), ["ask 5", "ask 5"], "once a life");
    world.say(5, Refuse);
    world.restart();
    world.pass(1_000);
    assert_eq!(world.log(), ["ask 5"], "what was not stored was not said");

    world.say(5, Refuse);
    world.store();
    world.restart();
    world.pass(1_000);
    assert_eq!(world.log(), ["say 5 Refuse", "say 5 Refuse"]);
    world.say(5, Confirm);
    assert_eq!(world.log().len(), 1, "the first word stands");
    assert!(world.to_store.is_empty());
    // The issuer may have heard another word first, by another way.
    world.hear(5, Confirm);
    assert_eq!(world.log(), ["heard 5 Confirm"]);
}

#[test]
fn duplicates_ask_once() {
    let mut world = World::new();
    world.ask(1, 5);
    world.ask(1, 5);
    world.store_all();
    world.ask(2, 5);
    world.store_all();
    assert_eq!(world.log(), ["ask 5"]);
    assert_eq!(world.terminal.acknowledged_notice(), 2);
    world.say(5, Confirm);
    world.say(5, Confirm);
    world.store_all();
    world.say(5, Confirm);
    assert_eq!(world.log(), ["say 5 Confirm"]);
}

#[test]
fn a_decision_ends_the_question_and_so_does_time() {
    let mut world = World::new();
    world.ask(1, 5);
    world.ask(2, 6);
    world.ask(3, 7);
    world.store_all();
    world.log();
    let paid = world.notice_text("declined", 5);
    world.notify_of(4, link().keys.seal_key, &paid);
    assert_eq!(world.log(), ["notice 4 declined", "over 5"]);
    let none = |payment: u8| {
        let payment = PaymentId::from_raw([payment; 16]);
        [format!("trouble: no open question is about {payment}")]
    };
    world.say(5, Confirm);
    assert_eq!(world.log(), none(5));
    world.say(9, Confirm);
    assert_eq!(world.log(), none(9));

    world.say(7, Confirm);
    world.store_all();
    world.log();
    world.pass(59_999);
    assert_eq!(world.log(), ["say 7 Confirm"]);
    assert_eq!(world.pass(1), None);
    let payment = PaymentId::from_raw([7; 16]);
    let unheard =
        format!("trouble: nobody has said that the answer about {payment} was heard in time");
    assert_eq!(world.log(), ["over 6".to_owned(), unheard]);
    world.store_all();
    assert!(world.disk.questions.iter().all(|it| it.is_over));
    world.say(6, Confirm);
    assert_eq!(world.log(), none(6));
    assert!(world.to_store.is_empty());

    // What comes too late is told, not asked.
    let late = world.notice_text("confirm", 8);
    world.now = world.now.plus_ms(60_000);
    world.notify_of(5, link().keys.seal_key, &late);
    world.store_all();
    assert_eq!(world.log(), ["notice 5 confirm"]);
}

#[test]
fn a_refusal_for_good_ends_the_repeats() {
    let mut world = World::new();
    world.ask(1, 5);
    world.store();
    world.say(5, Confirm);
    world.store();
    world.log();
    world.refuse_word(5, ProblemCode::PaymentState);
    let payment = PaymentId::from_raw([5; 16]);
    let title = ProblemCode::PaymentState.title();
    assert_eq!(
        world.log(),
        [format!("trouble: the answer about {payment} was not taken: {title}")]
    );
    world.store_all();
    world.restart();
    assert_eq!(world.pass(1_000), None);
    assert_eq!(world.log(), nothing());
}

#[test]
fn what_does_not_fit_is_not_asked() {
    let mut world = World::new();
    let seal_key = link().keys.seal_key;
    let good = world.notice_text("confirm", 5);
    let mut euros = good.clone();
    euros.amount = Money::new(1200, CurrencyCode::parse("EUR").unwrap()).unwrap();
    let mut endless = good.clone();
    endless.expires_at = None;
    let mut done = good.clone();
    done.status = PaymentStatus::Approved;
    for (number, text) in (1..).zip([euros, endless, done]) {
        world.notify_of(number, seal_key, &text);
        world.store_all();
        let log = world.log();
        assert!(log[0].starts_with("trouble: a question of the issuer is not asked: "), "{log:?}");
        assert_eq!(log.len(), 1);
    }
    world.notify_of(4, [0; 32], &good);
    world.store_all();
    assert!(world.log()[0].contains("not made by the issuer"));
    assert!(world.terminal.link().questions.is_empty());

    for number in 0..=QUESTIONS_MAX {
        world.ask(4 + number as u64, u8::try_from(number).unwrap());
    }
    world.store_all();
    let log = world.log();
    assert_eq!(log.iter().filter(|it| it.starts_with("ask")).count(), QUESTIONS_MAX);
    assert!(log.iter().any(|it| it.contains("too many others are open")));
    world.pass(60_000);
    world.ask(40, 40);
    world.store_all();
    assert_eq!(world.log().last().unwrap(), "ask 40");
    assert_eq!(world.disk.questions.len(), QUESTIONS_MAX, "the dead make room");
}

#[test]
fn the_word_that_another_process_stored_first_stands() {
    let mut world = World::new();
    world.ask(1, 5);
    world.ask(2, 6);
    world.store_all();
    world.say_elsewhere(5, Refuse);
    world.say_elsewhere(6, Refuse);
    world.log();
    world.say(5, Confirm);
    world.store();
    let payment = PaymentId::from_raw([5; 16]);
    let lost = format!("trouble: no open question is about {payment}");
    let log = world.log();
    assert!(log.contains(&lost) && log.contains(&"over 6".to_owned()), "{log:?}");
    assert!(log.contains(&"say 5 Refuse".to_owned()), "{log:?}");
    assert!(!log.iter().any(|it| it.contains("Confirm")), "{log:?}");
}

#[test]
fn a_question_makes_room_for_the_next_code_and_its_outcome_does_not() {
    let mut world = World::new();
    world.show();
    world.ack(0, true);
    world.pass(2_000);
    assert!(!world.asked);
    world.ask(1, 5);
    assert!(world.asked, "the code on the screen is spent");
    world.chance(8);
    world.store_all();
    world.ack(world.sent.len() - 1, true);
    world.pass(2_000);
    let paid = world.notice_text("paid", 5);
    world.notify_of(2, link().keys.seal_key, &paid);
    assert!(!world.asked, "this was about the code before");
    let held = world.notice_text("held", 6);
    world.notify_of(3, link().keys.seal_key, &held);
    assert!(world.asked);
}

#[test]
fn questions_survive_storage_and_records_without_them_are_read() {
    let mut world = World::new();
    let bare = serde_json::to_value(link()).unwrap();
    assert!(bare.get("questions").is_none(), "as earlier versions wrote it");
    assert_eq!(serde_json::from_value::<Link>(bare).unwrap(), link());
    world.ask(1, 5);
    world.store();
    world.say(5, Confirm);
    world.store();
    let text = serde_json::to_string(&world.disk).unwrap();
    let read: Link = serde_json::from_str(&text).unwrap();
    assert_eq!(read, world.disk);
    assert_eq!(read.questions[0].verdict, Some(Confirm));
    assert_eq!(read.questions[0].plaintext, world.issued[0]);
}
