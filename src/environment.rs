//! The environment as a value, taken once at the start, and the directories that follow from it.
//! Nothing here reads the process: `Process::current` does.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Kind, Result};

/// The variables that name files and directories of ours.
const PATHS: &[&str] = &[
    "HOME",
    "VALETKEY_CONFIG",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];

/// A list: it is built for every answer, and asked a dozen times.
#[derive(Clone, Default)]
pub struct Environment {
    variables: Arc<Vec<(OsString, OsString)>>,
    home_is_there: OnceLock<bool>,
}

/// Values may be secrets, so only the names show.
impl std::fmt::Debug for Environment {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.variables.iter().map(|(name, _)| name)).finish()
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        let variables = Arc::new(variables.into_iter().collect());
        Self { variables, ..Self::default() }
    }
}

impl Environment {
    /// A word: a variable that is set, not empty, and text. A path goes through `raw`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.raw(name)?.to_str()
    }

    /// A path, a list of paths or a command line, which need not be text: a variable that is set
    /// and not empty.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&OsStr> {
        let (_, value) = self.variables.iter().find(|(own, _)| own == name)?;
        Some(value.as_os_str()).filter(|value| !value.is_empty())
    }

    /// Refuses a directory or file of ours that is named from wherever the caller happens to be:
    /// what lies there may be somebody else's.
    ///
    /// # Errors
    /// `Configuration`, with the name of the variable.
    pub fn refuse_relative_paths(&self) -> Result<()> {
        for name in PATHS {
            let set = self.variables.iter().find(|(own, _)| own == name).map(|(_, value)| value);
            let relative = set.filter(|value| !value.is_empty() && Path::new(value).is_relative());
            if let Some(value) = relative {
                let what = format!("{name} is no absolute path: {}", Path::new(value).display());
                let hint = format!("set {name} to a path that begins with /, or unset it");
                return Err(Error::new(Kind::Configuration, what).hint(hint));
            }
        }
        Ok(())
    }

    /// As `get`, for a variable that says where an answer goes: one that cannot be read is not one
    /// that is not set.
    ///
    /// # Errors
    /// `Usage` when it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        let value = self.raw(name).map(|value| value.to_str().ok_or(value)).transpose();
        value.map_err(|_| Error::new(Kind::Usage, format!("{name} is not UTF-8")))
    }

    /// The names of all variables that are text.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().filter_map(|(name, _)| name.to_str())
    }

    /// The same with one variable more, or another value of it.
    #[must_use]
    pub fn with(&self, name: &str, value: impl Into<OsString>) -> Self {
        let others = self.variables.iter().filter(|(own, _)| own != name).cloned();
        others.chain([(name.into(), value.into())]).collect()
    }

    /// Everything a child may see: without the variables that carry our tokens.
    pub fn without(
        &self,
        secret: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = (&OsString, &OsString)> {
        let all = self.variables.iter().map(|(name, value)| (name, value));
        all.filter(move |(name, _)| !name.to_str().is_some_and(&secret))
    }

    /// An absolute directory: `$variable/valetkey`, else `$HOME/below/valetkey`
    /// (XDG Base Directory Specification).
    fn directory(&self, variable: &str, below: &str) -> Result<PathBuf> {
        if let Some(base) = self.raw(variable).map(Path::new).filter(|base| base.is_absolute()) {
            return Ok(base.join("valetkey"));
        }
        let home = self.raw("HOME").map(Path::new).filter(|home| home.is_absolute());
        let hint = format!("set HOME, or {variable}, to a directory of yours");
        let Some(home) = home else {
            return Err(Error::new(Kind::Storage, "there is no home directory").hint(hint));
        };
        // A home that does not exist is not ours to make.
        if !self.home_is_there.get_or_init(|| home.is_dir()) {
            let what = format!("the home directory {} does not exist", home.display());
            return Err(Error::new(Kind::Storage, what).hint(hint));
        }
        Ok(home.join(below).join("valetkey"))
    }

    /// # Errors
    /// `Storage` when neither the variable nor a home directory is there; so for the others.
    pub fn config_directory(&self) -> Result<PathBuf> {
        self.directory("XDG_CONFIG_HOME", ".config")
    }

    /// Where the file store keeps its records.
    ///
    /// # Errors
    /// As `config_directory`.
    pub fn data_directory(&self) -> Result<PathBuf> {
        self.directory("XDG_DATA_HOME", ".local/share")
    }

    /// Locks and cooldowns.
    ///
    /// # Errors
    /// As `config_directory`.
    pub fn state_directory(&self) -> Result<PathBuf> {
        self.directory("XDG_STATE_HOME", ".local/state")
    }

    /// Discovered metadata: what may be lost.
    ///
    /// # Errors
    /// As `config_directory`.
    pub fn cache_directory(&self) -> Result<PathBuf> {
        self.directory("XDG_CACHE_HOME", ".cache")
    }
}
