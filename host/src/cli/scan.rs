//! `keyslot scan`: the keys, one a line.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use keyslot::{Client, Scan as Scanner, ScanOptions};

use super::failure::Failure;
use super::format::Format;
use super::global::Global;

/// How often the token is written while the scan goes on.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Print the keys of the cluster, one a line
///
/// Every key that is there throughout is printed, also while slots move and replicas take over. A
/// key may be printed more than once, as with SCAN. With --token a scan that was ended early
/// (Ctrl-C, a node that is down) goes on where it was.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  keyslot scan --match 'user:*' | wc -l
  keyslot scan --parallel 3 --token scan.token > keys
  keyslot scan --type hash --node 10.0.0.1:6379
  keyslot --json scan")]
pub(crate) struct Scan {
    /// Only keys that this glob-style pattern matches
    #[arg(long = "match", value_name = "PATTERN")]
    pattern: Option<OsString>,

    /// About how many keys a server looks at for one page
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,

    /// Only keys of this type: string, list, set, zset, hash, stream …
    #[arg(long = "type", value_name = "TYPE")]
    key_type: Option<String>,

    /// Only the keys that this node has
    #[arg(long, value_name = "HOST:PORT")]
    node: Option<String>,

    /// How many nodes are scanned at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    parallel: u32,

    /// Go on where the scan was that wrote this file, if it is there. It is written when this scan
    /// ends early, and removed when it has printed everything
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
}

impl Scan {
    pub(super) async fn run(self, global: &Global) -> Result<ExitCode, Failure> {
        let client = global.connection.connect().await?;
        let mut scanner = client.scan(self.options()?).await?;
        let progress = self.progress(&client).await;
        let mut out = BufWriter::new(io::stdout().lock());
        // What stands for what was printed: a batch that comes while the scan is interrupted is
        // not.
        let mut token = scanner.token().await?;
        let printed = tokio::select! {
            printed = self.print(&mut scanner, &mut token, global.format(), &progress, &mut out) => printed,
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        };
        progress.finish_and_clear();
        if let Some(file) = &self.token {
            match &printed {
                Ok(()) => remove(file)?,
                Err(_) => save(file, &token)?,
            }
        }
        printed.map(|()| ExitCode::SUCCESS)
    }

    fn options(&self) -> Result<ScanOptions, Failure> {
        let mut options = ScanOptions::new().count(self.count).parallel(self.parallel);
        if let Some(pattern) = &self.pattern {
            options = options.pattern(pattern.as_encoded_bytes());
        }
        if let Some(key_type) = &self.key_type {
            options = options.key_type(key_type);
        }
        if let Some(node) = &self.node {
            options = options.node(node);
        }
        if let Some(file) = &self.token {
            match fs::read(file) {
                Ok(token) => options = options.token(token),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::Usage(format!("{}: {error}", file.display()))),
            }
        }
        Ok(options)
    }

    async fn print(
        &self,
        scanner: &mut Scanner,
        token: &mut Vec<u8>,
        format: Format,
        progress: &ProgressBar,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let mut saved_at = Instant::now();
        while let Some(keys) = scanner.next().await? {
            progress.inc(keys.len() as u64);
            for key in keys {
                out.write_all(&format.key(key))?;
            }
            out.flush()?;
            if let Some(file) = &self.token {
                *token = scanner.token().await?;
                if saved_at.elapsed() >= SAVE_INTERVAL {
                    save(file, token)?;
                    saved_at = Instant::now();
                }
            }
        }
        Ok(())
    }

    /// A bar on standard error, where that is a terminal and the keys are not printed on one.
    async fn progress(&self, client: &Client) -> ProgressBar {
        if !io::stderr().is_terminal() || io::stdout().is_terminal() {
            return ProgressBar::hidden();
        }
        // How many keys there are says how many will come, unless only some are wanted.
        let all = self.pattern.is_none() && self.key_type.is_none() && self.node.is_none();
        let size = match client.execute(["DBSIZE"]).await {
            Ok(size) if all => size.as_integer().and_then(|size| u64::try_from(size).ok()),
            _ => None,
        };
        let (bar, template) = match size {
            Some(size) => (
                ProgressBar::new(size),
                "{spinner} {bar:30.cyan/dim} {human_pos} of about {human_len} keys, {per_sec}, {eta}",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {human_pos} keys, {per_sec}, {elapsed}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// Writes the token in one step: whoever reads the file finds the last one or this one.
fn save(file: &Path, token: &[u8]) -> Result<(), Failure> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    fs::write(&name, token)?;
    fs::rename(&name, file)?;
    Ok(())
}

fn remove(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
