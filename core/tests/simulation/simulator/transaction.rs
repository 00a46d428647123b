//! MULTI, EXEC, DISCARD, WATCH and UNWATCH: queue, run, and give up.
//!
//! Sources: Redis documentation, "Transactions"; `multi.c`, and `processCommand` in `server.c` for
//! what spoils a transaction.

use super::server::{Servers, Session, arguments};
use super::wire::{Answer, Words};

/// Commands between MULTI and EXEC.
#[derive(Clone, Debug, Default)]
pub(super) struct Transaction {
    queued: Vec<Words>,
    /// A command could not be queued, so EXEC runs none.
    is_spoilt: bool,
}

impl Servers {
    /// One of the five, or any command after MULTI.
    pub(super) fn transact(&mut self, session: &mut Session, name: &str, words: &Words) -> Answer {
        let is_open = session.transaction.is_some();
        match name {
            "MULTI" | "WATCH" if is_open => {
                self.spoil(session, "ERR Command not allowed inside a transaction".into())
            }
            "MULTI" => {
                session.transaction = Some(Transaction::default());
                Answer::OK
            }
            "WATCH" => {
                let keys = &words[1..];
                match self.place(session, keys, false) {
                    Err(error) => Answer::Error(error),
                    Ok(source) => {
                        let watched = keys.iter().map(|key| {
                            let value = self.store.value(source, key);
                            let serial = self.store.serial_of(key, value.as_deref());
                            (key.clone(), serial, value)
                        });
                        session.watched.extend(watched);
                        Answer::OK
                    }
                }
            }
            "UNWATCH" if !is_open => {
                session.watched.clear();
                Answer::OK
            }
            "EXEC" | "DISCARD" if !is_open => Answer::error(format!("ERR {name} without MULTI")),
            "DISCARD" => {
                session.transaction = None;
                session.watched.clear();
                Answer::OK
            }
            "EXEC" => {
                let shape = self.nodes[session.node].manners.exec.filter(|_| !Self::is_lent(session));
                let answer = self.exec(session);
                shape.map_or(answer.clone(), |shape| shape.of(answer))
            }
            _ => self.queue(session, name, words),
        }
    }

    fn queue(&mut self, session: &mut Session, name: &str, words: &Words) -> Answer {
        if !self.knows(name) {
            return self.spoil(session, format!("ERR unknown command '{name}', with args beginning with: "));
        }
        if let Some(error) = self.refusal(session.node, name) {
            return self.spoil(session, error);
        }
        if let Some((keys, writes)) = arguments(name, words)
            && let Err(error) = self.place(session, keys, writes)
        {
            return self.spoil(session, error);
        }
        if let Some(transaction) = &mut session.transaction {
            transaction.queued.push(words.clone());
        }
        Answer::Simple("QUEUED")
    }

    fn spoil(&self, session: &mut Session, error: String) -> Answer {
        if let Some(transaction) = &mut session.transaction {
            transaction.is_spoilt = true;
        }
        Answer::Error(error)
    }

    fn exec(&mut self, session: &mut Session) -> Answer {
        let Transaction { queued, is_spoilt } = session.transaction.take().unwrap_or_default();
        let watched = std::mem::take(&mut session.watched);
        let mut keys = Vec::new();
        let mut writes = false;
        for words in &queued {
            let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
            if let Some((own, write)) = arguments(&name, words) {
                keys.extend(own.iter().cloned());
                writes |= write;
            }
        }
        keys.extend(watched.iter().map(|(key, ..)| key.clone()));
        if !keys.is_empty() {
            let source = match self.place(session, &keys, writes) {
                Err(error) => return Answer::Error(error),
                Ok(source) => source,
            };
            let is_changed = |(key, serial, value): &(Vec<u8>, u64, Option<Vec<u8>>)| {
                let now = self.store.value(source, key);
                now != *value || self.store.serial_of(key, now.as_deref()) != *serial
            };
            if !is_spoilt && watched.iter().any(is_changed) {
                return Answer::NullArray;
            }
        }
        let refusal = |words: &Words| self.refusal(session.node, &String::from_utf8_lossy(&words[0]));
        if let Some(error) = queued.iter().find_map(refusal) {
            return Answer::error(format!("EXECABORT Transaction discarded because of: {error}"));
        }
        if is_spoilt {
            return Answer::error("EXECABORT Transaction discarded because of previous errors.");
        }
        Answer::Array(queued.iter().map(|words| self.run(session, words)).collect())
    }
}
