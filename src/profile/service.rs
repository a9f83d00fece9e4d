//! Who serves a resource, and what its caller may see of a session or of the environment.

use super::{Field, Prefix, Profile};
use crate::environment::Environment;
use crate::model::{
    Credential, Fields, Form, Proof, Resource, Scheme, Secret, Sent, Session, Static, is_below,
};

/// Who serves a resource: a profile, by one of its origins.
#[derive(Debug, Clone, Copy)]
pub struct Service<'a> {
    pub profile: &'a Profile,
    pub prefix: &'a Prefix,
}

impl<'a> Service<'a> {
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
            expires: session.expires(self.prefix.token),
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
    #[must_use]
    pub fn environment_token(
        &self,
        resource: &Resource,
        environment: &Environment,
    ) -> Option<Credential> {
        let own = self.profile.token_env.iter().find_map(|name| environment.get(name));
        let token = own.or_else(|| host_token(resource, environment))?;
        Some(Credential {
            username: self.username_for(self.asked_account(resource).unwrap_or_default()),
            fields: self.fields(&Fields::new()),
            ..environment_credential(token, Form::Token(self.prefix.scheme))
        })
    }
}

/// A token that the environment holds for a host without a profile.
#[must_use]
pub fn environment_token(resource: &Resource, environment: &Environment) -> Option<Credential> {
    let username = resource.account.clone().unwrap_or_else(|| "oauth2".to_owned());
    let token = host_token(resource, environment)?;
    Some(Credential { username, ..environment_credential(token, Form::Token(Scheme::Basic)) })
}

/// `VALETKEY_TOKEN_<host>`: dots as `_`, hyphens as `__`, in lower or upper case. It is meant for
/// the host on its own port, over TLS or on this machine.
fn host_token<'a>(resource: &Resource, environment: &'a Environment) -> Option<&'a str> {
    let host = &resource.host;
    let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    let secure = resource.web_origin().starts_with("https:") && !resource.leads_on();
    if !secure || host.is_empty() || !plain {
        return None;
    }
    let name = format!("VALETKEY_TOKEN_{}", host.replace('-', "__").replace('.', "_"));
    environment.get(&name).or_else(|| environment.get(&name.to_ascii_uppercase()))
}

fn environment_credential(token: &str, form: Form) -> Credential {
    Credential {
        username: String::new(),
        secret: Secret::new(token),
        form,
        expires: None,
        proof: None,
        renewable: false,
        refresh: None,
        fields: Vec::new(),
    }
}
