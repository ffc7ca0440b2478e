//! A request's rows, decoded: named features in one flat block, or named tensors.
//!
//! Always holds: a block's cells are row-major, `rows * schema.len()` of them, each with its presence; a schema
//! only grows at its end, so that the number of a feature means the same in every later schema of the model.
//! Leaves to others: where the bytes come from (`decode`) and how a version wants them laid out (`model::layout`).

mod carried;

use std::collections::HashMap;
use std::sync::Arc;

pub use carried::Carried;

use crate::model::tensor::{Data, Datatype, Tensor};

/// One named feature of a model's interface.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Feature {
    /// Name, as clients send it.
    pub name: String,
    /// `FP32`, `FP64`, `INT64` or `BYTES`.
    pub datatype: Datatype,
}

/// The known features of a model: the union over its loaded versions.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    features: Vec<Feature>,
    index: HashMap<String, u32>,
    carried: Arc<Carried>,
}

impl Schema {
    /// A schema of these features, in this order; of a name given twice the first counts.
    #[must_use]
    pub fn new(features: impl IntoIterator<Item = Feature>) -> Self {
        let mut schema = Self::default();
        for feature in features {
            schema.push(feature);
        }
        schema
    }

    /// The same schema, noting unknown features in `carried`.
    #[must_use]
    pub fn with_carried(self, carried: Arc<Carried>) -> Self {
        Self { carried, ..self }
    }

    /// Where features that rows carry and no version takes are noted.
    #[must_use]
    pub fn carried(&self) -> &Carried {
        &self.carried
    }

    /// Appends a feature unless its name is known; returns its number.
    pub fn push(&mut self, feature: Feature) -> u32 {
        if let Some(&known) = self.index.get(&feature.name) {
            return known;
        }
        let number = u32::try_from(self.features.len()).unwrap_or(u32::MAX);
        self.index.insert(feature.name.clone(), number);
        self.features.push(feature);
        number
    }

    /// Changes the datatype of a known feature (a version with wider numbers joined).
    pub fn set_datatype(&mut self, number: u32, datatype: Datatype) {
        if let Some(feature) = self.features.get_mut(number as usize) {
            feature.datatype = datatype;
        }
    }

    /// The features in order.
    #[must_use]
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Number of the feature of this name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        self.index.get(name).copied()
    }

    /// How many features there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// True when no feature is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }
}

/// Whether a cell holds a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The key was not sent: the row does not cover the feature.
    Absent,
    /// `null` was sent: missing, and the model takes missing values.
    Missing,
    /// A value.
    Present,
}

/// A value of one cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// `FP32` and `FP64` features.
    Float(f64),
    /// `INT64` features.
    Int(i64),
    /// `BYTES` features.
    Text(&'a str),
}

/// Rows of named features.
#[derive(Debug, Clone)]
pub struct Rows {
    schema: Arc<Schema>,
    rows: usize,
    cells: Cells,
}

/// Where the values stand.
#[derive(Debug, Clone)]
enum Cells {
    /// Each by itself.
    Single {
        /// Numbers as bits, text as `offset << 32 | length` into `text`.
        bits: Vec<u64>,
        presence: Vec<Presence>,
        text: String,
    },
    /// A tensor `[rows, columns]` as it came: its column k is feature k, and all of it is present.
    Table(Tensor),
}

impl Rows {
    /// `rows` rows of which nothing is present yet.
    #[must_use]
    pub fn new(schema: Arc<Schema>, rows: usize) -> Self {
        let cells = rows * schema.len();
        Self {
            schema,
            rows,
            cells: Cells::Single {
                bits: vec![0; cells],
                presence: vec![Presence::Absent; cells],
                text: String::new(),
            },
        }
    }

