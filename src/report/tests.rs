//! The page under the worst names and the most of everything: small, well-formed, inert.

use serde_json::json;

use super::*;
use crate::monitor::quality::Apart;

/// What would act in HTML, in SVG, in an attribute, in a style sheet, or on the eye.
const HOSTILE: &str = "</style></title></svg><script>alert(1)</script><img src=x onerror=alert(1)>\"'&&amp;<!--]]>{{7*7}}\u{202e}\u{0}\u{1b}[2J";

fn hostile(k: usize) -> String {
    format!("{k} {}", HOSTILE.repeat(6))
}

/// A report with so many features, all of them at their worst.
fn report(features: usize, text: &dyn Fn(usize) -> String) -> Report {
    let numbers = json!({"rows": 2_000, "missing": 0.25, "numbers": {"count": 1_500, "infinite": 3, "mean": 1.5e-7,
        "deviation": 2.5e9, "min": -1e300, "max": 1e300, "quantiles_5_25_50_75_95": [-1.0, 0.0, 0.5, 1.0, null]}});
    let apart = Apart {
        psi: Some(12.3),
        ks: Some(0.9),
        ..Apart::default()
    };
    let feature = |k: usize| {
        let findings = json!([{"kind": "missing", "text": text(k)}, {"kind": "range", "text": text(k)}]);
        json!({"name": text(k), "state": "broken", "findings": findings, "baseline": numbers, "recent": numbers,
            "skew": apart, "drift": apart, "alarm": {"raised": null, "log_wealth": 1.0, "log_bar": 2.0, "blocks": 3}})
    };
    let rate = json!({"value": 0.5, "interval": [0.4, 0.6]});
    let group = |k: usize| {
        json!({"group": text(k), "labels": 1_000 - k, "loss": rate, "accuracy": rate, "positive_rate": null,
            "small": text(k), "against_the_rest": {"loss": rate, "accuracy": rate}})
    };
    let bond = |k: usize| {
        json!({"feature": text(k), "first": {"correlation": 0.1, "mutual_information": null},
            "recent": {"correlation": -0.1, "mutual_information": 0.2}})
    };
    let curve =
        json!([{"predicted": 0.1, "observed": 0.2, "count": 30}, {"predicted": 0.9, "observed": 0.8, "count": 3000}]);
    let alarm = |k: usize| json!({"feature": text(k), "what": "location", "row": k, "time": "2026-11-26T09:30:00.250Z", "present": true});
    let monitor = json!({
        "on": true, "model": text(0), "version": text(1),
        "baseline": {"source": "file", "from": text(2), "complete": true, "rows": 2_000, "wanted": 2_000,
            "notes": (0..20).map(text).collect::<Vec<_>>()},
        "window": {"span": "24h", "rows": 5_000}, "volume": {"unusual": text(3)},
        "alarm": {"alpha": 0.01, "raised": (0..100).map(alarm).collect::<Vec<_>>()},
        "states": {"broken": features}, "features": (0..features).map(feature).collect::<Vec<_>>(),
        "outputs": [feature(0), feature(1)], "unwatched": text(4),
        "estimate": {"accuracy": 0.8, "brier": 0.1, "positive_share": 0.4},
        "labels": {"labels": 10_000, "metric": text(5), "level": {"loss": 0.2}, "recent": {"loss": rate, "accuracy": rate},
            "tenure": {"loss": rate}, "decay": {"limit": 0.22, "raised": {"row": 7}, "forecast": {"text": text(6)}},
            "adwin": {"detections": 3}, "page_hinkley": {"detections": 1},
            "reliability": {"first": {"curve": curve, "calibration_error": 0.02}, "recent": {"curve": curve, "calibration_error": 0.05}},
            "associations": (0..features).map(bond).collect::<Vec<_>>(),
            "groups": (0..264).map(group).collect::<Vec<_>>(), "groups_note": text(7),
            "history": (0..400).map(|k| json!([k * 100, 0.2, 100])).collect::<Vec<_>>()},
    });
    let bar = |k: usize, is_text: bool| Bar {
        value: is_text.then(|| text(k)),
        from: (!is_text).then_some(k as f64),
        to: (!is_text).then_some(k as f64 + 1.0),
        baseline: 0.05,
        window: 0.05,
    };
    let distribution = |k: usize| Distribution {
        name: text(k),
        is_output: k == 0,
        baseline: numbers.clone(),
        window: numbers.clone(),
        apart: apart.clone(),
        bars: match k {
            0..24 => (0..if k.is_multiple_of(2) { 20 } else { 9 })
                .map(|b| bar(b, k % 2 == 1))
                .collect(),
            _ => Vec::new(),
        },
    };
    let points = |from: u64| (0..40).map(|k| (from + k * 10, -3.0 + k as f64 / 10.0, 5.3)).collect();
    let contender = |k: usize| Curve {
        version: text(k),
        parts: vec![points(0), points(500)],
        labels: 80,
        mean_difference: Some(0.01),
        interval: Some([-0.01, 0.02]),
        verdict: text(k),
        why: text(k),
        is_present: k < 6,
    };
    Report {
        model: text(8),
        made: "2026-11-26T09:30:00.250Z".into(),
        since: Stretch {
            asked: text(9),
            from: "2026-11-19T09:30:00.250Z".into(),
            to: "2026-11-26T09:30:00.250Z".into(),
            first_row: 1,
            last_row: 1_000,
            rows: 1_000,
            live: false,
            moment_ms: 0,
            from_ms: 0,
            lasted_ms: 0,
        },
        champion: Some(Champion {
            version: text(10),
            digest: text(11),
            since: Some(text(12)),
            epoch: 3,
            previous: Some(text(13)),
            hold: Some(text(14)),
        }),
        tenures: (0..200)
            .map(|k: usize| Reign {
                epoch: k as u64,
                version: text(k),
                kind: text(k),
                from: text(k),
                to: None,
                rows: Some((k as u64 * 5 + 1, k as u64 * 5 + 5)),
                labels: 5,
            })
            .collect(),
        tenures_left_out: 3,
        monitor,
        distributions: (0..features).map(distribution).collect(),
        why_no_distributions: None,
        drift: Drift {
            read: 1_000,
            of: 1.0,
            buckets: (0..48)
                .map(|k| Bucket {
                    first_row: k * 20 + 1,
                    last_row: k * 20 + 20,
                    from: "2026-11-26T09:30:00.250Z".into(),
                    rows: 20,
                })
                .collect(),
            features: (0..24)
                .map(|k| Series {
                    name: text(k),
                    is_output: false,
                    psi: (0..48).map(|b| (b % 7 > 0).then_some(b as f64 / 10.0)).collect(),
                    mean: vec![None; 48],
                    missing: vec![0.0; 48],
                })
                .collect(),
            left_out: 400,
            limit: 0.25,
        },
        evidence: Evidence {
            curves: (0..12).map(contender).collect(),
            left_out: 5,
            metric: Some(text(15)),
            note: Some(text(16)),
        },
        decisions: (0..500)
            .map(|n| {
                json!({"n": n, "time": "2026-11-26T09:30:00.250Z", "kind": text(n), "from": text(n), "to": text(n),
                    "author": text(n), "reason": text(n), "why": text(n)})
            })
            .collect(),
        decisions_left_out: 5,
        costs: (0..32)
            .map(|k| Cost {
                version: text(k),
                role: text(k),
                latency_us_p50: 10,
                latency_us_p99: 20,
                cpu_ns: 9_000,
                memory_bytes: 1_000_000,
            })
            .collect(),
    }
}

