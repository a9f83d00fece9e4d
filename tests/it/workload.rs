//! Workload identity: a job without a person gets its tokens because its platform vouches for it.
//! Every platform and every exchange of oauth.md section 2, each with what goes wrong there.
//! S58: workload identity federation for CI (GitHub Actions, GitLab CI) without stored secrets.

use std::collections::BTreeSet;

use serde_json::json;

use crate::lab::job::{EXPIRES, RUNNER, SUBJECT, claim, jwt};
use crate::lab::{Answer, Finished, Job, Reply, Run, Server};
use crate::scene::{age, program, value};

const QUESTION: &str = "capability[]=state\nprotocol=https\nhost=git.example\n";

fn job() -> Job {
    let job = Job::new(program());
    job.profile("", "");
    job
}

fn get(job: &Job) -> Run {
    job.sandbox.valetkey(&["get"]).stdin("protocol=https\nhost=git.example\n")
}

/// The token that git would get.
#[track_caller]
fn token(job: &Job) -> String {
    let finished = get(job).run();
    finished.assert_status(0);
    value(&finished, "password").unwrap_or_else(|| panic!("no token: {finished}"))
}

/// What is on standard error beside the lines that GitHub's runner takes away.
fn seen(finished: &Finished) -> String {
    let text = finished.stderr_text();
    text.lines()
        .filter(|line| !line.starts_with("::add-mask::"))
        .map(|line| line.to_owned() + "\n")
        .collect()
}

/// No message shows a token, whole or in part.
#[track_caller]
fn assert_shows_no_token(finished: &Finished) {
    let shown = seen(finished);
    for secret in ["Y2FuYXJ5LW9mLWEtc2lnbmF0dXJl", RUNNER, "issued-"] {
        assert!(!shown.contains(secret), "{secret} is shown: {finished}");
        assert!(!finished.terminal.contains(secret), "{finished}");
    }
}

/// S58, check 18: the URL has a query already, the audience is encoded, no token is on standard
/// error, and nothing is kept.
#[test]
fn check_18_a_job_of_github_actions_needs_no_stored_secret() {
    let job = job();
    job.profile("", "audience = \"https://auth.example/a b&c=d\"");
    let finished = get(&job).run();
    let token = "issued-1-for-id-1";
    finished.assert_status(0);
    assert_eq!(value(&finished, "password").as_deref(), Some(token));
    let identity = jwt("https://auth.example/a b&c=d", 1);
    assert_eq!(finished.stderr_text(), "");
    assert!(!identity.is_empty() && !finished.stdout_text().contains("add-mask"));
    let asked = job.asked("/idtoken");
    assert_eq!(
        asked[0].request.target,
        "/idtoken?api-version=2.0&job=7&audience=https%3A%2F%2Fauth.example%2Fa+b%26c%3Dd"
    );
    assert_eq!(asked[0].request.header("Authorization"), Some(&*format!("Bearer {RUNNER}")));
    for secret in [token, &identity, RUNNER] {
        assert!(job.sandbox.files_with(secret.as_bytes()).is_empty(), "{secret} is kept");
    }
    // Nothing is kept, so the next caller gets a token of its own.
    assert_eq!(self::token(&job), "issued-2-for-id-2");
}

/// Check 18, attack 33: what GitHub would have the token sent to must be https.
#[test]
fn check_18_an_http_url_of_the_runner_is_refused() {
    let job = job();
    for url in ["http://pipelines.example/id?x=1", "ftp://x.example/", "no url"] {
        let finished = get(&job).env("ACTIONS_ID_TOKEN_REQUEST_URL", url).run();
        finished.assert_status(78).assert_stdout("");
        finished.assert_stderr_has(
            "error: ACTIONS_ID_TOKEN_REQUEST_URL is neither https nor on this machine\n",
        );
    }
    assert_eq!(job.vouched(), 0);
}

/// Check 18: the two reasons why a job gets no token, and how to mend each.
#[test]
fn check_18_a_missing_permission_and_a_fork_are_told_apart() {
    let job = job();
    let without = |run: Run| run.remove_env("ACTIONS_ID_TOKEN_REQUEST_TOKEN").run();
    let event = |fork: bool| {
        let event = json!({ "pull_request": { "head": { "repo": { "fork": fork } } } });
        job.sandbox.write("event.json", event.to_string().as_bytes(), 0o644)
    };
    let permission = "error: GitHub gives this job no identity token\n\
                      hint: the job lacks a permission: permissions: { id-token: write }\n";
    let fork = "error: GitHub gives no identity token to a pull request from a fork\n\
                hint: run the job on push, or after the merge\n";
    without(get(&job)).assert(78, "", permission);
    let on = |name: &str, path: std::path::PathBuf| {
        get(&job).env("GITHUB_EVENT_NAME", name).env("GITHUB_EVENT_PATH", path)
    };
    without(on("pull_request", event(true))).assert(78, "", fork);
    without(on("pull_request", event(false))).assert(78, "", permission);
    without(on("push", event(true))).assert(78, "", permission);
    let broken = job.sandbox.write("broken.json", b"[[[[", 0o644);
    without(on("pull_request", broken)).assert(78, "", permission);
    without(on("pull_request", "/nowhere".into())).assert(78, "", permission);
}

