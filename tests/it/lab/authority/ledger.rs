//! The authority's books: who granted what to whom, and which codes and tokens came of it. Every
//! code works once, every rotated refresh token works once, and a second use of either kills the
//! grant behind it. It knows nothing of HTTP.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// An OAuth error code.
pub(super) type Refused = &'static str;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct GrantNumber(usize);

pub(super) struct Grant {
    pub(super) account: String,
    pub(super) client: String,
    pub(super) scope: String,
    live: bool,
}

pub(super) struct CodeRequest {
    pub(super) client: String,
    pub(super) redirect: String,
    pub(super) challenge: String,
    pub(super) scope: String,
    pub(super) nonce: Option<String>,
    pub(super) account: String,
}

struct Client {
    id: String,
    /// `None`: any loopback address.
    redirects: Option<Vec<String>>,
}

struct Code {
    request: CodeRequest,
    spent_on: Option<GrantNumber>,
    burnt: bool,
}

pub(super) struct Device {
    device_code: String,
    user_code: String,
    client: String,
    scope: String,
    challenge: Option<String>,
    polls: u32,
    decision: Decision,
}

#[derive(Clone)]
pub(super) enum Decision {
    Pending,
    Approved(String),
    Denied,
    Redeemed,
}

struct Held {
    grant: GrantNumber,
    dead: bool,
}

pub(super) struct Issued {
    pub(super) access: String,
    pub(super) refresh: Option<String>,
}

pub(super) struct Redeemed {
    pub(super) grant: GrantNumber,
    pub(super) nonce: Option<String>,
}

