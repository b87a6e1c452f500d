//! The wall clock: the only place that reads it. Spans inside one process are measured by `Instant` instead.

use std::time::SystemTime;

use warifu_proto::time::Timestamp;

/// The time now. A clock before 1970 reads as 1970.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_after_this_was_written() {
        assert!(now() > Timestamp::parse("2026-11-01T00:00:00.000Z").unwrap());
    }
}
