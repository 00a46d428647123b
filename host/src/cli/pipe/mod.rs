//! `keyslot pipe`: commands by the million.
//!
//! ```text
//!  standard input ── syntax ──→ Piece … Piece ── Load::submit ──→ UnderWay … UnderWay ──→ Summary
//!       thread                   a few ready                      a window of them
//! ```
//!
//! Each command leaves the window as soon as it has ended. Those that wait for nodes that do not
//! answer are not counted in it: they have bounds of their own.

mod input;
mod progress;
mod summary;
mod syntax;
mod window;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use keyslot::{Client, Error};
use keyslot_terminal::{Style, escape};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::input::{Mistake, PIECES_AHEAD, Piece, Pieces, Place};
use self::progress::Progress;
use self::summary::Summary;
use self::window::{Held, Nodes, WAITING_BYTES_MAX, WAITING_COMMANDS_MAX, Window};
use super::failure::{Failure, REFUSED};
use super::global::Global;
use super::signal::interruption;

/// How often it is looked which nodes answer, at most, and which part of the request time-out is
/// enough.
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(250);
const LOOKS_IN_TIMEOUT: u32 = 20;

/// Run the commands of standard input, pipelined, and count their errors
///
/// One command a line, with the quotes and escapes of redis-cli, also with a count before it (3
/// INCR n); blank lines are passed over. Or RESP, arrays of bulk strings, which is found out by how
/// the input begins. Commands for one slot are executed in their order. SELECT of the database that
/// the connections have is passed over, and counts as answered; any other is refused. Replies are
/// not printed: at the end, a table says how many there were, and of each error's code how often it
/// came and where first.
///
/// A line that is no command is counted as the error SYNTAX, and the others are run. RESP that is
/// broken ends the input there: what comes before it is run. Ctrl-C ends the input, too.
///
/// Time-outs (--request-timeout) begin when a command is sent, and no more are sent at once than
/// end in a part of it. Commands for nodes that do not answer end by their time-out and hold up
/// none of the others, until 75,000 commands or 64 MiB wait.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  keyslot pipe < commands.txt
  zcat dump.resp.gz | keyslot pipe
  seq 1000000 | sed 's/.*/SET key:& value:&/' | keyslot pipe
  keyslot --json pipe < commands.txt | jq '.codes[]'

Exit codes: 0 when no command failed, 1 when one did or was none, 2 for wrong usage, 3 when nothing can be reached, 130 for Ctrl-C.")]
pub(crate) struct Pipe {}

impl Pipe {
    pub(super) async fn run(self, global: &Global) -> Result<ExitCode, Failure> {
        let client = global.connection.connect_for_loads(WAITING_COMMANDS_MAX, WAITING_BYTES_MAX).await?;
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        // No task of the runtime, which would wait for the end of a read before it ends.
        let pieces_of_input = Pieces::new(sender, global.connection.database());
        std::thread::spawn(|| syntax::read(io::stdin(), pieces_of_input, syntax::COMMAND_BYTES_MAX));
        let load = Load::new(&client, global.connection.request_timeout());
        let (summary, stop) = load.run(pieces).await;
        if let Some(why) = stop {
            let _ = writeln!(io::stderr(), "keyslot: {}", escape::message(&why));
        }
        let text = if global.json {
            format!("{}\n", escape::json(&summary.json()))
        } else {
            summary.text(Style::for_stdout())
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        match (summary.is_interrupted, summary.errors) {
            (true, _) => Err(Failure::Interrupted),
            (false, 0) => Ok(ExitCode::SUCCESS),
            (false, _) => Ok(ExitCode::from(REFUSED)),
        }
    }
}

/// The commands on their way.
struct Load<'a> {
    client: &'a Client,
    load: keyslot::Load,
    /// Pieces with commands that have not ended, by the number of the first command.
    under_way: BTreeMap<u64, UnderWay>,
    /// What they amount to.
    amount: Held,
    window: Window,
    nodes: Nodes,
    look_interval: Duration,
    summary: Summary,
    progress: Progress,
    started: Instant,
    /// Why the input was not run to its end, for people.
    stop: Option<String>,
    /// Where the last command stands that was handed in.
    last: Option<Place>,
    /// Where in the input the last piece ends that was handed in.
    end: u64,
}

