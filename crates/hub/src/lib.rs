//! The first settlement server: it keeps the directory of signed entries, routes registrations of codes to their
//! issuers by prefix and partition, and hands sealed notices to terminals.
//!
//! What it will never do: hold a balance, know a code, see an amount, or vouch for anybody. Everything that it hands on
//! is signed or sealed by somebody else; a lying hub can only withhold.
//!
//! The parts of the system, by name: the reception unit is `receive`, the identifying unit `identify`, the transmission
//! unit `forward`. Start reading at `app`, then follow a registration through `receive::codes`.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod app;
pub mod config;
pub mod directory;
mod events;
mod forward;
mod identify;
mod notices;
mod openapi;
mod pages;
pub mod pairing;
mod receive;
mod ring;
mod store;
mod terminals;

pub use app::{Running, run, start};
pub use config::{Config, NetworkFile, default_config_text};
