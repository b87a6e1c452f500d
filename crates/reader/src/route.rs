//! Which issuer a code belongs to, and where that issuer listens: by the reader's own copy of the directory, so that
//! a code of nobody we know is an error with a name before anybody is asked.

use warifu_proto::code::{Code, Route};
use warifu_proto::currency::CurrencyCode;
use warifu_proto::directory::{Directory, Issuer};
use warifu_proto::id::IssuerId;
use warifu_proto::key::PublicKey;
use warifu_proto::time::Timestamp;

/// An issuer as far as one payment needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerAt {
    /// Its id.
    pub id: IssuerId,
    /// For people.
    pub name: String,
    /// Where it listens for this partition.
    pub url: String,
    /// Who must have signed its answers.
    pub key: PublicKey,
    /// The code's prefix and partition.
    pub route: Route,
    /// What it keeps accounts in.
    pub currencies: Vec<CurrencyCode>,
}

/// Why nobody can be asked about a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No issuer of the network has a prefix that begins the code.
    #[error("no issuer of this network makes codes that begin like this one")]
    PrefixUnknown,
    /// The issuer is suspended, revoked, or its entry has run out.
    #[error("the issuer {name} takes no payments at the moment")]
    IssuerInactive {
        /// The issuer's name.
        name: String,
    },
    /// The issuer does not say where this partition lives.
    #[error("the issuer {name} has no address for partition {partition}")]
    PartitionUnknown {
        /// The issuer's name.
        name: String,
        /// The two digits after the prefix.
        partition: u8,
    },
}

impl IssuerAt {
    /// Finds the issuer of a code by the longest prefix, and its endpoint by the partition.
    ///
    /// # Errors
    /// In the order of [`RouteError`].
    pub fn of_code(directory: &Directory, code: &Code, now: Timestamp) -> Result<Self, RouteError> {
        let issuer = directory.issuer_of(code).ok_or(RouteError::PrefixUnknown)?;
        if !issuer.common.is_active(now) {
            return Err(RouteError::IssuerInactive { name: issuer.name.clone() });
        }
        Self::of(issuer, code.route(issuer.prefix))
    }

    /// Finds the issuer again to ask about a payment. A suspended one is asked too: what began has to be ended.
    ///
    /// # Errors
    /// [`RouteError::PrefixUnknown`] and [`RouteError::PartitionUnknown`].
    pub fn of_route(directory: &Directory, route: Route) -> Result<Self, RouteError> {
        let issuer = directory
            .issuer_of(&route.prefix.to_string())
            .filter(|it| it.prefix == route.prefix)
            .ok_or(RouteError::PrefixUnknown)?;
        Self::of(issuer, route)
    }

    fn of(issuer: &Issuer, route: Route) -> Result<Self, RouteError> {
        let partition = route.partition;
        let url = issuer
            .endpoint(partition)
            .ok_or_else(|| RouteError::PartitionUnknown { name: issuer.name.clone(), partition })?;
        Ok(Self {
            id: issuer.common.id,
            name: issuer.name.clone(),
            url: url.to_owned(),
            key: issuer.key.clone(),
            route,
            currencies: issuer.currencies.clone(),
        })
    }
}
