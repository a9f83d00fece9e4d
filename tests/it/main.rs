//! The one test binary: the whole program against servers of our own making and against real ones.

#![allow(unreachable_pub, reason = "a test binary has no public face")]
#![allow(clippy::disallowed_methods, reason = "the nevers of the house are for src")]

mod asked;
mod browser_flow;
mod clockwork;
mod device_pace;
mod device_screen;
mod discovery;
mod issuer;
mod lab;
mod lab_itself;
mod listener;
mod paste;
mod refresh;
mod revocation;
mod road;
mod scene;
mod tidy;
mod transport;
mod verbs;
