//! Between whom a call goes, by the server that it reaches and its path.

use std::fmt;

/// Which kind of server stands behind a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// The first settlement server.
    Hub,
    /// A second settlement server.
    Issuer,
}

/// A stretch of the network that can be bad on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    /// Registrations, links and confirmations from the payer's device, and its stream of notices.
    TerminalHub,
    /// The same handed on to the issuer, and the issuer's notices to the hub.
    HubIssuer,
    /// Payments, questions, reversals, and all else that a merchant asks.
    ReaderIssuer,
}

/// On the way to the server, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the server.
    Request,
    /// Back to the caller.
    Answer,
}

impl Hop {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::TerminalHub, Self::HubIssuer, Self::ReaderIssuer];

    /// The hop of a call; none for what no fault may touch.
    pub(super) fn of(server: Server, path: &str) -> Option<Self> {
        let first = path.strip_prefix("/v1/")?.split('/').next()?;
        match (server, first) {
            (Server::Hub, "codes" | "links" | "confirmations" | "events" | "sessions") => {
                Some(Self::TerminalHub)
            }
            (Server::Hub, "notices") | (Server::Issuer, "codes" | "links" | "confirmations") => {
                Some(Self::HubIssuer)
            }
            (Server::Issuer, "payments" | "reversals" | "events" | "sessions") => {
                Some(Self::ReaderIssuer)
            }
            (Server::Hub | Server::Issuer, _) => None,
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::TerminalHub => 0,
            Self::HubIssuer => 1,
            Self::ReaderIssuer => 2,
        }
    }

    /// As it is written in a plan.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TerminalHub => "terminal-hub",
            Self::HubIssuer => "hub-issuer",
            Self::ReaderIssuer => "reader-issuer",
        }
    }
}

impl Direction {
    /// Both of them.
    pub(crate) const ALL: [Self; 2] = [Self::Request, Self::Answer];

    pub(super) fn index(self) -> usize {
        match self {
            Self::Request => 0,
            Self::Answer => 1,
        }
    }

    /// As it is written in a plan.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Answer => "answer",
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_hop_and_setting_up_has_none() {
        use Hop::{HubIssuer, ReaderIssuer, TerminalHub};
        for (server, path, want) in [
            (Server::Hub, "/v1/codes", Some(TerminalHub)),
            (Server::Hub, "/v1/links/crd_1", Some(TerminalHub)),
            (Server::Hub, "/v1/confirmations", Some(TerminalHub)),
            (Server::Hub, "/v1/events", Some(TerminalHub)),
            (Server::Hub, "/v1/sessions", Some(TerminalHub)),
            (Server::Hub, "/v1/notices", Some(HubIssuer)),
            (Server::Hub, "/v1/notices/batch", Some(HubIssuer)),
            (Server::Hub, "/v1/directory", None),
            (Server::Hub, "/v1/directory/entries", None),
            (Server::Hub, "/v1/pairings/par_1", None),
            (Server::Hub, "/healthz", None),
            (Server::Hub, "/wallet", None),
            (Server::Issuer, "/v1/codes", Some(HubIssuer)),
            (Server::Issuer, "/v1/links", Some(HubIssuer)),
            (Server::Issuer, "/v1/confirmations", Some(HubIssuer)),
            (Server::Issuer, "/v1/payments", Some(ReaderIssuer)),
            (Server::Issuer, "/v1/payments/pay_1/refunds", Some(ReaderIssuer)),
            (Server::Issuer, "/v1/reversals", Some(ReaderIssuer)),
            (Server::Issuer, "/v1/events", Some(ReaderIssuer)),
            (Server::Issuer, "/v1/sessions", Some(ReaderIssuer)),
            (Server::Issuer, "/v1/paymentsx", None),
            (Server::Issuer, "/admin/v1/payments", None),
            (Server::Issuer, "/metrics", None),
        ] {
            assert_eq!(Hop::of(server, path), want, "{server:?} {path}");
        }
    }
}
