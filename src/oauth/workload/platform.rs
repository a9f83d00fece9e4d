//! Where the identity token of a job comes from, platform by platform (oauth.md 2.1). Each says
//! what its job lacks, because that is what goes wrong in a new pipeline.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::super::answer::cut;
use super::super::http::{Answer, Method, Special};
use super::{Chosen, Vouched};
use crate::environment::Environment;
use crate::error::{Error, Kind};
use crate::model::{Document, Secret, foreign_text};
use crate::oauth::{Failure, Oauth};
use crate::profile::is_safe;
use crate::profile::workload::{IdentitySource, Platform, Workload};
use crate::program;

/// Bytes of a token; the largest that a platform gives has a tenth of it.
const LONGEST: u64 = 64 << 10;

/// How long a program may take to print a token.
const PATIENCE: Duration = Duration::from_secs(30);

/// How each platform shows itself, in the order in which they are looked for. Those that run
/// inside others come last: a runner in a cluster has token files too.
const SIGNS: [(Platform, &str); 8] = [
    (Platform::GithubActions, "GITHUB_ACTIONS"),
    (Platform::Gitlab, "GITLAB_CI"),
    (Platform::Circleci, "CIRCLECI"),
    (Platform::Buildkite, "BUILDKITE"),
    (Platform::AzurePipelines, "SYSTEM_OIDCREQUESTURI"),
    (Platform::Bitbucket, "BITBUCKET_STEP_OIDC_TOKEN"),
    (Platform::Kubernetes, "AWS_WEB_IDENTITY_TOKEN_FILE"),
    (Platform::Kubernetes, "AZURE_FEDERATED_TOKEN_FILE"),
];

pub(super) fn vouch(
    oauth: &Oauth<'_>,
    workload: &Workload,
    audience: &str,
) -> Result<Vouched, Failure> {
    let environment = oauth.environment;
    let mut chosen = Chosen::User;
    let (text, source) = match &workload.source {
        IdentitySource::Env(name) => {
            let missing = || lacks(format!("{name} is not set"), "the job must set it");
            let text = environment.get(name).ok_or_else(missing)?;
            (text.to_owned(), format!("env {name}"))
        }
        IdentitySource::File(path) => (read_file(path)?, format!("file {}", path.display())),
        IdentitySource::Command(words) => {
            (run(oauth, words)?, format!("command {}", words.first().map_or("", String::as_str)))
        }
        IdentitySource::Platform(platform) => {
            chosen = chosen_by(*platform, workload);
            of(oauth, *platform, workload, audience)?
        }
        IdentitySource::Auto => {
            let shows = |(_, sign): &&(Platform, &str)| environment.raw(sign).is_some();
            let Some((platform, _)) = SIGNS.iter().find(shows) else {
                return Err(lacks(
                    "no platform is here that vouches for this job".to_owned(),
                    "set source, token_env, token_file or command in the profile's [workload]",
                ));
            };
            chosen = chosen_by(*platform, workload);
            of(oauth, *platform, workload, audience)?
        }
    };
    let text = Zeroizing::new(text);
    let token = Secret::given(&text);
    if !token.is_word() {
        let what = format!("what {source} gives is no token");
        return Err(Failure::Other(Error::new(Kind::Configuration, what)));
    }
    Ok(Vouched { token, source, chosen })
}

/// Whether a platform was asked for an audience of our choice.
fn chosen_by(platform: Platform, workload: &Workload) -> Chosen {
    match platform {
        Platform::GithubActions | Platform::Buildkite | Platform::Gce => Chosen::Us,
        Platform::Circleci if workload.audience.is_some() => Chosen::Us,
        Platform::Gitlab
        | Platform::Circleci
        | Platform::AzurePipelines
        | Platform::Bitbucket
        | Platform::Kubernetes => Chosen::Platform,
    }
}

fn of(
    oauth: &Oauth<'_>,
    platform: Platform,
    workload: &Workload,
    audience: &str,
) -> Result<(String, String), Failure> {
    let environment = oauth.environment;
    let (text, source) = match platform {
        Platform::GithubActions => (github(oauth, audience)?, "github-actions"),
        Platform::Gitlab => (gitlab(environment, audience)?, "gitlab"),
        Platform::Circleci => (circleci(oauth, workload)?, "circleci"),
        Platform::Buildkite => {
            let words = ["buildkite-agent", "oidc", "request-token", "--audience", audience];
            (run(oauth, &words)?, "buildkite")
        }
        Platform::AzurePipelines => (azure(oauth, workload)?, "azure-pipelines"),
        Platform::Bitbucket => {
            let name = "BITBUCKET_STEP_OIDC_TOKEN";
            let missing =
                || lacks(format!("{name} is not set"), "the step needs the line oidc: true");
            (environment.get(name).ok_or_else(missing)?.to_owned(), "bitbucket")
        }
        Platform::Kubernetes => {
            let names = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AZURE_FEDERATED_TOKEN_FILE"];
            let path = names.into_iter().find_map(|name| environment.raw(name));
            let missing = || {
                let what = "no variable names the token file of this pod".to_owned();
                lacks(what, "set token_file in the profile's [workload]")
            };
            (read_file(Path::new(path.ok_or_else(missing)?))?, "kubernetes")
        }
        Platform::Gce => (gce(oauth, audience)?, "gce"),
    };
    Ok((text, source.to_owned()))
}

