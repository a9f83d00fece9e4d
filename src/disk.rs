//! Files that are ours alone: read with suspicion, replaced whole or not at all. What is in them
//! is somebody else's matter.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// Bytes; far above any record, far below what would hurt.
const LIMIT: u64 = 1 << 20;

/// Bytes that a probe asks of a file system: an empty file fits on a full one.
const ROOM: usize = 1 << 14;

/// The content of a file, or `None` where there is no such file.
///
/// # Errors
/// `Storage` when it is a link, not a plain file, not ours, or open to others.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut options = OpenOptions::new();
    options.read(true);
    private_options(&mut options);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let hint = format!("chmod 600 {}", path.display());
            return Err(cannot("read", path).hint(hint).because(error));
        }
        Err(error) => return Err(cannot("read", path).because(error)),
    };
    let length = ours(&file, path)?.min(LIMIT);
    // Room for all of it at once: a buffer that grows leaves copies behind. Nobody makes such a
    // file longer or shorter, they replace it.
    let mut content = vec![0; length as usize];
    file.read_exact(&mut content).map_err(|error| cannot("read", path).because(error))?;
    Ok(Some(content))
}

/// The text of a file that the person may share with others but nobody else may have written, or
/// `None` where there is no such file. A link is followed.
///
/// # Errors
/// `Configuration` when others could write it, or it cannot be read as UTF-8.
pub fn read_trusted(path: &Path) -> Result<Option<String>> {
    let cannot = |error| {
        let what = format!("cannot read {}", path.display());
        Error::new(Kind::Configuration, what).because(error)
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(error)),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let found = file.metadata().map_err(cannot)?;
        if found.mode() & 0o022 != 0 || ![own_user(), 0].contains(&found.uid()) {
            let what = format!("others can write {}", path.display());
            let hint = format!("chmod go-w {}", path.display());
            return Err(Error::new(Kind::Configuration, what).hint(hint));
        }
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(cannot)?;
    Ok(Some(text))
}

/// Puts `content` in the place of whatever `path` was: a reader sees the old file or the new one,
/// and so does the next start after a crash. The caller holds a lock or does not mind who wins.
///
/// # Errors
/// `Storage` when the directory is not ours alone or cannot be written.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    make_private_directory(directory)?;
    let temporary = temporary(path);
    let written = create(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        sync(directory)
    });
    written.map_err(|error| {
        // Best effort: the next writer of this file removes it too.
        let _ = std::fs::remove_file(&temporary);
        cannot("write", path).because(error)
    })
}

/// Replaces a file of the person's own, such as another tool's configuration: its mode stays, and
/// a link stays a link.
///
/// # Errors
/// `Failed` when it cannot be written.
pub fn rewrite(path: &Path, content: &[u8]) -> Result<()> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().unwrap_or(Path::new("/"));
    let temporary = temporary(&path);
    let written = std::fs::create_dir_all(directory).and_then(|()| {
        let mut file = create(&temporary)?;
        file.write_all(content)?;
        if let Ok(found) = path.metadata() {
            file.set_permissions(found.permissions())?;
        }
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        sync(directory)
    });
    written.map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        Error::new(Kind::Failed, format!("cannot write {}", path.display())).because(error)
    })
}

/// Whether `replace` would find room and permission, asked before something is spent that only
/// `replace` can keep.
///
/// # Errors
/// As `replace`.
pub fn probe(path: &Path) -> Result<()> {
    make_private_directory(path.parent().unwrap_or(Path::new("/")))?;
    let temporary = temporary(path);
    let room = create(&temporary).and_then(|mut file| file.write_all(&[0; ROOM]));
    let removed = std::fs::remove_file(&temporary);
    room.and(removed).map_err(|error| cannot("write", path).because(error))
}

