//! A tree of files of many sizes, for the programs that carry whole trees.

use std::path::Path;
use std::process::Command;

use crate::common::tools;

/// Files from empty to 3 MB, and so many small ones, in directories, with one link and one executable.
pub(crate) fn plant(root: &Path, seed: u64, small: usize) {
    for (i, size) in [0, 1, 700, 4096, 65_537, 300_000, 3_000_000]
        .into_iter()
        .enumerate()
    {
        let dir = root.join(format!("dir-{}/deep", i % 3));
        std::fs::create_dir_all(&dir).expect("a directory");
        tools::random_file(&dir.join(format!("file {size}")), size, seed + i as u64);
    }
    for i in 0..small {
        std::fs::write(
            root.join(format!("dir-0/small-{i}")),
            format!("{seed} {i}\n"),
        )
        .expect("a file");
    }
    let script = root.join("run.sh");
    std::fs::write(&script, "#!/bin/sh\n").expect("a file");
    crate::common::set_mode(&script, 0o755);
    std::os::unix::fs::symlink("dir-0/small-7", root.join("link")).expect("a link");
}

/// Fails unless both trees hold the same files with the same contents (`.git` aside).
#[track_caller]
pub(crate) fn assert_same(left: &Path, right: &Path) {
    let mut diff = Command::new(tools::need("diff"));
    diff.args(["-r", "--no-dereference", "--exclude=.git"])
        .arg(left)
        .arg(right);
    let done = diff.output().expect("diff runs");
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}
