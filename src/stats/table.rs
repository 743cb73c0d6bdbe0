//! The report for people.
#![forbid(unsafe_code)]

use std::{fmt::Write, net::SocketAddr, time::Duration};

use indicatif::{DecimalBytes, FormattedDuration};

use super::report::{Instance, Kind, QuicConnection, Report, Role, TcpConnection, Totals};

const HEADS: [&str; COLUMNS] = [
    "CARRIER",
    "ROLE",
    "PEER",
    "STREAMS",
    "RTT",
    "LOST/SENT",
    "SENT",
    "RECEIVED",
    "WINDOW",
    "MTU",
];
const COLUMNS: usize = 10;
/// The first columns hold words, the others numbers, which end below each other.
const WORDS: usize = 3;

type Row = [String; COLUMNS];

/// Everything, for a terminal.
pub(super) fn text(report: &Report) -> String {
    if report.instances.is_empty() {
        return "Nothing is running under quicwrap.\n".to_owned();
    }
    let mut text = String::new();
    for instance in &report.instances {
        text += &of_instance(instance);
        text.push('\n');
    }
    text + &format!(
        "Total: {}; {}\n",
        number(report.instances.len() as u64, "running", "running"),
        totals(&report.totals)
    )
}

fn of_instance(instance: &Instance) -> String {
    let identity = &instance.identity;
    let kind = match identity.kind {
        Kind::Program => "program",
        Kind::Gateway => "gateway",
    };
    let words: Vec<_> = identity.command.iter().map(|word| shown(word)).collect();
    let uptime = FormattedDuration(Duration::from_secs(instance.uptime_seconds));
    let mut text = format!(
        "{} {kind}, up {uptime}: {}\n",
        identity.pid,
        words.join(" ")
    );
    let quic = instance.quic_connections.iter().map(of_quic);
    let rows: Vec<Row> = quic
        .chain(instance.tcp_connections.iter().map(of_tcp))
        .collect();
    if !rows.is_empty() {
        text += &aligned(&rows);
    }
    text + &format!("  {}\n", totals(&instance.totals))
}

fn of_quic(connection: &QuicConnection) -> Row {
    let role = match connection.role {
        Role::Client => "client",
        Role::Server => "server",
    };
    [
        "QUIC".to_owned(),
        role.to_owned(),
        connection.peer.to_string(),
        connection.streams.to_string(),
        millis(connection.rtt_us),
        format!("{}/{}", connection.packets_lost, connection.packets_sent),
        bytes(connection.bytes_sent),
        bytes(connection.bytes_received),
        bytes(connection.congestion_window_bytes),
        connection.mtu_bytes.to_string(),
    ]
}

/// What is not known of TCP is a dash. Segments that were sent again stand for those that were lost.
fn of_tcp(connection: &TcpConnection) -> Row {
    let none = || "-".to_owned();
    let peer: SocketAddr = connection.peer;
    [
        "TCP".to_owned(),
        none(),
        peer.to_string(),
        none(),
        millis(connection.rtt_us),
        format!("{}/-", connection.segments_retransmitted),
        bytes(connection.bytes_sent),
        bytes(connection.bytes_received),
        bytes(connection.congestion_window_bytes),
        connection.mtu_bytes.to_string(),
    ]
}

fn aligned(rows: &[Row]) -> String {
    let heads = HEADS.map(str::to_owned);
    let all = || std::iter::once(&heads).chain(rows);
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let widths = all().map(|row| row[column].len());
        widths.max().unwrap_or_default()
    });
    let mut text = String::new();
    for row in all() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Writing to a String does not fail.
            let _ = if column < WORDS {
                write!(line, "  {cell:<width$}")
            } else {
                write!(line, "  {cell:>width$}")
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn totals(totals: &Totals) -> String {
    let quic = number(
        totals.quic_connections,
        "QUIC connection",
        "QUIC connections",
    );
    let streams = number(totals.streams, "stream", "streams");
    let tcp = number(totals.tcp_connections, "TCP connection", "TCP connections");
    format!(
        "{quic} with {streams}, {tcp}; {} sent, {} received, {} of {} packets lost",
        bytes(totals.bytes_sent),
        bytes(totals.bytes_received),
        totals.packets_lost,
        totals.packets_sent,
    )
}

fn number(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// 1000 bytes are 1 kB.
fn bytes(count: u64) -> String {
    DecimalBytes(count).to_string()
}

fn millis(micros: u64) -> String {
    format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10)
}

/// A word of a command line, without what a terminal would act on.
fn shown(word: &str) -> String {
    let plain = |character: char| !character.is_control() && !character.is_whitespace();
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("{word:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::report::tests::instance;

    #[test]
    fn a_table_for_each_and_a_total() {
        let text = text(&Report::new(vec![instance(7)]));
        let expected = "\
7 program, up 01:02:03: iperf3 -c \"a b\"
  CARRIER  ROLE    PEER              STREAMS       RTT  LOST/SENT     SENT  RECEIVED     WINDOW   MTU
  QUIC     client  192.0.2.1:5201          2  12.34 ms    15/1000  1.20 MB      30 B  120.00 kB  1452
  TCP      -       [2001:db8::1]:80        -   0.09 ms        3/-      7 B       8 B   14.48 kB  1500
  1 QUIC connection with 2 streams, 1 TCP connection; 1.20 MB sent, 38 B received, 15 of 1000 packets lost

Total: 1 running; 1 QUIC connection with 2 streams, 1 TCP connection; 1.20 MB sent, 38 B received, 15 of 1000 packets lost
";
        assert_eq!(text, expected);
    }

    #[test]
    fn without_connections_there_is_no_table() {
        let mut alone = instance(7);
        alone.quic_connections.clear();
        alone.tcp_connections.clear();
        alone.totals = Totals::default();
        let text = text(&Report::new(vec![alone]));
        assert!(!text.contains("CARRIER"), "{text}");
        assert!(text.contains("0 QUIC connections with 0 streams"), "{text}");
    }

    #[test]
    fn a_command_line_cannot_act_on_the_terminal() {
        assert_eq!(shown("a-b=c"), "a-b=c");
        assert_eq!(shown(""), "\"\"");
        assert_eq!(shown("\u{1b}[2J"), r#""\u{1b}[2J""#);
        assert_eq!(shown("a\nb"), r#""a\nb""#);
    }
}
