//! What versions cost, where it was measured.

use askama::Template;

use super::Room;
use crate::report::table::{Table, count, name, number, rendered};
use crate::report::{Report, ReportError};

#[derive(Template)]
#[template(path = "costs.html", config = "src/report/askama.toml")]
struct Costs {
    table: String,
}

pub(super) fn fragment(report: &Report, _: Room) -> Result<String, ReportError> {
    if report.costs.is_empty() {
        return Ok(String::new());
    }
    let mut table = Table::new(
        "One row, as admission measured it",
        &["version", "role", "#p50, µs", "#p99, µs", "#CPU, µs", "#memory, MB"],
    );
    for cost in &report.costs {
        table.row([
            name(&cost.version),
            name(&cost.role),
            count(cost.latency_us_p50),
            count(cost.latency_us_p99),
            number(cost.cpu_ns as f64 / 1e3),
            number(cost.memory_bytes as f64 / 1e6),
        ]);
    }
    rendered(&Costs {
        table: rendered(&table)?,
    })
}
