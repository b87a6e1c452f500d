//! Whose signatures the hub takes: issuers, merchants and readers of the directory, linked terminals; and keys that a call
//! carries itself, where that is how one becomes known. What a known key may do is the handlers' question.

use std::sync::Arc;

use warifu_proto::key::{PublicKey, Thumbprint};
use warifu_server::edge::KeyRing;

use crate::directory::feed::Feed;
use crate::terminals::Terminals;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) feed: Arc<Feed>,
    pub(crate) terminals: Arc<Terminals>,
}

impl KeyRing for Ring {
    fn key(&self, thumbprint: &Thumbprint) -> Option<PublicKey> {
        self.feed.now().key(thumbprint).cloned().or_else(|| self.terminals.key(thumbprint))
    }

    fn knows(&self, thumbprint: &Thumbprint) -> bool {
        self.feed.now().key(thumbprint).is_some() || self.terminals.knows(*thumbprint)
    }

    fn takes_carried_key(&self, method: &str, path: &str) -> bool {
        method == "POST" && (path == "/v1/links" || path.starts_with("/v1/pairings/"))
    }
}
