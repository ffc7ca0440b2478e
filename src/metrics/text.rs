//! A scrape as text: Prometheus' own format, and OpenMetrics.

use std::fmt::Write as _;

use super::page::{Example, Family, Kind, Labels, Page, Value};

/// The two, which differ in little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `text/plain; version=0.0.4`.
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

/// The page as text.
pub(super) fn write(page: &Page, form: Form) -> String {
    let mut text = String::with_capacity(64 * 1024);
    for family in page.families() {
        head(&mut text, family, form);
        for series in &family.series {
            match &series.value {
                Value::Number(value) => line(&mut text, (family.name, ""), &series.labels, None, *value, None),
                Value::Samples(samples) => {
                    let all = [(f64::INFINITY, samples.count)];
                    for (number, (edge, count)) in samples.classic.iter().chain(&all).enumerate() {
                        let mut examples = samples.examples.iter();
                        let example = examples.find(|(bucket, _)| form == Form::OpenMetrics && *bucket == number);
                        let (edge, count) = (figure(*edge), super::page::number(*count));
                        let name = (family.name, "_bucket");
                        line(
                            &mut text,
                            name,
                            &series.labels,
                            Some(&edge),
                            count,
                            example.map(|(_, one)| one),
                        );
                    }
                    line(
                        &mut text,
                        (family.name, "_sum"),
                        &series.labels,
                        None,
                        samples.sum,
                        None,
                    );
                    let count = super::page::number(samples.count);
                    line(&mut text, (family.name, "_count"), &series.labels, None, count, None);
                }
            }
        }
    }
    if form == Form::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn head(text: &mut String, family: &Family, form: Form) {
    let (mut name, mut kind) = (
        family.name,
        match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        },
    );
    if form == Form::OpenMetrics && family.kind == Kind::Counter {
        // There a counter's samples end in `_total`, and its name does not.
        match name.strip_suffix("_total") {
            Some(base) => name = base,
            None => kind = "unknown",
        }
    }
    let help = escaped(family.help);
    // Writing to a string does not fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(
    text: &mut String,
    (name, suffix): (&str, &str),
    labels: &Labels,
    edge: Option<&str>,
    value: f64,
    example: Option<&Example>,
) {
    text.push_str(name);
    text.push_str(suffix);
    let edge = edge.map(|edge| ("le", edge));
    let labels = labels.iter().map(|(key, value)| (*key, value.as_ref())).chain(edge);
    let mut before = '{';
    for (key, value) in labels {
        let _ = write!(text, "{before}{key}=\"{}\"", escaped(value));
        before = ',';
    }
    if before == ',' {
        text.push('}');
    }
    let _ = write!(text, " {}", figure(value));
    if let Some(example) = example {
        let (trace, value) = (example.trace_id(), figure(example.value));
        let at = std::time::Duration::from_millis(example.at_ms.unsigned_abs()).as_secs_f64();
        let _ = write!(text, " # {{trace_id=\"{trace}\"}} {value} {at:.3}");
    }
    text.push('\n');
}

fn figure(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    value.to_string()
}

fn escaped(value: &str) -> std::borrow::Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return value.into();
    }
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let mut page = Page::default();
        page.counters(("f_total", "Help."), [([("model", "a\"\\\n".to_owned())], 3.0)]);
        page.counter(("nv_count", "Help."), 1.0);
        page.gauge(("g", "Help."), f64::INFINITY);
        page
    }

    #[test]
    fn an_example_stands_behind_its_bucket_in_open_metrics_alone() {
        let example = Example {
            trace: *b"\x01\x02345678901234\xff\x00",
            value: 0.4,
            at_ms: 1_700_000_000_250,
        };
        let samples = |at: usize| super::super::page::Samples {
            count: 3,
            sum: 2.5,
            classic: vec![(0.25, 1), (0.5, 2)],
            examples: vec![(at, example)],
            ..Default::default()
        };
        let text = |form, at| {
            let mut page = Page::default();
            let series = super::super::page::Series {
                labels: Vec::new(),
                value: Value::Samples(Box::new(samples(at))),
            };
            page.push(Family {
                name: "h",
                help: "Help.",
                kind: Kind::Histogram,
                series: vec![series],
            });
            write(&page, form)
        };
        let said = " # {trace_id=\"0102333435363738393031323334ff00\"} 0.4 1700000000.250\n";
        assert!(!text(Form::Prometheus, 1).contains("trace_id"));
        assert!(text(Form::OpenMetrics, 1).contains(&format!("h_bucket{{le=\"0.5\"}} 2{said}h_bucket")));
        assert!(text(Form::OpenMetrics, 2).contains(&format!("h_bucket{{le=\"+Inf\"}} 3{said}h_sum")));
    }

    #[test]
    fn each_format_has_its_own_names_and_end() {
        let text = write(&page(), Form::Prometheus);
        let expected = "# HELP f_total Help.\n# TYPE f_total counter\nf_total{model=\"a\\\"\\\\\\n\"} 3\n\
                        # HELP nv_count Help.\n# TYPE nv_count counter\nnv_count 1\n\
                        # HELP g Help.\n# TYPE g gauge\ng +Inf\n";
        assert_eq!(text, expected);
        let text = write(&page(), Form::OpenMetrics);
        let expected = "# HELP f Help.\n# TYPE f counter\nf_total{model=\"a\\\"\\\\\\n\"} 3\n\
                        # HELP nv_count Help.\n# TYPE nv_count unknown\nnv_count 1\n\
                        # HELP g Help.\n# TYPE g gauge\ng +Inf\n# EOF\n";
        assert_eq!(text, expected);
    }
}
