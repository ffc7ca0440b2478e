//! Latency by quantile as SVG: one panel per case, one curve per server.

use std::fmt::Write as _;

use super::numbers::quantile;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
const MARGIN: f64 = 52.0;
const COLUMNS: usize = 2;
const COLOURS: [&str; 6] = ["#1b6ca8", "#d1495b", "#2e933c", "#8a5cb8", "#c98b00", "#5b6770"];
/// Shares of the axis, spread by how few requests are slower.
const TICKS: [(f64, &str); 6] = [
    (0.0, "0"),
    (0.5, "50"),
    (0.9, "90"),
    (0.99, "99"),
    (0.999, "99.9"),
    (0.9999, "99.99"),
];

/// Quantiles of one server.
pub(crate) struct Curve {
    name: String,
    /// Place on the axis in `[0, 4]`, microseconds.
    points: Vec<(f64, f64)>,
}

impl Curve {
    pub(crate) fn of(name: &str, sorted: &[u32]) -> Self {
        // No further than a hundred requests are slower: beyond is chance.
        let furthest = (sorted.len() as f64 / 100.0).max(10.0).log10().min(4.0);
        let points = (0..=80)
            .map(|k| f64::from(k) / 20.0)
            .filter(|place| *place <= furthest)
            .map(|place| (place, quantile(sorted, 1.0 - 10f64.powf(-place)) / 1e3));
        Self {
            name: name.to_owned(),
            points: points.filter(|(_, us)| us.is_finite()).collect(),
        }
    }
}

pub(crate) fn svg(panels: &[(String, Vec<Curve>)]) -> String {
    let rows = panels.len().div_ceil(COLUMNS).max(1);
    let (width, height) = (COLUMNS as f64 * WIDTH, rows as f64 * HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (at, (title, curves)) in panels.iter().enumerate() {
        let (x, y) = ((at % COLUMNS) as f64 * WIDTH, (at / COLUMNS) as f64 * HEIGHT);
        let _ = writeln!(out, "<g transform=\"translate({x},{y})\">");
        panel(&mut out, title, curves);
        out += "</g>\n";
    }
    out + "</svg>\n"
}

fn panel(out: &mut String, title: &str, curves: &[Curve]) {
    let values = curves
        .iter()
        .flat_map(|curve| curve.points.iter().map(|(_, us)| us.max(1.0).log10()));
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return;
    }
    let (low, high) = (low.floor(), high.ceil().max(low.floor() + 1.0));
    let x = |place: f64| MARGIN + place / 4.0 * (WIDTH - 1.5 * MARGIN);
    let y = |log: f64| HEIGHT - 36.0 - (log - low) / (high - low) * (HEIGHT - 66.0);
    let _ = writeln!(out, "<text x=\"{MARGIN}\" y=\"18\" font-size=\"12\">{title}</text>");
    let (left, right, bottom, top) = (x(0.0), x(4.0), y(low), y(high));
    for (share, label) in TICKS {
        let at = x(-(1.0 - share).log10());
        let _ = writeln!(
            out,
            "<path d=\"M{at:.1} {top:.1}V{bottom:.1}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            bottom + 14.0
        );
    }
    let mut power = low;
    while power <= high {
        let at = y(power);
        let _ = writeln!(
            out,
            "<path d=\"M{left:.1} {at:.1}H{right:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} µs</text>",
            left - 4.0,
            at + 3.0,
            10f64.powf(power)
        );
        power += 1.0;
    }
    let _ = writeln!(
        out,
        "<text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">% of requests</text>",
        bottom + 28.0
    );
    for (k, curve) in curves.iter().enumerate() {
        let colour = COLOURS[k % COLOURS.len()];
        let line: Vec<String> = curve
            .points
            .iter()
            .map(|(place, us)| format!("{:.1},{:.1}", x(*place), y(us.max(1.0).log10())))
            .collect();
        let name = &curve.name;
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            line.join(" "),
            left + 8.0,
            top + 12.0 + 12.0 * k as f64
        );
    }
}
