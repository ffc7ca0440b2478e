//! What a version is compared with: a file beside it, or its first rows in service.
//!
//! Always holds: a file is read row by row, in bounded memory; what does not fit it is said, never guessed: columns that
//! are no features are left out by name, features that it lacks are named, and one without rows is refused.

use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde::{Deserialize, Serialize};

use super::feature::Known;
use super::sketch::Value;

/// Rows of a file that are read.
const ROWS: u64 = 5_000_000;
/// Names that are listed.
const LISTED: usize = 20;

/// Where a baseline comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The file of this name.
    File(String),
    /// The version's first rows in service.
    FirstRows,
}

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Baseline {
    /// Where it comes from.
    pub source: Source,
    /// Rows in it.
    pub rows: u64,
    /// Rows that make it complete; 0: it is.
    pub wanted: u64,
    /// What is to be said of it.
    pub notes: Vec<String>,
    /// Its features.
    pub features: Vec<Known>,
}

/// A feature as the interface knows it: its name, and whether it takes texts.
pub type Column = (String, bool);

/// The file of a version's baseline, if there is one.
#[must_use]
pub fn file_of(directory: &Path, version: &str) -> Option<PathBuf> {
    let candidate = |extension: &str| directory.join(format!("{version}.baseline.{extension}"));
    ["parquet", "csv"]
        .into_iter()
        .map(candidate)
        .find(|path| path.is_file())
}

impl Baseline {
    /// The first `wanted` rows in service, still to come.
    #[must_use]
    pub fn to_learn(wanted: u64, notes: Vec<String>) -> Self {
        Self {
            source: Source::FirstRows,
            rows: 0,
            wanted: wanted.max(1),
            notes,
            features: Vec::new(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, and what to change.
    pub fn read(path: &Path, columns: &[Column]) -> Result<Self, String> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_text = name.ends_with(".csv");
        let read = if is_text {
            text(path, columns)
        } else {
            parquet(path, columns)
        };
        let (features, rows, ignored) = read.map_err(|why| format!("{name}: {why}"))?;
        if rows == 0 {
            return Err(format!("{name}: there is no row"));
        }
        let lacking: Vec<&str> = columns
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !features.iter().any(|feature| feature.name == *name))
            .collect();
        if features.is_empty() {
            let wanted = listed(&lacking);
            return Err(format!(
                "{name}: no column is named like a feature; the features are {wanted}"
            ));
        }
        let mut notes = Vec::new();
        if !lacking.is_empty() {
            notes.push(format!(
                "{name} has no column for {}: these have no baseline",
                listed(&lacking)
            ));
        }
        if !ignored.is_empty() {
            let ignored: Vec<&str> = ignored.iter().map(String::as_str).collect();
            notes.push(format!(
                "{name}: columns that are no features are left out: {}",
                listed(&ignored)
            ));
        }
        if rows >= ROWS {
            notes.push(format!("{name}: only the first {ROWS} rows were read"));
        }
        for feature in &features {
            if let (numbers @ 1.., texts @ 1..) = feature.profile.kinds() {
                notes.push(format!(
                    "{name}: column '{}' has {numbers} numbers and {texts} texts",
                    feature.name
                ));
            }
            let infinite = feature.profile.numbers.as_ref().map_or(0, |numbers| numbers.infinite);
            if infinite > 0 {
                notes.push(format!(
                    "{name}: column '{}' has {infinite} infinite values",
                    feature.name
                ));
            }
        }
        notes.truncate(LISTED);
        let mut baseline = Self {
            source: Source::File(name.to_owned()),
            rows,
            wanted: 0,
            notes,
            features,
        };
        baseline.settle();
        Ok(baseline)
    }

    /// True once it is complete.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.wanted == 0
    }

    /// It is complete.
    pub fn settle(&mut self) {
        self.wanted = 0;
        self.features.iter_mut().for_each(Known::settle);
    }
}

fn listed(names: &[&str]) -> String {
    let mut text = names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(" and {} more", names.len() - LISTED));
    }
    text
}

type Read = (Vec<Known>, u64, Vec<String>);

/// Where a column's feature is, and whether it takes texts; `None` for a column that is no feature.
type Place = Option<(usize, bool)>;

/// The features among the columns: the place of each column, the features, and the names of the other columns.
fn places(names: &[String], columns: &[Column]) -> (Vec<Place>, Vec<Known>, Vec<String>) {
    let (mut features, mut ignored) = (Vec::new(), Vec::new());
    let mut place = |name: &String| {
        let Some((_, is_text)) = columns.iter().find(|(known, _)| known == name) else {
            ignored.push(name.clone());
            return None;
        };
        features.push(Known::new(name));
        Some((features.len() - 1, *is_text))
    };
    let places = names.iter().map(&mut place).collect();
    (places, features, ignored)
}

