//! The manual page man/quicwrap.1 is made of man/quicwrap.1.in, which is written by hand, and of the options as clap
//! knows them. This test fails when the page is not what comes out of that; `UPDATE_MAN=1 cargo test --test man`
//! writes it anew.

use std::{fs, path::PathBuf};

use clap_mangen::Man;

/// Lines of the template that are replaced.
const OPTIONS: &str = "@OPTIONS@";
const COMMANDS: &str = "@COMMANDS@";
const VERSION: &str = "@VERSION@";

fn man(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("man")
        .join(name)
}

fn read(name: &str) -> String {
    let path = man(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The command with `help_subcommand` and the like filled in, as the parser sees it.
fn definitions() -> clap::Command {
    let mut command = quicwrap::cli::command();
    command.build();
    command
}

/// What is shown to users: not the hidden commands.
fn subcommands(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set())
}

fn page() -> String {
    let command = definitions();
    let mut page = read("quicwrap.1.in").replace(VERSION, env!("CARGO_PKG_VERSION"));
    for (mark, text) in [(OPTIONS, options(&command)), (COMMANDS, commands(&command))] {
        assert!(page.contains(mark), "quicwrap.1.in lacks {mark}");
        page = page.replace(&format!("{mark}\n"), &text);
    }
    page
}

/// The options by heading, each heading a subsection.
fn options(command: &clap::Command) -> String {
    let mut bytes = Vec::new();
    Man::new(command.clone())
        .render_options_section(&mut bytes)
        .expect("writing to memory");
    let text = String::from_utf8(bytes).expect("UTF-8");
    let lines = text.lines().filter_map(|line| match line {
        // For groff's apostrophes; the template begins with them.
        ".ie \\n(.g .ds Aq \\(aq" | ".el .ds Aq '" | ".SH OPTIONS" => None,
        _ => Some(match line.strip_prefix(".SH ") {
            Some(heading) => format!(".SS {}\n", title(heading)),
            None => folded(line),
        }),
    });
    let text: String = lines.collect();
    // Before the possible values of an option: mandoc(1) wants one request for one gap.
    text.replace(".br\n\n.br\n", ".sp\n")
}

/// A line of text in lines of at most 80 bytes, as mandoc(1) wants them; requests are left as they are.
fn folded(line: &str) -> String {
    const WIDTH: usize = 80;
    if line.starts_with('.') {
        return format!("{line}\n");
    }
    let mut text = String::new();
    let mut column = 0;
    for word in line.split_whitespace() {
        // A dot or an apostrophe at the start of a line would be a request.
        let may_begin = !word.starts_with(['.', '\'']);
        if column > 0 && column + 1 + word.len() > WIDTH && may_begin {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text + "\n"
}

/// `TRUST` as `Trust`, for a subsection.
fn title(heading: &str) -> String {
    let words = heading.trim_matches('"').to_lowercase();
    let (first, rest) = words.split_at(1);
    format!("\"{}{rest}\"", first.to_uppercase())
}

/// Each command, what it does, and its own options; after it, those below it.
fn commands(command: &clap::Command) -> String {
    let known: Vec<_> = command.get_arguments().map(|arg| arg.get_id()).collect();
    let describe = |sub: &clap::Command| described(sub, sub.get_name(), &known);
    subcommands(command).map(describe).collect()
}

fn described(sub: &clap::Command, name: &str, known: &[&clap::Id]) -> String {
    let about = sub.get_long_about().or(sub.get_about()).expect("an about");
    // What all commands share stands under OPTIONS.
    let own = sub
        .get_arguments()
        .filter(|arg| !known.contains(&arg.get_id()) && !arg.is_hide_set())
        .filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version"));
    let own: Vec<_> = own.cloned().collect();
    let mut text = format!(
        ".TP\n\\fBquicwrap {name}\\fR\n{}\n",
        sentence(&about.to_string()).trim_end()
    );
    if !own.is_empty() {
        let listed = clap::Command::new("own").disable_help_flag(true).args(own);
        text += &format!(".RS\n{}.RE\n", options(&listed));
    }
    let below = subcommands(sub).filter(|below| below.get_name() != "help");
    let below = below.map(|below| described(below, &format!("{name} {}", below.get_name()), known));
    text + &below.collect::<String>()
}

/// Text for the page: backslashes and paragraphs as roff has them, and a full stop.
fn sentence(about: &str) -> String {
    let text = about.trim().replace('\\', "\\e").replace("\n\n", "\n.sp\n");
    let stop = if text.ends_with('.') { "" } else { "." };
    format!("{text}{stop}").lines().map(folded).collect()
}

#[test]
fn the_page_is_up_to_date() {
    let (made, committed) = (page(), man("quicwrap.1"));
    if std::env::var_os("UPDATE_MAN").is_some() {
        fs::write(&committed, &made).expect("man/quicwrap.1 can be written");
    }
    let found = fs::read_to_string(&committed).unwrap_or_default();
    let differing = made.lines().zip(found.lines()).position(|(a, b)| a != b);
    assert!(
        made == found,
        "man/quicwrap.1 is out of date (line {}): run `UPDATE_MAN=1 cargo test --test man` and commit it",
        differing.unwrap_or_else(|| made.lines().count().min(found.lines().count())) + 1
    );
}

/// The page without roff's escapes.
fn plain() -> String {
    let escapes = [("\\-", "-"), ("\\fB", ""), ("\\fI", ""), ("\\fR", "")];
    escapes
        .into_iter()
        .fold(page(), |text, (escape, plain)| text.replace(escape, plain))
}

#[test]
fn every_option_variable_and_command_is_there() {
    let (command, page) = (definitions(), plain());
    let below = || subcommands(&command).flat_map(subcommands);
    let nested = subcommands(&command)
        .chain(below())
        .flat_map(clap::Command::get_arguments);
    for argument in command.get_arguments().chain(nested) {
        if argument.is_hide_set() {
            continue;
        }
        if let Some(long) = argument.get_long() {
            assert!(page.contains(&format!("--{long}")), "--{long}");
        }
        if let Some(variable) = argument.get_env() {
            let variable = variable.to_str().expect("a name");
            assert!(page.contains(variable), "{variable}");
        }
    }
    for sub in subcommands(&command) {
        let name = format!("quicwrap {}", sub.get_name());
        assert!(page.contains(&name), "{name}");
        for below in subcommands(sub).filter(|below| below.get_name() != "help") {
            let name = format!("{name} {}", below.get_name());
            assert!(page.contains(&name), "{name}");
        }
    }
}
