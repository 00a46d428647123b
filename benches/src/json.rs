//! Everything that was measured, as JSON.
//!
//! ```json
//! {"machine": {"cores": 2, "server": "Redis 7.0.15", "crates": {"redis": "1.8.1"}},
//!  "settings": {"rounds": 31, "seconds": 0.05},
//!  "rows": [{"name": "set-1", "unit": "command", "units_per_call": 1,
//!    "contestants": [{"name": "redis-rs cluster", "calls_per_round": 2000,
//!      "nanoseconds": {"lower_quartile": 1, "median": 2, "upper_quartile": 3}, "rounds": [2]}],
//!    "ratios": [{"ours": "keyslot component, typed", "peer": "redis-rs cluster",
//!      "ratio": {"lower_quartile": 1, "median": 1, "upper_quartile": 1},
//!      "goal": 1.15, "reached": true}]}]}
//! ```

use serde_json::{Map, Value, json};

use crate::machine::Machine;
use crate::measure::{Measured, Settings};
use crate::statistics::Summary;

pub(crate) fn render(machine: &Machine, settings: Settings, rows: &[Measured]) -> Value {
    let crates: Map<String, Value> =
        machine.crates.iter().map(|(name, version)| ((*name).to_owned(), json!(version))).collect();
    json!({
        "machine": {
            "cores": machine.cores,
            "processor": machine.processor,
            "system": machine.system,
            "server": machine.server,
            "crates": crates,
        },
        "settings": { "rounds": settings.rounds, "seconds": settings.seconds },
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(measured: &Measured) -> Value {
    let contestants = measured.contestants.iter().map(|times| {
        json!({
            "name": times.way.name(),
            "calls_per_round": times.calls,
            "nanoseconds": summary(Summary::of(&times.rounds)),
            "rounds": times.rounds,
        })
    });
    let ratios = measured.row.comparisons.iter().map(|&comparison| {
        json!({
            "ours": comparison.ours.name(),
            "peer": comparison.peer.name(),
            "ratio": summary(measured.ratio(comparison)),
            "goal": comparison.goal,
            "reached": measured.is_reached(comparison),
        })
    });
    json!({
        "name": measured.row.name,
        "unit": measured.row.task.unit(),
        "units_per_call": measured.row.task.units(),
        "contestants": contestants.collect::<Vec<_>>(),
        "ratios": ratios.collect::<Vec<_>>(),
    })
}

fn summary(summary: Option<Summary>) -> Value {
    summary.map_or(Value::Null, |summary| {
        json!({
            "lower_quartile": summary.lower_quartile,
            "median": summary.median,
            "upper_quartile": summary.upper_quartile,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Times;
    use crate::rows::{self, Way};

    #[test]
    fn a_row_has_times_and_ratios() {
        let row = rows::all().into_iter().find(|row| row.name == "decode-wasm").unwrap();
        let contestants = vec![
            Times { way: Way::DecoderWasm, calls: 3, rounds: vec![10.0, 12.0] },
            Times { way: Way::RedisParserWasm, calls: 3, rounds: vec![20.0, 24.0] },
        ];
        let settings = Settings { rounds: 2, seconds: 0.1 };
        let value = render(&Machine::new(None), settings, &[Measured { row, contestants }]);
        let row = &value["rows"][0];
        assert_eq!((&row["name"], &row["unit"]), (&json!("decode-wasm"), &json!("MiB")));
        assert_eq!(row["contestants"][0]["nanoseconds"]["median"], json!(11.0));
        let ratio = &row["ratios"][0];
        assert_eq!((&ratio["ratio"]["median"], &ratio["reached"]), (&json!(0.5), &json!(true)));
        assert_eq!(value["machine"]["server"], Value::Null);
    }
}
