//! One row's inputs as they are recorded: named features as JSON, tensors as the runner's wire form.

use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, ValueRef};

use super::book::Hashed;
use crate::batch::{Batch, Cell, Feature, Presence, Rows, Schema};
use crate::id::IdKey;
use crate::model::tensor::Datatype;

/// Writes rows of one schema, one after the other, into one buffer.
#[derive(Debug, Default)]
pub(super) struct Columns {
    schema: Option<Arc<Schema>>,
    dropped: Vec<String>,
    hashed_names: Vec<String>,
    /// The features that are recorded.
    columns: Vec<Column>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Column {
    feature: u32,
    /// `,"name":`
    key: Vec<u8>,
    /// Every version takes it in single precision.
    is_single: bool,
    /// Only a hash of it is recorded.
    is_hashed: bool,
}

impl Columns {
    /// Row `row` of the batch, without the features in `dropped`.
    pub(super) fn encode(
        &mut self,
        batch: &Batch,
        row: usize,
        dropped: &[String],
        hashed: Option<&Hashed>,
    ) -> ToSqlOutput<'_> {
        self.buffer.clear();
        match batch {
            Batch::Features(rows) => {
                self.follow(rows.schema(), dropped, hashed);
                self.features(rows, row, hashed.map(|hashed| &hashed.key));
                ToSqlOutput::Borrowed(ValueRef::Text(&self.buffer))
            }
            Batch::Tensors { inputs, rows } => {
                for tensor in inputs {
                    let part = if *rows > 1 {
                        tensor.slice_rows(row, row + 1)
                    } else {
                        None
                    };
                    let part = std::slice::from_ref(part.as_ref().unwrap_or(tensor));
                    crate::arena::wire::encode_tensors(&mut self.buffer, part);
                }
                ToSqlOutput::Borrowed(ValueRef::Blob(&self.buffer))
            }
        }
    }

    fn follow(&mut self, schema: &Arc<Schema>, dropped: &[String], hashed: Option<&Hashed>) {
        let names = hashed.map_or(&[][..], |hashed| &hashed.names);
        let is_known = self.schema.as_ref().is_some_and(|known| Arc::ptr_eq(known, schema));
        if is_known && self.dropped == dropped && self.hashed_names == names {
            return;
        }
        let column = |(number, feature): (u32, &Feature)| {
            let mut key = vec![b','];
            key.extend(serde_json::to_vec(&feature.name).unwrap_or_default());
            key.push(b':');
            (!dropped.contains(&feature.name)).then(|| Column {
                feature: number,
                key,
                is_single: feature.datatype == Datatype::Fp32,
                is_hashed: names.contains(&feature.name),
            })
        };
        self.columns = (0_u32..).zip(schema.features()).filter_map(column).collect();
        self.hashed_names = names.to_vec();
        self.schema = Some(Arc::clone(schema));
        self.dropped = dropped.to_vec();
    }

    fn features(&mut self, rows: &Rows, row: usize, key_of_hashes: Option<&IdKey>) {
        let is_table = rows.as_table().is_some_and(|table| table.datatype() == Datatype::Fp32);
        let buffer = &mut self.buffer;
        for column in &self.columns {
            let cell = rows.get(row, column.feature);
            if cell.is_none() && rows.presence(row, column.feature) == Presence::Absent {
                continue;
            }
            buffer.extend_from_slice(&column.key);
            let from = buffer.len();
            // Writing to memory does not fail.
            let _ = match cell {
                // With the digits that make it the same single again, not the double's, of which half say nothing.
                Some(Cell::Float(x))
                    if (is_table || column.is_single) && f64::from(single(x)).to_bits() == x.to_bits() =>
                {
                    serde_json::to_writer(&mut *buffer, &single(x))
                }
                Some(Cell::Float(x)) => serde_json::to_writer(&mut *buffer, &x),
                Some(Cell::Int(x)) => serde_json::to_writer(&mut *buffer, &x),
                Some(Cell::Text(x)) => serde_json::to_writer(&mut *buffer, x),
                None => serde_json::to_writer(&mut *buffer, &()),
            };
            if let (true, Some(key)) = (column.is_hashed, key_of_hashes) {
                let stands_for_it = key.pseudonym(buffer.get(from..).unwrap_or_default());
                buffer.truncate(from);
                let _ = serde_json::to_writer(&mut *buffer, &stands_for_it);
            }
        }
        // In place of the first comma.
        match buffer.first_mut() {
            Some(first) => *first = b'{',
            None => buffer.push(b'{'),
        }
        buffer.push(b'}');
    }
}

