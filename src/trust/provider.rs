//! The cryptography of TLS: aws-lc's, but for the cipher suites with AES-GCM on processors where ring's are faster.
#![forbid(unsafe_code)]

use std::arch::is_x86_feature_detected;

use rustls::{
    SupportedCipherSuite,
    crypto::{CryptoProvider, aws_lc_rs, ring},
};

/// Whose code encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AesGcm {
    AwsLc,
    Ring,
}

impl AesGcm {
    /// What is fastest here. With the AES instructions for vectors (VAES) four blocks go at a time; aws-lc has code for
    /// those with AVX-512 alone, ring with AVX2. On an AMD Zen 3, which has no AVX-512, ring encrypts datagrams of 1,452
    /// bytes 1.6 times as fast, of 32,700 bytes 1.9 times (docs/performance.md); Intel's desktop processors since Alder
    /// Lake are of that kind.
    fn fastest() -> Self {
        let vaes = is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("avx2");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if vaes && !avx512 {
            Self::Ring
        } else {
            Self::AwsLc
        }
    }

    /// AES-128-GCM first: the fastest where the processor has AES instructions, and the one RFC 8446
    /// section 9.1 requires. The client's order decides.
    fn cipher_suites(self) -> Vec<SupportedCipherSuite> {
        let [of_128, of_256] = match self {
            Self::AwsLc => [
                aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
                aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ],
            Self::Ring => [
                ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
                ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ],
        };
        let chacha = aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
        vec![of_128, of_256, chacha]
    }
}

/// What every TLS configuration is made with.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: AesGcm::fastest().cipher_suites(),
        ..aws_lc_rs::default_provider()
    }
}

#[cfg(test)]
mod tests {
    use rustls::{
        Side,
        quic::{Keys, Version},
    };

    use super::*;

    fn keys(suite: SupportedCipherSuite, side: Side) -> Keys {
        let suite = suite.tls13().unwrap();
        let quic = suite.quic_suite().unwrap();
        Keys::initial(Version::V1, quic.suite, quic.quic, b"12345678", side)
    }

    #[test]
    fn each_opens_what_the_other_has_sealed() {
        const NUMBER: u64 = 7;
        let [aws_lc, ring] = [AesGcm::AwsLc, AesGcm::Ring].map(AesGcm::cipher_suites);
        for (a, b) in aws_lc.into_iter().zip(ring) {
            assert_eq!(a.suite(), b.suite());
            for (from, to) in [(a, b), (b, a)] {
                let sender = keys(from, Side::Client).local.packet;
                let receiver = keys(to, Side::Server).remote.packet;
                for length in [0, 1, 30, 1_452, 32_700] {
                    let clear = vec![7; length];
                    let mut bytes = clear.clone();
                    let tag = sender.encrypt_in_place(NUMBER, b"header", &mut bytes);
                    bytes.extend_from_slice(tag.unwrap().as_ref());
                    let opened = receiver.decrypt_in_place(NUMBER, b"header", &mut bytes);
                    assert_eq!(opened.unwrap(), clear, "{:?}, {length} bytes", a.suite());
                }
            }
        }
    }
}
