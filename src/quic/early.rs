//! What is sent behind the last handshake packet, and arrives before that: it cannot be read yet. quinn drops it, and its
//! sender takes it for lost, so that slow start has come to an end with the first flight. Until the handshake is complete
//! it is kept here instead (RFC 9001 section 5.7).
#![forbid(unsafe_code)]

use quinn::udp::RecvMeta;

/// Datagrams of one handshake: a first flight is ten of them (RFC 6928), and a few follow if the packet is lost. At 32 KiB
/// each they are half of what a stranger may send on streams (`FIRST_WINDOW`).
const MOST: usize = 16;
/// Connection IDs of one address that are known: of handshakes that others may pretend to begin there, too.
const MOST_IDS: usize = 4;
/// Longest connection ID, in bytes: RFC 9000 section 17.2.
const LONGEST_ID: usize = 20;
/// First bit of a packet with a long header, RFC 8999 section 5.1.
const LONG_HEADER: u8 = 0x80;

/// A datagram, and where it came from.
#[derive(Debug)]
pub(super) struct Held {
    meta: RecvMeta,
    contents: Box<[u8]>,
}

impl Held {
    /// Gives it to the endpoint.
    pub(super) fn restore(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let length = self.contents.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.contents[..length]);
        *meta = RecvMeta {
            len: length,
            stride: length,
            ..self.meta
        };
    }
}

/// What has come from an address too early.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Connection IDs that were chosen for its handshakes: nobody else's datagrams are kept back.
    ids: Vec<Box<[u8]>>,
    held: Vec<Held>,
}

impl Early {
    /// Notes the connection ID by which the address is to answer what is sent to it.
    pub(super) fn note(&mut self, sent: &[u8]) {
        if let Some(id) = source_id(sent)
            && self.ids.len() < MOST_IDS
            && !self.ids.iter().any(|known| **known == *id)
        {
            self.ids.push(id.into());
        }
    }

    /// Takes what is too early from datagrams that have arrived; the others move up.
    pub(super) fn take(&mut self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let stride = meta.stride.max(1);
        let (mut from, mut left) = (0, 0);
        while from < meta.len {
            let to = (from + stride).min(meta.len);
            let datagram = &buffer[from..to];
            if self.held.len() < MOST && self.is_early(datagram) {
                self.held.push(Held {
                    meta: *meta,
                    contents: datagram.into(),
                });
            } else {
                buffer.copy_within(from..to, left);
                left += to - from;
            }
            from = to;
        }
        meta.len = left;
    }

    fn is_early(&self, datagram: &[u8]) -> bool {
        let Some((first, rest)) = datagram.split_first() else {
            return false;
        };
        first & LONG_HEADER == 0 && self.ids.iter().any(|id| rest.starts_with(id))
    }

    /// What was kept, in the order in which it came.
    pub(super) fn into_held(self) -> Vec<Held> {
        self.held
    }
}

/// The source connection ID of a packet with a long header: behind a byte, the version and the destination's (RFC 8999
/// section 5.1).
fn source_id(packet: &[u8]) -> Option<&[u8]> {
    let (first, rest) = packet.split_first()?;
    let (_version, rest) = rest.split_at_checked(4)?;
    let (&length, rest) = rest.split_first()?;
    let (_destination, rest) = rest.split_at_checked(length.into())?;
    let (&length, rest) = rest.split_first()?;
    let id = rest.get(..usize::from(length))?;
    (first & LONG_HEADER != 0 && (1..=LONGEST_ID).contains(&id.len())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 8] = *b"chosen!!";

    fn long(source: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xe0, 0, 0, 0, 1, 3, 9, 9, 9];
        packet.push(source.len() as u8);
        packet.extend(source);
        packet.extend([7; 30]);
        packet
    }

    fn short(id: &[u8], number: u8) -> Vec<u8> {
        let mut packet = vec![0x40];
        packet.extend(id);
        packet.resize(100, number);
        packet
    }

    fn received(datagrams: &[&[u8]]) -> (Vec<u8>, RecvMeta) {
        let buffer = datagrams.concat();
        let meta = RecvMeta {
            len: buffer.len(),
            stride: datagrams[0].len(),
            ..RecvMeta::default()
        };
        (buffer, meta)
    }

    #[test]
    fn the_source_is_found_in_long_headers_alone() {
        assert_eq!(source_id(&long(&ID)), Some(&ID[..]));
        assert_eq!(source_id(&long(&[])), None);
        assert_eq!(source_id(&long(&[1; 21])), None);
        assert_eq!(source_id(&short(&ID, 1)), None);
        for length in 0..long(&ID).len() - 30 {
            assert_eq!(source_id(&long(&ID)[..length]), None, "{length}");
        }
    }

    #[test]
    fn what_is_early_is_taken_and_given_back_in_order() {
        let mut early = Early::default();
        early.note(&long(&ID));
        let other = short(b"others'!", 2);
        let (mut buffer, mut meta) =
            received(&[&short(&ID, 1), &other, &short(&ID, 3), &other[..50]]);
        early.take(&mut buffer, &mut meta);
        assert_eq!(buffer[..meta.len], [&other[..], &other[..50]].concat());
        let held = early.into_held();
        for (held, number) in held.iter().zip([1, 3]) {
            let (mut buffer, mut meta) = ([0; 200], RecvMeta::default());
            held.restore(&mut buffer, &mut meta);
            assert_eq!((meta.len, meta.stride), (100, 100));
            assert_eq!(buffer[..100], short(&ID, number));
        }
        assert_eq!(held.len(), 2);
    }

    #[test]
    fn no_more_is_kept_than_a_first_flight() {
        let mut early = Early::default();
        let id = |number: u8| [number; 8];
        (1..=9).for_each(|number| early.note(&long(&id(number))));
        assert_eq!(early.ids.len(), MOST_IDS);
        for number in 0..20 {
            let (mut buffer, mut meta) = received(&[&short(&id(1), number)]);
            early.take(&mut buffer, &mut meta);
            assert_eq!(meta.len == 0, usize::from(number) < MOST);
        }
        // Neither nothing nor a handshake packet is early.
        for datagram in [&[][..], &long(&id(1))] {
            assert!(!early.is_early(datagram));
        }
    }
}
