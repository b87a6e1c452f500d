//! The shell that the servers of Warifu share: HTTP edge, signatures, sessions, the wall clock, chance, key files,
//! configuration, folders, SQLite, telemetry, and the signed client.
//!
//! Law: no business noun, no route of a role and no table name in here. What a call means is the handler's
//! business; the edge only settles who sent it, that it arrived unaltered, and that the answer is signed.
//!
//! Start reading at [`edge`] (what happens to every request) and [`client`] (what every call does).

pub mod chance;
pub mod client;
pub mod clock;
pub mod config;
pub mod db;
pub mod edge;
pub mod folder;
pub mod follow;
pub mod json;
pub mod keyfile;
pub mod problem;
pub mod serve;
pub mod session;
pub mod telemetry;
