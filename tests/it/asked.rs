//! The authorization request as the browser was given it, and what may come back to its redirect.

use std::collections::{BTreeMap, HashSet};

use url::Url;

use crate::lab::browser::{NAVIGATION, visit};
use crate::lab::{Browser, Page, Person, Started, client, http_get};

pub struct Asked(Url);

impl Asked {
    /// The first URL that the browser was given.
    #[track_caller]
    pub fn by(browser: &Browser) -> Self {
        Self::read(&browser.wait_for_opened(1)[0])
    }

    #[track_caller]
    pub fn read(url: &str) -> Self {
        Self(Url::parse(url).unwrap_or_else(|error| panic!("{error}: {url}")))
    }

    /// From what a person was shown.
    #[track_caller]
    pub fn shown(text: &str) -> Self {
        let line = text.lines().map(str::trim).find(|line| line.contains("code_challenge="));
        Self::read(line.unwrap_or_else(|| panic!("no authorization URL in {text:?}")))
    }

    pub fn url(&self) -> &str {
        self.0.as_str()
    }

    pub fn find(&self, name: &str) -> Option<String> {
        self.0.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    #[track_caller]
    pub fn parameter(&self, name: &str) -> String {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }

    #[track_caller]
    pub fn redirect(&self) -> Url {
        Url::parse(&self.parameter("redirect_uri")).expect("a redirect is a URL")
    }

    #[track_caller]
    pub fn port(&self) -> u16 {
        self.redirect().port().expect("a redirect has a port")
    }

    /// Where the server sends the browser of a person who approves: code, state and issuer.
    #[track_caller]
    pub fn approved(&self) -> String {
        http_get(self.url()).location().expect("a redirect")
    }

    /// The code of `approved`.
    #[track_caller]
    pub fn code(&self) -> String {
        Self::read(&self.approved()).parameter("code")
    }

    /// An address at the listener of the test's own making.
    #[track_caller]
    pub fn callback(&self, parameters: &[(&str, &str)]) -> String {
        let mut url = self.redirect();
        url.query_pairs_mut().extend_pairs(parameters);
        url.into()
    }

    /// The person approves in a browser, and ends on this page.
    #[track_caller]
    pub fn approve(&self) -> Page {
        visit(self.url(), Person::Approves).expect("the way back is open")
    }
}

/// Goes to one address as a browser that a link sends there, and no further.
#[track_caller]
pub fn navigate(url: &str) -> Page {
    client::http("GET", url, NAVIGATION, b"").unwrap_or_else(|error| panic!("GET {url}: {error}"))
}

/// The listening sockets of a program: address and port as the kernel writes them.
pub fn listening(started: &Started) -> Vec<(String, String)> {
    let process = format!("/proc/{}", started.id());
    let sockets: HashSet<String> = std::fs::read_dir(format!("{process}/fd"))
        .expect("it runs")
        .filter_map(|entry| {
            std::fs::read_link(entry.ok()?.path()).ok()?.to_str().map(str::to_owned)
        })
        .filter_map(|link| link.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    // A table that changes while it is read may show a line twice.
    let mut found = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("{process}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if columns[3] == "0A" && sockets.contains(columns[9]) {
                let (address, port) = columns[1].split_once(':').expect("address and port");
                found.insert(columns[9].to_owned(), (address.to_owned(), port.to_owned()));
            }
        }
    }
    found.into_values().collect()
}
