//! What a process uses: memory, descriptors, processor time.

use std::fmt;

use nix::unistd::Pid;

/// At one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Resident memory, KiB.
    pub(crate) memory: u64,
    /// How much of it is huge pages, KiB: what they hold beside what is in use is no leak.
    huge: u64,
    /// Open descriptors.
    pub(crate) descriptors: usize,
    /// Processor time, in ticks of 10 ms.
    pub(crate) ticks: u64,
}

impl Usage {
    /// Of a process that lives.
    pub(crate) fn of(pid: Pid) -> Self {
        Usage {
            memory: kib(pid, "status", "VmRSS:"),
            huge: kib(pid, "smaps_rollup", "AnonHugePages:"),
            descriptors: descriptors(pid),
            ticks: ticks(pid),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.ticks as f64 / 100.0;
        write!(
            f,
            "{:6} KiB ({} huge) {:5} fds {seconds:6.2} s",
            self.memory, self.huge, self.descriptors
        )
    }
}

/// What a file of /proc says of the process, in KiB.
fn kib(pid: Pid, file: &str, name: &str) -> u64 {
    let text = read(pid, file);
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} for {pid}"))
}

fn descriptors(pid: Pid) -> usize {
    let path = format!("/proc/{pid}/fd");
    let listed = std::fs::read_dir(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    listed.count()
}

fn ticks(pid: Pid) -> u64 {
    let stat = read(pid, "stat");
    // utime and stime are fields 14 and 15, proc_pid_stat(5); what follows the command begins with field 3.
    let (_, fields) = stat.rsplit_once(')').expect("a command in parentheses");
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|t| t.parse::<u64>().expect("a number")).sum()
}

fn read(pid: Pid, name: &str) -> String {
    let path = format!("/proc/{pid}/{name}");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}
