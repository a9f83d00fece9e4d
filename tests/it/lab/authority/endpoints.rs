//! What each path of the authority answers when no step stands in the way. It checks a request as
//! strictly as a hardened server would, because a client that passes here should pass anywhere.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use url::{Host, Url};

use super::super::job::claim;
use super::super::server::{Answer, Request};
use super::ledger::{CodeRequest, Decision, GrantNumber, Refused};
use super::{Refreshing, State, issuer};

/// What others call these endpoints: GitHub, Gitea, GitLab, Hugging Face.
const ALIASES: &[(&str, &str)] = &[
    ("/login/oauth/authorize", "/authorize"),
    ("/login/oauth/access_token", "/token"),
    ("/login/device/code", "/device_authorization"),
    ("/api/v3/user", "/me"),
    ("/oauth/authorize", "/authorize"),
    ("/oauth/token", "/token"),
    ("/oauth/authorize_device", "/device_authorization"),
    ("/oauth/device", "/device_authorization"),
    ("/oauth/revoke", "/revoke"),
    ("/oauth/userinfo", "/me"),
];

pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    let issuer_path = state.options.issuer_path.clone();
    let Request { method, path, .. } = request;
    let alias = ALIASES.iter().find(|(alias, _)| alias == path);
    let path = alias.map_or(path.as_str(), |(_, own)| own);
    match (method.as_str(), path) {
        ("GET", path) if is_discovery(path, &issuer_path) => metadata(state),
        ("GET", "/authorize") => authorize(state, request),
        ("POST", "/token") => token(state, request),
        ("POST", "/device_authorization") => device_authorization(state, request),
        ("GET", "/device") => device_page(state, request),
        ("POST", "/revoke") => revoke(state, request),
        ("POST", "/register") if state.options.registration => register(state, request),
        ("POST", "/par") if state.options.pushing => push(state, request),
        ("GET", "/me") => userinfo(state, request),
        _ => Answer::text(404, "no such page\n"),
    }
}

/// An OAuth error, RFC 6749 section 5.2.
pub(super) fn refusal(code: &str) -> Answer {
    let status = if code == "invalid_client" { 401 } else { 400 };
    Answer::json(status, &json!({ "error": code, "error_description": format!("lab: {code}") }))
        .with_header("Cache-Control", "no-store")
}

fn is_discovery(path: &str, issuer_path: &str) -> bool {
    path == format!("/.well-known/oauth-authorization-server{issuer_path}")
        || path == format!("/.well-known/openid-configuration{issuer_path}")
        || path == format!("{issuer_path}/.well-known/openid-configuration")
}

fn metadata(state: &State) -> Answer {
    let at = |path: &str| Value::from(format!("{}{path}", state.origin));
    let document = json!({
        "issuer": issuer(state),
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "device_authorization_endpoint": at("/device_authorization"),
        "revocation_endpoint": at("/revoke"),
        "registration_endpoint": at("/register"),
        "userinfo_endpoint": at("/me"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": [
            "authorization_code",
            "refresh_token",
            "urn:ietf:params:oauth:grant-type:device_code",
        ],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": ["openid", "offline_access", "read", "write"],
        "authorization_response_iss_parameter_supported": state.options.iss_advertised,
    });
    let Value::Object(mut members) = document else { unreachable!("json! made an object") };
    if !state.options.registration {
        members.remove("registration_endpoint");
    }
    if state.options.pushing {
        members.insert("pushed_authorization_request_endpoint".to_owned(), at("/par"));
        let only = state.options.only_pushed;
        members.insert("require_pushed_authorization_requests".to_owned(), only.into());
    }
    if state.options.client_documents {
        members.insert("client_id_metadata_document_supported".to_owned(), true.into());
    }
    if !state.options.iss_advertised {
        members.remove("authorization_response_iss_parameter_supported");
    }
    for edit in &state.metadata_edits {
        edit(&mut members);
    }
    Answer::json(200, &Value::Object(members))
}

