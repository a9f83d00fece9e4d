//! The command line into a command: what was typed, and by which name, not what it means.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::dialect::{self, Dialect};
use crate::error::{Error, Kind};
use crate::model::{Secret, Sent, timestamp};
use crate::profile::Flow;

/// What is to be done.
pub enum Command {
    /// Answer a program in its own language.
    Serve { dialect: &'static Dialect, arguments: Vec<String> },
    /// Something for a person.
    Person(Verb),
    /// Print this on standard output: help and version were asked for.
    Show(String),
    /// Say nothing and be done: an operation that a later git may know (gitcredentials(7)).
    Ignore,
}

#[derive(Parser)]
#[command(
    name = "valetkey",
    version,
    about = "One sign-in for every host tool: stores, renews and obtains OAuth tokens",
    after_help = "Programs run these; each speaks one tool's language:
  valetkey get|store|erase|capability    git's credential protocol, also as `valetkey git`
  valetkey docker get|store|erase|list   docker's credential helper, for podman and helm too
  valetkey cargo --cargo-plugin          cargo's credential provider
  valetkey kubectl [URL]                 client-go's exec plugin
  valetkey terraform get|store|forget    the credentials helper of terraform and tofu
  valetkey token|header|json URL         one valid token on standard output; never signs in
  valetkey keyring get|set|del ...       Python's keyring, for pip, uv and PDM
  valetkey goauth [URL]                  go's GOAUTH command
  valetkey bazel get                     bazel's credential helper
  valetkey vault get|store|erase         the token helper of Vault and OpenBao
  valetkey askpass PROMPT                what GIT_ASKPASS names
  valetkey aws URL                       AWS's credential_process
  valetkey google                        the executable source of google-auth

Exit status: 0 done, 1 failed, 2 not signed in, 3 refused or timed out, 4 rejected by the server,
5 try again later, 6 storage unavailable, 64 usage, 78 configuration"
)]
struct Typed {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Sign in to a host
    Login(Login),
    /// Sign out: revoke and forget
    Logout(Logout),
    /// Take over what another tool has stored; its file stays as it is
    Import(Import),
    /// Show every session, or which one answers for a URL and why
    Status {
        /// For example `https://git.example.com/team/project.git`
        url: Option<String>,
        /// As JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Print the signed-in account; exit status 2 if there is none
    Whoami {
        url: Option<String>,
        /// Whether this account is signed in
        #[arg(long, value_name = "NAME", requires = "url")]
        account: Option<String>,
    },
    /// Choose which account answers for a host, or what is sent beside its token
    Use(Use),
    /// List what is stored, without the secrets
    List {
        /// As JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Make a tool use valetkey
    Setup(Setup),
    /// Print a completion script
    Completions { shell: clap_complete::Shell },
}

#[derive(Args, Debug)]
pub struct Login {
    /// The host, as a URL or a bare name
    pub url: String,
    /// Keep the session under this name, and suggest it to the server
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// How to sign in
    #[arg(long, value_enum, default_value_t)]
    pub flow: Flow,
    /// Only print the address
    #[arg(long)]
    pub no_browser: bool,
    /// Sign in again although a session is there
    #[arg(long)]
    pub force: bool,
    /// How long to wait for the person
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: Option<u64>,
    /// Use this OAuth client instead of the profile's
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// The loopback port of the redirect, for `ssh -L` and for servers that want a fixed one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Ask for this scope instead of the profile's; repeatable
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// Keep the token that comes on standard input, once the host has said whose it is
    #[arg(long, group = "token", conflicts_with_all = SIGN_IN)]
    pub token_stdin: bool,
    /// The same, from the command line, where others can see it
    #[arg(long, group = "token", conflicts_with_all = SIGN_IN, value_name = "TOKEN", value_parser = secret)]
    pub with_token: Option<Secret>,
    /// When the token ends: a day (YYYY-MM-DD, UTC), or seconds from now
    #[arg(long, requires = "token", value_name = "DATE|SECONDS", value_parser = End::parse)]
    pub expires: Option<End>,
    /// A field of the profile, such as tenant; repeatable
    #[arg(long = "set", value_name = "FIELD=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
}

/// What is about a sign-in, and has no meaning beside a token.
const SIGN_IN: [&str; 7] =
    ["flow", "no_browser", "force", "timeout", "client_id", "port", "scopes"];

/// When a token ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// Seconds from now.
    After(u64),
    /// Unix time in seconds.
    At(u64),
}

impl End {
    fn parse(text: &str) -> Result<Self, String> {
        match (text.parse(), timestamp::day(text)) {
            (Ok(seconds), _) => Ok(Self::After(seconds)),
            (_, Some(day)) => Ok(Self::At(day)),
            _ => Err("neither a day like 2030-12-31 nor a number of seconds".to_owned()),
        }
    }
}

/// clap would show the text of an argument that it cannot use; a secret is any text.
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && Sent::takes(value) => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("FIELD=VALUE is wanted, and a value that a header takes".to_owned()),
    }
}

