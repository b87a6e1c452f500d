//! Who pays: accounts with a credential each, opened through the engine.

use std::sync::Arc;

use warifu_core::decide::{Command, Invite, Link, OpenAccount, TopUp};
use warifu_core::place::id_in;
use warifu_issuer::engine::Engine;
use warifu_proto::code::Prefix;
use warifu_proto::currency::Currency;
use warifu_proto::id::{AccountId, CredentialId, InvitationId};
use warifu_proto::link::LinkKeys;
use warifu_proto::message::AccountKind;
use warifu_proto::money::Money;
use warifu_proto::request_id::RequestId;
use warifu_server::{chance, clock};
use zeroize::Zeroizing;

use super::load::Pipe;
use super::{Stop, let_index_follow};
use crate::out::Out;

/// Commands under way while accounts are opened.
const DEPTH: usize = 8192;
/// So much that nobody runs out of it.
const TOP_UP: u64 = 1_000_000_000;

pub(super) struct Payer {
    pub(super) credential: CredentialId,
    pub(super) partition: u8,
    pub(super) code_key: [u8; 32],
    pub(super) sequence: u32,
}

/// What accounts are opened.
pub(in crate::bench) struct Opening {
    pub(in crate::bench) accounts: u32,
    /// They are spread over the first so many partitions.
    pub(in crate::bench) partitions: u8,
    pub(in crate::bench) prefix: Prefix,
    pub(in crate::bench) currency: Currency,
}

/// All payers.
pub(in crate::bench) struct Payers {
    pub(super) all: Vec<Payer>,
    /// One terminal key for all: the engine never parses it, and making a million would take a minute.
    pub(super) signed_by: [u8; 64],
    pub(super) prefix: Prefix,
    pub(super) currency: Currency,
}

impl Payers {
    pub(in crate::bench) fn open(
        engine: &Engine,
        opening: &Opening,
        stop: &Stop,
        out: &Out,
    ) -> anyhow::Result<Self> {
        let &Opening { accounts: count, partitions, prefix, currency } = opening;
        let key = Arc::new(chance::key());
        let mut all = Vec::with_capacity(count as usize);
        let mut pipe = Pipe::new(engine, DEPTH, stop);
        for number in 0..count {
            let partition = u8::try_from(number % u32::from(partitions))?;
            let now = clock::now();
            let account: AccountId = id_in(partition, now, chance::bytes());
            let request = |what: &str| RequestId::parse(&format!("{what}-{number:08}"));
            let (kind, digest) = (AccountKind::Prepaid, [0; 16]);
            let open = OpenAccount {
                request: request("open")?,
                digest,
                account,
                kind,
                currency,
                credit_limit_minor: 0,
            };
            pipe.send(partition, Command::OpenAccount(open))?;
            let amount = Money::new(TOP_UP, currency.code)?;
            let top_up = TopUp { request: request("top")?, digest, account, amount };
            pipe.send(partition, Command::TopUp(top_up))?;
            let (secret, invitation): (_, InvitationId) =
                (Zeroizing::new(chance::bytes()), id_in(partition, now, chance::bytes()));
            let invite = Invite { account, invitation, secret: secret.clone() };
            pipe.send(partition, Command::Invite(invite))?;
            let keys = LinkKeys::derive(&secret, key.thumbprint());
            let proof = keys.proof(prefix, invitation, key.thumbprint());
            let credential: CredentialId = id_in(partition, now, chance::bytes());
            let key = key.public().clone();
            let link = Link { prefix, invitation, key, proof, credential };
            pipe.send(partition, Command::Link(link))?;
            all.push(Payer { credential, partition, code_key: keys.code_key, sequence: 0 });
            let_index_follow(engine);
            if all.len() % 50_000 == 0 {
                out.progress(format_args!("{} of {count} accounts opened and linked", all.len()));
            }
        }
        pipe.drain()?;
        Ok(Self { all, signed_by: key.public().xy(), prefix, currency })
    }
}
