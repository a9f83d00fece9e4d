//! The network as the person's tools have it: the proxies and the certificate authorities that the
//! environment and git name. Rules L10 and L11. Read when a connection is made, never before.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use url::Url;

use super::connection::Proxies;
use crate::disk;
use crate::environment::Environment;
use crate::error::{Error, Kind};
use crate::program;

/// How long git may take to say what it is configured to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Files with certificates that other tools trust beside the system's. Whoever set one for a tool
/// that asks us means the same server.
const BUNDLES: [&str; 5] = [
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "AWS_CA_BUNDLE",
];

/// Lists of directories with such files.
const DIRECTORIES: [&str; 2] = ["SSL_CERT_DIR", "GIT_SSL_CAPATH"];

pub(super) struct Network<'a> {
    environment: &'a Environment,
    /// Names of variables that no child may see.
    hidden: &'a dyn Fn(&str) -> bool,
    /// By URL.
    git: RefCell<HashMap<String, Git>>,
}

/// What git is configured to for a URL.
#[derive(Clone, Debug, Default, PartialEq)]
struct Git {
    /// Empty: no proxy, whatever the environment says.
    proxy: Option<String>,
    authorities: Vec<PathBuf>,
}

impl<'a> Network<'a> {
    pub(super) fn new(environment: &'a Environment, hidden: &'a dyn Fn(&str) -> bool) -> Self {
        Self { environment, hidden, git: RefCell::default() }
    }

    /// The proxy for a URL: git's, which is set for one URL or all, before the environment's, as
    /// git itself has it. NO_PROXY counts for both.
    ///
    /// # Errors
    /// `Configuration` when what is said is no proxy's URL.
    pub(super) fn proxy(&self, url: &Url) -> Result<Option<ureq::Proxy>, Error> {
        let proxies = Proxies::new(self.environment);
        match self.git(url).proxy {
            None => proxies.way(url),
            Some(proxy) if proxy.is_empty() || proxies.excepts(url) => Ok(None),
            Some(proxy) => ureq::Proxy::new(&proxy).map(Some).map_err(|_| {
                // It may hold a password.
                let what = "git's http.proxy is no URL of a proxy";
                Error::new(Kind::Configuration, what)
                    .hint("git config --global http.proxy http://HOST:PORT")
            }),
        }
    }

    /// The files and directories of certificates that are trusted for a URL beside the system's.
    pub(super) fn authorities(&self, url: &Url) -> Vec<PathBuf> {
        let file = |name: &&str| self.environment.raw(name).map(PathBuf::from);
        let mut all: Vec<PathBuf> = BUNDLES.iter().filter_map(file).collect();
        for list in DIRECTORIES.iter().filter_map(|name| self.environment.raw(name)) {
            all.extend(std::env::split_paths(list));
        }
        all.extend(self.git(url).authorities);
        all.retain(|path| path.is_absolute());
        all
    }

    /// Nothing where git is not there, or does not answer.
    fn git(&self, url: &Url) -> Git {
        if let Some(known) = self.git.borrow().get(url.as_str()) {
            return known.clone();
        }
        let found = self.ask_git(url).unwrap_or_default();
        self.git.borrow_mut().insert(url.to_string(), found.clone());
        found
    }

    /// From the root directory, because a stranger's folder has no say in where tokens go; git's own
    /// calls name theirs in GIT_DIR.
    fn ask_git(&self, url: &Url) -> Option<Git> {
        let git = program::find("git", self.environment)?;
        let words = ["-C", "/", "config", "-z", "--get-urlmatch", "http", url.as_str()];
        let words = words.map(OsStr::new);
        let answer =
            program::run(git.as_os_str(), &words, b"", self.environment, self.hidden, PATIENCE);
        let output = answer.ok()?.output;
        let home = self.environment.raw("HOME").map(Path::new);
        Some(read(&String::from_utf8_lossy(&output), home))
    }
}

/// `name LF value NUL`, as `git config -z` writes it.
fn read(text: &str, home: Option<&Path>) -> Git {
    let mut git = Git::default();
    for entry in text.split('\0') {
        let (name, value) = entry.split_once('\n').unwrap_or((entry, ""));
        match name {
            "http.proxy" => git.proxy = Some(value.to_owned()),
            "http.sslcainfo" | "http.sslcapath" if !value.is_empty() => {
                git.authorities.push(match (value.strip_prefix("~/"), home) {
                    (Some(rest), Some(home)) => home.join(rest),
                    _ => value.into(),
                });
            }
            _ => {}
        }
    }
    git
}

/// The certificates of a file, or of every file of a directory. One that cannot be read is passed
/// over: its tool complains about it, and a server that needs it is not trusted.
pub(super) fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    if !path.is_dir() {
        return of_file(path);
    }
    let entries = disk::entries(path).unwrap_or_default();
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path).collect();
    files.sort();
    files.iter().filter(|path| path.is_file()).flat_map(|path| of_file(path)).collect()
}

fn of_file(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).into_iter().flatten().map_while(Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_says_what_it_is_configured_to() {
        let home = Path::new("/home/a");
        let text = "http.proxy\nhttp://u:p@proxy.example:3128\0http.sslcainfo\n~/ca.pem\0\
                    http.sslcapath\n/etc/ca\0http.sslverify\nfalse\0http.proxyauthmethod\nbasic\0";
        let git = read(text, Some(home));
        assert_eq!(git.proxy.as_deref(), Some("http://u:p@proxy.example:3128"));
        assert_eq!(git.authorities, [Path::new("/home/a/ca.pem"), Path::new("/etc/ca")]);
        assert_eq!(read("http.proxy\n\0", None).proxy.as_deref(), Some(""));
        assert_eq!(read("http.proxy\0", None).proxy.as_deref(), Some(""));
        for nothing in ["", "\0", "http.sslcainfo\n\0", "remote.proxy\nx\0"] {
            assert_eq!(read(nothing, None), Git::default(), "{nothing:?}");
        }
    }
}
