//! How much waits for a node, a connection or a retry. What `order` holds is not counted: it waits
//! for other requests.

use alloc::format;

use crate::config::WaitingLimits;
use crate::error::Error;

/// The requests that wait, and the bytes of their commands.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cluster) struct Backlog {
    requests: u64,
    bytes: u64,
}

impl Backlog {
    /// A request of so many bytes begins to wait.
    pub(super) fn enter(&mut self, bytes: u64) {
        self.requests += 1;
        self.bytes += bytes;
    }

    /// A request of so many bytes waits no more.
    pub(super) fn leave(&mut self, bytes: u64) {
        self.requests -= 1;
        self.bytes -= bytes;
    }

    /// Why the newest of them is refused, when more waits than may.
    pub(super) fn excess(self, limits: WaitingLimits) -> Option<Error> {
        let Self { requests, bytes } = self;
        (requests > u64::from(limits.requests) || bytes > limits.bytes).then(|| {
            Error::LimitExceeded(format!(
                "{} requests with {bytes} bytes wait for nodes that are down (limit-waiting-requests, \
                 limit-waiting-bytes); this one was not sent",
                requests - 1
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_beyond_either_limit_is_refused() {
        let limits = WaitingLimits { requests: 2, bytes: 100 };
        let mut backlog = Backlog::default();
        backlog.enter(40);
        backlog.enter(60);
        assert_eq!(backlog.excess(limits), None, "as many as may wait, with as many bytes");
        backlog.enter(0);
        let Some(Error::LimitExceeded(text)) = backlog.excess(limits) else { panic!("one too many") };
        assert!(text.starts_with("2 requests with 100 bytes wait"), "{text}");
        backlog.leave(60);
        assert_eq!(backlog.excess(limits), None);
        backlog.enter(61);
        backlog.leave(0);
        assert!(backlog.excess(limits).is_some(), "one byte too many");
        backlog.leave(61);
        backlog.leave(40);
        assert_eq!((backlog.requests, backlog.bytes), (0, 0));
    }
}
