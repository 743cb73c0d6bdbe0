//! Reading what the program writes, up to the seal that shutdown(2) may have left.
#![forbid(unsafe_code)]

use std::{
    os::fd::{AsFd, AsRawFd},
    sync::atomic::Ordering,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use nix::sys::socket::{MsgFlags, recv};

use super::flow::Flow;
use crate::emul::transport::{Queue, Seal};
use crate::sys::socket::{Received, ends_with_descriptors, readable_bytes, receive};

/// First read buffer of a connection, in bytes: most connections never carry more at a time.
const SMALL_READ: usize = 4 << 10;
/// Largest read buffer: more than AF_UNIX hands out at once.
const LARGE_READ: usize = 256 << 10;

/// Bytes that are left free before what is read in bulk. quinn copies it behind the header of a packet, some 16 bytes: were
/// both at the beginning of a page of memory, AMD's Zen 3 would take twenty times as long (docs/performance.md).
const HEADROOM: usize = 64;

/// Where the seal lies in our end's queue. Nothing more is written there by then.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// It is the last byte, and stays.
    Last,
    /// Behind this many bytes, and more were written by another thread of the program before
    /// shutdown(2) took effect. It is taken out.
    Behind(usize),
}

impl Place {
    /// Looks for the byte that carries a descriptor.
    fn find(flow: &Flow) -> nix::Result<Self> {
        let queued = readable_bytes(flow.end.as_fd())?;
        if ends_with_descriptors(flow.end.as_fd(), queued)? {
            return Ok(Self::Last);
        }
        // A read ends with it.
        let mut bytes = vec![0; queued];
        let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let with_seal = recv(flow.end.as_raw_fd(), &mut bytes, peek)?;
        Ok(Self::Behind(with_seal.saturating_sub(1)))
    }
}

/// Room to read into: small at first, larger while the program keeps filling it.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    bytes: BytesMut,
    room: usize,
    /// The last read has taken all there was.
    drained: bool,
    /// Where the seal lies, once it was found.
    seal: Option<Place>,
}

impl ReadBuffer {
    /// What the program has written; none at its end.
    pub(crate) fn read(&mut self, flow: &Flow) -> nix::Result<Option<Bytes>> {
        if self.bytes.capacity() < SMALL_READ {
            self.bytes.reserve(self.room.max(SMALL_READ));
            if self.room > SMALL_READ {
                self.bytes.put_bytes(0, HEADROOM);
                self.bytes.advance(HEADROOM);
            }
        }
        let mut queue = flow.unread.lock();
        if !queue.taken.is_empty() {
            let count = queue.taken.len().min(LARGE_READ);
            self.drained = false;
            return Ok(Some(queue.taken.split_to(count)));
        }
        if let Some(seal) = queue.seal {
            return self.read_sealed(flow, &mut queue, seal);
        }
        let offered = self.bytes.capacity();
        let Received { count, more } = receive(flow.end.as_fd(), &mut self.bytes, usize::MAX)?;
        self.drained = !more && !flow.urgent.swap(false, Ordering::Relaxed);
        flow.activity.note(flow.id, count);
        if count == offered {
            self.room = (offered * 4).min(LARGE_READ);
        }
        Ok((count > 0).then(|| self.bytes.split().freeze()))
    }

    /// Whether the last read has taken all there was: whatever comes behind it, the end included, makes our end readable
    /// anew. An attempt to read would be a system call for nothing.
    pub(crate) fn is_drained(&mut self) -> bool {
        std::mem::take(&mut self.drained)
    }

    /// As [`Self::read`], once the program has shut down writing.
    fn read_sealed(
        &mut self,
        flow: &Flow,
        queue: &mut Queue,
        seal: Seal,
    ) -> nix::Result<Option<Bytes>> {
        let place = match (self.seal, seal) {
            (Some(place), _) => place,
            (None, Seal::Kept) => Place::Last,
            (None, Seal::Placed) => Place::find(flow)?,
        };
        self.seal = Some(place);
        match place {
            Place::Last => match readable_bytes(flow.end.as_fd())? {
                0 | 1 => Ok(None),
                queued => self.take(flow, queued - 1),
            },
            Place::Behind(0) => {
                receive(flow.end.as_fd(), &mut self.bytes, 1)?;
                self.bytes.clear();
                queue.seal = None;
                self.take(flow, usize::MAX)
            }
            Place::Behind(before) => {
                let taken = self.take(flow, before)?;
                let count = taken.as_ref().map_or(0, Bytes::len);
                self.seal = Some(Place::Behind(before.saturating_sub(count)));
                Ok(taken)
            }
        }
    }

    fn take(&mut self, flow: &Flow, limit: usize) -> nix::Result<Option<Bytes>> {
        let count = receive(flow.end.as_fd(), &mut self.bytes, limit)?.count;
        self.drained = false;
        Ok((count > 0).then(|| self.bytes.split().freeze()))
    }

    /// Gives a large buffer back while there is nothing to read, for idle connections are many.
    pub(crate) fn rest(&mut self) {
        if self.bytes.capacity() > SMALL_READ {
            self.bytes = BytesMut::new();
            self.room = 0;
        }
    }
}
