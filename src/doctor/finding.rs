//! What was found about one facility, and how it is told.
#![forbid(unsafe_code)]

use std::fmt;

/// How well a facility serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All is well.
    Ok,
    /// Everything works, and could be faster.
    Slow,
    /// Most works.
    Limited,
    /// Could not be tried, because something else is missing.
    Untried,
    /// Without it nothing can be wrapped.
    Missing,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Slow => "slow",
            Self::Limited => "limited",
            Self::Untried => "untried",
            Self::Missing => "missing",
        }
    }
}

/// What was found about one facility.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Its name, as the manuals have it.
    pub(super) facility: &'static str,
    /// How well it serves.
    pub(super) verdict: Verdict,
    /// What that means.
    pub(super) meaning: String,
    /// What to do about it.
    pub(super) mend: Option<String>,
}

impl Finding {
    /// A finding that asks for nothing.
    pub(super) fn new(
        facility: &'static str,
        verdict: Verdict,
        meaning: impl Into<String>,
    ) -> Self {
        Self {
            facility,
            verdict,
            meaning: meaning.into(),
            mend: None,
        }
    }

    /// The same, with what to do about it.
    pub(super) fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verdict, facility) = (self.verdict.word(), self.facility);
        write!(out, "{verdict:<8} {facility:<20} {}", self.meaning)?;
        match &self.mend {
            Some(mend) => write!(out, "; mend: {mend}"),
            None => Ok(()),
        }
    }
}

/// Whether wrapping can work.
pub(super) fn can_wrap(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_verdict_meaning_and_mend() {
        let finding =
            Finding::new("UDP GSO", Verdict::Slow, "one call a packet").mend("Linux 4.18");
        assert_eq!(
            finding.to_string(),
            "slow     UDP GSO              one call a packet; mend: Linux 4.18"
        );
    }

    #[test]
    fn only_what_is_missing_prevents_wrapping() {
        let all = |verdict| {
            [
                Finding::new("a", Verdict::Ok, ""),
                Finding::new("b", verdict, ""),
            ]
        };
        assert!(can_wrap(&all(Verdict::Slow)) && can_wrap(&all(Verdict::Limited)));
        assert!(!can_wrap(&all(Verdict::Missing)));
    }
}
