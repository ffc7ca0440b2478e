//! What was decided in the stretch, by whom and why.

use askama::Template;

use super::Room;
use crate::report::table::{Table, at, count, moment, name, rendered, sentence, word};
use crate::report::{Report, ReportError};

#[derive(Template)]
#[template(path = "decisions.html", config = "src/report/askama.toml")]
struct Decisions {
    table: String,
}

pub(super) fn fragment(report: &Report, room: Room) -> Result<String, ReportError> {
    if report.decisions.is_empty() {
        return rendered(&Decisions { table: String::new() });
    }
    let mut table = Table::new(
        "Decisions, the latest first",
        &["number", "when", "kind", "from", "to", "by", "reason", "why"],
    );
    for decision in report.decisions.iter().rev() {
        table.row([
            at(decision, "/n").map_or_else(String::new, |n| n.to_string()),
            moment(word(decision, "/time")),
            name(word(decision, "/kind")),
            name(word(decision, "/from")),
            name(word(decision, "/to")),
            name(word(decision, "/author")),
            sentence(word(decision, "/reason")),
            sentence(word(decision, "/why")),
        ]);
    }
    let all = table.rows.len() + report.decisions_left_out;
    table.keep(room.rows, "decisions");
    let more = all - table.rows.len();
    table.more = (more > 0).then(|| format!("and {} earlier ones", count(u64::try_from(more).unwrap_or(0))));
    rendered(&Decisions {
        table: rendered(&table)?,
    })
}