    /// The rows of a tensor of floats `[rows, columns]` whose column k is feature k, kept as it is: nothing is copied.
    ///
    /// # Errors
    /// The tensor again, where it is no such one, holds a NaN, or has another datatype than one of the features.
    pub fn table(schema: Arc<Schema>, tensor: Tensor) -> Result<Self, Tensor> {
        let is_whole = match tensor.data() {
            Data::Fp32(values) => !values.iter().any(|x| x.is_nan()),
            Data::Fp64(values) => !values.iter().any(|x| x.is_nan()),
            _ => false,
        };
        let datatype = tensor.datatype();
        let own = match *tensor.shape() {
            [_, columns] => schema.features().get(..columns),
            _ => None,
        };
        if !is_whole || !own.is_some_and(|own| own.iter().all(|f| f.datatype == datatype)) {
            return Err(tensor);
        }
        Ok(Self {
            schema,
            rows: tensor.rows(),
            cells: Cells::Table(tensor),
        })
    }

    /// The tensor of [`Rows::table`], where the rows came as one.
    #[must_use]
    pub fn as_table(&self) -> Option<&Tensor> {
        match &self.cells {
            Cells::Single { .. } => None,
            Cells::Table(tensor) => Some(tensor),
        }
    }

    /// Appends one row of absent cells and returns its number. A table takes none.
    pub fn push_row(&mut self) -> usize {
        if let Cells::Single { bits, presence, .. } = &mut self.cells {
            self.rows += 1;
            bits.resize(self.rows * self.schema.len(), 0);
            presence.resize(self.rows * self.schema.len(), Presence::Absent);
        }
        self.rows.saturating_sub(1)
    }

    /// The schema that the cells follow.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
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

    fn position(&self, row: usize, feature: u32) -> Option<usize> {
        let column = feature as usize;
        (row < self.rows && column < self.schema.len()).then(|| row * self.schema.len() + column)
    }

    /// Stores a value; the caller matches the cell's kind to the feature's datatype. False outside the block, in a
    /// table, or when the text buffer would pass 4 GiB.
    pub fn set(&mut self, row: usize, feature: u32, value: Cell<'_>) -> bool {
        let Some(at) = self.position(row, feature) else {
            return false;
        };
        let Cells::Single { bits, presence, text } = &mut self.cells else {
            return false;
        };
        let value = match value {
            Cell::Float(x) => x.to_bits(),
            Cell::Int(x) => x.cast_unsigned(),
            Cell::Text(word) => {
                let (Ok(offset), Ok(length)) = (u32::try_from(text.len()), u32::try_from(word.len())) else {
                    return false;
                };
                text.push_str(word);
                u64::from(offset) << 32 | u64::from(length)
            }
        };
        if let (Some(cell), Some(presence)) = (bits.get_mut(at), presence.get_mut(at)) {
            *cell = value;
            *presence = Presence::Present;
        }
        true
    }

    /// Marks a cell as sent without a value.
    pub fn set_missing(&mut self, row: usize, feature: u32) {
        let Some(at) = self.position(row, feature) else { return };
        if let Cells::Single { presence, .. } = &mut self.cells
            && let Some(presence) = presence.get_mut(at)
        {
            *presence = Presence::Missing;
        }
    }

    /// Whether the row holds a value of this feature; a feature newer than this block's schema is absent.
    #[must_use]
    pub fn presence(&self, row: usize, feature: u32) -> Presence {
        match &self.cells {
            Cells::Single { presence, .. } => self
                .position(row, feature)
                .and_then(|at| presence.get(at))
                .copied()
                .unwrap_or(Presence::Absent),
            Cells::Table(tensor) if row < self.rows && (feature as usize) < tensor.row_len() => Presence::Present,
            Cells::Table(_) => Presence::Absent,
        }
    }

    /// The value of a present cell.
    #[must_use]
    pub fn get(&self, row: usize, feature: u32) -> Option<Cell<'_>> {
        let (bits, text) = match &self.cells {
            Cells::Table(tensor) => {
                let column = Some(feature as usize).filter(|column| *column < tensor.row_len())?;
                return tensor.data().number(row * tensor.row_len() + column).map(Cell::Float);
            }
            Cells::Single { bits, presence, text } => {
                let at = self.position(row, feature)?;
                if *presence.get(at)? != Presence::Present {
                    return None;
                }
                (*bits.get(at)?, text)
            }
        };
        Some(match self.schema.features().get(feature as usize)?.datatype {
            Datatype::Int64 => Cell::Int(bits.cast_signed()),
            Datatype::Bytes => {
                let offset = (bits >> 32) as usize;
                let length = u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0) as usize;
                Cell::Text(text.get(offset..offset + length)?)
            }
            _ => Cell::Float(f64::from_bits(bits)),
        })
    }
}

