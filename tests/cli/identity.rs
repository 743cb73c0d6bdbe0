//! Certificates made for a test.

use std::path::PathBuf;

use crate::common::Sandbox;

/// A self-signed certificate and its key, as PEM files.
pub(crate) struct Identity {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Identity {
    pub(crate) fn new(sandbox: &Sandbox, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned(), "127.0.0.1".to_owned()])
            .expect("a certificate");
        let cert = sandbox.file(&format!("{name}.cert.pem"), made.cert.pem());
        let key = sandbox.file(&format!("{name}.key.pem"), made.signing_key.serialize_pem());
        Identity { cert, key }
    }
}
