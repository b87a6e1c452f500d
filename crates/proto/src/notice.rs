//! Notices: what the issuer tells a terminal through the hub, sealed so that the hub sees a credential, a
//! number and a size.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::Malformed;
use crate::id::{CredentialId, MerchantId, PaymentId};
use crate::mac;

fn associated_data(credential: CredentialId, number: u64) -> Vec<u8> {
    [b"warifu/notice/v1\n".as_slice(), &credential.raw(), &number.to_be_bytes()].concat()
}

fn key(seal_key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, seal_key).expect("AES-256 takes 32 bytes"))
}

/// Seals a plaintext: nonce ‖ AES-256-GCM. The nonce must be random and fresh; it is an argument because chance
/// does not live here.
pub fn seal(
    seal_key: &[u8; 32],
    credential: CredentialId,
    number: u64,
    nonce: [u8; NONCE_LEN],
    plaintext: &[u8],
) -> Vec<u8> {
    let mut text = plaintext.to_vec();
    key(seal_key)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated_data(credential, number)),
            &mut text,
        )
        .expect("a notice is far below the limit of AES-GCM");
    [nonce.as_slice(), &text].concat()
}

/// Opens what [`seal`] made.
///
/// # Errors
/// When it is too short or was not sealed by this key for this credential and number.
pub fn open(
    seal_key: &[u8; 32],
    credential: CredentialId,
    number: u64,
    sealed: &[u8],
) -> Result<Vec<u8>, Malformed> {
    const BAD: Malformed =
        Malformed::new("notice", "was not sealed by this issuer for this link and number");
    let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(BAD)?;
    let mut text = text.to_vec();
    let plain = key(seal_key)
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(associated_data(credential, number)),
            &mut text,
        )
        .map_err(|_| BAD)?;
    Ok(plain.to_vec())
}

/// A payer's verdict on a payment that waits for it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Pay.
    Confirm,
    /// Don't.
    Refuse,
}

/// What a terminal signs to confirm or refuse: it binds the merchant and the amount that the payer saw.
pub fn confirm_message(
    verdict: Verdict,
    payment: PaymentId,
    merchant: MerchantId,
    amount_minor: u64,
    currency_number: u16,
    notice_plaintext: &[u8],
) -> Vec<u8> {
    let verdict = match verdict {
        Verdict::Confirm => 1,
        Verdict::Refuse => 0,
    };
    [
        b"warifu/confirm/v1\n".as_slice(),
        &[verdict],
        &payment.raw(),
        &merchant.raw(),
        &amount_minor.to_be_bytes(),
        &currency_number.to_be_bytes(),
        &mac::sha256(&[notice_plaintext]),
    ]
    .concat()
}
