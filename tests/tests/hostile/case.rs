//! A case: what the cluster does, what the client does, and what must come of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyslot::{Client, Options};
use keyslot_tests::hostile::{Act, Asked, HostileCluster, Script, value_of};

use crate::deed::{Deed, kind};

/// The client's time-outs, unless the case says otherwise.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How much later than its time-out a request may end.
const GRACE: Duration = Duration::from_secs(1);
/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How much memory the component may have used, unless the case says otherwise.
const MEMORY_MAX: u64 = 24 << 20;
/// How soon a client must be served by a cluster that has come to its senses.
const RECOVERY_MAX: Duration = Duration::from_secs(5);
/// Who has not ended by then hangs.
const HANGS_AFTER: Duration = Duration::from_secs(15);

/// One entry of the table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) is_heavy: bool,
    nodes: usize,
    script: Script,
    deed: Deed,
    expected: Vec<&'static str>,
    within: Duration,
    memory_max: u64,
    dials_max: Option<usize>,
    settings: fn(Options) -> Options,
}

impl Case {
    /// A case of one node and one GET. `expected` are the outcomes that are right: `ok`, or `ok`
    /// with what the deed tells, or an error's kind. One that ends with `*` stands for all that
    /// begin so, and `each of` for any number of those that follow.
    pub(crate) fn new(
        name: &'static str,
        expected: &[&'static str],
        script: impl Fn(&Asked<'_>) -> Option<Vec<Act>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            is_heavy: false,
            nodes: 1,
            script: Arc::new(script),
            deed: Deed::Get,
            expected: expected.to_vec(),
            within: TIMEOUT + GRACE,
            memory_max: MEMORY_MAX,
            dials_max: None,
            settings: |options| options,
        }
    }

    /// Other outcomes than those of the case's kind.
    pub(crate) fn expecting(mut self, expected: &[&'static str]) -> Self {
        self.expected = expected.to_vec();
        self
    }

    pub(crate) fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    pub(crate) fn deed(mut self, deed: Deed) -> Self {
        self.deed = deed;
        self
    }

    /// How long the deed may take, where that is another time than one request's.
    pub(crate) fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    pub(crate) fn memory(mut self, mebibytes: u64) -> Self {
        self.memory_max = mebibytes << 20;
        self
    }

    /// How many connections the cluster may see until the deed has ended.
    pub(crate) fn dials(mut self, dials: usize) -> Self {
        self.dials_max = Some(dials);
        self
    }

    /// Takes the whole machine: it runs alone.
    pub(crate) fn heavy(mut self) -> Self {
        self.is_heavy = true;
        self
    }

    pub(crate) fn settings(mut self, settings: fn(Options) -> Options) -> Self {
        self.settings = settings;
        self
    }

    /// Lets it happen.
    pub(crate) async fn run(&self) -> Seen {
        let cluster = match HostileCluster::start(self.nodes, Arc::clone(&self.script)) {
            Ok(cluster) => cluster,
            Err(error) => return Seen { outcome: format!("no cluster: {error}"), ..Seen::default() },
        };
        let given = || (self.settings)(self.options(&cluster));
        let started = Instant::now();
        let connecting = tokio::time::timeout(HANGS_AFTER, Client::connect(given()));
        let (client, mut outcome) = match connecting.await {
            Ok(Ok(client)) => (Some(client), "ok".to_owned()),
            Ok(Err(error)) => (None, kind(&error)),
            Err(_) => (None, "hangs".to_owned()),
        };
        let mut seen = Seen { connected: started.elapsed(), ..Seen::default() };
        match (&self.deed, &client) {
            (Deed::Connect, _) => {}
            (_, None) => outcome = format!("connect: {outcome}"),
            (deed, Some(client)) => {
                let started = Instant::now();
                let done = tokio::time::timeout(self.within + HANGS_AFTER, deed.run(client)).await;
                seen.took = started.elapsed();
                outcome = done.unwrap_or_else(|_| "hangs".to_owned());
            }
        }
        seen.outcome = outcome;
        seen.dials = cluster.connections();
        if let Some(client) = &client {
            let memory = tokio::time::timeout(TIMEOUT + GRACE, client.memory()).await;
            seen.memory = memory.ok().and_then(Result::ok);
        }

        cluster.be_good();
        let served = tokio::time::timeout(HANGS_AFTER, served(client, given()));
        seen.afterwards = served.await.unwrap_or_else(|_| Some("it hangs".to_owned()));
        seen
    }

    fn options(&self, cluster: &HostileCluster) -> Options {
        let options = Options::new(cluster.urls()).request_timeout(TIMEOUT).connect_timeout(TIMEOUT);
        match self.deed {
            // Whoever could not connect has no memory to be asked for: it must not need more.
            Deed::Connect => options.memory_limit(self.memory_max as usize),
            _ => options,
        }
    }

    fn expects(&self, outcome: &str) -> bool {
        self.expected.iter().any(|expected| {
            if let Some(each) = expected.strip_prefix("each of ") {
                return outcome.split(" + ").all(|outcome| each.split(", ").any(|right| right == outcome));
            }
            match expected.strip_suffix('*') {
                Some(beginning) => outcome.starts_with(beginning),
                None => outcome == *expected,
            }
        })
    }
}

/// Waits until the client, or a new one, is served. Returns why it is not.
async fn served(mut client: Option<Client>, options: Options) -> Option<String> {
    let until = Instant::now() + RECOVERY_MAX;
    loop {
        let outcome = match &client {
            Some(client) => client.execute(["GET", "after"]).await.map(Some),
            None => Client::connect(options.clone()).await.map(|connected| {
                client = Some(connected);
                None
            }),
        };
        match outcome {
            Ok(Some(reply)) if reply.as_str() == Some(&value_of("after")) => return None,
            Ok(Some(reply)) => return Some(format!("GET is answered with {:?}", reply.root().node())),
            Err(error) if Instant::now() > until => return Some(error.to_string()),
            Ok(None) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// What came of a case.
#[derive(Default)]
pub(crate) struct Seen {
    outcome: String,
    /// How long connecting took.
    connected: Duration,
    /// How long what was done then took.
    took: Duration,
    /// The component's, in bytes; none when there is no client to ask.
    memory: Option<u64>,
    dials: usize,
    /// Why the client was of no use afterwards.
    afterwards: Option<String>,
}

impl Seen {
    pub(crate) const HEAD: &'static str = "case                                                          \
         outcome                                  ms     MiB   dials  ";

    /// Whether it took longer than it may, its time-out came before its outcome, or there was no
    /// time to connect.
    pub(crate) fn is_late(&self, case: &Case) -> bool {
        let timed_out = self.outcome.contains("timeout") && !case.expects(&self.outcome);
        let is_slow = self.took > case.within || self.connected > CONNECT_MAX;
        is_slow || timed_out || self.outcome.starts_with("connect: ")
    }

    /// What is wrong, in a line.
    pub(crate) fn failure(&self, case: &Case) -> Option<String> {
        let mut wrong = Vec::new();
        if !case.expects(&self.outcome) {
            wrong.push(format!("{} instead of {}", self.outcome, case.expected.join(" or ")));
        }
        for (took, at_most) in [(self.took, case.within), (self.connected, CONNECT_MAX)] {
            if took > at_most {
                wrong.push(format!("it took {took:?}, at most {at_most:?}"));
            }
        }
        if let Some(memory) = self.memory.filter(|memory| *memory > case.memory_max) {
            wrong.push(format!("the component has {} MiB, at most {}", memory >> 20, case.memory_max >> 20));
        }
        if let Some(dials) = case.dials_max.filter(|dials| self.dials > *dials) {
            wrong.push(format!("{} connections, at most {dials}", self.dials));
        }
        wrong.extend(self.afterwards.iter().map(|why| format!("afterwards: {why}")));
        (!wrong.is_empty()).then(|| format!("{}: {}", case.name, wrong.join("; ")))
    }

    /// A line of the table.
    pub(crate) fn row(&self, case: &Case) -> String {
        let memory = self
            .memory
            .map_or_else(|| "-".to_owned(), |memory| format!("{:.1}", memory as f64 / 1_048_576.0));
        let outcome: String = self.outcome.chars().take(36).collect();
        let mark = if self.failure(case).is_some() { "WRONG" } else { "" };
        format!(
            "{:<60}  {outcome:<36}  {:>6}  {memory:>6}  {:>6}  {mark}",
            case.name,
            (self.took + self.connected).as_millis(),
            self.dials
        )
    }
}