fn lacks(what: String, hint: &str) -> Failure {
    Failure::Other(Error::new(Kind::Configuration, what).hint(hint))
}

/// The URL has a query of its own already.
fn github(oauth: &Oauth<'_>, audience: &str) -> Result<String, Failure> {
    let environment = oauth.environment;
    let url = environment.get("ACTIONS_ID_TOKEN_REQUEST_URL");
    let bearer = environment.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN");
    let (Some(url), Some(bearer)) = (url, bearer) else {
        return Err(match is_fork(environment) {
            true => lacks(
                "GitHub gives no identity token to a pull request from a fork".to_owned(),
                "run the job on push, or after the merge",
            ),
            false => lacks(
                "GitHub gives this job no identity token".to_owned(),
                "the job lacks a permission: permissions: { id-token: write }",
            ),
        });
    };
    let mut url = variable_url("ACTIONS_ID_TOKEN_REQUEST_URL", url)?;
    url.query_pairs_mut().append_pair("audience", audience);
    let bearer = Secret::new(bearer);
    let special = Special { bearer: Some(&bearer), ..Special::default() };
    let answer = oauth.http.special(Method::GET, &url, &special)?;
    member(&answer, "value", "github-actions")
}

/// GitHub says so in the file that describes the event.
fn is_fork(environment: &Environment) -> bool {
    let event = environment.get("GITHUB_EVENT_NAME").unwrap_or_default();
    let Some(path) = environment.raw("GITHUB_EVENT_PATH") else { return false };
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(8 << 20).read_to_end(&mut text));
    let document = read.ok().and_then(|_| Document::parse(&text).ok()).unwrap_or_default();
    event.starts_with("pull_request")
        && document.at("/pull_request/head/repo/fork") == Some(&Value::Bool(true))
}

/// The job chooses the variable's name; most name it after the audience.
fn gitlab(environment: &Environment, audience: &str) -> Result<String, Failure> {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let name: String = audience.to_ascii_uppercase().chars().map(plain).collect();
    let name = format!("{name}_ID_TOKEN");
    let missing = || {
        let hint = format!(
            "the job needs id_tokens: {{ {name}: {{ aud: {audience} }} }}; another name goes into \
             token_env of the profile's [workload]"
        );
        lacks(format!("{name} is not set"), &hint)
    };
    environment.get(&name).map(str::to_owned).ok_or_else(missing)
}

/// Only its program gives a token for an audience of our choice.
fn circleci(oauth: &Oauth<'_>, workload: &Workload) -> Result<String, Failure> {
    if let Some(audience) = &workload.audience {
        let claims = serde_json::json!({ "aud": audience }).to_string();
        return run(oauth, &["circleci", "run", "oidc", "get", "--claims", &claims]);
    }
    let names = ["CIRCLE_OIDC_TOKEN_V2", "CIRCLE_OIDC_TOKEN"];
    let token = names.into_iter().find_map(|name| oauth.environment.get(name));
    let missing = || {
        let what = "CircleCI gives this job no identity token".to_owned();
        lacks(what, "the job needs a context, and a fork the permission of its project")
    };
    token.map(str::to_owned).ok_or_else(missing)
}

fn azure(oauth: &Oauth<'_>, workload: &Workload) -> Result<String, Failure> {
    let environment = oauth.environment;
    let Some(url) = environment.get("SYSTEM_OIDCREQUESTURI") else {
        let what = "SYSTEM_OIDCREQUESTURI is not set".to_owned();
        return Err(lacks(what, "azure-pipelines sets it in every job"));
    };
    let Some(bearer) = environment.get("SYSTEM_ACCESSTOKEN") else {
        let what = "SYSTEM_ACCESSTOKEN is not set".to_owned();
        return Err(lacks(
            what,
            "the step needs env: { SYSTEM_ACCESSTOKEN: $(System.AccessToken) }",
        ));
    };
    let connection = workload.service_connection.as_deref();
    let connection =
        connection.or_else(|| environment.get("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID"));
    let Some(connection) = connection else {
        let what = "azure-pipelines gives an identity token for a service connection".to_owned();
        return Err(lacks(what, "set service_connection in the profile's [workload]"));
    };
    let mut url = variable_url("SYSTEM_OIDCREQUESTURI", url)?;
    url.query_pairs_mut()
        .append_pair("api-version", "7.1")
        .append_pair("serviceConnectionId", connection);
    let bearer = Secret::new(bearer);
    let special = Special {
        // Without it a missing right is answered with a page to sign in on.
        headers: &[("X-TFS-FedAuthRedirect", "Suppress")],
        bearer: Some(&bearer),
        body: Some(Value::Object(serde_json::Map::new())),
        secret: None,
    };
    let answer = oauth.http.special(Method::POST, &url, &special)?;
    member(&answer, "oidcToken", "azure-pipelines")
}

