//! Notices in their table, and what they take of their issuer's share.
//!
//! Law: they come by [`put_notices`] and go by [`drop_notices`] alone, and each writes the share with them: one
//! transaction, so the two can't come apart.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};
use warifu_proto::code::Prefix;
use warifu_proto::message::NoticeRequest;

use super::{NOTICES_MAX, NoticeStored, count, to_i64};

/// Stores notices, and drops the oldest of a credential where there are too many.
pub(super) fn put_notices(
    to: &Connection,
    notices: &[NoticeRequest],
) -> rusqlite::Result<Vec<NoticeStored>> {
    let mut came = BTreeMap::new();
    let put = |it| put_notice(to, it, &mut came);
    let stored = notices.iter().map(put).collect::<Result<_, _>>()?;
    for (prefix, bytes) in came {
        to.prepare_cached(
            "INSERT INTO share (prefix, notice_bytes) VALUES (?, ?)
             ON CONFLICT (prefix) DO UPDATE SET notice_bytes = notice_bytes + excluded.notice_bytes",
        )?
        .execute(params![prefix, bytes])?;
    }
    Ok(stored)
}

/// Stores one, and adds its bytes to those that came of its issuer's prefix.
fn put_notice(
    to: &Connection,
    notice: &NoticeRequest,
    came: &mut BTreeMap<String, i64>,
) -> rusqlite::Result<NoticeStored> {
    let (credential, number) = (notice.credential_id.raw(), to_i64(notice.number));
    let linked: Option<(i64, String)> = to
        .prepare_cached("SELECT acked, prefix FROM link WHERE credential = ? AND ended_ms IS NULL")?
        .query_row([credential], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((acked, prefix)) = linked else { return Ok(NoticeStored::Unlinked) };
    if number <= acked {
        return Ok(NoticeStored::Same);
    }
    let is_new = to
        .prepare_cached(
            "INSERT INTO notice (credential, number, id, sealed) VALUES (?, ?, ?, ?)
             ON CONFLICT (credential, number) DO NOTHING",
        )?
        .execute(params![credential, number, notice.notice_id.raw(), notice.sealed])?
        > 0;
    if !is_new {
        let (id, sealed): ([u8; 16], Vec<u8>) = to
            .prepare_cached("SELECT id, sealed FROM notice WHERE credential = ? AND number = ?")?
            .query_row(params![credential, number], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let same = id == notice.notice_id.raw() && sealed == notice.sealed;
        return Ok(if same { NoticeStored::Same } else { NoticeStored::Conflict });
    }
    *came.entry(prefix).or_default() += count(notice.sealed.len());
    // Numbers count from 1, so there can be too many only this far above the last acknowledged one.
    if number - acked <= to_i64(NOTICES_MAX) {
        return Ok(NoticeStored::Stored { dropped: 0 });
    }
    let oldest: Option<i64> = to
        .prepare_cached(
            "SELECT number FROM notice WHERE credential = ? ORDER BY number DESC LIMIT 1 OFFSET ?",
        )?
        .query_row(params![credential, to_i64(NOTICES_MAX)], |row| row.get(0))
        .optional()?;
    let dropped = oldest.map_or(Ok(0), |oldest| drop_notices(to, credential, oldest))?;
    Ok(NoticeStored::Stored { dropped })
}

/// Drops a credential's notices up to a number, and says how many.
pub(super) fn drop_notices(
    to: &Connection,
    credential: [u8; 16],
    upto: i64,
) -> rusqlite::Result<usize> {
    let sizes: Vec<i64> = to
        .prepare_cached(
            "DELETE FROM notice WHERE credential = ? AND number <= ? RETURNING length(sealed)",
        )?
        .query_map(params![credential, upto], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    if !sizes.is_empty() {
        to.prepare_cached(
            "UPDATE share SET notice_bytes = notice_bytes - ?2
             WHERE prefix = (SELECT prefix FROM link WHERE credential = ?1)",
        )?
        .execute(params![credential, sizes.iter().sum::<i64>()])?;
    }
    Ok(sizes.len())
}

/// What the unacknowledged notices of an issuer's prefix take.
pub(super) fn notice_bytes(of: &Connection, prefix: Prefix) -> rusqlite::Result<i64> {
    let found = of
        .prepare_cached("SELECT notice_bytes FROM share WHERE prefix = ?")?
        .query_row([prefix.to_string()], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or_default())
}