#[derive(Args, Debug)]
pub struct Use {
    /// The host, as a URL or a bare name
    pub url: String,
    /// This account answers from now on where none is named
    #[arg(long, value_name = "NAME", required_unless_present = "settings")]
    pub account: Option<String>,
    /// Its pasted token rather than its session
    #[arg(long, requires = "account")]
    pub token: bool,
    /// A field of the profile, such as tenant, from now on; repeatable
    #[arg(long = "set", value_name = "FIELD=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
}

#[derive(Args, Debug)]
pub struct Import {
    /// The tool's credential file, or - for standard input
    pub file: PathBuf,
    /// The host whose profile it becomes a session of
    #[arg(long = "for", value_name = "URL")]
    pub url: String,
    /// Keep the session under this name
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
}

#[derive(Args, Debug)]
pub struct Logout {
    /// The host, as a URL or a bare name
    #[arg(required_unless_present = "all")]
    pub url: Option<String>,
    /// Only this account
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Everything that is stored
    #[arg(long, conflicts_with_all = ["url", "account"])]
    pub all: bool,
    /// Do not tell the server: its tokens live on until they expire
    #[arg(long)]
    pub local: bool,
}

#[derive(Args, Debug)]
pub struct Setup {
    #[arg(value_enum)]
    pub tool: Tool,
    /// Only for this host; repeatable
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<String>,
    /// Put aside the helpers that are configured before this one
    #[arg(long, conflicts_with = "undo")]
    pub replace: bool,
    /// Show what would be run, and run nothing
    #[arg(long)]
    pub print: bool,
    /// Take back what setup wrote
    #[arg(long)]
    pub undo: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Tool {
    /// For GIT_ASKPASS
    Askpass,
    /// Profiles of AWS's command line and SDKs
    Aws,
    Bazel,
    Cargo,
    Curl,
    /// And helm, oras and others that read its config.json
    #[value(aliases = ["helm", "oras"])]
    Docker,
    Git,
    #[value(alias = "goauth")]
    Go,
    /// google-auth and its siblings
    Google,
    /// For pip, uv and PDM
    #[value(aliases = ["pip", "uv", "pdm"])]
    Keyring,
    Kubectl,
    /// The headersHelper of an MCP client
    Mcp,
    Pnpm,
    /// And buildah and skopeo
    #[value(aliases = ["buildah", "skopeo"])]
    Podman,
    Rclone,
    /// And tofu
    #[value(aliases = ["tofu", "opentofu"])]
    Terraform,
    /// The token helper of Vault and OpenBao
    #[value(aliases = ["bao", "openbao"])]
    Vault,
}

impl Tool {
    /// What setup changes for it, and what its user has to know.
    fn about(self) -> &'static str {
        match self {
            Self::Askpass => {
                "Makes the link askpass-valetkey and prints the line that sets GIT_ASKPASS to it. \
                 --host means nothing to it."
            }
            Self::Aws => {
                "Adds a profile with credential_process to ~/.aws/config, or to AWS_CONFIG_FILE, \
                 for each role of config.toml. --host is the URL of one role."
            }
            Self::Bazel => {
                "Makes the link bazel-credential-valetkey and adds --credential_helper to \
                 ~/.bazelrc. With --host for one host only."
            }
            Self::Cargo => {
                "Makes the link cargo-credential-valetkey and adds it to the credential providers \
                 in cargo's config.toml. With --host for the registry whose index is there."
            }
            Self::Curl => "Prints how to give curl a token of --host. Changes nothing.",
            Self::Docker => {
                "Makes the link docker-credential-valetkey and names it in docker's config.json: \
                 as credsStore, or with --host in credHelpers. Sign-ins that docker would not see \
                 any more, in config.json itself or in the helper before, are taken over."
            }
            Self::Git => {
                "Adds valetkey to credential.helper of git's global configuration. With --host to \
                 credential.URL.helper. --replace puts an empty line before it, so that git asks \
                 no helper of before."
            }
            Self::Go => {
                "Puts valetkey first into GOAUTH, which go keeps by go env -w. --host means \
                 nothing to it. Needs go 1.24 or later."
            }
            Self::Google => {
                "Writes a credential configuration for each workload identity provider of \
                 config.toml beside it, and prints how to use it."
            }
            Self::Keyring => {
                "Makes the link keyring, which pip, uv and PDM run, and prints what they have to \
                 be told. twine, poetry and hatch cannot be served. --host means nothing to it."
            }
            Self::Kubectl => {
                "Adds the user valetkey to the kubeconfig, and for --host a context NAME-valetkey \
                 beside each context whose cluster is there."
            }
            Self::Mcp => "Prints the headersHelper of an MCP client for --host. Changes nothing.",
            Self::Pnpm => {
                "Writes a program for the registry of --host, and names it as tokenHelper in the \
                 .npmrc of the home directory. npm and yarn know no such helper."
            }
            Self::Podman => {
                "Makes the link docker-credential-valetkey and names it in a file of its own below \
                 ~/.config/containers/registries.conf.d. --host means nothing to it: for one \
                 registry it is setup docker --host."
            }
            Self::Rclone => "Prints rclone's bearer_token_command for --host. Changes nothing.",
            Self::Terraform => {
                "Makes a link in ~/.terraform.d/plugins and adds a credentials_helper to \
                 ~/.terraformrc, or to TF_CLI_CONFIG_FILE, and to ~/.tofurc where that is there. \
                 --host means nothing to it."
            }
            Self::Vault => {
                "Makes the link vault-token-valetkey and names it as token_helper in ~/.vault, or \
                 in VAULT_CONFIG_PATH. --host means nothing to it."
            }
        }
    }
}

