//! A container registry over HTTP with one image in it, behind a door: Basic, or a token realm
//! beside it as the distribution project describes it. It knows nothing of where passwords come
//! from; a closure says which are good.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::server::{Answer, Journal, Reply, Request, Server};

/// How the registry asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Basic,
    /// A Bearer realm that takes user name and password, and nothing else.
    Realm,
    /// A Bearer realm that also takes refresh tokens by POST (OAuth 2), and where an access token
    /// is exchanged for one first, as Azure's do.
    Exchange,
}

/// What a registry of the last kind has given, and for how many seconds it gives it.
struct Exchange {
    given: Mutex<Vec<String>>,
    count: AtomicUsize,
    lifetime: AtomicU64,
}

impl Exchange {
    fn give(&self, origin: &str) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let end = now.expect("a clock after 1970").as_secs() + self.lifetime.load(Ordering::SeqCst);
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        let claims = json!({"iss": origin, "exp": end, "jti": count});
        let token = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
        self.given.lock().unwrap_or_else(PoisonError::into_inner).push(token.clone());
        token
    }

    fn gave(&self, token: &str) -> bool {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.iter().any(|given| given == token)
    }
}

/// Says whether a secret is good, given its user name.
type Accepts = dyn Fn(&str, &str) -> bool + Send + Sync;

pub struct Registry {
    server: Server,
    exchange: Arc<Exchange>,
}

/// `name` of the one image.
pub const IMAGE: &str = "team/image";
/// What the realm gives for a good secret.
const PASS: &str = "pass-of-the-registry";
const BLOB: &str = "application/octet-stream";
/// The layer of either: an archive without files, which is two blocks of nothing.
const EMPTY_TAR: &str = match std::str::from_utf8(&[0; 1024]) {
    Ok(text) => text,
    Err(_) => unreachable!(),
};
/// The tag of a helm chart beside the image.
pub const CHART: &str = "1.0.0";

impl Registry {
    pub fn start<A>(door: Door, accepts: A) -> Self
    where
        A: Fn(&str, &str) -> bool + Send + Sync + 'static,
    {
        let accepts: Arc<Accepts> = Arc::new(accepts);
        let exchange = Arc::new(Exchange {
            given: Mutex::default(),
            count: AtomicUsize::new(0),
            lifetime: AtomicU64::new(10_800),
        });
        let server = Server::start_knowing_origin(|origin| {
            let origin = origin.to_owned();
            let exchange = Arc::clone(&exchange);
            move |request: &Request| {
                answer(door, &origin, accepts.as_ref(), &exchange, request).into()
            }
        });
        Self { server, exchange }
    }

    /// For how many seconds it gives its refresh tokens from now on.
    pub fn exchange_for(&self, seconds: u64) {
        self.exchange.lifetime.store(seconds, Ordering::SeqCst);
    }

    /// How often an access token was exchanged, or was to be.
    pub fn exchanges(&self) -> usize {
        self.journal().at_path("/oauth2/exchange").len()
    }

    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// Host and port, as clients of registries name it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.server.port())
    }

    pub fn image(&self) -> String {
        format!("{}/{IMAGE}:latest", self.host())
    }

    pub fn journal(&self) -> &Journal {
        self.server.journal()
    }

    /// User names and secrets that came by Basic, in order.
    pub fn presented(&self) -> Vec<(String, String)> {
        self.journal().snapshot().iter().filter_map(|entry| basic(&entry.request)).collect()
    }
}

fn basic(request: &Request) -> Option<(String, String)> {
    let pair = request.header("Authorization")?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(BASE64_STANDARD.decode(pair).ok()?).ok()?;
    let (username, secret) = pair.split_once(':')?;
    Some((username.to_owned(), secret.to_owned()))
}

