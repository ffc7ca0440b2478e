//! Charts as SVG: no script, no font, no colour that the page's style sheet cannot turn dark.
//!
//! Always holds: a chart says in words what it shows (`title`, `desc`); it is as small as its points, which are few; what
//! is written into it is escaped by the backend. Colours are [`PALETTE`]: the style sheet knows them by their values.

use askama::filters::{Html, escape};
use plotters::coord::Shift;
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::prelude::{ChartBuilder, DrawingArea, IntoDrawingArea as _, RGBColor, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, IntoFont as _, ShapeStyle, TRANSPARENT, TextStyle};

use super::ReportError;
use super::table::{number, percent, short};

/// Colours in light, and what they become in the dark; the names are those of the style sheet.
pub(super) const PALETTE: [(&str, RGBColor, RGBColor); 12] = [
    ("ink", RGBColor(0x1F, 0x29, 0x33), RGBColor(0xE6, 0xEB, 0xF0)),
    ("muted", RGBColor(0x55, 0x63, 0x70), RGBColor(0xA8, 0xB4, 0xC0)),
    ("rule", RGBColor(0xDD, 0xE3, 0xE8), RGBColor(0x33, 0x3D, 0x48)),
    ("base", RGBColor(0xB4, 0xBF, 0xCA), RGBColor(0x5B, 0x69, 0x78)),
    ("c0", RGBColor(0x1F, 0x6F, 0xB2), RGBColor(0x6C, 0xB2, 0xF2)),
    ("c1", RGBColor(0xC7, 0x62, 0x0B), RGBColor(0xF2, 0xA6, 0x5A)),
    ("c2", RGBColor(0x1B, 0x85, 0x57), RGBColor(0x5C, 0xC7, 0x96)),
    ("c3", RGBColor(0x84, 0x4A, 0xBA), RGBColor(0xC0, 0x9A, 0xEF)),
    ("c4", RGBColor(0xBE, 0x33, 0x48), RGBColor(0xF0, 0x7F, 0x8D)),
    ("c5", RGBColor(0x0E, 0x7F, 0x86), RGBColor(0x5C, 0xC9, 0xCF)),
    ("c6", RGBColor(0x85, 0x5E, 0x33), RGBColor(0xCF, 0xA6, 0x7A)),
    ("c7", RGBColor(0xB8, 0x3E, 0x86), RGBColor(0xEC, 0x8C, 0xC2)),
];
const INK: RGBColor = PALETTE[0].1;
const MUTED: RGBColor = PALETTE[1].1;
const RULE: RGBColor = PALETTE[2].1;
const BASE: RGBColor = PALETTE[3].1;
/// Colours of lines, before they begin again.
pub(super) const LINES: usize = 8;
/// Width of a chart over the whole page, and its height.
const WIDE: (u32, u32) = (960, 280);
/// Size of a chart among many.
const SMALL: (u32, u32) = (300, 190);
/// Sizes of letters: plotters draws them smaller by a quarter.
const LABEL: f64 = 15.0;
const TINY: f64 = 13.5;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), ReportError>;

/// The name that the style sheet has for the colour of line `k`.
pub(super) fn class_of(k: usize) -> String {
    format!("c{}", k % LINES)
}

fn colour(k: usize) -> RGBColor {
    PALETTE.get(4 + k % LINES).map_or(INK, |(_, light, _)| *light)
}

/// What plotters could not draw; of text in memory nothing is expected to fail.
fn unable(error: impl std::fmt::Display) -> ReportError {
    ReportError::Page(error.to_string())
}

/// What a chart says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    /// Names it among all of a page.
    pub(super) id: &'a str,
    /// What it is.
    pub(super) title: &'a str,
    /// What is to be seen, in a sentence.
    pub(super) says: &'a str,
}

fn escaped(text: &str) -> String {
    escape(text, Html).map_or_else(|_| String::new(), |safe| safe.to_string())
}

/// The SVG of what `draw` draws.
fn svg(
    about: About<'_>,
    (width, height): (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, ReportError> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        draw(&area)?;
        area.present().map_err(unable)?;
    }
    // The head is ours: words for who cannot see it, and a size that follows the page.
    let (_, body) = text.split_once('>').ok_or_else(|| unable("an empty chart"))?;
    let About { id, title, says } = about;
    Ok(format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\n<title id=\"{id}-t\">{}</title>\n<desc \
         id=\"{id}-d\">{}</desc>{}",
        escaped(title),
        escaped(says),
        body.trim_end()
    ))
}

fn letters(size: f64, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour)
}

