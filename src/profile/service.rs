//! Who serves a resource, and what its caller may see of a session or of the environment.

use super::{Field, Prefix, Profile};
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{
    Credential, Fields, Form, Proof, Resource, Scheme, Secret, Sent, Session, Static, is_below,
    timestamp,
};

/// Who serves a resource: a profile, by one of its origins.
#[derive(Debug, Clone, Copy)]
pub struct Service<'a> {
    pub profile: &'a Profile,
    pub prefix: &'a Prefix,
}

impl<'a> Service<'a> {
    /// The profile with the origin that was asked for as its first: what a person reads names that
    /// one (`Profile::home`).
    #[must_use]
    pub fn turned(&self) -> Profile {
        let mut profile = self.profile.clone();
        if let Some(place) = profile.origins.iter().position(|prefix| prefix == self.prefix) {
            profile.origins.swap(0, place);
        }
        profile
    }

    /// The account that a request is for: the one that it names, else the one that its path
    /// belongs to.
    #[must_use]
    pub fn asked_account<'r>(&self, resource: &'r Resource) -> Option<&'r str>
    where
        'a: 'r,
    {
        self.named_account(resource).or_else(|| self.owner(resource))
    }

    /// The account that a request names. The user name which the host wants beside any token
    /// (`https://oauth2@host/...`) names none.
    #[must_use]
    pub fn named_account<'r>(&self, resource: &'r Resource) -> Option<&'r str> {
        let name = resource.account.as_deref()?;
        (name != self.prefix.username && !name.is_empty()).then_some(name)
    }

    /// Whose account the path belongs to: by the longest rule.
    fn owner(&self, resource: &Resource) -> Option<&'a str> {
        let path = resource.path.as_deref()?;
        let rules = self.profile.paths.iter().filter(|(above, _)| is_below(path, above));
        rules.max_by_key(|(above, _)| above.len()).map(|(_, account)| account.as_str())
    }

    /// What a caller may see of a session: this token of it.
    #[must_use]
    pub fn credential(&self, session: &Session, token: &Secret) -> Credential {
        Credential {
            username: self.username_for(&session.key.account),
            secret: token.clone(),
            form: Form::Token(self.prefix.scheme),
            expires: session.expires(self.prefix.token).map(timestamp::readable),
            proof: Some(Proof {
                place: session.key.place.digest(),
                key: session.key.digest(),
                token: token.fingerprint(),
            }),
            renewable: session.tokens.refresh.is_some(),
            refresh: None,
            fields: self.fields(&session.fields),
        }
    }

    /// What a caller may see of a token that a person made by hand: it goes to every host of the
    /// profile as that host takes a token.
    #[must_use]
    pub fn pasted(&self, entry: &Static) -> Credential {
        Credential {
            username: self.username_for(&entry.key.account),
            secret: entry.secret.clone(),
            form: Form::Token(self.prefix.scheme),
            expires: entry.expires,
            proof: None,
            renewable: false,
            refresh: None,
            fields: self.fields(&entry.fields),
        }
    }

    /// The profile's fields, each with the value that comes first.
    fn fields(&self, kept: &Fields) -> Vec<Sent> {
        let sent = |field: &Field| Sent {
            name: field.name.clone(),
            header: field.header.clone(),
            value: field.value.clone().or_else(|| kept.get(&field.name).cloned()),
        };
        self.profile.fields.iter().map(sent).collect()
    }

    /// What goes beside a token of this account.
    #[must_use]
    pub fn username_for(&self, account: &str) -> String {
        let username = &self.prefix.username;
        if account.is_empty() && username.contains("{account}") {
            // Hosts that read only the password still want a user name.
            return "oauth2".to_owned();
        }
        username.replace("{account}", account)
    }

    /// A token that the environment holds for the resource's host; stores are then not touched.
    ///
    /// # Errors
    /// `Configuration` when a variable holds what no token may hold.
    pub fn environment_token(
        &self,
        resource: &Resource,
        environment: &Environment,
    ) -> Result<Option<Credential>> {
        let mut own = self.profile.token_env.iter();
        let own = own.find_map(|name| token(name, environment).transpose()).transpose()?;
        let token = match own {
            Some(token) => Some(token),
            None => host_token(resource, environment)?,
        };
        Ok(token.map(|token| Credential {
            username: self.username_for(self.asked_account(resource).unwrap_or_default()),
            fields: self.fields(&Fields::new()),
            ..environment_credential(token, Form::Token(self.prefix.scheme))
        }))
    }
}

