//! One connection of a hostile cluster.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use keyslot_core::resp::{RequestError, take_request};

use super::answers::{Session, answer};
use super::{Act, Asked, Shared};

/// How often a connection that does nothing looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What is sent again and again is sent in pieces of about this size.
const PIECE: usize = 64 << 10;

/// What becomes of the connection after an act.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    End,
}

/// Serves a connection until one of both sides ends it.
pub(super) fn serve(stream: TcpStream, node: usize, connection: usize, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(LOOK_EVERY));
    let _ = stream.set_write_timeout(Some(LOOK_EVERY));
    let mut peer = Peer { stream, shared, is_spoiled: false };
    peer.run(node, connection);
    let _ = peer.stream.shutdown(Shutdown::Both);
}

struct Peer<'a> {
    stream: TcpStream,
    shared: &'a Shared,
    /// Something was done on it that is not right.
    is_spoiled: bool,
}

impl Peer<'_> {
    fn run(&mut self, node: usize, connection: usize) {
        let mut session = Session::new(node, self.shared.ports.clone());
        if self.obey(&mut session, node, connection, &[]) == Then::End {
            return;
        }
        let (mut buffer, mut pending) = (vec![0; PIECE], Vec::new());
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => pending.extend_from_slice(&buffer[..length]),
                Err(error) if is_passing(error.kind()) => {
                    if self.is_over() {
                        return;
                    }
                    continue;
                }
                Err(_) => return,
            }
            let mut rest = &pending[..];
            let mut args = Vec::new();
            loop {
                match take_request(&mut rest, &mut args) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(RequestError::CutOff) => break,
                    // The client sends nothing but requests.
                    Err(_) => return,
                }
                let words: Vec<_> =
                    args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
                if self.is_over() || self.obey(&mut session, node, connection, &words) == Then::End {
                    return;
                }
            }
            let left = rest.len();
            pending.drain(..pending.len() - left);
        }
    }

    /// Whether nobody is to be served here any more.
    fn is_over(&self) -> bool {
        self.shared.is_over() || (self.is_spoiled && self.shared.is_good())
    }

    /// Does what the script says about a command, or what is right.
    fn obey(&mut self, session: &mut Session, node: usize, connection: usize, words: &[String]) -> Then {
        let asked = Asked { node, connection, words, ports: &self.shared.ports };
        let acts = if self.shared.is_good() { None } else { (self.shared.script)(&asked) };
        let own = if words.is_empty() { Vec::new() } else { answer(session, words) };
        let Some(acts) = acts else {
            return self.send(&own);
        };
        self.is_spoiled = true;
        for act in acts {
            let then = match act {
                Act::Send(bytes) => self.send(&bytes),
                Act::Answer => self.send(&own),
                Act::Drip(bytes, pause) => self.drip(&bytes, pause),
                Act::Repeat(bytes, pause) => self.repeat(&bytes, pause),
                Act::Wait(time) => self.wait(time),
                Act::Silence => self.wait(Duration::MAX),
                Act::Close => Then::End,
            };
            if then == Then::End {
                return Then::End;
            }
        }
        Then::GoOn
    }

    fn send(&mut self, mut bytes: &[u8]) -> Then {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return Then::End,
                Ok(length) => bytes = &bytes[length..],
                // The peer does not read just now.
                Err(error) if is_passing(error.kind()) && !self.is_over() => {}
                Err(_) => return Then::End,
            }
        }
        Then::GoOn
    }

    fn drip(&mut self, bytes: &[u8], pause: Duration) -> Then {
        for byte in bytes.chunks(1) {
            if self.wait(pause) == Then::End || self.send(byte) == Then::End {
                return Then::End;
            }
        }
        Then::GoOn
    }

    fn repeat(&mut self, bytes: &[u8], pause: Duration) -> Then {
        let times = if pause.is_zero() { PIECE.div_ceil(bytes.len().max(1)) } else { 1 };
        let piece = bytes.repeat(times);
        loop {
            if self.wait(pause) == Then::End || self.send(&piece) == Then::End {
                return Then::End;
            }
        }
    }

    /// Waits, and ends early when it is over.
    fn wait(&self, time: Duration) -> Then {
        let started = Instant::now();
        loop {
            if self.is_over() {
                return Then::End;
            }
            let left = time.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Then::GoOn;
            }
            thread::sleep(left.min(LOOK_EVERY));
        }
    }
}

/// Whether a read or write may be tried again.
fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
