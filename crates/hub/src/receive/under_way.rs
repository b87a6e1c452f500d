//! How many calls of one credential are on their way to its issuer at a time: [`UNDER_WAY_MAX`] of each errand.
//!
//! Law: repeats are free of the rate (see `rate`), so this is what keeps one payer from filling the issuer's places,
//! which all of its payers share. A place is given back by dropping it: a caller that hung up holds none. Only
//! credentials whose signature was checked get here, and a map of what is under way is bounded by the edge.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use warifu_proto::id::CredentialId;
use warifu_proto::problem::ProblemCode;
use warifu_server::problem::ApiProblem;

use crate::forward::Errand;

/// A terminal sends again after 0.2, 0.4, 0.8 and 1.6 s without waiting: only an issuer that takes seconds sees more.
const UNDER_WAY_MAX: u8 = 4;

/// What is under way, of everybody.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    calls: Mutex<HashMap<(Errand, CredentialId), u8>>,
}

/// One call that is under way.
#[derive(Debug)]
pub(crate) struct Passing<'a> {
    under_way: &'a UnderWay,
    whose: (Errand, CredentialId),
}

impl UnderWay {
    /// One more call of the credential.
    ///
    /// # Errors
    /// `too_many_requests`.
    pub(crate) fn begin(
        &self,
        errand: Errand,
        credential: CredentialId,
    ) -> Result<Passing<'_>, ApiProblem> {
        let whose = (errand, credential);
        let mut calls = self.lock();
        let count = calls.entry(whose).or_default();
        if *count >= UNDER_WAY_MAX {
            let detail = "four such calls of this credential are under way: wait for an answer";
            return Err(ApiProblem::new(ProblemCode::TooManyRequests, detail).retry_after_s(1));
        }
        *count += 1;
        Ok(Passing { under_way: self, whose })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Errand, CredentialId), u8>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        let mut calls = self.under_way.lock();
        match calls.get_mut(&self.whose) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(calls.remove(&self.whose)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: CredentialId = CredentialId::from_raw([1; 16]);

    #[test]
    fn four_of_each_errand_and_credential_until_they_end() {
        let under_way = UnderWay::default();
        let mut passing: Vec<_> =
            (0..4).map(|_| under_way.begin(Errand::Code, ONE).unwrap()).collect();
        let refused = under_way.begin(Errand::Code, ONE).unwrap_err();
        assert_eq!(refused.code, ProblemCode::TooManyRequests);
        assert_eq!(refused.retry_after_s, Some(1));
        assert!(under_way.begin(Errand::Confirmation, ONE).is_ok());
        assert!(under_way.begin(Errand::Code, CredentialId::from_raw([2; 16])).is_ok());
        passing.pop();
        passing.push(under_way.begin(Errand::Code, ONE).unwrap());
        assert!(under_way.begin(Errand::Code, ONE).is_err());
        drop(passing);
        assert!(under_way.lock().is_empty(), "nothing of what is over is kept");
    }
}
