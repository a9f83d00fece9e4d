//! `valetkey aws`, what AWS's `credential_process` runs: the keys of a role for the identity of a
//! job, or for the session of a person. moto and AWS's own command line are in `peers::aws`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::lab::job::{claim, keys};
use crate::lab::{
    Answer, Authority, Browser, CLIENT_ID, Finished, Job, Person, Reply, Request, Sandbox, Server,
};
use crate::scene::{age, program};

const ROLE: &str = "arn:aws:iam::123456789012:role/deploy";

/// A job that may assume a role.
fn job(more: &str) -> Job {
    let job = Job::new(program());
    job.sandbox.config(&format!(
        "[profile.aws]\norigins = [{{ url = \"{}\", exchange = \"aws-sts\", role = \"{ROLE}\" }}]\n\
         flow = \"workload\"\n{more}\n[profile.aws.workload]\nexchange = \"none\"\n",
        job.origin()
    ));
    job
}

fn aws(job: &Job) -> Finished {
    job.sandbox.valetkey(&["aws", &job.origin()]).run()
}

/// AW3: the answer to the byte, and the request to the last field.
#[test]
fn a_job_gets_the_keys_of_a_role() {
    let job = job("");
    let finished = aws(&job);
    finished.assert_status(0).assert_stdout(
        "{\"Version\":1,\"AccessKeyId\":\"ASIALAB\",\"SecretAccessKey\":\
         \"secret/issued-1-for-id-1\",\"SessionToken\":\"session+issued-1-for-id-1==\",\
         \"Expiration\":\"2033-05-18T03:33:20Z\"}\n",
    );
    assert_eq!(finished.stderr_text(), "", "AWS's tools quote it");
    let asked = job.asked("/");
    let form = asked[0].request.form();
    let names: Vec<&str> = form.iter().map(|(name, _)| name.as_str()).collect();
    let wanted = ["Action", "Version", "RoleArn", "RoleSessionName", "WebIdentityToken"];
    assert_eq!(names, wanted);
    assert_eq!(form[1].1, "2011-06-15");
    assert_eq!(form[2].1, ROLE);
    assert_eq!(claim(&form[4].1, "aud").as_deref(), Some("sts.amazonaws.com"));
    assert_eq!(asked[0].request.header("Accept"), Some("text/xml"));
    for secret in ["issued-1-for-id-1", &form[4].1] {
        assert!(job.sandbox.files_with(secret.as_bytes()).is_empty(), "{secret} is kept");
    }
}

/// AW6: whatever goes wrong is one error on standard error, exit status 1, and no key.
#[test]
fn failures_are_told_on_standard_error() {
    let job = job("");
    let refused = "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>No \u{1b}[31m\
                   OpenIDConnect provider</Message></Error></ErrorResponse>";
    job.next("/", Answer::typed(400, "text/xml", refused));
    let finished = aws(&job);
    finished.assert_status(1).assert_stdout("");
    finished.assert_stderr_has(
        "InvalidIdentityToken (No [31mOpenIDConnect provider)\nhint: compare the trust policy",
    );
    finished.assert_stderr_has("aud=sts.amazonaws.com");
    for body in [
        keys("a").replace("ASIALAB", ""),
        keys("a&amp;b"),
        keys("a\nb"),
        keys("a").replace("Expiration", "Ende"),
        "<html>".to_owned(),
        String::new(),
    ] {
        job.next("/", Answer::typed(200, "text/xml", &body));
        aws(&job).assert_status(1).assert_stdout("");
    }
    for reply in [Reply::Endless, Reply::Close, Reply::Answer(Answer::empty(503))] {
        job.next("/", reply);
        aws(&job).assert_status(1).assert_stdout("").assert_stderr_has("error: ");
    }
    let thief = Server::start(|_| Answer::typed(200, "text/xml", &keys("thief")).into());
    job.next("/", Answer::redirect(&thief.origin()));
    aws(&job).assert_status(1).assert_stdout("");
    assert!(thief.journal().snapshot().is_empty());
    for words in [vec!["aws"], vec!["aws", "a", "b"], vec!["aws", "https://nobody.example"]] {
        job.sandbox.valetkey(&words).run().assert_status(1).assert_stdout("");
    }
    assert_eq!(aws(&job).status, 0);
}

