//! The one test binary: the whole program against servers of our own making and against real ones.

mod lab;
mod lab_itself;