fn gce(oauth: &Oauth<'_>, audience: &str) -> Result<String, Failure> {
    let host = oauth.environment.get("GCE_METADATA_HOST").unwrap_or("metadata.google.internal");
    let path = "computeMetadata/v1/instance/service-accounts/default/identity";
    let wrong = |_| lacks("GCE_METADATA_HOST is no host".to_owned(), "leave it unset");
    let mut url: Url = format!("http://{host}/{path}").parse().map_err(wrong)?;
    url.query_pairs_mut().append_pair("audience", audience).append_pair("format", "full");
    let answer = oauth.http.metadata(&url)?;
    match answer.status {
        200 => Ok(foreign_text(&answer.body).into_owned()),
        _ => Err(refused(&answer, "gce")),
    }
}

/// A URL that the platform put into a variable: our token goes there.
fn variable_url(name: &str, text: &str) -> Result<Url, Failure> {
    match text.parse::<Url>() {
        Ok(url) if is_safe(&url) => Ok(url),
        _ => {
            let what = format!("{name} is neither https nor on this machine");
            Err(Failure::Other(Error::new(Kind::Configuration, what)))
        }
    }
}

fn member(answer: &Answer, name: &str, source: &str) -> Result<String, Failure> {
    if answer.status != 200 {
        return Err(refused(answer, source));
    }
    let lacks = match Document::parse(&answer.body) {
        Ok(document) => match document.text(name) {
            Some(token) => return Ok(token.to_owned()),
            None => document.lacks(name),
        },
        Err(why) => why.to_string(),
    };
    let what = format!("{source} gives no identity token, it answered 200: {lacks}");
    Err(Failure::Other(Error::new(Kind::Rejected, what)))
}

fn refused(answer: &Answer, source: &str) -> Failure {
    if matches!(answer.status, 408 | 429 | 500..) {
        return answer.transient();
    }
    let document = Document::parse(&answer.body).unwrap_or_default();
    let said = document.text("message");
    let said = said.map(|text| format!(": {}", cut(&answer.without_secrets(text))));
    let what = format!(
        "{source} gives no identity token, it answered {}{}",
        answer.status,
        said.unwrap_or_default()
    );
    Failure::Other(Error::new(Kind::Rejected, what))
}

/// Read every time: whoever wrote it writes a new one before the old one ends.
fn read_file(path: &Path) -> Result<String, Failure> {
    let cannot = |error: std::io::Error| {
        let what = format!("the token file {} cannot be read", path.display());
        Failure::Other(Error::new(Kind::Configuration, what).because(error))
    };
    let mut text = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(cannot)?;
    file.take(LONGEST).read_to_end(&mut text).map_err(cannot)?;
    Ok(foreign_text(&text).into_owned())
}

/// What a program prints. It is found on PATH unless its path is given.
fn run<W: AsRef<str>>(oauth: &Oauth<'_>, words: &[W]) -> Result<String, Failure> {
    let [name, arguments @ ..] = words else { return Ok(String::new()) };
    let name = name.as_ref();
    let found = match Path::new(name).is_absolute() {
        true => Some(name.into()),
        false => program::find(name, oauth.environment),
    };
    let Some(path) = found else {
        return Err(lacks(format!("{name} is not on PATH"), "it gives the identity token here"));
    };
    let arguments: Vec<&OsStr> = arguments.iter().map(|word| OsStr::new(word.as_ref())).collect();
    let (environment, hidden) = (oauth.environment, oauth.hidden);
    let finished = program::run(path.as_os_str(), &arguments, b"", environment, hidden, PATIENCE);
    let failed = || Error::new(Kind::Failed, format!("{name} gives no identity token"));
    match finished {
        Ok(finished) if finished.success && finished.output.len() as u64 <= LONGEST => {
            Ok(foreign_text(&finished.output).into_owned())
        }
        Ok(_) => Err(Failure::Other(failed().hint("run it by hand: it says why"))),
        Err(error) => Err(Failure::Other(failed().because(error))),
    }
}
