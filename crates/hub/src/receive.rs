//! The reception unit: takes what terminals send, judges what can be judged without knowing a code, and hands it to
//! the identifying unit and the transmission unit.

pub(crate) mod codes;
pub(crate) mod confirmations;
pub(crate) mod links;
pub(crate) mod rate;
pub(crate) mod under_way;

use warifu_proto::problem::ProblemCode;
use warifu_server::problem::ApiProblem;

/// Nobody is linked, for the hub. The detail says the way out of every reason for it.
pub(crate) fn credential_unknown() -> ApiProblem {
    ApiProblem::new(
        ProblemCode::CredentialUnknown,
        "this hub knows no such link: it was ended, or the hub lost it. Within 15 minutes of linking, repeat the \
         same POST /v1/links; later, link again with a new invitation",
    )
}
