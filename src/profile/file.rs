//! The user's configuration file. One that others could have written is not believed, and neither is
//! any file of the current directory. It is cut where its profiles begin: a request reads those that
//! name its host, and a broken one that has nothing to do with it stays unread; a person's command
//! reads all of them.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use url::Url;

use super::config::{self, wrong};
use super::{Flow, Profile, Profiles, is_safe};
use crate::disk;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::model::{Resource, StoreChoice};

#[derive(Default)]
pub(super) struct Configured {
    /// Where it is from, for messages.
    path: Option<PathBuf>,
    whole: String,
    environment: Environment,
    pieces: Vec<Piece>,
}

/// TOML of its own: one profile, or the whole file where it could not be cut.
struct Piece {
    text: String,
    lower: String,
    any_host: bool,
    /// `None`: it cannot be read.
    profiles: OnceCell<Option<Vec<Profile>>>,
}

/// The text may hold a client secret.
impl fmt::Debug for Configured {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Configured({:?}, {} pieces)", self.path, self.pieces.len())
    }
}

impl Configured {
    /// The pieces of a file, and what stands before the first of them.
    pub(super) fn new(
        whole: String,
        path: Option<PathBuf>,
        environment: &Environment,
    ) -> (Self, String) {
        let (head, texts) = cut(&whole).unwrap_or_else(|| (whole.clone(), vec![whole.clone()]));
        let pieces = texts.into_iter().map(Piece::new).collect();
        (Self { path, whole, environment: environment.clone(), pieces }, head)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Profile> {
        self.pieces.iter().filter_map(|piece| self.profiles(piece)).flatten()
    }

    /// The profiles that could be bound to this resource's host.
    pub(super) fn about(&self, resource: &Resource) -> impl Iterator<Item = &Profile> {
        let pieces = self.pieces.iter().filter(|piece| piece.may_name(resource));
        pieces.filter_map(|piece| self.profiles(piece)).flatten()
    }

    /// Whether a variable carries a token; of what cannot be read, every variable that it names.
    pub(super) fn is_secret_variable(&self, name: &str) -> bool {
        self.pieces.iter().any(|piece| match self.profiles(piece) {
            Some(profiles) => profiles.iter().any(|profile| profile.is_secret_variable(name)),
            None => piece.text.contains(name),
        })
    }

    /// # Errors
    /// `Configuration` when something about this resource, or with `None` anything at all, is
    /// nothing that anybody understands.
    pub(super) fn check(&self, resource: Option<&Resource>) -> Result<()> {
        let mut read = Vec::new();
        let about = |piece: &&Piece| resource.is_none_or(|resource| piece.may_name(resource));
        for piece in self.pieces.iter().filter(about) {
            match self.profiles(piece) {
                Some(profiles) => read.extend(profiles),
                // Only the whole file knows the number of a line.
                None => return Err(self.explain()),
            }
        }
        no_origin_twice(&read).map_err(|error| self.here(error))
    }

    fn explain(&self) -> Error {
        let error = config::read(&self.whole, &self.environment).err();
        self.here(error.unwrap_or_else(|| wrong("cannot be cut into profiles".to_owned())))
    }

    /// An error of this file.
    pub(super) fn here(&self, error: Error) -> Error {
        match &self.path {
            Some(path) => Error { what: format!("{}: {}", path.display(), error.what), ..error },
            None => error,
        }
    }

    fn profiles<'a>(&self, piece: &'a Piece) -> Option<&'a [Profile]> {
        let read = || config::read(&piece.text, &self.environment).ok();
        piece.profiles.get_or_init(read).as_deref()
    }
}

impl Piece {
    fn new(text: String) -> Self {
        let lower = text.to_ascii_lowercase();
        // An escape or a letter beyond ASCII can spell any host, and a provider brings its own.
        let any_host = !text.is_ascii() || text.contains('\\') || lower.contains("provider");
        Self { text, lower, any_host, profiles: OnceCell::new() }
    }

