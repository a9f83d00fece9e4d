//! One token, header or JSON object on standard output, for every tool that runs a command to get
//! one: pnpm's tokenHelper, `cargo:token-from-stdout`, rclone, mail clients, curl, apiKeyHelper,
//! MCP headersHelper. Rules T1 to T11 of protocol.md. Nothing here ever signs in: whoever waits for
//! a line does not wait for a person.

use zeroize::Zeroizing;

use super::{Call, Dialect, Served, is_one_line};
use crate::error::{Error, Kind, Result};
use crate::model::{self, Caller, Credential, Outcome, Request, Resource, Sent};

pub const TOKEN: Dialect = Dialect {
    name: "token",
    link: None,
    usage: "[URL]",
    about: "One valid token for a URL on standard output; never signs in",
    serve: |call| {
        let resource = resource(call.arguments, call, "token", CARGO)?;
        serve(call, resource, &[], token)
    },
};

pub const HEADER: Dialect = Dialect {
    name: "header",
    link: None,
    usage: "[--set FIELD=VALUE]... [URL]",
    about: "The headers that present a valid token for a URL; never signs in",
    serve: |call| {
        let (set, rest) = settings(call.arguments)?;
        let resource = headers_for(rest, call, "header")?;
        serve(call, resource, &set, header)
    },
};

pub const JSON: Dialect = Dialect {
    name: "json",
    link: None,
    usage: "[--set FIELD=VALUE]... [URL]",
    about: "The headers that present a valid token for a URL, as JSON; never signs in",
    serve: |call| {
        let (set, rest) = settings(call.arguments)?;
        let resource = headers_for(rest, call, "json")?;
        serve(call, resource, &set, json)
    },
};

/// Where cargo says which index the token is for.
const CARGO: &str = "CARGO_REGISTRY_INDEX_URL";

/// Where MCP clients say which server the headers are for.
const SERVER: &str = "CLAUDE_CODE_MCP_SERVER_URL";

/// Seconds: none of these answers says when it ends.
const LIFETIME: u64 = 60;

/// A field of the profile and the value that it has for this call only.
type Setting<'a> = (&'a str, &'a str);

/// The `--set FIELD=VALUE` at the beginning, and what follows them.
fn settings(arguments: &[String]) -> Result<(Vec<Setting<'_>>, &[String])> {
    let (mut set, mut rest) = (Vec::new(), arguments);
    while let [option, more @ ..] = rest
        && option == "--set"
    {
        let said = more.first().and_then(|said| said.split_once('='));
        let Some(said) = said.filter(|(_, value)| Sent::takes(value)) else {
            let what = "--set wants FIELD=VALUE, and a value that a header takes";
            return Err(Error::new(Kind::Usage, what));
        };
        set.push(said);
        rest = &more[1..];
    }
    Ok((set, rest))
}

/// What the caller wants a token for: its only argument, else the variable that its tool sets.
fn resource(arguments: &[String], call: &Call<'_>, name: &str, variable: &str) -> Result<Resource> {
    let usage = |what: &str| {
        let hint = format!("valetkey {name} URL; without a URL, {variable} names it");
        Error::new(Kind::Usage, what).hint(hint)
    };
    let url = match arguments {
        [url] if !url.is_empty() => url.as_str(),
        [] | [_] => call.environment.text(variable)?.ok_or_else(|| usage("no URL is given"))?,
        _ => return Err(usage("more than one URL is given")),
    };
    named(url)
}

/// What a URL names: cargo writes its index protocol before it.
fn named(url: &str) -> Result<Resource> {
    Resource::parse(url.strip_prefix("sparse+").unwrap_or(url))
}

/// As `resource`. The tool sends the headers to the server that it names, whatever the command
/// says; and the command may come from a project's file.
fn headers_for(arguments: &[String], call: &Call<'_>, name: &str) -> Result<Resource> {
    let resource = resource(arguments, call, name, SERVER)?;
    if let Some(server) = call.environment.text(SERVER)? {
        let server = named(server)?;
        if server.origin() != resource.origin() {
            let what = format!("the headers are for {server}, not for {resource}");
            let hint = "name the server itself, and list its origin in the profile";
            return Err(Error::new(Kind::Usage, what).hint(hint));
        }
    }
    Ok(resource)
}

fn serve(
    call: &mut Call<'_>,
    resource: Resource,
    set: &[Setting<'_>],
    write: fn(&Credential) -> Option<Zeroizing<String>>,
) -> Result<Served> {
    // Claude Code gives its headersHelper ten seconds.
    let caller = match call.environment.get(SERVER) {
        Some(_) => Caller::Brief,
        None => Caller::Hasty,
    };
    let request = Request::get(resource, caller, LIFETIME);
    let nothing = |kind, what: String, hint: &str| {
        Ok(Served::nothing(Some(Error::new(kind, what).hint(hint))))
    };
    match (call.ask)(&request) {
        Outcome::Found(mut credential) => match write(said(&mut credential, set)?) {
            Some(line) => {
                mask(call, &credential, &line);
                call.wire.send(line.as_bytes())?;
                Ok(Served::default())
            }
            None => nothing(
                Kind::Failed,
                format!("what is stored for {} does not fit in one line", request.resource),
                "only docker can use it",
            ),
        },
        Outcome::Failed(error) => Err(error),
        Outcome::NotFound(why) => Ok(Served::nothing(Some(why))),
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => nothing(
            Kind::NotSignedIn,
            format!("nothing is stored for {}", request.resource),
            "add a [profile] with this origin to config.toml, then valetkey login",
        ),
    }
}

/// A script may print the answer: what stands in it, and nothing else, is hidden first.
fn mask(call: &Call<'_>, credential: &Credential, line: &str) {
    let (_, value) = credential.header();
    let proof = value.expose().rsplit(' ').next().unwrap_or_default();
    let all = [credential.secret.expose(), proof];
    all.into_iter().find(|secret| line.contains(secret)).into_iter().for_each(call.mask);
}

/// The credential with what the caller says about its fields.
fn said<'c>(credential: &'c mut Credential, set: &[Setting<'_>]) -> Result<&'c Credential> {
    for (name, value) in set {
        let Some(field) = credential.fields.iter_mut().find(|field| field.name == *name) else {
            let what = format!("the profile has no field called {name}");
            return Err(Error::new(Kind::Usage, what));
        };
        field.value = Some((*value).to_owned());
    }
    Ok(credential)
}

fn token(credential: &Credential) -> Option<Zeroizing<String>> {
    let token = credential.secret.expose();
    is_one_line(token).then(|| Zeroizing::new(format!("{token}\n")))
}

/// `Name: value`, as curl's `-H @-` reads it, and a line for each field that the host wants.
fn header(credential: &Credential) -> Option<Zeroizing<String>> {
    let (name, value) = credential.header();
    let value = value.expose();
    let mut lines = Zeroizing::new(format!("{name}: {value}\n"));
    for (name, value) in credential.more_headers() {
        lines.push_str(&format!("{name}: {value}\n"));
    }
    is_one_line(value).then_some(lines)
}

/// An object of header names and values.
fn json(credential: &Credential) -> Option<Zeroizing<String>> {
    let (name, value) = credential.header();
    let mut object = serde_json::json!({ name: value.expose() });
    for (name, value) in credential.more_headers() {
        object[name] = value.into();
    }
    is_one_line(value.expose()).then(|| Zeroizing::new(format!("{}\n", *model::json(&object))))
}
