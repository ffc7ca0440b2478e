//! All fragments in one file: no script, no address, nothing to fetch.
//!
//! Always holds: it is at most [`MOST_BYTES`] long. Fragments bound what they show; should names and sentences make it
//! longer all the same, they show less, until it fits.

use askama::Template;

use super::chart::PALETTE;
use super::fragment::{self, Part, Room};
use super::table::{count, moment, name, rendered, sentence};
use super::{Report, ReportError};

/// Bytes of the page at most.
pub const MOST_BYTES: usize = 1_000_000;
/// How much is shown: of this the first that fits.
const ROOMS: [Room; 5] = [
    Room { charts: 12, rows: 160 },
    Room { charts: 12, rows: 80 },
    Room { charts: 9, rows: 40 },
    Room { charts: 6, rows: 20 },
    Room { charts: 3, rows: 8 },
];

/// The rules of the style sheet that follow from the palette: `c0: #1F6FB2` of a chart is whatever the page calls `c0`.
#[derive(Template)]
#[template(path = "style.css", config = "src/report/askama.toml", escape = "none")]
struct Style {
    /// Name, light, dark.
    colours: Vec<(&'static str, String, String)>,
}

#[derive(Template)]
#[template(path = "page.html", config = "src/report/askama.toml")]
struct Page<'a> {
    style: String,
    model: String,
    stretch: String,
    made: String,
    parts: &'a [Part],
}

fn hex(colour: plotters::style::RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2)
}

/// The style sheet of the page, and of whatever else is made of its fragments.
fn style() -> Result<String, ReportError> {
    let colours = PALETTE.map(|(name, light, dark)| (name, hex(light), hex(dark)));
    rendered(&Style {
        colours: colours.to_vec(),
    })
}

/// The page.
///
/// # Errors
/// A template or a chart failed.
pub fn html(report: &Report) -> Result<String, ReportError> {
    let mut smallest = String::new();
    for room in ROOMS {
        smallest = made(report, room)?;
        if smallest.len() <= MOST_BYTES {
            return Ok(smallest);
        }
    }
    Err(ReportError::Page(format!(
        "it would be {} bytes long however little it shows",
        smallest.len()
    )))
}

fn made(report: &Report, room: Room) -> Result<String, ReportError> {
    let since = &report.since;
    let gateway = match since.live {
        true => "a gateway was running",
        false => "no gateway was running: times count back from the last row",
    };
    let parts = fragment::all(report, room)?;
    rendered(&Page {
        style: style()?,
        model: name(&report.model),
        stretch: format!(
            "since {}: rows {} to {}, {} to {}",
            sentence(&since.asked),
            count(since.first_row),
            count(since.last_row),
            moment(&since.from),
            moment(&since.to)
        ),
        made: format!("made {}; all times are UTC; {gateway}", moment(&report.made)),
        parts: &parts,
    })
}
