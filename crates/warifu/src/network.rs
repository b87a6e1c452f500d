//! `network.json`: which network, and whose key vouches for everybody in it. Public; the registrar hands it to
//! everybody, and everybody trusts the directory only as far as this file reaches.

use std::path::Path;

use serde::{Deserialize, Serialize};
use warifu_proto::id::NetworkId;
use warifu_proto::key::PublicKey;

use crate::fail::Failure;
use crate::paths;

/// The file's content.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    /// What entries are signed for.
    pub(crate) network_id: NetworkId,
    /// Who signs them.
    pub(crate) registrar: PublicKey,
}

impl Network {
    /// The file's name in the registrar's folder.
    pub(crate) const FILE: &str = "network.json";

    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        paths::read_json(path, "network file").map_err(|failure| {
            failure
                .next("give the network.json that `warifu registrar init` wrote, by --network PATH")
        })
    }
}
