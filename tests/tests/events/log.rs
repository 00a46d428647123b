//! The events that a client tells.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use keyslot::{Event, EventKind, Events, MovedSlots};
use keyslot_tests::wait_until;
use tokio::task::JoinHandle;

use crate::SOON;

/// The events as they come.
pub(crate) struct Log {
    events: Arc<std::sync::Mutex<Vec<Event>>>,
    task: JoinHandle<()>,
}

impl Log {
    pub(crate) fn of(mut events: Events) -> Self {
        let log = Arc::new(std::sync::Mutex::new(Vec::new()));
        let of_task = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                of_task.lock().expect("nobody panics with it").push(event);
            }
        });
        Self { events: log, task }
    }

    fn so_far(&self) -> Vec<Event> {
        self.events.lock().expect("nobody panics with it").clone()
    }

    /// Waits until an event like this has come.
    pub(crate) async fn holds(&self, what: &str, is: impl Fn(&EventKind) -> bool) -> Result<()> {
        let told = async || Ok(self.so_far().iter().any(|event| is(&event.kind)));
        let waited = wait_until(&format!("the event {what} is told"), SOON, told).await;
        waited
            .map(drop)
            .with_context(|| format!("{:#?}", self.so_far().iter().map(Event::to_string).collect::<Vec<_>>()))
    }

    pub(crate) fn stop(self) -> Vec<Event> {
        self.task.abort();
        self.so_far()
    }
}

/// Fetches events until none comes any more.
pub(crate) async fn quiet(events: &mut Events) {
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(300), events.next()).await {}
}

/// All slots that are told to have moved.
pub(crate) fn moved(events: &[Event]) -> Vec<MovedSlots> {
    let moved = events.iter().filter_map(|event| match &event.kind {
        EventKind::TopologyChanged(change) => Some(change.moved.clone()),
        _ => None,
    });
    moved.flatten().collect()
}
