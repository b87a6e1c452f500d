//! A small issuer for the tests of those who follow the journal: an engine on the model store, and payers with terminals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use warifu_core::decide::{
    Command, Invite, Link, OpenAccount, Pay, Register, Standing, TopUp, Unlink,
};
use warifu_core::limits::Limits;
use warifu_core::place::id_in;
use warifu_core::vault::Vault;
use warifu_proto::code::{Code, Prefix};
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::id::{AccountId, CredentialId, InvitationId, MerchantId, ReaderId};
use warifu_proto::link::LinkKeys;
use warifu_proto::mac;
use warifu_proto::message::{AccountKind, Capture};
use warifu_proto::money::Money;
use warifu_proto::registration::{Statement, tag};
use warifu_proto::request_id::RequestId;
use warifu_server::{chance, clock};
use zeroize::Zeroizing;

use crate::engine::{Answer, Ask, Engine, EngineConfig, PaymentState};
use crate::store::Store;
use crate::store::model::ModelStore;

/// Longest that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn prefix() -> Prefix {
    Prefix::parse("71000001").unwrap()
}

pub(crate) fn yen() -> Currency {
    Currency::iso(CurrencyCode::parse("JPY").unwrap()).unwrap()
}

pub(crate) fn model() -> Arc<dyn Store> {
    Arc::new(ModelStore::new([8; 16]))
}

pub(crate) fn start(store: &Arc<dyn Store>) -> Arc<Engine> {
    let vault = Arc::new(Vault::new([5; 32]));
    Arc::new(Engine::start(EngineConfig::new(prefix()), Arc::clone(store), vault).unwrap())
}

pub(crate) async fn decide(engine: &Engine, partition: u8, command: Command) -> Answer {
    engine.ask(partition, Ask::Decide(Box::new(command)), PATIENCE).await.unwrap()
}

/// A linked terminal with money.
pub(crate) struct Payer {
    pub(crate) account: AccountId,
    pub(crate) partition: u8,
    pub(crate) credential: CredentialId,
    pub(crate) keys: LinkKeys,
    key: [u8; 64],
    sequence: AtomicU32,
}

impl Payer {
    pub(crate) async fn open(engine: &Engine, partition: u8, minor: u64) -> Self {
        let account: AccountId = id_in(partition, clock::now(), chance::bytes());
        let request = |what: &str| RequestId::parse(&format!("{what}-{account}")).unwrap();
        let open = OpenAccount {
            request: request("open"),
            digest: [1; 16],
            account,
            kind: AccountKind::Prepaid,
            currency: yen(),
            credit_limit_minor: 0,
        };
        decide(engine, partition, Command::OpenAccount(open)).await;
        let amount = Money::new(minor, yen().code).unwrap();
        let top_up = TopUp { request: request("top"), digest: [1; 16], account, amount };
        decide(engine, partition, Command::TopUp(top_up)).await;
        Self::link(engine, partition, account).await
    }

    /// One more terminal of an account.
    pub(crate) async fn link(engine: &Engine, partition: u8, account: AccountId) -> Self {
        let now = clock::now();
        let key = chance::key();
        let (secret, invitation): (_, InvitationId) =
            (Zeroizing::new(chance::bytes()), id_in(partition, now, chance::bytes()));
        let invite = Invite { account, invitation, secret: secret.clone() };
        decide(engine, partition, Command::Invite(invite)).await;
        let keys = LinkKeys::derive(&secret, key.thumbprint());
        let proof = keys.proof(prefix(), invitation, key.thumbprint());
        let credential: CredentialId = id_in(partition, now, chance::bytes());
        let link =
            Link { prefix: prefix(), invitation, key: key.public().clone(), proof, credential };
        decide(engine, partition, Command::Link(link)).await;
        let (key, sequence) = (key.public().xy(), AtomicU32::new(0));
        Self { account, partition, credential, keys, key, sequence }
    }

    pub(crate) async fn unlink(&self, engine: &Engine) {
        let unlink = Unlink { credential: self.credential, signed_by: None };
        decide(engine, self.partition, Command::Unlink(unlink)).await;
    }

    /// Shows a code, and lets a merchant take it.
    pub(crate) async fn pay(
        &self,
        engine: &Engine,
        merchant: MerchantId,
        request: &str,
        minor: u64,
    ) -> PaymentState {
        let code = Code::make(prefix(), self.partition, &chance::bytes()).unwrap();
        let statement = Statement {
            prefix: prefix(),
            locator: code.locator(prefix()),
            lifetime_s: 60,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            credential: self.credential,
            tag: tag(&self.keys.code_key, &code),
            issued_at: clock::now(),
            currency_number: yen().number,
            cap_minor: 0,
        };
        let register = Register { digest: statement.digest(), statement, signed_by: self.key };
        decide(engine, self.partition, Command::Register(register)).await;
        scan(engine, self.partition, merchant, request, &code, minor).await
    }
}

pub(crate) fn unknown_code(partition: u8) -> Code {
    Code::make(prefix(), partition, &chance::bytes()).unwrap()
}

pub(crate) async fn scan(
    engine: &Engine,
    partition: u8,
    merchant: MerchantId,
    request: &str,
    code: &Code,
    minor: u64,
) -> PaymentState {
    let now = clock::now();
    let pay = Pay {
        merchant,
        merchant_standing: Standing::Active,
        reader: ReaderId::from_raw([4; 16]),
        reader_standing: Standing::Active,
        request: RequestId::parse(request).unwrap(),
        digest: mac::first_16(mac::sha256(&[code.as_bytes(), &minor.to_be_bytes()])),
        code: code.clone(),
        locator: code.locator(prefix()),
        amount: Money::new(minor, yen().code).unwrap(),
        deadline_at: now.plus_ms(20_000),
        wait_until: now,
        long_code: None,
        capture: Capture::Now,
        hold_until: now.plus_ms(60_000),
        limits: Limits::default(),
        is_reversed: false,
        business_day: 20_000,
    };
    let Answer::Payment(state) = decide(engine, partition, Command::Pay(Box::new(pay))).await
    else {
        panic!("the lane answered something else")
    };
    state
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < end, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
