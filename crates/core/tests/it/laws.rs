//! The laws of `design.md` section 2 over random runs: numbers are theirs.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::universe::{Universe, steps};

proptest! {
    /// Laws 1, 2, 4, 5 and 7, and that every answer is the one that an independent reading of the protocol gives.
    #[test]
    fn random_runs_keep_the_laws(steps in steps()) {
        let mut universe = Universe::new();
        for step in &steps {
            universe.step(step);
        }
    }
}

/// The random runs are worth something only if they lead everywhere.
#[test]
fn random_runs_lead_to_every_answer() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let mut seen = BTreeMap::<String, u32>::new();
    for _ in 0..400 {
        let mut universe = Universe::new();
        for step in steps().new_tree(&mut runner).unwrap().current() {
            universe.step(&step);
        }
        for (kind, times) in universe.seen {
            *seen.entry(kind).or_default() += times;
        }
    }
    for kind in [
        "writes",
        "repeats",
        "registered before",
        "unlinked before",
        "waits",
        "approved",
        "RequestIdConflict",
        "CurrencyMismatch",
        "BalanceTooLarge",
        "CredentialUnknown",
        "RegistrationMismatch",
        "SignatureInvalid",
        "SequenceUsed",
        "LifetimeTooLong",
        "ClockSkew",
        "deadline_passed",
        "reader_suspended",
        "merchant_suspended",
        "code_unknown",
        "code_expired",
        "code_used",
        "code_retired",
        "currency_mismatch",
        "over_code_cap",
        "insufficient_funds",
        "over_credit_limit",
    ] {
        assert!(
            seen.get(&format!("surely {kind}")).is_some_and(|times| *times >= 3),
            "{kind}: {seen:#?}"
        );
    }
}
