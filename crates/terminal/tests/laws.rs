//! The laws of the terminal's machine under random inputs in any order: late, forged and repeated answers, stores
//! that are slow or never happen, clocks that are set, other processes, restarts. The numbers are those of `machine.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "laws/questions.rs"]
mod questions;
#[path = "laws/world.rs"]
mod world;

use proptest::prelude::*;
use warifu_proto::notice::Verdict;
use warifu_proto::problem::ProblemCode;
use warifu_proto::time::Timestamp;
use warifu_terminal::{Input, Terminal, Trouble, Wish};
use world::{NOW_MS, World, key, link};

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

#[test]
fn the_long_code_carries_the_very_statement_that_is_sent_when_the_network_is_back() {
    let mut world = World::new();
    world.show();
    let short = world.code.clone().unwrap();
    world.pass(2_000);
    assert_eq!(world.log().last().unwrap(), "show long");
    let shown = world.long.clone().unwrap();
    // Nearly a minute under the ground: the repeats go on, and say the same.
    for _ in 0..47 {
        world.pass(1_000);
    }
    assert!(world.sent.len() > 10);
    assert!(world.sent.iter().all(|it| it.encode() == shown.encode()));
    world.log();
    world.ack(world.sent.len() - 1, true);
    assert_eq!(world.log(), ["show", "acked"], "the short code is back");
    assert_eq!(world.code, Some(short));
}

#[test]
fn a_clock_is_learned_of_a_fresh_acknowledgement_only() {
    let offset = |world: &World| world.terminal.link().counters.clock_offset_ms;
    let mut world = World::new();
    world.show();
    world.ack_at(0, Timestamp::from_ms(NOW_MS + 20_000));
    assert_eq!(offset(&world), 0, "near enough");

    let mut world = World::new();
    world.show();
    world.ack_at(0, Timestamp::from_ms(NOW_MS - 70_000));
    assert_eq!(offset(&world), -70_000);
    // Somebody sets the clock: what was learned is forgotten.
    world.pass(58_000);
    world.chance(8);
    world.store_all();
    world.ack_at(world.sent.len() - 1, world.now);
    assert_eq!(offset(&world), 0);

    let mut world = World::new();
    world.show();
    world.pass(6_000);
    world.ack_at(0, Timestamp::from_ms(NOW_MS - 70_000));
    assert_eq!(offset(&world), 0, "a late answer may tell an old time");
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
    Ask(u64, u8),
    Decide(u64, u8),
    Say(u8, bool),
    SayElsewhere(u8, bool),
    Hear(u8, Option<usize>),
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
        4 => (0_u64..12, 0_u8..3).prop_map(|(number, payment)| Op::Ask(number, payment)),
        1 => (0_u64..12, 0_u8..3).prop_map(|(number, payment)| Op::Decide(number, payment)),
        4 => (0_u8..3, any::<bool>()).prop_map(|(payment, is_yes)| Op::Say(payment, is_yes)),
        1 => (0_u8..3, any::<bool>()).prop_map(|(payment, is_yes)| Op::SayElsewhere(payment, is_yes)),
        2 => (0_u8..3, proptest::option::of(0..ProblemCode::ALL.len()))
            .prop_map(|(payment, problem)| Op::Hear(payment, problem)),
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
            world.is_clock_true = false;
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
            world.is_clock_true = false;
            world.refuse(which, ProblemCode::ALL[code], skew);
        }
        Op::Notify(number, is_sealed, is_paid) => {
            let seal_key = if is_sealed { link().keys.seal_key } else { [0; 32] };
            world.notify(number, seal_key, if is_paid { "paid" } else { "x" });
        }
        Op::Ask(number, payment) => {
            world.ask(number, payment);
        }
        Op::Decide(number, payment) => {
            let text = world.notice_text("paid", payment);
            world.notify_of(number, link().keys.seal_key, &text);
        }
        Op::Say(payment, is_yes) => {
            world.say(payment, if is_yes { Verdict::Confirm } else { Verdict::Refuse });
        }
        Op::SayElsewhere(payment, is_yes) => {
            world.say_elsewhere(payment, if is_yes { Verdict::Confirm } else { Verdict::Refuse });
        }
        Op::Hear(payment, None) => {
            world.hear(payment, Verdict::Confirm);
        }
        Op::Hear(payment, Some(problem)) => {
            world.refuse_word(payment, ProblemCode::ALL[problem]);
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
