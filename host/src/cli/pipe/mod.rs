//! `keyslot pipe`: commands by the million.
//!
//! ```text
//!  standard input ── syntax ──→ Piece … Piece ── Client::submit ──→ UnderWay … UnderWay ──→ Summary
//!       thread                   a few ready                        a window of them
//! ```

mod input;
mod progress;
mod summary;
mod syntax;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use keyslot::{Client, Error};
use tokio::sync::mpsc;

use self::input::{Mistake, PIECES_AHEAD, Piece, Pieces, Place};
use self::progress::Progress;
use self::summary::Summary;
use super::Global;
use super::escape;
use super::failure::{Failure, REFUSED};
use super::signal::interruption;
use super::style::Style;

/// How many commands are under way at first, and at most. The first ones may have large replies.
const COMMANDS_AT_FIRST: usize = 500;
const COMMANDS_MAX: usize = 20_000;

/// How many bytes are under way at most, unless one command alone has more.
const BYTES_MAX: usize = 16 << 20;

/// Run the commands of standard input, pipelined, and count their errors
///
/// One command a line, with the quotes and escapes of redis-cli, also with a count before it (3 INCR n); blank lines are passed
/// over. Or RESP, arrays of bulk strings, which is found out by how the input begins. Commands for one slot are executed in
/// their order. SELECT of the database that the connections have is passed over, and counts as answered; any other is refused. Replies are not printed: at the end, a table says how many there were, and of each error's code how often
/// it came and where first.
///
/// A line that is no command is counted as the error SYNTAX, and the others are run. RESP that is broken ends the input there:
/// what comes before it is run. Ctrl-C ends the input, too.
///
/// Time-outs (--request-timeout) begin when a command is sent, and no more are sent at once than end in a part of it.
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
        let client = global.connection.connect().await?;
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
    under_way: VecDeque<UnderWay>,
    window: Window,
    /// How many commands and bytes are under way.
    commands: usize,
    bytes: usize,
    summary: Summary,
    progress: Progress,
    started: Instant,
    /// Why the input was not run to its end, for people.
    stop: Option<String>,
    /// Where the last command stands that was handed in.
    last: Option<Place>,
}

/// Of each command of a piece, whether it went well.
type Outcomes = Vec<Result<(), Error>>;

/// A piece that was handed in.
struct UnderWay {
    outcomes: Pin<Box<dyn Future<Output = Outcomes> + Send>>,
    places: Vec<Place>,
    bytes: usize,
    /// The end of the piece in the input.
    end: u64,
    since: Instant,
}

impl<'a> Load<'a> {
    fn new(client: &'a Client, request_timeout: Duration) -> Self {
        Self {
            client,
            under_way: VecDeque::new(),
            window: Window::new(request_timeout),
            commands: 0,
            bytes: 0,
            summary: Summary::default(),
            progress: Progress::of_stdin(),
            started: Instant::now(),
            stop: None,
            last: None,
        }
    }

    /// Runs what the pieces hold. Gives the counts, and why that is not all of the input.
    async fn run(mut self, mut pieces: mpsc::Receiver<Piece>) -> (Summary, Option<String>) {
        let mut interrupted = pin!(interruption());
        let mut is_open = true;
        while is_open || !self.under_way.is_empty() {
            let has_room = self.commands < self.window.commands && self.bytes < BYTES_MAX;
            tokio::select! {
                () = &mut interrupted => {
                    self.interrupt();
                    break;
                }
                outcomes = first(&mut self.under_way) => self.land(outcomes),
                piece = pieces.recv(), if is_open && has_room => match piece {
                    Some(piece) => self.send(piece).await,
                    None => is_open = false,
                },
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
                outcomes = first(&mut self.under_way) => self.land(outcomes),
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
        self.summary.commands += count as u64;
        self.commands += count;
        self.bytes += bytes;
        let submitted = self.client.submit(commands).await;
        let outcomes = async move {
            match submitted {
                Ok(submitted) => submitted.outcomes().await,
                Err(error) => vec![Err(error); count],
            }
        };
        let (outcomes, since) = (Box::pin(outcomes), Instant::now());
        self.under_way.push_back(UnderWay { outcomes, places, bytes, end, since });
    }

    /// Takes the outcomes of the first piece under way.
    fn land(&mut self, outcomes: Outcomes) {
        let Some(piece) = self.under_way.pop_front() else {
            return;
        };
        self.commands -= piece.places.len();
        self.bytes -= piece.bytes;
        if !outcomes.iter().any(found_no_node) {
            self.window.adapt(piece.places.len(), piece.since.elapsed());
        }
        for (place, outcome) in piece.places.into_iter().zip(outcomes) {
            self.summary.count(place, outcome);
        }
        self.summary.elapsed = self.started.elapsed();
        self.progress.reached(piece.end, &self.summary);
    }
}

/// Waits for the outcomes of the first piece; for ever when there is none.
async fn first(under_way: &mut VecDeque<UnderWay>) -> Outcomes {
    match under_way.front_mut() {
        Some(piece) => piece.outcomes.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Whether a command has ended without being sent. How long that took says nothing about the servers' pace.
fn found_no_node(outcome: &Result<(), Error>) -> bool {
    match outcome {
        Err(Error::ClusterDown(_) | Error::Connect(_)) => true,
        Err(Error::Timeout(interrupted) | Error::ConnectionLost(interrupted)) => {
            !interrupted.possibly_executed
        }
        _ => false,
    }
}

/// How many commands may be under way: more while they end soon, fewer when they take long, so that none waits for its
/// time-out behind others.
struct Window {
    commands: usize,
    /// What is soon.
    soon: Duration,
}

impl Window {
    fn new(request_timeout: Duration) -> Self {
        Self { commands: COMMANDS_AT_FIRST, soon: request_timeout / 10 }
    }

    /// Takes notice of a piece that has ended.
    fn adapt(&mut self, commands: usize, took: Duration) {
        if took <= self.soon {
            self.commands = (self.commands + commands).min(COMMANDS_MAX);
        } else if took > 2 * self.soon {
            self.commands = (self.commands - self.commands / 4).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_while_commands_end_soon() {
        let mut window = Window::new(Duration::from_secs(5));
        for _ in 0..100 {
            window.adapt(500, Duration::from_millis(5));
        }
        assert_eq!(window.commands, COMMANDS_MAX);
        window.adapt(500, Duration::from_millis(800));
        assert_eq!(window.commands, COMMANDS_MAX);
        for _ in 0..100 {
            window.adapt(500, Duration::from_secs(2));
        }
        assert_eq!(window.commands, 3);
    }
}
