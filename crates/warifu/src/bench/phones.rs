//! Payers: accounts opened, filled and linked by the real calls, and the codes that their terminals show.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use warifu_proto::code::{Code, Prefix, Route};
use warifu_proto::currency::CurrencyCode;
use warifu_proto::id::CredentialId;
use warifu_proto::key::PrivateKey;
use warifu_proto::limits::LIFETIME_MAX_S;
use warifu_proto::link::InvitationLink;
use warifu_proto::message::{
    Capture, CodeRequest, LinkAnswer, PayRequest, RefundRequest, ReversalReason, ReversalRequest,
};
use warifu_proto::money::Money;
use warifu_proto::registration::{Statement, tag};
use warifu_reader::request_id;
use warifu_server::client::Client;
use warifu_server::{chance, clock};
use warifu_terminal::Linking;

use super::line::Body;
use super::network::Site;
use crate::calls;
use crate::fail::{Exit, Failure};
use crate::out::Out;

/// Calls under way while accounts are prepared.
const AT_ONCE: usize = 32;
/// So much that nobody runs out of it, in minor units: every payment takes one.
const TOP_UP: u64 = 1_000_000_000;
/// The hub's rule: one registration of a credential in this time …
const PERIOD: Duration = Duration::from_secs(2);
/// … and so many at once.
const BURST: u32 = 5;

/// A linked terminal.
pub(super) struct Phone {
    key: Arc<PrivateKey>,
    prefix: Prefix,
    partition: u8,
    credential: CredentialId,
    code_key: [u8; 32],
    currency: CurrencyCode,
    currency_number: u16,
    sequence: u32,
    /// When the hub's share will be whole again, at the latest.
    whole_at: Instant,
}

/// A code with what has to be sent of it.
pub(super) struct Item {
    pub(super) phone: usize,
    /// Which of the merchants is paid.
    pub(super) till: usize,
    pub(super) registration: Body,
    pub(super) payment: Body,
    /// Takes the whole payment back, by its request id.
    pub(super) reversal: Body,
    /// Gives the whole amount back; by the payment's id, which the path names.
    pub(super) refund: Body,
    /// The payment's id, once it was made.
    pub(super) payment_id: Option<String>,
}

/// Which merchant gets the next payment.
pub(super) struct Tills {
    pub(super) count: usize,
    /// Percent of all payments that the first one gets, and the others share the rest evenly; or all are even.
    pub(super) hot_share: Option<u32>,
}

impl Tills {
    fn draw(&self) -> usize {
        let (hot, any) = (u32::from_be_bytes(chance::bytes()), chance::bytes::<8>());
        let any = usize::from_ne_bytes(any);
        match (self.count.saturating_sub(1), self.hot_share) {
            (0, _) => 0,
            (_, None) => any % self.count,
            (_, Some(share)) if hot % 100 < share => 0,
            (others, Some(_)) => 1 + any % others,
        }
    }
}

/// All payers, in a ring.
pub(super) struct Phones {
    all: Vec<Phone>,
    next: usize,
    tills: Tills,
}

impl Phones {
    /// Opens, tops up, invites and links so many.
    pub(super) async fn link(
        site: &Site,
        count: u32,
        tills: Tills,
        out: &Out,
    ) -> Result<Self, Failure> {
        let mut all = Vec::new();
        let mut linked = stream::iter(0..count)
            .map(|number| Phone::link(site, number))
            .buffer_unordered(AT_ONCE);
        while let Some(phone) = linked.try_next().await? {
            all.push(phone);
            if all.len() % 500 == 0 {
                out.progress(format_args!("{} of {count} accounts linked", all.len()));
            }
        }
        drop(linked);
        Ok(Self { all, next: 0, tills })
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Codes of as many phones, one after the other.
    pub(super) fn codes(&mut self, count: usize) -> Vec<Item> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            let number = self.step();
            let till = self.tills.draw();
            items.extend(self.all.get_mut(number).map(|phone| phone.code(number, till)));
        }
        items
    }

    /// Codes as the hub's rate rule allows them: fewer than wanted when the shares are used up.
    pub(super) fn codes_within_the_rule(&mut self, most: usize) -> Vec<Item> {
        let now = Instant::now();
        let mut items = Vec::with_capacity(most);
        let mut passed = 0;
        // Round after round, so that the codes of one phone lie apart.
        let mut taken = vec![0_u32; self.all.len()];
        while items.len() < most && passed < self.all.len() {
            let (number, till) = (self.step(), self.tills.draw());
            let (Some(phone), Some(taken)) = (self.all.get_mut(number), taken.get_mut(number))
            else {
                break;
            };
            let used = phone.whole_at.saturating_duration_since(now) + PERIOD * *taken;
            if used <= PERIOD * (BURST - 1) {
                *taken += 1;
                passed = 0;
                items.push(phone.code(number, till));
            } else {
                passed += 1;
            }
        }
        items
    }

    /// Notes that these were registered at the hub, by now at the latest.
    pub(super) fn used(&mut self, items: impl Iterator<Item = usize>) {
        let now = Instant::now();
        for number in items {
            if let Some(phone) = self.all.get_mut(number) {
                phone.whole_at = phone.whole_at.max(now) + PERIOD;
            }
        }
    }

    fn step(&mut self) -> usize {
        let number = self.next;
        self.next = (self.next + 1) % self.all.len().max(1);
        number
    }
}