fn anchored(size: f64, colour: RGBColor, h: HPos, v: VPos) -> TextStyle<'static> {
    letters(size, colour).pos(Pos::new(h, v))
}

/// A range that has a length.
fn range(values: impl Iterator<Item = f64>, room: f64) -> Option<(f64, f64)> {
    let finite = values.filter(|x| x.is_finite());
    let (least, most) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    if least > most {
        return None;
    }
    let size = most - least;
    let room = match size > 0.0 {
        true => size * room,
        false => least.abs().max(1.0) * 0.05,
    };
    Some((least - room, most + room)).filter(|(a, b)| (b - a).is_finite())
}

/// One line of a chart.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    /// Its colour's number; `None`: grey.
    pub(super) colour: Option<usize>,
    /// Thin lines stand for what others are held against.
    pub(super) is_thin: bool,
    /// Its parts: a line is broken where nothing is known.
    pub(super) parts: Vec<Vec<(f64, f64)>>,
}

/// Lines over rows, with level lines across.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines<'a> {
    pub(super) lines: Vec<Line>,
    /// Heights, with a word each.
    pub(super) levels: Vec<(f64, &'a str)>,
    /// First and last row.
    pub(super) rows: (f64, f64),
    /// What the height means.
    pub(super) unit: &'a str,
    /// The height that the chart begins at, where it must.
    pub(super) least: Option<f64>,
    /// The largest height that is drawn: what is higher is cut.
    pub(super) most: Option<f64>,
}

/// Draws lines over rows; `None` where there is no point.
pub(super) fn lines(about: About<'_>, shown: &Lines<'_>) -> Result<Option<String>, ReportError> {
    let points = shown
        .lines
        .iter()
        .flat_map(|line| &line.parts)
        .flatten()
        .map(|(_, y)| *y);
    let cut = |y: f64| y.min(shown.most.unwrap_or(f64::INFINITY));
    if shown.lines.iter().all(|line| line.parts.iter().all(Vec::is_empty)) {
        return Ok(None);
    }
    let levels = shown.levels.iter().map(|(y, _)| *y);
    let Some((least, most)) = range(points.map(cut).chain(levels).chain(shown.least), 0.06) else {
        return Ok(None);
    };
    let least = shown.least.unwrap_or(least);
    let (from, to) = shown.rows;
    svg(about, WIDE, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(14)
            .margin_right(if shown.levels.is_empty() { 20 } else { 58 })
            .x_label_area_size(34)
            .y_label_area_size(64)
            .build_cartesian_2d(from..to.max(from + 1.0), least..most.max(least + f64::EPSILON))
            .map_err(unable)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(RULE)
            .light_line_style(TRANSPARENT)
            .axis_style(RULE)
            .label_style(letters(LABEL, MUTED))
            .axis_desc_style(letters(LABEL, MUTED))
            .x_labels(8)
            .y_labels(6)
            .x_desc("row")
            .y_desc(shown.unit)
            .x_label_formatter(&|x| number(*x))
            .y_label_formatter(&|y| number(*y))
            .draw()
            .map_err(unable)?;
        for (y, word) in &shown.levels {
            let line = PathElement::new(vec![(from, *y), (to, *y)], ShapeStyle::from(&MUTED).stroke_width(1));
            chart.draw_series([line]).map_err(unable)?;
            // Beside the chart, where no line runs through it.
            let style = anchored(LABEL, MUTED, HPos::Left, VPos::Center);
            let word = Text::new(format!(" {word}"), (to, *y), style);
            chart.draw_series([word]).map_err(unable)?;
        }
        for line in &shown.lines {
            let colour = line.colour.map_or(MUTED, colour);
            let style = ShapeStyle::from(&colour).stroke_width(if line.is_thin { 1 } else { 2 });
            for part in &line.parts {
                let points: Vec<(f64, f64)> = part.iter().map(|(x, y)| (*x, cut(*y).max(least))).collect();
                match points.as_slice() {
                    [] => {}
                    [only] => drop(
                        chart
                            .draw_series([Circle::new(*only, 3, colour.filled())])
                            .map_err(unable)?,
                    ),
                    _ => drop(chart.draw_series([PathElement::new(points, style)]).map_err(unable)?),
                }
            }
        }
        Ok(())
    })
    .map(Some)
}

/// A bin with its two shares: where it begins and ends, the baseline's, the window's.
pub(super) type Bin = (f64, f64, f64, f64);

