//! Azure's registries: the session's token is exchanged for the registry's own, which is kept, for
//! that registry alone, and handed out as `<token>`.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::lab::{Authority, Browser, CLIENT_ID, Door, Finished, Person, Registry, Sandbox, Step};
use crate::scene::program;

struct Azure {
    authority: Arc<Authority>,
    one: Registry,
    other: Registry,
    sandbox: Sandbox,
}

impl Azure {
    /// Two registries of one profile, and somebody who is signed in.
    fn new() -> Self {
        let authority = Arc::new(Authority::start());
        let registry = || {
            let judge = Arc::clone(&authority);
            Registry::start(Door::Exchange, move |tenant, token| {
                tenant == "contoso" && judge.token_is_live(token)
            })
        };
        let (one, other) = (registry(), registry());
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "always");
        let origin = |registry: &Registry| {
            format!(
                "{{ url = \"{}\", exchange = \"acr\", tenant = \"contoso\" }}",
                registry.origin()
            )
        };
        sandbox.config(&format!(
            "[profile.lab]\norigins = [{}, {}]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n",
            origin(&one),
            origin(&other),
            authority.issuer(),
        ));
        let browser = Browser::start(&sandbox, Person::Approves);
        sandbox.valetkey(&["login", &one.origin()]).run().assert_status(0);
        drop(browser);
        sandbox.env("VALETKEY_INTERACTIVE", "never");
        Self { authority, one, other, sandbox }
    }

    fn get(&self, registry: &Registry) -> Finished {
        self.sandbox.valetkey(&["docker", "get"]).stdin(registry.host()).run()
    }

    #[track_caller]
    fn secret(&self, registry: &Registry) -> String {
        let answer: Value =
            serde_json::from_str(&self.get(registry).assert_success()).expect("JSON");
        assert_eq!(answer["Username"], "<token>");
        answer["Secret"].as_str().expect("a secret").to_owned()
    }
}

#[test]
fn one_exchange_for_each_registry_and_then_none() {
    let azure = Azure::new();
    let first = azure.secret(&azure.one);
    assert_eq!(azure.secret(&azure.one), first);
    assert_eq!((azure.one.exchanges(), azure.other.exchanges()), (1, 0));
    let other = azure.secret(&azure.other);
    assert_ne!(other, first);
    assert_eq!(azure.secret(&azure.one), first);
    assert_eq!((azure.one.exchanges(), azure.other.exchanges()), (1, 1));
    // No registry has seen anything of the other.
    for (registry, secret) in [(&azure.one, &other), (&azure.other, &first)] {
        assert!(!registry.journal().to_string().contains(secret.as_str()));
    }
    // What clients hand back is no news.
    let entry = serde_json::json!({
        "ServerURL": azure.one.host(), "Username": "<token>", "Secret": first,
    });
    azure.sandbox.valetkey(&["docker", "store"]).stdin(entry.to_string()).run().assert_success();
    let listed = azure.sandbox.valetkey(&["list", "--json"]).run().assert_success();
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(azure.authority.asked_for("refresh_token"), 0);
}

#[test]
fn what_ends_soon_is_exchanged_again_and_what_was_revoked_is_renewed_first() {
    let azure = Azure::new();
    azure.one.exchange_for(300);
    let first = azure.secret(&azure.one);
    azure.one.exchange_for(10_800);
    let second = azure.secret(&azure.one);
    assert_ne!(first, second);
    assert_eq!(azure.authority.asked_for("refresh_token"), 0);
    // The token of the session is dead, and nobody knows: the registry says so.
    azure.authority.expire_all_access();
    azure.secret(&azure.other);
    assert_eq!(azure.authority.asked_for("refresh_token"), 1);
    assert_eq!(azure.other.exchanges(), 2);
    // A sign-out of docker forgets both kinds.
    let erase = azure.sandbox.valetkey(&["docker", "erase"]).stdin(azure.one.host()).run();
    erase.assert(0, "", "");
    assert!(azure.sandbox.files_with(second.as_bytes()).is_empty());
    azure.secret(&azure.one);
    assert_eq!(azure.authority.asked_for("refresh_token"), 2);
}

#[test]
fn twenty_at_once_cause_one_renewal_and_one_exchange() {
    let azure = Azure::new();
    azure.sandbox.valetkey(&["docker", "erase"]).stdin(azure.one.host()).run().assert_success();
    let start = |_| azure.sandbox.valetkey(&["docker", "get"]).stdin(azure.one.host()).start();
    let all: Vec<_> = (0..20).map(start).collect();
    let answers: BTreeSet<_> =
        all.into_iter().map(|started| started.wait().assert_success()).collect();
    assert_eq!(answers.len(), 1);
    assert_eq!((azure.authority.asked_for("refresh_token"), azure.one.exchanges()), (1, 1));
}

#[test]
fn a_registry_that_refuses_and_a_grant_that_is_dead_are_misses() {
    let azure = Azure::new();
    let not_found = "credentials not found in native keychain\n";
    azure.authority.always("/token", Step::status(503));
    azure.secret(&azure.one);
    azure.authority.always("/token", Step::Default);
    azure.authority.revoke_grants();
    azure.get(&azure.other).assert_status(1).assert_stdout(not_found);
    // Another tenant's.
    let azure = Azure::new();
    let text = azure.sandbox.files().into_iter().find(|file| file.path.ends_with("config.toml"));
    let text = String::from_utf8(text.expect("a configuration").content).expect("text");
    azure.sandbox.config(&text.replace("contoso", "fabrikam"));
    let refused = azure.get(&azure.one);
    refused.assert_status(1).assert_stdout(not_found);
    refused.assert_stderr_has("does not take the session's token");
    assert_eq!(azure.one.exchanges(), 2);
}

#[test]
fn a_tenant_without_an_exchange_is_a_mistake() {
    let azure = Azure::new();
    for (origin, says) in [
        ("{ url = \"https://a.example\", tenant = \"x\" }", "a tenant and no exchange"),
        ("{ url = \"https://a.example\", exchange = \"arc\" }", ""),
        ("{ url = \"https://a.example\", exchnage = \"acr\" }", "did you mean exchange?"),
    ] {
        azure.sandbox.config(&format!(
            "[profile.a]\norigins = [{origin}]\nissuer = \"https://i.example\"\n"
        ));
        let wrong = azure.sandbox.valetkey(&["list"]).run();
        wrong.assert_status(78).assert_stderr_has(says);
    }
}
