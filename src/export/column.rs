//! One column of an export: what has come since the last row group, with the levels that Parquet wants.
//!
//! Always holds: every row pushes each column exactly once; what does not fit the column's type is nothing, and counted.

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedColumnWriter;
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

/// What one value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    Double,
    Float,
    /// Unix milliseconds, UTC.
    Time,
}

/// A column of values, or of lists of them.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub name: String,
    pub kind: Kind,
    pub is_list: bool,
    values: Values,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    bytes: usize,
    /// Values that did not fit.
    pub misfits: u64,
}

#[derive(Debug, Clone)]
enum Values {
    Text(Vec<ByteArray>),
    Int(Vec<i64>),
    Double(Vec<f64>),
    Float(Vec<f32>),
}

/// Definition level of a value in a column, and in a list.
const VALUE: i16 = 1;
const ELEMENT: i16 = 2;
const EMPTY_LIST: i16 = 1;

impl Column {
    pub(super) fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            is_list: false,
            values: match kind {
                Kind::Text => Values::Text(Vec::new()),
                Kind::Int | Kind::Time => Values::Int(Vec::new()),
                Kind::Double => Values::Double(Vec::new()),
                Kind::Float => Values::Float(Vec::new()),
            },
            definitions: Vec::new(),
            repetitions: Vec::new(),
            bytes: 0,
            misfits: 0,
        }
    }

    pub(super) fn list(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            is_list: true,
            ..Self::new(name, kind)
        }
    }

    /// The column in the file's schema. Of a list: `optional group name (LIST) { repeated group list { required element } }`.
    pub(super) fn schema(&self) -> Result<TypePtr, ParquetError> {
        let (physical, logical) = match self.kind {
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Int => (Physical::INT64, None),
            Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
            Kind::Double => (Physical::DOUBLE, None),
            Kind::Float => (Physical::FLOAT, None),
        };
        let of = |name: &str, repetition| {
            Type::primitive_type_builder(name, physical)
                .with_repetition(repetition)
                .with_logical_type(logical.clone())
                .build()
        };
        if !self.is_list {
            return Ok(TypePtr::new(of(&self.name, Repetition::OPTIONAL)?));
        }
        let element = TypePtr::new(of("element", Repetition::REQUIRED)?);
        let list = Type::group_type_builder("list")
            .with_repetition(Repetition::REPEATED)
            .with_fields(vec![element])
            .build()?;
        let outer = Type::group_type_builder(&self.name)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(Some(LogicalType::List))
            .with_fields(vec![TypePtr::new(list)])
            .build()?;
        Ok(TypePtr::new(outer))
    }

    /// Bytes that it holds, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn level(&mut self, definition: i16, repetition: i16) {
        self.definitions.push(definition);
        self.bytes += 2;
        if self.is_list {
            self.repetitions.push(repetition);
            self.bytes += 2;
        }
    }

    pub(super) fn null(&mut self) {
        self.level(0, 0);
    }

    fn misfit(&mut self) {
        self.misfits += 1;
        self.null();
    }

    pub(super) fn text(&mut self, text: Option<&str>) {
        match (&mut self.values, text) {
            (_, None) => self.null(),
            (Values::Text(all), Some(text)) => {
                all.push(ByteArray::from(text.as_bytes().to_vec()));
                self.bytes += text.len() + size_of::<ByteArray>();
                self.level(VALUE, 0);
            }
            _ => self.misfit(),
        }
    }

    pub(super) fn int(&mut self, number: Option<i64>) {
        match (&mut self.values, number) {
            (_, None) => self.null(),
            (Values::Int(all), Some(number)) => {
                all.push(number);
                self.bytes += 8;
                self.level(VALUE, 0);
            }
            _ => self.misfit(),
        }
    }

    pub(super) fn number(&mut self, number: Option<f64>) {
        let Some(number) = number else { return self.null() };
        match &mut self.values {
            Values::Double(all) => all.push(number),
            Values::Float(all) => all.push(single(number)),
            _ => return self.misfit(),
        }
        self.bytes += 8;
        self.level(VALUE, 0);
    }

    pub(super) fn numbers(&mut self, numbers: &[f64]) {
        self.elements(numbers.iter(), |values, number| match values {
            Values::Double(all) => all.push(*number),
            Values::Float(all) => all.push(single(*number)),
            _ => {}
        });
    }

    pub(super) fn ints(&mut self, numbers: &[i64]) {
        self.elements(numbers.iter(), |values, number| {
            if let Values::Int(all) = values {
                all.push(*number);
            }
        });
    }

    /// Bytes that are no text are shown as far as they are.
    pub(super) fn texts<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.elements(texts, |values, text| {
            if let Values::Text(all) = values {
                all.push(ByteArray::from(String::from_utf8_lossy(text).into_owned().into_bytes()));
            }
        });
    }

    /// A list; its elements are of the column's kind, which whoever made the column knows.
    fn elements<T>(&mut self, elements: impl ExactSizeIterator<Item = T>, push: impl Fn(&mut Values, T)) {
        if elements.len() == 0 {
            return self.level(EMPTY_LIST, 0);
        }
        for (at, element) in elements.enumerate() {
            push(&mut self.values, element);
            self.bytes += 8;
            self.level(ELEMENT, i16::from(at > 0));
        }
    }

    /// A recorded value.
    pub(super) fn json(&mut self, value: Option<&Value>) {
        match (self.kind, value) {
            (_, None | Some(Value::Null)) => self.null(),
            (Kind::Text, Some(Value::String(text))) => self.text(Some(text)),
            (Kind::Text, Some(other)) => self.text(Some(&other.to_string())),
            (Kind::Int | Kind::Time, Some(value)) => match value.as_i64() {
                Some(number) => self.int(Some(number)),
                None => self.misfit(),
            },
            (Kind::Double | Kind::Float, Some(value)) => match value.as_f64() {
                Some(number) => self.number(Some(number)),
                None => self.misfit(),
            },
        }
    }

    /// Writes what has come, and begins anew.
    pub(super) fn write(&mut self, mut writer: SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = (
            self.definitions.as_slice(),
            self.is_list.then_some(self.repetitions.as_slice()),
        );
        match &self.values {
            Values::Text(all) => batch::<ByteArrayType>(&mut writer, all, levels)?,
            Values::Int(all) => batch::<Int64Type>(&mut writer, all, levels)?,
            Values::Double(all) => batch::<DoubleType>(&mut writer, all, levels)?,
            Values::Float(all) => batch::<FloatType>(&mut writer, all, levels)?,
        }
        writer.close()?;
        match &mut self.values {
            Values::Text(all) => all.clear(),
            Values::Int(all) => all.clear(),
            Values::Double(all) => all.clear(),
            Values::Float(all) => all.clear(),
        }
        self.definitions.clear();
        self.repetitions.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn batch<T: DataType>(
    writer: &mut SerializedColumnWriter<'_>,
    values: &[T::T],
    (definitions, repetitions): (&[i16], Option<&[i16]>),
) -> Result<(), ParquetError> {
    writer
        .typed::<T>()
        .write_batch(values, Some(definitions), repetitions)?;
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "it was recorded from a single")]
fn single(x: f64) -> f32 {
    x as f32
}
