//! The few primitives everything else is made of: SHA-256, HMAC-SHA-256, HKDF-SHA-256, and a comparison in
//! constant time. All by aws-lc; this file only gives them the shapes we use.

use aws_lc_rs::{constant_time, digest, hkdf, hmac};

/// SHA-256 over the parts, as if they were one text.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    to_array(context.finish().as_ref())
}

/// HMAC-SHA-256 over the parts, as if they were one text.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    to_array(context.sign().as_ref())
}

/// HKDF-SHA-256 (extract, then expand) to `N` bytes.
pub fn hkdf_sha256<const N: usize>(ikm: &[u8], salt: &[u8], info: &[&[u8]]) -> [u8; N] {
    struct Len(usize);
    impl hkdf::KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(ikm);
    let mut out = [0; N];
    prk.expand(info, Len(N))
        .and_then(|okm| okm.fill(&mut out))
        .expect("N is far below the 8160 bytes that HKDF-SHA-256 can give");
    out
}

/// Compares without telling by its time where the first difference is. Lengths are public.
pub fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(left, right).is_ok()
}

/// The first 16 bytes of a MAC: what tags and acknowledgements carry.
pub fn first_16(mac: [u8; 32]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(mac.first_chunk::<16>().expect("32 bytes hold 16"));
    out
}

fn to_array(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("SHA-256 gives 32 bytes")
}
