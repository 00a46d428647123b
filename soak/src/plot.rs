//! The plot: rate, errors, and memory with sockets over time, one panel each, with the faults as
//! bands.

use std::path::Path;

use anyhow::Context as _;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::record::{Failure, FaultKind, Run, Sample};

const SIZE: (u32, u32) = (1_240, 880);
/// The title and the names of the faults.
const HEADER_HEIGHT: u32 = 72;
/// The room for the numbers left and right of each panel: the same everywhere, so that the seconds
/// stand below each other.
const AXIS_WIDTH: u32 = 78;
/// Where the panels and the titles begin.
const LEFT: i32 = AXIS_WIDTH as i32;
/// Where the legends in the titles' lines begin.
const LEGEND: i32 = LEFT + 290;
const TITLE_HEIGHT: u32 = 34;
const LETTER_HEIGHT: u32 = 14;
/// Letters nearer to each other than this go to different rows.
const LETTER_WIDTH: i32 = 13;

const INK: RGBColor = RGBColor(31, 41, 55);
const FAINT: RGBColor = RGBColor(107, 114, 128);
const GRID: RGBColor = RGBColor(229, 231, 235);
const RATE: RGBColor = RGBColor(37, 99, 235);
const RESIDENT: RGBColor = RGBColor(13, 118, 110);
const GUEST: RGBColor = RGBColor(124, 58, 237);
const SOCKETS: RGBColor = RGBColor(194, 65, 12);

const MEBIBYTE: f64 = 1_048_576.0;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A drawing's failure, which is one of the file.
type Drawn<T> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// Writes the plot as an SVG file.
pub(crate) fn write(run: &Run, file: &Path) -> anyhow::Result<()> {
    draw(run, file).with_context(|| format!("cannot write {}", file.display()))
}

fn draw(run: &Run, file: &Path) -> Drawn<()> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (header, panels) = root.split_vertically(HEADER_HEIGHT);
    draw_header(run, &header)?;
    let (first, rest) = panels.split_vertically(290);
    let (second, third) = rest.split_vertically(240);

    let most = run.samples.iter().map(Sample::rate).fold(0.0, f64::max);
    let panel = Panel { title: "commands answered a second", most, letters: true, clock: false };
    rate(run, &mut panel.draw(run, &first)?)?;

    let most = run.samples.iter().map(Sample::all_errors).max().unwrap_or(0) as f64;
    let panel = Panel { title: "commands failed a second", most, letters: false, clock: false };
    errors(run, &mut panel.draw(run, &second)?, &second)?;

    let most = run.samples.iter().filter_map(|sample| sample.resident.max(sample.guest)).max();
    let most = most.unwrap_or(0) as f64 / MEBIBYTE;
    let panel = Panel { title: "memory in MiB, and open sockets", most, letters: false, clock: true };
    memory(run, &mut panel.draw(run, &third)?, &third)?;
    root.present()
}

/// What was run, how it ended, and the names of the faults.
fn draw_header(run: &Run, area: &Area<'_>) -> Drawn<()> {
    let title = font(20).style(FontStyle::Bold).color(&INK);
    area.draw(&Text::new(format!("Soak: {}", run.setting), (LEFT, 12), title))?;
    let (verdict, colour) = if run.is_broken() {
        ("a promise was broken", RGBColor(185, 28, 28))
    } else {
        ("no promise was broken", RGBColor(21, 128, 61))
    };
    let right = i32::try_from(SIZE.0 - AXIS_WIDTH).unwrap_or(0);
    let style = font(16).style(FontStyle::Bold).color(&colour).pos(Pos::new(HPos::Right, VPos::Top));
    area.draw(&Text::new(verdict, (right, 15), style))?;

    let mut x = LEFT;
    for kind in FaultKind::ALL {
        let count = run.faults.iter().filter(|fault| fault.kind == kind).count();
        if count > 0 {
            let colour = colour_of(kind);
            area.draw(&Rectangle::new([(x, 44), (x + 18, 62)], colour.mix(0.2).filled()))?;
            let style = font(13).style(FontStyle::Bold).color(&colour);
            let style = style.pos(Pos::new(HPos::Center, VPos::Center));
            area.draw(&Text::new(kind.letter().to_string(), (x + 9, 53), style))?;
            x = label(area, (x + 25, 53), &format!("{} × {count}", kind.name()))?;
        }
    }
    Ok(())
}

/// One of the three parts of the plot.
struct Panel<'t> {
    title: &'t str,
    /// The largest value that it shows.
    most: f64,
    /// Whether the letters of the faults stand above it.
    letters: bool,
    /// Whether the time stands below it.
    clock: bool,
}

