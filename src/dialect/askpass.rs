//! `GIT_ASKPASS`, `core.askPass`, `SSH_ASKPASS`: a question in words as the only argument, one line
//! as the answer. Rules A1 to A8 of protocol.md. For where no git helper can be configured.

use zeroize::Zeroizing;

use super::{Call, Dialect, Served, is_one_line};
use crate::error::Result;
use crate::model::{Caller, Form, Outcome, Request, Resource, Split};

pub const DIALECT: Dialect = Dialect {
    name: "askpass",
    link: Some("askpass-valetkey"),
    usage: "PROMPT",
    about: "what GIT_ASKPASS and core.askPass name: answers a question of git",
    serve,
};

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Username,
    Password,
}

/// Whatever is no answer ends with status 1, and git goes on as without us.
fn serve(call: &mut Call<'_>) -> Result<Served> {
    let asked = match call.arguments {
        [prompt] => read(prompt),
        _ => None,
    };
    let Some((wanted, resource)) = asked else { return Ok(nothing()) };
    let account = resource.account.clone();
    let request = Request::get(resource, Caller::Git, 0);
    match (call.ask)(&request) {
        Outcome::Found(credential) => {
            let username = match credential.username.as_str() {
                "" => account.as_deref().unwrap_or("oauth2"),
                username => username,
            };
            let answer = match wanted {
                Wanted::Username => username,
                Wanted::Password => credential.secret.expose(),
            };
            if matches!(credential.form, Form::Encoded(_)) || !is_one_line(answer) {
                return Ok(nothing());
            }
            call.wire.send(Zeroizing::new(format!("{answer}\n")).as_bytes())?;
            Ok(Served::default())
        }
        Outcome::NotFound(why) | Outcome::Failed(why) => Ok(Served { why: Some(why), ..nothing() }),
        Outcome::NotMine | Outcome::Done | Outcome::Listed(_) => Ok(nothing()),
    }
}

fn nothing() -> Served {
    Served { status: 1, why: None }
}

/// git puts the URL between single quotes, git-lfs between double ones and without a colon.
fn read(prompt: &str) -> Option<(Wanted, Resource)> {
    let (wanted, rest) = match prompt.split_once(" for ")? {
        ("Username", rest) => (Wanted::Username, rest),
        ("Password", rest) => (Wanted::Password, rest),
        _ => return None,
    };
    let rest = rest.trim_end().trim_end_matches(':');
    let quoted = |quote| rest.strip_prefix(quote)?.strip_suffix(quote);
    let url = quoted('\'').or_else(|| quoted('"'))?;
    let split = Split::new(url).ok()?;
    // Before CVE-2024-50349 git wrote the user name as it is, so one that holds a slash makes the
    // host look like a path. git now encodes these three wherever they stand.
    let open = split.rest.contains(['@', '?', '#']);
    let resource = Resource::parse(url).ok().filter(|_| !open && split.scheme.is_some())?;
    matches!(resource.protocol.as_str(), "http" | "https").then_some((wanted, resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_questions_of_git_are_understood_and_no_others() {
        let asked = |prompt: &str| {
            let (wanted, resource) = read(prompt)?;
            Some((wanted == Wanted::Password, resource.to_string(), resource.account))
        };
        let url = "https://git.example:8443/team/s.git".to_owned();
        let (none, host) = (None, "https://git.example".to_owned());
        for (prompt, wanted) in [
            ("Username for 'https://git.example': ", (false, host.clone(), none.clone())),
            ("Username for \"https://git.example\"", (false, host.clone(), none)),
            (
                "Password for 'https://a%40b+c@git.example': ",
                (true, host, Some("a@b+c".to_owned())),
            ),
            (
                "Password for 'https://me@git.example:8443/team/s.git': ",
                (true, url, Some("me".to_owned())),
            ),
        ] {
            assert_eq!(asked(prompt), Some(wanted), "{prompt}");
        }
        for prompt in [
            "",
            "Username for",
            "Username for ''",
            "Password for 'git.example'",
            "Password for 'ssh://git.example'",
            "Password for 'https://git.example",
            "Password for 'https://u:p@git.example': ",
            "Password for 'https://a%0ab@git.example': ",
            "Password for 'https://git.example' on 'https://evil.example': ",
            "Password for 'https://x@git.example/@evil.example': ",
            "Password for 'https://git.example/x@evil.example': ",
            "Password for 'https://git.example?@evil.example': ",
            "Password for 'https://git.example?x': ",
            "Password for 'https://git.example#@evil.example': ",
            "Password for 'https://git.example\\@evil.example': ",
            "me@git.example's password: ",
            "Enter passphrase for key '/home/me/.ssh/id_ed25519': ",
            "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
        ] {
            assert_eq!(asked(prompt), None, "{prompt}");
        }
    }
}
