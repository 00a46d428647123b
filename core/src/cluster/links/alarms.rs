//! When a connection wants attention without anything having happened.
//!
//! Each has one alarm among its part's timers, which is set when something begins to be due and
//! looked at when it goes off. So an event costs what it is about, however many connections there
//! are.

use alloc::format;
use alloc::string::ToString;

use crate::cluster::ids::ConnId;
use crate::cluster::links::connection::{Candidate, Connection, State};
use crate::cluster::links::ended::Driver;
use crate::cluster::machine::{Cluster, Phase};
use crate::error::{Error, Within};

impl Cluster {
    /// Ends a connection that did not come up or did not answer its check in time, and looks
    /// whether answers are due on it.
    pub(in crate::cluster) fn check_connection(&mut self, conn: ConnId) {
        let gives_up_at = self.links.get(conn).and_then(Connection::gives_up_at);
        if gives_up_at.is_some_and(|at| at <= self.cx.now) {
            self.give_up(conn);
        }
        self.stall_if_due(conn);
        self.links.watch(&self.cx, conn);
    }

    /// Ends a connection that did not come up, or did not answer its PING, in time.
    pub(super) fn give_up(&mut self, conn: ConnId) {
        let within = self.cx.config.connect_timeout;
        let Some(connection) = self.links.get_mut(conn) else {
            return;
        };
        // An address that only took long has another turn, when all have had theirs.
        if let (State::Dialling, Some(ip)) = (connection.state(), connection.ip)
            && !connection.others.is_empty()
            && connection.deadline < connection.last_deadline
        {
            let is_first = !connection.is_second_try;
            connection.others.extend(is_first.then_some(Candidate { ip, is_second: true }));
        }
        let reason = match connection.state() {
            State::Resolving => format!("the name was not resolved within {}", Within(within)),
            State::Dialling => format!("no answer within {}", Within(within)),
            State::Handshaking { .. } => {
                format!("connected, but no answer to the handshake within {}", Within(within))
            }
            State::Ready if matches!(self.phase, Phase::Starting(_)) => {
                "no answer to the question for the topology".to_string()
            }
            State::Strange => self.why_strange(conn),
            State::Ready => "no answer to the health check".to_string(),
        };
        self.lose(conn, Error::Connect(reason), Driver::MustClose);
    }
}
