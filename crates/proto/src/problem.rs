//! A request that is wrong gets `application/problem+json` (RFC 9457). A declined payment is not one of these.

use serde::{Deserialize, Serialize};

macro_rules! problems {
    ($($(#[$doc:meta])* $variant:ident $name:literal $status:literal $title:literal;)*) => {
        /// What was wrong with a request: a closed list.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemCode {
            $($(#[$doc])* $variant,)*
        }

        impl ProblemCode {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The HTTP status, always 4xx or 5xx.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// One sentence that does not change.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

problems! {
    /// Not JSON, a missing, unknown or doubled field, a value outside of its bounds.
    Malformed "malformed" 400 "The request can't be read.";
    /// What was scanned is no code.
    CodeMalformed "code_malformed" 400 "A code is exactly 24 or 333 digits.";
    /// The registration's layout is wrong.
    RegistrationMalformed "registration_malformed" 400 "The registration can't be read.";
    /// No signature where one is needed.
    Unsigned "unsigned" 401 "This call must be signed.";
    /// A signature that does not hold.
    SignatureInvalid "signature_invalid" 401 "The signature does not hold.";
    /// A time too far from the server's.
    ClockSkew "clock_skew" 401 "Your clock is wrong.";
    /// A key that nobody vouches for.
    KeyUnknown "key_unknown" 401 "The key is not known here.";
    /// A session that was forgotten or never was.
    SessionUnknown "session_unknown" 401 "The session is not known: sign with your key and open another.";
    /// The caller may not do this.
    Forbidden "forbidden" 403 "You may not do this.";
    /// The proof of an invitation or pairing does not hold.
    ProofInvalid "proof_invalid" 403 "The proof does not hold.";
    /// Nothing there for this caller.
    NotFound "not_found" 404 "There is no such thing.";
    /// The invitation was used, has expired or never was.
    InvitationUnknown "invitation_unknown" 404 "The invitation is not known, was used or has expired.";
    /// The pairing was used, has expired or never was.
    PairingUnknown "pairing_unknown" 404 "The pairing is not known, was used or has expired.";
    /// The credential was unlinked or never was.
    CredentialUnknown "credential_unknown" 404 "The link between terminal and account is not known.";
    /// No issuer of the network has this prefix.
    IssuerUnknown "issuer_unknown" 404 "No issuer has this prefix.";
    /// The path exists, the method does not.
    MethodNotAllowed "method_not_allowed" 405 "This path has no such method.";
    /// The id was used for another request.
    RequestIdConflict "request_id_conflict" 409 "This request id was used for something else.";
    /// The thing exists and is another.
    Conflict "conflict" 409 "This exists already and differs.";
    /// What is asked is not possible as the payment stands.
    PaymentState "payment_state" 409 "The payment is not in a state that allows this.";
    /// The day of the payment has closed.
    UseRefund "use_refund" 409 "The day of the payment has closed: refund it.";
    /// Too large a body.
    TooLarge "too_large" 413 "The request is too large.";
    /// Not JSON by its own word.
    UnsupportedMediaType "unsupported_media_type" 415 "Send application/json without content-encoding.";
    /// Sent to a server that is not meant.
    Misdirected "misdirected" 421 "This server does not answer for that.";
    /// The statement names another issuer, partition or currency than its credential.
    RegistrationMismatch "registration_mismatch" 422 "The registration does not fit its credential.";
    /// The sequence was seen or is too old.
    SequenceUsed "sequence_used" 422 "The sequence was used or is too old.";
    /// The lifetime is above five minutes.
    LifetimeTooLong "lifetime_too_long" 422 "The lifetime is too long.";
    /// More than what was reserved, or than what is left of what was taken.
    AmountTooLarge "amount_too_large" 422 "The amount is more than what is left.";
    /// The account was closed meanwhile.
    AccountClosed "account_closed" 422 "The payer's account was closed.";
    /// Understood, and not possible.
    Unprocessable "unprocessable" 422 "This can't be done.";
    /// Too many calls.
    TooManyRequests "too_many_requests" 429 "Too many requests.";
    /// Too many codes that do not exist.
    TooManyMisses "too_many_misses" 429 "Too many unknown codes.";
    /// Our fault. The outcome is unknown: repeat the same request.
    Internal "internal" 500 "Something broke here. The outcome is unknown: repeat the same request.";
    /// Refused before anything was done.
    NotAccepted "not_accepted" 503 "Not accepted: this message changed nothing and never will.";
    /// The hub can't reach the issuer, and does not try at the moment.
    IssuerUnavailable "issuer_unavailable" 503 "The issuer can't be reached.";
}

impl ProblemCode {
    /// Finds a problem by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.name() == name)
    }
}

/// The body of an error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// A stable name: `urn:warifu:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One sentence that does not change.
    pub title: String,
    /// The HTTP status again.
    pub status: u16,
    /// What to do.
    pub detail: String,
    /// The name in [`ProblemCode`].
    pub code: String,
    /// Finds the request in the server's log.
    pub instance: String,
    /// With `clock_skew`: the server's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_ms: Option<u64>,
    /// With `clock_skew` of a registration: the issuer's proof of `now_ms`, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_status_is_an_error() {
        for it in ProblemCode::ALL {
            assert_eq!(ProblemCode::from_name(it.name()), Some(*it));
            assert!((400..600).contains(&it.status()));
        }
    }
}
