//! MariaDB, with a thread for each connection and with a pool of threads ↔ its client over TCP.

use std::path::PathBuf;

use crate::common::{Running, Sandbox, Wrapped, net::free_port, tools};

const ROWS: usize = 50_000;
const CLIENTS: usize = 8;

struct Database {
    sandbox: Sandbox,
    port: String,
    defaults: PathBuf,
}

impl Database {
    /// A new database of the ordinary user.
    fn new() -> Self {
        let sandbox = Sandbox::new();
        std::fs::create_dir(sandbox.path("my")).expect("a directory");
        sandbox.give_to_nobody("my");
        let dir = sandbox.path("my").display().to_string();
        let port = free_port().to_string();
        // Nothing needs to survive a power failure here.
        let defaults = sandbox.file(
            "my.cnf",
            format!(
                "[mysqld]\ndatadir={dir}/data\nsocket={dir}/socket\npid-file={dir}/pid\ntmpdir={dir}\n\
                 port={port}\nbind-address=127.0.0.1,::1\nskip-name-resolve\nlocal-infile=1\n\
                 innodb-flush-method=nosync\ninnodb-buffer-pool-size=32M\ninnodb-log-file-size=16M\n\
                 innodb-doublewrite=0\nmax-allowed-packet=64M\nperformance-schema=0\n"
            ),
        );
        let database = Database {
            sandbox,
            port,
            defaults,
        };
        let install = database
            .sandbox
            .plain(tools::need("mariadb-install-db"))
            .user();
        install
            .arg(database.defaults_file())
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            .run()
            .success();
        database
    }

    fn defaults_file(&self) -> String {
        format!("--defaults-file={}", self.defaults.display())
    }

    fn start(&self, options: &[&str]) -> Running {
        let server = self.sandbox.wrap(tools::need("mariadbd")).user();
        let server = server.arg(self.defaults_file()).args(options);
        let mut server = server.spawn();
        server.wait_stderr("ready for connections");
        server
    }

    fn client_at(&self, host: &str) -> Wrapped {
        let client = self
            .sandbox
            .wrap(tools::need("mariadb"))
            .arg("--no-defaults");
        let client = client.args(["--protocol=tcp", "-h", host, "-P", &self.port, "-u", "root"]);
        client.args([
            "--batch",
            "--raw",
            "--skip-column-names",
            "--local-infile=1",
        ])
    }

    fn query(&self, text: &str) -> String {
        let client = self.client_at("127.0.0.1").args(["-e", text]);
        client.run().success().text()
    }
}

fn row(i: usize) -> String {
    format!("{i}\t{}\n", "y".repeat(i % 120))
}

/// A table loaded from a file and read back, over both protocols.
fn load_and_read(database: &Database) {
    let rows: String = (0..ROWS).map(row).collect();
    let file = database.sandbox.file("rows", &rows);
    database.query(
        "create or replace database work; create table work.rows (id int primary key, t text)",
    );
    let load = format!(
        "load data local infile '{}' into table work.rows",
        file.display()
    );
    database.query(&load);
    let length: usize = (0..ROWS).map(|i| i % 120).sum();
    assert_eq!(
        database.query("select count(*), sum(length(t)) from work.rows"),
        format!("{ROWS}\t{length}\n")
    );
    for host in ["127.0.0.1", "::1"] {
        let select = "select id, t from work.rows order by id";
        let back = database
            .client_at(host)
            .args(["-e", select])
            .run()
            .success();
        assert!(back.text() == rows, "{host}: {} bytes", back.stdout.len());
    }
    // One value of many packets.
    let long = "select repeat('0123456789abcdef', 2000000)";
    let value = database
        .client_at("127.0.0.1")
        .args(["--max-allowed-packet=64M", "-e", long]);
    let text = value.run().success().text();
    assert!(
        text.trim_end() == "0123456789abcdef".repeat(2_000_000),
        "{} bytes",
        text.len()
    );
}

/// Clients at once, each with many statements; none is lost.
fn several_clients(database: &Database) {
    database.query(
        "create table work.counted (id int auto_increment primary key, client int) engine=innodb",
    );
    let start = |client: usize| {
        let insert = format!("insert into work.counted (client) values ({client});\n");
        let script = database
            .sandbox
            .file(&format!("insert-{client}"), insert.repeat(200));
        database.client_at("127.0.0.1").input(&script).spawn()
    };
    let clients: Vec<Running> = (0..CLIENTS).map(start).collect();
    clients.into_iter().for_each(|c| drop(c.finish().success()));
    let text =
        database.query("select client, count(*) from work.counted group by client order by client");
    let expected: String = (0..CLIENTS).map(|c| format!("{c}\t200\n")).collect();
    assert_eq!(text, expected);
}

/// A session that another one kills: its connection ends under the query.
fn killed(database: &Database) {
    let mut sleeper = database
        .client_at("127.0.0.1")
        .args(["--unbuffered", "--skip-reconnect"])
        .piped()
        .spawn();
    sleeper.send("select connection_id();\n");
    sleeper.wait_stdout("\n");
    let id = sleeper.stdout().trim().to_owned();
    let host = database.query(&format!(
        "select substring_index(host, ':', 1) from information_schema.processlist where id = {id}"
    ));
    assert_eq!(host, "127.0.0.1\n");
    database.query(&format!("kill {id}"));
    sleeper.send("select 1;\n");
    sleeper.finish().exits(1).stderr_has("ERROR 20");
}

#[test]
fn a_thread_for_each_connection_and_a_pool() {
    let database = Database::new();
    for handling in ["one-thread-per-connection", "pool-of-threads"] {
        let server = database.start(&[&format!("--thread-handling={handling}")]);
        load_and_read(&database);
        several_clients(&database);
        killed(&database);
        server.stop().success();
    }
}
