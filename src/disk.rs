//! Files that are ours alone: read with suspicion, replaced whole or not at all. What is in them
//! is somebody else's matter.

mod trust;

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// Bytes; far above any record, far below what would hurt.
const LIMIT: u64 = 1 << 20;

/// Bytes that a probe asks of a file system: an empty file fits on a full one.
const ROOM: usize = 1 << 14;

/// How often a call that a signal interrupts, or a file that another writer takes away, is tried.
const TRIES: usize = 100;

/// What lies in a directory.
pub struct Entry {
    pub path: PathBuf,
    /// A link to one is none.
    pub is_directory: bool,
}

/// The content of a file of the program's own, or `None` where there is no such file.
///
/// # Errors
/// `Storage` when it is a link, not a plain file, not ours, or open to others, or when others could
/// put another in its place.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let content = read_private(path)?;
    if content.is_some() {
        trust::judge(path.parent().unwrap_or(Path::new("/")), Kind::Storage)?;
    }
    Ok(content)
}

/// As `read`, of a file that a person names, wherever it lies.
///
/// # Errors
/// `Storage` when it is a link, not a plain file, not ours, or open to others.
pub fn read_private(path: &Path) -> Result<Option<Vec<u8>>> {
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
/// `Configuration` when others could write it, or it cannot be read as UTF-8; `Storage` when it lies
/// in a directory of another user.
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
    trust::judge(path, Kind::Configuration)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let found = again(|| file.metadata()).map_err(cannot)?;
        if !is_ours_or_roots(found.uid()) {
            return Err(Error { kind: Kind::Configuration, ..foreign(path, found.uid()) });
        }
        if found.mode() & 0o022 != 0 {
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
    sweep(path);
    put(path, content, None).map_err(|error| cannot("write", path).because(error))
}

/// Replaces a file of the person's own, such as another tool's configuration: its mode, its owner
/// and its group stay, and a link stays a link, also one to a file that is not there yet.
///
/// # Errors
/// `Storage` when it lies in a directory of another user, `Failed` when it cannot be written.
pub fn rewrite(path: &Path, content: &[u8]) -> Result<()> {
    let failed =
        |error| Error::new(Kind::Failed, format!("cannot write {}", path.display())).because(error);
    let path = target(path).map_err(failed)?;
    make_directory(path.parent().unwrap_or(Path::new("/")))?;
    let found = match again(|| path.symlink_metadata()) {
        Ok(found) if found.is_file() => Some(found),
        Ok(_) => {
            let what = format!("{} is not a plain file, and is left as it is", path.display());
            return Err(Error::new(Kind::Failed, what));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    put(&path, content, found.as_ref()).map_err(failed)
}

/// Puts a file of mode 0600 in the place of whatever has its name, a link too, in a directory that
/// others may look into. Nobody sees it with another mode, or half of it, at any time.
///
/// # Errors
/// As `rewrite`.
pub fn place(path: &Path, content: &[u8]) -> Result<()> {
    make_directory(path.parent().unwrap_or(Path::new("/")))?;
    put(path, content, None).map_err(|error| {
        Error::new(Kind::Failed, format!("cannot write {}", path.display())).because(error)
    })
}

/// Makes a directory for a file of the person's own, and those above it, of mode 0700.
///
/// # Errors
/// `Storage` when that would be in a directory of another user, `Failed` when it cannot be made.
pub fn make_directory(path: &Path) -> Result<()> {
    trust::judge_nearest(path)?;
    if path.is_dir() {
        return Ok(());
    }
    create_directories(path).map_err(|error| {
        Error::new(Kind::Failed, format!("cannot make {}", path.display())).because(error)
    })
}

/// What a chain of links leads to; not all of it need be there, but the directory must.
fn target(path: &Path) -> std::io::Result<PathBuf> {
    let mut path = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        let Ok(next) = again(|| path.read_link()) else { return Ok(path) };
        let directory = path.parent().unwrap_or(Path::new("/")).canonicalize()?;
        path = directory.join(next);
        let there = path.parent().is_some_and(Path::is_dir);
        if !there {
            let what = format!("a link leads to {}, whose directory is not there", path.display());
            return Err(std::io::Error::new(ErrorKind::NotFound, what));
        }
    }
    Err(std::io::Error::new(ErrorKind::NotFound, "a link leads to itself"))
}

/// Writes a file that nobody sees before it is whole. `like`: the file whose owner, group and mode
/// it gets.
fn put(path: &Path, content: &[u8], like: Option<&Metadata>) -> std::io::Result<()> {
    for _ in 0..TRIES {
        let temporary = temporary(path);
        let written = create(&temporary).and_then(|mut file| {
            file.write_all(content)?;
            if let Some(like) = like {
                resemble(&file, like)?;
            }
            file.sync_all()?;
            again(|| std::fs::rename(&temporary, path))
        });
        match written {
            Ok(()) => return sync(path.parent().unwrap_or(Path::new("/"))),
            // Another writer of this file, who holds no lock either, has swept it away.
            Err(error) if error.kind() == ErrorKind::NotFound && like.is_none() => {}
            Err(error) => {
                discard(&temporary);
                return Err(error);
            }
        }
    }
    Err(std::io::Error::new(ErrorKind::ResourceBusy, "others keep writing it"))
}

#[cfg(unix)]
fn resemble(file: &File, like: &Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let found = again(|| file.metadata())?;
    if (found.uid(), found.gid()) != (like.uid(), like.gid()) {
        let (user, group) = (Some(like.uid()), Some(like.gid()));
        again(|| std::os::unix::fs::fchown(file, user, group)).map_err(|error| {
            let what = format!("its owner and group could not be kept: {error}");
            std::io::Error::new(error.kind(), what)
        })?;
    }
    again(|| file.set_permissions(like.permissions()))
}

#[cfg(not(unix))]
fn resemble(file: &File, like: &Metadata) -> std::io::Result<()> {
    file.set_permissions(like.permissions())
}

/// Makes a file that must not be there yet, whole; `false` where it is. Of several processes, on
/// whichever machines, one makes it.
///
/// # Errors
/// As `replace`.
pub fn make_new(path: &Path, content: &[u8]) -> Result<bool> {
    make_private_directory(path.parent().unwrap_or(Path::new("/")))?;
    let failed = |error| cannot("write", path).because(error);
    let temporary = temporary(path);
    create(&temporary).and_then(|mut file| file.write_all(content)).map_err(|error| {
        discard(&temporary);
        failed(error)
    })?;
    let linked = again(|| std::fs::hard_link(&temporary, path));
    discard(&temporary);
    let made = match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            // A file system without links: whoever dies between the next two calls leaves it empty.
            create(path).and_then(|mut file| file.write_all(content))
        }
        linked => linked,
    };
    match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|()| true).map_err(failed),
    }
}

