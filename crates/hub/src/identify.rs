//! The identifying unit: which issuer a message is for, and where the partition that it needs lives.
//!
//! Law: longest prefix first, then the partition's endpoint; only an issuer whose entry in the directory is active
//! now is routed to. A suspension works with the next call.

use warifu_proto::code::Prefix;
use warifu_proto::directory::{Directory, Issuer};
use warifu_proto::key::{PublicKey, Thumbprint};
use warifu_proto::problem::ProblemCode;
use warifu_proto::time::Timestamp;
use warifu_server::problem::ApiProblem;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// The issuer's prefix: the only thing of it in metrics and logs.
    pub(crate) prefix: Prefix,
    /// Where it listens.
    pub(crate) url: String,
    /// Who must have signed its answers.
    pub(crate) key: PublicKey,
}

/// Where in the issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Any endpoint: the message itself finds the partition (an invitation).
    Any,
    /// The endpoint of this partition.
    Partition(u8),
}

/// Finds the way to the issuer of a prefix.
///
/// # Errors
/// `issuer_unknown`, with what is the matter.
pub(crate) fn route(
    directory: &Directory,
    prefix: Prefix,
    place: Place,
    now: Timestamp,
) -> Result<Route, ApiProblem> {
    let unknown = |why: String| ApiProblem::new(ProblemCode::IssuerUnknown, why);
    let issuer = directory
        .issuer_of(&prefix.to_string())
        .filter(|it| it.prefix == prefix)
        .ok_or_else(|| unknown(format!("no issuer of this network has the prefix {prefix}")))?;
    if !issuer.common.is_active(now) {
        return Err(unknown(format!(
            "the issuer with the prefix {prefix} does not take part at the moment: it is suspended, revoked, \
             or its entry in the directory has expired"
        )));
    }
    let url = match place {
        Place::Any => issuer.endpoints.first().map(|it| it.url.as_str()),
        Place::Partition(partition) => issuer.endpoint(partition),
    };
    let url = url.ok_or_else(|| {
        unknown(format!("the issuer with the prefix {prefix} has no endpoint for this partition"))
    })?;
    Ok(Route { prefix, url: url.to_owned(), key: issuer.key.clone() })
}

/// The prefixes for which this key may speak now. Nearly always one; an operator may use one key for several.
pub(crate) fn prefixes_of(
    directory: &Directory,
    key: Thumbprint,
    now: Timestamp,
) -> impl Iterator<Item = Prefix> {
    let own = move |it: &&Issuer| it.key.thumbprint() == key && it.common.is_active(now);
    directory.issuers().filter(own).map(|it| it.prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use warifu_proto::directory::{Entry, EntryKind};
    use warifu_proto::id::{IssuerId, NetworkId};
    use warifu_proto::key::PrivateKey;

    const NETWORK: NetworkId = NetworkId::from_raw([1; 16]);
    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn issuer(number: u8, prefix: &str, status: &str) -> Entry {
        let registrar = PrivateKey::from_bytes(&[1; 32]).unwrap();
        let body = serde_json::json!({
            "id": IssuerId::from_raw([number; 16]), "revision": 1, "status": status,
            "not_before_ms": 0, "not_after_ms": NOW.as_ms() + 1, "name": "Aoba Pay",
            "prefix": prefix, "key": registrar.public(), "currencies": ["JPY"],
            "endpoints": [
                {"url": format!("http://low.{prefix}"), "from": 0, "to": 49},
                {"url": format!("http://high.{prefix}"), "from": 50, "to": 98},
            ],
        });
        Entry::sign(NETWORK, EntryKind::Issuer, serde_json::to_vec(&body).unwrap(), &registrar)
    }

    #[test]
    fn prefix_and_partition_find_the_endpoint_of_an_active_issuer() {
        let registrar = PrivateKey::from_bytes(&[1; 32]).unwrap();
        let mut directory = Directory::new(NETWORK, registrar.public().clone());
        for entry in [
            issuer(1, "71000001", "active"),
            issuer(2, "7200", "active"),
            issuer(3, "7300", "suspended"),
        ] {
            directory.take(&entry).unwrap();
        }
        let find = |prefix: &str, place, now| {
            route(&directory, Prefix::parse(prefix).unwrap(), place, now)
                .map(|it| it.url)
                .map_err(|problem| problem.code)
        };
        let of = |key: &PrivateKey| prefixes_of(&directory, key.thumbprint(), NOW).count();
        assert_eq!((of(&registrar), of(&PrivateKey::from_bytes(&[2; 32]).unwrap())), (2, 0));
        let unknown = Err(ProblemCode::IssuerUnknown);
        let at = Place::Partition;
        assert_eq!(find("71000001", at(0), NOW), Ok("http://low.71000001".to_owned()));
        assert_eq!(find("71000001", at(50), NOW), Ok("http://high.71000001".to_owned()));
        assert_eq!(find("71000001", Place::Any, NOW), Ok("http://low.71000001".to_owned()));
        assert_eq!(find("7200", at(7), NOW), Ok("http://low.7200".to_owned()));
        assert_eq!(find("71000001", at(99), NOW), unknown);
        assert_eq!(find("71000002", at(0), NOW), unknown);
        assert_eq!(find("72001", at(0), NOW), unknown, "a longer prefix is another issuer's");
        assert_eq!(find("7300", at(0), NOW), unknown);
        assert_eq!(find("7200", at(0), NOW.plus_ms(1)), unknown, "its entry has expired");
    }
}
