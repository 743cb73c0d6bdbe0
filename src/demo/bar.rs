//! The progress bar, on standard error. Where that is no terminal, nothing is drawn.
#![forbid(unsafe_code)]

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{report, transfer::Load};

/// Shows how far one part of the demonstration is. Dropping it clears the line.
pub(super) struct Bar {
    load: Load,
    drawn: ProgressBar,
}

impl Bar {
    /// A bar for `load`.
    pub(super) fn new(title: &str, load: Load) -> Self {
        let total = if load.connections > 1 {
            load.connections
        } else {
            load.bytes
        };
        let drawn = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        // The template is a constant, and a bar without it is a bar still.
        if let Ok(style) =
            ProgressStyle::with_template("  {prefix:<33} [{bar:30}] {percent:>3} %  {msg}")
        {
            drawn.set_style(style.progress_chars("=> "));
        }
        drawn.set_prefix(title.to_owned());
        drawn.tick();
        Self { load, drawn }
    }

    /// So many connections are done.
    pub(super) fn connections(&self, done: u64, elapsed: Duration) {
        if self.load.connections > 1 {
            self.show(done, report::connection_rate(done, elapsed));
        }
    }

    /// So many bytes of the one connection are sent.
    pub(super) fn bytes(&self, sent: u64, elapsed: Duration) {
        if self.load.connections == 1 {
            self.show(sent, report::bit_rate(sent, elapsed));
        }
    }

    fn show(&self, position: u64, rate: String) {
        self.drawn.set_message(rate);
        self.drawn.set_position(position);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.drawn.finish_and_clear();
    }
}
