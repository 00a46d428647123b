//! stub
use bytes::BytesMut;
pub fn encoded_length<A: AsRef<[u8]>>(_args: &[A]) -> usize { 0 }
pub fn encode_command<A: AsRef<[u8]>>(_args: &[A], _into: &mut BytesMut) {}
