//! The issuer in the redirect (RFC 9207 section 2.4): the table of oauth.md 1.5, and two servers
//! that someone tries to mix up.

use crate::asked::{Asked, navigate};
use crate::kill::KILLED;
use crate::lab::{Authority, Person};
use crate::scene::{Scene, value};

/// What stands in `iss`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Right,
    Other,
    Nothing,
}

/// Six rows, success and error: whether the redirect is heard. An error without an issuer is, where
/// metadata promises one too, because it gives nothing away (rule L4).
#[test]
fn the_table_of_issuers() {
    for (promised, said, heard) in [
        (true, Said::Right, true),
        (true, Said::Other, false),
        (true, Said::Nothing, false),
        (false, Said::Right, true),
        (false, Said::Other, false),
        (false, Said::Nothing, true),
    ] {
        for success in [true, false] {
            let heard = heard || (!success && said == Said::Nothing);
            redirect(promised, said, heard, success);
        }
    }
}

fn redirect(promised: bool, said: Said, heard: bool, success: bool) {
    let row = format!("promised {promised}, said {said:?}, success {success}");
    let scene = Scene::new();
    scene.authority.tune(|options| options.iss_advertised = promised);
    let browser = scene.browser(Person::Ignores);
    let started = scene.get().start();
    let asked = Asked::by(&browser);
    let (code, state, issuer) = (asked.code(), asked.parameter("state"), scene.authority.issuer());
    let mut parameters = vec![("state", state.as_str())];
    if success {
        parameters.push(("code", &code));
    } else {
        parameters.push(("error", "access_denied"));
        parameters.push(("error_description", "shown-only-if-believed"));
    }
    // No folding of case, no trimming: simple string comparison (RFC 9207 section 2.4).
    let other = format!("{issuer}/");
    match said {
        Said::Right => parameters.push(("iss", &issuer)),
        Said::Other => parameters.push(("iss", &other)),
        Said::Nothing => {}
    }
    let page = navigate(&asked.callback(&parameters));
    if heard {
        let place = if success { "/done" } else { "/failed" };
        assert_eq!((page.status, page.header("Location")), (303, Some(place)), "{row}");
        assert_eq!(started.wait().status, if success { 0 } else { 3 }, "{row}");
    } else {
        assert_eq!(page.status, 400, "{row}");
        assert_eq!(scene.authority.asked("/token"), 0, "{row}: the code went out");
        // The sign-in is not spent.
        assert_eq!(asked.approve().status, 200, "{row}");
        let finished = started.wait();
        assert!(value(&finished, "password").is_some(), "{row}: {finished}");
        assert!(!finished.stderr_text().contains("shown-only-if-believed"), "{row}");
    }
}

/// Attack 6.1-12, check 9, N8: a server in the user's own configuration sends the browser to
/// another one, whose code it would like to have.
#[test]
fn attack_12_a_code_of_one_server_never_goes_to_another() {
    for honest_promises in [true, false] {
        let scene = Scene::new();
        let honest = Authority::start();
        honest.tune(|options| options.iss_advertised = honest_promises);
        let endpoint = honest.url("/authorize");
        scene.authority.metadata(move |document| {
            document.insert("authorization_endpoint".into(), endpoint.clone().into());
        });
        let browser = scene.browser(Person::Approves);
        let login = scene.sandbox.valetkey(&["login", &scene.host.origin()]).start();
        assert_eq!(browser.wait_for_pages(1)[0].status, 400);
        assert_eq!(honest.asked("/authorize"), 1);
        // It goes on waiting for its own server.
        login.kill();
        login.wait().assert_status(KILLED);
        assert_eq!(scene.authority.asked("/token") + honest.asked("/token"), 0);
    }
}

/// An issuer is compared as the server spells it: only a root's slash is the URL parser's.
#[test]
fn an_issuer_with_a_path_is_compared_whole() {
    let options =
        crate::lab::Options { issuer_path: "/tenant".into(), ..crate::lab::Options::default() };
    let scene = Scene::with(crate::lab::Scheme::Basic, options);
    let _browser = scene.browser(Person::Approves);
    scene.get().run().assert_status(0);
}
