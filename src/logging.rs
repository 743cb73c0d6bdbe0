//! Reports on standard error, or in a file: never on standard output, which is the program's.
#![forbid(unsafe_code)]

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Why reports cannot be made as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoggingError {
    /// Neither a level nor directives.
    #[error("--log {given}: {source}; use off, error, warn, info, debug or trace")]
    Level {
        /// What was given.
        given: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The file cannot be written.
    #[error("--log-file {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Starts to report what `level` selects.
///
/// # Errors
/// A level that is none, a file that cannot be written.
pub(crate) fn start(level: &str, file: Option<&Path>) -> Result<(), LoggingError> {
    let filter = filter(level).map_err(|source| LoggingError::Level {
        given: level.to_owned(),
        source,
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false);
    match file {
        None => builder
            .event_format(Line { dated: false })
            .with_writer(io::stderr)
            .init(),
        Some(path) => builder
            .event_format(Line { dated: true })
            .with_writer(Arc::new(open(path)?))
            .init(),
    }
    Ok(())
}

/// A bare level is for quicwrap itself; the libraries then report errors alone, for their warnings
/// (a datagram that could not be sent) are routine to QUIC.
fn filter(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    match level.parse::<tracing_subscriber::filter::LevelFilter>() {
        Ok(level) => EnvFilter::try_new(format!("quicwrap={level},error")),
        Err(_) => EnvFilter::try_new(level),
    }
}

fn open(path: &Path) -> Result<File, LoggingError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|source| LoggingError::File {
            path: path.to_owned(),
            source,
        })
}

/// `quicwrap: LEVEL: message`, with the time before it in a file.
struct Line {
    dated: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.dated {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = now.unwrap_or_default();
            write!(writer, "{}.{:06} ", now.as_secs(), now.subsec_micros())?;
        }
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        write!(writer, "quicwrap: {level}: ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_taken_and_nonsense_is_not() {
        for given in ["off", "debug", "quicwrap=debug,quinn=trace"] {
            assert!(filter(given).is_ok(), "{given}");
        }
        assert!(filter("quicwrap=loud").is_err());
    }
}
