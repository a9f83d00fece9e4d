//! Both sides of a personal access token, to try by hand: `cargo run --example token-server` starts
//! the demonstration server of `lab/tokens.rs` and `lab/token_server.rs`, and says what to type.

#![allow(unreachable_pub, reason = "a program has no public face")]
#![allow(dead_code, reason = "a part of the laboratory is enough")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "the nevers are for src")]

mod lab;

use std::io::Read as _;

use lab::TokenServer;

fn main() {
    let server = TokenServer::start("alice", "correct horse");
    let origin = server.origin();
    println!(
        "a server that issues and takes tokens, on this machine alone: {origin}

make one (it is shown this once), see it in the list, revoke it:
curl -su 'alice:correct horse' {origin}/tokens -d name=laptop -d scopes=read -d expires_in=86400
curl -su 'alice:correct horse' {origin}/tokens
curl -su 'alice:correct horse' -X DELETE {origin}/tokens/1

let valetkey keep it:
cat >config.toml <<END
[profile.demo]
origins = [{{ url = \"{origin}\", scheme = \"bearer\" }}]
flow = \"token\"
account = {{ url = \"{origin}/me\", id = \"/login\" }}
END
export VALETKEY_CONFIG=$PWD/config.toml
valetkey login {origin}
valetkey header {origin}/me | curl -sH @- {origin}/me

it ends with its standard input"
    );
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