/// A token that the environment holds for a host without a profile.
///
/// # Errors
/// `Configuration` when the variable holds what no token may hold.
pub fn environment_token(
    resource: &Resource,
    environment: &Environment,
) -> Result<Option<Credential>> {
    let username = || resource.account.clone().unwrap_or_else(|| "oauth2".to_owned());
    let token = host_token(resource, environment)?;
    Ok(token.map(|token| Credential {
        username: username(),
        ..environment_credential(token, Form::Token(Scheme::Basic))
    }))
}

/// The token in a variable, cleaned here for every dialect (rule N1). `None` for one that is not
/// set, or empty.
fn token(name: &str, environment: &Environment) -> Result<Option<Secret>> {
    let Some(value) = environment.raw(name) else { return Ok(None) };
    let token = value.to_str().map(Secret::given);
    if token.as_ref().is_some_and(Secret::is_empty) {
        return Ok(None);
    }
    match token.filter(Secret::is_word) {
        Some(token) => Ok(Some(token)),
        None => {
            let what = format!("the variable {name} holds what no token may have");
            Err(Error::new(Kind::Configuration, what)
                .hint("a token is one word of visible letters of ASCII"))
        }
    }
}

const HOST_TOKEN: &str = "VALETKEY_TOKEN_";

/// `VALETKEY_TOKEN_<host>`: dots as `_`, hyphens as `__`, in lower or upper case. It is meant for
/// the host on its own port, over TLS or on this machine. No two hosts have the same name, because
/// a label neither is empty nor begins or ends with a hyphen (rule U3).
fn host_token(resource: &Resource, environment: &Environment) -> Result<Option<Secret>> {
    let Some(name) = host_variable(resource) else { return Ok(None) };
    match token(&name, environment)? {
        Some(token) => Ok(Some(token)),
        None => token(&name.to_ascii_uppercase(), environment),
    }
}

pub(super) fn host_variable(resource: &Resource) -> Option<String> {
    let host = &resource.host;
    let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    let secure = resource.web_origin().starts_with("https:") && !resource.leads_on();
    let name = || format!("{HOST_TOKEN}{}", host.replace('-', "__").replace('.', "_"));
    (secure && plain && !host.is_empty()).then(name)
}

/// A variable that looks as if it were for this host and is for none, because its name could be
/// read as more than one: of `a-_b`, `a_-b` or `a___b` none is a host.
#[must_use]
pub fn unclear_variable<'e>(resource: &Resource, environment: &'e Environment) -> Option<&'e str> {
    let merged = |name: &str| {
        let words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        words.join("_").to_ascii_lowercase()
    };
    // With one underscore for a dot and two for a hyphen.
    let is_of_a_host = |name: &str| {
        let mut runs = name.split(|letter: char| letter != '_');
        let clear = runs.all(|run| run.len() < 2 || run.len().is_multiple_of(2));
        clear && !name.starts_with('_') && !name.ends_with('_')
    };
    let host = merged(&resource.host);
    let named = |name: &&str| {
        let ours = name.get(..HOST_TOKEN.len());
        let ours = ours.is_some_and(|start| start.eq_ignore_ascii_case(HOST_TOKEN));
        ours && merged(&name[HOST_TOKEN.len()..]) == host
            && (resource.host.contains('_') || !is_of_a_host(&name[HOST_TOKEN.len()..]))
    };
    environment.names().find(named)
}

fn environment_credential(token: Secret, form: Form) -> Credential {
    Credential {
        username: String::new(),
        secret: token,
        form,
        expires: None,
        proof: None,
        renewable: false,
        refresh: None,
        fields: Vec::new(),
    }
}

impl Profile {
    /// Whether no host of this profile takes anything but the ID token.
    #[must_use]
    pub fn wants_nothing_else(&self) -> bool {
        self.origins.iter().all(|prefix| prefix.token == crate::model::TokenKind::Id)
    }
}
