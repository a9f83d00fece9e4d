//! Ways to sign in that one site made for itself: it hands the token over in a redirect, or keeps
//! it for whoever can prove that it is his. A profile spells them out.

use serde::Deserialize;
use url::Url;

/// How a site brings its tokens home without OAuth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    Handoff(Handoff),
    Relay(Box<Relay>),
}

/// The site redirects the browser to our listener, with the token in the query.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Handoff {
    /// Where a person signs in; `port` and `state` are added to its query.
    pub url: Url,
    #[serde(default)]
    pub names: HandoffNames,
}

/// Parameters of the redirect.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct HandoffNames {
    pub token: String,
    pub email: String,
    pub name: String,
}

/// The browser leaves the tokens at the site, and we ask for them with the PKCE verifier.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// Where a person signs in.
    pub url: Url,
    /// What is asked for the tokens.
    pub poll_endpoint: Url,
    /// Seconds between two questions.
    #[serde(default = "interval")]
    pub interval: u64,
    #[serde(default)]
    pub names: RelayNames,
}

/// Where the site says nothing, that of RFC 8628 section 3.2.
fn interval() -> u64 {
    5
}

/// What the site calls things.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct RelayNames {
    /// Parameters of the address, and fields of the question.
    pub state: String,
    pub challenge: String,
    pub verifier: String,
    /// The code that a person compares.
    pub code: String,
    /// The member of an answer that says how it stands, and its word for "not yet".
    pub status: String,
    pub pending: String,
    /// Members of the last answer.
    pub access_token: String,
    pub refresh_token: String,
    pub id_token: String,
    pub expires_in: String,
}

impl Default for HandoffNames {
    fn default() -> Self {
        let [token, email, name] = ["token", "email", "name"].map(str::to_owned);
        Self { token, email, name }
    }
}

/// Where the site says nothing, the words of RFC 7636, 8628 and 6749.
impl Default for RelayNames {
    fn default() -> Self {
        let word = str::to_owned;
        Self {
            state: word("state"),
            challenge: word("code_challenge"),
            verifier: word("code_verifier"),
            code: word("user_code"),
            status: word("error"),
            pending: word("authorization_pending"),
            access_token: word("access_token"),
            refresh_token: word("refresh_token"),
            id_token: word("id_token"),
            expires_in: word("expires_in"),
        }
    }
}
