//! The configuration file: TOML, whose keys are the long options without the dashes.
#![forbid(unsafe_code)]

use std::{ffi::OsString, ops::Range, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::keys::{Form, Keys, Kind};

/// One line of the file, as the options it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// clap's name for the option.
    pub(super) id: String,
    /// The option without dashes.
    pub(super) key: String,
    /// Where it stands, from 1.
    pub(super) line: usize,
    /// `--key=value` for each value; none for a switch that is off and for an empty list.
    pub(super) arguments: Vec<OsString>,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// Not TOML.
    #[error("this is not TOML: {0}; see https://toml.io")]
    Syntax(String),
    /// No such option.
    #[error("there is no option {key:?}; {}", advice(.near.as_deref()))]
    Unknown {
        /// What stands there.
        key: String,
        /// What is perhaps meant.
        near: Option<String>,
    },
    /// An option that the file cannot give.
    #[error("{0:?} is an option of the command line alone; remove it here")]
    CommandLine(String),
    /// Another type than the option has.
    #[error("{key} must be {expected}, not {found}")]
    Type {
        /// The option without dashes.
        key: String,
        /// The types it has.
        expected: String,
        /// The type that stands there.
        found: &'static str,
    },
    /// A value that the option does not take.
    #[error("{0}")]
    Value(String),
}

fn advice(near: Option<&str>) -> String {
    match near {
        Some(near) => format!("did you mean {near}?"),
        None => "keys are the long options without dashes: see quicwrap --help".to_owned(),
    }
}

/// A problem, and its line, from 1.
type Located = (usize, Problem);

/// What the file with this `text` sets. Relative paths in it are relative to `directory`.
///
/// # Errors
/// The first problem, with its line.
pub(crate) fn read(text: &str, directory: &Path, keys: &Keys) -> Result<Vec<Setting>, Located> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = line(text, &error.span().unwrap_or_default());
        (line, Problem::Syntax(error.message().replace('\n', ", ")))
    })?;
    let mut settings = Vec::new();
    for (key, value) in table.get_ref() {
        let setting = setting(text, key, value, directory, keys)?;
        settings.push(setting);
    }
    settings.sort_by_key(|setting| setting.line);
    Ok(settings)
}

fn setting(
    text: &str,
    key: &Spanned<impl AsRef<str>>,
    value: &Spanned<DeValue<'_>>,
    directory: &Path,
    keys: &Keys,
) -> Result<Setting, Located> {
    let (name, line_of_key) = (key.get_ref().as_ref(), line(text, &key.span()));
    let Some((argument, form)) = keys.get(name) else {
        let (key, near) = (name.to_owned(), keys.near(name));
        let problem = match keys.is_for_the_command_line(name) {
            true => Problem::CommandLine(key),
            false => Problem::Unknown { key, near },
        };
        return Err((line_of_key, problem));
    };
    let mut arguments = Vec::new();
    for value in values(value, form) {
        let at = |problem| (line(text, &value.span()), problem);
        let argument = argument_of(name, value.get_ref(), form, directory).map_err(at)?;
        let Some(argument) = argument else { continue };
        keys.check(argument.clone())
            .map_err(|message| at(Problem::Value(message)))?;
        arguments.push(argument);
    }
    Ok(Setting {
        id: argument.get_id().to_string(),
        key: name.to_owned(),
        line: line_of_key,
        arguments,
    })
}

/// The values of a list; or the one value.
fn values<'a, 'b>(value: &'a Spanned<DeValue<'b>>, form: Form) -> Vec<&'a Spanned<DeValue<'b>>> {
    match value.get_ref() {
        DeValue::Array(values) if form.list => values.iter().collect(),
        _ => vec![value],
    }
}

/// `--key=value`; none for a switch that is off.
fn argument_of(
    key: &str,
    value: &DeValue<'_>,
    form: Form,
    directory: &Path,
) -> Result<Option<OsString>, Problem> {
    let mut argument = OsString::from(format!("--{key}"));
    let value = match (value, form.kind) {
        (DeValue::Boolean(on), Kind::Switch) => return Ok(on.then_some(argument)),
        (DeValue::Boolean(on), _) if form.bare => return Ok(on.then_some(argument)),
        (DeValue::Integer(number), Kind::Integer | Kind::Number | Kind::Other) => {
            let value = i128::from_str_radix(number.as_str(), number.radix());
            let value = value.map_err(|error| Problem::Value(format!("{key}: {error}")))?;
            value.to_string().into()
        }
        (DeValue::Float(number), Kind::Number) => number.as_str().into(),
        (DeValue::String(text), Kind::Text | Kind::Other) => text.as_ref().into(),
        // An empty one stays so, and is refused.
        (DeValue::String(text), Kind::Path) if text.is_empty() => OsString::new(),
        (DeValue::String(text), Kind::Path) => directory.join(text.as_ref()).into_os_string(),
        (other, _) => {
            return Err(Problem::Type {
                key: key.to_owned(),
                expected: form.to_string(),
                found: name_of(other),
            });
        }
    };
    argument.push("=");
    argument.push(value);
    Ok(Some(argument))
}