fn authorize(state: &mut State, request: &Request) -> Answer {
    if repeats_a_name(&request.query) {
        return Answer::html(400, "a parameter is given twice\n");
    }
    let mut asked = request.query.clone();
    if let Some(uri) = request.parameter("request_uri") {
        // Section 4 of RFC 9126: nothing but the client goes with it.
        let bare = asked
            .iter()
            .all(|(name, _)| ["client_id", "request_uri", "lab_person"].contains(&name.as_str()));
        let Some(pushed) = state.ledger.pushed(uri).filter(|_| bare) else {
            return Answer::html(400, "no such request\n");
        };
        asked = pushed;
    } else if state.options.only_pushed {
        return Answer::html(400, "the request was not pushed\n");
    }
    let parameter =
        |name: &str| asked.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
    let client = parameter("client_id").unwrap_or_default();
    if request.parameter("client_id") != Some(&client) {
        return Answer::html(400, "another client\n");
    }
    meet(state, &client);
    if !state.ledger.knows_client(&client) {
        return Answer::html(400, "unknown client\n");
    }
    // Without a redirect URI that can be trusted nothing may be sent anywhere, not even an error.
    let Some(redirect) = parameter("redirect_uri").filter(|uri| is_loopback(uri)) else {
        return Answer::html(400, "redirect_uri is not one of this client's\n");
    };
    if !state.ledger.may_redirect(&client, &redirect, state.options.exact_redirects) {
        return Answer::html(400, "redirect_uri is not one of this client's\n");
    }
    let challenge = parameter("code_challenge").unwrap_or_default();
    let resource = parameter("resource");
    let outcome = if parameter("response_type").as_deref() != Some("code") {
        ("error", "unsupported_response_type".to_owned())
    } else if parameter("code_challenge_method").as_deref() != Some("S256") || challenge.len() != 43
    {
        ("error", "invalid_request".to_owned())
    } else if state.options.resource.is_some() && resource != state.options.resource {
        ("error", "invalid_target".to_owned())
    } else if request.parameter("lab_person") == Some("deny") {
        ("error", "access_denied".to_owned())
    } else {
        let code = state.ledger.issue_code(CodeRequest {
            client,
            redirect: redirect.clone(),
            challenge,
            scope: parameter("scope").unwrap_or_default(),
            nonce: parameter("nonce"),
            account: state.options.account.clone(),
        });
        ("code", code)
    };

    // Glued on by hand, because the redirect URI must come back byte for byte.
    let mut callback = url::form_urlencoded::Serializer::new(String::new());
    callback.append_pair(outcome.0, &outcome.1);
    if let Some(value) = parameter("state") {
        callback.append_pair("state", &value);
    }
    if state.options.iss_in_callback {
        callback.append_pair("iss", &issuer(state));
    }
    let glue = if redirect.contains('?') { '&' } else { '?' };
    Answer::redirect(&format!("{redirect}{glue}{}", callback.finish()))
}

fn token(state: &mut State, request: &Request) -> Answer {
    let client = match known_client(state, request) {
        Ok(client) => client,
        Err(refused) => return refusal(refused),
    };
    if state.options.resource.is_some() && request.field("resource") != state.options.resource {
        return refusal("invalid_target");
    }
    let field = |name: &str| request.field(name).unwrap_or_default();
    let rotate = state.options.refreshing == Refreshing::Rotate;
    let first = state.options.refreshing != Refreshing::Never;
    let outcome = match field("grant_type").as_str() {
        "authorization_code" => state
            .ledger
            .redeem_code(&field("code"), &client, &field("redirect_uri"), &field("code_verifier"))
            .map(|redeemed| (redeemed.grant, first, redeemed.nonce)),
        "refresh_token" => state
            .ledger
            .redeem_refresh(&field("refresh_token"), &client, rotate)
            .map(|grant| (grant, rotate, None)),
        "urn:ietf:params:oauth:grant-type:device_code" => {
            let (after, account) =
                (state.options.approve_devices_after, state.options.account.clone());
            state
                .ledger
                .redeem_device(
                    &field("device_code"),
                    &client,
                    &field("code_verifier"),
                    after,
                    &account,
                )
                .map(|grant| (grant, first, None))
        }
        // The platform's word is good enough for the lab; it is for this issuer, and for a while.
        "urn:ietf:params:oauth:grant-type:token-exchange" => {
            match claim(&field("subject_token"), "sub") {
                Some(subject) if claim(&field("subject_token"), "aud") == Some(issuer(state)) => {
                    let scope = field("scope");
                    Ok((state.ledger.open_grant(&subject, &client, &scope), false, None))
                }
                _ => Err("invalid_grant"),
            }
        }
        _ => Err("unsupported_grant_type"),
    };
    match outcome {
        Ok((grant, with_refresh, nonce)) => token_set(state, grant, with_refresh, nonce),
        Err(refused) => refusal(refused),
    }
}

