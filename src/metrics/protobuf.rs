//! A scrape as protobuf, the only format that has native histograms: messages of `io.prometheus.client`, each behind its
//! length. Classic buckets go with them, so that whoever wants those finds them too.

use prost::Message;

use super::page::{Example, Family, Kind, Labels, Native, Page, Samples, Series, Value};

/// A family with its series.
#[derive(Clone, PartialEq, Message)]
pub struct MetricFamily {
    /// As it is scraped.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A sentence.
    #[prost(string, tag = "2")]
    pub help: String,
    /// 0 counter, 1 gauge, 4 histogram. The format's schema has presence: 0 must be there.
    #[prost(int32, optional, tag = "3")]
    pub kind: Option<i32>,
    /// Series.
    #[prost(message, repeated, tag = "4")]
    pub metric: Vec<Metric>,
}

/// A series.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// What tells it from the others.
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    /// Of a gauge.
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Number>,
    /// Of a counter.
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Number>,
    /// Of a histogram.
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<Histogram>,
}

/// A label.
#[derive(Clone, PartialEq, Message)]
pub struct LabelPair {
    /// Key.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// What a counter or a gauge says.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Number {
    /// Now.
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
}

/// What a histogram says.
#[derive(Clone, PartialEq, Message)]
#[expect(missing_docs, reason = "the names are the format's; `Samples` has their meaning")]
pub struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    pub schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    pub zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    pub positive_span: Vec<BucketSpan>,
    /// Each bucket's count less that of the one before.
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub positive_delta: Vec<i64>,
}

/// A classic bucket.
#[derive(Clone, PartialEq, Message)]
#[expect(missing_docs, reason = "the names are the format's")]
pub struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    pub cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub upper_bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub exemplar: Option<Exemplar>,
}

/// A sample of which a trace tells.
#[derive(Clone, PartialEq, Message)]
#[expect(missing_docs, reason = "the names are the format's")]
pub struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    #[prost(double, optional, tag = "2")]
    pub value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    pub timestamp: Option<Timestamp>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
#[expect(missing_docs, reason = "the names are the format's")]
pub struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// Buckets without a gap.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct BucketSpan {
    /// Of the first span its first bucket, of the others how many empty ones lie before it.
    #[prost(sint32, optional, tag = "1")]
    pub offset: Option<i32>,
    /// How many.
    #[prost(uint32, optional, tag = "2")]
    pub length: Option<u32>,
}

/// The page as messages.
pub(super) fn write(page: &Page) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 * 1024);
    for family in page.families().iter().filter(|family| !family.series.is_empty()) {
        bytes.extend(message(family).encode_length_delimited_to_vec());
    }
    bytes
}

fn message(family: &Family) -> MetricFamily {
    MetricFamily {
        name: family.name.into(),
        help: family.help.into(),
        kind: Some(match family.kind {
            Kind::Counter => 0,
            Kind::Gauge => 1,
            Kind::Histogram => 4,
        }),
        metric: family.series.iter().map(|series| metric(family.kind, series)).collect(),
    }
}

fn metric(kind: Kind, series: &Series) -> Metric {
    let label = labels(&series.labels);
    match (&series.value, kind) {
        (Value::Samples(samples), _) => Metric {
            label,
            histogram: Some(histogram(samples)),
            ..Metric::default()
        },
        (Value::Number(value), Kind::Counter) => Metric {
            label,
            counter: Some(Number { value: Some(*value) }),
            ..Metric::default()
        },
        (Value::Number(value), _) => Metric {
            label,
            gauge: Some(Number { value: Some(*value) }),
            ..Metric::default()
        },
    }
}

fn labels(labels: &Labels) -> Vec<LabelPair> {
    let pair = |(name, value): &(&'static str, std::borrow::Cow<'static, str>)| LabelPair {
        name: (*name).into(),
        value: value.as_ref().into(),
    };
    labels.iter().map(pair).collect()
}

fn histogram(samples: &Samples) -> Histogram {
    let classic = samples.classic.iter().copied();
    let bucket = classic.chain([(f64::INFINITY, samples.count)]);
    let (positive_span, positive_delta) = spans(&samples.native);
    Histogram {
        sample_count: Some(samples.count),
        sample_sum: Some(samples.sum),
        bucket: bucket
            .enumerate()
            .map(|(number, (edge, count))| {
                let example = samples.examples.iter().find(|(bucket, _)| *bucket == number);
                Bucket {
                    cumulative_count: Some(count),
                    upper_bound: Some(edge),
                    exemplar: example.map(|(_, example)| exemplar(example)),
                }
            })
            .collect(),
        schema: Some(samples.native.schema),
        zero_threshold: Some(samples.native.zero_threshold),
        zero_count: Some(samples.native.zero_count),
        positive_span,
        positive_delta,
    }
}

fn exemplar(example: &Example) -> Exemplar {
    Exemplar {
        label: vec![LabelPair {
            name: "trace_id".into(),
            value: example.trace_id(),
        }],
        value: Some(example.value),
        timestamp: Some(Timestamp {
            seconds: example.at_ms.div_euclid(1_000),
            nanos: i32::try_from(example.at_ms.rem_euclid(1_000)).unwrap_or_default() * 1_000_000,
        }),
    }
}

/// Buckets that hold something, in runs, and their counts as differences.
fn spans(native: &Native) -> (Vec<BucketSpan>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<BucketSpan>, Vec<i64>) = (Vec::new(), Vec::new());
    let (mut next, mut before) = (None, 0);
    for (index, count) in &native.counts {
        match (next, spans.last_mut()) {
            (Some(next), Some(span)) if next == *index => span.length = span.length.map(|length| length + 1),
            (next, _) => spans.push(BucketSpan {
                offset: Some(index - next.unwrap_or(0)),
                length: Some(1),
            }),
        }
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        deltas.push(count - before);
        (next, before) = (Some(index + 1), count);
    }
    if spans.is_empty() {
        // Without a span it would be taken for a classic histogram while nothing was seen.
        spans.push(BucketSpan {
            offset: Some(0),
            length: Some(0),
        });
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_buckets_are_spans_and_counts_are_differences() {
        let native = Native {
            counts: vec![(-3, 2), (-2, 5), (1, 1)],
            ..Native::default()
        };
        let (spans, deltas) = spans(&native);
        let plain: Vec<(i32, u32)> = spans.iter().map(|s| (s.offset.unwrap(), s.length.unwrap())).collect();
        assert_eq!(plain, [(-3, 2), (2, 1)]);
        assert_eq!(deltas, [2, 3, -4]);
        assert_eq!(super::spans(&Native::default()).0[0].length, Some(0));
    }

    #[test]
    fn a_page_reads_back_as_it_was() {
        let mut page = Page::default();
        page.counters(("f_total", "Help."), [([("model", "m".to_owned())], 0.0)]);
        page.gauges::<0>(("empty", "Help."), []);
        let bytes = write(&page);
        let family = MetricFamily::decode_length_delimited(&bytes[..]).unwrap();
        assert_eq!((family.name.as_str(), family.kind), ("f_total", Some(0)));
        assert_eq!(family.metric[0].counter, Some(Number { value: Some(0.0) }));
        assert_eq!(
            family.encode_length_delimited_to_vec().len(),
            bytes.len(),
            "no empty family"
        );
    }
}