    /// Whether this text could bind an origin of the resource's host.
    fn may_name(&self, resource: &Resource) -> bool {
        // An address can be written in more ways than one.
        let host = resource.host.split(':').next().unwrap_or_default();
        self.any_host || host.starts_with('[') || self.lower.contains(host)
    }
}

/// The text before the first profile, and one text for each profile. `None` where a profile does
/// not begin with a line of its own, `[profile.NAME]`.
fn cut(whole: &str) -> Option<(String, Vec<String>)> {
    // Inside one of these a line only looks like a beginning.
    if whole.contains("\"\"\"") || whole.contains("'''") {
        return None;
    }
    let mut head = String::new();
    let mut pieces: Vec<(&str, String)> = Vec::new();
    let mut current = None;
    for line in whole.split_inclusive('\n') {
        if line.trim_start().starts_with('[') {
            let name = profile_of(line)?;
            let known = pieces.iter().position(|(other, _)| *other == name);
            current = Some(known.unwrap_or_else(|| {
                pieces.push((name, String::new()));
                pieces.len() - 1
            }));
        }
        match current {
            Some(number) => pieces[number].1.push_str(line),
            None => head.push_str(line),
        }
    }
    // A profile can also be written without a header.
    let mut lines = head.lines().filter(|line| !line.trim_start().starts_with('#'));
    let plain = !lines.any(|line| line.contains("profile"));
    plain.then(|| (head, pieces.into_iter().map(|(_, text)| text).collect()))
}

/// The name in `[profile.NAME]` or `[profile.NAME.TABLE]`.
fn profile_of(line: &str) -> Option<&str> {
    let (name, rest) = line.trim().strip_prefix("[profile.")?.split_once(']')?;
    let rest = rest.trim_start();
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fine = name.bytes().all(bare) && (rest.is_empty() || rest.starts_with('#'));
    let name = name.split('.').next().unwrap_or_default();
    (fine && !name.is_empty()).then_some(name)
}

fn no_origin_twice(profiles: &[&Profile]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for profile in profiles {
        for prefix in &profile.origins {
            if let Some(other) = seen.insert((&prefix.origin, &prefix.path), &profile.name) {
                return Err(wrong(format!(
                    "{} is bound to both profile {other} and profile {}",
                    prefix.origin, profile.name
                )));
            }
        }
    }
    Ok(())
}

pub(super) fn load(environment: &Environment) -> Result<Profiles> {
    let path: PathBuf = match environment.raw("VALETKEY_CONFIG") {
        Some(path) => path.into(),
        None => match environment.config_directory() {
            Ok(directory) => directory.join("config.toml"),
            // Without a home there is no configuration; the vault says so if it matters.
            Err(_) => return settle(String::new(), None, environment),
        },
    };
    // Whoever can write this file decides where tokens go.
    let text = disk::read_trusted(&path)?;
    if text.is_none() && environment.get("VALETKEY_CONFIG").is_some() {
        let what = format!("VALETKEY_CONFIG names {}, which is not there", path.display());
        return Err(wrong(what).hint("write that file, or unset VALETKEY_CONFIG"));
    }
    settle(text.unwrap_or_default(), Some(path), environment)
}

/// Reads what is said for all profiles, and leaves the profiles for later. An error names the place
/// that it comes from: the file, or a variable.
fn settle(text: String, path: Option<PathBuf>, environment: &Environment) -> Result<Profiles> {
    let (configured, head) = Configured::new(text, path, environment);
    let settings = settings(&head).map_err(|error| configured.here(error))?;
    let mut profiles = Profiles { configured, ..settings };
    if let Some(name) = environment.get("VALETKEY_STORE") {
        profiles.store = read_store(name).map_err(|error| of_variable("VALETKEY_STORE", error))?;
    }
    if let Some(name) = environment.get("VALETKEY_FLOW") {
        let flow = read_flow(name).map_err(|error| of_variable("VALETKEY_FLOW", error))?;
        profiles.flow = Some(flow);
    }
    if let Some(word) = environment.get("VALETKEY_INTERACTIVE")
        && !["auto", "always", "never"].contains(&word)
    {
        let error = wrong(format!("{word} says nothing")).hint("use auto, always or never");
        return Err(of_variable("VALETKEY_INTERACTIVE", error));
    }
    Ok(profiles)
}

