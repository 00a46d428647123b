//! What a run is to do, drawn before it begins: requests, borrowers, scans and faults, each a part
//! of its own, with a name and times.
//!
//! A run may leave parts out: the others stay as they are. That is how a failing run is made
//! smaller.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::faults::{Act, Fault};
use super::operation::Operation;
use super::weather::{Nuisance, Weather};

/// What a part of the plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    /// Of the latest request.
    Cancellation,
    /// One step of what a borrower does.
    Borrower,
    Scan,
    Fault(Fault),
    /// What the network does now and then, so many times in a hundred.
    Weather(Nuisance, u64),
}

/// A part that can be left out.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    kind: Kind,
    /// Requests with the same number are submitted at once.
    pipeline: Option<u64>,
    steps: Vec<(u64, Act)>,
}

/// All that a run is to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    parts: Vec<Part>,
    pipelines: u64,
}

impl Plan {
    pub(super) fn add(&mut self, kind: Kind, steps: Vec<(u64, Act)>) {
        self.parts.push(Part { kind, pipeline: None, steps });
    }

    /// Requests that are submitted at once; each is a part.
    pub(super) fn add_pipeline(&mut self, at: u64, operations: Vec<Operation>) {
        self.pipelines += 1;
        let pipeline = Some(self.pipelines);
        let parts = operations.into_iter().map(|operation| {
            let steps = vec![(at, Act::Submit(vec![operation]))];
            Part { kind: Kind::Request, pipeline, steps }
        });
        self.parts.extend(parts);
    }

    /// Each of the network's nuisances is a part.
    pub(super) fn add_weather(&mut self, weather: &Weather) {
        for nuisance in Nuisance::ALL {
            let percent = weather.percent(nuisance);
            if percent > 0 {
                self.add(Kind::Weather(nuisance, percent), Vec::new());
            }
        }
    }

    /// Leaves out all other parts.
    pub(crate) fn keep(&mut self, keep: &Keep) {
        let mut index = 0;
        self.parts.retain(|_| {
            index += 1;
            keep.has(index - 1)
        });
    }

    /// The weather without the nuisances that are left out.
    pub(super) fn calm(&self, weather: &mut Weather) {
        for nuisance in Nuisance::ALL {
            let is_kept = |part: &Part| matches!(part.kind, Kind::Weather(own, _) if own == nuisance);
            if !self.parts.iter().any(is_kept) {
                weather.end(nuisance);
            }
        }
    }

    /// All steps, each with its time; those of one time in the order of the parts.
    pub(super) fn into_steps(self) -> Vec<(u64, Act)> {
        let mut steps = Vec::new();
        let mut pipeline = None;
        for part in self.parts {
            let joins = part.pipeline.is_some() && part.pipeline == pipeline;
            pipeline = part.pipeline;
            for (at, act) in part.steps {
                match (steps.last_mut(), act) {
                    (Some((_, Act::Submit(all))), Act::Submit(more)) if joins => all.extend(more),
                    (_, act) => steps.push((at, act)),
                }
            }
        }
        steps
    }

    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// How many parts are faults, the network's nuisances among them.
    pub(crate) fn faults(&self) -> usize {
        let is_fault = |part: &&Part| matches!(part.kind, Kind::Fault(_) | Kind::Weather(..));
        self.parts.iter().filter(is_fault).count()
    }

    /// The parts that are kept, a line each.
    pub(crate) fn listed(&self, keep: &Keep) -> String {
        let kept = self.parts.iter().enumerate().filter(|(index, _)| keep.has(*index));
        kept.map(|(index, part)| format!("    {index:>3}  {part}\n")).collect()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Request => write!(f, "request")?,
            Kind::Cancellation => write!(f, "cancellation")?,
            Kind::Borrower => write!(f, "borrower")?,
            Kind::Scan => write!(f, "scan")?,
            Kind::Fault(fault) => write!(f, "fault {fault:?}")?,
            Kind::Weather(nuisance, percent) => return write!(f, "network {nuisance:?}, {percent} %"),
        }
        for (number, (at, act)) in self.steps.iter().enumerate() {
            let comma = if number == 0 { ":" } else { ";" };
            write!(f, "{comma} at {} ms {act:?}", at / 1_000_000)?;
        }
        Ok(())
    }
}

/// Which parts of a plan a run keeps, by their numbers. It is written as `0,4-7,12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    All,
    Only(BTreeSet<usize>),
}

impl Keep {
    pub(crate) fn has(&self, part: usize) -> bool {
        match self {
            Self::All => true,
            Self::Only(parts) => parts.contains(&part),
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Only(parts) = self else { return write!(f, "all") };
        if parts.is_empty() {
            return write!(f, "none");
        }
        let parts: Vec<_> = parts.iter().copied().collect();
        let mut comma = "";
        for row in parts.chunk_by(|one, next| one + 1 == *next) {
            match row {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
            comma = ",";
        }
        Ok(())
    }
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::All),
            "none" => return Ok(Self::Only(BTreeSet::new())),
            _ => {}
        }
        let mut parts = BTreeSet::new();
        for row in text.split(',') {
            let (first, last) = row.split_once('-').unwrap_or((row, row));
            match (first.parse::<usize>(), last.parse::<usize>()) {
                (Ok(first), Ok(last)) => parts.extend(first..=last),
                _ => return Err(format!("{row:?} is no number and no row of numbers")),
            }
        }
        Ok(Self::Only(parts))
    }
}
