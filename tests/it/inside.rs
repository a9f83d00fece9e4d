//! The library called in this very process, for what cannot be waited for in real time.

use std::ffi::OsString;

use valetkey::broker::{self, World};
use valetkey::clock::Clock;
use valetkey::environment::Environment;
use valetkey::error::Error;
use valetkey::model::{Caller, Outcome, Request, Resource, StoreChoice, Verb};
use valetkey::oauth::Oauth;
use valetkey::profile::Profiles;
use valetkey::ui::Ui;
use valetkey::vault::Vault;

use crate::scene::Scene;

fn environment(scene: &Scene) -> Environment {
    let directories = ["config", "data", "state", "cache"].into_iter().map(|name| {
        let variable = format!("XDG_{}_HOME", name.to_uppercase());
        (variable.into(), scene.sandbox.root().join(name).into())
    });
    let nobody: (OsString, OsString) = ("VALETKEY_INTERACTIVE".into(), "never".into());
    directories.chain([nobody]).collect()
}

/// What the broker says to a `get` for the scene's host when nobody is there; the error, if any.
pub fn get(scene: &Scene, clock: &dyn Clock) -> Option<Error> {
    let environment = environment(scene);
    let profiles = Profiles::load(&environment).expect("the scene's profile");
    let hidden = |_: &str| false;
    let nowhere = std::fs::File::open("/dev/null").expect("it is always there");
    let ui = Ui::new(&environment, &hidden, || false, &nowhere);
    let world = World {
        vault: Vault::new(
            StoreChoice::File,
            &environment,
            clock,
            &|_| (),
            &hidden,
            || None,
            &|_| None,
        ),
        oauth: Oauth::new(&ui, clock, &environment, &hidden),
        profiles: &profiles,
        ui: &ui,
        clock,
        environment: &environment,
    };
    let request = Request {
        verb: Verb::Get,
        resource: Resource::parse(&scene.host.origin()).expect("a URL"),
        caller: Caller::Git,
        presented: None,
        proof: None,
        lifetime: 0,
    };
    match broker::answer(&request, &world) {
        Outcome::Failed(error) | Outcome::NotFound(error) => Some(error),
        _ => None,
    }
}