pub(super) struct Ledger {
    clients: Vec<Client>,
    registered: usize,
    pushed: HashMap<String, Vec<(String, String)>>,
    grants: Vec<Grant>,
    codes: HashMap<String, Code>,
    devices: Vec<Device>,
    access: HashMap<String, Held>,
    refresh: HashMap<String, Held>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            clients: vec![Client { id: super::CLIENT_ID.to_owned(), redirects: None }],
            registered: 0,
            pushed: HashMap::new(),
            grants: Vec::new(),
            codes: HashMap::new(),
            devices: Vec::new(),
            access: HashMap::new(),
            refresh: HashMap::new(),
        }
    }

    pub(super) fn knows_client(&self, client: &str) -> bool {
        self.clients.iter().any(|known| known.id == client)
    }

    /// Whether the client may be sent there, but for the port (RFC 8252 section 7.3).
    pub(super) fn may_redirect(&self, client: &str, redirect: &str, exactly: bool) -> bool {
        let client = self.clients.iter().find(|known| known.id == client);
        let redirects = client.and_then(|client| client.redirects.as_ref());
        let without_port = |uri: &str| {
            let mut url = url::Url::parse(uri).ok()?;
            if !exactly {
                url.set_port(None).ok()?;
            }
            Some(url)
        };
        redirects
            .is_none_or(|all| all.iter().any(|own| without_port(own) == without_port(redirect)))
    }

    pub(super) fn register_client(&mut self, redirects: Vec<String>) -> String {
        self.registered += 1;
        let id = format!("lab-registered-{}", self.registered);
        self.clients.push(Client { id: id.clone(), redirects: Some(redirects) });
        id
    }

    /// A client whose id is the URL of a document about it, of which the lab believes everything.
    pub(super) fn meet_client(&mut self, id: &str) {
        if !self.knows_client(id) {
            self.clients.push(Client { id: id.to_owned(), redirects: None });
        }
    }

    pub(super) fn forget_clients(&mut self) {
        self.clients.truncate(1);
    }

    /// RFC 9126 section 2.2.
    pub(super) fn push(&mut self, request: Vec<(String, String)>) -> String {
        let uri = format!("urn:ietf:params:oauth:request_uri:{:016x}", random());
        self.pushed.insert(uri.clone(), request);
        uri
    }

    /// A pushed request is good for one try.
    pub(super) fn pushed(&mut self, uri: &str) -> Option<Vec<(String, String)>> {
        self.pushed.remove(uri)
    }

    pub(super) fn grant(&self, number: GrantNumber) -> &Grant {
        &self.grants[number.0]
    }

    pub(super) fn open_grant(&mut self, account: &str, client: &str, scope: &str) -> GrantNumber {
        self.grants.push(Grant {
            account: account.to_owned(),
            client: client.to_owned(),
            scope: scope.to_owned(),
            live: true,
        });
        GrantNumber(self.grants.len() - 1)
    }

    pub(super) fn live_grants(&self) -> usize {
        self.grants.iter().filter(|grant| grant.live).count()
    }

    pub(super) fn issue(&mut self, grant: GrantNumber, with_refresh: bool) -> Issued {
        let access = secret("access");
        self.access.insert(access.clone(), Held { grant, dead: false });
        let refresh = with_refresh.then(|| secret("refresh"));
        if let Some(refresh) = &refresh {
            self.refresh.insert(refresh.clone(), Held { grant, dead: false });
        }
        Issued { access, refresh }
    }

    pub(super) fn issue_code(&mut self, request: CodeRequest) -> String {
        let code = secret("code");
        self.codes.insert(code.clone(), Code { request, spent_on: None, burnt: false });
        code
    }

    pub(super) fn redeem_code(
        &mut self,
        code: &str,
        client: &str,
        redirect: &str,
        verifier: &str,
    ) -> Result<Redeemed, Refused> {
        let entry = self.codes.get_mut(code).ok_or("invalid_grant")?;
        if let Some(grant) = entry.spent_on {
            self.kill_grant(grant);
            return Err("invalid_grant");
        }
        let fits = !entry.burnt
            && entry.request.client == client
            && entry.request.redirect == redirect
            && verifier_fits(verifier, &entry.request.challenge);
        if !fits {
            entry.burnt = true;
            return Err("invalid_grant");
        }
        let (account, scope, nonce) = (
            entry.request.account.clone(),
            entry.request.scope.clone(),
            entry.request.nonce.clone(),
        );
        let grant = self.open_grant(&account, client, &scope);
        if let Some(entry) = self.codes.get_mut(code) {
            entry.spent_on = Some(grant);
        }
        Ok(Redeemed { grant, nonce })
    }

    /// Accepts a refresh token. With `spend` it cannot be used again: a second use kills the grant.
    pub(super) fn redeem_refresh(
        &mut self,
        token: &str,
        client: &str,
        spend: bool,
    ) -> Result<GrantNumber, Refused> {
        let held = self.refresh.get_mut(token).ok_or("invalid_grant")?;
        let number = held.grant;
        if held.dead {
            self.kill_grant(number);
            return Err("invalid_grant");
        }
        let grant = &self.grants[number.0];
        if !grant.live || grant.client != client {
            return Err("invalid_grant");
        }
        held.dead = spend;
        Ok(number)
    }

    pub(super) fn open_device(
        &mut self,
        client: &str,
        scope: &str,
        challenge: Option<String>,
    ) -> (String, String) {
        let (device_code, user_code) = (secret("device"), user_code());
        self.devices.push(Device {
            device_code: device_code.clone(),
            user_code: user_code.clone(),
            client: client.to_owned(),
            scope: scope.to_owned(),
            challenge,
            polls: 0,
            decision: Decision::Pending,
        });
        (device_code, user_code)
    }

    pub(super) fn last_user_code(&self) -> Option<String> {
        self.devices.last().map(|device| device.user_code.clone())
    }

    pub(super) fn decide(&mut self, user_code: &str, decision: Decision) -> bool {
        let device = self.devices.iter_mut().find(|device| device.user_code == user_code);
        device.map(|device| device.decision = decision).is_some()
    }

    /// One poll. `approve_after` is the person who gets round to it after so many polls.
    pub(super) fn redeem_device(
        &mut self,
        device_code: &str,
        client: &str,
        verifier: &str,
        approve_after: Option<u32>,
        account: &str,
    ) -> Result<GrantNumber, Refused> {
        let device = self
            .devices
            .iter_mut()
            .find(|device| device.device_code == device_code && device.client == client)
            .filter(|device| {
                device.challenge.as_ref().is_none_or(|challenge| verifier_fits(verifier, challenge))
            })
            .ok_or("invalid_grant")?;
        if matches!(device.decision, Decision::Pending)
            && approve_after.is_some_and(|patience| device.polls >= patience)
        {
            device.decision = Decision::Approved(account.to_owned());
        }
        device.polls += 1;
        match device.decision.clone() {
            Decision::Pending => Err("authorization_pending"),
            Decision::Denied => Err("access_denied"),
            Decision::Redeemed => Err("invalid_grant"),
            Decision::Approved(account) => {
                device.decision = Decision::Redeemed;
                let scope = device.scope.clone();
                Ok(self.open_grant(&account, client, &scope))
            }
        }
    }

    pub(super) fn owner_of_access(&self, token: &str) -> Option<String> {
        let held = self.access.get(token).filter(|held| !held.dead)?;
        let grant = &self.grants[held.grant.0];
        grant.live.then(|| grant.account.clone())
    }

    pub(super) fn kill_access(&mut self, token: &str) {
        if let Some(held) = self.access.get_mut(token) {
            held.dead = true;
        }
    }

    pub(super) fn kill_all_access(&mut self) {
        self.access.values_mut().for_each(|held| held.dead = true);
    }

    pub(super) fn kill_all_grants(&mut self) {
        self.grants.iter_mut().for_each(|grant| grant.live = false);
    }

    /// RFC 7009: a refresh token takes its grant with it, an access token goes alone.
    pub(super) fn revoke(&mut self, token: &str) {
        if let Some(number) = self.refresh.get(token).map(|held| held.grant) {
            self.kill_grant(number);
        }
        self.kill_access(token);
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        let devices = self.devices.iter().map(|device| &device.device_code);
        self.codes
            .keys()
            .chain(self.access.keys())
            .chain(self.refresh.keys())
            .chain(devices)
            .cloned()
            .collect()
    }

    fn kill_grant(&mut self, number: GrantNumber) {
        self.grants[number.0].live = false;
    }
}

fn verifier_fits(verifier: &str, challenge: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (43..=128).contains(&verifier.len())
        && verifier.bytes().all(unreserved)
        && BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) == challenge
}

/// Unlike any other string in the world, and telling what it is when it turns up in a wrong place.
fn secret(kind: &str) -> String {
    format!("lab-{kind}-{:016x}{:016x}", random(), random())
}

fn user_code() -> String {
    const LETTERS: &[u8] = b"BCDFGHJKLMNPQRSTVWXZ";
    let random = random();
    let letter = |place: u32| char::from(LETTERS[(random >> (place * 8)) as usize % LETTERS.len()]);
    (0..4).map(letter).chain(['-']).chain((4..8).map(letter)).collect()
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
