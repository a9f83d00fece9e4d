//! `$BROWSER` for real servers: a script that starts tests/peers/.../approve.mjs and returns at
//! once. The page that the person ended on comes back here.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::{installed, peer};
use crate::lab::Sandbox;
use crate::lab::listener::Listener;
use crate::lab::sandbox::write_program;
use crate::lab::watched::{PATIENCE, Watched};

#[derive(Default)]
struct Seen {
    opened: Vec<String>,
    ends: Vec<Value>,
}

/// Runs until dropped. Each page that it opens is approved, or denied, by a program of its own.
pub(super) struct Approver {
    seen: Arc<Watched<Seen>>,
    _listener: Listener,
}

impl Approver {
    /// A person who does without a browser, in a third of a second.
    pub(super) fn start(sandbox: &Sandbox) -> Self {
        Self::with(sandbox, &peer("oidc-provider/approve.mjs"), "", "")
    }

    /// `before` and `after` are arguments around the URL, as a shell reads them.
    pub(super) fn with(sandbox: &Sandbox, program: &Path, before: &str, after: &str) -> Self {
        let seen = Arc::new(Watched::new(Seen::default()));
        let listener = Listener::bind();
        let port = listener.address().port();
        let text = format!(
            "#!/bin/bash\nexport VALETKEY_PEERS='{}'\nexec 3<>/dev/tcp/127.0.0.1/{port}\n\
             printf '%s\\n' \"$1\" >&3\n\
             setsid -f node '{}' {before} \"$1\" {after} </dev/null >&3 2>&3\n",
            installed().display(),
            program.display(),
        );
        let script = sandbox.bin().join(format!("approver-{port}"));
        write_program(&script, &text);
        sandbox.env("BROWSER", &script);
        let listener = listener.serve({
            let seen = Arc::clone(&seen);
            move |stream| receive(stream, &seen)
        });
        Self { seen, _listener: listener }
    }

    /// Every URL that was opened, in order.
    pub(super) fn opened(&self) -> Vec<String> {
        self.seen.read(|seen| seen.opened.clone())
    }

    /// What approve.mjs said of the last page of each of `number` visits.
    #[track_caller]
    pub(super) fn ends(&self, number: usize) -> Vec<Value> {
        let all = |seen: &Seen| (seen.ends.len() >= number).then(|| seen.ends.clone());
        let ends = self.seen.wait(Instant::now() + PATIENCE * 2, all);
        ends.unwrap_or_else(|| {
            self.seen.read(|seen| panic!("opened {:#?}, ended {:#?}", seen.opened, seen.ends))
        })
    }
}

fn receive(stream: &TcpStream, seen: &Watched<Seen>) {
    let mut reader = BufReader::new(stream);
    let mut url = String::new();
    if reader.read_line(&mut url).is_err() || url.is_empty() {
        return;
    }
    seen.change(|seen| seen.opened.push(url.trim_end().to_owned()));
    let mut said = String::new();
    let read = reader.read_to_string(&mut said);
    let end = serde_json::from_str(&said)
        .unwrap_or_else(|error| Value::from(format!("{error}, {read:?}: {said}")));
    seen.change(|seen| seen.ends.push(end));
}