fn text(path: &Path, columns: &[Column]) -> Result<Read, String> {
    let mut reader = csv::ReaderBuilder::new().from_path(path).map_err(|e| e.to_string())?;
    let names: Vec<String> = reader
        .headers()
        .map_err(|e| e.to_string())?
        .iter()
        .map(|name| name.trim().to_owned())
        .collect();
    let (places, mut features, ignored) = places(&names, columns);
    let (mut rows, mut record) = (0, csv::StringRecord::new());
    while rows < ROWS && reader.read_record(&mut record).map_err(|e| e.to_string())? {
        for (cell, place) in record.iter().zip(&places) {
            if let Some((at, is_text)) = place
                && let Some(feature) = features.get_mut(*at)
            {
                feature.add(cell_of(cell, *is_text));
            }
        }
        rows += 1;
    }
    Ok((features, rows, ignored))
}

fn cell_of(cell: &str, is_text: bool) -> Value<'_> {
    match (cell.trim(), is_text) {
        ("", _) => Value::Missing,
        (_, true) => Value::Text(cell),
        (word, false) => word.parse().map_or(Value::Text(word), Value::Number),
    }
}

fn parquet(path: &Path, columns: &[Column]) -> Result<Read, String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let reader = SerializedFileReader::new(file).map_err(|e| e.to_string())?;
    let fields = reader.metadata().file_metadata().schema().get_fields();
    let names: Vec<String> = fields.iter().map(|field| field.name().to_owned()).collect();
    let (places, mut features, ignored) = places(&names, columns);
    let mut rows = 0;
    for row in reader.get_row_iter(None).map_err(|e| e.to_string())? {
        let row = row.map_err(|e| e.to_string())?;
        for ((_, field), place) in row.get_column_iter().zip(&places) {
            if let Some((at, is_text)) = place
                && let Some(feature) = features.get_mut(*at)
            {
                add_field(feature, field, *is_text);
            }
        }
        rows += 1;
        if rows >= ROWS {
            break;
        }
    }
    Ok((features, rows, ignored))
}

fn add_field(feature: &mut Known, field: &Field, is_text: bool) {
    let number = match field {
        Field::Null => return feature.add(Value::Missing),
        Field::Str(text) => return feature.add(cell_of(text, is_text)),
        Field::Bool(x) => f64::from(u8::from(*x)),
        Field::Byte(x) => f64::from(*x),
        Field::Short(x) => f64::from(*x),
        Field::Int(x) => f64::from(*x),
        Field::Long(x) => *x as f64,
        Field::UByte(x) => f64::from(*x),
        Field::UShort(x) => f64::from(*x),
        Field::UInt(x) => f64::from(*x),
        Field::ULong(x) => *x as f64,
        Field::Float(x) => f64::from(*x),
        Field::Double(x) => *x,
        other => return feature.add(Value::Text(&other.to_string())),
    };
    if is_text {
        // As a client would have sent it.
        feature.add(Value::Text(&number.to_string()));
    } else {
        feature.add(Value::Number(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Baseline, String> {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("v.baseline.csv");
        std::fs::write(&path, text).unwrap();
        assert_eq!(file_of(dir.path(), "v"), Some(path.clone()));
        Baseline::read(&path, &[("x".into(), false), ("day".into(), true)])
    }

    #[test]
    fn what_does_not_fit_a_file_is_said() {
        assert!(read("").unwrap_err().contains("v.baseline.csv: there is no row"));
        assert!(read("x,day\n").unwrap_err().contains("there is no row"));
        assert!(read("a,b\n1,2\n").unwrap_err().contains("the features are x, day"));
        assert!(read("x,day\n1\n").unwrap_err().contains("v.baseline.csv: CSV"));
        let baseline = read("day,label,x\n2,1,0.5\n3,0,inf\n,1,oops\n").unwrap();
        assert!(baseline.is_settled() && baseline.rows == 3);
        let notes = baseline.notes.join("\n");
        for part in ["left out: label", "'x' has 1 numbers and 1 texts", "'x' has 1 infinite"] {
            assert!(notes.contains(part), "{notes}");
        }
        let day = &baseline.features[0].profile;
        assert_eq!((day.kinds(), day.missing), ((0, 2), 1));
        assert!(read("x\n1\n").unwrap().notes[0].contains("has no column for day"));
    }

    #[test]
    fn a_million_categories_are_read_in_bounded_memory() {
        let mut text = String::from("day\n");
        (0..200_000).for_each(|k| text.push_str(&format!("customer {k}\n")));
        let baseline = read(&text).unwrap();
        assert!(baseline.features[0].profile.bytes() < 32_768);
        let texts = baseline.features[0].profile.texts.as_ref().unwrap();
        assert!((texts.distinct() / 200_000.0 - 1.0).abs() < 0.15);
    }
}
