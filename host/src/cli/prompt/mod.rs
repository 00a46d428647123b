//! `keyslot` without a subcommand: a prompt on a terminal, else a reader of commands, one a line.

mod completer;
mod hinter;
mod history;

use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use keyslot_terminal::{Style, escape};
use reedline::{
    ColumnarMenu, Emacs, KeyCode, KeyModifiers, MenuBuilder, Prompt, PromptEditMode, PromptHistorySearch,
    PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu, Signal, default_emacs_keybindings,
};

use self::completer::CommandCompleter;
use self::hinter::SyntaxHinter;
use super::failure::Failure;
use super::global::Global;
use super::session::{Next, Session};

const COMPLETION_MENU: &str = "completion_menu";

/// Runs what is typed, or what standard input has.
pub(super) async fn run(global: &Global) -> Result<ExitCode, Failure> {
    let session = Session {
        client: global.connection.connect_for_replies().await?,
        format: global.format(),
        style: Style::for_stdout(),
        terminal: io::stdout().is_terminal(),
    };
    if io::stdin().is_terminal() { interact(&session).await } else { read_lines(&session).await }
}

/// Runs the lines of standard input. As with `redis-cli`, a server's error is printed and stops
/// nothing, and the exit code does not tell of it; that a command got no answer, it does.
async fn read_lines(session: &Session) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    let mut line = Vec::new();
    loop {
        line.clear();
        if io::stdin().lock().read_until(b'\n', &mut line)? == 0 {
            return Ok(code);
        }
        match session.run_line(&line, &mut io::stdout()).await? {
            Next::Line => {}
            Next::LineAfter(failed) => code = ExitCode::from(failed),
            Next::Quit => return Ok(code),
        }
    }
}

/// Runs what is typed until the user leaves.
async fn interact(session: &Session) -> Result<ExitCode, Failure> {
    let mut editor = editor(session.style);
    loop {
        let signal = editor.read_line(&CommandPrompt).map_err(io::Error::other)?;
        let next = match signal {
            Signal::Success(line) => session.run_line(line.as_bytes(), &mut io::stdout()).await?,
            // Ctrl-C gives up the line, as a shell has it.
            Signal::CtrlC => Next::Line,
            _ => Next::Quit,
        };
        if next == Next::Quit {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn editor(style: Style) -> Reedline {
    let menu = ColumnarMenu::default().with_name(COMPLETION_MENU).with_columns(4).with_column_padding(2);
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![
            ReedlineEvent::Menu(COMPLETION_MENU.to_owned()),
            ReedlineEvent::MenuNext,
        ]),
    );
    let editor = Reedline::create()
        .with_completer(Box::new(CommandCompleter))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_hinter(Box::new(SyntaxHinter::default()))
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_ansi_colors(style.is_coloured());
    match history::open() {
        Ok(Some(history)) => editor.with_history(history),
        Ok(None) => editor,
        Err(error) => {
            let _ =
                writeln!(io::stderr(), "keyslot: no history file: {}", escape::message(&error.to_string()));
            editor
        }
    }
}

/// What stands before the line.
struct CommandPrompt;

impl Prompt for CommandPrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        "keyslot".into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        "> ".into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "... ".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "failing ",
        };
        format!("({failing}search: {}) ", escape::line(&search.term)).into()
    }
}