impl Phone {
    async fn link(site: &Site, number: u32) -> Result<Self, Failure> {
        let request =
            |what: &str| format!("bench-{what}-{:032x}", u128::from_be_bytes(chance::bytes()));
        let name = format!("Bench {number}");
        let wish = json!({ "request_id": request("open"), "name": name, "kind": "prepaid" });
        let opened = post(site, "/admin/v1/accounts", &wish).await.map_err(not_the_operator)?;
        let account = opened["account_id"].as_str().unwrap_or_default().to_owned();
        let amount = json!({ "minor": TOP_UP, "currency": opened["currency"] });
        let wish = json!({ "request_id": request("top-up"), "amount": amount });
        post(site, &format!("/admin/v1/accounts/{account}/top-ups"), &wish).await?;
        let wish = json!({ "account_id": account });
        let invited = post(site, "/admin/v1/invitations", &wish).await?;
        let invitation = InvitationLink::parse(invited["link"].as_str().unwrap_or_default())?;

        let key = Arc::new(chance::key());
        let linking = Linking::begin(invitation, key.public(), &name)?;
        let body = Some(calls::body(linking.request()));
        let (path, headers) = ("/v1/links", HeaderMap::new());
        let answer = Client::new(Arc::clone(&key), site.http.clone())
            .call_signed_by_key(&site.hub, Method::POST, path, body, calls::DEADLINE, headers)
            .await?;
        let answer: LinkAnswer = calls::read(&answer)?;
        let link = linking
            .accept(&answer, &site.directory, clock::now())
            .map_err(|error| Failure::refused("a link is not believed").because(&error))?;
        Ok(Self {
            key,
            prefix: link.prefix(),
            partition: link.partition,
            credential: link.credential,
            code_key: link.keys.code_key,
            currency: link.account.currency,
            currency_number: link.currency_number,
            sequence: 0,
            whole_at: Instant::now(),
        })
    }

    /// A new code, its registration signed, and a payment by it.
    fn code(&mut self, phone: usize, till: usize) -> Item {
        let now = clock::now();
        let code = loop {
            if let Ok(code) = Code::make(self.prefix, self.partition, &chance::bytes()) {
                break code;
            }
        };
        self.sequence += 1;
        let statement = Statement {
            prefix: self.prefix,
            locator: code.locator(self.prefix),
            lifetime_s: LIFETIME_MAX_S,
            sequence: self.sequence,
            credential: self.credential,
            tag: tag(&self.code_key, &code),
            issued_at: now,
            currency_number: self.currency_number,
            cap_minor: 0,
        };
        let registration = statement.sign(&self.key).encode();
        let (id, of_refund) = (request_id(now, chance::bytes()), request_id(now, chance::bytes()));
        let amount = Money::new(1, self.currency).expect("one is an amount");
        let route = Route { prefix: self.prefix, partition: self.partition };
        let reversal =
            ReversalRequest { request_id: id.clone(), route, reason: ReversalReason::Timeout };
        let refund = RefundRequest { request_id: of_refund, amount, reason: None };
        let payment = PayRequest {
            request_id: id,
            code: code.as_str().to_owned(),
            amount,
            capture: Capture::Now,
            order_id: None,
            description: None,
            deadline_ms: None,
        };
        let registration = Body::of(&CodeRequest { registration });
        Item {
            phone,
            till,
            registration,
            payment: Body::of(&payment),
            reversal: Body::of(&reversal),
            refund: Body::of(&refund),
            payment_id: None,
        }
    }
}

/// The first call as the operator: a refusal is about the key, whose holder the issuer can't name.
fn not_the_operator(failure: Failure) -> Failure {
    if failure.exit != Exit::Refused {
        return failure;
    }
    failure
        .during("the issuer opens no account by this operator's key")
        .next("give --operator-key the file operator.key in the issuer's own folder")
}

async fn post(site: &Site, path: &str, wish: &Value) -> Result<Value, Failure> {
    let body = Some(calls::body(wish));
    calls::ask(&site.operator, &site.issuer, Method::POST, path, body, calls::DEADLINE).await
}