/// Gives a file of ours another name, in the place of whatever has that.
///
/// # Errors
/// `Storage` when that cannot be done.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    again(|| std::fs::rename(from, to)).map_err(|error| cannot("write", to).because(error))
}

/// Takes back a `rename`, unless there is a new file by now.
///
/// # Errors
/// `Storage` when that cannot be done.
pub fn give_back(from: &Path, to: &Path) -> Result<()> {
    match again(|| std::fs::hard_link(from, to)) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => rename(from, to),
        _ => remove(from).map(drop),
    }
}

/// How long ago a file was written, by the clock of its file system, which other machines share.
///
/// # Errors
/// As `replace`.
pub fn age(path: &Path) -> Result<std::time::Duration> {
    let temporary = temporary(path);
    let now = create(&temporary).and_then(|mut file| {
        file.write_all(b"\n")?;
        file.metadata()?.modified()
    });
    discard(&temporary);
    let now = now.map_err(|error| cannot("write", &temporary).because(error))?;
    let then = again(|| path.symlink_metadata()).and_then(|found| found.modified());
    // One that has gone, or comes from the future, is new.
    Ok(then.ok().and_then(|then| now.duration_since(then).ok()).unwrap_or_default())
}

/// Whether `replace` would find room and permission, asked before something is spent that only
/// `replace` can keep.
///
/// # Errors
/// As `replace`.
pub fn probe(path: &Path) -> Result<()> {
    make_private_directory(path.parent().unwrap_or(Path::new("/")))?;
    sweep(path);
    let temporary = temporary(path);
    let room = create(&temporary).and_then(|mut file| file.write_all(&[0; ROOM]));
    discard(&temporary);
    room.map_err(|error| cannot("write", path).because(error))
}

