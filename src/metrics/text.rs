//! A scrape as text: Prometheus' own format, and OpenMetrics.

use std::fmt::Write as _;

use super::page::{Family, Kind, Labels, Page, Value};

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
                Value::Number(value) => line(&mut text, family.name, "", &series.labels, None, *value),
                Value::Samples(samples) => {
                    let mut bucket = |edge: &str, count: u64| {
                        line(
                            &mut text,
                            family.name,
                            "_bucket",
                            &series.labels,
                            Some(edge),
                            super::page::number(count),
                        );
                    };
                    for (edge, count) in &samples.classic {
                        bucket(&figure(*edge), *count);
                    }
                    bucket("+Inf", samples.count);
                    line(&mut text, family.name, "_sum", &series.labels, None, samples.sum);
                    let count = super::page::number(samples.count);
                    line(&mut text, family.name, "_count", &series.labels, None, count);
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

fn line(text: &mut String, name: &str, suffix: &str, labels: &Labels, edge: Option<&str>, value: f64) {
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
    let _ = writeln!(text, " {}", figure(value));
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
