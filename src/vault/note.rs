//! What is remembered beside the locks and is no secret: that a person was told, and when a session
//! was given out or asked about. Losing it costs a line or a question more.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::Vault;
use crate::disk;
use crate::model::Key;

/// What is remembered about a session beside the locks, by nothing but a time.
#[derive(Clone, Copy, Debug)]
pub enum Note {
    /// A caller that cannot say whether its host refused the token was given it.
    Answered,
    /// The server was asked whether it still takes the token.
    Checked,
}

impl Vault<'_> {
    /// Whether nobody has been told about this today; from now on somebody has. `about` is a digest,
    /// and the name of a file.
    #[must_use]
    pub fn first_today(&self, about: &str) -> bool {
        let Ok(state) = self.environment.state_directory() else { return false };
        let path = state.join("told").join(about);
        let today = (self.clock.now() / 86_400).to_string();
        let told = disk::read(&path).ok().flatten().is_some_and(|day| day == today.as_bytes());
        // What cannot be remembered is not said at every call.
        !told && disk::replace(&path, today.as_bytes()).is_ok()
    }

    /// When this was last noted about a session, in seconds of Unix time, without a note of now.
    #[must_use]
    pub fn noted(&self, what: Note, key: &Key) -> Option<u64> {
        let modified = self.note_path(what, key)?.metadata().ok()?.modified().ok()?;
        modified.duration_since(SystemTime::UNIX_EPOCH).ok().map(|time| time.as_secs())
    }

    /// Notes it now, and says when it was noted before. The time is the file's own: nothing is
    /// written but that, because a cached answer pays for it.
    pub fn note(&self, what: Note, key: &Key) -> Option<u64> {
        let before = self.noted(what, key);
        let file = self.note_path(what, key).and_then(|path| disk::lock_file(&path).ok())?;
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(self.clock.now());
        // Without the note a server is asked once less: no harm.
        file.set_modified(now).ok().and(before)
    }

    fn note_path(&self, what: Note, key: &Key) -> Option<PathBuf> {
        let directory = match what {
            Note::Answered => "answered",
            Note::Checked => "checked",
        };
        let state = self.environment.state_directory().ok()?;
        Some(state.join(directory).join(key.digest()))
    }
}