/// The platforms that only set a variable, in the order in which they are looked for, and what
/// each of their jobs lacks without it.
#[test]
fn platforms_that_set_a_variable_are_found_by_their_signs() {
    let job = job();
    job.leave_github();
    let nobody = get(&job).run();
    nobody.assert(
        78,
        "",
        "error: no platform is here that vouches for this job\nhint: set source, token_env, \
         token_file or command in the profile's [workload]\n",
    );
    let audience = job.url("/token");
    let name: String = audience
        .to_uppercase()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' })
        .collect();
    let gitlab = format!("{name}_ID_TOKEN");
    for (number, (sign, variable, source, lacks)) in [
        ("GITLAB_CI", gitlab.as_str(), "gitlab", "id_tokens"),
        ("CIRCLECI", "CIRCLE_OIDC_TOKEN_V2", "circleci", "a context"),
        ("CIRCLECI", "CIRCLE_OIDC_TOKEN", "circleci", "a context"),
        ("BITBUCKET_STEP_OIDC_TOKEN", "BITBUCKET_STEP_OIDC_TOKEN", "bitbucket", ""),
    ]
    .into_iter()
    .enumerate()
    {
        if sign != variable {
            let finished = get(&job).env(sign, "true").run();
            finished.assert_status(78).assert_stdout("").assert_stderr_has(lacks);
        }
        let identity = jwt(&audience, 10 + number);
        let login = ["login", "--flow", "workload", "https://git.example"];
        let run = job.sandbox.valetkey(&login).env(sign, "true").env(variable, &identity);
        run.run().assert(
            0,
            "",
            &format!(
                "source: {source}; signed in to https://git.example as {SUBJECT}; nothing is kept\n"
            ),
        );
    }
    // Inside GitLab the variable of another platform says nothing.
    let both = get(&job).env("GITLAB_CI", "true").env("CIRCLE_OIDC_TOKEN", jwt("x", 9)).run();
    both.assert_status(78).assert_stderr_has("id_tokens");
}

/// The platforms whose token a program gives: the words it is run with, and that none of our own
/// secrets reaches it.
#[test]
fn platforms_that_have_a_program_run_it_without_a_shell() {
    let job = job();
    job.leave_github();
    let script = |identity: &str| {
        format!(
            "#!/bin/sh\nfor word; do echo \"$word\"; done >words\nenv >seen\nprintf '%s\\n' '{identity}'\n"
        )
    };
    let read = |name: &str| std::fs::read_to_string(job.sandbox.work().join(name)).expect("a file");
    job.sandbox.env("VALETKEY_TOKEN_other_example", "canary-of-a-host");

    job.sandbox.script("buildkite-agent", &script(&jwt(&job.url("/token"), 1)));
    let finished = get(&job).env("BUILDKITE", "true").run();
    finished.assert_status(0);
    let audience = job.url("/token");
    assert_eq!(read("words"), format!("oidc\nrequest-token\n--audience\n{audience}\n"));
    assert!(!read("seen").contains("canary-of-a-host"));

    job.profile("", "audience = \"a\\\"$(b)\"");
    job.sandbox.script("circleci", &script(&jwt("a\"$(b)", 2)));
    let finished = get(&job).env("CIRCLECI", "true").run();
    finished.assert_status(0);
    assert_eq!(read("words"), "run\noidc\nget\n--claims\n{\"aud\":\"a\\\"$(b)\"}\n");

    job.sandbox.script("give", &script(&jwt("x", 3)));
    job.profile("", "audience = \"x\"\ncommand = [\"give\", \"me $HOME\", \"one;\"]");
    get(&job).run().assert_status(0);
    assert_eq!(read("words"), "me $HOME\none;\n");

    for (text, says) in [
        ("#!/bin/sh\nexit 1\n", "give gives no identity token"),
        ("#!/bin/sh\nprintf 'a\\nb'\n", "what command give gives is no token"),
        ("#!/bin/sh\n:\n", "what command give gives is no token"),
        ("#!/bin/sh\nhead -c 100000 /dev/zero | tr '\\0' a\n", "give gives no identity token"),
    ] {
        job.sandbox.script("give", text);
        get(&job).run().assert_stdout("").assert_stderr_has(says);
    }
    std::fs::remove_file(job.sandbox.bin().join("give")).expect("it is there");
    get(&job).run().assert_status(78).assert_stderr_has("give is not on PATH");
}

