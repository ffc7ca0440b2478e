//! Rows of a file: comma-separated text, or Parquet.
//!
//! Always holds: only the columns that are asked for are kept; every column has a value, or none, in every row; a cell
//! that does not fit is named with its row and column.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use crate::batch::{Batch, Cell, Rows, Schema};
use crate::model::tensor::Datatype;

/// Rows of one batch.
const TOGETHER: usize = 4_096;

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text; whatever stands in a file of text.
    Text(Box<str>),
    /// A moment, Unix ms.
    Time(i64),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Table {
    /// Every name in the file, kept or not.
    pub names: Vec<String>,
    columns: HashMap<String, Vec<Value>>,
    rows: usize,
}

impl Table {
    /// Reads a file, keeping the columns that are `wanted`. Its name says what it is: `.parquet` or `.pq`, else text.
    ///
    /// # Errors
    /// What is wrong, with the place.
    pub fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Self, String> {
        let read = if is_parquet(path) {
            parquet(path, wanted)
        } else {
            text(path, wanted)
        };
        let table = read.map_err(|why| format!("{}: {why}", path.display()))?;
        if table.rows == 0 {
            return Err(format!("{}: there is no row", path.display()));
        }
        Ok(table)
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True when there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// A kept column.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&[Value]> {
        self.columns.get(name).map(Vec::as_slice)
    }

    /// The rows from `first` on as a request would bring them. An empty cell is `missing` where the model takes that, and
    /// not covered otherwise.
    ///
    /// # Errors
    /// A cell that is no value of its feature's type.
    pub fn batches(&self, schema: &Arc<Schema>, first: usize, takes_missing: bool) -> Result<Vec<Arc<Batch>>, String> {
        let mut batches = Vec::new();
        for start in (first..self.rows).step_by(TOGETHER) {
            let count = TOGETHER.min(self.rows - start);
            let mut rows = Rows::new(Arc::clone(schema), count);
            for (number, feature) in (0_u32..).zip(schema.features()) {
                let Some(column) = self.columns.get(&feature.name) else {
                    continue;
                };
                for (row, value) in column.iter().skip(start).take(count).enumerate() {
                    match cell(value, feature.datatype) {
                        Some(Some(cell)) => drop(rows.set(row, number, cell.borrow())),
                        Some(None) if takes_missing => rows.set_missing(row, number),
                        Some(None) => {}
                        None => {
                            let (row, name) = (start + row + 1, &feature.name);
                            return Err(format!(
                                "row {row}, column '{name}': {value:?} is no {}",
                                feature.datatype
                            ));
                        }
                    }
                }
            }
            batches.push(Arc::new(Batch::Features(rows)));
        }
        Ok(batches)
    }
}

/// Names of a file's columns.
///
/// # Errors
/// What is wrong with the file.
pub fn names(path: &Path) -> Result<Vec<String>, String> {
    let read = if is_parquet(path) {
        open(path).map(|reader| field_names(&reader))
    } else {
        csv::Reader::from_path(path)
            .and_then(|mut reader| reader.headers().cloned())
            .map(|names| names.iter().map(str::to_owned).collect())
            .map_err(|e| e.to_string())
    };
    read.map_err(|why| format!("{}: {why}", path.display()))
}

fn is_parquet(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    ["parquet", "pq"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

fn open(path: &Path) -> Result<SerializedFileReader<std::fs::File>, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    SerializedFileReader::new(file).map_err(|e| e.to_string())
}

fn field_names(reader: &SerializedFileReader<std::fs::File>) -> Vec<String> {
    let fields = reader.metadata().file_metadata().schema().get_fields();
    fields.iter().map(|field| field.name().to_owned()).collect()
}

/// A cell that may have been made up from another.
enum Own<'a> {
    Cell(Cell<'a>),
    Text(String),
}

impl Own<'_> {
    fn borrow(&self) -> Cell<'_> {
        match self {
            Self::Cell(cell) => *cell,
            Self::Text(text) => Cell::Text(text),
        }
    }
}

