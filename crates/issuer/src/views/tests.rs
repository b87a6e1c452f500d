use std::path::Path;

use rusqlite::Connection;

use super::fixture::{Payer, model, prefix, scan, start, unknown_code, until};
use super::*;

const BAKERY: MerchantId = MerchantId::from_raw([3; 16]);
const CAFE: MerchantId = MerchantId::from_raw([5; 16]);

async fn caught_up(views: &Views, engine: &Engine) {
    until("the views reach the end", async || {
        views.position().await.unwrap() == *engine.committed().borrow()
    })
    .await;
}

/// Everything in the views, as text.
fn dump(folder: &Path) -> Vec<String> {
    let views = Connection::open(folder.join("views.db")).unwrap();
    let mut lines = Vec::new();
    for table in ["cursor", "account", "credential", "invitation", "merchant_balance", "payment"] {
        let mut select = views.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = select.column_count();
        let line = |row: &rusqlite::Row<'_>| {
            let values: Result<Vec<rusqlite::types::Value>, _> =
                (0..columns).map(|at| row.get(at)).collect();
            Ok(format!("{table} {:?}", values?))
        };
        lines.extend(select.query_map([], line).unwrap().map(Result::unwrap));
    }
    lines
}

/// Two payers in two partitions and one more account; five payments.
async fn trade(engine: &Engine) -> [Payer; 3] {
    let first = Payer::open(engine, 3, 1_000).await;
    let second = Payer::open(engine, 9, 500).await;
    let third = Payer::open(engine, 3, 70).await;
    first.pay(engine, BAKERY, "a", 100).await;
    second.pay(engine, CAFE, "b", 30).await;
    third.pay(engine, BAKERY, "c", 71).await;
    scan(engine, 3, CAFE, "d", &unknown_code(3), 5).await;
    third.pay(engine, BAKERY, "e", 70).await;
    let gone = Payer::link(engine, 3, first.account).await;
    Payer::link(engine, 3, first.account).await;
    gone.unlink(engine).await;
    [first, second, third]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_views_show_what_the_journal_says() {
    let (store, folder) = (model(), tempfile::tempdir().unwrap());
    let engine = start(&store);
    let views = Views::spawn(Arc::clone(&engine), folder.path(), prefix()).unwrap();
    let [first, second, third] = trade(&engine).await;
    caught_up(&views, &engine).await;

    let accounts = views.accounts(None, 10).await.unwrap();
    let about = |it: &AccountRow| (it.account_id, it.partition, it.balance_minor, it.credentials);
    assert_eq!(
        accounts.rows.iter().map(about).collect::<Vec<_>>(),
        [(first.account, 3, 900, 2), (third.account, 3, 0, 1), (second.account, 9, 470, 1)]
    );
    assert_eq!(accounts.next, None);
    let row = &accounts.rows[0];
    assert_eq!(
        (row.kind.as_str(), row.currency.as_str(), row.exponent, row.floor_minor),
        ("prepaid", "JPY", 0, 0)
    );

    let listed = views.payments(None, 10, None).await.unwrap();
    let about = |it: &PaymentRow| {
        (it.request_id.clone(), it.status.clone(), it.account_id.clone(), it.rejection.clone())
    };
    let no = |text: &str| Some(text.to_owned());
    let payer = |payer: &Payer| Some(payer.account.to_string());
    let (approved, declined) = ("approved".to_owned(), "declined".to_owned());
    assert_eq!(
        listed.rows.iter().map(about).collect::<Vec<_>>(),
        [
            ("e".to_owned(), approved.clone(), payer(&third), None),
            ("d".to_owned(), declined.clone(), None, no("code_unknown")),
            ("c".to_owned(), declined, payer(&third), no("insufficient_funds")),
            ("b".to_owned(), approved.clone(), payer(&second), None),
            ("a".to_owned(), approved, payer(&first), None),
        ]
    );
    let balances: Vec<(String, i64)> = {
        let views = Connection::open(folder.path().join("views.db")).unwrap();
        let mut select = views
            .prepare("SELECT merchant_id, minor FROM merchant_balance ORDER BY minor")
            .unwrap();
        select
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    assert_eq!(balances, [(CAFE.to_string(), 30), (BAKERY.to_string(), 170)]);
    views.stop();
}

/// A stop and the lag's metric wait for one part of the journal, not for all of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_followed_part_by_part() {
    let (store, folder) = (model(), tempfile::tempdir().unwrap());
    let engine = start(&store);
    trade(&engine).await;
    let mut writer = open(&folder.path().join("views.db")).unwrap();
    let mut reached = 0;
    for part in store.read(1, usize::MAX).unwrap() {
        reached = follow(&mut writer, store.as_ref(), prefix(), 1).unwrap();
        assert_eq!(reached, part.last_position());
    }
    assert_eq!(reached, *engine.committed().borrow());
    let in_parts = dump(folder.path());
    let whole = tempfile::tempdir().unwrap();
    let mut writer = open(&whole.path().join("views.db")).unwrap();
    follow(&mut writer, store.as_ref(), prefix(), usize::MAX).unwrap();
    assert_eq!(dump(whole.path()), in_parts);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_go_on_where_the_page_before_ended() {
    let (store, folder) = (model(), tempfile::tempdir().unwrap());
    let engine = start(&store);
    let views = Views::spawn(Arc::clone(&engine), folder.path(), prefix()).unwrap();
    trade(&engine).await;
    caught_up(&views, &engine).await;
    for (merchant, all) in [(None, "edcba"), (Some(BAKERY), "eca"), (Some(CAFE), "db")] {
        let (mut after, mut seen) = (None, String::new());
        loop {
            let page = views.payments(after, 2, merchant).await.unwrap();
            seen.extend(page.rows.iter().map(|it| it.request_id.as_str()));
            let Some(next) = page.next else { break };
            after = Some(next.parse().unwrap());
        }
        assert_eq!(seen, all);
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = views.accounts(after, 1).await.unwrap();
        seen.extend(page.rows.iter().map(|it| it.partition));
        let Some(next) = page.next else { break };
        after = Some(next.parse().unwrap());
    }
    assert_eq!(seen, [3, 3, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchants_list_uses_the_merchants_index() {
    let folder = tempfile::tempdir().unwrap();
    let views = open(&folder.path().join("views.db")).unwrap();
    let plan: String = views
        .query_row("EXPLAIN QUERY PLAN SELECT position FROM payment WHERE position < 9 AND merchant_id = 'm' ORDER BY position DESC LIMIT 3", [], |row| row.get(3))
        .unwrap();
    assert!(plan.contains("payment_by_merchant"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn views_go_on_after_a_restart_and_are_made_again_when_they_are_lost_or_of_another_journal() {
    let (store, folder) = (model(), tempfile::tempdir().unwrap());
    let engine = start(&store);
    let views = Views::spawn(Arc::clone(&engine), folder.path(), prefix()).unwrap();
    let [first, ..] = trade(&engine).await;
    caught_up(&views, &engine).await;
    views.stop();
    // What happens meanwhile is seen later.
    first.pay(&engine, CAFE, "f", 7).await;
    let views = Views::spawn(Arc::clone(&engine), folder.path(), prefix()).unwrap();
    caught_up(&views, &engine).await;
    drop(views);
    let whole = dump(folder.path());
    assert!(whole.iter().any(|line| line.contains("\"f\"")), "{whole:?}");

    // Lost.
    remove(&folder.path().join("views.db")).unwrap();
    let views = Views::spawn(Arc::clone(&engine), folder.path(), prefix()).unwrap();
    caught_up(&views, &engine).await;
    drop(views);
    assert_eq!(dump(folder.path()), whole);

    // Of a journal that had more.
    open(&folder.path().join("views.db"))
        .unwrap()
        .execute("UPDATE cursor SET position = 1000", [])
        .unwrap();
    let views = Views::spawn(Arc::clone(&engine), folder.path(), prefix()).unwrap();
    caught_up(&views, &engine).await;
    drop(views);
    assert_eq!(dump(folder.path()), whole);
}
