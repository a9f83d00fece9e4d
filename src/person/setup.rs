//! `valetkey setup TOOL`: what a tool needs to ask us, as steps that can be shown, done and taken
//! back. A tool's file says which steps; this one shows and does them.

mod askpass;
mod aws;
mod bazel;
mod cargo;
mod change;
mod docker;
mod files;
mod git;
mod go;
mod google;
mod hidden;
mod json;
mod keyring;
mod kubectl;
mod memory;
mod place;
mod pnpm;
mod podman;
mod recipes;
mod step;
mod tables;
mod terraform;
mod tool;
mod vault;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use files::{Change, Text};
use memory::Memory;
use step::Step;

use crate::broker::World;
use crate::cli::{self, Tool};
use crate::dialect::Wire;
use crate::error::{Error, Kind, Result};

/// What the person typed, and what the steps are made from.
struct Setup<'a> {
    typed: &'a cli::Setup,
    world: &'a World<'a>,
    own: Option<&'a Path>,
    memory: RefCell<Memory>,
    /// Values that are replaced: the file, the key, and what it said, if it was there.
    notes: RefCell<Vec<(PathBuf, String, Option<String>)>>,
    /// The files that were looked at.
    seen: RefCell<Vec<PathBuf>>,
}

pub(super) fn setup(
    typed: &cli::Setup,
    world: &World<'_>,
    wire: &Wire<'_>,
    own: Option<&Path>,
) -> Result<()> {
    let _lock = if typed.print { None } else { Some(memory::lock(world)?) };
    let memory = RefCell::new(Memory::load(world)?);
    let (notes, seen) = (RefCell::default(), RefCell::default());
    let setup = Setup { typed, world, own, memory, notes, seen };
    let all = steps(&setup)?;
    let mut shown: Vec<String> = all.iter().map(Step::shown).collect();
    if typed.print {
        for text in &shown {
            wire.send(
                format!(
                    "{text}
"
                )
                .as_bytes(),
            )?;
        }
        return Ok(());
    }
    if !typed.undo {
        setup.memory.borrow_mut().used(&setup.program()?);
    }
    let changes = all.iter().any(Step::changes);
    if changes {
        step::perform(&all, &setup)?;
    }
    if typed.undo && changes {
        // The file of before the last setup can hold what one before that wrote.
        let more: Vec<Step> = steps(&setup)?.into_iter().filter(Step::changes).collect();
        shown.extend(more.iter().map(Step::shown));
        step::perform(&more, &setup)?;
    }
    if typed.undo && typed.hosts.is_empty() {
        let seen = setup.seen.take();
        let mut memory = setup.memory.borrow_mut();
        seen.iter().for_each(|path| drop(memory.forget(path)));
        memory.save(world)?;
    }
    // A terminal gets no control characters, and a tab is one.
    shown.iter().for_each(|text| world.ui.say(&text.replace('\t', "    ")));
    if !changes {
        world.ui.say(match typed.undo {
            true => "nothing to undo: nothing of valetkey's is set up there",
            false => "nothing to do: it is set up like that already",
        });
    }
    Ok(())
}

fn steps(setup: &Setup<'_>) -> Result<Vec<Step>> {
    match setup.typed.tool {
        Tool::Cargo => cargo::steps(setup),
        Tool::Docker => docker::steps(setup),
        Tool::Git => git::steps(setup),
        Tool::Askpass => askpass::steps(setup),
        Tool::Aws => aws::steps(setup),
        Tool::Bazel => bazel::steps(setup),
        Tool::Curl | Tool::Mcp | Tool::Rclone => recipes::steps(setup),
        Tool::Go => go::steps(setup),
        Tool::Google => google::steps(setup),
        Tool::Keyring => keyring::steps(setup),
        Tool::Kubectl => kubectl::steps(setup),
        Tool::Pnpm => pnpm::steps(setup),
        Tool::Podman => podman::steps(setup),
        Tool::Terraform => terraform::steps(setup),
        Tool::Vault => vault::steps(setup),
    }
}

impl Setup<'_> {
    fn home(&self) -> Result<PathBuf> {
        let home = self.world.environment.raw("HOME").map(PathBuf::from);
        home.ok_or_else(|| Error::new(Kind::Failed, "there is no home directory").hint("set HOME"))
    }

    /// A file that a variable names, else one in the person's home.
    fn file(&self, variable: &str, name: &str) -> Result<PathBuf> {
        match self.world.environment.raw(variable) {
            Some(path) => std::path::absolute(path).map_err(|error| {
                Error::new(Kind::Failed, format!("{variable} names no file")).because(error)
            }),
            None => Ok(self.home()?.join(name)),
        }
    }

    /// The text of a configuration file; empty where there is none.
    fn open(&self, path: &Path) -> Result<Text> {
        let text = Text::open(path, self)?;
        self.seen.borrow_mut().push(text.path().to_owned());
        Ok(text)
    }

    /// The steps that give back the files of a tool that writes them itself, where all of them are
    /// as setup left them.
    fn restored(&self, paths: &[PathBuf]) -> Result<Option<Vec<Step>>> {
        let memory = self.memory.borrow();
        let mut steps = Vec::new();
        for path in paths {
            self.seen.borrow_mut().push(path.clone());
            let Some(before) = files::content(path)? else { continue };
            if memory.is_known(path) {
                let Some(original) = memory.original(path, &before) else { return Ok(None) };
                let after = Some(original).filter(|text| memory.existed(path) || !text.is_empty());
                let (path, before) = (path.clone(), Some(before));
                steps.push(Step::Write(Change { path, before, after, program: false }));
            }
        }
        Ok(Some(steps).filter(|steps| !steps.is_empty()))
    }

    /// Remembers a value that is about to be replaced in a file.
    fn note(&self, path: &Path, key: impl Into<String>, value: Option<&str>) {
        let note = (path.to_owned(), key.into(), value.map(str::to_owned));
        self.notes.borrow_mut().push(note);
    }

    /// The value that an earlier setup replaced, or took the place of.
    fn noted(&self, path: &Path, key: &str) -> Option<Option<String>> {
        self.memory.borrow().replaced(path, key).map(|value| value.map(str::to_owned))
    }

    /// Refuses `--host` where the tool asks one helper about everything.
    fn no_hosts(&self, why: &str) -> Result<()> {
        match self.typed.hosts.is_empty() {
            true => Ok(()),
            false => Err(Error::new(Kind::Usage, why).hint("leave --host out")),
        }
    }
}

/// Another helper is there, and stays unless the person wants otherwise.
fn taken(what: impl Into<String>) -> Error {
    Error::new(Kind::Failed, what).hint("--replace puts valetkey in its place")
}
