//! Tests of the rules from outside: tables, laws, layouts, and the corpus of entries that every later version replays.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bench;
mod corpus;
mod journal;
mod laws;
mod layout;
mod life;
mod life_laws;
mod long_codes;
mod oracle;
mod refusals;
mod rejections;
mod retirement;
mod sizes;
mod universe;
mod window;
