//! What becomes of an identity token: a grant of OAuth, or the own ways of those who have one
//! (oauth.md 2.2). Whoever rejects it is answered with its claims, so that a person sees which of
//! them the trust policy does not know.

use serde_json::{Value, json};
use url::Url;

use super::super::answer::{document, error_of, read_token, said};
use super::super::http::{Answer, Method, Special};
use super::super::identity::Expected;
use super::{Vouched, claims};
use crate::error::{Error, Kind};
use crate::model::{Document, Identity, Secret, TokenSet, timestamp};
use crate::oauth::{Failure, Oauth, common};
use crate::profile::workload::Exchange;
use crate::profile::{Issuer, Profile};

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const CLIENT_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Google's APIs leave it to the account's roles what a token may do.
const CLOUD: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Seconds, where the answer does not say: what PyPI gives.
const MINTED: u64 = 900;
/// Seconds, which the registry of Rust's crates does not say.
const CRATES: u64 = 1800;
/// Seconds of an installation token of GitHub's, which octo-sts does not say.
const OCTO: u64 = 3600;

impl Oauth<'_> {
    pub(super) fn trade(
        &self,
        profile: &Profile,
        exchange: &Exchange,
        vouched: &Vouched,
    ) -> Result<TokenSet, Failure> {
        match exchange {
            Exchange::None => Ok(as_it_is(vouched, self.clock.now())),
            Exchange::TokenExchange | Exchange::JwtBearer | Exchange::ClientAssertion => {
                self.grant(profile, exchange, vouched)
            }
            Exchange::GoogleSts { provider, impersonation } => {
                self.google(profile, provider, impersonation.as_ref(), vouched)
            }
            Exchange::Mint => self.mint(profile, vouched),
            Exchange::Crates => self.publish(profile, vouched),
            Exchange::OctoSts { identity } => self.octo(profile, identity, vouched),
        }
    }

    /// RFC 8693 section 2.1, RFC 7523 sections 2.1 and 2.2.
    fn grant(
        &self,
        profile: &Profile,
        exchange: &Exchange,
        vouched: &Vouched,
    ) -> Result<TokenSet, Failure> {
        let (endpoint, server) = self.token_endpoint(profile)?;
        let token = vouched.token.expose();
        let scope = profile.scopes.join(" ");
        let mut form = match exchange {
            Exchange::JwtBearer => vec![("grant_type", JWT_BEARER), ("assertion", token)],
            Exchange::ClientAssertion => {
                if profile.client_id.is_empty() {
                    let what = format!("the profile {} has no client id", profile.name);
                    let hint =
                        format!("set client_id in [profile.{}] of config.toml", profile.name);
                    let error = Error::new(Kind::Configuration, what);
                    return Err(Failure::Other(error.hint(hint)));
                }
                vec![
                    ("grant_type", "client_credentials"),
                    ("client_assertion_type", CLIENT_ASSERTION),
                    ("client_assertion", token),
                ]
            }
            _ => vec![
                ("grant_type", TOKEN_EXCHANGE),
                ("subject_token", token),
                ("subject_token_type", JWT),
            ],
        };
        form.extend((!scope.is_empty()).then_some(("scope", &*scope)));
        form.extend(common(profile));
        self.ui.log(|| format!("exchange of the identity token at {endpoint}"));
        let id = &profile.client_id;
        let answer = match exchange {
            // RFC 6749 section 2.3: no more than one way to authenticate.
            Exchange::ClientAssertion => {
                form.push(("client_id", id));
                self.http(profile).post(&endpoint, &form)
            }
            _ => self.post_as(profile, id, server.as_ref(), &endpoint, &form),
        }?;
        let mut tokens = self.read(&answer, vouched)?;
        // An exchange need not name a client, and the token is then for whom its subject is.
        let client_id = Some(profile.client_id.as_str()).filter(|id| !id.is_empty());
        let issuer = profile.issuer.as_ref().map(Issuer::text);
        let expected = Expected { client_id, issuer, nonce: None };
        tokens.identity = match self.identity(profile, &expected, &answer, true) {
            None => None,
            Some(Ok(identity)) => Some(identity),
            Some(Err(why)) => {
                let what = format!("{} issued no ID token that can be used: {why}", answer.host);
                if profile.wants_nothing_else() {
                    return Err(Failure::Other(Error::new(Kind::Rejected, what)));
                }
                self.ui.log(|| what);
                None
            }
        };
        Ok(tokens)
    }

    /// As a token endpoint answers, but that its no is about the identity token.
    fn read(&self, answer: &Answer, vouched: &Vouched) -> Result<TokenSet, Failure> {
        let document = document(answer).unwrap_or_default();
        if let Some(code) = error_of(&document)
            && !matches!(code, "temporarily_unavailable" | "server_error")
        {
            let description = document.text("error_description");
            let description = description.map(|text| answer.without_secrets(text));
            let said = said(&answer.without_secrets(code), description.as_deref());
            return Err(rejected(answer, &said, vouched));
        }
        read_token(answer, None, self.clock.now())
    }

    /// RFC 8693 as Google has it, and then, if asked for, the token of a service account.
    fn google(
        &self,
        profile: &Profile,
        provider: &str,
        impersonation: Option<&Url>,
        vouched: &Vouched,
    ) -> Result<TokenSet, Failure> {
        let (endpoint, _) = self.token_endpoint(profile)?;
        let audience = format!("//iam.googleapis.com/{provider}");
        let wanted = match profile.scopes.is_empty() {
            true => CLOUD.to_owned(),
            false => profile.scopes.join(" "),
        };
        // The first token only has to be good for the second step.
        let scope = if impersonation.is_some() { CLOUD } else { &wanted };
        let form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("audience", &audience),
            ("scope", scope),
            ("requested_token_type", ACCESS_TOKEN),
            ("subject_token", vouched.token.expose()),
            ("subject_token_type", JWT),
        ];
        self.ui.log(|| format!("exchange of the identity token at {endpoint}"));
        let answer = self.http(profile).post(&endpoint, &form)?;
        let federated = self.read(&answer, vouched)?;
        let (Some(url), Some(bearer)) = (impersonation, &federated.access) else {
            return Ok(federated);
        };
        let scopes: Vec<&str> = wanted.split(' ').collect();
        let body = Some(json!({ "scope": scopes }));
        let special = Special { bearer: Some(bearer), body, ..Special::default() };
        self.ui.log(|| format!("impersonation at {url}"));
        let answer = self.http(profile).special(Method::POST, url, &special)?;
        let document = document(&answer).unwrap_or_default();
        if answer.status == 200 {
            let expires = document.text("expireTime").and_then(timestamp::seconds);
            return self.token_set(&answer, &document, "accessToken", expires);
        }
        let message = document.at("/error/message").and_then(Value::as_str);
        Err(self.refused(&answer, message, vouched))
    }

    /// Whom PyPI wants the identity token to be for.
    pub(super) fn mint_audience(&self, profile: &Profile) -> Result<String, Failure> {
        let (endpoint, _) = self.token_endpoint(profile)?;
        let url = endpoint.join("audience").map_err(|_| unusable(&endpoint))?;
        let answer = self.http(profile).get(&url, None, &[])?;
        let other = |what: &str| {
            let what = format!("{} {what}", answer.host);
            Err(Failure::Other(Error::new(Kind::Rejected, what)))
        };
        let document = document(&answer).unwrap_or_default();
        match (answer.status, document.text("audience")) {
            (200, Some(audience)) => Ok(audience.to_owned()),
            (403, _) => other("has trusted publishing switched off"),
            (404, _) => other("knows no trusted publishing"),
            (408 | 429 | 500.., _) => Err(answer.transient()),
            _ => {
                let lacks = document.lacks("audience");
                other(&format!("does not say whom the identity token is for: {lacks}"))
            }
        }
    }

    /// The answer to a token that was shown before is no, so each is shown once.
    fn mint(&self, profile: &Profile, vouched: &Vouched) -> Result<TokenSet, Failure> {
        let (answer, document) = self.hand_in(profile, "token", vouched)?;
        if answer.status != 200 {
            let errors = document.value("errors").and_then(Value::as_array).into_iter().flatten();
            let said: Vec<String> = errors
                .filter_map(|error| {
                    Some(format!(
                        "{}: {}",
                        error["code"].as_str()?,
                        error["description"].as_str().unwrap_or_default()
                    ))
                })
                .collect();
            return Err(self.refused(&answer, Some(&said.join("; ")), vouched));
        }
        let now = self.clock.now();
        // Some say how long, others until when.
        let expires = match document.number("expires").filter(|expires| *expires > 0.0) {
            Some(seconds) if seconds < now as f64 / 2.0 => now + seconds as u64,
            Some(time) => time as u64,
            None => now + MINTED,
        };
        self.token_set(&answer, &document, "token", Some(expires))
    }

    fn publish(&self, profile: &Profile, vouched: &Vouched) -> Result<TokenSet, Failure> {
        let (answer, document) = self.hand_in(profile, "jwt", vouched)?;
        match answer.status {
            200 => {
                let expires = self.clock.now() + CRATES;
                self.token_set(&answer, &document, "token", Some(expires))
            }
            _ => Err(self.refused(&answer, details(&document).as_deref(), vouched)),
        }
    }

    fn octo(
        &self,
        profile: &Profile,
        identity: &str,
        vouched: &Vouched,
    ) -> Result<TokenSet, Failure> {
        let (mut url, _) = self.token_endpoint(profile)?;
        let scope = profile.scopes.join(" ");
        url.query_pairs_mut().append_pair("scope", &scope).append_pair("identity", identity);
        self.ui.log(|| format!("exchange of the identity token at {url}"));
        let special = Special { bearer: Some(&vouched.token), ..Special::default() };
        let answer = self.http(profile).special(Method::GET, &url, &special)?;
        let document = document(&answer).unwrap_or_default();
        match answer.status {
            200 => {
                let expires = self.clock.now() + OCTO;
                self.token_set(&answer, &document, "token", Some(expires))
            }
            _ => Err(self.refused(&answer, document.text("message"), vouched)),
        }
    }

    /// Posts the identity token as the one member of a JSON object.
    fn hand_in(
        &self,
        profile: &Profile,
        member: &str,
        vouched: &Vouched,
    ) -> Result<(Answer, Document), Failure> {
        let (url, _) = self.token_endpoint(profile)?;
        self.ui.log(|| format!("exchange of the identity token at {url}"));
        let body = Some(json!({ member: vouched.token.expose() }));
        let special = Special { body, secret: Some(&vouched.token), ..Special::default() };
        let answer = self.http(profile).special(Method::POST, &url, &special)?;
        let document = document(&answer).unwrap_or_default();
        Ok((answer, document))
    }

    /// Gives a token back to whoever has a way of their own to take it. `false`: nobody has.
    pub(in super::super) fn give_back(
        &self,
        profile: &Profile,
        exchange: &Exchange,
        tokens: &TokenSet,
    ) -> Result<bool, Failure> {
        let (Exchange::Crates, Some(token)) = (exchange, &tokens.access) else { return Ok(false) };
        let (endpoint, _) = self.token_endpoint(profile)?;
        let special = Special { bearer: Some(token), ..Special::default() };
        let answer = self.http(profile).special(Method::DELETE, &endpoint, &special)?;
        self.ui.log(|| format!("revoke at {endpoint}: {}", answer.status));
        match answer.status {
            // One that it does not know any more is as good as revoked.
            200..300 | 401 | 403 | 404 => Ok(true),
            408 | 429 | 500.. => Err(answer.transient()),
            _ => Err(Failure::Other(super::super::refused(&answer))),
        }
    }

    /// The token that an answer has in this member.
    fn token_set(
        &self,
        answer: &Answer,
        document: &Document,
        member: &str,
        expires: Option<u64>,
    ) -> Result<TokenSet, Failure> {
        let unusable = |what: &str| {
            let what = format!("{} gave {what}", answer.host);
            Err(Failure::Other(Error::new(Kind::Rejected, what)))
        };
        let Some(token) = document.text(member) else {
            return unusable(&format!("no token: {}", document.lacks(member)));
        };
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return unusable("a token with characters that no token may have");
        }
        let access = Some(Secret::new(token));
        let expires = expires.map(|end| timestamp::believed(end, self.clock.now()));
        Ok(TokenSet { identity: None, access, refresh: None, expires, scope: None })
    }

    fn refused(&self, answer: &Answer, message: Option<&str>, vouched: &Vouched) -> Failure {
        if matches!(answer.status, 408 | 429 | 500..) {
            return answer.transient();
        }
        let message = message.map(|text| answer.without_secrets(text));
        let said = match message.as_deref().map(super::super::answer::cut) {
            Some(text) if !text.is_empty() => text,
            _ => answer.status.to_string(),
        };
        rejected(answer, &said, vouched)
    }
}

fn rejected(answer: &Answer, said: &str, vouched: &Vouched) -> Failure {
    let Vouched { token, source, .. } = vouched;
    let what = format!("{} rejected the identity token of {source}: {said}", answer.host);
    Failure::Other(Error::new(Kind::Rejected, what).hint(claims::hint(token)))
}

/// What the registry of Rust's crates says of an error.
fn details(document: &Document) -> Option<String> {
    let errors = document.value("errors")?.as_array()?.iter();
    let details: Vec<&str> = errors.filter_map(|error| error["detail"].as_str()).collect();
    Some(details.join("; "))
}

fn unusable(url: &Url) -> Failure {
    let what = format!("{url} is no URL that could be asked");
    Failure::Other(Error::new(Kind::Configuration, what))
}

fn as_it_is(vouched: &Vouched, now: u64) -> TokenSet {
    let expires = claims::end(&vouched.token).map(|end| timestamp::believed(end, now));
    let identity = expires.map(|expires| Identity { token: vouched.token.clone(), expires });
    let access = Some(vouched.token.clone());
    TokenSet { identity, access, refresh: None, expires, scope: None }
}
