//! What the handlers of the issuer share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use warifu_core::decide::{Command, Refusal, Standing};
use warifu_core::payment::{PaymentPlace, payment_place};
use warifu_core::place::partition_of;
use warifu_proto::base64url;
use warifu_proto::code::Prefix;
use warifu_proto::directory::{Directory, Merchant, Reader, Right};
use warifu_proto::id::{CredentialId, PaymentId};
use warifu_proto::key::{PrivateKey, PublicKey, Thumbprint};
use warifu_proto::limits::PARTITIONS;
use warifu_proto::mac;
use warifu_proto::problem::ProblemCode;
use warifu_proto::registration::clock_ack;
use warifu_proto::time::Timestamp;
use warifu_server::clock;
use warifu_server::edge::{Caller, KeyRing};
use warifu_server::follow::DirectoryFollower;
use warifu_server::problem::{ApiProblem, ApiResult};

use crate::config::Config;
use crate::engine::{Answer, Ask, CredentialState, Engine, Refused};
use crate::misses::Misses;
use crate::notices::Questions;
use crate::texts::Texts;
use crate::views::Views;

/// How long a handler waits for the lane when the caller named no deadline.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How often a payment that has left memory is read for one command.
const READ_AGAIN_MAX: usize = 3;
/// Parsed keys of credentials that are kept; beyond that all are dropped and read again.
const KEYS_KEPT_MAX: usize = 200_000;

/// The issuer as its handlers see it.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) directory: Arc<DirectoryFollower>,
    pub(crate) texts: Arc<Texts>,
    pub(crate) views: Arc<Views>,
    pub(crate) registrar: Thumbprint,
    pub(crate) time_zone: jiff::tz::TimeZone,
    /// Keys what is compared of a repeated request, so that an erased text can't be guessed from the journal.
    pub(crate) digest_key: zeroize::Zeroizing<[u8; 32]>,
    /// Where journal, index and views lie.
    pub(crate) data: PathBuf,
    pub(crate) questions: Arc<Questions>,
    pub(crate) verifying: Arc<tokio::sync::Mutex<()>>,
    pub(crate) misses: Mutex<Misses>,
    pub(crate) keys: RwLock<HashMap<CredentialId, Arc<CredentialKey>>>,
}

/// A credential's key, ready to verify.
#[derive(Debug)]
pub(crate) struct CredentialKey {
    pub(crate) key: PublicKey,
    pub(crate) xy: [u8; 64],
}

/// A reader that was found in the directory, and its standing.
#[derive(Debug)]
pub(crate) struct KnownReader {
    pub(crate) reader: Reader,
    pub(crate) merchant: Merchant,
    pub(crate) reader_standing: Standing,
    pub(crate) merchant_standing: Standing,
}

