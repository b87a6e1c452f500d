//! Rows as values. What the hub did not write itself is refused, not guessed at.

use warifu_proto::Malformed;
use warifu_proto::code::Prefix;
use warifu_proto::directory::{Entry, EntryKind};
use warifu_proto::id::{CredentialId, InvitationId};
use warifu_proto::key::{PublicKey, Thumbprint};
use warifu_proto::time::Timestamp;

use super::{Link, Logged};

pub(super) fn link(row: &rusqlite::Row<'_>) -> rusqlite::Result<Link> {
    let prefix: String = row.get(2)?;
    Ok(Link {
        credential: CredentialId::from_raw(row.get(0)?),
        key: (&PublicKey::from_xy(&row.get(1)?).map_err(|err| unreadable(1, err))?).into(),
        prefix: Prefix::parse(&prefix).map_err(|err| unreadable(2, err))?,
        partition: row.get(3)?,
        invitation: InvitationId::from_raw(row.get(4)?),
        linked_at: Timestamp::from_ms(from_i64(row, 5)?),
        ended_at: row
            .get::<_, Option<i64>>(6)?
            .map(|_| from_i64(row, 6))
            .transpose()?
            .map(Timestamp::from_ms),
    })
}

pub(super) fn logged(row: &rusqlite::Row<'_>) -> rusqlite::Result<Logged> {
    let kind: String = row.get(1)?;
    let kind = match kind.as_str() {
        "hub" => EntryKind::Hub,
        "issuer" => EntryKind::Issuer,
        "merchant" => EntryKind::Merchant,
        "reader" => EntryKind::Reader,
        "currency" => EntryKind::Currency,
        _ => {
            let unknown = Malformed::new("directory entry", "its kind is unknown");
            return Err(unreadable(1, unknown));
        }
    };
    Ok(Logged {
        version: from_i64(row, 0)?,
        entry: Entry {
            kind,
            body: row.get(2)?,
            key: Thumbprint(row.get(3)?),
            signature: row.get(4)?,
        },
        head: row.get(5)?,
    })
}

fn unreadable(column: usize, err: Malformed) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(err))
}

pub(super) fn from_i64(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let found: i64 = row.get(column)?;
    u64::try_from(found).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, found))
}
