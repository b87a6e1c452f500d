//! What an account costs in memory: a million of them must fit.

use std::mem::size_of;

use warifu_core::account::Account;
use warifu_core::code_book::BookedCode;
use warifu_core::credential::{Credential, Usage};
use warifu_core::payment::Payment;

#[test]
fn an_account_with_one_credential_takes_at_most_400_bytes() {
    // Itself; its number in the list by id; and the credential's in a table, where a place takes a byte more and 7 of 16
    // are filled at least.
    let places = size_of::<u32>() + (size_of::<u32>() + 1) * 16 / 7;
    let sum = size_of::<Account>() + size_of::<Credential>() + places;
    assert!(sum <= 400, "{sum} bytes");
}

#[test]
fn what_is_kept_for_a_while_is_small() {
    assert!(size_of::<Usage>() <= 104, "{} bytes, copied twice an entry", size_of::<Usage>());
    assert!(size_of::<BookedCode>() <= 80, "{} bytes for each live code", size_of::<BookedCode>());
    assert!(size_of::<Payment>() <= 152, "{} bytes, 32 768 a partition", size_of::<Payment>());
}
