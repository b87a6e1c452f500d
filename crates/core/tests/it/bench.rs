//! A bench to try rules on: one partition with its vault, and hands that make commands.

use std::sync::LazyLock;

use warifu_core::account::Account;
use warifu_core::decide::{
    Command, Decision, Invite, Link, OpenAccount, Pay, Refusal, Register, Standing, TopUp, Unlink,
};
use warifu_core::entry::{Entry, Fact};
use warifu_core::limits::Limits;
use warifu_core::partition::Partition;
use warifu_core::payment::Payment;
use warifu_core::undo::UndoLog;
use warifu_core::vault::Vault;
use warifu_proto::code::{Code, Prefix};
use warifu_proto::currency::{Currency, CurrencyCode};
use warifu_proto::id::{AccountId, CredentialId, InvitationId, MerchantId, ReaderId};
use warifu_proto::key::{PrivateKey, PublicKey};
use warifu_proto::link::LinkKeys;
use warifu_proto::mac;
use warifu_proto::message::{AccountKind, Capture};
use warifu_proto::money::Money;
use warifu_proto::registration::{Statement, tag};
use warifu_proto::rejection::Rejection;
use warifu_proto::request_id::RequestId;
use warifu_proto::time::Timestamp;
use zeroize::Zeroizing;

/// The partition that everything happens in.
pub(crate) const PARTITION: u8 = 7;
/// Where time begins: 2026-11-22T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_ms(1_795_305_600_000);

/// The issuer's prefix.
pub(crate) fn prefix() -> Prefix {
    Prefix::parse("71000001").unwrap()
}

/// The vault of every test, so that sealed bytes are the same in each run.
pub(crate) fn vault() -> Vault {
    Vault::new([0x5a; 32])
}

/// Terminals' keys: parsing one takes longer than most tests.
static KEYS: LazyLock<Vec<PublicKey>> = LazyLock::new(|| {
    let key = |n| PrivateKey::from_bytes(&[n; 32]).unwrap().public().clone();
    (1..=16).map(key).collect()
});

/// One of sixteen keys.
pub(crate) fn key(number: usize) -> PublicKey {
    KEYS.get(number % KEYS.len()).unwrap().clone()
}

pub(crate) fn currency(code: &str) -> Currency {
    Currency::iso(CurrencyCode::parse(code).unwrap()).unwrap()
}

pub(crate) fn money(minor: u64, code: &str) -> Money {
    Money::new(minor, CurrencyCode::parse(code).unwrap()).unwrap()
}

