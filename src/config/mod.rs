//! Where options come from: the command line, the environment, the configuration file; the first that
//! gives an option wins.
//!
//! What the file says is put in front of the command line, as the options it stands for, unless the
//! command line or the environment gives the option too. So clap checks all of it as one: types,
//! lists, options that need one another. Commands such as `doctor` take none of these options and do
//! not read the file; `gateway` does.
#![forbid(unsafe_code)]

mod file;
mod keys;

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf, absolute},
};

use clap::{ArgMatches, error::ErrorKind, parser::ValueSource};

use crate::home;
use file::Setting;
pub(crate) use file::{Problem, read};
pub(crate) use keys::Keys;

/// The option that names the file.
const CONFIG: &str = "config";
/// The one command that takes the same options. No option can stand before it.
const GATEWAY: &str = "gateway";
/// The file below the user's configuration directory, or below that of the host.
const FILE: &str = "quicwrap/config.toml";
/// The host's configuration directory.
const HOST_DIRECTORY: &str = "/etc";

/// Why there are no options to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The command line, or the environment; perhaps together with the file.
    #[error("{error}")]
    Usage {
        /// What clap says, and how.
        error: Box<clap::Error>,
        /// Which options are from the file.
        note: Option<String>,
    },
    /// The file is there, or was named, and cannot be read.
    #[error(
        "cannot read the configuration {}: {source}; check the path and its permissions, or name \
         another file with --config (/dev/null for none)",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Something in the file.
    #[error("{}:{line}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong there.
        problem: Problem,
    },
}

impl From<clap::Error> for ConfigError {
    fn from(error: clap::Error) -> Self {
        Self::Usage {
            error: Box::new(error),
            note: None,
        }
    }
}

/// The options of one run, and where they are from.
#[derive(Debug)]
pub(crate) struct Given {
    /// What clap makes of all places together.
    pub(crate) matches: ArgMatches,
    /// What was taken from the file.
    applied: Vec<Setting>,
    /// The file.
    path: PathBuf,
}

impl Given {
    /// Where the value of the option `id` is from.
    pub(crate) fn origin(&self, id: &str, definitions: &clap::Command) -> String {
        if let Some(setting) = self.applied.iter().find(|setting| setting.id == id) {
            return format!("from {}:{}", self.path.display(), setting.line);
        }
        let variable = definitions
            .get_arguments()
            .find(|argument| argument.get_id() == id)
            .and_then(clap::Arg::get_env);
        match (self.matches.value_source(id), variable) {
            (Some(ValueSource::EnvVariable), Some(name)) => format!("from {}", name.display()),
            _ => "from the command line".to_owned(),
        }
    }
}

/// Reads the command line `arguments`, the environment, and the file.
///
/// # Errors
/// Whatever is wrong with one of them; `--help` and `--version`.
pub(crate) fn parse(
    definitions: &clap::Command,
    keys: &Keys,
    arguments: &[OsString],
) -> Result<Given, ConfigError> {
    let seen = without_file(definitions, arguments)?;
    let without = |matches| Given {
        matches,
        applied: Vec::new(),
        path: PathBuf::new(),
    };
    let (scope, words) = match seen.subcommand() {
        None => (&seen, 1),
        Some((GATEWAY, scope)) => (scope, 2),
        Some(_) => return Ok(without(seen)),
    };
    let named = scope.get_one::<PathBuf>(CONFIG).cloned();
    let Some((path, text)) = find(named, places())? else {
        // What is missing is missing for good.
        let matches = definitions.clone().try_get_matches_from(arguments)?;
        return Ok(without(matches));
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut applied = read(&text, directory, keys).map_err(|(line, problem)| {
        let path = path.clone();
        ConfigError::Content {
            path,
            line,
            problem,
        }
    })?;
    applied.retain(|setting| {
        let source = scope.value_source(&setting.id);
        !matches!(
            source,
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        )
    });
    let (name, rest) = arguments.split_at(arguments.len().min(words));
    let from_file = applied.iter().flat_map(|setting| &setting.arguments);
    let all = name.iter().chain(from_file).chain(rest);
    match definitions.clone().try_get_matches_from(all) {
        Ok(matches) => Ok(Given {
            matches,
            applied,
            path,
        }),
        Err(error) => Err(ConfigError::Usage {
            note: note(&applied, &path),
            error: Box::new(error),
        }),
    }
}

/// The command line and the environment alone. What is missing there may be in the file.
fn without_file(
    definitions: &clap::Command,
    arguments: &[OsString],
) -> Result<ArgMatches, clap::Error> {
    let strict = definitions.clone().try_get_matches_from(arguments);
    match strict {
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            let lenient = definitions.clone().ignore_errors(true);
            let matches = lenient.try_get_matches_from(arguments)?;
            match matches.subcommand_name() {
                None | Some(GATEWAY) => Ok(matches),
                Some(_) => Err(error),
            }
        }
        other => other,
    }
}

/// The files that need not be named, the first that exists counting.
///
/// XDG base directory specification 0.8: `$XDG_CONFIG_HOME`, and a relative path in it is ignored;
/// `.config` in the [home directory](home) otherwise.
fn places() -> Vec<PathBuf> {
    let is_absolute = |path: &PathBuf| path.is_absolute();
    let own = env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(is_absolute)
        .or_else(|| Some(home::directory()?.join(".config")));
    let directories = own.into_iter().chain([PathBuf::from(HOST_DIRECTORY)]);
    directories.map(|directory| directory.join(FILE)).collect()
}

/// The file to read, as an absolute path, and its text: the one that was named, or the first of
/// `places` that exists.
fn find(
    named: Option<PathBuf>,
    places: Vec<PathBuf>,
) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let must_exist = named.is_some();
    for path in named.map_or(places, |path| vec![path]) {
        match absolute(&path).and_then(|path| Ok((read_text(&path)?, path))) {
            Ok((text, path)) => return Ok(Some((path, text))),
            Err(error) if is_absent(&error) && !must_exist => {}
            Err(source) => return Err(ConfigError::Read { path, source }),
        }
    }
    Ok(None)
}

/// What is longer is no configuration.
fn read_text(path: &Path) -> io::Result<String> {
    const LONGEST: u64 = 1 << 20;
    let mut text = String::new();
    File::open(path)?
        .take(LONGEST + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other("longer than 1 MiB"));
    }
    Ok(text)
}

/// ENOTDIR: part of the path is a file, so there is nothing behind it.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// What the command line does not show of the options that do not go together.
fn note(applied: &[Setting], path: &Path) -> Option<String> {
    let named = |setting: &Setting| format!("--{} (line {})", setting.key, setting.line);
    let named: Vec<_> = applied.iter().map(named).collect();
    let path = path.display();
    (!named.is_empty()).then(|| format!("these are from {path}: {}", named.join(", ")))
}
