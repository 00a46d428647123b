//! The list of known exceptions: a line each with the check, the figure and the place.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Context as _;

use super::{Check, Figures};

const HEAD: &str = "\
# What is over a limit of `cargo xtask check-source`, and by how much. No figure here may rise, and none may be
# added; after something was mended, moved or split, `cargo xtask check-source --tighten` writes the list anew.
";

/// The list as it is kept.
pub(super) fn render(figures: &Figures) -> String {
    let mut text = HEAD.to_owned();
    for ((check, place), figure) in figures {
        let _ = writeln!(text, "{:<8} {figure:>4}  {place}", check.name());
    }
    text
}

/// Reads what [`render`] writes.
pub(super) fn parse(text: &str) -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let check = words.next().and_then(|name| Check::ALL.into_iter().find(|check| check.name() == name));
        let figure = words.next().and_then(|figure| figure.parse().ok());
        let place = words.collect::<Vec<_>>().join(" ");
        let (check, figure) = check.zip(figure).with_context(|| format!("in exceptions.txt: {line}"))?;
        figures.insert((check, place), figure);
    }
    Ok(figures)
}

/// What is worse than it was known to be, and what is better.
pub(super) fn compare(known: &Figures, now: &Figures) -> (Vec<String>, Vec<String>) {
    let (mut worse, mut better) = (Vec::new(), Vec::new());
    for key in known.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
        let was = known.get(key).copied().unwrap_or(0);
        let is = now.get(key).copied().unwrap_or(0);
        let (check, place) = (key.0.name(), &key.1);
        let was_known = if was == 0 { String::new() } else { format!(", known were {was}") };
        match is.cmp(&was) {
            std::cmp::Ordering::Greater => worse.push(format!("{check} {place}: {is}{was_known}")),
            std::cmp::Ordering::Less if is == 0 => better.push(format!("{check} {place}: mended")),
            std::cmp::Ordering::Less => better.push(format!("{check} {place}: {is}{was_known}")),
            std::cmp::Ordering::Equal => {}
        }
    }
    (worse, better)
}

/// The checks whose figures have become more, all together.
pub(super) fn risen_sums(known: &Figures, now: &Figures) -> Vec<&'static str> {
    let risen = |check: &Check| sums(now, *check).1 > sums(known, *check).1;
    Check::ALL.into_iter().filter(risen).map(Check::name).collect()
}

/// How many exceptions a check has, and their figures' sum.
fn sums(figures: &Figures, check: Check) -> (usize, usize) {
    let of_check = figures.iter().filter(|((of, _), _)| *of == check);
    of_check.fold((0, 0), |(count, sum), (_, figure)| (count + 1, sum + figure))
}

/// A line for each check: how many exceptions are known and how many there are, and the worst.
pub(super) fn table(known: &Figures, now: &Figures) -> String {
    let mut text = format!("{:<8} {:>5} {:>5}  {:<50} worst\n", "check", "known", "now", "figure");
    for check in Check::ALL {
        let worst = now.iter().filter(|((of, _), _)| *of == check).max_by_key(|(_, figure)| **figure);
        let worst = worst.map(|((_, place), figure)| format!("{figure} {place}")).unwrap_or_default();
        let (known, now) = (sums(known, check).0, sums(now, check).0);
        let line = format!("{:<8} {known:>5} {now:>5}  {:<50} {worst}", check.name(), check.unit());
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(list: &[(Check, &str, usize)]) -> Figures {
        list.iter().map(|(check, place, figure)| ((*check, (*place).to_owned()), *figure)).collect()
    }

    #[test]
    fn the_list_is_read_as_it_is_written() {
        let some = figures(&[(Check::Function, "a.rs A::b", 71), (Check::Circle, "core/src/cluster", 12)]);
        assert_eq!(parse(&render(&some)).unwrap(), some);
        assert!(parse("functions 71 a.rs b\n").is_err());
        assert!(parse("function a.rs b\n").is_err());
    }

    #[test]
    fn figures_must_not_rise_and_may_fall() {
        let known = figures(&[(Check::File, "a", 600), (Check::File, "b", 600), (Check::File, "c", 600)]);
        let now = figures(&[(Check::File, "a", 601), (Check::File, "b", 599), (Check::Wide, "d", 1)]);
        let (worse, better) = compare(&known, &now);
        assert_eq!(worse, ["file a: 601, known were 600", "wide d: 1"]);
        assert_eq!(better, ["file b: 599, known were 600", "file c: mended"]);
        assert_eq!(compare(&known, &known), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_was_moved_or_split_may_be_written_anew() {
        let known = figures(&[(Check::Wide, "a", 5), (Check::Wide, "b", 1)]);
        assert!(risen_sums(&known, &figures(&[(Check::Wide, "c", 3), (Check::Wide, "d", 3)])).is_empty());
        assert_eq!(risen_sums(&known, &figures(&[(Check::Wide, "c", 7)])), ["wide"]);
        assert_eq!(risen_sums(&known, &figures(&[(Check::File, "c", 501)])), ["file"]);
    }
}
