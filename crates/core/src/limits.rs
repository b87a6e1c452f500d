//! What a payer may spend: of one payment, of a day, without being asked, and without network.

use crate::layout::{LayoutError, Reader, Writer};

/// Limits in minor units of the account's currency. A missing one does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Most of one payment.
    pub payment_max_minor: Option<u64>,
    /// Most of all payments of one business day.
    pub day_max_minor: Option<u64>,
    /// Most payments of one business day.
    pub day_count_max: Option<u32>,
    /// Above this amount the payer has to confirm.
    pub confirm_above_minor: Option<u64>,
    /// After so many payments of one terminal and day without a question the payer has to confirm.
    pub confirm_above_count: Option<u32>,
    /// Most that a terminal can pay by long codes since its last code that was registered.
    pub offline_max_minor: Option<u64>,
    /// Most payments by long codes since then.
    pub offline_count_max: Option<u32>,
}

impl Limits {
    pub(crate) fn encode(&self, to: &mut Writer) {
        let sums = [
            self.payment_max_minor,
            self.day_max_minor,
            self.confirm_above_minor,
            self.offline_max_minor,
        ];
        let counts = [self.day_count_max, self.confirm_above_count, self.offline_count_max];
        for limit in sums.into_iter().chain(counts.map(|it| it.map(u64::from))) {
            to.flag(limit.is_some());
            to.u64(limit.unwrap_or_default());
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, LayoutError> {
        let mut next = || match (from.flag()?, from.u64()?) {
            (true, limit) => Ok(Some(limit)),
            (false, 0) => Ok(None),
            (false, _) => Err(LayoutError("a missing limit with a value")),
        };
        let [payment_max_minor, day_max_minor, confirm_above_minor, offline_max_minor] =
            [next()?, next()?, next()?, next()?];
        let mut count = || {
            let limit = next()?.map(u32::try_from).transpose();
            limit.map_err(|_| LayoutError("a count above 2^32"))
        };
        let [day_count_max, confirm_above_count, offline_count_max] =
            [count()?, count()?, count()?];
        Ok(Self {
            payment_max_minor,
            day_max_minor,
            day_count_max,
            confirm_above_minor,
            confirm_above_count,
            offline_max_minor,
            offline_count_max,
        })
    }
}
