//! What a scrape says, before it is written in one of the formats: families of series, each with a value of now.
//!
//! Always holds: a family's series have the same keys; nothing here is kept from one scrape to the next. Leaves to others:
//! how it is written (`text`, `protobuf`).

use std::borrow::Cow;

/// Labels of one series, in the order in which they are written.
pub(super) type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// What the numbers of a family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Any number.
    Gauge,
    /// Samples by size.
    Histogram,
}

/// One name with all its series.
#[derive(Debug)]
pub struct Family {
    /// As it is scraped.
    pub name: &'static str,
    /// A sentence.
    pub help: &'static str,
    /// What its numbers are.
    pub kind: Kind,
    /// Its series.
    pub series: Vec<Series>,
}

/// One series.
#[derive(Debug)]
pub struct Series {
    /// What tells it from the others.
    pub labels: Labels,
    /// What it says now.
    pub value: Value,
}

/// What a series says.
#[derive(Debug)]
pub enum Value {
    /// A counter or a gauge.
    Number(f64),
    /// A histogram.
    Samples(Box<Samples>),
}

/// A histogram, read once.
#[derive(Debug, Default, PartialEq)]
pub struct Samples {
    /// All samples.
    pub count: u64,
    /// Their sum in the base unit.
    pub sum: f64,
    /// Edges in the base unit, and how many samples lie at or below each; without the last, which is `count`.
    pub classic: Vec<(f64, u64)>,
    /// The same by powers of two.
    pub native: Native,
    /// By the number of a classic bucket, the latest of its samples that a trace tells of; the last bucket is +Inf.
    pub examples: Vec<(usize, Example)>,
}

/// A sample of which a trace tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Example {
    /// The trace's number.
    pub trace: [u8; 16],
    /// In the base unit.
    pub value: f64,
    /// When it was counted, Unix milliseconds.
    pub at_ms: i64,
}

impl Example {
    /// The trace's number as traces write it.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.trace))
    }
}

/// Buckets between powers of two and their roots, as Prometheus' native histograms have them.
#[derive(Debug, Default, PartialEq)]
pub struct Native {
    /// Each power of two is cut into 2^`schema` buckets.
    pub schema: i32,
    /// Samples up to this count as 0.
    pub zero_threshold: f64,
    /// How many do.
    pub zero_count: u64,
    /// Buckets that hold a sample, ascending: bucket i ends at 2^(i / 2^schema).
    pub counts: Vec<(i32, u64)>,
}

/// A name and its sentence.
pub(super) type Named = (&'static str, &'static str);

/// See the module.
#[derive(Debug, Default)]
pub struct Page {
    families: Vec<Family>,
}

impl Page {
    /// Appends gauges.
    pub fn gauges<const N: usize>(
        &mut self,
        named: Named,
        series: impl IntoIterator<Item = ([(&'static str, String); N], f64)>,
    ) {
        self.numbers(named, Kind::Gauge, series);
    }

    /// Appends counters.
    pub fn counters<const N: usize>(
        &mut self,
        named: Named,
        series: impl IntoIterator<Item = ([(&'static str, String); N], f64)>,
    ) {
        self.numbers(named, Kind::Counter, series);
    }

    /// Appends a gauge without labels.
    pub fn gauge(&mut self, named: Named, value: f64) {
        self.gauges(named, [([], value)]);
    }

    /// Appends a counter without labels.
    pub fn counter(&mut self, named: Named, value: f64) {
        self.counters(named, [([], value)]);
    }

    fn numbers<const N: usize>(
        &mut self,
        (name, help): Named,
        kind: Kind,
        series: impl IntoIterator<Item = ([(&'static str, String); N], f64)>,
    ) {
        let one = |(labels, value): ([(&'static str, String); N], f64)| Series {
            labels: labels.map(|(key, text)| (key, Cow::Owned(text))).into(),
            value: Value::Number(value),
        };
        self.push(Family {
            name,
            help,
            kind,
            series: series.into_iter().map(one).collect(),
        });
    }

    /// Appends a family.
    pub fn push(&mut self, family: Family) {
        self.families.push(family);
    }

    /// All families, in the order in which they were appended.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        &self.families
    }
}

/// A count, as a number among numbers.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "counters are floats to whoever reads them; 2^53 events take decades"
)]
pub fn number(count: u64) -> f64 {
    count as f64
}
