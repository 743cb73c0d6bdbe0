//! Which connections QUIC carries: rules that are wrong, and what `--explain` says.

use crate::common::{Done, Sandbox, tools::need};

fn quicwrap(arguments: &[&str], variables: &[(&str, &str)]) -> Done {
    crate::plain(&Sandbox::new(), arguments, variables)
}

#[test]
fn explained_by_flag_and_environment() {
    wrapped_only!();
    let done = quicwrap(
        &["--tcp", "10.0.0.0/8,:22", "--explain", "10.1.2.3:5432"],
        &[("QUICWRAP_TCP", "10.1.2.3"), ("QUICWRAP_QUIC", ":443")],
    )
    .success();
    assert_eq!(
        (done.text().as_str(), done.stderr.as_str()),
        (
            "10.1.2.3:5432: TCP: --tcp 10.0.0.0/8, from the command line\n",
            ""
        )
    );
    let done = quicwrap(
        &["--explain", "[::1]:443"],
        &[("QUICWRAP_QUIC", ":22,:443")],
    )
    .success();
    assert_eq!(
        done.text(),
        "[::1]:443: QUIC: --quic :443, from QUICWRAP_QUIC\n"
    );
}

#[test]
fn each_address_of_a_name_is_explained() {
    wrapped_only!();
    let done = quicwrap(&["--tcp", "127.0.0.0/8", "--explain", "localhost:80"], &[]).success();
    let line = "127.0.0.1:80 (localhost): TCP: --tcp 127.0.0.0/8, from the command line\n";
    assert!(done.text().contains(line), "{}", done.text());
}

#[test]
fn nothing_to_explain() {
    wrapped_only!();
    for (arguments, words) in [
        (&["--explain", "10.0.0.1"][..], "not HOST:PORT"),
        (&["--explain", "::1:80"], "not HOST:PORT"),
        (
            &["--explain", "no-such-host.invalid:80"],
            "no-such-host.invalid",
        ),
        (&["--explain", "10.0.0.1:80", "--", "true"], "--explain"),
    ] {
        let done = quicwrap(arguments, &[]).exits(125);
        assert_eq!(done.text(), "");
        done.stderr_has(words);
    }
}

/// What is wrong with rules is said before the program runs.
#[test]
fn bad_rules() {
    wrapped_only!();
    for (rules, words) in [
        (
            &["--tcp", "db.example"][..],
            &["--tcp", "db.example", "not an IP address"][..],
        ),
        (&["--quic", "10.0.0.1/8"], &["--quic", "write 10.0.0.0/8"]),
        (
            &["--tcp", ":22", "--quic", ":22"],
            &["--tcp :22", "--quic :22", "neither is more specific"],
        ),
    ] {
        let sandbox = Sandbox::new();
        let mut command = sandbox.wrap(need("echo")).arg("it ran");
        for word in rules {
            command = command.option(word);
        }
        let done = command.run().exits(125);
        assert_eq!(done.text(), "", "the program ran");
        words.iter().for_each(|word| done.stderr_has(word));
    }
}
