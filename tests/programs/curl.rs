//! curl against an HTTP answer piped into nc.

use crate::common::{Sandbox, net::free_port, tools};
use crate::netcat::{listen, nc};

#[test]
fn an_answer_from_netcat() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let answer = sandbox.file(
        "answer",
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Made-By: hand\r\n\r\nhello\n",
    );
    let server = listen(nc(&sandbox).input(&answer), port);
    let url = format!("http://127.0.0.1:{port}/some/where?a=b");
    let got = sandbox
        .wrap(tools::need("curl"))
        .args(["-sS", "-i", &url])
        .run()
        .success();
    assert!(got.text().ends_with("\r\n\r\nhello\n"), "{}", got.text());
    let request = server.finish().success().text();
    assert!(
        request.starts_with("GET /some/where?a=b HTTP/1.1\r\n"),
        "{request}"
    );
}

/// An answer without a length ends with the connection.
#[test]
fn an_answer_ended_by_close() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let body = tools::random_bytes(5 << 20, 4);
    let answer = sandbox.file("answer", [b"HTTP/1.0 200 OK\r\n\r\n", &body[..]].concat());
    let server = listen(nc(&sandbox).arg("-N").input(&answer), port);
    let url = format!("http://127.0.0.1:{port}/");
    let got = sandbox
        .wrap(tools::need("curl"))
        .args(["-sS", &url])
        .run()
        .success();
    assert!(
        got.stdout == body,
        "{} of {} bytes, or other ones",
        got.stdout.len(),
        body.len()
    );
    server.finish().success();
}

/// curl's own words for a refused connection.
#[test]
fn nobody_listens() {
    let sandbox = Sandbox::new();
    let url = format!("http://127.0.0.1:{}/", free_port());
    // 7: failed to connect to host, see curl(1).
    let done = sandbox
        .wrap(tools::need("curl"))
        .args(["-sS", "--max-time", "30", &url])
        .run()
        .exits(7);
    done.stderr_has("Couldn't connect to server");
}

/// `localhost` has two addresses: curl tries both at once (happy eyeballs) and uses the one that answers.
#[test]
fn by_name() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let answer = sandbox.file("answer", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n");
    let _server = listen(nc(&sandbox).input(&answer), port);
    let url = format!("http://localhost:{port}/");
    let args = [
        "-sS",
        "--resolve",
        &format!("localhost:{port}:[::1],127.0.0.1"),
        &url,
    ];
    let got = sandbox.wrap(tools::need("curl")).args(args).run().success();
    assert_eq!(got.text(), "ok\n");
}
