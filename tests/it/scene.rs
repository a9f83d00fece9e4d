//! What most tests begin with: a home and an authorization server, and around them a git host that
//! takes its tokens and a profile that binds it. The store is files unless a test says otherwise.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use crate::lab::{
    Authority, Browser, CLIENT_ID, FileSeen, Finished, GitHost, Options, Person, Run, Sandbox,
    Scheme,
};

/// A home in which nothing is configured, and an authorization server.
pub struct Home {
    pub authority: Arc<Authority>,
    pub sandbox: Sandbox,
}

/// A home with a git host.
pub struct Scene {
    home: Home,
    pub host: GitHost,
    scheme: Scheme,
}

impl Deref for Scene {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_valetkey"))
}

impl Home {
    pub fn new(options: Options) -> Self {
        let authority = Arc::new(Authority::start_with(options));
        let sandbox = Sandbox::new(program());
        sandbox.env("VALETKEY_STORE", "file");
        Self { authority, sandbox }
    }

    /// Writes a configuration with one profile, for these origins, with lines of the test's own at
    /// its end.
    pub fn bind(&self, origins: &[&str], more: &str) {
        self.sandbox.config(&format!(
            "[profile.lab]\norigins = {origins:?}\nissuer = \"{}\"\n\
             client_id = \"{CLIENT_ID}\"\n{more}\n",
            self.authority.issuer(),
        ));
    }

    /// Whether a token lives, for a server to ask.
    pub fn judge(&self) -> impl Fn(&str) -> bool + Send + Sync + 'static {
        let authority = Arc::clone(&self.authority);
        move |token| authority.token_is_live(token)
    }

    /// A person with a browser, for every program from now on.
    pub fn browser(&self, person: Person) -> Browser {
        self.sandbox.env("VALETKEY_INTERACTIVE", "always");
        Browser::start(&self.sandbox, person)
    }

    /// Nobody is there from now on.
    pub fn nobody(&self) {
        self.sandbox.env("VALETKEY_INTERACTIVE", "never");
    }

    /// Signs in by the browser and lets the person go.
    pub fn sign_in_to(&self, url: &str) {
        let _browser = self.browser(Person::Approves);
        self.sandbox.valetkey(&["login", url]).run().assert_status(0);
        self.nobody();
    }

    /// Everything that was issued has ended, on the server and by our clock, and what comes next
    /// lives for an hour.
    pub fn end_tokens(&self) {
        self.authority.expire_all_access();
        self.authority.tune(|options| options.expires_in = Some(3600));
        self.age(3600);
    }

    /// As the function of this name.
    pub fn age(&self, seconds: u64) {
        age(&self.sandbox, seconds);
    }
}

impl Scene {
    pub fn new() -> Self {
        Self::with(Scheme::Basic, Options::default())
    }

    pub fn with(scheme: Scheme, options: Options) -> Self {
        let home = Home::new(options);
        let host = GitHost::start(scheme, home.judge());
        host.create("team/s.git");
        home.sandbox.link("git-credential-valetkey");
        home.sandbox.git_config("[credential]\n\thelper = valetkey\n");
        let scene = Self { home, host, scheme };
        scene.profile("");
        scene
    }

    /// Writes the profile, with lines of the test's own at its end.
    pub fn profile(&self, more: &str) {
        let scheme = match self.scheme {
            Scheme::Basic => "basic",
            Scheme::Bearer | Scheme::Both => "bearer",
        };
        let account = self.authority.url("/me");
        let settings = format!(
            "scheme = \"{scheme}\"\naccount = {{ url = \"{account}\", id = \"/login\" }}\n{more}"
        );
        self.bind(&[&self.host.origin()], &settings);
    }

    /// As `profile`, for a host that is a registry of container images.
    pub fn registry(&self, more: &str) {
        self.profile(more);
        let path = self.sandbox.root().join("config/valetkey/config.toml");
        let text = std::fs::read_to_string(path).expect("it has just been written");
        let origin = self.host.origin();
        let table = format!("{{ url = \"{origin}\", registry = true }}");
        self.sandbox.config(&text.replace(&format!("[\"{origin}\"]"), &format!("[{table}]")));
    }

    pub fn sign_in(&self) {
        self.sign_in_to(&self.host.origin());
    }

    /// The one record in the file store.
    #[track_caller]
    pub fn session_file(&self) -> FileSeen {
        let mut files = self.sandbox.files();
        files.retain(|file| file.path.starts_with("data/valetkey/sessions"));
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    pub fn clone_to(&self, name: &str) -> Finished {
        self.git_clone(name).run()
    }

    pub fn git_clone(&self, name: &str) -> Run {
        self.sandbox.git(&["clone", "--quiet", &self.host.url("team/s.git"), name])
    }

    pub fn git_in(&self, name: &str, arguments: &[&str]) -> Run {
        self.sandbox.git(arguments).cwd(self.sandbox.work().join(name))
    }

    /// `get` as git asks it, with both capabilities.
    pub fn get(&self) -> Run {
        self.sandbox.valetkey(&["get"]).stdin(self.question())
    }

    pub fn question(&self) -> String {
        let host = self.host.origin().replace("http://", "");
        format!("capability[]=authtype\ncapability[]=state\nprotocol=http\nhost={host}\n")
    }

    /// `get` without any capability.
    pub fn plain_get(&self) -> Run {
        let host = self.host.origin().replace("http://", "");
        self.sandbox.valetkey(&["get"]).stdin(format!("protocol=http\nhost={host}\n"))
    }
}

/// The value of a line of an answer.
pub fn value(finished: &Finished, key: &str) -> Option<String> {
    let text = finished.stdout_text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
    line.map(str::to_owned)
}

/// Lets the sessions in files look as they will in so many seconds.
pub fn age(sandbox: &Sandbox, seconds: u64) {
    for file in sandbox.files() {
        let Ok(mut record) = serde_json::from_slice::<serde_json::Value>(&file.content) else {
            continue;
        };
        earlier(&mut record, seconds);
        let exchanged = record.get_mut("exchanged").and_then(serde_json::Value::as_array_mut);
        exchanged.into_iter().flatten().for_each(|exchanged| earlier(exchanged, seconds));
        if file.path.starts_with("data/valetkey/sessions") {
            let path = file.path.to_str().expect("a plain path");
            sandbox.write(path, record.to_string().as_bytes(), 0o600);
        }
    }
}

fn earlier(record: &mut serde_json::Value, seconds: u64) {
    for time in ["expires_at", "id_expires_at", "stored_at", "renewed_at"] {
        if let Some(then) = record[time].as_u64() {
            record[time] = (then - seconds).into();
        }
    }
}