/// The help of `setup` about the tool that a command line names.
fn help_of_tool(arguments: &[OsString]) -> Option<String> {
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    let name = words
        .find(|word| *word == "setup")
        .and_then(|_| words.find_map(|word| <Tool as clap::ValueEnum>::from_str(word, false).ok()));
    let tool = name?;
    let mut typed = Typed::command();
    typed.build();
    let setup = typed.find_subcommand_mut("setup")?;
    let name = clap::ValueEnum::to_possible_value(&tool)?;
    let usage = format!("valetkey setup {} [OPTIONS]", name.get_name());
    let setup = std::mem::take(setup).about(tool.about()).override_usage(usage);
    let mut setup = setup.mut_arg("tool", |tool| tool.hide(true));
    Some(setup.render_help().to_string())
}

/// Reads a command line. Machine-facing verbs are recognised before clap is built: they are on
/// the critical path of every network command of a tool.
///
/// # Errors
/// `Usage` with clap's own text.
pub fn parse(arguments: &[OsString], from_program: &dyn Fn() -> bool) -> Result<Command, Error> {
    let word = |index: usize| arguments.get(index).and_then(|word| word.to_str());
    let called = word(0).map(Path::new).and_then(Path::file_stem).and_then(|name| name.to_str());
    let serve = |dialect, skipped: usize| {
        let words = arguments.iter().skip(skipped);
        let arguments = words.map(|word| word.to_string_lossy().into_owned()).collect();
        Ok(Command::Serve { dialect, arguments })
    };
    if let Some(dialect) = called.and_then(dialect::linked) {
        return match shown(dialect, &arguments[1..]).filter(|_| !dialect.answers_help(true)) {
            Some(text) => Ok(Command::Show(text)),
            None => serve(dialect, 1),
        };
    }
    let (dialect, skipped) = match word(1) {
        // A person who types the name alone wants to know what can be typed.
        None if !from_program() => {
            return Ok(Command::Show(Typed::command().render_help().to_string()));
        }
        None => (Some(&dialect::git::DIALECT), 1),
        Some(verb) if dialect::git::is_verb(verb) => (Some(&dialect::git::DIALECT), 1),
        Some("help") if arguments.len() == 3 => {
            let about = word(2).and_then(|name| match dialect::git::is_verb(name) {
                true => Some(&dialect::git::DIALECT),
                false => dialect::named(name),
            });
            if let Some(dialect) = about {
                return Ok(Command::Show(dialect.help()));
            }
            (None, 1)
        }
        Some("version") if arguments.len() == 2 => return Ok(Command::Show(version())),
        Some(name) => (dialect::named(name), 2),
    };
    if let Some(dialect) = dialect {
        return match shown(dialect, &arguments[skipped.min(arguments.len())..])
            .filter(|_| !dialect.answers_help(false))
        {
            Some(text) => Ok(Command::Show(text)),
            None => serve(dialect, skipped),
        };
    }
    match Typed::try_parse_from(arguments) {
        Ok(typed) => Ok(Command::Person(typed.verb)),
        Err(error) => match error.kind() {
            clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => {
                let help = help_of_tool(arguments).unwrap_or_else(|| error.to_string());
                Ok(Command::Show(help))
            }
            clap::error::ErrorKind::InvalidSubcommand
                if arguments.len() == 2
                    && from_program()
                    && error.get(clap::error::ContextKind::SuggestedSubcommand).is_none() =>
            {
                Ok(Command::Ignore)
            }
            _ => Err(usage(&error)),
        },
    }
}

