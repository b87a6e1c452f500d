-- Approved payments, the sum of the ledger, and how many rows are not what the ledger says.
with of_account as (select account_id, sum(amount_minor) as minor from ledger_entries where account_id is not null group by 1),
of_merchant as (select merchant_id, sum(amount_minor) as minor from ledger_entries where merchant_id is not null group by 1),
of_payment as (select payment_id, count(*) as legs, max(amount_minor) as minor from ledger_entries group by 1)
select
    (select count(*) from payments where status = 'approved'),
    (select coalesce(sum(amount_minor), 0)::bigint from ledger_entries),
    (select count(*) from accounts a left join of_account l on l.account_id = a.id
        where a.balance_minor <> $1::bigint + coalesce(l.minor, 0))
    + (select count(*) from merchants m left join of_merchant l on l.merchant_id = m.id
        where m.balance_minor <> coalesce(l.minor, 0))
    + (select count(*) from payments p left join of_payment l on l.payment_id = p.id
        where (p.status = 'approved') is distinct from (l.legs = 2 and l.minor = p.amount_minor)
        and not (p.status <> 'approved' and l.legs is null))
