//! How badly the network behaves.

use std::net::Ipv4Addr;

use super::world::MILLISECOND;

/// The latency of a piece of bytes, and how many times in a hundred something else happens.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) latency: (u64, u64),
    pub(crate) split: u64,
    pub(crate) refuse: u64,
    pub(crate) silent_dial: u64,
    pub(crate) lookup_failure: u64,
    /// Every name has this address too, and first.
    pub(crate) first_address: Option<Ipv4Addr>,
    pub(crate) slow: u64,
    pub(crate) cut: u64,
    pub(crate) garbage: u64,
    /// Pushes between two replies (RESP3).
    pub(crate) pushes: u64,
}

/// What happens in some percent of all cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nuisance {
    /// Bytes come in pieces.
    Split,
    /// A dial is refused.
    Refuse,
    /// A dial is not answered.
    SilentDial,
    /// A look-up fails, or finds an address that leads nowhere.
    LookupFailure,
    /// A piece of bytes takes long.
    Slow,
    /// A connection ends in the middle of what is sent.
    Cut,
    /// A server answers what is no RESP.
    Garbage,
    /// A server pushes between two replies.
    Pushes,
}

impl Nuisance {
    pub(super) const ALL: [Self; 8] = [
        Self::Split,
        Self::Refuse,
        Self::SilentDial,
        Self::LookupFailure,
        Self::Slow,
        Self::Cut,
        Self::Garbage,
        Self::Pushes,
    ];
}

impl Weather {
    pub(crate) fn calm() -> Self {
        let latency = (MILLISECOND, MILLISECOND);
        Self {
            latency,
            split: 0,
            refuse: 0,
            silent_dial: 0,
            lookup_failure: 0,
            first_address: None,
            slow: 0,
            cut: 0,
            garbage: 0,
            pushes: 0,
        }
    }

    /// How many times in a hundred it happens.
    pub(super) fn percent(&self, nuisance: Nuisance) -> u64 {
        *self.clone().of(nuisance)
    }

    /// From now on it does not happen.
    pub(super) fn end(&mut self, nuisance: Nuisance) {
        *self.of(nuisance) = 0;
    }

    fn of(&mut self, nuisance: Nuisance) -> &mut u64 {
        match nuisance {
            Nuisance::Split => &mut self.split,
            Nuisance::Refuse => &mut self.refuse,
            Nuisance::SilentDial => &mut self.silent_dial,
            Nuisance::LookupFailure => &mut self.lookup_failure,
            Nuisance::Slow => &mut self.slow,
            Nuisance::Cut => &mut self.cut,
            Nuisance::Garbage => &mut self.garbage,
            Nuisance::Pushes => &mut self.pushes,
        }
    }
}