fn token_set(
    state: &mut State,
    grant: GrantNumber,
    with_refresh: bool,
    nonce: Option<String>,
) -> Answer {
    let issued = state.ledger.issue(grant, with_refresh);
    let granted = state.ledger.grant(grant);
    let mut members = Map::new();
    members.insert("access_token".to_owned(), issued.access.into());
    members.insert("token_type".to_owned(), "Bearer".into());
    if let Some(expires_in) = state.options.expires_in {
        members.insert("expires_in".to_owned(), expires_in.into());
    }
    if let Some(refresh) = issued.refresh {
        members.insert("refresh_token".to_owned(), refresh.into());
    }
    if !granted.scope.is_empty() {
        members.insert("scope".to_owned(), granted.scope.clone().into());
    }
    if state.options.id_token && granted.scope.split(' ').any(|scope| scope == "openid") {
        let token = id_token(&issuer(state), &granted.client, &granted.account, nonce);
        members.insert("id_token".to_owned(), token.into());
    }
    Answer::json(200, &Value::Object(members)).with_header("Cache-Control", "no-store")
}

/// Signed with nonsense: a client that got it over its own connection need not check (OpenID
/// Connect Core section 3.1.3.7), and one that does check has no key to check it with.
fn id_token(issuer: &str, client: &str, account: &str, nonce: Option<String>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut claims = json!({
        "iss": issuer, "aud": client, "sub": format!("subject-of-{account}"),
        "preferred_username": account, "email": format!("{account}@lab.example"),
        "iat": now, "exp": now + 3600,
    });
    if let Some(nonce) = nonce {
        claims["nonce"] = nonce.into();
    }
    let encode = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
    let header = encode(json!({ "alg": "ES256", "typ": "JWT" }).to_string());
    format!("{header}.{}.{}", encode(claims.to_string()), encode("not a signature".to_owned()))
}

fn device_authorization(state: &mut State, request: &Request) -> Answer {
    let client = match known_client(state, request) {
        Ok(client) => client,
        Err(refused) => return refusal(refused),
    };
    if state.options.resource.is_some() && request.field("resource") != state.options.resource {
        return refusal("invalid_target");
    }
    let scope = request.field("scope").unwrap_or_default();
    let challenge = request.field("code_challenge");
    if state.options.device_challenge && challenge.is_none() {
        let words = json!({
            "error": "invalid_request", "error_description": "Missing parameter: code_challenge",
        });
        return Answer::json(400, &words);
    }
    let (device_code, user_code) = state.ledger.open_device(&client, &scope, challenge);
    let page = format!("{}/device", state.origin);
    let mut document = json!({
        "device_code": device_code,
        "user_code": user_code,
        "verification_uri": page,
        "expires_in": state.options.device_expires_in,
    });
    if state.options.verification_uri_complete {
        document["verification_uri_complete"] = format!("{page}?user_code={user_code}").into();
    }
    if let Some(interval) = state.options.device_interval {
        document["interval"] = interval.into();
    }
    Answer::json(200, &document).with_header("Cache-Control", "no-store")
}

/// The page for the person. Whoever opens it with a code means yes, unless the lab's person denies.
fn device_page(state: &mut State, request: &Request) -> Answer {
    let Some(user_code) = request.parameter("user_code") else {
        return Answer::html(200, "enter the code\n");
    };
    let decision = if request.parameter("lab_person") == Some("deny") {
        Decision::Denied
    } else {
        Decision::Approved(state.options.account.clone())
    };
    if state.ledger.decide(user_code, decision) {
        Answer::html(200, "done\n")
    } else {
        Answer::html(404, "no such code\n")
    }
}