/// A piece that was handed in.
struct UnderWay {
    places: Vec<Place>,
    /// How many have not ended, and about how many bytes these have.
    commands: usize,
    bytes: usize,
    since: Instant,
}

impl<'a> Load<'a> {
    fn new(client: &'a Client, request_timeout: Duration) -> Self {
        let look_interval = (request_timeout / LOOKS_IN_TIMEOUT).min(LOOK_INTERVAL_MAX);
        Self {
            client,
            load: client.load(),
            under_way: BTreeMap::new(),
            amount: Held::default(),
            window: Window::new(request_timeout),
            nodes: Nodes::new(request_timeout),
            look_interval: look_interval.max(Duration::from_millis(1)),
            summary: Summary::default(),
            progress: Progress::of_stdin(),
            started: Instant::now(),
            stop: None,
            last: None,
            end: 0,
        }
    }

    /// Runs what the pieces hold. Gives the counts, and why that is not all of the input.
    async fn run(mut self, mut pieces: mpsc::Receiver<Piece>) -> (Summary, Option<String>) {
        let mut interrupted = pin!(interruption());
        let mut looks = interval(self.look_interval);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_open = true;
        while is_open || !self.under_way.is_empty() {
            let has_room = self.window.has_room(self.amount);
            tokio::select! {
                () = &mut interrupted => {
                    self.interrupt();
                    break;
                }
                ends = self.load.ended(), if !self.under_way.is_empty() => self.take_ends(ends),
                piece = pieces.recv(), if is_open && has_room => match piece {
                    Some(piece) => self.send(piece).await,
                    None => is_open = false,
                },
                _ = looks.tick() => self.look().await,
            }
        }
        drop(pieces);
        // What was sent has its end soon, unless it blocks, or one is told twice to end.
        if self.summary.is_interrupted && !self.under_way.is_empty() {
            self.progress.note("waiting for the commands under way; Ctrl-C again gives them up");
        }
        let mut interrupted = pin!(interruption());
        while !self.under_way.is_empty() {
            tokio::select! {
                () = &mut interrupted => break,
                ends = self.load.ended() => self.take_ends(ends),
            }
        }
        self.summary.elapsed = self.started.elapsed();
        (self.summary, self.stop)
    }

    /// Takes notice that no more is to be handed in.
    fn interrupt(&mut self) {
        self.summary.is_interrupted = true;
        self.stop = Some(match self.last {
            Some(last) => format!("{last} was the last that was run"),
            None => "nothing was run".to_owned(),
        });
    }

    /// Hands a piece in.
    async fn send(&mut self, piece: Piece) {
        let Piece { commands, places, needless, mistakes, end } = piece;
        self.summary.pass_over(needless);
        for mistake in mistakes {
            self.summary.mistake(&mistake);
            if mistake.ends_input {
                let Mistake { place, what, .. } = mistake;
                self.stop = Some(format!("{place}: {what}; nothing from there on was run"));
            }
        }
        let (count, bytes) = (places.len(), commands.len());
        self.last = places.last().copied().or(self.last);
        self.end = end;
        self.summary.commands += count as u64;
        match self.load.submit(commands).await {
            Ok(numbers) if count > 0 => {
                let since = Instant::now();
                self.amount.pieces += 1;
                self.amount.commands += count;
                self.amount.bytes += bytes;
                self.under_way.insert(numbers.start, UnderWay { places, commands: count, bytes, since });
            }
            Ok(_) => {}
            Err(error) => places.into_iter().for_each(|place| self.summary.count(place, Err(error.clone()))),
        }
        self.show_progress();
    }

