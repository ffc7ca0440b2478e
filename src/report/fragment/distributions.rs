//! Values of the stretch beside those of the baseline, feature by feature.

use askama::Template;
use serde_json::Value as Json;

use super::Room;
use crate::report::chart::{About, bins, categories};
use crate::report::shape::Bar;
use crate::report::table::{Figure, NONE, Table, at, maybe, name, number, percent, rendered, sentence, short, word};
use crate::report::{Distribution, Report, ReportError};

#[derive(Template)]
#[template(path = "distributions.html", config = "src/report/askama.toml")]
struct Distributions {
    says: String,
    why: String,
    /// Features with their charts.
    charts: Vec<(String, String)>,
    table: String,
}

pub(super) fn fragment(report: &Report, room: Room) -> Result<String, ReportError> {
    let mut charts = Vec::new();
    for (k, one) in report.distributions.iter().enumerate() {
        if charts.len() >= room.charts {
            break;
        }
        if let Some(figure) = chart(one, k)? {
            charts.push((label(one), figure));
        }
    }
    let table = match report.distributions.is_empty() {
        true => String::new(),
        false => rendered(&table(&report.distributions, room))?,
    };
    let from = word(&report.monitor, "/baseline/from");
    let from = if from.is_empty() {
        "the champion's baseline"
    } else {
        from
    };
    let drift = &report.drift;
    let every = match drift.of > 1.5 {
        true => format!(" One row in about {} was read.", maybe(Some(drift.of))),
        false => String::new(),
    };
    rendered(&Distributions {
        says: format!(
            "The rows of this stretch against {}, furthest from it first; the numbers describe and promise nothing.{every}",
            sentence(from)
        ),
        why: sentence(report.why_no_distributions.as_deref().unwrap_or_default()),
        charts,
        table,
    })
}

fn label(one: &Distribution) -> String {
    match one.is_output {
        true => format!("output {}", name(&one.name)),
        false => name(&one.name),
    }
}

fn chart(one: &Distribution, k: usize) -> Result<Option<String>, ReportError> {
    let id = format!("chart-distribution-{k}");
    let title = format!("Distribution of {}", label(one));
    let says = format!(
        "Shares in the baseline, grey, and in this stretch, blue; stability index {}",
        maybe(one.apart.psi)
    );
    let about = About {
        id: &id,
        title: &title,
        says: &says,
    };
    let has_values = one.bars.iter().all(|bar| bar.value.is_some());
    let svg = if has_values {
        let bars: Vec<(String, f64, f64)> = one
            .bars
            .iter()
            .map(|bar| (value_of(bar), bar.baseline, bar.window))
            .collect();
        categories(about, &bars)?
    } else {
        let edges = |bar: &Bar| Some((bar.from?, bar.to?, bar.baseline, bar.window));
        let bars: Vec<_> = one.bars.iter().filter_map(edges).collect();
        bins(about, &bars)?
    };
    let Some(svg) = svg else { return Ok(None) };
    let mut table = Table::new(title.clone(), &["values", "#baseline", "#stretch"]);
    for bar in &one.bars {
        table.row([value_of(bar), percent(bar.baseline), percent(bar.window)]);
    }
    let caption = format!("stability index {}", maybe(one.apart.psi));
    rendered(&Figure {
        svg,
        caption,
        legend: Vec::new(),
        table,
        is_open: false,
    })
    .map(Some)
}

fn value_of(bar: &Bar) -> String {
    match (&bar.value, bar.from, bar.to) {
        (Some(value), ..) => short(value, 32),
        (None, from, to) => format!("{} to {}", maybe(from), maybe(to)),
    }
}

fn table(all: &[Distribution], room: Room) -> Table {
    let mut table = Table::new(
        "Baseline → stretch, furthest from each other first",
        &[
            "feature",
            "#index",
            "#KS",
            "#mean",
            "#deviation",
            "#median",
            "#missing",
            "#different texts",
        ],
    );
    for one in all.iter().take(room.rows) {
        let pair = |place: &str, written: &dyn Fn(f64) -> String| {
            let [was, is] = [&one.baseline, &one.window].map(|side: &Json| at(side, place));
            match (was, is) {
                (None, None) => NONE.to_owned(),
                (was, is) => {
                    let [was, is] = [was, is].map(|side| side.map_or_else(|| NONE.to_owned(), written));
                    format!("{was} → {is}")
                }
            }
        };
        table.row([
            label(one),
            maybe(one.apart.psi),
            maybe(one.apart.ks),
            pair("/numbers/mean", &number),
            pair("/numbers/deviation", &number),
            pair("/numbers/quantiles_5_25_50_75_95/2", &number),
            pair("/missing", &percent),
            pair("/texts/distinct", &number),
        ]);
    }
    let more = all.len().saturating_sub(room.rows);
    table.more = (more > 0).then(|| format!("and {more} more features, nearer to their baseline"));
    table
}
