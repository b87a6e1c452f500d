//! The directory: what is taken, what followers get, and when.

use std::time::{Duration, Instant};

use axum::http::Method;
use serde_json::{Value, json};
use warifu_proto::directory::{Directory, Entry, EntryKind};
use warifu_proto::id::MerchantId;
use warifu_proto::message::DirectoryPage;
use warifu_server::{chance, clock};

use crate::harness::{
    Issuer, Network, code_of, common, extend, hub_and_issuer, hub_entry, reader, to_json,
};

#[tokio::test]
async fn what_is_signed_is_taken_once_and_what_is_not_is_refused() {
    let network = Network::new();
    let hub = network.start().await;
    let (merchant, bakery) =
        (chance::key(), chance::id::<warifu_proto::id::MerchantKind>(clock::now()));
    let till = chance::key();
    let entry = network.merchant(bakery, &merchant, 1);
    let its_reader = reader(network.id, bakery, &merchant, till.public());
    let forged = Entry { signature: [1; 64], ..network.merchant(bakery, &till, 2) };
    let foreign = reader(network.id, bakery, &till, till.public());
    let garbage = Entry { body: b"{}".to_vec(), ..entry.clone() };
    let places = |report: &Value| -> Vec<u64> {
        let refused = report["refused"].as_array().unwrap();
        refused.iter().map(|it| it["index"].as_u64().unwrap()).collect()
    };
    let report = hub
        .publish(&[its_reader.clone(), entry.clone(), garbage, its_reader.clone(), forged.clone()])
        .await;
    assert_eq!((&report["taken"], &report["known"]), (&json!(2), &json!(0)));
    assert_eq!(places(&report), [0, 2, 4]);
    assert!(report["refused"][0]["why"].as_str().unwrap().contains("merchant"));
    // The call is over at its first forged entry, and says of the others that they were not looked at.
    for wrong in [forged, foreign] {
        let report = hub.publish(&[entry.clone(), wrong, its_reader.clone()]).await;
        assert_eq!((&report["known"], places(&report)), (&json!(1), vec![1, 2]));
        let why = |place: usize| report["refused"][place]["why"].as_str().unwrap();
        assert!(why(0).contains("not signed by who may"), "{}", why(0));
        assert!(why(1).contains("send it again without"), "{}", why(1));
    }
    let report = hub.publish(&[entry.clone(), its_reader]).await;
    assert_eq!((&report["taken"], &report["known"]), (&json!(0), &json!(2)));
    let older = network.merchant(bakery, &till, 1);
    let report = hub.publish(&[older]).await;
    assert_eq!(report["refused"][0]["index"], 0);

    let many = vec![entry; 101];
    let body = to_json(&json!({"entries": many}));
    let answer = hub.unsigned(Method::POST, "/v1/directory/entries", Some(body)).await;
    assert!(["malformed", "too_large"].contains(&code_of(&answer).as_str()));
    hub.stop().await;
}

#[tokio::test]
async fn a_follower_can_check_everything_it_gets() {
    let (network, hub, issuer) = hub_and_issuer(|_| {}).await;
    let merchant = chance::key();
    let id: MerchantId = chance::id(clock::now());
    hub.publish(&[
        network.merchant(id, &merchant, 1),
        reader(network.id, id, &merchant, chance::key().public()),
        issuer.entry(&network, 2, "suspended"),
    ])
    .await;
    let page: DirectoryPage =
        serde_json::from_value(hub.directory("view=all&after=0").await).unwrap();
    assert_eq!((page.network_id, page.version), (network.id, 5));
    assert_eq!(page.registrar.thumbprint(), network.registrar.thumbprint());
    let mut directory = Directory::new(page.network_id, page.registrar);
    for entry in &page.entries {
        directory.take(entry).unwrap();
    }
    assert_eq!(directory.readers().count(), 1);
    let head = page.entries.iter().fold([0; 32], |head, it| it.head_after(&head));
    assert_eq!(page.head, head);

    // Who would wait longer than anybody may is answered all the same.
    let patient = hub.directory("after=3&view=all&wait_ms=60001").await;
    assert_eq!(patient["entries"].as_array().unwrap().len(), 2);
    let rest: DirectoryPage =
        serde_json::from_value(hub.directory("after=3&view=all").await).unwrap();
    assert_eq!((rest.entries.len(), rest.version, rest.head), (2, 5, head));
    let public: DirectoryPage =
        serde_json::from_value(hub.directory("view=issuers").await).unwrap();
    let kinds: Vec<EntryKind> = public.entries.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [EntryKind::Hub, EntryKind::Issuer, EntryKind::Issuer]);
    assert_eq!((public.version, public.head), (5, head));
    for bad in ["view=some", "after=-1", "wait_ms=-1", "x=1", "after=1&after=2"] {
        let answer = hub.unsigned(Method::GET, &format!("/v1/directory?{bad}"), None).await;
        assert_eq!(code_of(&answer), "malformed", "{bad}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn followers_wait_for_what_their_view_shows() {
    let (network, hub, _issuer) = hub_and_issuer(|_| {}).await;
    let begun = Instant::now();
    let none = hub.directory("view=all&after=2&wait_ms=200").await;
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!((none["entries"].as_array().unwrap().len(), &none["version"]), (0, &json!(2)));

    let publish = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let id: MerchantId = chance::id(clock::now());
        hub.publish(&[network.merchant(id, &chance::key(), 1)]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let another = Issuer::start(&network, "71000002").await;
        hub.publish(&[another.entry(&network, 1, "active")]).await;
        Instant::now()
    };
    let begun = Instant::now();
    let all = async { (hub.directory("view=all&after=2&wait_ms=60000").await, begun.elapsed()) };
    let few =
        async { (hub.directory("view=issuers&after=2&wait_ms=60000").await, begun.elapsed()) };
    let ((all, all_took), (few, few_took), _) = tokio::join!(all, few, publish);
    assert_eq!(all["version"], 3);
    assert_eq!((&few["version"], &few["entries"][0]["kind"]), (&json!(4), &json!("issuer")));
    assert!(all_took < few_took && few_took < Duration::from_secs(20));

    // A stop sends the waiting home instead of being held up by them.
    let begun = Instant::now();
    let waiting = hub.unsigned(Method::GET, "/v1/directory?after=4&wait_ms=60000", None);
    let (answer, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        hub.running.begin_shutdown();
    });
    assert_eq!(code_of(&answer), "not_accepted");
    assert!(begun.elapsed() < Duration::from_secs(5));
    hub.stop().await;
}

#[tokio::test]
async fn currencies_are_for_everybody() {
    let network = Network::new();
    let hub = network.start().await;
    let mut body = common("cur_00000000000000000000000000", 1, "active");
    extend(&mut body, json!({"name": "Wakaba", "code": "XW1", "number": 1001, "exponent": 0}));
    hub.publish(&[network.entry(EntryKind::Currency, body), hub_entry(&network)]).await;
    assert_eq!(hub.directory("view=issuers").await["entries"].as_array().unwrap().len(), 2);
    hub.stop().await;
}
