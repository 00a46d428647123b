//! stub
/// stub
#[derive(Debug)]
pub struct Topology;
