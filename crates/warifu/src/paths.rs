//! Files of the roles' folders: made once, never overwritten, named in every message as the person named them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::fail::Failure;

/// Makes the folder unless it is there, and refuses when one of the files that are about to be written exists.
pub(crate) fn prepare(dir: &Path, files: &[&str]) -> Result<(), Failure> {
    for file in files {
        let path = dir.join(file);
        if path.symlink_metadata().is_ok() {
            return Err(Failure::usage(format_args!(
                "{} exists already, and nothing is overwritten",
                path.display()
            ))
            .next("give another folder with --dir, or go on with what is in this one"));
        }
    }
    fs::create_dir_all(dir).map_err(|error| {
        Failure::usage(format_args!("the folder {} can't be made", dir.display())).because(&error)
    })
}

/// Writes a file that does not exist yet.
pub(crate) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = fs::OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .map_err(|error| cannot("written", path, &error))
}

/// Writes an object as a file that does not exist yet, laid out for people.
pub(crate) fn write_new_json(path: &Path, object: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(object).expect("our objects have only text keys");
    write_new(path, &format!("{text}\n"))
}

/// Reads a text file.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| cannot("read", path, &error))
}

/// Reads a file with one JSON object; `what` names it in the message.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T, Failure> {
    serde_json::from_str(&read_text(path)?).map_err(|error| {
        Failure::usage(format_args!("the {what} {} is not as it should be", path.display()))
            .because(&error)
    })
}

/// The failure to do something with a file.
pub(crate) fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format_args!("{} can't be {what}", path.display())).because(error)
}

/// A path as it can be pasted into a shell.
pub(crate) fn shown(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A word as it can be pasted into a shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_./:@%+=,".contains(it);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A file in a folder, as it can be pasted into a shell.
pub(crate) fn shown_in(dir: &Path, file: &str) -> String {
    shown(&dir.join(file))
}

/// The folder's file, if it is there.
pub(crate) fn existing(dir: &Path, file: &str, init: &str) -> Result<PathBuf, Failure> {
    let path = dir.join(file);
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::usage(format_args!("{} is missing", path.display()))
        .next(format_args!("make the folder first: {init}")))
}

/// Refuses settings with all their faults at once.
pub(crate) fn no_faults(config: &Path, faults: &[String]) -> Result<(), Failure> {
    if faults.is_empty() {
        return Ok(());
    }
    let count = faults.len();
    Err(Failure::usage(format_args!(
        "{} has {count} fault{}:\n  {}",
        config.display(),
        if count == 1 { "" } else { "s" },
        faults.join("\n  ")
    ))
    .next(format_args!("edit {}, then check again", config.display())))
}

/// The day of an instant, for people.
pub(crate) fn day(at: warifu_proto::time::Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

/// How long a folder may resist being deleted.
const CLEAR_PATIENCE: Duration = Duration::from_secs(2);

/// Deletes a temporary folder. Processes that were killed a moment ago may still have been writing into it.
pub(crate) async fn clear(temporary: TempDir) {
    let until = Instant::now() + CLEAR_PATIENCE;
    while fs::remove_dir_all(temporary.path()).is_err() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_pasted() {
        assert_eq!(quoted("hub/hub.card.json"), "hub/hub.card.json");
        assert_eq!(quoted("Aoba Pay"), "'Aoba Pay'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
