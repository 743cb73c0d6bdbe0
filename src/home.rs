//! The user's home directory.
#![forbid(unsafe_code)]

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, Uid, User, eaccess};

/// `$HOME`, or what the user database says: if the variable is not set, or names another user's directory in which this one
/// may write nothing, as programs leave it that only change the user (setpriv(1), s6-setuidgid). None if there is neither.
pub(crate) fn directory() -> Option<PathBuf> {
    let from_passwd = || User::from_uid(Uid::effective()).ok().flatten();
    choose(env::var_os("HOME"), is_foreign, || {
        from_passwd().map(|user| user.dir)
    })
}

fn choose(
    variable: Option<OsString>,
    is_foreign: impl FnOnce(&Path) -> bool,
    from_passwd: impl FnOnce() -> Option<PathBuf>,
) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    match variable.map(PathBuf::from).filter(absolute) {
        Some(home) if is_foreign(&home) => from_passwd().filter(absolute).or(Some(home)),
        Some(home) => Some(home),
        None => from_passwd().filter(absolute),
    }
}

fn is_foreign(home: &Path) -> bool {
    let owner = fs::metadata(home).map(|metadata| metadata.uid());
    owner.is_ok_and(|owner| owner != Uid::effective().as_raw())
        && eaccess(home, AccessFlags::W_OK | AccessFlags::X_OK).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_counts_unless_it_is_another_users() {
        let choose = |home: Option<&str>, foreign: bool, passwd: Option<&str>| {
            choose(home.map(Into::into), |_| foreign, || passwd.map(Into::into))
        };
        let (home, passwd) = (Some(PathBuf::from("/h")), Some(PathBuf::from("/p")));
        assert_eq!(choose(Some("/h"), false, Some("/p")), home);
        assert_eq!(choose(Some("/h"), true, Some("/p")), passwd);
        assert_eq!(choose(Some("/h"), true, None), home);
        assert_eq!(choose(Some("h"), false, Some("/p")), passwd);
        assert_eq!(choose(None, false, Some("/p")), passwd);
        assert_eq!(choose(None, false, Some("p")), None);
    }
}