/// Removes a file, and what a writer of it that died has left; `false` where there was no file.
///
/// # Errors
/// `Storage` when it cannot be removed.
pub fn remove(path: &Path) -> Result<bool> {
    sweep(path);
    match again(|| std::fs::remove_file(path)) {
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

/// What lies in a directory; nothing where there is no such directory.
///
/// # Errors
/// `Storage` when it cannot be read.
pub fn entries(directory: &Path) -> Result<Vec<Entry>> {
    match again(|| list(directory)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(|error| cannot("read", directory).because(error)),
    }
}

/// The standard library's reader panics where a directory cannot be closed.
#[cfg(unix)]
fn list(directory: &Path) -> std::io::Result<Vec<Entry>> {
    use std::os::unix::ffi::OsStrExt;
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(File::open(directory)?)? {
        let entry = entry?;
        let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let path = directory.join(name);
        let is_directory = match entry.file_type() {
            // Some file systems do not say it.
            rustix::fs::FileType::Unknown => {
                path.symlink_metadata().is_ok_and(|found| found.is_dir())
            }
            kind => kind.is_dir(),
        };
        found.push(Entry { path, is_directory });
    }
    Ok(found)
}

#[cfg(not(unix))]
#[expect(clippy::disallowed_methods, reason = "this system's has no such panic")]
fn list(directory: &Path) -> std::io::Result<Vec<Entry>> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry?;
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        Ok(Entry { path: entry.path(), is_directory })
    };
    std::fs::read_dir(directory)?.map(entry).collect()
}

/// Makes a directory of mode 0700, or checks the one that is there.
///
/// # Errors
/// `Storage` when it is a link, not ours, or open to others, or below a directory that is another
/// user's or can be written by others.
pub fn make_private_directory(path: &Path) -> Result<()> {
    trust::judge(path, Kind::Storage)?;
    let mut found = again(|| path.symlink_metadata());
    if found.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        create_directories(path).map_err(|error| cannot("make", path).because(error))?;
        found = again(|| path.symlink_metadata());
    }
    let found = found.map_err(|error| cannot("make", path).because(error))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let own = found.uid() == own_user();
        if !found.is_dir() || !own || found.mode() & 0o077 != 0 {
            return Err(Error::new(
                Kind::Storage,
                format!("{} is not a directory of ours alone", path.display()),
            )
            .hint(format!("chmod 700 {}", path.display())));
        }
    }
    #[cfg(not(unix))]
    let _ = found;
    Ok(())
}

fn create_directories(path: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    with_exact_modes(|| again(|| builder.create(path)))
}

/// A name that no other writer uses.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}.tmp", rand::random::<u64>()));
    name.into()
}

/// Removes what writers of a file that died have left, and nothing else beside it.
pub fn sweep(path: &Path) {
    sweep_where(path, is_of_a_writer);
}

/// Removes every file whose name is that of this one with a dot and more behind it.
pub fn sweep_all(path: &Path) {
    sweep_where(path, |rest| rest.starts_with(b"."));
}

fn sweep_where(path: &Path, is_left: impl Fn(&[u8]) -> bool) {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return };
    let Ok(entries) = entries(directory) else { return };
    for entry in entries {
        let found = entry.path.file_name().unwrap_or_default().as_encoded_bytes();
        if found.strip_prefix(name.as_encoded_bytes()).is_some_and(&is_left) {
            discard(&entry.path);
        }
    }
}

/// Whether this is what `temporary` puts behind the name of a file.
fn is_of_a_writer(rest: &[u8]) -> bool {
    let middle = rest.strip_prefix(b".").and_then(|rest| rest.strip_suffix(b".tmp"));
    rest == b".tmp"
        || middle
            .is_some_and(|middle| middle.len() == 16 && middle.iter().all(u8::is_ascii_hexdigit))
}

/// Best effort, and two of them: what is left may hold a secret. The next writer tries again.
fn discard(path: &Path) {
    let removed = again(|| std::fs::remove_file(path));
    if removed.is_err_and(|error| error.kind() != ErrorKind::NotFound) {
        let _ = std::fs::remove_file(path);
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    private_options(&mut options);
    with_exact_modes(|| options.open(path))
}

/// Opens or makes a file whose only purpose is to be locked.
///
/// # Errors
/// As `replace`.
pub fn lock_file(path: &Path) -> Result<File> {
    make_private_directory(path.parent().unwrap_or(Path::new("/")))?;
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    private_options(&mut options);
    let file = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            options.create(true).truncate(false);
            with_exact_modes(|| options.open(path))
        }
        opened => opened,
    };
    let file = file.map_err(|error| cannot("open", path).because(error))?;
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

