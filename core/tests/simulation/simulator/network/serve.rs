//! What a server makes of what arrives, and its answers on their way to the client.

use keyslot_core::cluster::ConnId;

use super::super::busy::Turn;
use super::super::clock::Event;
use super::super::coverage::Feature;
use super::super::manners::{Manners, Refusal, is_greeting};
use super::super::server::{Reach, Session};
use super::super::wire::{Answer, Garbage, Push, Words, take_command};
use super::super::world::World;
use super::{line, shown};

/// What a server makes of what has arrived on a connection.
#[derive(Default)]
struct Served {
    out: Vec<u8>,
    /// It takes no further commands now.
    is_over: bool,
    /// It ends in garbage.
    spoilt: bool,
    falls_silent: bool,
    hung_up: bool,
}

impl<A: std::fmt::Debug> World<A> {
    pub(super) fn arrive(&mut self, conn: ConnId, bytes: &[u8]) {
        let state = self.conn(conn);
        state.inbox.extend_from_slice(bytes);
        self.serve(conn);
    }

    /// The server takes what has arrived on this connection.
    fn serve(&mut self, conn: ConnId) {
        let Some(mut session) = self.conn(conn).session.take() else { return };
        let node = session.node;
        self.servers.catch_up(self.now());
        let manners = self.conn(conn).manners.unwrap_or(self.servers.nodes[node].manners);
        let state = &self.servers.nodes[node];
        let reaches = state.reach == Reach::Up || session.stranger.is_some();
        let running = !state.paused && !manners.is_stuck && reaches;
        let mut inbox = if running { std::mem::take(&mut self.conn(conn).inbox) } else { Vec::new() };
        let mut served = Served::default();
        while !served.is_over {
            let before = manners.scripts.is_some().then(|| inbox.clone());
            let Some(words) = take_command(&mut inbox) else { break };
            match self.turn(conn, node, &words) {
                Turn::Runs => self.serve_command(conn, &mut session, &manners, &words, None, &mut served),
                Turn::Answered(answer) => {
                    self.serve_command(conn, &mut session, &manners, &words, Some(answer), &mut served);
                }
                Turn::Waits => {
                    inbox = before.expect("it has manners");
                    break;
                }
                Turn::Begins => break,
            }
        }
        let state = self.conn(conn);
        if !inbox.is_empty() {
            state.inbox = inbox;
        }
        state.session = Some(session);
        self.answer(conn, served);
    }

    /// The server takes one command. What it would be answered may be known.
    fn serve_command(
        &mut self,
        conn: ConnId,
        session: &mut Session,
        manners: &Manners,
        words: &Words,
        answer: Option<Answer>,
        served: &mut Served,
    ) {
        let node = session.node;
        if manners.only_greets && !is_greeting(words) {
            (served.falls_silent, served.is_over) = (true, true);
            return;
        }
        let percent = self.network.weather.pushes;
        if session.resp3 && self.choices.chance(percent) {
            served.out.extend(self.choices.pick(&Push::ALL).bytes());
            self.coverage.count(Feature::Push);
        }
        let is_first = !std::mem::replace(&mut self.conn(conn).greeted, true);
        let refused = manners.refusal(is_first, words);
        self.coverage.count_if(Feature::HandshakeRefused, refused.is_some());
        let hangs_up = matches!(refused, Some(Refusal::HangsUp(_)));
        let asked = self.servers.asked(session);
        let answer = match refused {
            Some(Refusal::HangsUp(None)) => {
                (served.hung_up, served.is_over) = (true, true);
                return;
            }
            Some(Refusal::HangsUp(Some(text)) | Refusal::Answers(text)) => Answer::error(text),
            None => answer.unwrap_or_else(|| self.servers.execute(session, words)),
        };
        let answer = self.servers.worded(node, answer);
        self.coverage.answered(asked, words, &answer);
        self.log(|| {
            let mut bytes = Vec::new();
            answer.encode(false, &mut bytes);
            format!("{conn:?} node {node} runs {}: {}", line(words), shown(&bytes))
        });
        let percent = self.network.weather.garbage;
        if self.choices.chance(percent) {
            served.out.extend(self.choices.pick(&Garbage::ALL).bytes());
            (served.spoilt, served.is_over) = (true, true);
            self.coverage.count(Feature::Garbage);
            return;
        }
        answer.encode(session.resp3, &mut served.out);
        (served.hung_up, served.is_over) = (hangs_up, hangs_up);
    }

    /// What the server answers sets out, as far as it gets.
    fn answer(&mut self, conn: ConnId, served: Served) {
        let Served { mut out, spoilt, falls_silent, hung_up, .. } = served;
        let severed = self.conn(conn).severed;
        if spoilt || falls_silent {
            self.sever(conn);
        }
        if hung_up && !severed {
            if !out.is_empty() {
                self.deliver(conn, out, spoilt);
            }
            return self.cut(conn);
        }
        if out.is_empty() || severed {
            return;
        }
        let percent = self.network.weather.cut;
        if !spoilt && self.choices.chance(percent) {
            out.truncate(self.choices.index(out.len() + 1));
            self.reply(conn, out, false);
            self.cut(conn);
        } else {
            self.reply(conn, out, spoilt);
        }
    }

    /// Takes up what arrived while the node was paused.
    pub(crate) fn resume(&mut self, node: usize) {
        self.servers.nodes[node].paused = false;
        self.take_up(node);
    }

    /// Takes up what has arrived at a node and waits.
    pub(in super::super) fn take_up(&mut self, node: usize) {
        let conns = self.network.conns.iter().filter(|(_, state)| state.node == Some(node));
        for conn in conns.map(|(conn, _)| *conn).collect::<Vec<_>>() {
            self.serve(conn);
        }
    }

    /// Sends bytes to the client, whatever they are.
    pub(crate) fn reply(&mut self, conn: ConnId, bytes: Vec<u8>, garbage: bool) {
        if let Some(bytes) = self.hold_for_drip(conn, bytes) {
            self.deliver(conn, bytes, garbage);
        }
    }

    /// Bytes set out for the client.
    pub(super) fn deliver(&mut self, conn: ConnId, bytes: Vec<u8>, garbage: bool) {
        let (mut at, dial) = (self.conn(conn).to_client_at, self.conn(conn).dial);
        let pieces = self.split(bytes);
        let count = pieces.len();
        for (index, piece) in pieces.into_iter().enumerate() {
            at = at.max(self.now() + self.latency());
            let last_of_garbage = garbage && index + 1 == count;
            self.schedule(at, Event::ToClient { conn, dial, bytes: piece, last_of_garbage });
        }
        self.conn(conn).to_client_at = at;
    }
}