fn revoke(state: &mut State, request: &Request) -> Answer {
    match (known_client(state, request), request.field("token")) {
        (Ok(_), Some(token)) => {
            state.ledger.revoke(&token);
            Answer::empty(200)
        }
        (Ok(_), None) => refusal("invalid_request"),
        (Err(refused), _) => refusal(refused),
    }
}

/// RFC 7591, for public clients with loopback redirects only.
fn register(state: &mut State, request: &Request) -> Answer {
    let Ok(Value::Object(mut client)) = serde_json::from_slice(&request.body) else {
        return refusal("invalid_client_metadata");
    };
    if client.get("token_endpoint_auth_method").and_then(Value::as_str) != Some("none") {
        return refusal("invalid_client_metadata");
    }
    if client.get("application_type").and_then(Value::as_str) != Some("native") {
        return refusal("invalid_client_metadata");
    }
    let redirects = client.get("redirect_uris").and_then(Value::as_array).cloned();
    let good = |uri: &Value| uri.as_str().is_some_and(is_loopback);
    if !redirects.as_ref().is_none_or(|uris| uris.iter().all(good)) {
        return refusal("invalid_redirect_uri");
    }
    let redirects = redirects.iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let id = state.ledger.register_client(redirects.collect());
    client.insert("client_id".to_owned(), id.into());
    Answer::json(201, &Value::Object(client))
}

/// RFC 9126 section 2.1.
fn push(state: &mut State, request: &Request) -> Answer {
    match known_client(state, request) {
        Ok(_) if request.field("request_uri").is_some() => refusal("invalid_request"),
        Ok(_) => {
            let uri = state.ledger.push(request.form());
            Answer::json(201, &json!({ "request_uri": uri, "expires_in": 60 }))
        }
        Err(refused) => refusal(refused),
    }
}

fn meet(state: &mut State, client: &str) {
    if state.options.client_documents && client.starts_with("https://") {
        state.ledger.meet_client(client);
    }
}

fn userinfo(state: &State, request: &Request) -> Answer {
    let owner = request.bearer().and_then(|token| state.ledger.owner_of_access(token));
    let Some(account) = owner else {
        let error = if request.bearer().is_some() { ", error=\"invalid_token\"" } else { "" };
        return Answer::text(401, "who is asking?\n")
            .with_header("WWW-Authenticate", &format!("Bearer realm=\"lab\"{error}"));
    };
    Answer::json(
        200,
        &json!({
            "sub": format!("subject-of-{account}"),
            "login": account,
            "name": format!("{account} of the lab"),
            "email": format!("{account}@lab.example"),
        }),
    )
}

/// The public client of a form post. RFC 6749 section 3.2: no parameter twice, no secret here.
fn known_client(state: &mut State, request: &Request) -> Result<String, Refused> {
    let form = request.form();
    let content_type = request.header("Content-Type").unwrap_or_default();
    if !content_type.starts_with("application/x-www-form-urlencoded") || repeats_a_name(&form) {
        return Err("invalid_request");
    }
    let client = request.field("client_id").unwrap_or_default();
    meet(state, &client);
    let has_secret =
        request.header("Authorization").is_some() || request.field("client_secret").is_some();
    if has_secret || !state.ledger.knows_client(&client) {
        return Err("invalid_client");
    }
    Ok(client)
}

/// RFC 8707 lets `resource` come more than once, and nothing else.
fn repeats_a_name(pairs: &[(String, String)]) -> bool {
    pairs.iter().enumerate().any(|(place, (name, _))| {
        name != "resource" && pairs[..place].iter().any(|(earlier, _)| earlier == name)
    })
}

/// RFC 8252 sections 7.3 and 8.4: loopback, any port, no fragment.
fn is_loopback(uri: &str) -> bool {
    let Ok(url) = Url::parse(uri) else { return false };
    let here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    here && url.scheme() == "http" && url.fragment().is_none()
}
