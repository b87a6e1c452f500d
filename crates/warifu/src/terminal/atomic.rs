//! Files that are there as a whole or not at all, for their owner only: written beside, synced, renamed, and the folder
//! synced, so that a crash at any moment leaves the old content or the new.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use crate::fail::Failure;
use crate::paths;

/// Puts the content in the file's place, mode 0600.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    put(path, content).map_err(|error| paths::cannot("written", path, &error))
}

fn put(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    // A temporary file is made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn content_is_replaced_as_a_whole_and_stays_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("link.json");
        for content in ["one", "another"] {
            write(&path, content.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let nowhere = dir.path().join("none").join("link.json");
        assert!(write(&nowhere, b"x").unwrap_err().message.contains("can't be written"));
    }
}
