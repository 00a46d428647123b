//! What each command does and is answered.

use keyslot_core::slot::Slot;

use super::super::store::{Read, Source, is_register, number_of};
use super::super::wire::{Answer, Words};
use super::{Condition, Servers, Session};

impl Servers {
    /// What one command does and is answered.
    pub(crate) fn execute(&mut self, session: &mut Session, words: &Words) -> Answer {
        self.commands_seen += 1;
        let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
        if !session.authenticated && !matches!(name.as_str(), "HELLO" | "AUTH") {
            return Answer::error("NOAUTH Authentication required.");
        }
        if let Some(answer) = self.stranger_answer(session, words) {
            return answer;
        }
        let before = session.lease;
        self.check_borrower(session, &name, words);
        let answer = match name.as_str() {
            "MULTI" | "EXEC" | "DISCARD" | "WATCH" | "UNWATCH" => self.transact(session, &name, words),
            _ if session.transaction.is_some() => self.transact(session, &name, words),
            _ => self.run(session, words),
        };
        // A borrower whose first command is refused may go elsewhere with it.
        if matches!(answer, Answer::Error(_)) && session.lease != before {
            let lease = session.lease.take();
            self.borrowers.let_go(lease);
        }
        // ASKING is for the next command; before MULTI it is for the whole transaction.
        if name != "ASKING" && session.transaction.is_none() {
            session.asking = false;
        }
        answer
    }

    pub(in super::super) fn knows(&self, name: &str) -> bool {
        let known = [
            "HELLO",
            "AUTH",
            "CLIENT",
            "SELECT",
            "READONLY",
            "READWRITE",
            "ASKING",
            "CLUSTER",
            "UNWATCH",
            "PING",
            "ECHO",
            "SCAN",
            "INFO",
            "MSETEX",
        ];
        known.contains(&name) || arguments(name, &Vec::new()).is_some()
    }

    /// Why the node runs no such command, whatever its keys.
    pub(in super::super) fn refusal(&self, node: usize, name: &str) -> Option<String> {
        let is_data = matches!(name, "PING" | "ECHO" | "SCAN") || arguments(name, &Vec::new()).is_some();
        let is_loading = self.nodes[node].condition == Condition::Loading;
        (is_data && is_loading).then(|| "LOADING Redis is loading the dataset in memory".to_string())
    }

    /// Runs a command outside of a transaction, or at its end.
    pub(in super::super) fn run(&mut self, session: &mut Session, words: &Words) -> Answer {
        let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
        let word = |index: usize| {
            words.get(index).map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default()
        };
        if let Some(error) = self.refusal(session.node, &name) {
            return Answer::Error(error);
        }
        self.pages_asked += u64::from(matches!(name.as_str(), "SCAN" | "INFO"));
        match name.as_str() {
            "HELLO" => self.hello(session, words),
            "AUTH" => match (&self.dialect.password, words.last()) {
                (Some(password), Some(given)) if password.as_bytes() == given => {
                    session.authenticated = true;
                    Answer::OK
                }
                (Some(_), _) => {
                    Answer::error("WRONGPASS invalid username-password pair or user is disabled.")
                }
                (None, _) => Answer::error("ERR Client sent AUTH, but no password is set"),
            },
            "CLIENT" if word(1).eq_ignore_ascii_case("ID") => Answer::Integer(session.number as i64),
            "CLIENT" if word(1).eq_ignore_ascii_case("UNBLOCK") => Answer::Integer(0),
            "CLIENT" if word(1).eq_ignore_ascii_case("SETINFO") && !self.dialect.setinfo => {
                Answer::error("ERR unknown subcommand 'SETINFO'. Try CLIENT HELP.")
            }
            "CLIENT" | "UNWATCH" => Answer::OK,
            "SELECT" => {
                session.database.clone_from(&words[1]);
                Answer::OK
            }
            "READONLY" | "READWRITE" | "ASKING" if !self.dialect.cluster => {
                Answer::error("ERR This instance has cluster support disabled")
            }
            "READONLY" | "READWRITE" => {
                session.readonly = name == "READONLY";
                session.borrower_reads |= words[0] == b"readonly";
                Answer::OK
            }
            "ASKING" => {
                session.asking = true;
                Answer::OK
            }
            "CLUSTER" if self.dialect.cluster && self.dialect.myid && word(1) == "MYID" => {
                Answer::text(&self.id_said_on(session))
            }
            "CLUSTER" => self.cluster_answer(session.node, &word(1).to_ascii_uppercase()),
            "PING" => words.get(1).map_or(Answer::Simple("PONG"), |word| Answer::Bulk(word.clone())),
            "ECHO" => Answer::Bulk(words[1].clone()),
            "SCAN" => self.scan(session, words),
            "INFO" => self.server_info(session.node),
            // As Valkey 9.1.2 does: it looks at no slot.
            "MSETEX" => Answer::Integer(1),
            _ => match arguments(&name, words) {
                Some((keys, writes)) => self.run_keyed(session, &name, words, keys, writes),
                None => Answer::error(format!("ERR unknown command '{name}', with args beginning with: ")),
            },
        }
    }

    fn cluster_answer(&mut self, node: usize, question: &str) -> Answer {
        match question {
            _ if !self.dialect.cluster => Answer::error("ERR This instance has cluster support disabled"),
            "SLOTS" => {
                self.topologies_asked += 1;
                self.slots_answer(node)
            }
            "SHARDS" if self.dialect.shards => {
                self.topologies_asked += 1;
                self.shards_answer(node)
            }
            "INFO" => self.info_answer(node),
            "NODES" => self.nodes_answer(node),
            _ => Answer::error(format!("ERR unknown subcommand '{question}'. Try CLUSTER HELP.")),
        }
    }

