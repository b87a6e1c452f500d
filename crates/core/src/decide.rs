//! `decide(state, command, now)`: pure, changes nothing. One file a command.
//!
//! Everything is decided before anything is written. A repeated request never decides again: it is answered by what
//! stands there. What a caller may do at all (signatures, rights, rates) was judged before the command was made.

mod capture;
mod change;
mod confirm;
mod expire;
mod invite;
mod link;
mod long_code;
mod open_account;
mod pay;
mod refund;
mod register;
mod release;
mod reverse;
mod stand;
mod top_up;
mod unlink;

pub use capture::Capture;
pub use change::OldPayment;
pub use confirm::Confirm;
pub use invite::Invite;
pub use link::Link;
pub use long_code::LongCode;
pub use open_account::OpenAccount;
pub use pay::{Pay, Standing};
pub use refund::Refund;
pub use register::Register;
pub use release::Release;
pub use reverse::Reverse;
pub use stand::{Limit, StandAccount, StandCredential};
pub use top_up::TopUp;
pub use unlink::Unlink;

use warifu_proto::id::MerchantId;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;

use crate::entry::{Digest, Fact};
use crate::partition::{OPERATOR, Partition};
use crate::payment::Payment;
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
    Pay(Box<Pay>),
    /// Take a hold.
    Capture(Capture),
    /// Give a hold back.
    Release(Release),
    /// Give money back.
    Refund(Refund),
    /// Make a payment not to have happened.
    Reverse(Reverse),
    /// Say yes or no to a payment.
    Confirm(Confirm),
    /// Freeze, unfreeze or close an account.
    StandAccount(StandAccount),
    /// Suspend a credential, or no longer.
    StandCredential(StandCredential),
    /// Limit an account.
    Limit(Limit),
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
    /// Nothing is to be done: the payment stands as was wished.
    Unchanged {
        /// As it stands.
        payment: Box<Payment>,
    },
    /// The same of an account.
    AccountUnchanged {
        /// Which.
        account_number: u32,
    },
    /// The same of a credential.
    CredentialUnchanged {
        /// Which.
        credential_number: u32,
    },
    /// The payment was reversed before, and has not arrived.
    ReversedBefore,
    /// Memory does not have the payment: read it from the journal, then decide again with it.
    NotInMemory,
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
    /// The account was closed.
    #[error("the account was closed")]
    AccountClosed,
    /// The account has reserved money or a debt, so it can't be closed.
    #[error("money of the account is reserved, or it owes some: settle that before closing it")]
    AccountInUse,
    /// No such payment, or another merchant's.
    #[error("no such payment")]
    PaymentUnknown,
    /// The payment is another reader's.
    #[error("another reader asked for this payment, and this one has no right to reverse it")]
    NotYours,
    /// The payment's status does not allow it.
    #[error("the payment is not in a state that allows this: ask for it to see how it stands")]
    PaymentState,
    /// More than what is held, or than what is left of what was taken.
    #[error("the amount is more than what is left of the payment")]
    AmountTooLarge,
    /// The issuer's day of the payment has closed.
    #[error("the day of the payment has closed: refund it")]
    UseRefund,
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
            Command::Capture(it) => self.decide_capture(it, is_new, now),
            Command::Release(it) => self.decide_release(it),
            Command::Refund(it) => self.decide_refund(it, is_new),
            Command::Reverse(it) => self.decide_reverse(it, is_new),
            Command::Confirm(it) => self.decide_confirm(it, now),
            Command::StandAccount(it) => self.decide_stand_account(it),
            Command::StandCredential(it) => self.decide_stand_credential(it),
            Command::Limit(it) => self.decide_limit(it),
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
    /// The payment that it is about, by the entry that began it.
    pub fn first_sequence(&self) -> Option<u64> {
        match self {
            Self::Capture(it) => Some(it.first_sequence),
            Self::Release(it) => Some(it.first_sequence),
            Self::Refund(it) => Some(it.first_sequence),
            Self::Reverse(it) => it.first_sequence,
            Self::Confirm(it) => Some(it.first_sequence),
            Self::OpenAccount(_)
            | Self::TopUp(_)
            | Self::Invite(_)
            | Self::Link(_)
            | Self::Unlink(_)
            | Self::Register(_)
            | Self::Pay(_)
            | Self::StandAccount(_)
            | Self::StandCredential(_)
            | Self::Limit(_) => None,
        }
    }

    /// The payment that it is about, if it was read from the journal.
    pub fn old(&self) -> Option<&OldPayment> {
        match self {
            Self::Capture(it) => it.old.as_deref(),
            Self::Release(it) => it.old.as_deref(),
            Self::Refund(it) => it.old.as_deref(),
            Self::Reverse(it) => it.old.as_deref(),
            Self::Confirm(_)
            | Self::OpenAccount(_)
            | Self::TopUp(_)
            | Self::Invite(_)
            | Self::Link(_)
            | Self::Unlink(_)
            | Self::Register(_)
            | Self::Pay(_)
            | Self::StandAccount(_)
            | Self::StandCredential(_)
            | Self::Limit(_) => None,
        }
    }

    /// Gives it the payment that was read from the journal.
    pub fn set_old(&mut self, old: Box<OldPayment>) {
        match self {
            Self::Capture(it) => it.old = Some(old),
            Self::Release(it) => it.old = Some(old),
            Self::Refund(it) => it.old = Some(old),
            Self::Reverse(it) => it.old = Some(old),
            Self::Confirm(_)
            | Self::OpenAccount(_)
            | Self::TopUp(_)
            | Self::Invite(_)
            | Self::Link(_)
            | Self::Unlink(_)
            | Self::Register(_)
            | Self::Pay(_)
            | Self::StandAccount(_)
            | Self::StandCredential(_)
            | Self::Limit(_) => {}
        }
    }

    /// The request id that makes repeating it safe, and whose it is.
    pub fn request(&self) -> Option<(MerchantId, &RequestId, &Digest)> {
        match self {
            Self::OpenAccount(it) => Some((OPERATOR, &it.request, &it.digest)),
            Self::TopUp(it) => Some((OPERATOR, &it.request, &it.digest)),
            Self::Pay(it) => Some((it.merchant, &it.request, &it.digest)),
            Self::Capture(it) => Some((it.merchant, &it.request, &it.digest)),
            Self::Refund(it) => Some((it.merchant, &it.request, &it.digest)),
            // A reversal has the id of the payment that it reverses, and none of its own.
            Self::Reverse(_)
            | Self::Invite(_)
            | Self::Link(_)
            | Self::Unlink(_)
            | Self::Register(_)
            | Self::Release(_)
            | Self::Confirm(_)
            | Self::StandAccount(_)
            | Self::StandCredential(_)
            | Self::Limit(_) => None,
        }
    }
}
