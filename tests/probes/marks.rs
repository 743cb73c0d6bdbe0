//! What the first comment lines of a probe say about how to build, run and judge it.

/// How a probe's wrapped transcript is judged.
#[derive(Debug, PartialEq)]
pub(crate) enum Agreement {
    /// It equals the native one.
    Equal,
    /// `// gap: HEADING` – it differs, for the reason under that heading of docs/limitations.md.
    Gap(String),
    /// `// expect: FILE` – it equals that file: quicwrap means to differ from the kernel here.
    Expect(String),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Marks {
    pub(crate) agreement: Agreement,
    /// `// run: user` – as an ordinary user, natively too.
    pub(crate) as_user: bool,
    /// `// net: silent` – in a network namespace with addresses that never answer.
    pub(crate) silent_net: bool,
    /// `// args: A B` – arguments of the probe.
    pub(crate) args: Vec<String>,
    /// `// static` – a static binary; `// flags: -m32 …` – other compiler flags.
    pub(crate) compiler_flags: Vec<String>,
}

impl Marks {
    /// Reads the leading `//` lines. A line that looks like a mark but is not one is a mistake in the probe.
    pub(crate) fn parse(source: &str) -> Self {
        let mut marks = Marks {
            agreement: Agreement::Equal,
            as_user: false,
            silent_net: false,
            args: Vec::new(),
            compiler_flags: Vec::new(),
        };
        for line in source.lines().map_while(|line| line.strip_prefix("//")) {
            marks.read(line.trim());
        }
        marks
    }

    fn read(&mut self, line: &str) {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        match line.split_once(": ") {
            _ if line == "static" => self.compiler_flags.push("-static".into()),
            Some(("gap", heading)) => self.agreement = Agreement::Gap(heading.into()),
            Some(("expect", file)) => self.agreement = Agreement::Expect(file.into()),
            Some(("args", text)) => self.args = words(text),
            Some(("flags", text)) => self.compiler_flags.extend(words(text)),
            Some(("run", "user")) => self.as_user = true,
            Some(("net", "silent")) => self.silent_net = true,
            Some((word, rest)) if word.bytes().all(|b| b.is_ascii_lowercase()) => {
                panic!("unknown mark {word:?}: {rest}")
            }
            _ => {}
        }
    }
}