/// Draws shares per bin: the baseline filled, the window as a line.
pub(super) fn bins(about: About<'_>, bins: &[Bin]) -> Result<Option<String>, ReportError> {
    let (Some(first), Some(last)) = (bins.first(), bins.last()) else {
        return Ok(None);
    };
    let (from, to) = (first.0, last.1);
    let most = bins.iter().map(|(.., a, b)| a.max(*b)).fold(0.0, f64::max);
    if !((to - from).is_finite() && to > from && most > 0.0) {
        return Ok(None);
    }
    svg(about, SMALL, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(8)
            .margin_right(10)
            .x_label_area_size(24)
            .y_label_area_size(42)
            .build_cartesian_2d(from..to, 0.0..most * 1.08)
            .map_err(unable)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(RULE)
            .light_line_style(TRANSPARENT)
            .axis_style(RULE)
            .label_style(letters(TINY, MUTED))
            .x_labels(4)
            .y_labels(4)
            .x_label_formatter(&|x| number(*x))
            .y_label_formatter(&|y| percent(*y))
            .draw()
            .map_err(unable)?;
        let bars = bins
            .iter()
            .filter(|(.., share, _)| *share > 0.0)
            .map(|(from, to, share, _)| Rectangle::new([(*from, 0.0), (*to, *share)], BASE.filled()));
        chart.draw_series(bars).map_err(unable)?;
        let mut outline = vec![(from, 0.0)];
        for (from, to, _, share) in bins {
            outline.extend([(*from, *share), (*to, *share)]);
        }
        outline.push((to, 0.0));
        let style = ShapeStyle::from(&colour(0)).stroke_width(2);
        chart.draw_series([PathElement::new(outline, style)]).map_err(unable)?;
        Ok(())
    })
    .map(Some)
}

/// Draws shares per category, one below the other: the baseline filled, the window as a thinner bar on it.
pub(super) fn categories(about: About<'_>, bars: &[(String, f64, f64)]) -> Result<Option<String>, ReportError> {
    let most = bars.iter().map(|(_, a, b)| a.max(*b)).fold(0.0, f64::max);
    if bars.is_empty() || most <= 0.0 {
        return Ok(None);
    }
    const LEFT: i32 = 96;
    let (width, rows) = (whole(SMALL.0), i32::try_from(bars.len()).unwrap_or(1).max(1));
    let step = ((whole(SMALL.1) - 16) / rows).min(30);
    svg(about, (SMALL.0, (16 + step * rows).unsigned_abs()), |area| {
        for (at, (name, baseline, window)) in (0..).zip(bars) {
            let top = 8 + at * step;
            let across = |share: f64| LEFT + pixel(share / most * f64::from(width - LEFT - 48));
            let middle = top + step / 2;
            let words = anchored(TINY, INK, HPos::Right, VPos::Center);
            area.draw(&Text::new(short(name, 12), (LEFT - 7, middle), words))
                .map_err(unable)?;
            let (above, below) = (top + 2, top + step - 3);
            area.draw(&Rectangle::new(
                [(LEFT, above), (across(*baseline), below)],
                BASE.filled(),
            ))
            .map_err(unable)?;
            let (above, below) = (middle - 3, middle + 2);
            area.draw(&Rectangle::new(
                [(LEFT, above), (across(*window), below)],
                colour(0).filled(),
            ))
            .map_err(unable)?;
            let end = across(baseline.max(*window)) + 5;
            let words = anchored(TINY, MUTED, HPos::Left, VPos::Center);
            area.draw(&Text::new(percent(*window), (end, middle), words))
                .map_err(unable)?;
        }
        Ok(())
    })
    .map(Some)
}

#[expect(clippy::cast_possible_truncation, reason = "a place on a chart of a thousand pixels")]
fn pixel(x: f64) -> i32 {
    x.round() as i32
}

fn whole(size: u32) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

/// A curve of predicted and observed shares, with how many rows each point rests on.
pub(super) type Calibrated = Vec<(f64, f64, u64)>;