pub(crate) fn request(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

pub(crate) fn digest(text: &str) -> [u8; 16] {
    mac::first_16(mac::sha256(&[text.as_bytes()]))
}

/// 16 bytes that name the how-manieth thing, in order.
pub(crate) fn raw(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

pub(crate) fn merchant(number: u64) -> MerchantId {
    MerchantId::from_raw(raw(0xbeef_0000 + number))
}

/// The digits of a code in a slot of the partition.
pub(crate) fn code(slot: u16, secret: u64) -> Code {
    Code::parse(&format!("{}{PARTITION:02}{slot:04}{secret:010}", prefix())).unwrap()
}

/// A terminal that is linked.
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    pub(crate) key: PublicKey,
    pub(crate) keys: LinkKeys,
    pub(crate) credential: CredentialId,
    pub(crate) number: u32,
    pub(crate) currency: Currency,
}

impl Terminal {
    /// What it says about a code: for 60 s, without a cap, now.
    pub(crate) fn statement(&self, code: &Code, sequence: u32, issued_at: Timestamp) -> Statement {
        Statement {
            prefix: prefix(),
            locator: code.locator(prefix()),
            lifetime_s: 60,
            sequence,
            credential: self.credential,
            tag: tag(&self.keys.code_key, code),
            issued_at,
            currency_number: self.currency.number,
            cap_minor: 0,
        }
    }

    pub(crate) fn register(&self, statement: Statement) -> Command {
        let (digest, signed_by) = (statement.digest(), self.key.xy());
        Command::Register(Register { statement, digest, signed_by })
    }
}

/// A partition at a time, with what a shell would keep beside it.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) state: Partition,
    pub(crate) vault: Vault,
    pub(crate) undo: UndoLog,
    pub(crate) entries: Vec<Entry>,
    pub(crate) now: Timestamp,
    pub(crate) ids: u64,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let (state, undo) = (Partition::new(PARTITION), UndoLog::default());
        Self { state, vault: vault(), undo, entries: Vec::new(), now: START, ids: 0 }
    }

    pub(crate) fn id(&mut self) -> [u8; 16] {
        self.ids += 1;
        raw(self.ids)
    }

    pub(crate) fn wait_ms(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    pub(crate) fn decide(&self, command: &Command) -> Result<Decision, Refusal> {
        self.state.decide(command, true, self.now, &self.vault)
    }

    /// Decides and, when something is to be written, applies it.
    pub(crate) fn run(&mut self, command: &Command) -> Result<Decision, Refusal> {
        let decision = self.decide(command)?;
        if let Decision::Commit(fact) = &decision {
            self.apply(fact.as_ref().clone());
        }
        Ok(decision)
    }

    /// Decides what must be written, and applies it.
    #[track_caller]
    pub(crate) fn write(&mut self, command: &Command) -> Fact {
        match self.run(command) {
            Ok(Decision::Commit(fact)) => *fact,
            other => panic!("{command:?} was not written: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn apply(&mut self, fact: Fact) {
        let (sequence, at) = (self.state.sequence() + 1, self.state.time_of_entry(self.now));
        let entry = Entry { partition: PARTITION, sequence, at, fact };
        self.state.apply(&entry, &self.vault, &mut self.undo).unwrap();
        self.entries.push(entry);
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        self.state.state_hash(&self.vault)
    }

    pub(crate) fn open(&mut self, kind: AccountKind, code: &str, limit: u64) -> AccountId {
        let account = AccountId::from_raw(self.id());
        let name = format!("open-{account}");
        self.write(&Command::OpenAccount(OpenAccount {
            request: request(&name),
            digest: digest(&name),
            account,
            kind,
            currency: currency(code),
            credit_limit_minor: limit,
        }));
        account
    }

    pub(crate) fn top_up(&mut self, account: AccountId, minor: u64, code: &str) {
        let name = format!("top-up-{}", self.state.sequence());
        self.write(&top_up(&name, account, money(minor, code)));
    }

    pub(crate) fn invite(&mut self, account: AccountId) -> (InvitationId, [u8; 32]) {
        let invitation = InvitationId::from_raw(self.id());
        let secret = mac::sha256(&[&invitation.raw()]);
        self.write(&invite(account, invitation, secret));
        (invitation, secret)
    }

    /// Links a terminal with one of the sixteen keys.
    pub(crate) fn link(&mut self, account: AccountId, key_number: usize) -> Terminal {
        let (invitation, secret) = self.invite(account);
        let (key, credential) = (key(key_number), CredentialId::from_raw(self.id()));
        let keys = LinkKeys::derive(&secret, key.thumbprint());
        self.write(&link(invitation, &secret, &key, credential));
        let number = self.state.credential_by_id(credential).unwrap().0;
        let currency = self.state.account_by_id(account).unwrap().1.currency;
        Terminal { key, keys, credential, number, currency }
    }

    pub(crate) fn register(&mut self, terminal: &Terminal, code: &Code, sequence: u32) {
        self.write(&terminal.register(terminal.statement(code, sequence, self.now)));
    }

    pub(crate) fn withdraw(&mut self, terminal: &Terminal, sequence: u32) {
        let mut statement = terminal.statement(&code(0, 0), sequence, self.now);
        statement.lifetime_s = 0;
        self.write(&terminal.register(statement));
    }

    /// A payment that nothing speaks against and that waits for no registration.
    pub(crate) fn pay(&self, name: &str, code: &Code, amount: Money) -> Box<Pay> {
        Box::new(Pay {
            merchant: merchant(1),
            merchant_standing: Standing::Active,
            reader: ReaderId::from_raw(raw(0xcafe)),
            reader_standing: Standing::Active,
            request: request(name),
            digest: digest(&format!("{} {amount:?}", code.as_str())),
            code: code.clone(),
            locator: code.locator(prefix()),
            amount,
            deadline_at: self.now.plus_ms(10_000),
            wait_until: self.now,
            long_code: None,
            capture: Capture::Now,
            hold_until: self.now.plus_ms(7 * 86_400_000),
            limits: Limits::default(),
            is_reversed: false,
            business_day: u32::try_from(self.now.as_ms() / 86_400_000).unwrap(),
        })
    }

    /// Pays at once, and says what became of it.
    #[track_caller]
    pub(crate) fn paid(&mut self, name: &str, code: &Code, amount: Money) -> Option<Rejection> {
        let pay = self.pay(name, code, amount);
        self.write(&Command::Pay(pay));
        self.last_payment().rejection
    }

    pub(crate) fn last_payment(&self) -> &Payment {
        self.state.payment(self.state.sequence()).unwrap()
    }

    pub(crate) fn account(&self, id: AccountId) -> &Account {
        self.state.account_by_id(id).unwrap().1
    }
}

pub(crate) fn top_up(name: &str, account: AccountId, amount: Money) -> Command {
    let digest = digest(&format!("{account} {amount:?}"));
    Command::TopUp(TopUp { request: request(name), digest, account, amount })
}

pub(crate) fn invite(account: AccountId, invitation: InvitationId, secret: [u8; 32]) -> Command {
    Command::Invite(Invite { account, invitation, secret: Zeroizing::new(secret) })
}

pub(crate) fn link(
    invitation: InvitationId,
    secret: &[u8; 32],
    key: &PublicKey,
    credential: CredentialId,
) -> Command {
    let proof =
        LinkKeys::derive(secret, key.thumbprint()).proof(prefix(), invitation, key.thumbprint());
    Command::Link(Link { prefix: prefix(), invitation, key: key.clone(), proof, credential })
}

pub(crate) fn unlink(terminal: &Terminal) -> Command {
    let signed_by = Some(terminal.key.xy());
    Command::Unlink(Unlink { credential: terminal.credential, signed_by })
}
