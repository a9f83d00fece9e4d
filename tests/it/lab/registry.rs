//! A container registry over HTTP with one image in it, behind a door: Basic, or a token realm
//! beside it as the distribution project describes it. It knows nothing of where passwords come
//! from; a closure says which are good.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::json;
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
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
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

fn content(request: &Request) -> Answer {
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(b"layer")]},
        "history": [{"created_by": "the laboratory"}],
    })
    .to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": config.len(), "digest": digest(config.as_bytes()),
        },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "size": 5, "digest": digest(b"layer"),
        }],
    })
    .to_string();
    let chart_config = json!({"apiVersion": "v2", "name": "image", "version": CHART}).to_string();
    let chart = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.cncf.helm.config.v1+json",
            "size": chart_config.len(), "digest": digest(chart_config.as_bytes()),
        },
        "layers": [{
            "mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            "size": 5, "digest": digest(b"layer"),
        }],
    })
    .to_string();
    let of_chart = digest(chart.as_bytes());
    let below = request.path.strip_prefix(&format!("/v2/{IMAGE}/")).unwrap_or_default();
    let blob = |content: &str| {
        Answer::typed(200, "application/octet-stream", content)
            .with_header("Docker-Content-Digest", &digest(content.as_bytes()))
    };
    let of_manifest = digest(manifest.as_bytes());
    match below {
        "" if request.path == "/v2/" => Answer::json(200, &json!({}))
            .with_header("Docker-Distribution-Api-Version", "registry/2.0"),
        "tags/list" => Answer::json(200, &json!({"name": IMAGE, "tags": ["latest", CHART]})),
        _ if below == format!("manifests/{CHART}") || below == format!("manifests/{of_chart}") => {
            Answer::typed(200, OCI_MANIFEST, &chart).with_header("Docker-Content-Digest", &of_chart)
        }
        _ if below == format!("blobs/{}", digest(chart_config.as_bytes())) => blob(&chart_config),
        _ if below == "manifests/latest" || below == format!("manifests/{of_manifest}") => {
            Answer::typed(200, MANIFEST, &manifest)
                .with_header("Docker-Content-Digest", &of_manifest)
        }
        _ if below == format!("blobs/{}", digest(config.as_bytes())) => blob(&config),
        _ if below == format!("blobs/{}", digest(b"layer")) => blob("layer"),
        _ => Answer::json(404, &json!({"errors": [{"code": "NOT_FOUND"}]})),
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