/// Removes a file, and what a writer of it that died has left; `false` where there was no file.
///
/// # Errors
/// `Storage` when it cannot be removed.
pub fn remove(path: &Path) -> Result<bool> {
    let _ = std::fs::remove_file(temporary(path));
    match std::fs::remove_file(path) {
        Ok(()) => {
            let _ = sync(path.parent().unwrap_or(Path::new("/")));
            Ok(true)
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(cannot("remove", path).because(error)),
    }
}

/// Makes a directory of mode 0700, or checks the one that is there.
///
/// # Errors
/// `Storage` when it is a link, not ours, or open to others.
pub fn make_private_directory(path: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| cannot("make", path).because(error))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let found = path.symlink_metadata().map_err(|error| cannot("read", path).because(error))?;
        let own = found.uid() == own_user();
        if !found.is_dir() || !own || found.mode() & 0o077 != 0 {
            return Err(Error::new(
                Kind::Storage,
                format!("{} is not a directory of ours alone", path.display()),
            )
            .hint(format!("chmod 700 {}", path.display())));
        }
    }
    Ok(())
}

fn temporary(path: &Path) -> PathBuf {
    // Always the same name, so that a crash leaves at most one behind, and the next writer takes
    // it away.
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

fn create(path: &Path) -> std::io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    private_options(&mut options);
    options.open(path)
}

/// Opens or makes a file whose only purpose is to be locked.
///
/// # Errors
/// As `replace`.
pub fn lock_file(path: &Path) -> Result<File> {
    make_private_directory(path.parent().unwrap_or(Path::new("/")))?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    private_options(&mut options);
    let file = options.open(path).map_err(|error| cannot("open", path).because(error))?;
    ours(&file, path)?;
    Ok(file)
}

#[cfg(unix)]
fn private_options(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    // Nonblocking, so that a planted pipe cannot hold us.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    options.mode(0o600).custom_flags(flags.bits().cast_signed());
}

#[cfg(not(unix))]
fn private_options(_: &mut OpenOptions) {}

/// Asked once, because `list` reads thousands of files.
#[cfg(unix)]
fn own_user() -> u32 {
    static USER: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *USER.get_or_init(|| rustix::process::geteuid().as_raw())
}

/// The length of a plain file that belongs to us alone.
#[cfg(unix)]
fn ours(file: &File, path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let found = file.metadata().map_err(|error| cannot("read", path).because(error))?;
    if !found.is_file() || found.uid() != own_user() {
        let what = format!("{} is not a file of ours", path.display());
        return Err(Error::new(Kind::Storage, what));
    }
    if found.mode() & 0o077 != 0 {
        let what = format!("others can open {}", path.display());
        return Err(Error::new(Kind::Storage, what).hint(format!("chmod 600 {}", path.display())));
    }
    Ok(found.len())
}

#[cfg(not(unix))]
fn ours(file: &File, path: &Path) -> Result<u64> {
    let found = file.metadata().map_err(|error| cannot("read", path).because(error))?;
    Ok(found.len())
}

fn sync(directory: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

fn cannot(verb: &str, path: &Path) -> Error {
    Error::new(Kind::Storage, format!("cannot {verb} {}", path.display()))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn file(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let path = directory.path().join("file");
        replace(&path, b"old").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn a_file_that_others_can_open_is_refused() {
        let (_directory, path) = file(0o640);
        let error = read(&path).unwrap_err();
        assert!(error.what.starts_with("others can open"), "{}", error.what);
        assert!(error.hint.unwrap().starts_with("chmod 600"));
        let (_directory, path) = file(0o600);
        assert_eq!(read(&path).unwrap().unwrap(), b"old");
    }

    #[test]
    fn a_planted_link_is_neither_read_nor_written_through() {
        let (directory, victim) = file(0o600);
        let link = directory.path().join("link");
        symlink(&victim, &link).unwrap();
        assert!(read(&link).is_err());
        symlink(&victim, directory.path().join("link.tmp")).unwrap();
        replace(&link, b"new").unwrap();
        assert_eq!(read(&victim).unwrap().unwrap(), b"old");
        assert_eq!(read(&link).unwrap().unwrap(), b"new");
    }

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let (directory, path) = file(0o600);
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(replace(&path, b"new").is_err());
        assert!(probe(&path).is_err());
        assert_eq!(read(&path).unwrap().unwrap(), b"old");
    }

    #[test]
    fn what_is_made_is_ours_alone() {
        let (directory, path) = file(0o600);
        let below = directory.path().join("a/b/c");
        replace(&below, b"x").unwrap();
        assert_eq!(below.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let parent = below.parent().unwrap().metadata().unwrap();
        assert_eq!(parent.permissions().mode() & 0o777, 0o700);
        assert!(remove(&path).unwrap() && !remove(&path).unwrap());
    }
}