/// Roles of one service are told apart by a path, and what is kept stays apart as well.
#[test]
fn a_path_tells_two_roles_apart() {
    let job = job("");
    let origin = job.origin();
    let role = |name: &str| {
        format!(
            "{{ url = \"{origin}/{name}\", exchange = \"aws-sts\", role = \"arn:{name}:role/deploy\" }}"
        )
    };
    job.sandbox.config(&format!(
        "[profile.aws]\norigins = [{}, {}]\nflow = \"workload\"\npersist = \"all\"\n\
         [profile.aws.workload]\nexchange = \"none\"\n",
        role("one"),
        role("two"),
    ));
    // Whoever has one token shows it for each role: AWS does not mind.
    let reply = |name: &str| Answer::typed(200, "text/xml", &keys(name));
    job.next("/", reply("one"));
    job.next("/", reply("two"));
    let get = |name: &str| {
        let finished = job.sandbox.valetkey(&["aws", &format!("{origin}/{name}")]).run();
        finished.assert_status(0);
        let answer: Value = serde_json::from_str(&finished.stdout_text()).expect("JSON");
        answer["SecretAccessKey"].as_str().expect("a key").to_owned()
    };
    assert_eq!((get("one"), get("two")), ("secret/one".to_owned(), "secret/two".to_owned()));
    assert_eq!((get("one"), get("two")), ("secret/one".to_owned(), "secret/two".to_owned()));
    let roles: Vec<_> = job
        .asked("/")
        .iter()
        .map(|entry| entry.request.field("RoleArn").expect("a role"))
        .collect();
    assert_eq!(roles, ["arn:one:role/deploy", "arn:two:role/deploy"]);
    job.sandbox.valetkey(&["aws", &format!("{origin}/three")]).run().assert_status(1);
}

/// AW4: keys that end within a quarter of an hour are replaced in silence, because an SDK would ask
/// for others at every call.
#[test]
fn keys_that_end_soon_are_replaced() {
    let job = job("persist = \"all\"");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let soon = valetkey::model::timestamp::rfc3339(now + 600);
    let text = keys("short").replace("2033-05-18T03:33:20Z", &soon);
    job.next("/", Answer::typed(200, "text/xml", &text));
    let first = aws(&job).stdout_text();
    assert!(first.contains("secret/short") && first.contains(&soon), "{first}");
    let second = aws(&job).stdout_text();
    assert!(second.contains("secret/issued-1-for-id-1"), "{second}");
    assert_eq!(aws(&job).stdout_text(), second);
    assert_eq!((job.vouched(), job.asked("/").len()), (1, 2));
    // While AWS is away the ones that live a little longer do.
    let path = job.sandbox.files_with(b"issued-1-for-id-1").remove(0);
    let record = std::fs::read_to_string(job.sandbox.root().join(&path)).expect("a record");
    let ends = record.replace("2000000000}]", &format!("{}}}]", now + 600));
    assert_ne!(ends, record);
    job.sandbox.write(path.to_str().expect("a plain path"), ends.as_bytes(), 0o600);
    job.next("/", Answer::empty(503));
    assert!(aws(&job).stdout_text().contains("secret/issued-1-for-id-1"));
}

/// A person's session: the ID token is exchanged once, the keys are kept with it.
struct Office {
    authority: Authority,
    sts: Server,
    given: Arc<Mutex<usize>>,
    sandbox: Sandbox,
}

impl Office {
    fn new() -> Self {
        let given = Arc::new(Mutex::new(0));
        let sts = Server::start({
            let given = Arc::clone(&given);
            move |request: &Request| {
                let mut given = given.lock().expect("no panic while it is held");
                *given += 1;
                let token = request.field("WebIdentityToken").unwrap_or_default();
                match claim(&token, "aud").as_deref() {
                    Some(CLIENT_ID) => Answer::typed(200, "text/xml", &keys(&given.to_string())),
                    _ => Answer::empty(400),
                }
                .into()
            }
        });
        let authority = Authority::start();
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_STORE", "file");
        sandbox.config(&format!(
            "[profile.office]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nscopes = [\"openid\"]\n\
             origins = [{{ url = \"{}\", exchange = \"aws-sts\", role = \"{ROLE}\", token = \"id\" }}]\n",
            authority.issuer(),
            sts.origin(),
        ));
        sandbox.env("VALETKEY_INTERACTIVE", "always");
        let browser = Browser::start(&sandbox, Person::Approves);
        sandbox.valetkey(&["login", &sts.origin()]).run().assert_status(0);
        drop(browser);
        Self { authority, sts, given, sandbox }
    }

    fn given(&self) -> usize {
        *self.given.lock().expect("no panic while it is held")
    }