fn of_variable(name: &str, error: Error) -> Error {
    Error { what: format!("the variable {name}: {}", error.what), ..error }
}

fn settings(head: &str) -> Result<Profiles> {
    let file = config::written(head)?;
    let store = file.store.as_deref().map(read_store).transpose()?.unwrap_or_default();
    let discover = file.discover.iter().map(|host| read_discover(host)).collect::<Result<_>>()?;
    Ok(Profiles {
        store,
        flow: file.flow,
        client_metadata: file.client_metadata.map(read_client_metadata).transpose()?,
        discover,
        ..Profiles::default()
    })
}

/// Reads and checks a whole text.
#[cfg(any(test, fuzzing))]
pub(super) fn parse(text: &str, environment: &Environment) -> Result<Profiles> {
    let profiles = settle(text.to_owned(), None, environment)?;
    profiles.check(None)?;
    Ok(profiles)
}

fn read_discover(host: &str) -> Result<String> {
    let resource = Resource::parse(host).map_err(|error| wrong(format!("discover: {error}")))?;
    let safe = Url::parse(&resource.origin()).is_ok_and(|url| is_safe(&url));
    if !safe || resource.path.is_some() || resource.account.is_some() || host.contains(['?', '#']) {
        return Err(wrong(format!("discover: {host} is not an https origin")));
    }
    Ok(resource.origin())
}

/// What a client id that is a URL may look like (draft-ietf-oauth-client-id-metadata-document,
/// section 3).
fn read_client_metadata(url: Url) -> Result<Url> {
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if url.scheme() != "https" || url.path() == "/" || !plain {
        return Err(wrong(format!("client_metadata {url} is not an https URL with a path alone")));
    }
    Ok(url)
}

fn read_store(name: &str) -> Result<StoreChoice> {
    let suffix = name.strip_prefix("helper:");
    match name {
        "auto" => Ok(StoreChoice::Auto),
        "keychain" => Ok(StoreChoice::Keychain),
        "file" => Ok(StoreChoice::File),
        "encrypted" => Ok(StoreChoice::Encrypted(None)),
        _ if name.starts_with("encrypted:/") => {
            Ok(StoreChoice::Encrypted(name.strip_prefix("encrypted:").map(str::to_owned)))
        }
        _ => match suffix {
            Some(suffix)
                if !suffix.is_empty()
                    && suffix
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) =>
            {
                Ok(StoreChoice::Helper(suffix.to_owned()))
            }
            _ => Err(wrong(format!("there is no store called {name}"))
                .hint("use auto, keychain, file, encrypted, encrypted:/KEY-FILE or helper:NAME")),
        },
    }
}

