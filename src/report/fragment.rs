//! The parts of the page: a template each, filled from the report's data, a whole `<section>` that stands by itself.
//!
//! Always holds: a fragment with nothing to show says why; how much one shows is bounded by [`Room`].

mod calibration;
mod champion;
mod costs;
mod decisions;
mod distributions;
mod drift;
mod evidence;
mod groups;
mod loss;
mod quality;
mod summary;

use super::{Report, ReportError};

/// How much a fragment may show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Charts among many.
    pub(super) charts: usize,
    /// Rows of a long table.
    pub(super) rows: usize,
}

/// A fragment: what links to it say, and its text.
pub(super) struct Part {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) html: String,
}

/// All of them, in the order of the page.
pub(super) fn all(report: &Report, room: Room) -> Result<Vec<Part>, ReportError> {
    type Make = fn(&Report, Room) -> Result<String, ReportError>;
    let parts: [(&str, &str, Make); 11] = [
        ("summary", "At a glance", summary::fragment),
        ("champion", "Champion", champion::fragment),
        ("distributions", "Distributions", distributions::fragment),
        ("drift", "Drift over time", drift::fragment),
        ("quality", "Input quality", quality::fragment),
        ("loss", "Loss", loss::fragment),
        ("calibration", "Calibration", calibration::fragment),
        ("groups", "Subgroups", groups::fragment),
        ("evidence", "Challengers", evidence::fragment),
        ("decisions", "Decisions", decisions::fragment),
        ("costs", "Costs", costs::fragment),
    ];
    let mut made = Vec::new();
    for (id, name, make) in parts {
        let html = make(report, room)?;
        // Of costs that nobody measured there is nothing to say.
        if !html.is_empty() {
            made.push(Part { id, name, html });
        }
    }
    Ok(made)
}