/// The value of a cell of single precision.
#[expect(clippy::cast_possible_truncation, reason = "it was one before")]
fn single(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tensor::{Data, Tensor};

    #[test]
    fn a_table_of_singles_is_recorded_with_their_own_digits() {
        let feature = |name: &str| Feature {
            name: name.into(),
            datatype: Datatype::Fp32,
        };
        let schema = Arc::new(Schema::new([feature("a"), feature("b")]));
        let tensor = Tensor::new(vec![1, 2], Data::Fp32(vec![0.1, f32::INFINITY])).unwrap();
        let batch = Batch::Features(Rows::table(schema, tensor).unwrap());
        assert_eq!(
            text(&Columns::default().encode(&batch, 0, &[], None)),
            "{\"a\":0.1,\"b\":null}"
        );
    }

    #[test]
    fn a_single_is_recorded_with_its_own_digits_and_a_double_with_all_of_its() {
        let feature = |name: &str, datatype| Feature {
            name: name.into(),
            datatype,
        };
        let schema = Schema::new([feature("single", Datatype::Fp32), feature("double", Datatype::Fp64)]);
        let mut rows = Rows::new(Arc::new(schema), 2);
        let x = f64::from(0.1_f32);
        for (row, value) in [(0, x), (1, 0.1)] {
            assert!(rows.set(row, 0, Cell::Float(value)) && rows.set(row, 1, Cell::Float(value)));
        }
        let (batch, mut columns) = (Batch::Features(rows), Columns::default());
        let first = text(&columns.encode(&batch, 0, &[], None));
        assert_eq!(first, "{\"single\":0.1,\"double\":0.10000000149011612}");
        let as_sent = text(&columns.encode(&batch, 1, &[], None));
        assert_eq!(as_sent, "{\"single\":0.1,\"double\":0.1}");
    }

    fn text(output: &ToSqlOutput<'_>) -> String {
        match output {
            ToSqlOutput::Borrowed(ValueRef::Text(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
            _ => panic!("not text"),
        }
    }

    #[test]
    fn features_are_recorded_as_they_were_sent() {
        let feature = |name: &str, datatype| Feature {
            name: name.into(),
            datatype,
        };
        let schema = Arc::new(Schema::new([
            feature("x", Datatype::Fp64),
            feature("na\"me", Datatype::Bytes),
            feature("n", Datatype::Int64),
            feature("secret", Datatype::Fp32),
        ]));
        let mut rows = Rows::new(schema, 3);
        assert!(rows.set(0, 0, Cell::Float(0.1)) && rows.set(0, 1, Cell::Text("a\n\u{e9}")));
        assert!(rows.set(0, 2, Cell::Int(i64::MIN)) && rows.set(0, 3, Cell::Float(7.0)));
        assert!(rows.set(2, 0, Cell::Float(f64::NAN)) && rows.set(2, 2, Cell::Int(1)));
        rows.set_missing(1, 0);
        let batch = Batch::Features(rows);
        let mut columns = Columns::default();
        let dropped = ["secret".to_owned()];
        let first = text(&columns.encode(&batch, 0, &dropped, None));
        assert_eq!(
            first,
            "{\"x\":0.1,\"na\\\"me\":\"a\\n\u{e9}\",\"n\":-9223372036854775808}"
        );
        assert_eq!(text(&columns.encode(&batch, 1, &dropped, None)), "{\"x\":null}");
        assert_eq!(text(&columns.encode(&batch, 2, &dropped, None)), "{\"x\":null,\"n\":1}");
        let kept = text(&columns.encode(&batch, 0, &[], None));
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(kept["secret"], 7.0, "the list has changed, the columns follow");
    }

    #[test]
    fn a_row_of_tensors_is_recorded_alone() {
        let tensor = Tensor::new(vec![2, 1], Data::Int64(vec![5, 6])).unwrap();
        let one = Tensor::new(vec![1, 1], Data::Int64(vec![6])).unwrap();
        let batch = Batch::Tensors {
            inputs: vec![tensor],
            rows: 2,
        };
        let mut expected = Vec::new();
        crate::arena::wire::encode_tensors(&mut expected, &[one]);
        let mut columns = Columns::default();
        let ToSqlOutput::Borrowed(ValueRef::Blob(bytes)) = columns.encode(&batch, 1, &[], None) else {
            panic!("not bytes")
        };
        assert_eq!(bytes, expected);
    }
}
