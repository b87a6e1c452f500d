//! What can go wrong without stopping the machine.

use warifu_proto::id::PaymentId;

/// What went wrong and did not stop the machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// All 2^32 sequences are used: the link has to be made anew.
    #[error("this link has used all of its sequence numbers")]
    SequencesUsedUp,
    /// The source of random bytes gives none that can be used.
    #[error("the random bytes for a code are not usable")]
    BadChance,
    /// The registration was refused for good; codes may still be taken as long codes.
    #[error("the code was not registered: {title}")]
    Refused {
        /// The problem's name.
        code: String,
        /// What the hub or the issuer says. From outside: show it escaped.
        title: String,
    },
    /// Something that claims to be from the issuer is not.
    #[error("a notice was not made by the issuer and is ignored")]
    NoticeForged {
        /// Its number, which counts for nothing.
        number: u64,
    },
    /// A notice that this version can't read.
    #[error("a notice can't be read by this version")]
    NoticeUnreadable {
        /// Its number.
        number: u64,
    },
    /// Notices are missing between the last one and this.
    #[error("{count} notices are missing: look at the account's statement")]
    NoticesMissing {
        /// How many.
        count: u64,
    },
    /// A question that can't be put to the payer.
    #[error("a question of the issuer is not asked: {why}")]
    NotAsked {
        /// The number of its notice.
        number: u64,
        /// What is the matter with it.
        why: &'static str,
    },
    /// The payer's word on a payment about which nothing is asked: it was answered otherwise, is over, or never was.
    #[error("no open question is about {payment}")]
    NothingToAnswer {
        /// Which payment.
        payment: PaymentId,
    },
    /// The issuer does not take the payer's word.
    #[error("the answer about {payment} was not taken: {title}")]
    VerdictRefused {
        /// About which payment.
        payment: PaymentId,
        /// The problem's name.
        code: String,
        /// What the hub or the issuer says. From outside: show it escaped.
        title: String,
    },
    /// The question is over, and nobody has said that the payer's word was heard in time.
    #[error("nobody has said that the answer about {payment} was heard in time")]
    VerdictUnheard {
        /// About which payment.
        payment: PaymentId,
    },
}