/// Draws observed shares over predicted ones, with the diagonal.
pub(super) fn reliability(
    about: About<'_>,
    curves: &[(Option<usize>, Calibrated)],
) -> Result<Option<String>, ReportError> {
    if curves.iter().all(|(_, curve)| curve.is_empty()) {
        return Ok(None);
    }
    let largest = curves
        .iter()
        .flat_map(|(_, curve)| curve)
        .map(|(.., n)| *n)
        .max()
        .unwrap_or(1);
    svg(about, (460, 400), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(14)
            .margin_right(16)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)
            .map_err(unable)?;
        chart
            .configure_mesh()
            .bold_line_style(RULE)
            .light_line_style(TRANSPARENT)
            .axis_style(RULE)
            .label_style(letters(LABEL, MUTED))
            .axis_desc_style(letters(LABEL, MUTED))
            .x_labels(6)
            .y_labels(6)
            .x_desc("mean score")
            .y_desc("share that came true")
            .x_label_formatter(&|x| number(*x))
            .y_label_formatter(&|y| number(*y))
            .draw()
            .map_err(unable)?;
        let diagonal = PathElement::new(vec![(0.0, 0.0), (1.0, 1.0)], ShapeStyle::from(&MUTED).stroke_width(1));
        chart.draw_series([diagonal]).map_err(unable)?;
        for (which, curve) in curves {
            let colour = which.map_or(MUTED, colour);
            let points: Vec<(f64, f64)> = curve.iter().map(|(x, y, _)| (*x, *y)).collect();
            let style = ShapeStyle::from(&colour).stroke_width(2);
            chart.draw_series([PathElement::new(points, style)]).map_err(unable)?;
            let dot = |(x, y, n): &(f64, f64, u64)| {
                let share = (*n as f64 / largest as f64).sqrt();
                Circle::new((*x, *y), pixel(2.0 + 5.0 * share), colour.filled())
            };
            chart.draw_series(curve.iter().map(dot)).map_err(unable)?;
        }
        Ok(())
    })
    .map(Some)
}

/// Round numbers between two others, some five.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let rough = (most - least) / 5.0;
    let power = libm::pow(10.0, libm::floor(libm::log10(rough)));
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|k| k * power)
        .find(|step| *step >= rough);
    let Some(step) = step.filter(|step| step.is_finite() && *step > 0.0) else {
        return Vec::new();
    };
    let first = (least / step).ceil();
    let at = |k: u32| (first + f64::from(k)) * step;
    (0..12).map(at).take_while(|x| *x <= most).collect()
}

/// A value with its interval.
#[derive(Debug, Clone)]
pub(super) struct Interval {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) ends: (f64, f64),
    /// Drawn faintly: too few rows.
    pub(super) is_small: bool,
}

/// Draws values with their intervals one below the other, against one line.
pub(super) fn intervals(about: About<'_>, all: &[Interval], level: Option<f64>) -> Result<Option<String>, ReportError> {
    let ends = all
        .iter()
        .flat_map(|one| [one.ends.0, one.ends.1, one.value])
        .chain(level);
    let Some((least, most)) = range(ends, 0.04).filter(|_| !all.is_empty()) else {
        return Ok(None);
    };
    const LEFT: i32 = 230;
    const STEP: i32 = 26;
    let height = 44 + STEP * i32::try_from(all.len()).unwrap_or(0);
    let width = whole(WIDE.0);
    let across = |x: f64| LEFT + pixel((x - least) / (most - least) * f64::from(width - LEFT - 30));
    svg(about, (WIDE.0, height.unsigned_abs()), |area| {
        let bottom = height - 34;
        for x in ticks(least, most) {
            let line = PathElement::new(
                vec![(across(x), 6), (across(x), bottom)],
                ShapeStyle::from(&RULE).stroke_width(1),
            );
            area.draw(&line).map_err(unable)?;
            let words = anchored(LABEL, MUTED, HPos::Center, VPos::Top);
            area.draw(&Text::new(number(x), (across(x), bottom + 8), words))
                .map_err(unable)?;
        }
        if let Some(level) = level {
            let style = ShapeStyle::from(&MUTED).stroke_width(2);
            area.draw(&PathElement::new(
                vec![(across(level), 6), (across(level), bottom)],
                style,
            ))
            .map_err(unable)?;
        }
        for (at, one) in (0..).zip(all) {
            let middle = 8 + at * STEP + STEP / 2;
            let (ink, mark) = match one.is_small {
                true => (MUTED, BASE),
                false => (INK, colour(0)),
            };
            let words = anchored(LABEL, ink, HPos::Right, VPos::Center);
            area.draw(&Text::new(short(&one.name, 30), (LEFT - 12, middle), words))
                .map_err(unable)?;
            let (low, high) = one.ends;
            let style = ShapeStyle::from(&mark).stroke_width(2);
            area.draw(&PathElement::new(
                vec![(across(low), middle), (across(high), middle)],
                style,
            ))
            .map_err(unable)?;
            area.draw(&Circle::new((across(one.value), middle), 4, mark.filled()))
                .map_err(unable)?;
        }
        Ok(())
    })
    .map(Some)
}

/// A reign on the strip of champions: name, number of its colour, first and last row.
pub(super) type Band = (String, usize, f64, f64);

