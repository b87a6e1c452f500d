-- Accounts, their terminals' credentials, registered codes, merchants, payments, and the ledger in double entry.
-- Foreign keys as usual, but none to merchants: each insert would lock the one busy row once more.
drop table if exists ledger_entries, payments, codes, credentials, accounts, merchants;

create table accounts (
    id            bigint primary key,
    currency      text   not null,
    balance_minor bigint not null check (balance_minor >= 0)
);

create table credentials (
    id         bigint primary key,
    account_id bigint not null references accounts
);

create table codes (
    code          text        primary key,
    credential_id bigint      not null references credentials,
    expires_at    timestamptz not null,
    is_used       boolean     not null default false
);

create table merchants (
    id            bigint primary key,
    currency      text   not null,
    balance_minor bigint not null
);

create table payments (
    id           bigint generated always as identity primary key,
    merchant_id  bigint      not null,
    request_id   text        not null,
    code         text        not null,
    account_id   bigint      references accounts,
    amount_minor bigint      not null check (amount_minor > 0),
    currency     text        not null,
    status       text        not null,
    rejection    text,
    decided_at   timestamptz not null default now(),
    unique (merchant_id, request_id)
);

create table ledger_entries (
    id           bigint generated always as identity primary key,
    payment_id   bigint not null references payments,
    account_id   bigint references accounts,
    merchant_id  bigint,
    amount_minor bigint not null check (amount_minor <> 0),
    check (num_nonnulls(account_id, merchant_id) = 1)
);
