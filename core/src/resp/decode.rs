//! stub
use super::Reply;
use bytes::Bytes;

/// What the decoder accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits { pub depth: u32, pub bulk_length: u64, pub elements: u32, pub reply_size: u64 }
impl Default for Limits { fn default() -> Self { Self { depth: 32, bulk_length: 512 << 20, elements: 16 << 20, reply_size: 1 << 30 } } }
/// Why bytes are no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError { #[error("x")] X }
/// A whole thing a server sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame { Reply(Reply), Push(Reply) }
/// The decoder.
#[derive(Debug)]
pub struct Decoder;
impl Decoder {
    pub fn new(_limits: Limits) -> Self { Self }
    pub fn feed(&mut self, _bytes: Bytes) {}
    pub fn poll(&mut self) -> Result<Option<Frame>, DecodeError> { Ok(None) }
}
