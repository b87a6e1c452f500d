//! kill -9 in the middle of a thousand concurrent payments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use warifu_core::vault::Vault;
use warifu_issuer::engine::recover::fold_from_the_beginning;
use warifu_issuer::store::sqlite::SqliteStore;
use warifu_proto::code::Prefix;
use warifu_proto::message::PaymentStatus;
use warifu_server::keyfile;

use crate::harness::{Network, Phone, Till, payment, wish};

const PHONES: u64 = 25;
const PAYMENTS_EACH: u64 = 40;
const YEN: u64 = 3;

/// A payment as its till remembers it.
#[derive(Debug, Clone)]
struct Sale {
    body: serde_json::Value,
    /// What the issuer answered before it was killed.
    answered: Option<(String, PaymentStatus)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answered_payment_survives_and_none_happens_twice() {
    let mut net = Network::start();
    let till = Arc::new(net.till());
    net.wait_for_till(&till).await;
    let mut phones = Vec::new();
    for _ in 0..PHONES {
        let (_, link) = net.invite(YEN * PAYMENTS_EACH * 2);
        phones.push(Phone::link(&net, &link).await);
    }

    let answered = Arc::new(AtomicU64::new(0));
    let storms: Vec<_> = phones
        .into_iter()
        .enumerate()
        .map(|(at, phone)| tokio::spawn(storm(phone, at, Arc::clone(&till), Arc::clone(&answered))))
        .collect();
    while answered.load(Ordering::Relaxed) < PHONES * PAYMENTS_EACH / 3 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    net.issuer.kill_9();
    let mut sales = Vec::new();
    for storm in storms {
        sales.extend(storm.await.unwrap());
    }
    let known = sales.iter().filter(|it| it.answered.is_some()).count();
    assert!(known >= usize::try_from(PHONES * PAYMENTS_EACH / 3).unwrap());
    assert!(sales.iter().any(|it| it.answered.is_none()), "it was killed too late");

    net.restart_issuer();
    let till = net.till();
    net.wait_for_till(&till).await;
    let mut approved = BTreeMap::new();
    for sale in &sales {
        // A repeat gets the same payment; one without an answer gets its only one.
        let first = payment(&till.pay(&sale.body).await.unwrap());
        let again = payment(&till.pay(&sale.body).await.unwrap());
        assert_eq!((first.payment_id, first.status), (again.payment_id, again.status));
        if let Some((id, status)) = &sale.answered {
            assert_eq!(
                (&first.payment_id.to_string(), &first.status),
                (id, status),
                "an answered payment was lost"
            );
        }
        if first.status == PaymentStatus::Approved {
            assert!(approved.insert(first.payment_id, sale.body["code"].clone()).is_none());
        }
    }
    let codes: std::collections::BTreeSet<_> = approved.values().map(ToString::to_string).collect();
    assert_eq!(codes.len(), approved.len(), "a code paid twice");

    assert_eq!(net.issuer.stop(), 0);
    check_books(&net, u64::try_from(approved.len()).unwrap());
}

/// Registers and pays until nobody answers any more.
async fn storm(
    mut phone: Phone,
    at: usize,
    till: Arc<Till>,
    answered: Arc<AtomicU64>,
) -> Vec<Sale> {
    let mut sales = Vec::new();
    for number in 0..PAYMENTS_EACH {
        let (code, _, body) = phone.make(300);
        if phone.send(&till.issuer, &body).await.is_err() {
            break;
        }
        let body = wish(&format!("storm-{at}-{number}"), &code, YEN);
        let answer = till.pay(&body).await;
        let answered_with =
            answer.ok().map(|it| payment(&it)).map(|it| (it.payment_id.to_string(), it.status));
        let ended = answered_with.is_none();
        sales.push(Sale { body, answered: answered_with });
        if ended {
            break;
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    sales
}

/// The journal from its first entry: chain, balances, and what the merchant is owed.
fn check_books(net: &Network, approved: u64) {
    let folder = net.path().join("aoba");
    let vault = Vault::new(*keyfile::read_secret(folder.join("vault.key")).unwrap());
    let store =
        SqliteStore::open(&folder.join("data"), Prefix::parse("71000001").unwrap()).unwrap();
    let folded = fold_from_the_beginning(&store, &vault).unwrap();
    let mut owed = 0;
    for partition in folded.partitions.values() {
        assert!(
            partition.state.imbalance().values().all(|sum| *sum == 0),
            "debits and credits differ"
        );
        owed += partition.state.merchant_balances().map(|(_, _, minor)| minor).sum::<i128>();
        assert!(partition.state.accounts().iter().all(|it| it.balance_minor >= it.floor_minor));
    }
    assert_eq!(owed, i128::from(approved * YEN));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tills_are_paid_while_the_hub_is_dead_and_it_comes_back_with_everything() {
    let mut net = Network::start();
    let till = net.till();
    net.wait_for_till(&till).await;
    let (_, link) = net.invite(10_000);
    let mut phone = Phone::link(&net, &link).await;
    let hub = net.hub_peer.clone();
    let first = phone.register(&hub).await;
    net.hub.kill_9();
    let paid = payment(&till.pay(&wish("hub-dead-1", &first, 10)).await.unwrap());
    assert_eq!(paid.status, PaymentStatus::Approved);
    let issuer = net.issuer_peer.clone();
    let second = phone.register(&issuer).await;
    let paid = payment(&till.pay(&wish("hub-dead-2", &second, 10)).await.unwrap());
    assert_eq!(paid.status, PaymentStatus::Approved);

    net.restart_hub();
    let third = phone.register(&hub).await;
    let paid = payment(&till.pay(&wish("hub-back", &third, 10)).await.unwrap());
    assert_eq!(paid.status, PaymentStatus::Approved);
    let directory = crate::harness::json_of(net.path(), &["hub", "directory", "--dir", "hub"]);
    assert!(directory.to_string().contains("Aoba Bakery"), "{directory}");
}
