//! In which format a scrape is answered: what the scraper likes best of those that there are.

use super::page::Page;
use super::{protobuf, text};

/// A format of scrapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own text, for everybody who does not ask for another.
    Prometheus,
    /// OpenMetrics.
    OpenMetrics,
    /// Prometheus' protobuf, with native histograms.
    Protobuf,
}

impl Format {
    /// The format for an `Accept` header: the one with the largest weight, of equal ones the first.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let mut best = (0.0, Self::Prometheus);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut parameters) = (1.0, Vec::new());
            for part in parts {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                let (key, value) = (key.trim().to_ascii_lowercase(), value.trim().trim_matches('"'));
                match key.as_str() {
                    "q" => weight = value.parse::<f64>().unwrap_or(0.0),
                    _ => parameters.push((key, value.to_owned())),
                }
            }
            let says = |key: &str, wanted: &[&str]| {
                let mut said = parameters.iter().filter(|(k, _)| k == key);
                said.all(|(_, value)| wanted.iter().any(|w| w.eq_ignore_ascii_case(value)))
            };
            let format = match kind.as_str() {
                "application/vnd.google.protobuf"
                    if says("proto", &["io.prometheus.client.MetricFamily"]) && says("encoding", &["delimited"]) =>
                {
                    Self::Protobuf
                }
                "application/openmetrics-text" if says("version", &["1.0.0", "0.0.1"]) => Self::OpenMetrics,
                "text/plain" if says("version", &["0.0.4", "1.0.0"]) => Self::Prometheus,
                "text/*" | "*/*" => Self::Prometheus,
                _ => continue,
            };
            if weight > best.0 {
                best = (weight, format);
            }
        }
        best.1
    }

    /// What the answer says that it is.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// A scrape.
    #[must_use]
    pub fn write(self, page: &Page) -> Vec<u8> {
        match self {
            Self::Prometheus => text::write(page, text::Form::Prometheus).into(),
            Self::OpenMetrics => text::write(page, text::Form::OpenMetrics).into(),
            Self::Protobuf => protobuf::write(page),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scraper_gets_what_it_likes_best_and_plain_text_where_it_says_nothing() {
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/html, image/png;q=0.9", Format::Prometheus),
            (
                // Prometheus 2.42 without native histograms, and with them.
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                &format!(
                    "{protobuf},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
                ),
                Format::Protobuf,
            ),
            (&format!("{protobuf};q=0.2, text/plain;q=0.3"), Format::Prometheus),
            // Other messages, other encodings and later versions are not ours.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                Format::Prometheus,
            ),
            (
                "application/vnd.google.protobuf;proto=other;encoding=delimited",
                Format::Prometheus,
            ),
            (
                "application/openmetrics-text; version=2.0.0, text/plain;q=0.1",
                Format::Prometheus,
            ),
            (
                "application/openmetrics-text; version=\"1.0.0\"; escaping=allow-utf-8",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
