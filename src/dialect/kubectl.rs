//! client-go's exec credential plugin (client.authentication.k8s.io, v1 and v1beta1), which
//! kubectl, helm, k9s and every other program built on client-go speak. Rules K1 to K16 of
//! protocol.md.

use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Call, Dialect, Served, unmarked};
use crate::error::{Error, Kind, Result};
use crate::model::{
    self, Caller, Credential, Form, Issuer, Offer, Outcome, Request, Resource, TokenKind, timestamp,
};

pub const DIALECT: Dialect = Dialect {
    name: "kubectl",
    link: None,
    usage: "[URL]",
    about: "client-go's exec credential plugin, which kubectl starts",
    serve,
};

/// Where the question is: there is nothing on standard input.
const QUESTION: &str = "KUBERNETES_EXEC_INFO";

const VERSIONS: &[&str] =
    &["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// Seconds before its expiry at which the caller is to ask again.
const EARLY: u64 = 60;

/// What is read of the question, each member by itself: programs write `null` for what they do not
/// say, `kind` included.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    api_version: Option<Value>,
    kind: Option<Value>,
    spec: Option<Spec>,
}

#[derive(Default, Deserialize)]
struct Spec {
    interactive: Option<Value>,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
struct Cluster {
    server: Option<Value>,
    config: Option<Value>,
}

/// The question, understood.
struct Question {
    version: &'static str,
    interactive: bool,
    cluster: Option<Cluster>,
}

impl Cluster {
    fn server(&self) -> Option<&str> {
        self.server.as_ref().and_then(Value::as_str)
    }
}

/// What a cluster's extension `client.authentication.k8s.io/exec` in the kubeconfig can tell us.
/// Other plugins may keep members of their own in it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Extension {
    issuer: Option<String>,
    client_id: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    token: Option<TokenKind>,
}

fn serve(call: &mut Call<'_>) -> Result<Served> {
    let asked = read(call)?;
    let resource = resource(call.arguments, asked.cluster.as_ref())?;
    let caller = match asked.interactive {
        true => Caller::Patient,
        // kubectl in a script, an editor or a dashboard: only a screen of the person's own counts.
        false => Caller::Hidden,
    };
    let request = Request::get(resource, caller, 0);
    match (call.ask)(&request) {
        Outcome::Found(credential) => {
            let Some(answer) = answer(asked.version, &credential) else {
                let what = format!("what is stored for {} is no bearer token", request.resource);
                return Err(Error::new(Kind::Configuration, what));
            };
            call.wire.send(answer.as_bytes())?;
            Ok(Served::default())
        }
        Outcome::Failed(error) => Err(error),
        Outcome::NotFound(why) => Ok(Served::nothing(Some(why))),
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => {
            let what = format!("no profile serves {}", request.resource);
            Ok(Served::nothing(Some(Error::new(Kind::NotSignedIn, what).hint(
                "add a [profile] with this origin to config.toml, or issuer and client-id to the \
                 cluster's extension client.authentication.k8s.io/exec",
            ))))
        }
    }
}

fn read(call: &Call<'_>) -> Result<Question> {
    let refused = |what: &str| Error::new(Kind::Usage, what).hint("valetkey setup kubectl");
    let question =
        call.environment.get(QUESTION).ok_or_else(|| refused(&format!("{QUESTION} is not set")))?;
    let Ok(asked) = serde_json::from_slice::<Asked>(unmarked(question.as_bytes())) else {
        return Err(refused(&format!("{QUESTION} cannot be understood")));
    };
    let wrong = |what: &str| refused(&format!("{QUESTION} cannot be understood: {what}"));
    if let Some(kind) = &asked.kind
        && kind != "ExecCredential"
    {
        return Err(refused(&format!("{QUESTION} is no ExecCredential: its kind is {kind}")));
    }
    let version = match &asked.api_version {
        None => return Err(wrong("its apiVersion is null")),
        Some(version) => VERSIONS.iter().find(|known| version == *known).ok_or_else(|| {
            refused("only client.authentication.k8s.io/v1 and v1beta1 are spoken here")
        })?,
    };
    let Spec { interactive, cluster } = asked.spec.unwrap_or_default();
    let interactive = match interactive {
        None => false,
        Some(Value::Bool(interactive)) => interactive,
        Some(_) => return Err(wrong("spec.interactive is neither true nor false")),
    };
    Ok(Question { version, interactive, cluster })
}

