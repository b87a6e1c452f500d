//! `decide(state, command, now)`: pure, changes nothing. One file a command.
//!
//! Everything is decided before anything is written. A repeated request never decides again: it is answered by what
//! stands there. What a caller may do at all (signatures, rights, rates) was judged before the command was made.

mod invite;
mod link;
mod open_account;
mod pay;
mod register;
mod top_up;
mod unlink;

pub use invite::Invite;
pub use link::Link;
pub use open_account::OpenAccount;
pub use pay::{Pay, Standing};
pub use register::Register;
pub use top_up::TopUp;
pub use unlink::Unlink;

use warifu_proto::id::MerchantId;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use crate::entry::{Digest, Fact};
use crate::partition::{OPERATOR, Partition};
use crate::vault::Vault;

/// What is asked of one partition.
#[derive(Debug, Clone)]
pub enum Command {
    /// Open an account.
    OpenAccount(OpenAccount),
    /// Put money in.
    TopUp(TopUp),
    /// Invite a terminal.
    Invite(Invite),
    /// Link a terminal.
    Link(Link),
    /// End a link.
    Unlink(Unlink),
    /// Register a code, or withdraw all.
    Register(Register),
    /// Pay.
    Pay(Pay),
}

/// What comes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This is to be written, and then answered.
    Commit(Box<Fact>),
    /// It was decided before, by the entry of this sequence: answer with what stands there.
    Repeat {
        /// The entry that answered it.
        sequence: u64,
    },
    /// A registration of this statement is there already.
    RegisteredBefore {
        /// Whose.
        credential_number: u32,
        /// When it arrived.
        registered_at: Timestamp,
        /// Until when it holds.
        expires_at: Timestamp,
    },
    /// The invitation was used by the same terminal: the same credential again.
    LinkedBefore {
        /// Which.
        credential_number: u32,
    },
    /// The link ended before.
    UnlinkedBefore,
    /// Memory does not have the request id, but may have forgotten it: ask the index, then decide again as new.
    LookUp,
    /// No registration matches yet: decide again when one arrives, and once more when the wait is over.
    Wait,
}

impl Decision {
    fn commit(fact: Fact) -> Self {
        Self::Commit(Box::new(fact))
    }
}

/// Why a command is refused without a trace. In order of precedence within each command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request id was used for something else.
    #[error("this request id was used for another request")]
    RequestIdConflict,
    /// No such account.
    #[error("no such account")]
    AccountUnknown,
    /// The amount is in another currency than the account.
    #[error("the account has another currency")]
    CurrencyMismatch,
    /// The balance would leave its bounds.
    #[error("the balance would be above 10^15 - 1 minor units")]
    BalanceTooLarge,
    /// The invitation was used, has expired or never was.
    #[error("the invitation is not known, was used or has expired")]
    InvitationUnknown,
    /// The proof does not hold.
    #[error("the proof does not hold")]
    ProofInvalid,
    /// No such credential, or it was unlinked.
    #[error("the link between terminal and account is not known")]
    CredentialUnknown,
    /// The statement's partition or currency is not the credential's.
    #[error("the registration names another partition or currency than its credential")]
    RegistrationMismatch,
    /// The signature was checked with another key than the credential's.
    #[error("the signature is not by the credential's key")]
    SignatureInvalid,
    /// The sequence was seen or is too old.
    #[error("the sequence was used or is too old")]
    SequenceUsed,
    /// The lifetime is above the limit.
    #[error("the lifetime is above 300 seconds")]
    LifetimeTooLong,
    /// The statement's time is too far from ours.
    #[error("the terminal's clock is wrong")]
    ClockSkew,
}

impl Partition {
    /// Decides a command. `is_new` says that the index was asked and does not know the request id.
    ///
    /// # Errors
    /// In the order of [`Refusal`]; a refused command leaves no trace.
    pub fn decide(
        &self,
        command: &Command,
        is_new: bool,
        now: Timestamp,
        vault: &Vault,
    ) -> Result<Decision, Refusal> {
        let now = self.time_of_entry(now);
        match command {
            Command::OpenAccount(it) => self.decide_open_account(it, is_new),
            Command::TopUp(it) => self.decide_top_up(it, is_new),
            Command::Invite(it) => self.decide_invite(it, now, vault),
            Command::Link(it) => self.decide_link(it, now, vault),
            Command::Unlink(it) => self.decide_unlink(it),
            Command::Register(it) => self.decide_register(it, now),
            Command::Pay(it) => self.decide_pay(it, is_new, now),
        }
    }

    /// What is known of a request id: nothing (`None`), a repeat, or that the index must be asked.
    fn repeat_of(
        &self,
        caller: MerchantId,
        request: &RequestId,
        digest: &Digest,
        is_new: bool,
    ) -> Result<Option<Decision>, Refusal> {
        match self.remembered(caller, request) {
            Some(before) if before.digest == *digest => {
                Ok(Some(Decision::Repeat { sequence: before.sequence }))
            }
            Some(_) => Err(Refusal::RequestIdConflict),
            None if !is_new && self.may_be_forgotten(caller, request) => Ok(Some(Decision::LookUp)),
            None => Ok(None),
        }
    }
}

impl Command {
    /// The request id that makes repeating it safe, and whose it is.
    pub fn request(&self) -> Option<(MerchantId, &RequestId, &Digest)> {
        match self {
            Self::OpenAccount(it) => Some((OPERATOR, &it.request, &it.digest)),
            Self::TopUp(it) => Some((OPERATOR, &it.request, &it.digest)),
            Self::Pay(it) => Some((it.merchant, &it.request, &it.digest)),
            Self::Invite(_) | Self::Link(_) | Self::Unlink(_) | Self::Register(_) => None,
        }
    }
}
