//! What may stand in the file: the options of a wrapped program, as clap knows them.
#![forbid(unsafe_code)]

use std::{any::TypeId, ffi::OsString, fmt};

use clap::{
    Arg, ArgAction, Command, ValueHint,
    builder::{Resettable, ValueRange},
    error::{ContextKind, ContextValue, ErrorKind},
};

/// The keys, with what each may hold.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// The options alone, without the environment: what a single value is tried on.
    options: Command,
    /// The options that only the command line has.
    others: Vec<String>,
}

/// The TOML types that an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// On or off.
    Switch,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// Text.
    Text,
    /// The name of a file or directory, which may be relative to the configuration file's.
    Path,
    /// Text of a form of its own, which may be a number.
    Other,
}

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// The type of a value.
    pub(super) kind: Kind,
    /// Whether it may be given repeatedly, and so be a list here.
    pub(super) list: bool,
    /// Whether it may be given without a value, and so be `true` here.
    pub(super) bare: bool,
}

impl Keys {
    /// `options` are those that may stand in the file, `all` those of the command line.
    pub(crate) fn new(options: Command, all: &Command) -> Self {
        let options = options
            .disable_help_flag(true)
            .disable_version_flag(true)
            .no_binary_name(true)
            .mut_args(|argument| argument.env(Resettable::Reset).required(false));
        let longs = all.get_arguments().filter_map(Arg::get_long);
        let builtin = ["help", "version"].into_iter();
        let others = longs.chain(builtin).map(str::to_owned).collect();
        Self { options, others }
    }

    /// The option that a key stands for.
    pub(super) fn get(&self, key: &str) -> Option<(&Arg, Form)> {
        let mut arguments = self.options.get_arguments();
        let argument = arguments.find(|argument| argument.get_long() == Some(key))?;
        Some((argument, Form::of(argument)?))
    }

    /// Whether this is an option, but one of the command line alone.
    pub(super) fn is_for_the_command_line(&self, key: &str) -> bool {
        self.get(key).is_none() && self.others.iter().any(|other| other == key)
    }

    /// The key that is perhaps meant.
    pub(super) fn near(&self, key: &str) -> Option<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if key.is_empty() || !key.chars().all(plain) {
            return None;
        }
        let tried = self.tried(format!("--{}", key.replace('_', "-")).into());
        let error = match tried {
            Ok(()) => return Some(key.replace('_', "-")),
            Err(error) if error.kind() == ErrorKind::UnknownArgument => error,
            // It exists, and wants a value.
            Err(_) => return Some(key.replace('_', "-")),
        };
        match error.get(ContextKind::SuggestedArg) {
            Some(ContextValue::String(near)) => Some(near.trim_start_matches('-').to_owned()),
            _ => None,
        }
    }

    /// Whether clap takes the one option `argument`, such as `--linger=5`; and what it says if not.
    pub(super) fn check(&self, argument: OsString) -> Result<(), String> {
        let Err(error) = self.tried(argument) else {
            return Ok(());
        };
        match error.kind() {
            // These are about the options together, which are not all here.
            ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict => Ok(()),
            _ => Err(essence(&error.to_string())),
        }
    }

    fn tried(&self, argument: OsString) -> Result<(), clap::Error> {
        let tried = self.options.clone().try_get_matches_from([argument]);
        tried.map(drop)
    }
}

/// What clap says without the words around it, in one line.
fn essence(message: &str) -> String {
    let lines = message.lines().map(str::trim);
    let told = lines.take_while(|line| !line.starts_with("For more information"));
    let words: Vec<_> = told.filter(|line| !line.is_empty()).collect();
    let text = words.join("; ");
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}

impl Form {
    /// None for what has no value that could stand in a file, such as `--help`.
    fn of(argument: &Arg) -> Option<Self> {
        let (kind, list) = match argument.get_action() {
            ArgAction::SetTrue | ArgAction::SetFalse => (Kind::Switch, false),
            ArgAction::Set => (Kind::of(argument), false),
            ArgAction::Append => (Kind::of(argument), true),
            _ => return None,
        };
        let values = argument.get_num_args().unwrap_or(ValueRange::SINGLE);
        Some(Self {
            kind,
            list: list || values.max_values() > 1,
            bare: kind != Kind::Switch && values.min_values() == 0,
        })
    }
}

impl Kind {
    fn of(argument: &Arg) -> Self {
        // An AnyValueId, which can be compared and not be named.
        let value = argument.get_value_parser().type_id();
        let integers = [
            TypeId::of::<u8>(),
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
            TypeId::of::<i8>(),
            TypeId::of::<i16>(),
            TypeId::of::<i32>(),
            TypeId::of::<i64>(),
        ];
        let numbers = [TypeId::of::<f32>(), TypeId::of::<f64>()];
        let texts = [TypeId::of::<String>(), TypeId::of::<OsString>()];
        let is_path = matches!(
            argument.get_value_hint(),
            ValueHint::AnyPath
                | ValueHint::FilePath
                | ValueHint::DirPath
                | ValueHint::ExecutablePath
        );
        if is_path {
            Self::Path
        } else if integers.iter().any(|id| value == *id) {
            Self::Integer
        } else if numbers.iter().any(|id| value == *id) {
            Self::Number
        } else if value == TypeId::of::<bool>() {
            Self::Switch
        } else if texts.iter().any(|id| value == *id) {
            Self::Text
        } else {
            Self::Other
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Switch => "true or false",
            Kind::Integer => "an integer",
            Kind::Number => "a number",
            Kind::Text | Kind::Path => "a string",
            Kind::Other => "a string or an integer",
        })?;
        if self.list {
            f.write_str(", or a list of such")?;
        }
        if self.bare {
            f.write_str(", or true")?;
        }
        Ok(())
    }
}