/// What a browser would have to guess about, or fetch, or run: strict XML, and only harmless attributes.
pub(super) fn fault(html: &str) -> Option<String> {
    let mut rest = html.strip_prefix("<!DOCTYPE html>").unwrap_or(html);
    let (mut open, mut ids): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    while let Some(at) = rest.find('<') {
        let (text, tag) = rest.split_at(at);
        if open.last() != Some(&"style")
            && let Some(why) = text_fault(text)
        {
            return Some(why);
        }
        let Some(end) = tag.find('>') else {
            return Some(format!("an open tag: {}", clip(tag)));
        };
        let (inside, after) = (&tag[1..end], &tag[end + 1..]);
        rest = after;
        if let Some(name) = inside.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Some(format!("</{name}> closes nothing"));
            }
            continue;
        }
        let (inside, is_empty) = inside
            .strip_suffix('/')
            .map_or((inside, false), |inside| (inside, true));
        let name = inside.split_ascii_whitespace().next().unwrap_or_default();
        let is_known = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_known
            || [
                "script", "img", "link", "iframe", "object", "embed", "base", "form", "image", "use",
            ]
            .contains(&name)
        {
            return Some(format!("<{}> is none of ours", clip(inside)));
        }
        let mut attributes = inside[name.len()..].trim_start();
        while !attributes.is_empty() {
            let Some((key, after)) = attributes.split_once("=\"") else {
                return Some(format!("an attribute without a value: {}", clip(attributes)));
            };
            let Some((value, after)) = after.split_once('"') else {
                return Some("an open value".into());
            };
            attributes = after;
            if !attributes.is_empty() && !attributes.starts_with(' ') {
                return Some(format!("attributes run together after {key}"));
            }
            attributes = attributes.trim_start();
            let key_is_fine = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if !key_is_fine || key.starts_with("on") || ["src", "style", "srcset", "action"].contains(&key) {
                return Some(format!("the attribute '{}'", clip(key)));
            }
            if key == "href" && !value.starts_with('#') {
                return Some(format!("an address: {}", clip(value)));
            }
            if key == "id" {
                if ids.contains(&value) {
                    return Some(format!("the id '{value}' stands twice"));
                }
                ids.push(value);
            }
            if let Some(why) = text_fault(value) {
                return Some(why);
            }
        }
        if !is_empty {
            open.push(name);
        }
    }
    match open.as_slice() {
        [] => text_fault(rest),
        open => Some(format!("not closed: {open:?}")),
    }
}