/// Draws who answered which rows.
pub(super) fn strip(about: About<'_>, bands: &[Band], (from, to): (f64, f64)) -> Result<Option<String>, ReportError> {
    if bands.is_empty() {
        return Ok(None);
    }
    let width = f64::from(WIDE.0);
    let across = |row: f64| pixel((row - from) / (to - from).max(1.0) * (width - 4.0)) + 2;
    svg(about, (WIDE.0, 74), |area| {
        for (name, which, first, last) in bands {
            let (left, right) = (across(*first), across(last + 1.0).min(whole(WIDE.0) - 2));
            // A line of the page between two of them.
            let end = if right - left > 3 {
                right - 1
            } else {
                right.max(left + 1)
            };
            area.draw(&Rectangle::new([(left, 4), (end, 40)], colour(*which).filled()))
                .map_err(unable)?;
            let room = usize::try_from((right - left) / 9).unwrap_or(0);
            // Names lie below their bands, on the page's own ground, where any colour leaves them readable.
            if room >= 3 {
                let words = anchored(LABEL, INK, HPos::Left, VPos::Top);
                area.draw(&Text::new(short(name, room), (left, 48), words))
                    .map_err(unable)?;
            }
        }
        Ok(())
    })
    .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About<'static> = About {
        id: "x",
        title: "a <title>",
        says: "what \"it\" says",
    };

    #[test]
    fn charts_say_what_they_show_escape_what_is_written_and_hold_no_number_that_is_none() {
        let lines = lines(
            ABOUT,
            &Lines {
                lines: vec![Line {
                    colour: Some(0),
                    is_thin: false,
                    parts: vec![vec![(1.0, 2.0), (2.0, 1e300)], vec![(3.0, 1.0)], Vec::new()],
                }],
                levels: vec![(1.0, "limit <b>")],
                rows: (1.0, 3.0),
                unit: "index",
                least: Some(0.0),
                most: Some(5.0),
            },
        );
        let hostile = "<script>&\"'".to_owned();
        let categories = categories(ABOUT, &[(hostile.clone(), 0.5, 0.25), ("b".into(), 0.0, 0.0)]);
        let bins = bins(ABOUT, &[(0.0, 1.0, 0.5, 0.0), (1.0, 2.0, 0.5, 1.0)]);
        let reliability = reliability(ABOUT, &[(None, vec![(0.1, 0.2, 5)]), (Some(1), Vec::new())]);
        let interval = Interval {
            name: hostile.clone(),
            value: 1.0,
            ends: (1.0, 1.0),
            is_small: true,
        };
        let intervals = intervals(ABOUT, &[interval], None);
        let strip = strip(
            ABOUT,
            &[(hostile, 3, 1.0, 90.0), ("b".into(), 1, 91.0, 91.0)],
            (1.0, 91.0),
        );
        for made in [lines, categories, bins, reliability, intervals, strip] {
            let svg = made.unwrap().unwrap();
            assert!(svg.starts_with("<svg viewBox") && svg.ends_with("</svg>"), "{svg}");
            assert!(svg.contains("<title id=\"x-t\">a &#60;title&#62;</title>"), "{svg}");
            assert!(
                svg.contains("id=\"x-d\">what") && !svg.contains("<script") && !svg.contains("<b>"),
                "{svg}"
            );
            assert!(
                !svg.contains("NaN") && !svg.contains("inf") && !svg.contains("xmlns"),
                "{svg}"
            );
        }
    }

    #[test]
    fn ticks_are_round_and_few() {
        let shown = |least, most| ticks(least, most).into_iter().map(number).collect::<Vec<_>>().join(" ");
        assert_eq!(shown(0.108, 0.2), "0.12 0.14 0.16 0.18 0.2");
        assert_eq!(shown(-1.0, 1.0), "-1 -0.5 0 0.5 1");
        assert!(ticks(1.0, 1.0).len() <= 12 && ticks(f64::NAN, 1.0).is_empty());
        assert!(ticks(-1e300, 1e300).len() <= 12);
    }

    #[test]
    fn nothing_to_draw_is_no_chart() {
        let none = Lines::default();
        assert!(lines(ABOUT, &none).unwrap().is_none());
        assert!(bins(ABOUT, &[(0.0, 1.0, 0.0, 0.0)]).unwrap().is_none());
        assert!(categories(ABOUT, &[]).unwrap().is_none());
        assert!(intervals(ABOUT, &[], Some(1.0)).unwrap().is_none());
        assert!(strip(ABOUT, &[], (0.0, 1.0)).unwrap().is_none());
    }
}