/// Outer `None`: it does not fit. Inner `None`: there is nothing.
#[expect(clippy::option_option, reason = "two different absences, both private to this file")]
fn cell(value: &Value, datatype: Datatype) -> Option<Option<Own<'_>>> {
    let float = |x: f64| Some(Some(Own::Cell(Cell::Float(x))));
    let int = |x: i64| Some(Some(Own::Cell(Cell::Int(x))));
    match (datatype, value) {
        (_, Value::Null) => Some(None),
        (Datatype::Bytes, Value::Text(text)) => Some(Some(Own::Cell(Cell::Text(text)))),
        (_, Value::Text(text)) if text.trim().is_empty() => Some(None),
        (Datatype::Bytes, Value::Int(x) | Value::Time(x)) => Some(Some(Own::Text(x.to_string()))),
        (Datatype::Bytes, Value::Float(x)) => Some(Some(Own::Text(x.to_string()))),
        (Datatype::Bytes, Value::Bool(x)) => Some(Some(Own::Text(x.to_string()))),
        (Datatype::Int64, Value::Int(x) | Value::Time(x)) => int(*x),
        (Datatype::Int64, Value::Bool(x)) => int(i64::from(*x)),
        (Datatype::Int64, Value::Float(x)) => whole(*x).and_then(int),
        (Datatype::Int64, Value::Text(text)) => {
            let text = text.trim();
            let parsed = text.parse().ok().or_else(|| text.parse().ok().and_then(whole));
            parsed.and_then(int)
        }
        (_, Value::Int(x) | Value::Time(x)) => float(*x as f64),
        (_, Value::Float(x)) => float(*x),
        (_, Value::Bool(x)) => float(f64::from(u8::from(*x))),
        (_, Value::Text(text)) => text.trim().parse().ok().and_then(float),
    }
}

fn whole(x: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    (x.fract().abs().to_bits() == 0 && x.abs() < 9e15).then_some(x as i64)
}

impl Value {
    /// As the label that a client would send; `None` where there is none.
    #[must_use]
    pub fn label(&self) -> Option<serde_json::Value> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(x) => (*x).into(),
            Self::Int(x) | Self::Time(x) => (*x).into(),
            Self::Float(x) if x.is_nan() => return None,
            Self::Float(x) => (*x).into(),
            Self::Text(text) => match text.trim() {
                "" => return None,
                "true" | "True" | "TRUE" => true.into(),
                "false" | "False" | "FALSE" => false.into(),
                word => match (word.parse::<i64>(), word.parse::<f64>()) {
                    (Ok(x), _) => x.into(),
                    (_, Ok(x)) if x.is_finite() => x.into(),
                    _ => word.into(),
                },
            },
        })
    }

    /// As a moment: Unix seconds or milliseconds, or a date and time.
    #[must_use]
    pub fn time_ms(&self) -> Option<i64> {
        let of = |x: i64| {
            if x.abs() < 100_000_000_000 {
                x.saturating_mul(1_000)
            } else {
                x
            }
        };
        match self {
            Self::Time(ms) => Some(*ms),
            Self::Int(x) => Some(of(*x)),
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds are enough")]
            Self::Float(x) if x.is_finite() => Some(if x.abs() < 1e11 { (x * 1e3) as i64 } else { *x as i64 }),
            Self::Text(text) => match text.trim().parse::<f64>() {
                Ok(x) => Self::Float(x).time_ms(),
                Err(_) => crate::time::parse_rfc3339(text),
            },
            _ => None,
        }
    }

    /// As a number.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match cell(self, Datatype::Fp64)?? {
            Own::Cell(Cell::Float(x)) => Some(x),
            _ => None,
        }
    }
}

