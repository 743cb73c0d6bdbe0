//! shutdown(2).
#![forbid(unsafe_code)]

use nix::errno::Errno;

use super::{
    outcome::{Answer, Outcome},
    socket::{Socket, SocketId, State},
    transport::Transport,
};

/// Ends one or both directions, or listening.
///
/// # Errors
/// EINVAL: `how` is none of SHUT_RD, SHUT_WR, SHUT_RDWR. ENOTCONN: nothing to end.
pub(crate) fn shutdown(
    socket: &mut Socket,
    id: SocketId,
    how: i32,
    transport: &dyn Transport,
) -> Answer {
    if !matches!(how, libc::SHUT_RD | libc::SHUT_WR | libc::SHUT_RDWR) {
        return Err(Errno::EINVAL);
    }
    match socket.state {
        _ if socket.is_over() => Err(Errno::ENOTCONN),
        State::Idle | State::Failed | State::Closed => Err(Errno::ENOTCONN),
        // The pair's own half-close is what TCP shows, and the bridge turns it into FIN.
        State::Connected { peer, .. } => {
            // inet_shutdown sets SS_CONNECTED: the next connect(2) has nothing to tell.
            let announced = true;
            socket.state = State::Connected { peer, announced };
            socket.ends.shut_read |= how != libc::SHUT_WR;
            socket.ends.shut_write |= how != libc::SHUT_RD;
            Ok(Outcome::Native("the pair ends the direction"))
        }
        State::Connecting { .. } => {
            // inet_shutdown in TCP_SYN_SENT disconnects.
            transport.abandon(id);
            disconnect(socket, id, transport);
            socket.error = Some(Errno::ECONNRESET);
            Ok(Outcome::Value(0))
        }
        // inet_shutdown in TCP_LISTEN: only the receiving side means anything.
        State::Listening { .. } if how == libc::SHUT_WR => Ok(Outcome::Value(0)),
        State::Listening { .. } => {
            transport.unlisten(id);
            disconnect(socket, id, transport);
            Ok(Outcome::Value(0))
        }
    }
}

fn disconnect(socket: &mut Socket, id: SocketId, transport: &dyn Transport) {
    socket.disconnected();
    if !socket.has_port {
        transport.release(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emul::testing::{FakeTransport, ID, PEER, tcp};

    fn call(state: State, how: i32) -> (Answer, State) {
        let mut socket = tcp();
        socket.state = state;
        let answer = shutdown(&mut socket, ID, how, &FakeTransport::default());
        (answer, socket.state)
    }

    #[test]
    fn a_listener_stops_unless_only_writing_is_ended() {
        let listening = State::Listening { backlog: 1 };
        assert_eq!(call(listening, libc::SHUT_WR).1, listening);
        assert_eq!(call(listening, libc::SHUT_RD).1, State::Idle);
        assert_eq!(call(listening, libc::SHUT_RDWR).1, State::Idle);
    }

    #[test]
    fn an_unconnected_socket_has_nothing_to_end() {
        assert_eq!(
            call(State::Idle, libc::SHUT_WR).0.unwrap_err(),
            Errno::ENOTCONN
        );
        assert_eq!(call(State::Idle, 3).0.unwrap_err(), Errno::EINVAL);
    }

    #[test]
    fn a_connection_is_left_to_the_pair_and_an_attempt_is_given_up() {
        let connected = State::Connected {
            peer: PEER,
            announced: true,
        };
        assert!(matches!(
            call(connected, libc::SHUT_WR).0,
            Ok(Outcome::Native(_))
        ));
        assert_eq!(
            call(State::Connecting { peer: PEER }, libc::SHUT_WR).1,
            State::Idle
        );
    }
}