fn version() -> String {
    format!("valetkey {}\n", env!("CARGO_PKG_VERSION"))
}

/// What is shown in place of a dialect's answer where somebody asks how it is used. Behind `--`
/// stand names and no options.
fn shown(dialect: &Dialect, arguments: &[OsString]) -> Option<String> {
    let options = arguments.iter().take_while(|word| *word != "--");
    let mut wanted = options.filter_map(|word| match word.to_str()? {
        "--help" | "-h" => Some(dialect.help()),
        "--version" | "-V" => Some(version()),
        _ => None,
    });
    wanted.next()
}

fn usage(error: &clap::Error) -> Error {
    let text = error.to_string();
    let text = text.trim_start_matches("error: ").trim_end();
    // clap's paragraphs: what is wrong, tips, usage, and where to read more.
    let mut paragraphs = text.split("\n\n");
    let what = paragraphs.next().unwrap_or_default().replace('\n', " ");
    let tip = paragraphs.find(|paragraph| paragraph.trim_start().starts_with("tip:"));
    let hint = tip.map_or("valetkey --help", |tip| tip.trim_start().trim_start_matches("tip: "));
    Error::new(Kind::Usage, what).hint(hint)
}

/// A completion script for a shell.
#[must_use]
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Typed::command(), "valetkey", &mut script);
    script
}
