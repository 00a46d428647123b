//! `keyslot exec`: one command.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use super::failure::{Failure, REFUSED};
use super::format::server_error;
use super::global::Global;

/// Run one command and print its reply as redis-cli does
///
/// On a terminal the reply is printed with its types, into a pipe as values only. RESP2 is spoken
/// unless --resp3 is given. What follows the command's name is the command's, also when it looks
/// like an option.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  keyslot exec SET counter -1
  keyslot exec --json HGETALL user:7
  keyslot --resp3 exec HGETALL user:7
  keyslot exec -x SET photo < photo.jpg

Exit codes: 0, 1 for the server's error, 2 for wrong usage, 3 when there is no usable answer.")]
pub(crate) struct Exec {
    /// Read the last argument from standard input, to its end
    #[arg(short = 'x', long = "stdin")]
    stdin: bool,

    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

impl Exec {
    pub(super) async fn run(self, global: &Global) -> Result<ExitCode, Failure> {
        let mut command: Vec<_> = self.command.into_iter().map(OsString::into_encoded_bytes).collect();
        if self.stdin {
            let mut argument = Vec::new();
            io::stdin().lock().read_to_end(&mut argument)?;
            command.push(argument);
        }
        let client = global.connection.connect_for_replies().await?;
        let result = client.execute(command.clone()).await;
        let refused = result.as_ref().is_err_and(|error| server_error(error).is_some());
        let text = global.format().result(&command, result)?;
        let mut stdout = io::stdout().lock();
        stdout.write_all(&text)?;
        stdout.flush()?;
        Ok(if refused { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
    }
}
