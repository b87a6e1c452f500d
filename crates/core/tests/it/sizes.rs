//! What an account costs in memory: a million of them must fit.

use std::mem::size_of;

use warifu_core::account::Account;
use warifu_core::code_book::BookedCode;
use warifu_core::credential::{Credential, Usage};
use warifu_core::payment::Payment;
use warifu_proto::id::{AccountId, CredentialId};

#[test]
fn an_account_with_one_credential_takes_at_most_400_bytes() {
    // Itself, and its place in the maps by id. A map's nodes are not always full: about a third more for these.
    let maps = size_of::<(AccountId, u32)>() + size_of::<(CredentialId, u32)>();
    let sum = size_of::<Account>() + size_of::<Credential>() + maps;
    assert!(sum <= 400, "{sum} bytes");
}

#[test]
fn what_is_kept_for_a_while_is_small() {
    assert!(size_of::<Usage>() <= 104, "{} bytes, copied twice an entry", size_of::<Usage>());
    assert!(size_of::<BookedCode>() <= 80, "{} bytes for each live code", size_of::<BookedCode>());
    assert!(size_of::<Payment>() <= 152, "{} bytes, 32 768 a partition", size_of::<Payment>());
}