    /// Runs a command over keys, or says where it should run.
    fn run_keyed(
        &mut self,
        session: &Session,
        name: &str,
        words: &Words,
        keys: &[Vec<u8>],
        writes: bool,
    ) -> Answer {
        let source = match self.place(session, keys, writes) {
            Ok(source) => source,
            Err(error) => return Answer::Error(error),
        };
        if name == "EVALSHA" && self.commands_seen.is_multiple_of(3) {
            return Answer::error("NOSCRIPT No matching script. Please use EVAL.");
        }
        let key = &keys[0];
        let number = number_of(if is_register(key) { words.last().unwrap_or(key) } else { key });
        if writes && let Some(number) = number {
            *self.executions.entry(number).or_default() += 1;
        }
        if let Some(migration) = self.migrations.get(&Slot::of_key(key).number())
            && migration.to == session.node
        {
            self.created_at_target.extend(keys.iter().cloned());
        }
        // A borrower may say READONLY as it likes.
        let is_ours = session.lease.is_none() && !session.borrower_reads;
        self.replica_reads += u64::from(is_ours && matches!(source, Source::Replica { .. }));
        self.apply(source, name, words, keys)
    }

    fn apply(&mut self, source: Source, name: &str, words: &Words, keys: &[Vec<u8>]) -> Answer {
        let key = &keys[0];
        let now = self.now;
        let store = &mut self.store;
        let value = store.value(source, key);
        let answer = |value: Option<Vec<u8>>| value.map_or(Answer::Null, Answer::Bulk);
        match name {
            "GET" => {
                if is_register(key) {
                    store.reads.push(Read { key: key.clone(), value: value.clone(), source });
                }
                answer(value)
            }
            "MGET" => Answer::Array(keys.iter().map(|key| answer(store.value(source, key))).collect()),
            "SET" => {
                store.write(source, now, key, Some(words[2].clone()));
                Answer::OK
            }
            "GETSET" => {
                store.write(source, now, key, Some(words[2].clone()));
                answer(value)
            }
            "APPEND" => {
                let mut value = value.unwrap_or_default();
                value.extend_from_slice(&words[2]);
                let length = value.len() as i64;
                store.write(source, now, key, Some(value));
                Answer::Integer(length)
            }
            "BLPOP" => {
                store.write(source, now, key, None);
                value.map_or(Answer::NullArray, |value| {
                    Answer::Array(vec![Answer::Bulk(key.clone()), Answer::Bulk(value)])
                })
            }
            "INCR" | "EVAL" | "EVALSHA" => {
                let text = value.unwrap_or_else(|| b"0".to_vec());
                let Ok(value) = String::from_utf8_lossy(&text).parse::<i64>() else {
                    return Answer::error("ERR value is not an integer or out of range");
                };
                store.write(source, now, key, Some((value + 1).to_string().into_bytes()));
                Answer::Integer(value + 1)
            }
            // DEL. The first key is enough to show it.
            _ => {
                let found = keys.iter().filter(|key| store.value(source, key).is_some()).count();
                store.write(source, now, key, None);
                Answer::Integer(found as i64)
            }
        }
    }

    /// What CLUSTER MYID is answered with.
    fn id_said_on(&self, session: &Session) -> String {
        let nodes = &self.nodes;
        let node = match self.balancer {
            Some(_) => &nodes[session.number as usize % nodes.len()],
            None => &nodes[session.node],
        };
        node.said_id.as_ref().unwrap_or(&node.id).clone()
    }

    fn hello(&self, session: &mut Session, words: &Words) -> Answer {
        if !self.dialect.hello {
            return Answer::error("ERR unknown command 'HELLO', with args beginning with: '3' ");
        }
        if let Some(auth) = words.iter().position(|word| word.eq_ignore_ascii_case(b"AUTH")) {
            let given = words.get(auth + 2).map(Vec::as_slice);
            if self.dialect.password.as_ref().is_some_and(|password| Some(password.as_bytes()) != given) {
                return Answer::error("WRONGPASS invalid username-password pair or user is disabled.");
            }
            session.authenticated = true;
        }
        if !session.authenticated {
            return Answer::error("NOAUTH HELLO must be called with the client already authenticated.");
        }
        session.resp3 = words.get(1).is_some_and(|version| version == b"3");
        let mode = if self.dialect.cluster { "cluster" } else { "standalone" };
        let role = if self.nodes[session.node].view.replica_of[session.node].is_some() {
            "replica"
        } else {
            "master"
        };
        Answer::Map(vec![
            ("server", Answer::text("redis")),
            ("version", Answer::text("7.0.15")),
            ("proto", Answer::Integer(if session.resp3 { 3 } else { 2 })),
            ("id", Answer::Integer(7)),
            ("mode", Answer::text(mode)),
            ("role", Answer::text(role)),
            ("modules", Answer::Array(Vec::new())),
        ])
    }
}

/// The keys among a command's words, and whether it writes; `None` for one that has no keys or is
/// not known.
pub(crate) fn arguments<'a>(name: &str, words: &'a Words) -> Option<(&'a [Vec<u8>], bool)> {
    let all = words.get(1..).unwrap_or_default();
    let first = all.get(..1).unwrap_or_default();
    match name {
        "BLPOP" => Some((first, true)),
        "EVAL" | "EVALSHA" => Some((all.get(2..3).unwrap_or_default(), true)),
        "GET" => Some((first, false)),
        "MGET" => Some((all, false)),
        "SET" | "GETSET" | "APPEND" | "INCR" => Some((first, true)),
        "DEL" => Some((all, true)),
        _ => None,
    }
}
