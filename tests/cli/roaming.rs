//! A client whose address changes.

use std::time::Duration;

use super::unreachable::ip;
use crate::common::{Sandbox, namespace::in_own_network, tools};

/// Sends what its standard input says.
const SERVER: &str = "
import socket, sys
listener = socket.create_server(('192.0.2.1', 7))
print('listening', flush=True)
connection, address = listener.accept()
print('from', address[0], flush=True)
for line in sys.stdin:
    connection.sendall(line.encode())
";

/// Writes nothing.
const CLIENT: &str = "
import socket
connection = socket.create_connection(('192.0.2.1', 7))
for line in connection.makefile():
    print(line, end='', flush=True)
";

/// Less than it takes until the client's next keep-alive, by which the server would learn the new address as well.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn who_only_reads_goes_on_from_another_address() {
    in_own_network(
        "roaming::who_only_reads_goes_on_from_another_address",
        || {
            let towards_server = "local 192.0.2.1 dev lo table local src";
            for words in [
                "link set lo mtu 1500",
                "address add 192.0.2.1/32 dev lo",
                "address add 192.0.2.2/32 dev lo",
                &format!("route replace {towards_server} 192.0.2.2"),
            ] {
                ip(words);
            }
            let sandbox = Sandbox::new();
            let python = |text| sandbox.wrap(tools::python()).args(["-u", "-c", text]);
            let mut server = python(SERVER).piped().spawn();
            server.wait_stdout("listening");
            let mut client = python(CLIENT).timeout(SOON).spawn();
            server.wait_stdout("from 192.0.2.2");
            server.send("before\n");
            client.wait_stdout("before");
            ip("address add 192.0.2.3/32 dev lo");
            ip(&format!("route replace {towards_server} 192.0.2.3"));
            ip("address del 192.0.2.2/32 dev lo");
            server.send("behind\n");
            client.wait_stdout("behind");
        },
    );
}