impl App {
    pub(crate) fn prefix(&self) -> Prefix {
        self.config.prefix
    }

    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.directory.current()
    }

    /// The reader that signed a call.
    pub(crate) fn reader(&self, caller: &Caller) -> ApiResult<KnownReader> {
        let now = clock::now();
        let directory = self.directory();
        let not_one = || {
            ApiProblem::new(
                ProblemCode::Forbidden,
                "only a paired reader may do this: pair it with its merchant first",
            )
        };
        let reader = directory.reader_by_key(caller.0).ok_or_else(not_one)?;
        let merchant = directory.merchant(reader.merchant_id).ok_or_else(not_one)?;
        let standing = |is_active| if is_active { Standing::Active } else { Standing::Suspended };
        Ok(KnownReader {
            reader_standing: standing(reader.common.is_active(now)),
            merchant_standing: standing(merchant.common.is_active(now)),
            reader: reader.clone(),
            merchant: merchant.clone(),
        })
    }

    /// Refuses when the copy of the directory is so old that a suspension may have been withheld.
    pub(crate) fn fresh_directory(&self) -> ApiResult<()> {
        let age_ms = clock::now().since_ms(self.directory.as_of().unwrap_or_default());
        if age_ms > self.config.directory_max_age_s.saturating_mul(1000) {
            let detail =
                "the issuer's copy of the directory is too old: the hub has to be reached first";
            // Nothing of this passes by itself, so it is told to the operator too.
            let cause = anyhow::anyhow!("no hub has vouched for the directory for {age_ms} ms");
            return Err(ApiProblem::new(ProblemCode::NotAccepted, detail)
                .retry_after_s(5)
                .caused_by(cause));
        }
        Ok(())
    }

    /// The day in the issuer's time zone, counted from 1970-01-01.
    pub(crate) fn business_day(&self, now: Timestamp) -> u32 {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(now.as_ms()).unwrap_or_default())
            .unwrap_or_default();
        let epoch = jiff::civil::date(1970, 1, 1);
        let days = at
            .to_zoned(self.time_zone.clone())
            .date()
            .since((jiff::Unit::Day, epoch))
            .map_or(0, |span| span.get_days());
        u32::try_from(days).unwrap_or_default()
    }

    /// Decides a command, or says why not as a problem.
    pub(crate) async fn decide(
        &self,
        partition: u8,
        command: Command,
        patience: Duration,
    ) -> ApiResult<Answer> {
        self.engine.ask(partition, Ask::Decide(Box::new(command)), patience).await.map_err(problem)
    }

    /// Decides a command about a payment, whatever the payment's age: what has left memory is read and given along.
    pub(crate) async fn decide_about(
        &self,
        partition: u8,
        mut command: Command,
    ) -> ApiResult<Answer> {
        for _ in 0..READ_AGAIN_MAX {
            let ask = Ask::Decide(Box::new(command.clone()));
            match self.engine.ask(partition, ask, PATIENCE).await {
                Err(Refused::NotInMemory(place)) => {
                    command.set_old(self.engine.read_payment(place).await.map_err(problem)?);
                }
                answer => return answer.map_err(problem),
            }
        }
        let detail = "the payment changes faster than it can be read; try again in a moment";
        Err(ApiProblem::new(ProblemCode::NotAccepted, detail).retry_after_s(1))
    }

    /// The reader that signed a call, which must have a right and take part.
    pub(crate) fn reader_with(&self, caller: &Caller, right: Right) -> ApiResult<KnownReader> {
        let reader = self.reader(caller)?;
        let takes_part = reader.reader_standing == Standing::Active
            && reader.merchant_standing == Standing::Active;
        if takes_part && reader.reader.rights.contains(&right) {
            return Ok(reader);
        }
        let detail = if takes_part {
            "this reader has no right to do this: its merchant gives rights when pairing it"
        } else {
            "this reader or its merchant is suspended"
        };
        Err(ApiProblem::new(ProblemCode::Forbidden, detail))
    }

    /// The place that a payment's id names.
    pub(crate) fn place_of(&self, payment: &str) -> ApiResult<(PaymentId, PaymentPlace)> {
        let id = PaymentId::parse(payment)?;
        let place = payment_place(self.prefix(), id).ok_or_else(|| problem(Refused::NotFound))?;
        Ok((id, place))
    }

    /// What is compared of a repeated request. Keyed, so that the journal does not give away texts to who guesses them.
    pub(crate) fn digest(&self, parts: &[&str]) -> [u8; 16] {
        let text: String = parts.iter().map(|part| format!("{}:{part}\n", part.len())).collect();
        mac::first_16(mac::hmac_sha256(
            self.digest_key.as_slice(),
            &[b"warifu/request/v1\n", text.as_bytes()],
        ))
    }

    /// Asks for something that is there.
    pub(crate) async fn ask(&self, partition: u8, ask: Ask) -> ApiResult<Answer> {
        self.engine.ask(partition, ask, PATIENCE).await.map_err(problem)
    }

    /// A credential, wherever it lives.
    pub(crate) async fn credential(&self, id: CredentialId) -> ApiResult<CredentialState> {
        let unknown = || {
            ApiProblem::new(
                ProblemCode::CredentialUnknown,
                "link the terminal again with a new invitation",
            )
        };
        let partition = partition_of(id).filter(|it| *it < PARTITIONS).ok_or_else(unknown)?;
        match self.engine.ask(partition, Ask::Credential(id), PATIENCE).await {
            Ok(Answer::Credential(state)) => Ok(*state),
            Err(Refused::NotFound) => Err(unknown()),
            Err(refused) => Err(problem(refused)),
            Ok(_) => Err(ApiProblem::internal(anyhow::anyhow!("the lane answered something else"))),
        }
    }

    /// A credential's key, parsed; kept, because parsing costs as much as a payment.
    pub(crate) async fn credential_key(&self, id: CredentialId) -> ApiResult<Arc<CredentialKey>> {
        if let Some(key) = self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(Arc::clone(key));
        }
        let xy = self.credential(id).await?.key;
        let key = PublicKey::from_xy(&xy)
            .map_err(|error| ApiProblem::internal(anyhow::Error::new(error)))?;
        let key = Arc::new(CredentialKey { key, xy });
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS_KEPT_MAX {
            keys.clear();
        }
        keys.insert(id, Arc::clone(&key));
        Ok(key)
    }

    /// Refuses a reader that has asked for too many codes that do not exist.
    pub(crate) fn check_misses(&self, reader: &KnownReader, now: Timestamp) -> ApiResult<()> {
        let misses = self.misses.lock().unwrap_or_else(PoisonError::into_inner);
        match misses.blocked_for_ms(reader.reader.common.id, reader.merchant.common.id, now) {
            None => Ok(()),
            Some(ms) => {
                let seconds = u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX);
                let detail = "this reader (or its merchant) asked for too many unknown codes; wait, and check the scanner";
                Err(ApiProblem::new(ProblemCode::TooManyMisses, detail).retry_after_s(seconds))
            }
        }
    }

    pub(crate) fn count_miss(&self, reader: &KnownReader, now: Timestamp) {
        metrics::counter!("warifu_code_misses_total").increment(1);
        self.misses.lock().unwrap_or_else(PoisonError::into_inner).count(
            reader.reader.common.id,
            reader.merchant.common.id,
            now,
        );
    }

    /// Whether a key is the operator's.
    pub(crate) fn check_operator(&self, caller: &Caller) -> ApiResult<()> {
        if caller.0 == self.config.operator_key.thumbprint() {
            return Ok(());
        }
        Err(ApiProblem::new(ProblemCode::Forbidden, "only the operator's key may do this"))
    }
}