fn clip(text: &str) -> String {
    text.chars().take(60).collect()
}

fn text_fault(text: &str) -> Option<String> {
    if let Some(bad) = text
        .chars()
        .find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}')
    {
        return Some(format!("the character {bad:?} in '{}'", clip(text)));
    }
    for part in text.split('&').skip(1) {
        let entity = part.split_once(';').map(|(entity, _)| entity);
        let is_known = |entity: &str| {
            let number = entity
                .strip_prefix('#')
                .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
            number || ["amp", "lt", "gt", "quot", "apos"].contains(&entity)
        };
        if !entity.is_some_and(is_known) {
            return Some(format!("a bare '&' before '{}'", clip(part)));
        }
    }
    None
}

fn inert(html: &str) {
    assert_eq!(fault(html), None);
    for part in [
        "http:",
        "https:",
        "//",
        "url(",
        "@import",
        "@font-face",
        "javascript",
        "<script",
        "NaN",
    ] {
        let at = html.find(part);
        assert!(
            at.is_none(),
            "{part} in {:?}",
            at.map(|at| &html[at.saturating_sub(60)..(at + 60).min(html.len())])
        );
    }
}

#[test]
fn the_worst_names_and_the_most_of_everything_make_a_page_below_a_megabyte_that_does_nothing() {
    let mut made = report(512, &hostile);
    let html = html(&made).unwrap();
    println!("{} bytes of 512 features with hostile names", html.len());
    assert!(html.len() <= MOST_BYTES, "{} bytes", html.len());
    inert(&html);
    assert!(html.contains("alert(1)"), "what it is called is still to be read");
    assert!(html.contains("more features in the same or a better state"));
    // The smaller one shows more.
    made = report(20, &|k| format!("feature_{k}"));
    let html = super::html(&made).unwrap();
    inert(&html);
    for k in 0..20 {
        assert!(html.contains(&format!(">feature_{k}</th>")), "{k}");
    }
    for id in [
        "summary",
        "champion",
        "distributions",
        "drift",
        "quality",
        "loss",
        "calibration",
        "groups",
        "evidence",
        "decisions",
        "costs",
    ] {
        assert!(
            html.contains(&format!("<section id=\"{id}\"")) && html.contains(&format!("href=\"#{id}\"")),
            "{id}"
        );
    }
    let [figures, charts, titles] = ["<figure>", "<svg ", "<desc "].map(|tag| html.matches(tag).count());
    assert!(
        figures >= 18 && figures == charts && titles == charts,
        "{figures} {charts} {titles}"
    );
    assert!(html.contains("prefers-color-scheme:dark") && html.contains("<html lang=\"en\">"));
}

#[test]
fn a_report_without_anything_to_show_says_why_in_every_part() {
    let mut made = report(0, &|k| format!("v{k}"));
    made.champion = None;
    made.tenures.clear();
    made.monitor = json!({"on": false, "why": "monitor.mode = \"off\""});
    made.distributions.clear();
    made.why_no_distributions = Some("there is no baseline".into());
    made.drift = Drift::default();
    made.evidence = Evidence {
        note: Some("no labelled row has become evidence yet".into()),
        ..Evidence::default()
    };
    made.decisions.clear();
    made.decisions_left_out = 0;
    made.costs.clear();
    let html = html(&made).unwrap();
    inert(&html);
    assert!(!html.contains("<svg") && !html.contains("<section id=\"costs\""));
    assert!(html.matches("Nothing to show").count() >= 6, "{html}");
    assert!(
        html.contains("Nothing was decided") && html.contains("Nothing is watched"),
        "{html}"
    );
}

#[test]
fn what_is_sent_reads_back_as_the_same_report() {
    let made = report(3, &hostile);
    let text = serde_json::to_string(&made).unwrap();
    let back: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
}

#[test]
fn the_check_of_the_page_finds_what_is_wrong() {
    for (bad, says) in [
        ("<p>a<b>c</p></b>", "closes nothing"),
        ("<p>", "not closed"),
        ("<p onclick=\"x\"></p>", "onclick"),
        ("<a href=\"x\"></a>", "an address"),
        ("<script></script>", "none of ours"),
        ("a & b", "bare"),
        ("<p id=\"a\"></p><p id=\"a\"></p>", "twice"),
        ("<p a></p>", "without a value"),
        ("<p>\u{1b}</p>", "character"),
    ] {
        assert!(
            fault(bad).is_some_and(|why| why.contains(says)),
            "{bad}: {:?}",
            fault(bad)
        );
    }
}