/// The decoded rows of one request.
#[derive(Debug, Clone)]
pub enum Batch {
    /// The `features` interface.
    Features(Rows),
    /// The `tensors` interface: the interface's inputs in its order, and the number of rows (1 where the model is
    /// not batched).
    Tensors {
        /// One tensor per input of the interface.
        inputs: Vec<Tensor>,
        /// Rows in the request.
        rows: usize,
    },
}

impl Batch {
    /// How many rows the request has.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Features(rows) => rows.len(),
            Self::Tensors { rows, .. } => *rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_as_the_cells_that_it_holds_and_one_that_is_not_whole_is_none() {
        let feature = |name: &str, datatype| Feature {
            name: name.into(),
            datatype,
        };
        let schema = Arc::new(Schema::new(
            ["a", "b", "later"].map(|name| feature(name, Datatype::Fp32)),
        ));
        let tensor = |values: Vec<f32>| Tensor::new(vec![values.len() / 2, 2], Data::Fp32(values)).unwrap();
        let mut rows = Rows::table(Arc::clone(&schema), tensor(vec![1.0, 2.0, 3.0, 4.5])).unwrap();
        assert_eq!((rows.len(), rows.get(1, 1)), (2, Some(Cell::Float(4.5))));
        assert_eq!(rows.presence(1, 0), Presence::Present);
        for (row, column) in [(0, 2), (2, 0), (0, 9)] {
            assert_eq!(
                (rows.presence(row, column), rows.get(row, column)),
                (Presence::Absent, None)
            );
        }
        assert!(!rows.set(0, 2, Cell::Float(1.0)));
        assert!(Rows::table(Arc::clone(&schema), tensor(vec![1.0, f32::NAN])).is_err());
        let wide = Arc::new(Schema::new([
            feature("a", Datatype::Fp32),
            feature("b", Datatype::Fp64),
        ]));
        assert!(
            Rows::table(wide, tensor(vec![1.0, 2.0])).is_err(),
            "a column became wider"
        );
    }

    #[test]
    fn a_block_gives_back_what_was_stored_and_nothing_else() {
        let schema = Arc::new(Schema::new([
            Feature {
                name: "x".into(),
                datatype: Datatype::Fp32,
            },
            Feature {
                name: "n".into(),
                datatype: Datatype::Int64,
            },
            Feature {
                name: "day".into(),
                datatype: Datatype::Bytes,
            },
        ]));
        let mut rows = Rows::new(schema, 0);
        for i in 0..3 {
            assert_eq!(rows.push_row(), i);
        }
        assert!(rows.set(0, 0, Cell::Float(0.25)) && rows.set(1, 1, Cell::Int(i64::MIN)));
        assert!(rows.set(2, 2, Cell::Text("zwölf")) && rows.set(1, 2, Cell::Text("")));
        rows.set_missing(2, 0);
        assert_eq!(rows.get(0, 0), Some(Cell::Float(0.25)));
        assert_eq!(rows.get(1, 1), Some(Cell::Int(i64::MIN)));
        assert_eq!(
            (rows.get(2, 2), rows.get(1, 2)),
            (Some(Cell::Text("zwölf")), Some(Cell::Text("")))
        );
        assert_eq!(
            (rows.presence(2, 0), rows.presence(0, 1)),
            (Presence::Missing, Presence::Absent)
        );
        assert_eq!((rows.get(2, 0), rows.presence(0, 9)), (None, Presence::Absent));
        assert!(!rows.set(3, 0, Cell::Float(1.0)) && !rows.set(0, 3, Cell::Float(1.0)));
    }
}