    fn aws(&self) -> Finished {
        self.sandbox.valetkey(&["aws", &self.sts.origin()]).run()
    }
}

#[test]
fn a_persons_session_gives_keys_without_asking_twenty_at_once() {
    let office = Office::new();
    let start = |_| office.sandbox.valetkey(&["aws", &office.sts.origin()]).start();
    let all: Vec<_> = (0..20).map(start).collect();
    let answers: BTreeSet<_> =
        all.into_iter().map(|started| started.wait().assert_success()).collect();
    assert_eq!((answers.len(), office.given()), (1, 1));
    // The keys live until 2033, or 4000 seconds less: it is the ID token that ends, and nobody minds.
    age(&office.sandbox, 4000);
    let first = answers.first().expect("an answer");
    assert!(first.contains("T03:33:20Z"), "{first}");
    assert_eq!(office.aws().assert_success(), first.replace("T03:33:20Z", "T02:26:40Z"));
    // They go with the session's tokens, and come back with a silent renewal.
    let erase = format!("url={}\n", office.sts.origin());
    office.sandbox.valetkey(&["erase"]).stdin(erase).run().assert_success();
    assert_eq!(office.given(), 1);
    office.aws().assert_success();
    assert_eq!((office.given(), office.authority.asked_for("refresh_token")), (2, 1));
}

/// AW5: nobody is asked, whoever sits there.
#[test]
fn nobody_is_asked_for_keys() {
    let office = Office::new();
    office.sandbox.valetkey(&["logout", &office.sts.origin()]).run().assert_status(0);
    let browser = Browser::start(&office.sandbox, Person::Approves);
    let finished = office.aws();
    finished.assert_status(1).assert_stdout("").assert_stderr_has(&format!(
        "error: not signed in to {0}\nhint: valetkey login {0}\n",
        office.sts.origin()
    ));
    assert!(browser.opened().is_empty());
}

/// AWS says that a token has ended before we think so: it is renewed away, once.
#[test]
fn an_id_token_that_has_ended_is_renewed() {
    let office = Office::new();
    let ended = Arc::new(Mutex::new(true));
    let sts = Server::start({
        let ended = Arc::clone(&ended);
        move |_| {
            let mut ended = ended.lock().expect("no panic while it is held");
            if std::mem::replace(&mut *ended, false) {
                let text = "<Error><Code>ExpiredTokenException</Code></Error>";
                return Answer::typed(400, "text/xml", text).into();
            }
            Answer::typed(200, "text/xml", &keys("new")).into()
        }
    });
    let path = office.sandbox.root().join("config/valetkey/config.toml");
    let text = std::fs::read_to_string(path).expect("a configuration");
    office.sandbox.config(&text.replace(&office.sts.origin(), &sts.origin()));
    let finished = office.sandbox.valetkey(&["aws", &sts.origin()]).run();
    assert!(finished.assert_success().contains("secret/new"));
    assert_eq!(office.authority.asked_for("refresh_token"), 1);
}

/// What is stored for such a URL by hand is no key of a role.
#[test]
fn other_secrets_are_no_keys() {
    let job = job("");
    let finished =
        job.sandbox.valetkey(&["aws", &job.origin()]).env("VALETKEY_TOKEN_127_0_0_1", "x").run();
    assert_eq!(finished.status, 0, "the variable is for the host on its own port: {finished}");
    job.sandbox.config("[profile.x]\norigins = [\"https://x.example\"]\nflow = \"none\"\n");
    let other =
        job.sandbox.valetkey(&["aws", "https://x.example"]).env("VALETKEY_TOKEN_x_example", "x");
    other.run().assert_status(1).assert_stdout("").assert_stderr_has("gives no keys of AWS");
}

/// A role without an exchange, and the other way round.
#[test]
fn settings_of_a_role_that_cannot_be_meant_are_refused() {
    let job = job("");
    for (origin, says) in [
        ("exchange = \"aws-sts\"", "needs the role that is assumed"),
        ("role = \"x\"", "has a role and no exchange"),
        ("exchange = \"acr\", role = \"x\"", "has a role and no exchange"),
        ("exchange = \"aws-sts\", role = \"x\", tenant = \"y\"", "has a tenant and no exchange"),
    ] {
        job.sandbox.config(&format!(
            "[profile.a]\norigins = [{{ url = \"https://a.example\", {origin} }}]\n\
             issuer = \"https://i.example\"\n"
        ));
        let wrong = job.sandbox.valetkey(&["list"]).run();
        wrong.assert_status(78).assert_stderr_has(says);
    }
}