/// A TOML type in a sentence.
fn name_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The line of a place in the text, from 1.
fn line(text: &str, place: &Range<usize>) -> usize {
    let before = text.as_bytes().get(..place.start).unwrap_or_default();
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::{Args, Command, Parser};

    use super::*;

    /// Options of every kind that the command line may come to have.
    #[derive(Debug, Args)]
    struct Options {
        #[arg(long, requires = "key_file")]
        cert_file: Option<PathBuf>,
        #[arg(long)]
        key_file: Option<PathBuf>,
        #[arg(long)]
        open: bool,
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        wait: Option<u16>,
        #[arg(long)]
        ratio: Option<f64>,
        #[arg(long)]
        name: Option<String>,
        #[arg(long, num_args = 0..=1, require_equals = true)]
        fallback: Option<String>,
        #[arg(long, value_delimiter = ',')]
        rule: Vec<crate::policy::Rule>,
        #[arg(long, value_parser = ["one", "two"])]
        choice: Option<String>,
    }

    #[derive(Debug, Parser)]
    struct All {
        #[command(flatten)]
        options: Options,
        #[arg(long)]
        config: Option<PathBuf>,
    }

    fn keys() -> Keys {
        use clap::CommandFactory;
        Keys::new(Options::augment_args(Command::new("")), &All::command())
    }

    fn arguments(text: &str) -> Vec<String> {
        let settings = read(text, Path::new("/dir"), &keys());
        let settings = settings.unwrap_or_else(|(line, problem)| panic!("{line}: {problem}"));
        let arguments = settings.into_iter().flat_map(|setting| setting.arguments);
        arguments.map(|text| text.into_string().unwrap()).collect()
    }

    fn problem(text: &str) -> String {
        let (line, problem) = read(text, Path::new("/dir"), &keys()).expect_err(text);
        format!("{line}: {problem}")
    }

    #[test]
    fn every_kind_becomes_its_option() {
        let text = "# a comment\nrule = ['10.0.0.0/8', ':22,:23']\ncert-file = 'a.pem'\n\
                    key-file = '/b.pem'\nopen = true\nwait = 0x3c\nratio = 0.5\nname = 'n'\n\
                    fallback = true\nchoice = 'two'\n";
        let expected = [
            "--rule=10.0.0.0/8",
            "--rule=:22,:23",
            "--cert-file=/dir/a.pem",
            "--key-file=/b.pem",
            "--open",
            "--wait=60",
            "--ratio=0.5",
            "--name=n",
            "--fallback",
            "--choice=two",
        ];
        assert_eq!(arguments(text), expected);
        assert_eq!(
            arguments("ratio = 2\nrule = ':22'"),
            ["--ratio=2", "--rule=:22"]
        );
        assert_eq!(
            arguments("open = false\nrule = []\nfallback = false"),
            [""; 0]
        );
        assert_eq!(arguments("fallback = 'x'"), ["--fallback=x"]);
    }

    #[test]
    fn unknown_keys_are_named_with_their_line() {
        for (text, expected) in [
            (
                "\nnam = 'x'",
                "2: there is no option \"nam\"; did you mean name?",
            ),
            (
                "cert_file = 'x'",
                "1: there is no option \"cert_file\"; did you mean cert-file?",
            ),
            ("xyzzy = 1", "keys are the long options"),
            ("\"a b\" = 1", "1: there is no option \"a b\"; keys are"),
            ("\"\" = 1", "1: there is no option \"\"; keys are"),
            ("[section]\nname = 'x'", "1: there is no option \"section\""),
            ("a.name = 'x'", "1: there is no option \"a\""),
            (
                "config = 'x'",
                "1: \"config\" is an option of the command line alone",
            ),
            (
                "help = true",
                "1: \"help\" is an option of the command line alone",
            ),
        ] {
            let found = problem(text);
            assert!(found.contains(expected), "{text}: {found}");
        }
    }

    #[test]
    fn wrong_types_and_values_are_named_with_their_line() {
        for (text, expected) in [
            (
                "open = 'true'",
                "1: open must be true or false, not a string",
            ),
            ("wait = '60'", "1: wait must be an integer, not a string"),
            ("wait = 1.5", "1: wait must be an integer, not a float"),
            ("name = 5", "1: name must be a string, not an integer"),
            ("name = ['x']", "1: name must be a string, not a list"),
            (
                "cert-file = 2026-11-22",
                "1: cert-file must be a string, not a date",
            ),
            (
                "rule = [\n ':22',\n true]",
                "3: rule must be a string or an integer, or a list of such, not a boolean",
            ),
            ("[name]\nx = 1", "1: name must be a string, not a table"),
            ("wait = 0", "1: invalid value '0' for '--wait <WAIT>'"),
            ("wait = -1", "1: invalid value '-1' for '--wait <WAIT>'"),
            (
                "wait = 99999999999999999999999999999999999999999",
                "1: wait: number too large",
            ),
            (
                "rule = [\n ':22',\n 'db']",
                "3: invalid value 'db' for '--rule <RULE>': \"db\" is not an IP",
            ),
            ("choice = 'three'", "[possible values: one, two]"),
            (
                "cert-file = ''",
                "1: a value is required for '--cert-file <CERT_FILE>'",
            ),
            (
                "name = 'x'\nname = 'y'",
                "2: this is not TOML: duplicate key",
            ),
            ("name = ", "1: this is not TOML"),
            ("name = 'x'\n\u{1}", "2: this is not TOML"),
        ] {
            let found = problem(text);
            assert!(found.contains(expected), "{text}: {found}");
        }
    }
}
