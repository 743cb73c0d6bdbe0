//! Reading what the program writes, up to the seal that shutdown(2) may have left.
#![forbid(unsafe_code)]

use std::{os::fd::AsFd, sync::atomic::Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::flow::Flow;
use crate::emul::transport::{EndQueue, Seal};
use crate::sys::socket::{Received, ends_with_descriptors, readable_bytes, receive};

/// First read buffer of a connection, in bytes: most connections never carry more at a time.
const SMALL_READ: usize = 4 << 10;
/// Largest read buffer: more than AF_UNIX hands out at once.
const LARGE_READ: usize = 256 << 10;

/// Bytes that are left free before what is read in bulk. quinn copies it behind the header of a packet, some 16 bytes: were
/// both at the beginning of a page of memory, AMD's Zen 3 would take twenty times as long (docs/performance.md).
const HEADROOM: usize = 64;

/// Room to read into: small at first, larger while the program keeps filling it.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    bytes: BytesMut,
    room: usize,
    /// The last read has taken all there was.
    drained: bool,
    /// The seal was found to be the last byte. Nothing more is written there by then.
    sealed: bool,
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
        let Received { count, more, .. } = receive(flow.end.as_fd(), &mut self.bytes, usize::MAX)?;
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
        queue: &mut EndQueue,
        seal: Seal,
    ) -> nix::Result<Option<Bytes>> {
        let queued = readable_bytes(flow.end.as_fd())?;
        self.drained = false;
        self.sealed =
            self.sealed || seal == Seal::Kept || ends_with_descriptors(flow.end.as_fd(), queued)?;
        if !self.sealed {
            return self.read_across(flow, queue);
        }
        if queued <= 1 {
            return Ok(None);
        }
        let count = receive(flow.end.as_fd(), &mut self.bytes, queued - 1)?.count;
        Ok((count > 0).then(|| self.bytes.split().freeze()))
    }

    /// The same where another thread of the program has written behind the seal, which is taken out when it comes.
    fn read_across(&mut self, flow: &Flow, queue: &mut EndQueue) -> nix::Result<Option<Bytes>> {
        loop {
            let Received {
                count, descriptors, ..
            } = receive(flow.end.as_fd(), &mut self.bytes, usize::MAX)?;
            if descriptors {
                queue.seal = None;
                self.bytes.truncate(self.bytes.len().saturating_sub(1));
            }
            if !self.bytes.is_empty() {
                return Ok(Some(self.bytes.split().freeze()));
            }
            if count == 0 {
                return Ok(None);
            }
        }
    }

    /// Gives a large buffer back while there is nothing to read, for idle connections are many.
    pub(crate) fn rest(&mut self) {
        if self.bytes.capacity() > SMALL_READ {
            self.bytes = BytesMut::new();
            self.room = 0;
        }
    }
}
