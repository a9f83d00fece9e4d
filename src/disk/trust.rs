//! Whose a directory is: one judgement for everything that is read, made or replaced below it.

use std::path::Path;

use crate::error::{Kind, Result};

/// Refuses a path of which a directory, as far as there is one, belongs neither to this user nor to
/// root, or can be written by others; a sticky directory such as `/tmp` may be. A link in the path
/// counts as what it is and as what it leads to. Group-writable is fine where nobody else is in the
/// group, as in OpenSSH of Debian and Fedora, whose users have a group of their own.
///
/// # Errors
/// `Storage` for a directory of another user, `open` for one that others can write.
#[cfg(unix)]
pub(super) fn judge(path: &Path, open: Kind) -> Result<()> {
    unix::judge(path, open)
}

/// # Errors
/// None: other systems inherit the rights of the home directory.
#[cfg(not(unix))]
pub(super) fn judge(_: &Path, _: Kind) -> Result<()> {
    Ok(())
}

/// Refuses to make anything below a directory of another user: the nearest one that is there
/// decides.
///
/// # Errors
/// `Storage`.
#[cfg(unix)]
pub(super) fn judge_nearest(path: &Path) -> Result<()> {
    unix::judge_nearest(path)
}

/// # Errors
/// As `judge`.
#[cfg(not(unix))]
pub(super) fn judge_nearest(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(unix)]
mod unix {
    use std::collections::BTreeSet;
    use std::fs::Metadata;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    use super::super::{again, cannot, foreign, is_ours_or_roots, own_user};
    use crate::error::{Error, Kind, Result};

    /// What is fine stays fine for one call of the program: `list` reads thousands of files.
    static FINE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

    const WRITABLE_BY_OTHERS: u32 = 0o002;
    const WRITABLE_BY_GROUP: u32 = 0o020;
    const STICKY: u32 = 0o1000;

    pub(super) fn judge(path: &Path, open: Kind) -> Result<()> {
        let known =
            |path: &Path| FINE.lock().unwrap_or_else(PoisonError::into_inner).contains(path);
        let mut unknown: Vec<&Path> = path.ancestors().take_while(|path| !known(path)).collect();
        while let Some(directory) = unknown.pop() {
            let Some(found) = metadata(directory)? else { return Ok(()) };
            if !found.is_symlink() && !found.is_dir() {
                return Ok(());
            }
            if !is_ours_or_roots(found.uid()) {
                return Err(foreign(directory, found.uid()));
            }
            if found.is_symlink() {
                // One that leads nowhere is told apart by what is done next.
                let Ok(target) = again(|| directory.canonicalize()) else { return Ok(()) };
                judge(&target, open)?;
            } else if is_open(&found) {
                let what = format!("others can write {}", directory.display());
                let hint = format!("chmod go-w {}", directory.display());
                return Err(Error::new(open, what).hint(hint));
            }
            let mut fine = FINE.lock().unwrap_or_else(PoisonError::into_inner);
            fine.insert(directory.to_owned());
        }
        Ok(())
    }

    pub(super) fn judge_nearest(path: &Path) -> Result<()> {
        for directory in path.ancestors() {
            match again(|| directory.metadata()) {
                Ok(found) if is_ours_or_roots(found.uid()) => return Ok(()),
                Ok(found) => return Err(foreign(directory, found.uid())),
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn metadata(path: &Path) -> Result<Option<Metadata>> {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        match again(|| path.symlink_metadata()) {
            Ok(found) => Ok(Some(found)),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
            Err(error) => Err(cannot("read", path).because(error)),
        }
    }

    fn is_open(found: &Metadata) -> bool {
        let mode = found.mode();
        if mode & STICKY != 0 {
            return false;
        }
        mode & WRITABLE_BY_OTHERS != 0
            || mode & WRITABLE_BY_GROUP != 0 && !is_group_of_one(found.gid())
    }

    /// Whether this user is the only one in a group, by the files in which a system keeps its own
    /// users. A group that another service knows is not.
    fn is_group_of_one(group: u32) -> bool {
        let lines = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (users, groups) = (lines("/etc/passwd"), lines("/etc/group"));
        group_has_only(own_user(), group, &users, &groups)
    }

    pub(super) fn group_has_only(user: u32, group: u32, users: &str, groups: &str) -> bool {
        let number = |text: Option<&&str>| text.and_then(|text| text.parse::<u32>().ok());
        // passwd(5): name, password, user, group. group(5): name, password, group, members.
        let split = |line: &'_ str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let mut members = Vec::new();
        for line in users.lines().map(split) {
            let fields: Vec<&str> = line.iter().map(String::as_str).collect();
            if number(fields.get(3)) == Some(group) {
                members.push(number(fields.get(2)));
            }
        }
        let named = |name: &str| {
            let found = users.lines().map(split).find(|fields| fields[0] == name);
            found.and_then(|fields| fields.get(2)?.parse().ok())
        };
        for line in groups.lines().map(split) {
            let fields: Vec<&str> = line.iter().map(String::as_str).collect();
            if number(fields.get(2)) == Some(group) {
                let listed = fields.get(3).copied().unwrap_or_default();
                members.extend(listed.split(',').filter(|name| !name.is_empty()).map(named));
            }
        }
        !members.is_empty() && members.iter().all(|member| *member == Some(user))
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_path_is_as_private_as_the_most_open_of_its_directories() {
        for (mode, fine) in [
            (0o700, true),
            (0o755, true),
            (0o757, false),
            (0o777, false),
            (0o1777, true),
            (0o500, true),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let below = directory.path().join("open/a/b");
            std::fs::create_dir_all(&below).unwrap();
            chmod(&directory.path().join("open"), mode);
            for path in [below.clone(), below.join("not/there"), directory.path().join("open/x")] {
                let judged = judge(&path, Kind::Configuration);
                assert_eq!(judged.is_ok(), fine, "{mode:o} {}", path.display());
                if let Err(error) = judged {
                    assert_eq!(error.kind, Kind::Configuration);
                    assert!(error.hint.unwrap().ends_with("/open"));
                }
            }
            let link = directory.path().join("link");
            symlink(&below, &link).unwrap();
            assert_eq!(judge(&link.join("x"), Kind::Storage).is_ok(), fine, "a link to {mode:o}");
        }
    }

    #[test]
    fn a_group_is_private_where_nobody_else_is_in_it() {
        let users = "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\nbob:x:1001:1000::/:/x\n\
                     eve:x:1002:1002::/:/x\nfay:x:1003:1003::/:/x\n";
        let groups = "ann:x:1000:\neve:x:1002:eve\nfay:x:1003:fay,ann\nnone:x:7:\nodd:x:8:gone\n";
        let alone = |user, group| unix::group_has_only(user, group, users, groups);
        assert!(alone(1002, 1002));
        for (user, group) in
            [(1000, 1000), (1003, 1003), (1002, 7), (1002, 8), (1002, 9), (0, 1002)]
        {
            assert!(!alone(user, group), "user {user} in group {group}");
        }
    }
}
