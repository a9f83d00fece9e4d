//! A secret from the terminal. It is read letter by letter: a terminal that collects lines cuts
//! them at 4,096 bytes, which is shorter than some tokens, and one that still turns Ctrl-C into a
//! signal would end us with its echo off.

use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use rustix::termios::{tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::model::Secret;

/// Bytes; no token is as long.
const LIMIT: usize = 64 << 10;

/// Puts the terminal back as it was, whatever happens.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn start(terminal: &'a File) -> Option<Self> {
        let before = tcgetattr(terminal).ok()?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Now, &quiet).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that has gone away needs no echo.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
        let _ = self.terminal.write_all(b"\n");
    }
}

/// `prompt` is called once nothing shows any more that is typed.
pub(super) fn read(
    mut terminal: &File,
    prompt: &dyn Fn(),
    limit: Duration,
    clock: &dyn Clock,
    gone: &dyn Fn() -> bool,
) -> Option<Secret> {
    let _quiet = Quiet::start(terminal)?;
    prompt();
    let until = clock.elapsed() + limit;
    let mut typed = Zeroizing::new(Vec::with_capacity(LIMIT));
    loop {
        if gone() || clock.elapsed() >= until {
            return None;
        }
        let tick = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
        if poll(&mut [PollFd::new(&terminal, PollFlags::IN)], Some(&tick)).ok()? == 0 {
            continue;
        }
        let mut bytes = Zeroizing::new([0; 1024]);
        let length = terminal.read(&mut bytes[..]).ok().filter(|length| *length > 0)?;
        for byte in &bytes[..length] {
            match byte {
                b'\n' | b'\r' => {
                    let text = std::str::from_utf8(&typed).ok()?.trim();
                    let plain = !text.is_empty() && text.bytes().all(|byte| byte >= b' ');
                    return plain.then(|| Secret::new(text));
                }
                // Ctrl-C, Ctrl-D, Ctrl-\: the person has changed their mind.
                0x03 | 0x04 | 0x1c => return None,
                0x08 | 0x7f => drop(typed.pop()),
                // Ctrl-U takes everything back.
                0x15 => typed.clear(),
                byte if typed.len() < LIMIT => typed.push(*byte),
                _ => return None,
            }
        }
    }
}
