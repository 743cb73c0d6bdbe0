//! accept(2) and accept4(2): who may call it.
#![forbid(unsafe_code)]

use nix::errno::Errno;

use super::socket::{Socket, State};

/// Checks that connections can be accepted on the socket.
///
/// # Errors
/// EINVAL: it is not listening.
pub(crate) fn check(socket: &Socket) -> Result<(), Errno> {
    match socket.state {
        State::Listening { .. } => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// Checks accept4(2)'s flags.
///
/// # Errors
/// EINVAL: anything but SOCK_NONBLOCK and SOCK_CLOEXEC.
pub(crate) fn check_flags(flags: i32) -> Result<(), Errno> {
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) == 0 {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_flags_exist() {
        assert!(check_flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC).is_ok());
        assert_eq!(check_flags(1), Err(Errno::EINVAL));
    }
}
