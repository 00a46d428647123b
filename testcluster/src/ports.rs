//! Free ports, chosen so that tests in several threads and processes do not take each other's.

use std::fs::{self, File};
use std::net::{IpAddr, TcpListener};

use rand::RngExt;

use crate::error::Error;

/// A cluster node listens for the other nodes at its port plus this.
const BUS_OFFSET: u16 = 10_000;

/// Ports that leave both themselves and their bus port below Linux's range for outgoing
/// connections, which begins at 32,768: no connection can take a reserved port by chance.
const CHOICE: std::ops::Range<u16> = 10_100..22_700;

/// How many ports are tried before none is said to be free.
const ATTEMPTS: usize = 1_000;

/// A port that nobody listens on, nor on its bus port, and that no other process using this crate
/// takes while this value lives.
#[derive(Debug)]
pub(crate) struct ReservedPort {
    number: u16,
    /// The locks of the port and of its bus port. The system releases them when the process ends,
    /// however it ends.
    _locks: [Option<File>; 2],
}

impl ReservedPort {
    /// Chooses one that is free at this address.
    pub(crate) fn choose(host: IpAddr) -> Result<Self, Error> {
        let mut random = rand::rng();
        (0..ATTEMPTS)
            .find_map(|_| Self::take(host, random.random_range(CHOICE)))
            .ok_or_else(|| Error::Unfit(format!("none of {ATTEMPTS} ports from {CHOICE:?} is free")))
    }

    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    fn take(host: IpAddr, number: u16) -> Option<Self> {
        let bus = number + BUS_OFFSET;
        let locks = [lock(number)?, lock(bus)?];
        (is_free(host, number) && is_free(host, bus)).then_some(Self { number, _locks: locks })
    }
}

/// Locks the file that stands for a port. `None` when another holder has it; `Some(None)` when
/// there can be no such file (a folder of another user's), which leaves it to the caller's retry.
fn lock(port: u16) -> Option<Option<File>> {
    let folder = std::env::temp_dir().join("keyslot-ports");
    let file = fs::create_dir_all(&folder).and_then(|()| File::create(folder.join(port.to_string())));
    match file {
        Err(_) => Some(None),
        Ok(file) => match file.try_lock() {
            Ok(()) => Some(Some(file)),
            Err(fs::TryLockError::WouldBlock) => None,
            Err(fs::TryLockError::Error(_)) => Some(None),
        },
    }
}

fn is_free(host: IpAddr, port: u16) -> bool {
    TcpListener::bind((host, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_reserved_port_is_not_given_twice() {
        let host = IpAddr::from(Ipv4Addr::LOCALHOST);
        let first = ReservedPort::choose(host).unwrap();
        assert!(ReservedPort::take(host, first.number()).is_none());
        let number = first.number();
        drop(first);
        assert!(ReservedPort::take(host, number).is_some());
    }
}
