//! The one test binary: the whole program against servers of our own making and against real ones.

#![allow(unreachable_pub, reason = "a test binary has no public face")]
#![allow(clippy::disallowed_methods, reason = "the nevers of the house are for src")]

mod keyring;
mod lab;
mod lab_itself;
mod road;
mod scene;
mod tidy;
mod verbs;
