//! AWS's security token service: an identity token for the three keys of a role
//! (AssumeRoleWithWebIdentity, which is asked without a signature and answers in XML).

use serde_json::json;
use url::Url;

#[cfg(any(test, fuzzing))]
use super::answer::cut;
use super::answer::{refused, said};
use super::{Failure, Oauth, workload};
use crate::error::{Error, Kind};
use crate::model::{Secret, timestamp};

/// How AWS's logs call whoever assumed the role.
const SESSION: &str = "valetkey";

impl Oauth<'_> {
    /// The keys in one secret, as the JSON object that AWS's tools know them by, and when they end
    /// in seconds of Unix time.
    pub(super) fn assume_role(
        &self,
        origin: &str,
        role: &str,
        token: &Secret,
    ) -> Result<(Secret, u64), Failure> {
        let unusable =
            |what: &str| Failure::Other(Error::new(Kind::Rejected, format!("{origin} {what}")));
        let url = Url::parse(origin).map_err(|_| unusable("is no URL that could be asked"))?;
        let form = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", SESSION),
            ("WebIdentityToken", token.expose()),
        ];
        self.ui.log(|| format!("exchange at {url} for the keys of {role}"));
        let answer = self.http.post_for(&url, &form, "text/xml")?;
        let text = answer.text();
        if answer.status != 200 {
            let code = element(&text, "Code").unwrap_or_default();
            // 400, and yet it is AWS that could not reach whoever issued the token.
            if matches!(answer.status, 408 | 429 | 500..) || code == "IDPCommunicationError" {
                return Err(answer.transient());
            }
            if code == "ExpiredTokenException" {
                return Err(Failure::GrantDead);
            }
            if code.is_empty() {
                return Err(Failure::Other(refused(&answer)));
            }
            let message = element(&text, "Message").unwrap_or_default();
            let said = said(&answer.without_secrets(code), Some(&answer.without_secrets(message)));
            let what = format!("{} does not give the keys of {role}: {said}", answer.host);
            let error = Error::new(Kind::Rejected, what);
            return Err(Failure::Other(error.hint(workload::hint(token))));
        }
        let names = ["AccessKeyId", "SecretAccessKey", "SessionToken"];
        let keys = names.map(|name| key(&text, name));
        let [Some(id), Some(secret), Some(session)] = keys else {
            let lacking = names.into_iter().zip(keys).filter(|(_, key)| key.is_none());
            let lacking: Vec<_> = lacking.map(|(name, _)| name).collect();
            let what = format!("gave no keys that could be understood: {}", lacking.join(", "));
            return Err(unusable(&what));
        };
        let Some(expires) = element(&text, "Expiration").and_then(timestamp::seconds) else {
            return Err(unusable("does not say when its keys end"));
        };
        let expires = timestamp::believed(expires, self.clock.now());
        let keys = json!({
            "AccessKeyId": id, "SecretAccessKey": secret, "SessionToken": session,
        });
        Ok((Secret::new(keys.to_string()), expires))
    }
}

/// The text of the first element of this name: none of those that matter has others inside.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim())
}

/// A key is letters, digits and the signs of base 64: what would need an escape is none.
fn key<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte);
    element(text, name).filter(|key| !key.is_empty() && key.bytes().all(plain))
}

/// For fuzzing: whatever is answered, no key comes in that is more than a word.
///
/// # Panics
/// When one does.
#[cfg(any(test, fuzzing))]
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for name in ["AccessKeyId", "SecretAccessKey", "SessionToken"] {
        let found = key(&text, name);
        assert!(found.is_none_or(|key| key.bytes().all(|byte| byte.is_ascii_graphic())));
    }
    let message = cut(element(&text, "Message").unwrap_or_default());
    assert!(!message.chars().any(char::is_control));
    let _ = element(&text, "Expiration").and_then(timestamp::seconds);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_words_and_nothing_else() {
        let text = "<a><AccessKeyId>\n ASIA1 </AccessKeyId><SecretAccessKey>a+/=</SecretAccessKey>\
                    <SessionToken>a&lt;b</SessionToken><Message>no <b>way</b></Message></a>";
        assert_eq!(key(text, "AccessKeyId"), Some("ASIA1"));
        assert_eq!(key(text, "SecretAccessKey"), Some("a+/="));
        assert_eq!(key(text, "SessionToken"), None);
        assert_eq!(element(text, "Message"), Some("no <b>way</b>"));
        assert_eq!(element("<Code>x", "Code"), None);
    }
}
