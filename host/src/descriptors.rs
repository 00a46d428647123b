//! How many connections a client may have where the process may open few files.

/// The component's default (`limit-connections`).
const CONNECTIONS: u64 = 512;

/// The limit that takes the default's place: three quarters of the descriptors that the process may
/// have now, when that is less. The others are for what else it does.
pub(crate) fn connections_max() -> Option<u64> {
    for_descriptors(descriptors()?)
}

fn for_descriptors(descriptors: u64) -> Option<u64> {
    let most = descriptors / 4 * 3;
    (most < CONNECTIONS).then_some(most.max(1))
}

/// The soft limit: RLIMIT_NOFILE of `getrlimit` (POSIX), in descriptors.
#[cfg(unix)]
fn descriptors() -> Option<u64> {
    rlimit::getrlimit(rlimit::Resource::NOFILE).ok().map(|(soft, _)| soft)
}

#[cfg(not(unix))]
fn descriptors() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_are_few_connections() {
        assert_eq!(for_descriptors(128), Some(96));
        assert_eq!(for_descriptors(256), Some(192));
        assert_eq!(for_descriptors(1_024), None);
        assert_eq!(for_descriptors(u64::MAX), None);
        assert_eq!(for_descriptors(0), Some(1));
    }
}