fn text(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Table, String> {
    let mut reader = csv::ReaderBuilder::new().from_path(path).map_err(|e| e.to_string())?;
    let names: Vec<String> = reader
        .headers()
        .map_err(|e| e.to_string())?
        .iter()
        .map(str::to_owned)
        .collect();
    let kept: Vec<bool> = names.iter().map(|name| wanted(name)).collect();
    let mut columns: Vec<Vec<Value>> = vec![Vec::new(); names.len()];
    let mut rows = 0;
    for record in reader.records() {
        let record = record.map_err(|e| e.to_string())?;
        for ((cell, column), kept) in record.iter().zip(&mut columns).zip(&kept) {
            if *kept {
                column.push(Value::Text(cell.into()));
            }
        }
        rows += 1;
    }
    Ok(assembled(names, columns, &kept, rows))
}

fn parquet(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Table, String> {
    let reader = open(path)?;
    let names = field_names(&reader);
    let kept: Vec<bool> = names.iter().map(|name| wanted(name)).collect();
    let mut columns: Vec<Vec<Value>> = vec![Vec::new(); names.len()];
    let mut rows = 0;
    for row in reader.get_row_iter(None).map_err(|e| e.to_string())? {
        let row = row.map_err(|e| e.to_string())?;
        for (((name, field), column), kept) in row.into_columns().into_iter().zip(&mut columns).zip(&kept) {
            if *kept {
                column.push(value(field).map_err(|why| format!("row {}, column '{name}': {why}", rows + 1))?);
            }
        }
        rows += 1;
    }
    Ok(assembled(names, columns, &kept, rows))
}

fn assembled(names: Vec<String>, columns: Vec<Vec<Value>>, kept: &[bool], rows: usize) -> Table {
    let columns = names.iter().zip(columns).zip(kept).filter(|(_, kept)| **kept);
    Table {
        columns: columns.map(|((name, column), _)| (name.clone(), column)).collect(),
        names,
        rows,
    }
}

fn value(field: Field) -> Result<Value, String> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(x) => Value::Bool(x),
        Field::Byte(x) => Value::Int(x.into()),
        Field::Short(x) => Value::Int(x.into()),
        Field::Int(x) => Value::Int(x.into()),
        Field::Long(x) => Value::Int(x),
        Field::UByte(x) => Value::Int(x.into()),
        Field::UShort(x) => Value::Int(x.into()),
        Field::UInt(x) => Value::Int(x.into()),
        Field::ULong(x) => Value::Int(i64::try_from(x).map_err(|_| format!("{x} is too large"))?),
        Field::Float16(x) => Value::Float(x.to_f64()),
        Field::Float(x) => Value::Float(x.into()),
        Field::Double(x) => Value::Float(x),
        Field::Str(x) => Value::Text(x.into()),
        Field::Date(days) => Value::Time(i64::from(days) * 86_400_000),
        Field::TimestampMillis(ms) => Value::Time(ms),
        Field::TimestampMicros(us) => Value::Time(us.div_euclid(1_000)),
        decimal @ Field::Decimal(_) => Value::Text(decimal.to_string().into()),
        _ => return Err("neither a number, nor text, nor a moment: give it another column".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Feature, Presence};

    fn schema() -> Arc<Schema> {
        let feature = |name: &str, datatype| Feature {
            name: name.into(),
            datatype,
        };
        Arc::new(Schema::new([
            feature("x", Datatype::Fp32),
            feature("n", Datatype::Int64),
            feature("day", Datatype::Bytes),
            feature("nowhere", Datatype::Fp32),
        ]))
    }

    fn read(name: &str, bytes: &[u8]) -> Result<Table, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Table::read(&path, |name| name != "unused")
    }

    fn check(table: &Table) {
        let batches = table.batches(&schema(), 0, false).unwrap();
        let Batch::Features(rows) = &*batches[0] else {
            panic!("features")
        };
        assert_eq!(
            (rows.len(), rows.get(0, 0), rows.get(0, 1)),
            (2, Some(Cell::Float(0.5)), Some(Cell::Int(3)))
        );
        assert_eq!(
            (rows.get(0, 2), rows.get(1, 2)),
            (Some(Cell::Text("2")), Some(Cell::Text("7")))
        );
        assert_eq!(
            (rows.presence(1, 0), rows.presence(0, 3)),
            (Presence::Absent, Presence::Absent)
        );
        let labels: Vec<_> = table.column("label").unwrap().iter().map(Value::label).collect();
        assert_eq!(labels, [Some(1.into()), None]);
        let times: Vec<_> = table.column("at").unwrap().iter().map(Value::time_ms).collect();
        assert_eq!(times, [Some(86_400_000), Some(90_000_000)]);
        assert!(table.column("unused").is_none() && table.names.contains(&"unused".to_owned()));
    }

    #[test]
    fn text_reads_as_the_models_want_it() {
        let rows = "x,n,day,label,at,unused\n0.5,3,2,1,1970-01-02,a\n,4,7,,1970-01-02T01:00:00Z,b\n";
        let table = read("past.csv", rows.as_bytes()).unwrap();
        check(&table);
        let wrong = read("past.csv", rows.replace("0.5", "half").as_bytes()).unwrap();
        let why = wrong.batches(&schema(), 0, false).unwrap_err();
        assert!(why.contains("row 1, column 'x'") && why.contains("half"), "{why}");
        for (bytes, says) in [("", "no row"), ("a,b\n", "no row"), ("a,b\n1\n", "record 1")] {
            let why = read("past.csv", bytes.as_bytes()).unwrap_err();
            assert!(why.contains(says) || why.contains("fields"), "{why}");
        }
    }

    #[test]
    fn parquet_reads_as_text_does() {
        use parquet::basic::Compression;
        use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
        use parquet::file::properties::WriterProperties;
        use parquet::file::writer::SerializedFileWriter;
        let message =
            "message m { optional double x; optional int64 n; optional binary day (utf8); optional int64 label;
            optional int64 at (timestamp_millis); optional binary unused (utf8); }";
        let shape = Arc::new(parquet::schema::parser::parse_message_type(message).unwrap());
        for compression in [
            Compression::SNAPPY,
            Compression::ZSTD(parquet::basic::ZstdLevel::default()),
        ] {
            let properties = WriterProperties::builder().set_compression(compression).build();
            let mut bytes = Vec::new();
            let mut writer = SerializedFileWriter::new(&mut bytes, Arc::clone(&shape), Arc::new(properties)).unwrap();
            let mut group = writer.next_row_group().unwrap();
            let (mut place, text) = (0, |words: [&str; 2]| words.map(ByteArray::from));
            while let Some(mut column) = group.next_column().unwrap() {
                match place {
                    0 => column.typed::<DoubleType>().write_batch(&[0.5], Some(&[1, 0]), None),
                    1 => column.typed::<Int64Type>().write_batch(&[3, 4], Some(&[1, 1]), None),
                    2 => column
                        .typed::<ByteArrayType>()
                        .write_batch(&text(["2", "7"]), Some(&[1, 1]), None),
                    3 => column.typed::<Int64Type>().write_batch(&[1], Some(&[1, 0]), None),
                    4 => column
                        .typed::<Int64Type>()
                        .write_batch(&[86_400_000, 90_000_000], Some(&[1, 1]), None),
                    _ => column
                        .typed::<ByteArrayType>()
                        .write_batch(&text(["a", "b"]), Some(&[1, 1]), None),
                }
                .unwrap();
                column.close().unwrap();
                place += 1;
            }
            group.close().unwrap();
            writer.close().unwrap();
            check(&read("past.parquet", &bytes).unwrap());
            let cut = &bytes[..bytes.len() / 2];
            assert!(read("past.parquet", cut).unwrap_err().contains("past.parquet"));
        }
    }
}
