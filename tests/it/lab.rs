//! The laboratory: everything the tests and the tour put around valetkey. A scripted authorization
//! server, a git host, a browser with a person in front of it, and a throwaway home.
//!
//! It never leaves the loopback, never uses a fixed port, never takes time for a sign of anything, and
//! never depends on a test framework: when something is wrong it panics and prints what it saw.
//!
//! | room | what stands there |
//! | --- | --- |
//! | [`authority`] | an OAuth authorization server that follows the rules until told otherwise |
//! | [`git_host`] | a real git server over HTTP that asks for a token |
//! | [`registry`] | a container registry that asks for a user name and a token |
//! | [`crate_host`] | a private crate registry with a sparse index |
//! | [`browser`] | the program in `$BROWSER`, and the person who approves or denies |
//! | [`systems`] | sites that people sign in to today, as their documents describe them |
//! | [`sandbox`] | a home with nothing in it, and programs run in it, with a terminal or without |
//! | [`tokens`] | personal access tokens as a server keeps them: an example |
//! | [`token_server`] | the API around them |
//! | [`server`] | HTTP/1.1 by hand, with a journal of every request |
//! | [`job`] | a job of a pipeline, its platform, and who takes its identity in exchange |
//! | [`client`] | HTTP/1.1 by hand, down to arbitrary bytes |
//! | [`listener`] | a free port and a thread for every connection |
//! | [`tls`] | a certificate authority, HTTPS before a plain server, a proxy |
//! | [`wire`] | what a request and an answer look like as bytes |
//! | [`watched`] | a value and the wish to be told when it changes |
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "two programs share the laboratory, neither uses all of it, and it may do what the product may not"
)]

pub mod authority;
pub mod browser;
pub mod client;
pub mod crate_host;
pub mod git_host;
pub mod job;
pub mod listener;
pub mod registry;
pub mod sandbox;
pub mod server;
pub mod systems;
pub mod tls;
pub mod token_server;
pub mod tokens;
pub mod watched;
pub mod wire;

pub use authority::{Authority, CLIENT_ID, Options, Refreshing, Step};
pub use browser::{Browser, Person, Program};
pub use client::{Page, RawConnection, http, http_get, http_post_form};
pub use crate_host::CrateHost;
pub use git_host::{GitHost, Scheme};
pub use job::Job;
pub use registry::{CHART, Door, IMAGE, Registry};
pub use sandbox::{FileSeen, Finished, Run, Sandbox, Started};
pub use server::{Answer, Entry, Gate, Journal, Reply, Request, Server};
pub use token_server::TokenServer;
