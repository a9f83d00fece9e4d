//! Every client is shown the same cases: a hit, an end, a miss with and without a person, a no,
//! answers and hosts of an enemy, and nineteen others beside it.

use serde_json::json;

use super::{aws, cargo, docker, git_callers, go, google, heavy, kubectl, pnpm, python, terraform};
use crate::lab::{Journal, Person, Run, Step};
use crate::scene::Home;

/// A real client before a server that lets in who brings a live token.
pub(super) trait Client {
    fn name(&self) -> String;

    fn home(&self) -> &Home;

    /// What the profile binds.
    fn url(&self) -> String;

    /// The client, about to ask for what is behind the door. Where two would share a cache or a
    /// lock, each number is a place of its own.
    fn ask(&self, number: usize) -> Run;

    /// What the server was shown by way of tokens.
    fn tokens(&self) -> Vec<String>;

    /// Whether its protocol lets a person sign in.
    fn signs_in(&self) -> bool {
        true
    }

    /// Whether its user reads what we say when it fails.
    fn shows(&self) -> bool {
        true
    }
}

fn every_client(case: impl Fn(&dyn Client)) {
    let all = [
        aws::clients(),
        cargo::clients(),
        docker::clients(),
        git_callers::clients(),
        go::clients(),
        google::clients(),
        kubectl::clients(),
        pnpm::clients(),
        python::clients(),
        terraform::clients(),
    ];
    for start in all.into_iter().flatten() {
        case(&*start());
    }
}

/// Starts a client's server, and gives it a home.
pub(super) type Start = Box<dyn Fn() -> Box<dyn Client>>;

/// The bearer tokens of a server's requests.
pub(super) fn bearers(journal: &Journal) -> Vec<String> {
    let entries = journal.snapshot();
    entries.iter().filter_map(|entry| entry.request.bearer().map(str::to_owned)).collect()
}

#[track_caller]
fn assert_refused(client: &dyn Client, number: usize) {
    let (name, before) = (client.name(), client.tokens().len());
    let finished = client.ask(number).run();
    assert_ne!(finished.status, 0, "{name}: {finished}");
    if client.shows() {
        finished.assert_stderr_has("valetkey login ");
    }
    assert_eq!(client.tokens().len(), before, "{name}: {finished}");
}

#[test]
fn a_hit_asks_nobody_and_an_end_is_renewed_in_silence() {
    every_client(|client| {
        let (name, home) = (client.name(), client.home());
        home.sign_in_to(&client.url());
        for (number, renewals) in [0, 1, 1].into_iter().enumerate() {
            let finished = client.ask(number).run();
            assert_eq!(finished.status, 0, "{name}: {finished}");
            assert_eq!(home.authority.asked_for("refresh_token"), renewals, "{name}");
            if number == 0 {
                home.end_tokens();
            }
        }
        assert_eq!(home.authority.asked_for("authorization_code"), 1, "{name}");
    });
}

#[test]
fn a_miss_signs_in_once_where_a_person_is_and_never_in_a_job() {
    every_client(|client| {
        let (name, home) = (client.name(), client.home());
        let browser = home.browser(Person::Approves);
        home.sandbox.remove_env("VALETKEY_INTERACTIVE").remove_env("GIT_TERMINAL_PROMPT");
        home.sandbox.env("DISPLAY", ":0");
        for (variable, value) in [("CI", "true"), ("VALETKEY_INTERACTIVE", "never")] {
            home.sandbox.env(variable, value);
            assert_refused(client, 0);
            home.sandbox.remove_env(variable);
        }
        assert_eq!(browser.opened().len(), 0, "{name}");
        if !client.signs_in() {
            assert_refused(client, 0);
            assert_eq!(browser.opened().len(), 0, "{name}");
            return;
        }
        for number in 1..3 {
            let finished = client.ask(number).run();
            assert_eq!(finished.status, 0, "{name}: {finished}");
        }
        assert_eq!(browser.opened().len(), 1, "{name}");
        assert_eq!(home.authority.asked_for("refresh_token"), 0, "{name}");
    });
}

#[test]
fn a_no_is_not_asked_about_again() {
    every_client(|client| {
        if !client.signs_in() {
            return;
        }
        let browser = client.home().browser(Person::Denies);
        for number in 0..2 {
            assert_refused(client, number);
        }
        assert_eq!(browser.opened().len(), 1, "{}", client.name());
    });
}

#[test]
fn twenty_at_once_cause_one_renewal() {
    let _alone = heavy();
    every_client(|client| {
        let (name, home) = (client.name(), client.home());
        home.sign_in_to(&client.url());
        home.end_tokens();
        let started: Vec<_> = (0..20).map(|number| client.ask(number).start()).collect();
        for started in started {
            let finished = started.wait();
            assert_eq!(finished.status, 0, "{name}: {finished}");
        }
        assert_eq!(home.authority.asked_for("refresh_token"), 1, "{name}");
        assert_eq!(home.authority.live_grants(), 1, "{name}");
    });
}

/// What a server of tokens answers in bad faith reaches no host, and a host that nobody named gets
/// nothing, whoever is signed in.
#[test]
fn an_enemy_gets_no_token_and_puts_none_in_its_place() {
    every_client(|client| {
        let (name, home) = (client.name(), client.home());
        home.sign_in_to(&client.url());
        home.end_tokens();
        let token = json!({ "access_token": "evil\r\nX-Evil: 1", "token_type": "Bearer" });
        let answers =
            [Step::json(200, &token), Step::Redirect("/evil".to_owned()), Step::status(500)];
        for (number, step) in answers.into_iter().enumerate() {
            home.authority.always("/token", step);
            let finished = client.ask(number).run();
            assert_ne!(finished.status, 0, "{name}: {finished}");
        }
        assert_eq!(client.tokens(), [] as [String; 0], "{name}");
        home.authority.always("/token", Step::Default);
        let healed = client.ask(10).run();
        assert_eq!(healed.status, 0, "{name}: {healed}");
        let shown = client.tokens().len();
        home.bind(&["https://elsewhere.example"], "");
        let finished = client.ask(11).run();
        assert_ne!(finished.status, 0, "{name}: {finished}");
        assert_eq!(client.tokens().len(), shown, "{name}: {finished}");
    });
}