impl Panel<'_> {
    /// Draws the axes and the bands of the faults.
    fn draw<'a, 'b>(&self, run: &Run, area: &'b Area<'a>) -> Drawn<Chart<'a, 'b>> {
        // Empty panels have an axis, too.
        let top = if self.most > 0.0 { self.most * 1.1 } else { 1.0 };
        let end = run.seconds().max(1.0);
        let mut chart = ChartBuilder::on(area)
            .margin_top(TITLE_HEIGHT + if self.letters { 2 * LETTER_HEIGHT } else { 0 })
            .margin_right(AXIS_WIDTH)
            .margin_bottom(4)
            .set_label_area_size(LabelAreaPosition::Left, AXIS_WIDTH)
            .set_label_area_size(LabelAreaPosition::Bottom, if self.clock { 46 } else { 4 })
            .build_cartesian_2d(0.0..end, 0.0..top)?;
        for fault in &run.faults {
            let colour = colour_of(fault.kind);
            let band = [(fault.began, 0.0), (fault.agreed.min(end), top)];
            chart.draw_series([Rectangle::new(band, colour.mix(0.13).filled())])?;
            let edge = [(fault.began, 0.0), (fault.began, top)];
            // Many edges would hide what they mark.
            let edge_colour = colour.mix(if run.faults.len() > 40 { 0.35 } else { 0.75 });
            chart.draw_series([PathElement::new(edge, edge_colour.stroke_width(1))])?;
        }
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(FAINT)
            .x_labels(0)
            .y_labels(5)
            .y_label_formatter(&|value| grouped(*value))
            .label_style(font(13).color(&FAINT))
            .draw()?;
        area.draw(&Text::new(self.title.to_owned(), (LEFT, 8), font(15).style(FontStyle::Bold).color(&INK)))?;
        if self.letters {
            letters(run, &chart, area)?;
        }
        if self.clock {
            clock(&chart, area)?;
        }
        Ok(chart)
    }
}

/// The letters of the faults, above their bands, in two rows where they are near to each other.
fn letters(run: &Run, chart: &Chart<'_, '_>, area: &Area<'_>) -> Drawn<()> {
    let mut rows = [i32::MIN; 2];
    let (_, above) = area.get_base_pixel();
    for fault in &run.faults {
        let (x, top) = chart.plotting_area().map_coordinate(&(fault.began, chart.y_range().end));
        // Where no row has room, the one whose last letter is farther away.
        let row = usize::from(x.saturating_sub(rows[0]) < LETTER_WIDTH && rows[1] < rows[0]);
        rows[row] = x;
        let y = top - above - 3 - LETTER_HEIGHT as i32 * i32::try_from(row).unwrap_or(0);
        let style = font(13).style(FontStyle::Bold).color(&colour_of(fault.kind));
        let style = style.pos(Pos::new(HPos::Left, VPos::Bottom));
        area.draw(&Text::new(fault.kind.letter().to_string(), (x, y), style))?;
    }
    Ok(())
}

/// The time below a panel, at whole seconds or minutes.
fn clock(chart: &Chart<'_, '_>, area: &Area<'_>) -> Drawn<()> {
    let end = chart.x_range().end as u32;
    let steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600];
    let step = steps.into_iter().find(|step| end / step <= 12).unwrap_or(end / 12);
    let (_, above) = area.get_base_pixel();
    let style = font(13).color(&FAINT).pos(Pos::new(HPos::Center, VPos::Top));
    for seconds in (0..=end).step_by(step as usize) {
        let (x, y) = chart.plotting_area().map_coordinate(&(f64::from(seconds), 0.0));
        let y = y - above;
        area.draw(&PathElement::new([(x, y), (x, y + 5)], FAINT))?;
        let time = format!("{}:{:02}", seconds / 60, seconds % 60);
        area.draw(&Text::new(time, (x, y + 9), style.clone()))?;
    }
    let (x, y) = chart.plotting_area().map_coordinate(&(chart.x_range().end / 2.0, 0.0));
    area.draw(&Text::new("minutes since the load began", (x, y - above + 29), style))
}

fn rate(run: &Run, chart: &mut Chart<'_, '_>) -> Drawn<()> {
    let points = || run.samples.iter().map(|sample| (sample.at, sample.rate()));
    chart.draw_series(AreaSeries::new(points(), 0.0, RATE.mix(0.10)))?;
    chart.draw_series(LineSeries::new(points(), RATE.stroke_width(2))).map(drop)
}