/// Makes something with the very mode that is asked for. The umask could take from it what the
/// owner needs, and a mode that is set afterwards comes too late for whoever looks, or is killed,
/// in between.
#[cfg(unix)]
fn with_exact_modes<T>(make: impl FnOnce() -> T) -> T {
    use std::sync::{Mutex, PoisonError};
    // It belongs to the whole process.
    static UMASK: Mutex<()> = Mutex::new(());
    let _alone = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    let before = rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let made = make();
    rustix::process::umask(before);
    made
}

#[cfg(not(unix))]
fn with_exact_modes<T>(make: impl FnOnce() -> T) -> T {
    make()
}

/// Asked once, because `list` reads thousands of files.
#[cfg(unix)]
fn own_user() -> u32 {
    static USER: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *USER.get_or_init(|| rustix::process::geteuid().as_raw())
}

#[cfg(unix)]
fn is_ours_or_roots(user: u32) -> bool {
    user == own_user() || user == 0 || user == UNMAPPED && root_is_elsewhere()
}

/// Linux's number for a user that a container does not know (`/proc/sys/kernel/overflowuid`).
#[cfg(unix)]
const UNMAPPED: u32 = 65534;

/// Whether this is a container in which the machine's root has no number of its own, as in toolbox
/// and rootless podman: there `/` and `/home` seem to be nobody's.
#[cfg(unix)]
fn root_is_elsewhere() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut ranges = map.lines().map(|line| line.split_ascii_whitespace().nth(1));
    !map.is_empty() && ranges.all(|outside| outside != Some("0"))
}

#[cfg(unix)]
fn foreign(path: &Path, owner: u32) -> Error {
    let what = format!("{} belongs to another user (uid {owner})", path.display());
    let hint = if own_user() == 0 {
        "use sudo -H, which sets HOME, or run it as yourself"
    } else {
        "set HOME and the XDG variables to directories of yours"
    };
    Error::new(Kind::Storage, what).hint(hint)
}

/// The length of a plain file that belongs to us alone.
#[cfg(unix)]
fn ours(file: &File, path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let found = again(|| file.metadata()).map_err(|error| cannot("read", path).because(error))?;
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
    let found = again(|| file.metadata()).map_err(|error| cannot("read", path).because(error))?;
    Ok(found.len())
}

/// Makes a rename last. Some file systems cannot do that, and keep their names in order themselves.
fn sync(directory: &Path) -> std::io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    match File::open(directory)?.sync_all() {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Ok(())
        }
        synced => synced,
    }
}

/// A call that a signal interrupts is made again: file systems over a network let it happen.
fn again<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    let mut answer = call();
    for _ in 0..TRIES {
        match answer {
            Err(error) if error.kind() == ErrorKind::Interrupted => answer = call(),
            answer => return answer,
        }
    }
    answer
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
    fn a_rewrite_follows_a_link_to_what_is_not_there_yet() {
        let (directory, victim) = file(0o640);
        let (link, there) = (directory.path().join("link"), directory.path().join("there"));
        for target in [there.as_path(), Path::new("there")] {
            symlink(target, &link).unwrap();
            rewrite(&link, b"new").unwrap();
            assert_eq!(link.read_link().unwrap(), target);
            assert_eq!(std::fs::read(&there).unwrap(), b"new");
            std::fs::remove_file(&there).unwrap();
            std::fs::remove_file(&link).unwrap();
        }
        for target in ["link", "no/directory"] {
            symlink(target, &link).unwrap();
            assert_eq!(rewrite(&link, b"new").unwrap_err().kind, Kind::Failed);
            assert_eq!(link.read_link().unwrap(), Path::new(target));
            std::fs::remove_file(&link).unwrap();
        }
        symlink(&victim, &link).unwrap();
        rewrite(&link, b"new").unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"new");
        assert_eq!(victim.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    }

    /// Only root can make such a directory, and only root could write there.
    #[test]
    fn nothing_is_rewritten_in_a_directory_of_another_user() {
        let directory = tempfile::tempdir().unwrap();
        if own_user() != 0 {
            return;
        }
        std::os::unix::fs::chown(directory.path(), Some(4242), None).unwrap();
        for below in ["file", "not/there/file"] {
            let error = rewrite(&directory.path().join(below), b"new").unwrap_err();
            assert_eq!(error.kind, Kind::Storage);
            assert!(error.what.contains("another user"), "{}", error.what);
        }
        assert_eq!(entries(directory.path()).unwrap().len(), 0);
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