    /// Takes commands that have ended.
    fn take_ends<E>(&mut self, ends: Result<E, Error>)
    where
        E: Iterator<Item = (u64, Result<(), Error>)>,
    {
        let now = Instant::now();
        match ends {
            Ok(ends) => {
                let mut ends = ends.peekable();
                while let Some(&(number, _)) = ends.peek() {
                    self.take_ends_of_piece(number, &mut ends, now);
                }
            }
            // The client is gone, and with it whatever was known of them. That some have been told
            // of was counted then.
            Err(error) => {
                for piece in std::mem::take(&mut self.under_way).into_values() {
                    // Which of them they are is not told any more: any of the piece's places is
                    // right for the count.
                    for place in piece.places.into_iter().rev().take(piece.commands) {
                        self.summary.count(place, Err(error.clone()));
                    }
                }
                self.amount = Held::default();
            }
        }
        self.summary.elapsed = self.started.elapsed();
        self.show_progress();
    }

    /// Takes those commands of the piece that this one is of which have ended next.
    fn take_ends_of_piece(
        &mut self,
        number: u64,
        ends: &mut std::iter::Peekable<impl Iterator<Item = (u64, Result<(), Error>)>>,
        now: Instant,
    ) {
        let Some((&first, piece)) = self.under_way.range_mut(..=number).next_back() else {
            ends.next();
            return;
        };
        let took = now.duration_since(piece.since);
        let (mut ended, mut answered) = (0, 0);
        let numbers = first..first + piece.places.len() as u64;
        while let Some((number, outcome)) = ends.next_if(|(number, _)| numbers.contains(number)) {
            let place = usize::try_from(number - first).ok().and_then(|index| piece.places.get(index));
            ended += 1;
            answered += usize::from(says_how_soon(&outcome, &self.nodes));
            if let Some(place) = place {
                self.summary.count(*place, outcome);
            }
        }
        self.window.answered(answered, took);
        self.window.unanswered(ended - answered);
        let bytes = piece.bytes * ended / piece.commands.max(1);
        piece.commands -= ended;
        piece.bytes -= bytes;
        self.amount.commands -= ended;
        self.amount.bytes -= bytes;
        if piece.commands == 0 {
            self.amount.pieces -= 1;
            self.under_way.remove(&first);
        }
    }

    /// Looks which nodes answer, so that what waits for the others is not counted.
    async fn look(&mut self) {
        if self.under_way.is_empty() {
            return self.nodes.rest(Instant::now());
        }
        let Ok(statistics) = self.client.statistics().await else {
            return self.window.hold(0);
        };
        let now = Instant::now();
        let at_answering = self.nodes.look(&statistics, now);
        // What was handed in just now may not have come to its node.
        let is_old = |piece: &&UnderWay| now.duration_since(piece.since) >= self.look_interval;
        let old: usize = self.under_way.values().take_while(is_old).map(|piece| piece.commands).sum();
        self.window.hold(at_answering.map_or(0, |at_answering| old.saturating_sub(at_answering)));
    }

    /// Shows how much of the input has been dealt with, what is under way taken out in proportion.
    fn show_progress(&self) {
        let (under_way, commands) = (self.amount.commands as u64, self.summary.commands.max(1));
        let behind = u128::from(self.end) * u128::from(under_way) / u128::from(commands);
        self.progress.reached(self.end - u64::try_from(behind).unwrap_or(self.end), &self.summary);
    }
}

/// Whether the time that a command took tells of the pace of a node that answers. That of one that
/// has found no node, or waited for one that does not answer, does not.
fn says_how_soon(outcome: &Result<(), Error>, nodes: &Nodes) -> bool {
    match outcome {
        Ok(()) | Err(Error::Server(_)) => true,
        Err(Error::Timeout(interrupted)) => interrupted.possibly_executed && nodes.answers(&interrupted.node),
        Err(_) => false,
    }
}