/// Whose signatures are known here: the operator's, hubs', readers'.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) operator: PublicKey,
    pub(crate) directory: Arc<DirectoryFollower>,
}

impl KeyRing for Ring {
    fn key(&self, thumbprint: &Thumbprint) -> Option<PublicKey> {
        if self.operator.thumbprint() == *thumbprint {
            return Some(self.operator.clone());
        }
        let directory = self.directory.current();
        let reader = directory.reader_by_key(*thumbprint).map(|it| it.key.clone());
        reader.or_else(|| directory.hub_by_key(*thumbprint).map(|it| it.key.clone()))
    }
}

/// What the lane refused, as the caller hears it.
pub(crate) fn problem(refused: Refused) -> ApiProblem {
    match refused {
        Refused::NotFound | Refused::NotInMemory(_) => {
            ApiProblem::new(ProblemCode::NotFound, "there is nothing of this id")
        }
        Refused::NotAccepted(why) => {
            ApiProblem::new(ProblemCode::NotAccepted, why).retry_after_s(1)
        }
        Refused::Unknown => {
            ApiProblem::internal(anyhow::anyhow!("the lane ended before it answered"))
        }
        Refused::Rule { refusal, .. } => {
            ApiProblem::new(problem_code(refusal), refusal.to_string())
        }
    }
}

fn problem_code(refusal: Refusal) -> ProblemCode {
    match refusal {
        Refusal::RequestIdConflict => ProblemCode::RequestIdConflict,
        Refusal::AccountUnknown => ProblemCode::NotFound,
        Refusal::PaymentUnknown => ProblemCode::NotFound,
        Refusal::NotYours => ProblemCode::Forbidden,
        Refusal::PaymentState => ProblemCode::PaymentState,
        Refusal::UseRefund => ProblemCode::UseRefund,
        Refusal::AmountTooLarge => ProblemCode::AmountTooLarge,
        Refusal::AccountClosed => ProblemCode::AccountClosed,
        Refusal::AccountInUse => ProblemCode::Conflict,
        Refusal::CurrencyMismatch | Refusal::BalanceTooLarge => ProblemCode::Unprocessable,
        Refusal::InvitationUnknown => ProblemCode::InvitationUnknown,
        Refusal::ProofInvalid => ProblemCode::ProofInvalid,
        Refusal::CredentialUnknown => ProblemCode::CredentialUnknown,
        Refusal::RegistrationMismatch => ProblemCode::RegistrationMismatch,
        Refusal::SignatureInvalid => ProblemCode::SignatureInvalid,
        Refusal::SequenceUsed => ProblemCode::SequenceUsed,
        Refusal::LifetimeTooLong => ProblemCode::LifetimeTooLong,
        Refusal::ClockSkew => ProblemCode::ClockSkew,
    }
}

/// The same for a registration: a terminal with a wrong clock is told ours, authenticated.
pub(crate) fn registration_problem(refused: Refused, statement_digest: &[u8; 32]) -> ApiProblem {
    match refused {
        Refused::Rule { refusal: Refusal::ClockSkew, now, link_key: Some(link_key) } => {
            let ack = clock_ack(&link_key, statement_digest, now);
            let detail = "set the clock, or count from now_ms, and register again";
            ApiProblem::new(ProblemCode::ClockSkew, detail)
                .now_ms(now.as_ms())
                .ack(base64url::encode(ack))
        }
        other => problem(other),
    }
}
