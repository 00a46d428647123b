//! A network of a test's own, by the system's `unshare` and `ip`.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Set for the test that runs inside.
pub const INSIDE: &str = "KEYSLOT_TEST_IN_NAMESPACE";

/// The loopback device comes up, and local addresses are looked up after rules that are yet to
/// come.
const PREPARE: &str =
    "ip link set lo up && ip rule add pref 32000 lookup local && ip rule del pref 0 && exec \"$@\"";

fn inside(command: &[&str]) -> Command {
    let mut inside = Command::new("unshare");
    inside.args(["--net", "sh", "-c", PREPARE, "sh"]).args(command).env(INSIDE, "yes");
    inside
}

/// Runs one test of this binary inside. Where the system does not let us, says so and runs nothing.
///
/// # Errors
/// When the test fails there.
pub fn run_again(test: &str) -> Result<()> {
    let tried = inside(&["ip", "rule", "add", "pref", "100", "ipproto", "tcp", "sport", "1", "blackhole"])
        .output()
        .map_err(|error| error.to_string())
        .and_then(|output| match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        });
    if let Err(reason) = tried {
        println!("left out: no network namespace with rules of its own here: {reason}");
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let program = program.to_str().context("the path of this program")?;
    let status = inside(&[program, "--exact", test, "--nocapture"]).status()?;
    ensure!(status.success(), "{test} in a network namespace: {status}");
    Ok(())
}

/// Nothing that is sent from this port arrives anywhere (`add`), or again (`del`).
///
/// # Errors
/// When the rule cannot be changed.
pub fn drop_packets(change: &str, port: u16) -> Result<()> {
    let rule = format!("rule {change} pref 100 ipproto tcp sport {port} blackhole");
    let status = Command::new("ip").args(rule.split(' ')).status()?;
    ensure!(status.success(), "ip {rule}: {status}");
    Ok(())
}
