//! How much memory is held by what was received, counted over all connections.
//!
//! The bytes of a reply are shared by whoever has the reply: the decoder, then the machine, then
//! the driver. So each piece of memory counts from when it was received until the last of them lets
//! go of it, wherever that is.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::DecodeError;

/// Pieces of less are not counted: to count one costs an allocation. Whole replies in one keep no
/// more than that alive.
const COUNTED_MIN: usize = 4 << 10;

/// A reply may have so many bytes whatever others hold: small ones do not fail because of large
/// ones.
const SMALL: usize = 64 << 10;

/// Counts bytes, up to a limit. Its clones count together.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Count>);

#[derive(Debug)]
struct Count {
    bytes: AtomicUsize,
    limit: u64,
}

impl Meter {
    /// One with this limit.
    pub fn limited(limit: u64) -> Self {
        Self(Arc::new(Count { bytes: AtomicUsize::new(0), limit }))
    }

    /// How many bytes are held now.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed) as u64
    }

    /// These bytes, counted for as long as somebody has a part of them.
    pub(super) fn count(&self, bytes: Bytes) -> Bytes {
        if bytes.len() < COUNTED_MIN {
            return bytes;
        }
        let charge = Charge::new(self, bytes.len());
        Bytes::from_owner(Counted { bytes, _charge: charge })
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::limited(u64::MAX)
    }
}

/// A number of bytes that are counted until it is dropped.
#[derive(Debug)]
struct Charge {
    meter: Meter,
    bytes: usize,
}

impl Charge {
    fn new(meter: &Meter, bytes: usize) -> Self {
        meter.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { meter: meter.clone(), bytes }
    }

    fn set(&mut self, bytes: usize) {
        self.meter.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.meter.0.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Keeps bytes counted that do not do so themselves. It is nothing of a reply's value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(#[allow(dead_code, reason = "it is there to be dropped")] Option<Arc<Charge>>);

impl PartialEq for Held {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Bytes with what they are counted as.
struct Counted<T> {
    bytes: T,
    _charge: Charge,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Counted<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// Memory that grows with what is received, counted as large as it is.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    charge: Charge,
}

impl Buffer {
    pub(super) fn new(meter: &Meter) -> Self {
        Self { bytes: Vec::new(), charge: Charge::new(meter, 0) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How much there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Makes room for a piece that follows, and for so many bytes behind it, unless the meter's
    /// limit is in the way.
    pub(super) fn reserve(&mut self, piece: usize, ahead: usize) -> Result<(), DecodeError> {
        let needed = self.bytes.len().saturating_add(piece);
        let more = needed.saturating_add(ahead).saturating_sub(self.bytes.capacity());
        let (held, limit) = (self.charge.meter.bytes(), self.charge.meter.0.limit);
        if needed > SMALL && held.saturating_add(more as u64) > limit {
            return Err(DecodeError::Received { held, limit });
        }
        self.bytes.reserve_exact(piece.saturating_add(ahead));
        self.charge.set(self.bytes.capacity());
        Ok(())
    }

    /// Puts bytes to the end, for which there is room.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes what it holds; from then on it is empty. The bytes own their memory alone, so that it
    /// can be handed on, and are counted for as long as somebody has what comes with them.
    pub(super) fn take(&mut self) -> (Bytes, Held) {
        let empty = Self::new(&self.charge.meter);
        let Self { bytes, charge } = core::mem::replace(self, empty);
        let held = (bytes.len() >= COUNTED_MIN).then(|| Arc::new(charge));
        (bytes.into(), Held(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_until_the_last_lets_go() {
        let meter = Meter::default();
        let whole = meter.count(Bytes::from(alloc::vec![0; 10_000]));
        let part = whole.slice(9_000..);
        drop(whole);
        assert_eq!(meter.bytes(), 10_000);
        drop(part);
        assert_eq!(meter.bytes(), 0);
        let mut buffer = Buffer::new(&meter);
        buffer.reserve(10_000, 10_000).unwrap();
        buffer.extend(&[0; 10_000]);
        assert_eq!(meter.bytes(), 20_000);
        let (taken, held) = buffer.take();
        assert_eq!((meter.bytes(), buffer.capacity(), taken.len()), (20_000, 0, 10_000));
        let same = held.clone();
        drop((held, buffer));
        assert_eq!(meter.bytes(), 20_000);
        drop(same);
        assert_eq!(meter.bytes(), 0);
    }

    #[test]
    fn what_is_small_comes_in_whatever_is_held() {
        let meter = Meter::limited(100_000);
        let mut buffers = [Buffer::new(&meter), Buffer::new(&meter)];
        let [one, other] = &mut buffers;
        assert_eq!(one.reserve(100_000, 0), Ok(()));
        assert_eq!(other.reserve(SMALL, 0), Ok(()));
        assert_eq!(one.reserve(100_001, 0), Err(DecodeError::Received { held: 165_536, limit: 100_000 }));
        assert_eq!(meter.bytes(), 165_536);
    }
}
