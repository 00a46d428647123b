//! One name look-up.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wasi::io::poll::Pollable;
use wasi::sockets::instance_network::instance_network;
use wasi::sockets::ip_name_lookup::{ResolveAddressStream, resolve_addresses};
use wasi::sockets::network::{ErrorCode, IpAddress};

use super::socket::describe;

/// A look-up under way. The pollable stands first: it has to be dropped before its stream.
pub(crate) struct Lookup {
    ready: Pollable,
    stream: ResolveAddressStream,
    found: Vec<IpAddr>,
}

impl Lookup {
    pub(crate) fn start(host: &str) -> Result<Self, String> {
        let stream = resolve_addresses(&instance_network(), host).map_err(describe_lookup)?;
        Ok(Self { ready: stream.subscribe(), stream, found: Vec::new() })
    }

    pub(crate) fn ready(&self) -> &Pollable {
        &self.ready
    }

    /// Takes what has come; the result when it is all there.
    pub(crate) fn advance(&mut self) -> Option<Result<Vec<IpAddr>, String>> {
        loop {
            match self.stream.resolve_next_address() {
                Ok(Some(address)) => self.found.push(ip(address)),
                Ok(None) => return Some(Ok(core::mem::take(&mut self.found))),
                Err(ErrorCode::WouldBlock) => return None,
                Err(error) if self.found.is_empty() => return Some(Err(describe_lookup(error))),
                Err(_) => return Some(Ok(core::mem::take(&mut self.found))),
            }
        }
    }
}

fn ip(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => Ipv6Addr::new(a, b, c, d, e, f, g, h).into(),
    }
}

fn describe_lookup(error: ErrorCode) -> String {
    match error {
        ErrorCode::InvalidArgument => "this is no host name".to_string(),
        ErrorCode::NameUnresolvable | ErrorCode::PermanentResolverFailure => {
            "the name is unknown".to_string()
        }
        ErrorCode::AccessDenied => "the host does not allow name look-ups".to_string(),
        error => describe(error),
    }
}
