//! The demonstration as a picture: who was champion when, and how the losses added up. Plain SVG, no script.

use std::fmt::Write as _;

use super::report::{Band, Report};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 40.0;
/// The champions' strip lies between the chart and the axis of rows.
const STRIP: f64 = 56.0;
const BOTTOM: f64 = 36.0;
/// Points per line: more than there are pixels would only make the file long.
const POINTS: usize = 480;
/// Quiet fills for the champions, told apart by their names as well.
const FILLS: [&str; 12] = [
    "#8dd3c7", "#ffed6f", "#bebada", "#fb8072", "#80b1d3", "#fdb462", "#b3de69", "#fccde5", "#d9d9d9", "#bc80bd",
    "#ccebc5", "#a6cee3",
];

/// Draws the report; `names` are all models, so that a model keeps its colour from run to run.
#[must_use]
pub fn picture(report: &Report, names: &[String]) -> String {
    let rows = report.losses.iter().map(Vec::len).max().unwrap_or(0);
    let sums: Vec<Vec<f64>> = report.losses.iter().map(|l| running_sums(l)).collect();
    let most = sums.iter().filter_map(|s| s.last()).copied().fold(1.0, f64::max);
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<title>Champions over time and cumulative log-loss</title>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<text x="{LEFT}" y="22" font-size="14" fill="#222222">Cumulative log-loss on {rows} rows of the real stream, and who was champion</text>
"##
    );
    axis(&mut out, most);
    let lines = [
        ("first champion for ever", "#999999", 1),
        ("served by dethrone", "#d62728", 0),
        ("best model of every window, in hindsight", "#1f77b4", 2),
    ];
    for (place, (name, colour, which)) in (0_u8..).zip(lines) {
        let points = sums.get(which).map_or_else(String::new, |s| polyline(s, most));
        let y = TOP + 18.0 + 18.0 * f64::from(place);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            r##"<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>
<rect x="{x}" y="{bar}" width="16" height="3" fill="{colour}"/><text x="{text}" y="{y}" fill="#222222">{name}</text>"##,
            x = LEFT + 12.0,
            bar = y - 5.0,
            text = LEFT + 34.0,
        );
    }
    strip(&mut out, &report.bands, names);
    out.push_str("</svg>\n");
    out
}

fn chart_bottom() -> f64 {
    HEIGHT - BOTTOM - STRIP
}

/// Horizontal place of a share of the rows.
fn across(share: f64) -> f64 {
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn axis(out: &mut String, most: f64) {
    for step in 0..=4_u8 {
        let value = most * f64::from(step) / 4.0;
        let y = chart_bottom() - (chart_bottom() - TOP) * f64::from(step) / 4.0;
        let _ = writeln!(
            out,
            r##"<line x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}" stroke="#e5e5e5"/><text x="{x}" y="{base:.1}" text-anchor="end" fill="#555555">{value:.0}</text>"##,
            right = WIDTH - RIGHT,
            x = LEFT - 8.0,
            base = y + 4.0,
        );
    }
}

fn running_sums(losses: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let add = |loss: &f64| {
        sum += loss;
        sum
    };
    losses.iter().map(add).collect()
}

#[expect(clippy::cast_precision_loss, reason = "row numbers stay far below 2^53")]
fn polyline(sums: &[f64], most: f64) -> String {
    let last = sums.len().saturating_sub(1);
    let mut points = String::new();
    for point in 0..=POINTS {
        let row = last * point / POINTS;
        let Some(sum) = sums.get(row) else { continue };
        let x = across(row as f64 / last.max(1) as f64);
        let y = chart_bottom() - (chart_bottom() - TOP) * sum / most;
        let _ = write!(points, "{x:.1},{y:.1} ");
    }
    points.trim_end().to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "row numbers stay far below 2^53")]
fn strip(out: &mut String, bands: &[Band], names: &[String]) {
    let (Some(first), Some(last)) = (bands.first(), bands.last()) else {
        return;
    };
    let rows = (last.to - first.from).max(1) as f64;
    let place = |row: usize| across((row - first.from) as f64 / rows);
    let top = chart_bottom() + 12.0;
    for band in bands {
        let (x, width) = (place(band.from), place(band.to) - place(band.from));
        let number = names.iter().position(|n| *n == band.version).unwrap_or(0);
        let fill = FILLS.get(number % FILLS.len()).copied().unwrap_or("#cccccc");
        let version = escape(&band.version);
        let _ = writeln!(
            out,
            r##"<rect x="{x:.1}" y="{top:.1}" width="{width:.1}" height="28" fill="{fill}" stroke="#ffffff" stroke-width="0.5"><title>{version}: rows {from} to {to}</title></rect>"##,
            from = band.from,
            to = band.to - 1,
        );
        // The short name fits where the whole one does not; where neither does, the title tells.
        let short = version.split('_').next().unwrap_or_default();
        for name in [version.as_str(), short] {
            if width > 7.0 * name.chars().count() as f64 {
                let _ = writeln!(
                    out,
                    r##"<text x="{middle:.1}" y="{y:.1}" text-anchor="middle" font-size="11" fill="#222222">{name}</text>"##,
                    middle = x + width / 2.0,
                    y = top + 18.0,
                );
                break;
            }
        }
    }
    let y = top + 46.0;
    let _ = writeln!(
        out,
        r##"<text x="{LEFT}" y="{y}" fill="#555555">row {}</text><text x="{}" y="{y}" text-anchor="end" fill="#555555">row {}</text>"##,
        first.from,
        WIDTH - RIGHT,
        last.to - 1
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::replay::Problems;
    use crate::demo::score::Summary;

    #[test]
    fn the_picture_names_every_champion_and_carries_no_script() {
        let summary = Summary {
            log_loss: 0.5,
            brier: 0.2,
            accuracy: 0.7,
        };
        let band = |version: &str, from, to| Band {
            version: version.into(),
            from,
            to,
        };
        let report = Report {
            served: summary,
            fixed: summary,
            one_change: (summary, Some("b".into())),
            oracle: summary,
            window: 10,
            bands: vec![band("a<script>", 0, 50), band("e05_forest", 50, 100)],
            wrong: Problems::default(),
            losses: [vec![0.5; 100], vec![0.7; 100], vec![0.4; 100]],
            latency_ms: (0.1, 0.2),
        };
        let svg = picture(&report, &["e05_forest".into()]);
        assert!(
            svg.contains(">e05_forest</text>") && svg.contains("a&lt;script&gt;"),
            "{svg}"
        );
        assert!(!svg.contains("<script"));
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
