//! A private crate registry with a sparse index that wants a token for everything, as RFC 3139 has
//! it. It holds one crate, takes new versions, and knows nothing of where tokens come from: a
//! closure says which values of the Authorization header are good.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::server::{Answer, Journal, Reply, Request, Server};

/// The crate that is there from the start, in version 0.1.0.
pub const CRATE: &str = "hello-lab";

struct Shelf {
    crate_file: Vec<u8>,
    /// Lines of the index.
    versions: Mutex<Vec<String>>,
}

pub struct CrateHost {
    server: Server,
}

impl CrateHost {
    pub fn start<A>(accepts: A) -> Self
    where
        A: Fn(&str) -> bool + Send + Sync + 'static,
    {
        let crate_file = packed();
        let shelf = Shelf { versions: Mutex::new(vec![line("0.1.0", &crate_file)]), crate_file };
        let shelf = Arc::new(shelf);
        let server = Server::start_knowing_origin(|origin| {
            let origin = origin.to_owned();
            move |request: &Request| -> Reply {
                let sent = request.header("Authorization");
                match sent.is_some_and(&accepts) {
                    true => answer(&shelf, &origin, request).into(),
                    false => Answer::text(401, "a token, please\n")
                        .with_header(
                            "WWW-Authenticate",
                            &format!("Cargo login_url=\"{origin}/tokens\""),
                        )
                        .into(),
                }
            }
        });
        Self { server }
    }

    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// Without the `sparse+`.
    pub fn index(&self) -> String {
        format!("{}/index/", self.server.origin())
    }

    pub fn journal(&self) -> &Journal {
        self.server.journal()
    }
}

fn answer(shelf: &Shelf, origin: &str, request: &Request) -> Answer {
    let Request { method, path, .. } = request;
    let versions = || shelf.versions.lock().unwrap_or_else(PoisonError::into_inner);
    match (method.as_str(), path.as_str()) {
        ("GET", "/index/config.json") => Answer::json(
            200,
            &json!({ "dl": format!("{origin}/dl"), "api": origin, "auth-required": true }),
        ),
        ("GET", "/index/he/ll/hello-lab") => Answer::text(200, &versions().join("\n")),
        ("GET", "/dl/hello-lab/0.1.0/download") => {
            Answer { body: shelf.crate_file.clone(), ..Answer::empty(200) }
        }
        ("PUT", "/api/v1/crates/new") => {
            let length = request.body.first_chunk().copied().map_or(0, u32::from_le_bytes) as usize;
            let metadata: Value =
                serde_json::from_slice(&request.body[4..4 + length]).expect("cargo's metadata");
            let version = metadata["vers"].as_str().expect("a version");
            versions().push(line(version, b"whatever it was"));
            Answer::json(200, &json!({}))
        }
        ("GET", "/api/v1/crates/hello-lab/owners") => {
            let owner = json!({ "id": 1, "login": "alice", "name": "Alice" });
            Answer::json(200, &json!({ "users": [owner] }))
        }
        ("DELETE", "/api/v1/crates/hello-lab/0.1.0/yank") => {
            Answer::json(200, &json!({ "ok": true }))
        }
        _ => Answer::text(404, "no such page\n"),
    }
}

fn line(version: &str, crate_file: &[u8]) -> String {
    let digest = Sha256::digest(crate_file);
    let checksum: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let line = json!({
        "name": CRATE, "vers": version, "deps": [], "cksum": checksum, "features": {},
        "yanked": false,
    });
    line.to_string()
}

/// As `cargo package` packs it.
fn packed() -> Vec<u8> {
    let directory = TempDir::new().expect("a place");
    let root = directory.path().join("hello-lab-0.1.0");
    std::fs::create_dir_all(root.join("src")).expect("a directory");
    let manifest =
        format!("[package]\nname = \"{CRATE}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    std::fs::write(root.join("Cargo.toml"), manifest).expect("a manifest");
    std::fs::write(root.join("src/lib.rs"), "").expect("a source");
    let packed = Command::new("tar")
        .args(["-cz", "hello-lab-0.1.0"])
        .current_dir(directory.path())
        .output()
        .expect("tar runs");
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    packed.stdout
}
