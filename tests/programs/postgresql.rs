//! PostgreSQL, which forks for each connection ↔ psql and pgbench.

use nix::sys::signal::Signal;

use crate::common::{Done, Running, Sandbox, Wrapped, net::free_port, tools, wait_until};

const ROWS: usize = 100_000;

struct Cluster {
    sandbox: Sandbox,
    port: String,
}

impl Cluster {
    /// A new cluster of the ordinary user, for the server refuses to run as root.
    fn new() -> (Self, Running) {
        let sandbox = Sandbox::new();
        std::fs::create_dir(sandbox.path("pg")).expect("a directory");
        sandbox.give_to_nobody("pg");
        let data = sandbox.path("pg/data");
        let initdb = sandbox.plain(tools::postgresql("initdb")).user();
        let initdb = initdb.args(["--no-sync", "-A", "trust", "-U", "tester", "-E", "UTF8"]);
        initdb.args(["--locale=C", "-D"]).arg(&data).run().success();
        let cluster = Cluster {
            sandbox,
            port: free_port().to_string(),
        };
        let server = cluster.sandbox.wrap(tools::postgresql("postgres")).user();
        let server = server.arg("-D").arg(&data).args(["-p", &cluster.port]);
        let sockets = cluster.sandbox.path("pg").display().to_string();
        let settings = [
            "listen_addresses=127.0.0.1,::1",
            &format!("unix_socket_directories={sockets}"),
            "fsync=off",
            "timezone=UTC",
            "log_timezone=UTC",
        ];
        let mut server = server.args(settings.iter().flat_map(|s| ["-c", s])).spawn();
        server.wait_stderr("database system is ready to accept connections");
        (cluster, server)
    }

    fn program(&self, name: &str, host: &str) -> Wrapped {
        let program = self.sandbox.wrap(tools::postgresql(name));
        let program = program
            .env("PGUSER", "tester")
            .env("PGDATABASE", "postgres");
        program.env("PGHOST", host).env("PGPORT", &self.port)
    }

    fn psql(&self) -> Wrapped {
        self.psql_at("127.0.0.1")
    }

    fn psql_at(&self, host: &str) -> Wrapped {
        // Without headings, without ~/.psqlrc.
        self.program("psql", host)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
    }

    fn query(&self, text: &str) -> String {
        self.psql()
            .args(["-c", text])
            .run()
            .success()
            .text()
            .trim_end()
            .to_owned()
    }

    fn pgbench(&self, args: &[&str]) -> Done {
        self.program("pgbench", "127.0.0.1")
            .args(args)
            .run()
            .success()
    }
}

/// SIGINT: PostgreSQL ends its sessions and itself.
fn shut_down(server: Running) {
    server.signal(Signal::SIGINT);
    server.finish().success();
}

#[test]
fn copy_in_and_out() {
    let (cluster, server) = Cluster::new();
    let row = |i: usize| format!("{i}\t{}\t{}\n", i * 7919 % 1_000_003, "x".repeat(i % 90));
    let rows: String = (0..ROWS).map(row).collect();
    let file = cluster.sandbox.file("rows", &rows);
    cluster.query("create table rows (id int primary key, n int, t text)");
    cluster.query(&format!("\\copy rows from '{}'", file.display()));
    assert_eq!(
        cluster.query("select count(*), sum(n), sum(length(t)) from rows"),
        format!(
            "{ROWS}|{}|{}",
            (0..ROWS).map(|i| i * 7919 % 1_000_003).sum::<usize>(),
            (0..ROWS).map(|i| i % 90).sum::<usize>()
        )
    );
    let back = cluster.sandbox.path("back");
    cluster.query(&format!(
        "\\copy (select * from rows order by id) to '{}'",
        back.display()
    ));
    assert_eq!(tools::sha256(&back), tools::sha256(&file));
    // The same as the answer to a query, over IPv6.
    let select = "select concat_ws(E'\\t', id, n, t) from rows order by id";
    let answer = cluster.psql_at("::1").args(["-c", select]).run().success();
    assert!(answer.text() == rows, "{} bytes", answer.stdout.len());
    shut_down(server);
}

#[test]
fn names_and_refusals() {
    let (cluster, server) = Cluster::new();
    let names = "select host(inet_client_addr()), host(inet_server_addr()), inet_server_port(), inet_client_port() > 0";
    assert_eq!(
        cluster.query(names),
        format!("127.0.0.1|127.0.0.1|{}|t", cluster.port)
    );
    let missing = cluster
        .psql()
        .env("PGDATABASE", "missing")
        .args(["-c", "select 1"]);
    missing
        .run()
        .exits(2)
        .stderr_has("database \"missing\" does not exist");
    shut_down(server);
    let late = cluster.psql().args(["-c", "select 1"]).run();
    late.exits(2).stderr_has("Connection refused");
}

/// Four clients at once, on kept connections and on one for each transaction; the books must balance.
#[test]
fn pgbench() {
    let (cluster, server) = Cluster::new();
    cluster.pgbench(&["-i", "-q", "-s", "1"]);
    let transactions = |args: &[&str], count: usize| {
        // -n: it would empty its history first.
        let text = cluster.pgbench(&[&["-n"], args].concat()).text();
        let processed = format!("number of transactions actually processed: {count}/{count}");
        assert!(text.contains(&processed), "{text}");
    };
    transactions(&["-c", "4", "-j", "2", "-t", "100"], 400);
    transactions(&["-c", "4", "-j", "2", "-t", "100", "-M", "prepared"], 400);
    transactions(&["-c", "4", "-t", "20", "-C", "-S"], 80);
    let sums = "select (select count(*) from pgbench_history) = 800,
        (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history),
        (select sum(tbalance) from pgbench_tellers) = (select sum(bbalance) from pgbench_branches),
        (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)";
    assert_eq!(cluster.query(sums), "t|t|t|t");
    shut_down(server);
}

#[test]
fn notifications() {
    let (cluster, server) = Cluster::new();
    let mut listener = cluster.psql().piped().spawn();
    listener.send("listen news; \\echo listening\n");
    listener.wait_stdout("listening");
    cluster.query("notify news, 'first'; notify news, 'second'");
    listener.send("select 6 * 7;\n");
    listener.wait_stdout("42");
    for payload in ["first", "second"] {
        listener.wait_stdout(&format!(
            "Asynchronous notification \"news\" with payload \"{payload}\" received"
        ));
    }
    listener.finish().success();
    shut_down(server);
}

/// Ctrl-C: psql's signal handler makes a connection of its own, by which it asks the server to cancel the query. And a
/// session that the server ends.
#[test]
fn cancel_and_terminate() {
    let (cluster, server) = Cluster::new();
    let asleep = |query: &str| {
        let session = cluster.psql().args(["-c", query]).spawn();
        let count = format!(
            "select count(*) from pg_stat_activity where state = 'active' and query = '{query}'"
        );
        wait_until("the session sleeps", || cluster.query(&count) == "1");
        session
    };
    let session = asleep("select pg_sleep(600)");
    session.signal(Signal::SIGINT);
    session
        .finish()
        .exits(1)
        .stderr_has("canceling statement due to user request");
    let session = asleep("select pg_sleep(500)");
    cluster.query("select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(500)'");
    session
        .finish()
        .exits(2)
        .stderr_has("terminating connection due to administrator command");
    shut_down(server);
}
