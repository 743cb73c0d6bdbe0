//! Builder for one wrapped (or plain) program.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Done, NOBODY, PATIENCE, Running, Sandbox, set_mode};

/// The quicwrap under test.
pub(crate) const QUICWRAP: &str = env!("CARGO_BIN_EXE_quicwrap");

/// `QUICWRAP_TEST_OPTIONS`: options that every wrapped program is given, such as other carriers.
pub(crate) fn options_for_all() -> Vec<OsString> {
    let given = std::env::var("QUICWRAP_TEST_OPTIONS").unwrap_or_default();
    given.split_whitespace().map(OsString::from).collect()
}

/// What the program finds on its standard input.
enum Input {
    Nothing,
    Pipe,
    File(PathBuf),
}

/// A program, how to wrap it, and where its output goes. `run` or `spawn` ends the building.
pub(crate) struct Wrapped {
    wrapped: bool,
    prefix: Vec<OsString>,
    options: Vec<OsString>,
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: PathBuf,
    state: Option<PathBuf>,
    as_user: bool,
    input: Input,
    output: Option<PathBuf>,
    timeout: Duration,
}

impl Wrapped {
    pub(super) fn new(sandbox: &Sandbox, program: &OsStr, wrapped: bool) -> Self {
        let (name, value) = sandbox.marker();
        Wrapped {
            wrapped,
            prefix: Vec::new(),
            options: options_for_all(),
            program: program.to_owned(),
            args: Vec::new(),
            env: vec![(name.into(), value.into())],
            dir: sandbox.dir.path().to_owned(),
            state: None,
            as_user: false,
            input: Input::Nothing,
            output: None,
            timeout: PATIENCE,
        }
    }

    /// An option of quicwrap itself; left out when the program runs plainly.
    pub(crate) fn option(mut self, option: impl AsRef<OsStr>) -> Self {
        self.options.push(option.as_ref().to_owned());
        self
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args
            .extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Another state directory than the sandbox's: another user's identity and known hosts.
    pub(crate) fn state(mut self, dir: &Path) -> Self {
        self.state = Some(dir.to_owned());
        self
    }

    /// Run quicwrap and the program as `nobody` (when the tests run as root; else they are ordinary anyway).
    pub(crate) fn user(mut self) -> Self {
        self.as_user = true;
        self
    }

    /// Put another command line before quicwrap's, such as `unshare -n`.
    pub(crate) fn through<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.prefix
            .extend(words.into_iter().map(|w| w.as_ref().to_owned()));
        self
    }

    /// Standard input is a pipe that the test holds (see [`Running::send`]).
    pub(crate) fn piped(mut self) -> Self {
        self.input = Input::Pipe;
        self
    }

    pub(crate) fn input(mut self, file: &Path) -> Self {
        self.input = Input::File(file.to_owned());
        self
    }

    /// Standard output goes to this file instead of one chosen here.
    pub(crate) fn output(mut self, file: &Path) -> Self {
        self.output = Some(file.to_owned());
        self
    }

    pub(crate) fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Starts the program and waits for its end.
    pub(crate) fn run(self) -> Done {
        self.spawn().finish()
    }

    /// Starts the program as the leader of a process group of its own.
    pub(crate) fn spawn(self) -> Running {
        let (out, err) = self.output_files();
        let mut command = self.command();
        command
            .stdin(match &self.input {
                Input::Nothing => Stdio::null(),
                Input::Pipe => Stdio::piped(),
                Input::File(path) => open(path).into(),
            })
            .stdout(append_to(&out))
            .stderr(append_to(&err))
            .process_group(0);
        let words = self.words();
        let child = command.spawn().unwrap_or_else(|e| panic!("{words:?}: {e}"));
        Running::new(child, words, out, err, self.timeout)
    }

    /// The whole command line, for callers that hand it to another program (`script`, `expect`, a shell).
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words = self.prefix.clone();
        if self.as_user && nix::unistd::Uid::effective().is_root() {
            words.push("setpriv".into());
            words.extend(
                [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")].map(OsString::from),
            );
            words.extend(["--clear-groups", "--"].map(OsString::from));
        }
        if self.wrapped {
            words.push(if self.as_user {
                user_binary(&self.dir).into()
            } else {
                QUICWRAP.into()
            });
            words.push("--state-dir".into());
            words.push(self.state_dir().into());
            words.extend(self.options.iter().cloned());
            words.push("--".into());
        }
        words.push(self.program.clone());
        words.extend(self.args.iter().cloned());
        words
    }

    /// The command line quoted for `sh`.
    pub(crate) fn shell_line(&self) -> String {
        let quote = |w: OsString| format!("'{}'", w.to_string_lossy().replace('\'', r"'\''"));
        self.words()
            .into_iter()
            .map(quote)
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn state_dir(&self) -> PathBuf {
        let own = if self.as_user {
            "state-nobody"
        } else {
            "state"
        };
        self.state.clone().unwrap_or_else(|| self.dir.join(own))
    }

    fn command(&self) -> Command {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .envs(self.env.iter().cloned())
            .current_dir(&self.dir);
        // The tests' own environment must not configure the quicwrap under test.
        for (name, _) in std::env::vars_os() {
            let ours = name.to_string_lossy().starts_with("QUICWRAP_");
            if ours && !self.env.iter().any(|(set, _)| *set == name) {
                command.env_remove(name);
            }
        }
        // Their sockets for `quicwrap stats` lie in the state directory, which is the sandbox's.
        if !self.env.iter().any(|(set, _)| set == "XDG_RUNTIME_DIR") {
            command.env_remove("XDG_RUNTIME_DIR");
        }
        // Nor must a configuration file, unless the test says which.
        let places = ["QUICWRAP_CONFIG", "XDG_CONFIG_HOME"];
        if !self
            .env
            .iter()
            .any(|(set, _)| places.iter().any(|place| set == place))
        {
            command.env("QUICWRAP_CONFIG", "/dev/null");
        }
        command
    }

    /// Files rather than pipes: complete when the program has exited, even if a daemon keeps them open.
    fn output_files(&self) -> (PathBuf, PathBuf) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let out = self
            .output
            .clone()
            .unwrap_or_else(|| self.dir.join(format!("{n}.out")));
        (out, self.dir.join(format!("{n}.err")))
    }
}

/// A copy of quicwrap that `nobody` can execute wherever the build directory is.
fn user_binary(sandbox: &Path) -> PathBuf {
    let path = sandbox.join("quicwrap-for-user");
    if !path.exists() {
        // By another process: a descriptor that is open for writing here could be inherited by a child
        // that another test is just starting, and execve(2) would say ETXTBSY.
        let copied = Command::new("cp").arg(QUICWRAP).arg(&path).status();
        assert!(copied.is_ok_and(|status| status.success()), "a copy");
        set_mode(&path, 0o755);
    }
    path
}

fn open(path: &Path) -> File {
    File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn append_to(path: &Path) -> File {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
