//! The shipped stream: its manifest, its rows and where its files lie.
//!
//! Always holds: every row has a value in every column, and a label; the manifest's models are in order of arrival.
//! Leaves to others: when a row is sent (`replay`) and what the models make of it (`table`).

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Facts about the stream and its models.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    /// Name of the stream, and of the model that is served.
    pub stream: String,
    /// The rows' file.
    pub file: String,
    /// Name of the label's column.
    pub label: String,
    /// Columns with numbers.
    pub numeric: Vec<String>,
    /// Columns with text.
    pub strings: Vec<String>,
    /// A label is known this many rows later.
    pub label_delay_rows: usize,
    /// First row that is served.
    pub serve_from: usize,
    /// The model that is served first.
    pub first_champion: String,
    /// Length of the oracle's windows.
    pub window_rows: usize,
    /// Probabilities are kept this far from 0 and 1 before the logarithm.
    pub log_loss_clip: f64,
    /// The models.
    pub models: Vec<Model>,
    /// Files that must be refused.
    pub rejects: Vec<Reject>,
}

/// One model of the stream.
#[derive(Debug, Clone, Deserialize)]
pub struct Model {
    /// Name, and name of its version when it is served.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Columns in the order of its single tensor, or one input each.
    pub features: Vec<String>,
    /// Name of the single tensor; absent when every column is an input.
    pub tensor_input: Option<String>,
    /// The row from which it exists.
    pub available_from: usize,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Names of its outputs.
    pub outputs: Outputs,
}

/// Names of a model's outputs.
#[derive(Debug, Clone, Deserialize)]
pub struct Outputs {
    /// The output with a probability per class.
    pub probabilities: String,
}

/// One file that must be refused.
#[derive(Debug, Clone, Deserialize)]
pub struct Reject {
    /// Its name.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
}

/// One column's values.
#[derive(Debug, Clone)]
pub enum Column {
    /// Numbers.
    Numbers(Vec<f64>),
    /// Text.
    Texts(Vec<String>),
}

/// The stream in memory.
#[derive(Debug)]
pub struct Stream {
    /// Facts.
    pub manifest: Manifest,
    /// The served directory as it is shipped.
    pub root: PathBuf,
    columns: Vec<(String, Column)>,
    labels: Vec<bool>,
}

impl Stream {
    /// Reads the stream below the shipped directory of the model.
    ///
    /// # Errors
    /// Names the file and the line that is not as it should be.
    pub fn read(root: &Path) -> Result<Self, String> {
        let folder = root.join("stream");
        let text = read_text(&folder.join("manifest.json"))?;
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|e| format!("{}: {e}", folder.join("manifest.json").display()))?;
        let path = folder.join(&manifest.file);
        let (columns, labels) =
            read_rows(&read_text(&path)?, &manifest).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self {
            manifest,
            root: root.to_owned(),
            columns,
            labels,
        })
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True when there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The labels in order.
    #[must_use]
    pub fn labels(&self) -> &[bool] {
        &self.labels
    }

    /// A column by name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|(n, _)| n == name).map(|(_, column)| column)
    }

    /// Number of the model of this name.
    #[must_use]
    pub fn model_number(&self, name: &str) -> Option<usize> {
        self.manifest.models.iter().position(|m| m.name == name)
    }

    /// Where a model's file is shipped: the first champion beside its settings, the others apart.
    #[must_use]
    pub fn model_path(&self, model: &Model) -> PathBuf {
        if model.name == self.manifest.first_champion {
            self.root.join(&model.file)
        } else {
            self.root.join("stream").join("later").join(&model.file)
        }
    }

    /// Where a file that must be refused is shipped.
    #[must_use]
    pub fn reject_path(&self, reject: &Reject) -> PathBuf {
        self.root.join("stream").join("rejects").join(&reject.file)
    }

    /// One row as clients send it.
    #[must_use]
    pub fn instance(&self, row: usize) -> Instance<'_> {
        Instance { stream: self, row }
    }
}

/// A row that writes itself as a JSON object of its columns.
#[derive(Debug, Clone, Copy)]
pub struct Instance<'a> {
    stream: &'a Stream,
    row: usize,
}

impl Serialize for Instance<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.stream.columns.len()))?;
        for (name, column) in &self.stream.columns {
            match column {
                Column::Numbers(values) => map.serialize_entry(name, &values.get(self.row))?,
                Column::Texts(values) => map.serialize_entry(name, &values.get(self.row))?,
            }
        }
        map.end()
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

type Table = (Vec<(String, Column)>, Vec<bool>);

/// Reads comma-separated rows below a line of names; no cell of the stream is quoted.
fn read_rows(text: &str, manifest: &Manifest) -> Result<Table, String> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let (mut columns, mut labels) = (Vec::new(), Vec::new());
    for name in &names {
        let column = if manifest.strings.iter().any(|s| s == name) {
            Column::Texts(Vec::new())
        } else {
            Column::Numbers(Vec::new())
        };
        columns.push(((*name).to_owned(), column));
    }
    for (number, line) in lines.enumerate() {
        let wrong = |what: &str| format!("line {}: {what}", number + 2);
        let mut cells = line.split(',');
        for (name, column) in &mut columns {
            let cell = cells.next().ok_or_else(|| wrong("too few cells"))?;
            match column {
                Column::Texts(values) => values.push(cell.to_owned()),
                Column::Numbers(values) => {
                    let value: f64 = cell
                        .parse()
                        .map_err(|_| wrong(&format!("{name} '{cell}' is no number")))?;
                    values.push(value);
                    if *name == manifest.label {
                        labels.push(value > 0.5);
                    }
                }
            }
        }
    }
    columns.retain(|(name, _)| *name != manifest.label);
    let known = |name: &String| columns.iter().any(|(n, _)| n == name);
    match manifest.numeric.iter().chain(&manifest.strings).find(|n| !known(n)) {
        Some(missing) => Err(format!("there is no column '{missing}'")),
        None if labels.is_empty() => Err(format!("there is no row, or no column '{}'", manifest.label)),
        None => Ok((columns, labels)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    pub(crate) fn shipped() -> Stream {
        Stream::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/elec2")).unwrap()
    }

    #[test]
    fn the_shipped_stream_is_whole() {
        let stream = shipped();
        assert_eq!((stream.len(), stream.manifest.models.len()), (45_312, 12));
        assert!(stream.manifest.models.is_sorted_by_key(|m| m.available_from));
        let ups = stream.labels().iter().filter(|&&up| up).count();
        assert_eq!(ups, 19_237);
        let first = serde_json::to_value(stream.instance(0)).unwrap();
        assert_eq!(first["nswprice"], 0.056443);
        assert_eq!((first["day"].as_str(), first.get("label")), (Some("2"), None));
    }

    #[test]
    fn the_shipped_files_are_those_of_the_manifest() {
        let stream = shipped();
        for model in &stream.manifest.models {
            let digest = Sha256::digest(std::fs::read(stream.model_path(model)).unwrap());
            let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, model.sha256, "{}", model.file);
        }
        for reject in &stream.manifest.rejects {
            assert!(stream.reject_path(reject).is_file(), "{}", reject.file);
        }
    }

    #[test]
    fn a_cell_that_is_no_number_is_named_with_its_line() {
        let manifest = shipped().manifest;
        let text = "period,day,label\n0.5,2,1\nhalf,2,0\n";
        assert_eq!(
            read_rows(text, &manifest).unwrap_err(),
            "line 3: period 'half' is no number"
        );
    }
}
