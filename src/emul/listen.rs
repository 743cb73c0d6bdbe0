//! listen(2).
#![forbid(unsafe_code)]

use nix::errno::Errno;

use super::{
    bind,
    options::Limits,
    outcome::{Answer, Outcome},
    socket::{Socket, SocketId, State},
    transport::Transport,
};

/// Starts to take connections; called again, changes the backlog.
///
/// # Errors
/// EINVAL: connecting, connected, or either once. EADDRINUSE: another socket listens there.
pub(crate) fn listen(
    socket: &mut Socket,
    id: SocketId,
    backlog: i32,
    limits: &Limits,
    transport: &dyn Transport,
) -> Answer {
    match socket.state {
        State::Listening { .. } => {}
        State::Idle => {
            if !socket.has_port {
                // inet_csk_listen_start: an unbound socket gets an ephemeral port.
                let mut address = socket.local.unwrap_or(socket.family.unspecified());
                address.set_port(0);
                bind::reserve(socket, id, address, transport)?;
            }
            transport.listen(id)?;
        }
        State::Connecting { .. } | State::Connected { .. } | State::Failed | State::Closed => {
            return Err(Errno::EINVAL);
        }
    }
    socket.state = State::Listening {
        backlog: effective_backlog(backlog, limits),
    };
    Ok(Outcome::Value(0))
}

/// listen(2): capped by somaxconn, and a negative value is a very large one. TCP lets one more
/// connection wait than it was told (sk_acceptq_is_full).
fn effective_backlog(backlog: i32, limits: &Limits) -> usize {
    let asked = usize::try_from(backlog).unwrap_or(usize::MAX);
    asked.min(limits.somaxconn) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emul::testing::{FakeTransport, ID, PEER, tcp};

    #[test]
    fn an_unbound_socket_gets_an_ephemeral_port() {
        let (mut socket, transport) = (tcp(), FakeTransport::default());
        assert!(listen(&mut socket, ID, 5, &Limits::default(), &transport).is_ok());
        assert_eq!(socket.local.unwrap().port(), 40_000);
        assert_eq!(socket.state, State::Listening { backlog: 6 });
    }

    #[test]
    fn listening_again_changes_the_backlog_alone() {
        let (mut socket, transport) = (tcp(), FakeTransport::default());
        let limits = Limits::default();
        assert!(listen(&mut socket, ID, 5, &limits, &transport).is_ok());
        assert!(listen(&mut socket, ID, -1, &limits, &transport).is_ok());
        assert_eq!(
            socket.state,
            State::Listening {
                backlog: limits.somaxconn + 1
            }
        );
        assert_eq!(transport.listening.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_connected_socket_cannot_listen() {
        let mut socket = tcp();
        socket.state = State::Connected {
            peer: PEER,
            announced: true,
        };
        let answer = listen(
            &mut socket,
            ID,
            5,
            &Limits::default(),
            &FakeTransport::default(),
        );
        assert_eq!(answer.unwrap_err(), Errno::EINVAL);
    }
}