/// Azure gives a token for a service connection, to whoever shows the token of the step.
#[test]
fn azure_pipelines_is_asked_for_a_service_connection() {
    let job = job();
    let audience = "audience = \"api://AzureADTokenExchange\"";
    job.profile("", &format!("service_connection = \"c d\"\n{audience}"));
    let url = job.url("/azure?x=1");
    job.leave_github().env("SYSTEM_OIDCREQUESTURI", &url);
    let finished = get(&job).run();
    finished.assert(
        78,
        "",
        "error: SYSTEM_ACCESSTOKEN is not set\nhint: the step needs env: { SYSTEM_ACCESSTOKEN: \
         $(System.AccessToken) }\n",
    );
    job.sandbox.env("SYSTEM_ACCESSTOKEN", RUNNER);
    assert_eq!(token(&job), "issued-1-for-id-1");
    let asked = job.asked("/azure");
    let request = &asked[0].request;
    assert_eq!(request.target, "/azure?x=1&api-version=7.1&serviceConnectionId=c+d");
    assert_eq!(request.header("X-TFS-FedAuthRedirect"), Some("Suppress"));
    assert_eq!(request.header("Content-Type"), Some("application/json"));
    job.profile("", audience);
    get(&job).run().assert_status(78).assert_stderr_has("set service_connection");
    let elsewhere = get(&job).env("SYSTEM_OIDCREQUESTURI", "http://dev.example/");
    elsewhere
        .env("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", "x")
        .run()
        .assert_stderr_has("SYSTEM_OIDCREQUESTURI is neither https nor on this machine");
}

/// Attack 24: the metadata server is asked by explicit choice only, with its header, and is no
/// other server.
#[test]
fn google_machines_are_asked_only_where_the_profile_says_so() {
    let job = job();
    let host = job.origin().replace("http://", "");
    job.leave_github().env("GCE_METADATA_HOST", &host);
    get(&job).run().assert_status(78);
    assert_eq!(job.vouched(), 0);
    job.profile("", "source = \"gce\"");
    assert_eq!(token(&job), "issued-1-for-id-1");
    let asked = job.asked("/computeMetadata/v1/instance/service-accounts/default/identity");
    assert_eq!(asked[0].request.parameter("format"), Some("full"));
    assert_eq!(asked[0].request.parameter("audience"), Some(&*job.url("/token")));
    let elsewhere = get(&job).env("GCE_METADATA_HOST", "metadata.example").run();
    elsewhere.assert_status(78).assert_stderr_has("is no metadata server of this machine");
}

/// A token file is read for every exchange, because it rotates.
#[test]
fn a_token_file_rotates() {
    let job = job();
    job.leave_github();
    let audience = job.url("/token");
    let write = |number: usize| {
        let text = format!("{}\n", jwt(&audience, number));
        job.sandbox.write("tokens/one", text.as_bytes(), 0o600)
    };
    let path = write(1);
    job.sandbox.env("AWS_WEB_IDENTITY_TOKEN_FILE", &path);
    assert_eq!(token(&job), "issued-1-for-id-1");
    write(2);
    assert_eq!(token(&job), "issued-2-for-id-2");
    job.sandbox.remove_env("AWS_WEB_IDENTITY_TOKEN_FILE");
    job.sandbox.env("AZURE_FEDERATED_TOKEN_FILE", &path);
    write(3);
    assert_eq!(token(&job), "issued-3-for-id-3");
    job.sandbox.remove_env("AZURE_FEDERATED_TOKEN_FILE");
    job.profile("", &format!("token_file = \"{}\"", path.display()));
    write(4);
    assert_eq!(token(&job), "issued-4-for-id-4");
    std::fs::remove_file(&path).expect("it is there");
    let gone = get(&job).run();
    gone.assert_status(78).assert_stderr_has(&format!("{} cannot be read", path.display()));
}

/// Attack 33: a token for somebody else is shown to nobody, and one for everybody is not asked for.
#[test]
fn the_audience_is_never_empty_and_never_another() {
    let job = job();
    job.profile("", "audience = \"https://auth.example\"\ntoken_env = \"MY_TOKEN\"");
    job.sandbox.env("MY_TOKEN", jwt("https://evil.example", 1));
    let finished = get(&job).run();
    finished.assert_status(78).assert_stdout("").assert_stderr_has(
        "error: the identity token of env MY_TOKEN is for https://evil.example, not for \
         https://auth.example\n",
    );
    assert!(job.asked("/token").is_empty());
    assert_shows_no_token(&finished);
    job.profile("", "audience = \" \"");
    get(&job).run().assert_status(78).assert_stderr_has("workload: audience is empty");
}

/// The variable of the identity token is a secret of ours: no program that we start sees it.
#[test]
fn no_child_sees_the_variable_of_the_identity_token() {
    let job = job();
    job.profile("", "token_env = \"MY_TOKEN\"");
    job.sandbox.env("MY_TOKEN", jwt("x", 1)).remove_env("CI");
    job.sandbox.env("VALETKEY_INTERACTIVE", "always");
    job.sandbox.script("git", "#!/bin/sh\nenv >seen\n");
    // Another profile signs in, for which git is asked whether it may.
    let text = std::fs::read_to_string(job.sandbox.root().join("config/valetkey/config.toml"));
    job.sandbox.config(&format!(
        "{}[profile.x]\norigins = [\"https://x.example\"]\nissuer = \"{}\"\nclient_id = \"x\"\n",
        text.expect("a file"),
        job.origin(),
    ));
    let ask = job.sandbox.valetkey(&["get"]).stdin("protocol=https\nhost=x.example\n").run();
    assert_ne!(ask.status, 0);
    let seen = std::fs::read_to_string(job.sandbox.work().join("seen")).expect("git was asked");
    assert!(seen.contains("PATH=") && !seen.contains("MY_TOKEN"), "{seen}");
}

