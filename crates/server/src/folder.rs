//! One instance per folder: an exclusive lock on `<dir>/lock`, held for life. The operating system lets go of it when
//! the process ends, however it ends, so there is no stale lock to remove by hand.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// The lock. Keep it as long as the folder is used.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
    dir: PathBuf,
}

/// Why a folder can't be locked.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Somebody else has it.
    #[error("{} is in use by another running instance: stop that one first, or give another --dir", .0.display())]
    InUse(PathBuf),
    /// It can't be used at all.
    #[error("cannot use the folder {}", .0.display())]
    Io(PathBuf, #[source] std::io::Error),
}

impl FolderLock {
    /// Makes the folder where it is missing, and locks it.
    ///
    /// # Errors
    /// [`FolderError::InUse`] when another instance runs on it.
    pub fn take(dir: impl AsRef<Path>) -> Result<Self, FolderError> {
        let dir = dir.as_ref().to_owned();
        let failed = |error| FolderError::Io(dir.clone(), error);
        std::fs::create_dir_all(&dir).map_err(failed)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("lock"))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file, dir }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse(dir)),
            Err(TryLockError::Error(error)) => Err(FolderError::Io(dir, error)),
        }
    }

    /// Which folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_instance_is_refused_until_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let first = FolderLock::take(&path).unwrap();
        assert_eq!(first.dir(), path);
        let said = FolderLock::take(&path).unwrap_err().to_string();
        assert!(said.contains("another running instance") && said.contains("new"), "{said}");
        drop(first);
        assert!(FolderLock::take(&path).is_ok());
    }

    #[test]
    fn a_file_is_no_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(FolderLock::take(file.path()), Err(FolderError::Io(..))));
    }
}
