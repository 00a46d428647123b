//! `--verbose`: what happens to the clients, on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Local};
use keyslot::{Client, Event, EventKind, Events};
use keyslot_terminal::{Style, escape};
use tokio::task::JoinHandle;

/// How long the last events are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The clients whose events are shown, and the tasks that show them.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Vec<(Client, JoinHandle<()>)>>);

impl Watch {
    /// Shows what happens to this client.
    pub(crate) fn start(&self, client: &Client) {
        let task = tokio::spawn(show(client.events()));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((client.clone(), task));
    }

    /// Shows what there is still to show, and closes the clients.
    pub(crate) async fn end(&self) {
        let watched = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (client, task) in watched {
            let shown = async {
                client.close().await;
                // The task ends with the client's events.
                let _ = task.await;
            };
            let _ = tokio::time::timeout(PATIENCE, shown).await;
        }
    }
}

async fn show(mut events: Events) {
    let style = Style::for_stderr();
    // The prompt's editor has the terminal leave the cursor where it is at a line's end.
    let end = if io::stderr().is_terminal() { "\r\n" } else { "\n" };
    while let Some(event) = events.next().await {
        let _ = write!(io::stderr(), "{}{end}", line(&event, style));
    }
}

/// One line: `12:03:04 disconnected 127.0.0.1:7001: connection reset`.
fn line(event: &Event, style: Style) -> String {
    let time = style.dim(DateTime::<Local>::from(event.at).format("%H:%M:%S"));
    let text = escape::message(&event.to_string());
    let text = match &event.kind {
        EventKind::ConnectFailed(_)
        | EventKind::Disconnected(_)
        | EventKind::FailedOver(_)
        | EventKind::DescriptorsExhausted(_)
        | EventKind::Refused(_) => style.red(text),
        EventKind::Connected(_) | EventKind::Reconnected(_) => style.green(text),
        EventKind::TopologyChanged(_) => style.cyan(text),
        EventKind::Retried(_) | EventKind::Refreshed(_) => style.dim(text),
    };
    match event.missed {
        0 => format!("{time} {text}"),
        missed => format!("{time} {text} (after {missed} others, which were missed)"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use keyslot::NodeFailure;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let failure = NodeFailure { node: "a:1".into(), reason: "reset\r\nby peer".into(), attempts: 0 };
        let kind = EventKind::Disconnected(failure);
        let mut event = Event { at: SystemTime::now(), missed: 0, kind };
        let text = line(&event, Style::PLAIN);
        let (time, rest) = text.split_at(8);
        assert!(time.bytes().all(|byte| byte.is_ascii_digit() || byte == b':'), "{time}");
        assert_eq!(rest, " disconnected a:1: reset  by peer");
        event.missed = 3;
        assert!(line(&event, Style::PLAIN).ends_with("peer (after 3 others, which were missed)"));
    }
}
