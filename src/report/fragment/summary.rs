//! The first look: a few figures, and what asks for attention.

use askama::Template;
use serde_json::Value as Json;

use super::Room;
use crate::report::table::{at, count, list, maybe, moment, name, number, percent, rendered, sentence, word};
use crate::report::{Report, ReportError};

/// Broken features that are named one by one.
const NAMED: usize = 8;

/// A figure.
struct Tile {
    value: String,
    means: &'static str,
    says: String,
}

#[derive(Template)]
#[template(path = "summary.html", config = "src/report/askama.toml")]
struct Summary {
    tiles: Vec<Tile>,
    attention: Vec<String>,
}

pub(super) fn fragment(report: &Report, _: Room) -> Result<String, ReportError> {
    rendered(&Summary {
        tiles: tiles(report),
        attention: attention(report),
    })
}

fn tiles(report: &Report) -> Vec<Tile> {
    let shown = &report.monitor;
    let tile = |value: String, means: &'static str, says: String| Tile { value, means, says };
    let mut tiles = vec![tile(
        count(report.since.rows),
        "rows",
        format!(
            "row {} to {}",
            count(report.since.first_row),
            count(report.since.last_row)
        ),
    )];
    if let Some(champion) = &report.champion {
        let since = champion
            .since
            .as_deref()
            .map_or_else(String::new, |since| format!("since {}", moment(since)));
        tiles.push(tile(name(&champion.version), "champion", since));
    }
    let of = |state: &str| at(shown, &format!("/states/{state}")).unwrap_or(0.0);
    let features = list(shown, "/features").len();
    if features > 0 {
        let (broken, changed, shifted) = (of("broken"), of("changed"), of("shifted"));
        let bad = broken + changed + shifted;
        let says = match bad > 0.0 {
            true => format!(
                "{} broken, {} changed, {} shifted",
                number(broken),
                number(changed),
                number(shifted)
            ),
            false => "none broken, changed or shifted".to_owned(),
        };
        tiles.push(tile(
            format!("{} of {features}", number(bad)),
            "features to check",
            says,
        ));
    }
    if let Some(recent) = at(shown, "/labels/recent/loss/value") {
        let level = at(shown, "/labels/level/loss");
        let says = level.map_or_else(String::new, |level| format!("level {}", number(level)));
        tiles.push(tile(number(recent), "recent loss", says));
    }
    if let Some(accuracy) = at(shown, "/labels/recent/accuracy/value") {
        let estimate = at(shown, "/estimate/accuracy");
        let says = estimate.map_or_else(String::new, |share| {
            format!("estimate without labels {}", percent(share))
        });
        tiles.push(tile(percent(accuracy), "recent accuracy", says));
    }
    if let Some(error) = at(shown, "/labels/reliability/recent/calibration_error") {
        let first = at(shown, "/labels/reliability/first/calibration_error");
        tiles.push(tile(
            number(error),
            "calibration error",
            format!("first labels {}", maybe(first)),
        ));
    }
    let challengers = report.evidence.curves.iter().filter(|curve| curve.is_present).count();
    let decisions = report.decisions.len() + report.decisions_left_out;
    let says = match decisions {
        1 => "1 decision in this stretch".to_owned(),
        n => format!("{n} decisions in this stretch"),
    };
    tiles.push(tile(challengers.to_string(), "challengers", says));
    tiles
}

/// What asks for attention, a sentence each.
fn attention(report: &Report) -> Vec<String> {
    let shown = &report.monitor;
    let mut all = Vec::new();
    if let Some(hold) = report.champion.as_ref().and_then(|champion| champion.hold.as_deref()) {
        all.push(format!("Promotions are held: {}.", sentence(hold)));
    }
    if shown.get("on") == Some(&Json::Bool(false)) {
        all.push(format!("Nothing is watched: {}.", sentence(word(shown, "/why"))));
    }
    let features = list(shown, "/features");
    let broken: Vec<&Json> = features.iter().filter(|one| word(one, "/state") == "broken").collect();
    for feature in broken.iter().take(NAMED) {
        let says = list(feature, "/findings")
            .first()
            .map_or("", |finding| word(finding, "/text"));
        all.push(format!(
            "{} is broken: {}.",
            name(word(feature, "/name")),
            sentence(says)
        ));
    }
    if broken.len() > NAMED {
        all.push(format!("{} more features are broken.", broken.len() - NAMED));
    }
    let shifted: Vec<&Json> = features.iter().filter(|one| word(one, "/state") == "shifted").collect();
    if !shifted.is_empty() {
        let named: Vec<String> = shifted.iter().take(NAMED).map(|one| name(word(one, "/name"))).collect();
        let more = shifted.len().saturating_sub(NAMED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        all.push(format!("Shifted against the baseline: {}{more}.", named.join(", ")));
    }
    let present = |alarm: &&Json| alarm.get("present") == Some(&Json::Bool(true));
    let alarms: Vec<&Json> = list(shown, "/alarm/raised").iter().filter(present).collect();
    if !alarms.is_empty() {
        let named: Vec<String> = alarms
            .iter()
            .take(NAMED)
            .map(|alarm| {
                let row = at(alarm, "/row").map_or_else(String::new, |row| format!(" at row {}", number(row)));
                format!(
                    "{} ({}{row})",
                    name(word(alarm, "/feature")),
                    name(word(alarm, "/what"))
                )
            })
            .collect();
        let more = alarms.len().saturating_sub(NAMED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        all.push(format!("The alarm was raised for {}{more}.", named.join(", ")));
    }
    if let Some(row) = at(shown, "/labels/decay/raised/row") {
        let forecast = word(shown, "/labels/decay/forecast/text");
        all.push(format!(
            "The champion's loss had risen above its level by row {}; now: {}.",
            number(row),
            sentence(forecast)
        ));
    }
    if let Some(volume) = shown.pointer("/volume/unusual").and_then(Json::as_str) {
        all.push(format!("Unusual volume: {}.", sentence(volume)));
    }
    if shown.pointer("/baseline/complete") == Some(&Json::Bool(false)) {
        let (rows, wanted) = (at(shown, "/baseline/rows"), at(shown, "/baseline/wanted"));
        all.push(format!(
            "The baseline is still being learned: {} of {} rows.",
            maybe(rows),
            maybe(wanted)
        ));
    }
    all.extend(
        list(shown, "/baseline/notes")
            .iter()
            .filter_map(Json::as_str)
            .map(sentence),
    );
    all.extend(shown.get("unwatched").and_then(Json::as_str).map(sentence));
    all
}
