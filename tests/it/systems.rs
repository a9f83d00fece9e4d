//! Systems that people use today, each moved to valetkey as a profile and driven from end to end:
//! by a person, by a tool, by a script, and by what their documents say can go wrong.

mod autocom;
mod guide;
mod myclaude;
mod skillmeat;
mod tinykit;

use std::sync::Arc;

use crate::lab::systems::Site;
use crate::lab::{Browser, Finished, GitHost, Person, Run, Sandbox, Scheme};
use crate::scene::program;

/// One of the sites, a git host that takes its tokens too, and a home whose git asks valetkey.
struct Scene<S> {
    site: Arc<Site<S>>,
    git: GitHost,
    sandbox: Sandbox,
}

impl<S: Send + 'static> Scene<S> {
    /// `profile` is told the origins of the site and of the git host.
    fn at(
        site: Site<S>,
        takes: fn(&Site<S>, &str) -> bool,
        profile: impl FnOnce(&str, &str) -> String,
    ) -> Self {
        let site = Arc::new(site);
        let judge = Arc::clone(&site);
        let git = GitHost::start(Scheme::Basic, move |token| takes(&judge, token));
        git.create("work.git");
        let sandbox = home();
        sandbox.git_config(&format!("[credential]\n\thelper = {}\n", program().display()));
        sandbox.config(&profile(&site.origin(), &git.origin()));
        Self { site, git, sandbox }
    }

    fn browser(&self, person: Person) -> Browser {
        self.sandbox.env("VALETKEY_INTERACTIVE", "always");
        Browser::start(&self.sandbox, person)
    }

    fn valetkey(&self, verb: &str, more: &[&str]) -> Run {
        self.sandbox.valetkey(&[&[verb, &self.site.origin()], more].concat())
    }

    fn clone(&self, name: &str) -> Finished {
        self.sandbox.git(&["clone", "--quiet", &self.git.url("work.git"), name]).run()
    }
}

/// A home without a person, whose store is files.
fn home() -> Sandbox {
    let sandbox = Sandbox::new(program());
    sandbox.env("VALETKEY_STORE", "file").env("VALETKEY_INTERACTIVE", "never");
    sandbox
}