/// Bars, one a second, with the kinds of errors on top of each other.
fn errors(run: &Run, chart: &mut Chart<'_, '_>, area: &Area<'_>) -> Drawn<()> {
    let mut below = vec![0.0; run.samples.len()];
    let mut x = LEGEND;
    for failure in Failure::ALL {
        if run.errors(failure) == 0 {
            continue;
        }
        let colour = colour_of_failure(failure);
        let bars = run.samples.iter().zip(&mut below).filter_map(|(sample, below)| {
            let count = sample.errors[failure as usize] as f64;
            let bar = [(sample.at - sample.length, *below), (sample.at, *below + count)];
            *below += count;
            (count > 0.0).then(|| Rectangle::new(bar, colour.filled()))
        });
        chart.draw_series(bars)?;
        x = key(area, x, colour, &format!("{}: {}", failure.name(), grouped(run.errors(failure) as f64)))?;
    }
    Ok(())
}

/// Memory by the left axis, sockets by a scale of their own on the right.
fn memory(run: &Run, chart: &mut Chart<'_, '_>, area: &Area<'_>) -> Drawn<()> {
    let series = |value: fn(&Sample) -> Option<u64>| {
        run.samples
            .iter()
            .filter_map(move |sample| Some((sample.at, value(sample)? as f64)))
            .collect::<Vec<_>>()
    };
    let mut x = LEGEND;
    for (name, colour, value) in [
        ("memory of this process", RESIDENT, (|sample| sample.resident) as fn(&Sample) -> Option<u64>),
        ("of it the component's", GUEST, |sample| sample.guest),
    ] {
        let points: Vec<_> = series(value).into_iter().map(|(at, bytes)| (at, bytes / MEBIBYTE)).collect();
        if !points.is_empty() {
            chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
            x = key(area, x, colour, name)?;
        }
    }

    let sockets = series(|sample| sample.sockets);
    let Some(most) = sockets.iter().map(|(_, count)| *count).reduce(f64::max) else {
        return Ok(());
    };
    // A third of the panel at least stays free above them.
    let step = (most * 1.5 / 4.0).ceil().max(1.0);
    let of_panel = chart.y_range().end / (4.0 * step);
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for (at, count) in sockets {
        steps.extend(steps.last().map(|&(_, last)| (at, last)));
        steps.push((at, count * of_panel));
    }
    chart.draw_series(LineSeries::new(steps, SOCKETS.stroke_width(1)))?;
    key(area, x, SOCKETS, "open sockets (right)")?;
    let (_, above) = area.get_base_pixel();
    for tick in 0..=4 {
        let count = f64::from(tick) * step;
        let (x, y) = chart.plotting_area().map_coordinate(&(chart.x_range().end, count * of_panel));
        let style = font(13).color(&SOCKETS).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(grouped(count), (x + 10, y - above), style))?;
    }
    Ok(())
}

/// An entry of a legend, in the line of the panel's title. Returns where the next one begins.
fn key(area: &Area<'_>, x: i32, colour: RGBColor, name: &str) -> Drawn<i32> {
    area.draw(&Rectangle::new([(x, 10), (x + 12, 22)], colour.filled()))?;
    label(area, (x + 18, 16), name)
}

/// A text of a legend. Returns where the next entry begins.
fn label(area: &Area<'_>, place: (i32, i32), text: &str) -> Drawn<i32> {
    let style = font(14).color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(text.to_owned(), place, style))?;
    Ok(place.0 + text_width(text, 14) + 22)
}

const fn colour_of(kind: FaultKind) -> RGBColor {
    match kind {
        FaultKind::KillPrimary => RGBColor(220, 38, 38),
        FaultKind::KillReplica => RGBColor(217, 119, 6),
        FaultKind::Failover => RGBColor(139, 92, 246),
        FaultKind::Stall => RGBColor(71, 85, 105),
        FaultKind::Reshard => RGBColor(22, 163, 74),
        FaultKind::Cut => RGBColor(8, 145, 178),
    }
}

const fn colour_of_failure(failure: Failure) -> RGBColor {
    match failure {
        Failure::ConnectionLost => RGBColor(220, 38, 38),
        Failure::PartlyExecuted => RGBColor(190, 24, 93),
        Failure::Timeout => RGBColor(245, 158, 11),
        Failure::Connect => RGBColor(124, 58, 237),
        Failure::ClusterDown => RGBColor(31, 41, 55),
        Failure::RedirectLimit => RGBColor(22, 163, 74),
        Failure::Server => RGBColor(14, 116, 144),
    }
}

fn font(size: u32) -> FontDesc<'static> {
    ("sans-serif", size).into_font()
}

/// About how wide a text is: nothing here knows the font that a viewer takes.
fn text_width(text: &str, size: i32) -> i32 {
    i32::try_from(text.chars().count()).unwrap_or(0) * size * 52 / 100
}

/// A number as people write it: thousands apart, and decimals only where they say something.
fn grouped(value: f64) -> String {
    if value < 10.0 && value.fract() > 0.001 {
        return format!("{value:.1}");
    }
    keyslot_terminal::table::grouped(value.round() as u64)
}