fn answer(
    door: Door,
    origin: &str,
    accepts: &Accepts,
    exchange: &Exchange,
    request: &Request,
) -> Answer {
    let by_basic = basic(request).is_some_and(|(username, secret)| accepts(&username, &secret));
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/token") if door != Door::Basic => match by_basic {
            true => Answer::json(200, &json!({"token": PASS, "expires_in": 300})),
            false => Answer::json(401, &json!({"errors": [{"code": "UNAUTHORIZED"}]})),
        },
        ("POST", "/token") if door == Door::Exchange => {
            let secret = request.field("refresh_token").unwrap_or_default();
            let grant = request.field("grant_type").as_deref() == Some("refresh_token");
            match grant && exchange.gave(&secret) {
                true => Answer::json(200, &json!({"access_token": PASS, "expires_in": 300})),
                false => Answer::json(401, &json!({"errors": [{"code": "UNAUTHORIZED"}]})),
            }
        }
        ("POST", "/oauth2/exchange") if door == Door::Exchange => {
            let field = |name: &str| request.field(name).unwrap_or_default();
            let right = field("grant_type") == "access_token"
                && format!("http://{}", field("service")) == origin;
            match right && accepts(&field("tenant"), &field("access_token")) {
                true => Answer::json(200, &json!({"refresh_token": exchange.give(origin)})),
                false => Answer::json(401, &json!({"errors": [{"code": "UNAUTHORIZED"}]})),
            }
        }
        (_, path) if path.starts_with("/v2/") => {
            let open = match door {
                Door::Basic => by_basic,
                Door::Realm | Door::Exchange => request.bearer() == Some(PASS),
            };
            if open { content(request) } else { closed(door, origin) }
        }
        _ => Answer::empty(404),
    }
}

fn closed(door: Door, origin: &str) -> Answer {
    let challenge = match door {
        Door::Basic => "Basic realm=\"lab\"".to_owned(),
        Door::Realm | Door::Exchange => {
            format!(
                "Bearer realm=\"{origin}/token\",service=\"lab\",scope=\"repository:{IMAGE}:pull\""
            )
        }
    };
    let body = json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]});
    Answer::json(401, &body)
        .with_header("WWW-Authenticate", &challenge)
        .with_header("Docker-Distribution-Api-Version", "registry/2.0")
}

/// The image or the chart: they differ in the media types and in what the configuration says.
struct Artifact {
    tag: &'static str,
    media_type: &'static str,
    manifest: String,
    config: String,
}

impl Artifact {
    fn new(tag: &'static str, types: [&'static str; 3], config: &Value) -> Self {
        let [media_type, of_config, of_layer] = types;
        let config = config.to_string();
        let part = |media_type: &str, content: &str| json!({"mediaType": media_type, "size": content.len(), "digest": digest(content)});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type,
            "config": part(of_config, &config), "layers": [part(of_layer, EMPTY_TAR)],
        });
        Self { tag, media_type, manifest: manifest.to_string(), config }
    }

    fn image() -> Self {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(EMPTY_TAR)]},
            "history": [{"created_by": "the laboratory"}],
        });
        let types = [
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ];
        Self::new("latest", types, &config)
    }

    fn chart() -> Self {
        let types = [
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.cncf.helm.config.v1+json",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        ];
        Self::new(CHART, types, &json!({"apiVersion": "v2", "name": "image", "version": CHART}))
    }

    /// What stands at a path below the name: a manifest or a blob.
    fn at(&self, path: &str) -> Option<Answer> {
        let of_manifest = digest(&self.manifest);
        let (media_type, content) = match path.split_once('/')? {
            ("manifests", name) if name == self.tag || name == of_manifest => {
                (self.media_type, self.manifest.as_str())
            }
            ("blobs", name) if name == digest(&self.config) => (BLOB, self.config.as_str()),
            ("blobs", name) if name == digest(EMPTY_TAR) => (BLOB, EMPTY_TAR),
            _ => return None,
        };
        let answer = Answer::typed(200, media_type, content);
        Some(answer.with_header("Docker-Content-Digest", &digest(content)))
    }
}

/// Whoever pushes what is here already uploads nothing but the manifest.
fn content(request: &Request) -> Answer {
    let below = request.path.strip_prefix(&format!("/v2/{IMAGE}/")).unwrap_or_default();
    match (request.method.as_str(), below) {
        (_, "") if request.path == "/v2/" => Answer::json(200, &json!({}))
            .with_header("Docker-Distribution-Api-Version", "registry/2.0"),
        (_, "tags/list") => Answer::json(200, &json!({"name": IMAGE, "tags": ["latest", CHART]})),
        ("PUT", "manifests/latest") => {
            let body = String::from_utf8_lossy(&request.body);
            Answer::empty(201).with_header("Docker-Content-Digest", &digest(&body))
        }
        _ => Artifact::image()
            .at(below)
            .or_else(|| Artifact::chart().at(below))
            .unwrap_or_else(|| Answer::json(404, &json!({"errors": [{"code": "NOT_FOUND"}]}))),
    }
}

fn digest(content: &str) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