fn read_flow(name: &str) -> Result<Flow> {
    <Flow as clap::ValueEnum>::from_str(name, false).map_err(|_| {
        wrong(format!("there is no flow called {name}"))
            .hint("use auto, browser, device, paste, token, workload or none")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const FILE: &str = "flow = \"paste\"\n\
        [profile.a] # one\norigins = [\n\"https://a.example\",\n]\nissuer = \"https://i\"\n\
        [profile.b]\norigins = [\"https://B.example\"]\nisuer = 1\n\
        [profile.a.fields.tenant]\nheader = \"X-Tenant\"\n";

    fn configured(text: &str) -> (Configured, String) {
        Configured::new(text.to_owned(), None, &Environment::default())
    }

    fn resource(url: &str) -> Resource {
        Resource::parse(url).unwrap()
    }

    #[test]
    fn a_request_reads_what_names_its_host() {
        let (configured, head) = configured(FILE);
        assert_eq!(head, "flow = \"paste\"\n");
        assert_eq!(configured.pieces.len(), 2);
        let names: Vec<_> = configured.about(&resource("https://a.example:443/x")).collect();
        assert_eq!(names.len(), 1);
        assert_eq!(names[0].fields.len(), 1);
        assert!(configured.check(Some(&resource("https://a.example"))).is_ok());
        assert!(configured.check(Some(&resource("https://c.example"))).is_ok());
        for broken in [Some(resource("https://b.example")), None] {
            let error = configured.check(broken.as_ref()).unwrap_err();
            assert_eq!(error.what, "[profile.b] isuer is no setting");
        }
        assert!(configured.is_secret_variable("isuer"), "nobody knows what it would be");
        assert!(!configured.is_secret_variable("PATH"));
    }

    #[test]
    fn what_cannot_be_cut_is_read_as_a_whole() {
        for text in [
            "[profile]\na = { origins = [\"https://a.example\"], issuer = \"https://i\" }\n",
            "profile.a = { origins = [\"https://a.example\"], issuer = \"https://i\" }\n",
            "[profile.\"a\"]\norigins = [\"https://a.example\"]\nissuer = \"https://i\"\n",
            "[profile.a]\norigins = [\"\"\"https://a.example\"\"\"]\nissuer = \"https://i\"\n",
        ] {
            let (configured, head) = configured(text);
            assert_eq!(head, text);
            assert!(configured.check(None).is_ok(), "{text}");
            assert_eq!(configured.about(&resource("https://a.example")).count(), 1, "{text}");
        }
    }

    /// What the parser would read as the host's name without its letters standing there.
    #[test]
    fn a_name_that_is_spelled_otherwise_is_found() {
        for origin in ["https://\\u0061.example", "https://A.EXAMPLE:443/", "https://a.example."] {
            let text = format!("[profile.x]\norigins = [\"{origin}\"]\nissuer = \"https://i\"\n");
            let (configured, _) = configured(&text);
            assert_eq!(configured.about(&resource("https://a.example")).count(), 1, "{origin}");
        }
    }

    fn complaint(text: &str) -> (String, Option<String>) {
        let error = parse(text, &Environment::default()).expect_err("must be refused");
        assert_eq!(error.kind, Kind::Configuration);
        (error.what, error.hint)
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest_known_one() {
        let text = "[profile.a]\norigins = [\"https://a.example\"]\nisuer = \"https://b.example\"";
        let (what, hint) = complaint(text);
        assert_eq!(what, "[profile.a] isuer is no setting");
        assert_eq!(hint.as_deref(), Some("did you mean issuer?"));
        assert_eq!(complaint("stoer = \"file\"").1.as_deref(), Some("did you mean store?"));
    }

    #[test]
    fn what_would_leak_a_token_is_refused() {
        let profile =
            |line: &str| format!("[profile.a]\norigins = [\"https://a.example\"]\n{line}");
        for (text, what) in [
            ("issuer = \"http://b.example\"", "issuer is neither https nor on this machine"),
            ("issuer = \"https://b.example?x\"", "issuer has a query"),
            ("token_endpoint = \"http://b.example\"", "token_endpoint is neither https"),
            ("", "has neither issuer nor token_endpoint"),
            (
                "issuer = \"https://b.example\"\nredirect = { host = \"0.0.0.0\" }",
                "redirect.host is not a loopback address",
            ),
        ] {
            let (found, _) = complaint(&profile(text));
            assert!(found.contains(what), "{found}");
        }
        let (found, _) =
            complaint("[profile.a]\norigins = [\"http://a.example\"]\nissuer = \"https://b\"");
        assert!(found.contains("not an https URL"), "{found}");
    }

    #[test]
    fn one_origin_has_one_profile() {
        let text = "[profile.a]\norigins = [\"https://x.example\"]\nissuer = \"https://i\"\n\
                    [profile.b]\norigins = [\"https://X.example:443/\"]\nissuer = \"https://i\"";
        assert!(complaint(text).0.contains("bound to both profile a and profile b"));
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        assert!(complaint("store = \"auto\"\nflow = \n").0.starts_with("line 2:"));
    }
}
