//! The evidence of a backtest as a picture: how far each challenger's ln wealth lay above or below its bar, and who was
//! champion when. Plain SVG, no script.

use std::fmt::Write as _;

use super::report::Names;
use crate::backtest::course::{Reign, Sample};
use crate::score::VersionNo;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 160.0;
const TOP: f64 = 40.0;
/// The champions' strip lies between the chart and the axis of rows.
const STRIP: f64 = 56.0;
const BOTTOM: f64 = 36.0;
/// Strokes and fills, told apart by their names as well.
const COLOURS: [&str; 12] = [
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
    "#1b9e77", "#a6761d",
];
/// Below this a challenger is as good as lost, above it as good as crowned: no more is drawn.
const LOWEST: f64 = -12.0;
const HIGHEST: f64 = 4.0;

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Drawn<'a> {
    /// Above the chart.
    pub title: &'a str,
    /// Rows that the chart spans, counted from 0.
    pub rows: usize,
    /// The evidence over time.
    pub curve: &'a [Sample],
    /// Champions.
    pub reigns: &'a [Reign],
    /// Names of the versions.
    pub names: &'a Names,
}

/// Draws it.
#[must_use]
pub fn picture(drawn: &Drawn<'_>) -> String {
    let title = escape(drawn.title);
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<title>{title}</title>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<text x="{LEFT}" y="22" font-size="14" fill="#222222">{title}</text>
"##
    );
    axis(&mut out);
    for (place, (version, name)) in (0_u16..).zip(drawn.names) {
        lines(&mut out, drawn, *version);
        let y = TOP + 6.0 + 16.0 * f64::from(place);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            r##"<rect x="{x}" y="{bar}" width="14" height="3" fill="{colour}"/><text x="{text}" y="{y}" fill="#222222">{name}</text>"##,
            x = WIDTH - RIGHT + 12.0,
            bar = y - 5.0,
            text = WIDTH - RIGHT + 32.0,
            colour = colour(drawn.names, *version),
            name = escape(name),
        );
    }
    strip(&mut out, drawn);
    out.push_str("</svg>\n");
    out
}

fn colour(names: &Names, version: VersionNo) -> &'static str {
    let number = names.keys().position(|known| *known == version).unwrap_or(0);
    COLOURS.get(number % COLOURS.len()).copied().unwrap_or("#000000")
}

fn chart_bottom() -> f64 {
    HEIGHT - BOTTOM - STRIP
}

fn height(lead: f64) -> f64 {
    let share = (lead.clamp(LOWEST, HIGHEST) - LOWEST) / (HIGHEST - LOWEST);
    chart_bottom() - (chart_bottom() - TOP) * share
}

fn across(row: usize, rows: usize) -> f64 {
    LEFT + row as f64 / rows.max(1) as f64 * (WIDTH - LEFT - RIGHT)
}

fn axis(out: &mut String) {
    for lead in [-12, -8, -4, 0, 4] {
        let y = height(f64::from(lead));
        let stroke = if lead == 0 { "#222222" } else { "#e5e5e5" };
        let word = if lead == 0 {
            "bar".to_owned()
        } else {
            format!("{lead:+}")
        };
        let _ = writeln!(
            out,
            r##"<line x1="{LEFT}" x2="{right}" y1="{y:.1}" y2="{y:.1}" stroke="{stroke}"/><text x="{x}" y="{base:.1}" text-anchor="end" fill="#555555">{word}</text>"##,
            right = WIDTH - RIGHT,
            x = LEFT - 8.0,
            base = y + 4.0,
        );
    }
    let _ = writeln!(
        out,
        r##"<text x="14" y="{y}" fill="#555555" transform="rotate(-90 14 {y})" text-anchor="middle">ln wealth − ln bar</text>"##,
        y = f64::midpoint(TOP, chart_bottom()),
    );
}

/// One line per stretch in which the version was a challenger.
fn lines(out: &mut String, drawn: &Drawn<'_>, version: VersionNo) {
    let lead = |sample: &Sample| {
        let own = sample.leads.iter().find(|(no, _)| *no == version);
        own.map(|(_, lead)| (sample.row, *lead))
    };
    let mut stretch = Vec::new();
    let mut flush = |stretch: &mut Vec<(usize, f64)>| {
        if stretch.len() > 1 {
            let points: Vec<String> = stretch
                .iter()
                .map(|(row, lead)| format!("{:.1},{:.1}", across(*row, drawn.rows), height(*lead)))
                .collect();
            let _ = writeln!(
                out,
                r#"<polyline fill="none" stroke="{}" stroke-width="1.5" points="{}"/>"#,
                colour(drawn.names, version),
                points.join(" ")
            );
        }
        stretch.clear();
    };
    for sample in drawn.curve {
        match lead(sample) {
            Some(point) => stretch.push(point),
            None => flush(&mut stretch),
        }
    }
    flush(&mut stretch);
}

fn strip(out: &mut String, drawn: &Drawn<'_>) {
    let top = chart_bottom() + 12.0;
    for reign in drawn.reigns {
        let (x, end) = (across(reign.from, drawn.rows), across(reign.to, drawn.rows));
        let name = drawn
            .names
            .get(&reign.version)
            .map_or_else(String::new, |name| escape(name));
        let fill = colour(drawn.names, reign.version);
        let _ = writeln!(
            out,
            r#"<rect x="{x:.1}" y="{top}" width="{width:.1}" height="24" fill="{fill}"><title>{name}, rows {from} to {to}</title></rect>"#,
            width = end - x,
            from = reign.from + 1,
            to = reign.to,
        );
        if end - x > 7.0 * name.chars().count() as f64 {
            let _ = writeln!(
                out,
                r##"<text x="{middle:.1}" y="{base}" text-anchor="middle" fill="#ffffff">{name}</text>"##,
                middle = f64::midpoint(x, end),
                base = top + 16.0,
            );
        }
    }
    let _ = writeln!(
        out,
        r##"<text x="{LEFT}" y="{y}" fill="#555555">row 1</text><text x="{right}" y="{y}" text-anchor="end" fill="#555555">row {rows}</text>"##,
        y = HEIGHT - 12.0,
        right = WIDTH - RIGHT,
        rows = drawn.rows,
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_shows_every_challenger_and_every_champion_and_runs_nothing() {
        let names = Names::from([(VersionNo(0), "first".into()), (VersionNo(1), "<script>".into())]);
        let curve: Vec<Sample> = (0..100)
            .map(|row| Sample {
                row,
                leads: vec![(
                    VersionNo(u32::from(row < 60)),
                    f64::from(u8::try_from(row).unwrap()) - 50.0,
                )],
            })
            .collect();
        let reigns = [(0, 0, 60), (1, 60, 100)].map(|(no, from, to)| Reign {
            version: VersionNo(no),
            from,
            to,
        });
        let svg = picture(&Drawn {
            title: "a & b",
            rows: 100,
            curve: &curve,
            reigns: &reigns,
            names: &names,
        });
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("height=\"24\"").count(), 2);
        assert!(
            !svg.contains("<script") && svg.contains("a &amp; b") && !svg.contains("NaN"),
            "{svg}"
        );
    }
}
