//! The one test binary: the whole program against servers of our own making and against real ones.

#![allow(unreachable_pub, reason = "a test binary has no public face")]

mod lab;
mod lab_itself;
mod peers;
mod road;
mod scene;
