//! The one test binary: the whole program against servers of our own making and against real ones.

#![allow(unreachable_pub, reason = "a test binary has no public face")]
#![allow(clippy::disallowed_methods, reason = "the nevers of the house are for src")]

mod accounts;
mod asked;
mod askpass;
mod bazel;
mod browser_flow;
mod cargo;
mod clockwork;
mod desktop;
mod device_pace;
mod device_screen;
mod discovery;
mod docker;
mod docs;
mod exchange;
mod files;
mod generic;
mod goauth;
mod helper_store;
mod inside;
mod installed;
mod issuer;
mod keychain;
mod keyring;
mod kill;
mod kubectl;
mod lab;
mod lab_itself;
mod leaks;
mod listener;
mod paste;
mod pasted;
mod peers;
mod peers_cargo;
mod peers_kubectl;
mod peers_terraform;
mod planted;
mod races;
mod refresh;
mod revocation;
mod road;
mod scene;
mod setup_docker;
mod setup_tools;
mod standing_clock;
mod systems;
mod terraform;
mod tidy;
mod transport;
mod unconfigured;
mod vault_token;
mod vectors;
mod verbs;
mod workload;
