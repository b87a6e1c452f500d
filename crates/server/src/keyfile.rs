//! Secrets in files: a private JWK, or 32 random bytes as base64url text.
//!
//! Law: such a file is made with mode 0600 and synced, never overwritten, and refused when anybody but its owner may
//! read it. Nothing of its content appears in an error.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use warifu_proto::base64url;
use warifu_proto::key::PrivateKey;
use zeroize::Zeroizing;

/// Largest file that is read, in bytes: a private JWK has about 200.
const FILE_MAX_BYTES: u64 = 4096;

/// Why a key file can't be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is one already.
    #[error("{} exists already and is not overwritten: move it away first", .0.display())]
    Exists(PathBuf),
    /// It can't be read or written.
    #[error("cannot use the key file {}", .0.display())]
    Io(PathBuf, #[source] std::io::Error),
    /// Others can read it.
    #[error("{path} can be read by others (mode {mode:04o}): run `chmod 600 {path}`", path = .0.display(), mode = .1)]
    Readable(PathBuf, u32),
    /// It holds something else.
    #[error("{} {}", .0.display(), .1)]
    Content(PathBuf, &'static str),
}

/// Writes a private key as a JWK to a new file of mode 0600.
///
/// # Errors
/// [`KeyFileError::Exists`] when there is a file already, [`KeyFileError::Io`] when it can't be written.
pub fn create(path: impl AsRef<Path>, key: &PrivateKey) -> Result<(), KeyFileError> {
    let public = key.public().xy();
    let (x, y) = public.split_at(32);
    let scalar = key.to_bytes();
    let d = Zeroizing::new(base64url::encode(scalar.as_slice()));
    let text = Zeroizing::new(format!(
        "{{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{}\",\"y\":\"{}\",\"d\":\"{}\"}}\n",
        base64url::encode(x),
        base64url::encode(y),
        *d
    ));
    write_new(path.as_ref(), text.as_bytes())
}

/// Reads a private key that [`create`] wrote.
///
/// # Errors
/// In the order of [`KeyFileError`], the first excepted.
pub fn read(path: impl AsRef<Path>) -> Result<PrivateKey, KeyFileError> {
    #[derive(Deserialize)]
    struct Jwk<'a> {
        kty: &'a str,
        crv: &'a str,
        x: &'a str,
        y: &'a str,
        d: &'a str,
    }
    let path = path.as_ref();
    let bad = |why| KeyFileError::Content(path.to_owned(), why);
    let text = read_private(path)?;
    let jwk: Jwk<'_> = serde_json::from_str(&text).map_err(|_| bad("is not a private JWK"))?;
    if jwk.kty != "EC" || jwk.crv != "P-256" {
        return Err(bad("must have kty EC and crv P-256"));
    }
    let scalar = base64url::decode_array(jwk.d)
        .map(Zeroizing::new)
        .map_err(|_| bad("has a member d that is not 32 bytes of base64url"))?;
    let key = PrivateKey::from_bytes(&scalar).map_err(|_| bad("holds no key of P-256"))?;
    let public = key.public().xy();
    let (x, y) = public.split_at(32);
    if jwk.x != base64url::encode(x) || jwk.y != base64url::encode(y) {
        return Err(bad("has a public key that is not the one of its private key"));
    }
    Ok(key)
}

/// Writes 32 secret bytes as base64url text to a new file of mode 0600.
///
/// # Errors
/// As [`create`].
pub fn create_secret(path: impl AsRef<Path>, secret: &[u8; 32]) -> Result<(), KeyFileError> {
    let mut text = Zeroizing::new(base64url::encode(secret));
    text.push('\n');
    write_new(path.as_ref(), text.as_bytes())
}

/// Reads 32 secret bytes that [`create_secret`] wrote.
///
/// # Errors
/// As [`read`].
pub fn read_secret(path: impl AsRef<Path>) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let text = read_private(path.as_ref())?;
    base64url::decode_array(text.trim_ascii_end()).map(Zeroizing::new).map_err(|_| {
        KeyFileError::Content(path.as_ref().to_owned(), "must hold 32 bytes of base64url")
    })
}

/// Writes a new file of mode 0600 and syncs it and its folder.
fn write_new(path: &Path, content: &[u8]) -> Result<(), KeyFileError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::Io(path.to_owned(), error),
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|it| it.sync_all()).map_err(failed)
}

/// Reads a small text file that only its owner may read.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |error| KeyFileError::Io(path.to_owned(), error);
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file, so that the answer is about what is read.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Readable(path.to_owned(), mode));
        }
    }
    // Room for all of it from the start: a growing string would leave copies of the secret behind.
    let room = usize::try_from(FILE_MAX_BYTES).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(room));
    file.take(FILE_MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_and_secrets_come_back_and_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (key, path) = (chance::key(), dir.path().join("own.key"));
        create(&path, &key).unwrap();
        assert_eq!(read(&path).unwrap().thumbprint(), key.thumbprint());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(create(&path, &chance::key()), Err(KeyFileError::Exists(_))));
        assert_eq!(read(&path).unwrap().thumbprint(), key.thumbprint());

        let (secret, path) = (chance::bytes::<32>(), dir.path().join("vault.key"));
        create_secret(&path, &secret).unwrap();
        assert_eq!(*read_secret(&path).unwrap(), secret);
        assert!(matches!(create_secret(&path, &secret), Err(KeyFileError::Exists(_))));
    }

    #[test]
    fn files_that_others_can_read_are_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own.key");
        create(&path, &chance::key()).unwrap();
        for mode in [0o640, 0o604, 0o666, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let said = read(&path).unwrap_err().to_string();
            assert!(said.contains("chmod 600") && said.contains("own.key"), "{said}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read(&path).is_ok());
    }

    #[test]
    fn other_content_is_refused_without_showing_it() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one.key"), dir.path().join("two.key"));
        create(&one, &chance::key()).unwrap();
        create(&two, &chance::key()).unwrap();
        let (one_text, two_text) =
            (std::fs::read_to_string(&one).unwrap(), std::fs::read_to_string(&two).unwrap());
        let cut = one_text.find("\"d\"").unwrap();
        let mixed = format!("{}{}", &one_text[..cut], &two_text[two_text.find("\"d\"").unwrap()..]);
        for (index, text) in ["", "{}", "hunter2", &mixed].into_iter().enumerate() {
            let path = dir.path().join(format!("bad{index}.key"));
            write_new(&path, text.as_bytes()).unwrap();
            let said = format!("{:?} {}", read(&path).unwrap_err(), read(&path).unwrap_err());
            assert!(!said.contains("hunter2"), "{said}");
            assert!(read_secret(&path).is_err());
        }
        assert!(matches!(read(dir.path().join("none")), Err(KeyFileError::Io(..))));
    }
}