/// RFC 8693 section 2.1 and RFC 7523 sections 2.1 and 2.2: what is sent, to the last field.
#[test]
fn the_three_grants_send_what_their_rfcs_say() {
    let job = job();
    job.sandbox.env("MY_TOKEN", jwt("x", 1));
    let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
    let jwt_type = "urn:ietf:params:oauth:token-type:jwt";
    let bearer = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let assertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let more = "client_id = \"c\"\nclient_secret = \"hush-hush\"\nscopes = [\"a\", \"b\"]\n\
                audience = \"https://api.example\"\nresource = \"https://r.example\"";
    let mut wanted = vec![];
    for (number, (name, own, secret)) in [
        (
            "token-exchange",
            vec![("grant_type", exchange), ("subject_token", ""), ("subject_token_type", jwt_type)],
            true,
        ),
        ("jwt-bearer", vec![("grant_type", bearer), ("assertion", "")], true),
        (
            "client-assertion",
            vec![
                ("grant_type", "client_credentials"),
                ("client_assertion_type", assertion),
                ("client_assertion", ""),
            ],
            false,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let identity = jwt("x", number + 1);
        job.sandbox.env("MY_TOKEN", &identity);
        job.profile(
            more,
            &format!("token_env = \"MY_TOKEN\"\naudience = \"x\"\nexchange = \"{name}\""),
        );
        assert_eq!(token(&job), format!("issued-{0}-for-id-{0}", number + 1));
        let mut form: Vec<(String, String)> = own
            .into_iter()
            .map(|(name, value)| {
                let value = if value.is_empty() { identity.as_str() } else { value };
                (name.to_owned(), value.to_owned())
            })
            .collect();
        form.push(own_pair(("scope", "a b")));
        form.extend(
            [("audience", "https://api.example"), ("resource", "https://r.example")].map(own_pair),
        );
        form.push(own_pair(("client_id", "c")));
        form.extend(secret.then(|| own_pair(("client_secret", "hush-hush"))));
        wanted.push(form);
    }
    let seen: Vec<_> = job.asked("/token").iter().map(|entry| entry.request.form()).collect();
    assert_eq!(seen, wanted);
    job.profile("", "token_env = \"MY_TOKEN\"\naudience = \"x\"\nexchange = \"client-assertion\"");
    get(&job).run().assert_status(78).assert_stderr_has("has no client id");
}

fn own_pair((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// The claims of a rejected token are shown, the token never: not even where the server quotes it.
#[test]
fn a_rejected_token_is_shown_by_its_claims() {
    let job = job();
    job.sandbox.env("MY_TOKEN", jwt("us", 1));
    job.profile("", "token_env = \"MY_TOKEN\"\naudience = \"us\"");
    token(&job);
    let finished = get(&job).run();
    let host = job.origin().replace("http://", "");
    assert_eq!(
        seen(&finished),
        format!(
            "error: {host} rejected the identity token of env MY_TOKEN: invalid_grant (it was \
             shown before: [secret])\nhint: compare the trust policy there with what the identity \
             token says: iss=https://platform.example sub={SUBJECT} aud=us repository=acme/s \
             exp={EXPIRES}\n"
        )
    );
    finished.assert_status(4).assert_stdout("");
    assert_shows_no_token(&finished);
}

/// Check 19: PyPI takes a token once, so another one is fetched before another try; and its no is
/// shown with the claims.
#[test]
fn check_19_a_token_is_minted_once_and_a_lost_answer_costs_another() {
    let job = job();
    let origin = job.origin();
    job.sandbox.config(&format!(
        "[profile.pypi]\norigins = [\"{origin}\"]\nflow = \"workload\"\nusername = \"__token__\"\n\
         [profile.pypi.workload]\nexchange = \"mint\"\n"
    ));
    let ask = || {
        let question = format!("url={origin}\n");
        job.sandbox.valetkey(&["get"]).stdin(question).run()
    };
    let finished = ask();
    finished.assert_status(0);
    assert_eq!(value(&finished, "username").as_deref(), Some("__token__"));
    assert_eq!(value(&finished, "password").as_deref(), Some("issued-1-for-id-1"));
    let shown = |index: usize| {
        let entries = job.asked("/_/oidc/mint-token");
        let body: serde_json::Value =
            serde_json::from_slice(&entries[index].request.body).expect("JSON");
        body["token"].as_str().expect("a token").to_owned()
    };
    assert_eq!(claim(&shown(0), "aud").as_deref(), Some("pypi"));
    // The answer is lost on its way: the token may have been used up.
    job.next("/_/oidc/mint-token", Answer::empty(502));
    let finished = ask();
    assert_eq!(value(&finished, "password").as_deref(), Some("issued-2-for-id-3"));
    assert_ne!(shown(1), shown(2));
    // A token that cannot be replaced is not shown again.
    job.sandbox.env("MY_TOKEN", jwt("pypi", 9));
    let text = "exchange = \"mint\"\ntoken_env = \"MY_TOKEN\"";
    job.sandbox.config(&format!(
        "[profile.pypi]\norigins = [\"{origin}\"]\nflow = \"workload\"\n[profile.pypi.workload]\n{text}\n"
    ));
    job.next("/_/oidc/mint-token", Answer::empty(502));
    ask().assert_status(5).assert_stdout("");
    assert_eq!(job.asked("/_/oidc/mint-token").len(), 4);
    ask().assert_status(0);
    let refused = ask();
    refused.assert_status(4).assert_stdout("");
    refused.assert_stderr_has(
        "invalid-publisher: valid token, but no publisher; invalid-reuse-token: it was shown before",
    );
    refused.assert_stderr_has(&format!("sub={SUBJECT} aud=pypi"));
    assert_shows_no_token(&refused);
    for (status, says) in [
        (403, "has trusted publishing switched off"),
        (404, "knows no trusted publishing"),
        (200, "does not say whom the identity token is for"),
    ] {
        job.next("/_/oidc/audience", Answer::json(status, &json!({ "message": "no" })));
        ask().assert_status(4).assert_stderr_has(says);
    }
}

/// Check 19: the registry of Rust's crates gives a token for a while, and takes it back at `erase`.
#[test]
fn check_19_a_token_of_the_crate_registry_is_given_back() {
    let job = job();
    let origin = job.origin();
    let profile = |more: &str| {
        job.sandbox.config(&format!(
            "[profile.crates]\norigins = [\"{origin}\"]\nflow = \"workload\"\n{more}\n\
             [profile.crates.workload]\nexchange = \"crates\"\n"
        ));
    };
    profile("");
    let ask = || job.sandbox.valetkey(&["get"]).stdin(format!("url={origin}\n")).run();
    let first = value(&ask(), "password").expect("a token");
    assert_eq!(first, "issued-1-for-id-1");
    let sent = job.asked("/api/v1/trusted_publishing/tokens");
    let body: serde_json::Value = serde_json::from_slice(&sent[0].request.body).expect("JSON");
    assert_eq!(claim(body["jwt"].as_str().expect("a token"), "aud").as_deref(), Some("127.0.0.1"));
    let erase = |password: &str| {
        let text = format!("url={origin}\npassword={password}\n");
        job.sandbox.valetkey(&["erase"]).stdin(text).run()
    };
    erase(&first).assert(0, "", "");
    assert_eq!(job.given_back(), [first]);
    // Kept by the profile's own wish: then it is forgotten as well.
    profile("persist = \"all\"");
    let second = value(&ask(), "password").expect("a token");
    assert_eq!(value(&ask(), "password").as_ref(), Some(&second));
    assert_eq!(job.sandbox.files_with(second.as_bytes()).len(), 1);
    erase("something else").assert(0, "", "");
    assert_eq!(job.given_back().len(), 1);
    erase(&second).assert(0, "", "");
    assert_eq!(job.given_back().last(), Some(&second));
    assert!(job.sandbox.files_with(second.as_bytes()).is_empty());
    // And at logout.
    let third = value(&ask(), "password").expect("a token");
    job.sandbox.valetkey(&["logout", &origin]).run().assert_status(0);
    assert_eq!(job.given_back().last(), Some(&third));
    // One that may live on is no success, and is forgotten all the same.
    let kept = value(&ask(), "password").expect("a token");
    job.next("/api/v1/trusted_publishing/tokens", Answer::empty(503));
    erase(&kept).assert_status(5);
    assert!(job.sandbox.files_with(kept.as_bytes()).is_empty());
    profile("");
    let fourth = value(&ask(), "password").expect("a token");
    job.next("/api/v1/trusted_publishing/tokens", Answer::empty(503));
    erase(&fourth).assert_status(5);
    let details =
        json!({ "errors": [{ "detail": "no \u{1b}[31mconfig" }, { "detail": "really" }] });
    job.next("/api/v1/trusted_publishing/tokens", Answer::json(400, &details));
    ask().assert_status(4).assert_stderr_has("github-actions: no [31mconfig; really\n");
}

/// RFC 7009 where the server has it; and a stranger's secret goes to no server.
#[test]
fn what_a_caller_got_from_us_is_revoked_and_nothing_else() {
    let job = job();
    job.profile(&format!("revocation_endpoint = \"{}\"", job.url("/revoke")), "");
    let finished = job.sandbox.valetkey(&["get"]).stdin(QUESTION).run();
    finished.assert_status(0);
    let (password, state) = (value(&finished, "password"), value(&finished, "state[]"));
    let (password, state) = (password.expect("a token"), state.expect("a state"));
    let erase = |password: &str| {
        let text = format!("{QUESTION}state[]={state}\npassword={password}\n");
        job.sandbox.valetkey(&["erase"]).stdin(text).run().assert_status(0);
    };
    erase("a-password-of-somebody");
    assert!(job.given_back().is_empty());
    erase(&password);
    assert_eq!(job.given_back(), [password]);
    assert_eq!(job.asked("/revoke").len(), 1);
}

/// What a tool hands back is not kept either.
#[test]
fn nothing_that_a_tool_hands_back_is_kept() {
    let job = job();
    let password = token(&job);
    let text = format!("protocol=https\nhost=git.example\nusername=oauth2\npassword={password}\n");
    job.sandbox.valetkey(&["store"]).stdin(text).run().assert(0, "", "");
    assert!(job.sandbox.files_with(password.as_bytes()).is_empty());
    assert_ne!(token(&job), password);
    let nothing = job.sandbox.valetkey(&["list", "--json"]).run();
    nothing.assert(0, "[]\n", "");
}

/// 20 callers at once: with `persist` one exchange for all, without it one for each.
#[test]
fn twenty_at_once_make_one_exchange_where_it_may_be_kept() {
    let job = job();
    job.profile("persist = \"all\"", "");
    let all = |job: &Job| -> BTreeSet<String> {
        let started: Vec<_> = (0..20).map(|_| get(job).start()).collect();
        let answers = started.into_iter().map(|started| {
            let finished = started.wait();
            finished.assert_status(0);
            value(&finished, "password").expect("a token")
        });
        answers.collect()
    };
    assert_eq!(all(&job).len(), 1);
    assert_eq!((job.vouched(), job.asked("/token").len()), (1, 1));
    job.profile("", "");
    assert_eq!(all(&job).len(), 20);
    assert_eq!((job.vouched(), job.asked("/token").len()), (21, 21));
}

/// What is kept is renewed in silence, by another exchange; a rejected one too.
#[test]
fn what_is_kept_is_exchanged_again_before_it_ends() {
    let job = job();
    job.profile("persist = \"all\"", "");
    job.expires_in(Some(30));
    let first = token(&job);
    age(&job.sandbox, 20);
    job.expires_in(Some(3600));
    let second = token(&job);
    assert_ne!(first, second);
    assert_eq!(token(&job), second);
    let text = format!("protocol=https\nhost=git.example\npassword={second}\n");
    job.sandbox.valetkey(&["erase"]).stdin(text).run().assert_status(0);
    let third = token(&job);
    assert_ne!(third, second);
    assert_eq!(job.vouched(), 3);
    // While the platform is away what is there is good enough.
    age(&job.sandbox, 3570);
    for _ in 0..2 {
        job.next("/idtoken", Answer::empty(503));
    }
    assert_eq!(token(&job), third);
    assert_eq!(job.asked("/idtoken").len(), 5);
    // The file that is left is one session's, and readable by nobody else.
    let files = job.sandbox.files_with(third.as_bytes());
    assert_eq!(files.len(), 1, "{files:?}");
}

/// Under `VALETKEY_FLOW=workload` the profile of a person serves a job.
#[test]
fn one_profile_serves_a_person_and_a_job() {
    let job = job();
    job.sandbox.config(&format!(
        "[profile.ci]\norigins = [\"https://git.example\"]\ntoken_endpoint = \"{}\"\n\
         client_id = \"c\"\n[profile.ci.workload]\naudience = \"us\"\n",
        job.url("/token"),
    ));
    get(&job).run().assert_status(2).assert_stdout("");
    assert_eq!(job.vouched(), 0);
    let finished = get(&job).env("VALETKEY_FLOW", "workload").run();
    finished.assert_status(0);
    assert_eq!(value(&finished, "password").as_deref(), Some("issued-1-for-id-1"));
}

/// Nobody is asked, whatever goes wrong, and no store is touched: it is a job.
#[test]
fn nobody_is_asked_and_no_keychain_is_looked_for() {
    let job = job();
    job.sandbox.env("VALETKEY_INTERACTIVE", "always").env("VALETKEY_STORE", "keychain");
    job.sandbox.env("DISPLAY", ":9");
    assert_eq!(token(&job), "issued-1-for-id-1");
    job.next("/token", Answer::json(400, &json!({ "error": "access_denied" })));
    let finished = get(&job).run();
    finished.assert_status(4).assert_stdout("");
    assert!(!seen(&finished).contains("keychain"), "{finished}");
    // It is no person's no: the next one may succeed.
    assert_eq!(token(&job), "issued-2-for-id-3");
}

/// Attacks 22, 25, 27: redirects, endless answers, tokens that are lines.
#[test]
fn hostile_answers_give_nothing_away() {
    let job = job();
    let thief = Server::start(|_| Answer::json(200, &json!({ "value": "x" })).into());
    for path in ["/idtoken", "/token"] {
        for reply in [
            Reply::Answer(Answer::redirect(&thief.origin())),
            Reply::Answer(Answer::json(200, &json!({}))),
            Reply::Answer(Answer::text(200, "<html>")),
            Reply::Answer(Answer::json(200, &json!({ "value": 7, "access_token": 7 }))),
            Reply::Answer(Answer::json(
                200,
                &json!({ "value": "a\nhost=evil", "access_token": "a\nhost=evil" }),
            )),
            Reply::Answer(Answer::json(401, &json!({ "message": "\u{1b}]0;x\u{7}no" }))),
            Reply::Answer(Answer::json(200, &json!({ "value": "", "access_token": "" }))),
        ] {
            job.next(path, reply);
            let finished = get(&job).run();
            finished.assert_stdout("");
            assert_ne!(finished.status, 0, "{finished}");
            assert_shows_no_token(&finished);
            assert!(!finished.stderr_text().contains('\u{1b}'), "{finished}");
        }
        // Twice, because what may have been lost is asked for again.
        for reply in [Reply::Endless, Reply::Close] {
            job.next(path, reply.clone());
            job.next(path, reply);
            get(&job).run().assert_status(5).assert_stdout("");
        }
    }
    assert!(thief.journal().snapshot().is_empty());
    assert_ne!(token(&job), "");
}

/// Google's token service, and the token of a service account in the second step.
#[test]
fn google_takes_two_steps_where_a_service_account_is_named() {
    let job = job();
    let provider = "projects/1/locations/global/workloadIdentityPools/p/providers/r";
    let google = format!("exchange = \"google-sts\"\nprovider = \"{provider}\"\n");
    job.profile("", &google);
    assert_eq!(token(&job), "issued-1-for-id-1");
    let form = job.asked("/token")[0].request.form();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| &**value);
    assert_eq!(field("audience"), Some(&*format!("//iam.googleapis.com/{provider}")));
    assert_eq!(field("scope"), Some("https://www.googleapis.com/auth/cloud-platform"));
    assert_eq!(
        field("requested_token_type"),
        Some("urn:ietf:params:oauth:token-type:access_token")
    );
    let identity = field("subject_token").expect("a token");
    assert_eq!(claim(identity, "aud"), Some(format!("https://iam.googleapis.com/{provider}")));
    let url = job.url("/impersonate");
    job.profile("scopes = [\"s\", \"t\"]", &format!("{google}impersonation_url = \"{url}\""));
    let finished = get(&job).run();
    assert_eq!(value(&finished, "password").as_deref(), Some("as-issued-2-for-id-2"));
    assert_eq!(value(&finished, "password_expiry_utc").as_deref(), Some("2000000000"));
    assert_eq!(job.asked("/impersonate")[0].request.body, br#"{"scope":["s","t"]}"#);
    let error = json!({ "error": { "code": 403, "message": "Permission denied on sa" } });
    job.next("/impersonate", Answer::json(403, &error));
    let refused = get(&job).run();
    refused.assert_status(4).assert_stdout("").assert_stderr_has("Permission denied on sa\n");
    assert_shows_no_token(&refused);
}

/// octo-sts gives a token of GitHub's for one repository.
#[test]
fn octo_sts_is_asked_by_scope_and_identity() {
    let job = job();
    job.sandbox.config(&format!(
        "[profile.octo]\norigins = [\"https://git.example\"]\nflow = \"workload\"\n\
         scopes = [\"acme/s\"]\ntoken_endpoint = \"{}\"\n[profile.octo.workload]\n\
         exchange = \"octo-sts\"\nidentity = \"release bot\"\n",
        job.url("/sts/exchange"),
    ));
    assert_eq!(token(&job), "issued-1-for-id-1");
    let asked = job.asked("/sts/exchange");
    assert_eq!(asked[0].request.target, "/sts/exchange?scope=acme%2Fs&identity=release+bot");
    job.next("/sts/exchange", Answer::json(403, &json!({ "message": "no such policy" })));
    get(&job).run().assert_status(4).assert_stderr_has("github-actions: no such policy\n");
}

/// Of all that a job holds, only the very answer of a script's own command is masked, at the start of
/// a line: what a caller quotes of standard error holds no token.
#[test]
fn only_an_answer_is_masked() {
    for (dialect, words) in [("get", 0), ("token", 1), ("header", 1), ("json", 1), ("docker", 0)] {
        let job = job();
        job.sandbox.env("GITHUB_ACTIONS", "true");
        let run = match dialect {
            "get" => get(&job),
            "docker" => job.sandbox.valetkey(&["docker", "get"]).stdin("https://git.example"),
            name => job.sandbox.valetkey(&[name, "https://git.example"]),
        };
        let finished = run.run();
        finished.assert_status(0);
        let text = finished.stderr_text();
        let masked: Vec<&str> =
            text.lines().map(|line| line.strip_prefix("::add-mask::").expect("alone")).collect();
        assert_eq!(masked.len(), words, "{dialect}: {finished}");
        for word in masked {
            assert!(finished.stdout_text().contains(word), "{dialect}: {finished}");
        }
        job.next("/token", Answer::json(400, &json!({ "error": "invalid_grant" })));
        let failed = job.sandbox.valetkey(&["token", "https://git.example"]).run();
        failed.assert_status(4);
        assert!(!failed.stderr_text().contains("add-mask"), "{failed}");
    }
}

/// A token goes only to whom it is for by its own word, from each source whose audience is not ours
/// to choose; the setting that is named lets it go.
#[test]
fn a_token_for_somebody_else_is_posted_nowhere() {
    const CLOUD: &str = "sts.amazonaws.com";
    for (variable, more, source) in [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "", "kubernetes"),
        ("AZURE_FEDERATED_TOKEN_FILE", "", "kubernetes"),
        ("BITBUCKET_STEP_OIDC_TOKEN", "", "bitbucket"),
        ("CIRCLE_OIDC_TOKEN", "source = \"circleci\"\n", "circleci"),
        ("MINE", "token_env = \"MINE\"\n", "env MINE"),
        ("X", "command = [\"give\"]\n", "command give"),
        ("X", "token_file = \"FILE\"\n", "file "),
    ] {
        let job = job();
        job.leave_github();
        let token = jwt(CLOUD, 1);
        let file = job.sandbox.write("work/identity", token.as_bytes(), 0o600);
        let file = file.to_str().expect("a plain path");
        // It is asked for where we may choose.
        job.sandbox.script("circleci", &format!("#!/bin/sh\nprintf %s '{token}'\n"));
        job.sandbox.script("give", &format!("#!/bin/sh\nprintf %s '{token}'\n"));
        job.sandbox.env(variable, if variable.ends_with("_FILE") { file } else { &token });
        let more = more.replace("FILE", file);
        job.profile("", &more);
        let finished = get(&job).run();
        finished
            .assert_status(78)
            .assert_stdout("")
            .assert_stderr_has(&format!("the identity token of {source}"))
            .assert_stderr_has(&format!("is for {CLOUD}, not for {}", job.url("/token")))
            .assert_stderr_has("iss=https://platform.example")
            .assert_stderr_has(&format!("set audience = \"{CLOUD}\" in [profile.ci.workload]"));
        assert!(job.asked("/token").is_empty(), "{source}");
        job.profile("", &format!("{more}audience = \"{CLOUD}\"\n"));
        get(&job).run().assert_status(0);
        assert_eq!(job.asked("/token").len(), 1, "{source}");
    }
}

/// Some hosts take the platform's own token: it ends when it says.
#[test]
fn a_host_can_take_the_identity_token_as_it_is() {
    let job = job();
    job.profile("", "exchange = \"none\"");
    let finished = get(&job).run();
    let identity = value(&finished, "password").expect("a token");
    assert_eq!(identity, jwt("https://git.example", 1));
    assert_eq!(value(&finished, "password_expiry_utc"), Some(EXPIRES.to_string()));
    assert_eq!(finished.stderr_text(), "");
    assert!(job.asked("/token").is_empty());
}

/// What is written wrong is told with the place and the reason.
#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let job = job();
    for (workload, says) in [
        ("source = \"githib\"", ""),
        ("sourse = \"gitlab\"", "[profile.ci] workload.sourse is no setting"),
        ("source = \"env\"", "workload: needs token_env"),
        ("source = \"file\"", "workload: needs token_file"),
        ("source = \"command\"", "workload: needs command"),
        ("command = []", "workload: names more than one source"),
        ("token_env = \"A\"\ntoken_file = \"/b\"", "workload: names more than one source"),
        ("source = \"gitlab\"\ntoken_env = \"A\"", "workload: names more than one source"),
        ("token_file = \"b\"", "workload: token_file is no absolute path"),
        ("provider = \"b\"", "workload: provider means something to google-sts only"),
        ("identity = \"b\"", "workload: identity means something to octo-sts only"),
        ("exchange = \"google-sts\"", "workload: google-sts needs provider"),
        ("exchange = \"octo-sts\"", "workload: octo-sts needs identity"),
        (
            "exchange = \"google-sts\"\nprovider = \"p\"\nimpersonation_url = \"http://x.example\"",
            "workload: impersonation_url is neither https nor on this machine",
        ),
    ] {
        job.profile("", workload);
        let finished = get(&job).run();
        assert_eq!(finished.status, 78, "{workload}: {finished}");
        finished.assert_stdout("").assert_stderr_has(says);
    }
}

/// A second look by hand: `login` says who vouches, and keeps only what the profile says.
#[test]
fn login_says_who_vouches_for_the_job() {
    let job = job();
    let login = || job.sandbox.valetkey(&["login", "https://git.example"]).run();
    let finished = login();
    finished.assert_status(0).assert_stdout("");
    assert_eq!(
        seen(&finished),
        format!(
            "source: github-actions; signed in to https://git.example as {SUBJECT}; nothing is \
             kept\n"
        )
    );
    let status = job.sandbox.valetkey(&["status", "https://git.example"]).run();
    let answers = "answered by the identity of the job, by an exchange each time";
    status.assert(0, &format!("https://git.example: profile ci; {answers}\n"), "");
    job.profile("persist = \"all\"", "");
    let kept = login();
    assert!(seen(&kept).starts_with("source: github-actions; signed in to "), "{kept}");
    assert!(seen(&kept).contains("; kept in "), "{kept}");
    login().assert_stderr_has("already signed in to https://git.example as ");
    let who = job.sandbox.valetkey(&["whoami", "https://git.example"]).run();
    who.assert(0, &format!("{SUBJECT}\n"), "");
    assert_eq!(job.vouched(), 2);
}