/// What the kubeconfig's `args` say, else the cluster that the caller is about to talk to.
fn resource(arguments: &[String], cluster: Option<&Cluster>) -> Result<Resource> {
    let server = cluster.map(server);
    match arguments {
        [url] => {
            let mut resource = Resource::parse(url)?;
            // What a cluster says counts for that cluster.
            if let (Some(Ok(server)), Some(cluster)) = (server, cluster)
                && server == resource
            {
                resource.offer = offer(cluster)?;
            }
            Ok(resource)
        }
        [] => match (server, cluster) {
            (Some(server), Some(cluster)) => {
                Ok(Resource { offer: offer(cluster)?, ..server? })
            }
            _ => Err(Error::new(Kind::Usage, "the request names no cluster").hint(
                "set provideClusterInfo: true in the kubeconfig, or put the cluster's URL into args",
            )),
        },
        _ => Err(Error::new(Kind::Usage, "more than one URL is given")
            .hint("valetkey kubectl [URL]")),
    }
}

/// A server without a scheme is plain HTTP to client-go where the cluster has no certificates.
fn server(cluster: &Cluster) -> Result<Resource> {
    let Some(server) = cluster.server() else {
        let what = "the request names no cluster: spec.cluster.server is null, or no text";
        return Err(Error::new(Kind::Usage, what).hint("put the cluster's URL into args"));
    };
    let resource = Resource::parse(server)?;
    match server.contains("://") {
        true => Ok(resource),
        false => Err(Error::new(Kind::Usage, "the cluster's server has no scheme")
            .hint("write https:// before it in the kubeconfig")),
    }
}

/// The issuer that the kubeconfig names for this cluster. Its author can as well write a `command`
/// that does whatever they like, so naming an issuer gives nobody a new power; and the token that
/// comes of it goes to this cluster and nowhere else.
fn offer(cluster: &Cluster) -> Result<Option<Offer>> {
    let Some(config) = cluster.config.as_ref().filter(|config| config.is_object()) else {
        return Ok(None);
    };
    let wrong = |what: &str| {
        let server = cluster.server().unwrap_or_default();
        let what = format!("the exec extension of {server} {what}");
        Error::new(Kind::Configuration, what)
    };
    let extension =
        Extension::deserialize(config).map_err(|_| wrong("holds what cannot be understood"))?;
    let Extension { issuer, client_id, mut scopes, token } = extension;
    let (url, client_id) = match (issuer, client_id) {
        (Some(issuer), Some(client_id)) => (issuer, client_id),
        (None, None) => return Ok(None),
        _ => return Err(wrong("needs both issuer and client-id")),
    };
    let token = token.unwrap_or(TokenKind::Id);
    if token == TokenKind::Id && !scopes.iter().any(|scope| scope == "openid") {
        scopes.insert(0, "openid".to_owned());
    }
    Ok(Some(Offer::Issuer(Issuer { url, client_id, scopes, token })))
}

/// `None`: not a token that an API server would take.
fn answer(version: &str, credential: &Credential) -> Option<Zeroizing<String>> {
    let bearer = match &credential.form {
        Form::Token(_) | Form::Password => true,
        Form::Encoded(authtype) => authtype.eq_ignore_ascii_case("bearer"),
    };
    let mut status = json!({ "token": credential.secret.expose() });
    if let Some(expires) = credential.expires {
        status["expirationTimestamp"] =
            timestamp::rfc3339(timestamp::before(expires, EARLY)).into();
    }
    let answer = json!({ "kind": "ExecCredential", "apiVersion": version, "status": status });
    bearer.then(|| Zeroizing::new(format!("{}\n", *model::json(&answer))))
}
