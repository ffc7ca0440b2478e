//! `inputs` by column: `{"period":[0.5,0.6]}` or `{"period":[[0.5],[0.6]]}`, every column of the same length.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Rules;
use super::json::stop;
use super::rows::{Key, Reader};
use super::value::{Scalar, Sink, Value};
use crate::batch::{Rows, Schema};
use crate::error::{Error, Kind};

/// Rows from the text of an `inputs` object whose keys are features.
///
/// # Errors
/// The first thing that does not fit, with its row, its feature and the remedy.
pub fn columns(raw: &str, schema: &Arc<Schema>, rules: Rules) -> Result<Rows, Error> {
    let mut reader = Reader::new(schema, &[], rules);
    let mut d = serde_json::Deserializer::from_str(raw);
    let done = Object(&mut reader).deserialize(&mut d).and_then(|()| d.end());
    reader.finish(done, "inputs")
}

/// The object of columns.
struct Object<'r, 'a>(&'r mut Reader<'a>);

impl<'de> DeserializeSeed<'de> for Object<'_, '_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list per feature")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut first = true;
        loop {
            self.0.row = 0;
            let Some(known) = map.next_key_seed(Key(self.0))? else {
                return Ok(());
            };
            if known {
                map.next_value_seed(Column { reader: self.0, first })?;
                first = false;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
    }
}

/// One column; the first one makes the rows.
struct Column<'r, 'a> {
    reader: &'r mut Reader<'a>,
    first: bool,
}

impl<'de> DeserializeSeed<'de> for Column<'_, '_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Column<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of values, one per row")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { reader, first } = self;
        let mut at = At {
            reader,
            first,
            next: 0,
            nested: false,
        };
        while list.next_element_seed(Value(&mut at))?.is_some() {}
        let (sent, rows) = (at.next, at.reader.rows.len());
        if sent == rows {
            return Ok(());
        }
        reader.row = 0;
        let e = reader.misfit((
            Kind::WrongShape,
            format!("{sent} values were sent where the column before has {rows}: send columns of one length"),
        ));
        Err(stop(&mut reader.fault, e))
    }
}

/// The place in a column.
struct At<'r, 'a> {
    reader: &'r mut Reader<'a>,
    first: bool,
    next: usize,
    nested: bool,
}

impl At<'_, '_> {
    fn too_long(&mut self) -> Error {
        let rows = self.reader.rows.len();
        self.reader.misfit((
            Kind::WrongShape,
            format!("more values than the {rows} of the column before: send columns of one length"),
        ))
    }
}

impl Sink for At<'_, '_> {
    fn put(&mut self, value: Scalar<'_>) -> Result<(), Error> {
        if self.first {
            let feature = self.reader.feature;
            self.reader.push_row()?;
            self.reader.feature = feature;
        } else if self.next >= self.reader.rows.len() {
            return Err(self.too_long());
        }
        self.reader.row = self.next;
        self.next += 1;
        self.reader.put(value)
    }

    fn fault(&mut self) -> &mut Option<Error> {
        &mut self.reader.fault
    }

    fn list<'de, A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        if self.nested {
            return self.store(Scalar::List);
        }
        self.nested = true;
        let one = list.next_element_seed(Value(self))?.is_some();
        self.nested = false;
        if one && list.next_element::<IgnoredAny>()?.is_none() {
            return Ok(());
        }
        self.reader.row = self.next.saturating_sub(usize::from(one));
        let e = self
            .reader
            .misfit((Kind::WrongShape, "a column has one value per row: send [x] or x".into()));
        Err(stop(&mut self.reader.fault, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Cell, Feature, Presence};
    use crate::decode::{Missing, Unknown};
    use crate::model::tensor::Datatype;

    fn read(raw: &str) -> Result<Rows, Error> {
        let feature = |(name, datatype): (&str, Datatype)| Feature {
            name: name.into(),
            datatype,
        };
        let schema = Schema::new([("a", Datatype::Fp32), ("b", Datatype::Bytes), ("c", Datatype::Fp32)].map(feature));
        let rules = Rules {
            missing: Missing::Nan,
            unknown: Unknown::Ignore,
            max_rows: 3,
        };
        columns(raw, &Arc::new(schema), rules)
    }

    #[test]
    fn columns_flat_or_nested_become_rows() {
        for raw in [
            r#"{"a":[1,null],"x":{"y":[[]]},"b":["u","v"]}"#,
            r#"{"b":[["u"],["v"]],"a":[[1],[null]]}"#,
        ] {
            let rows = read(raw).unwrap();
            assert_eq!((rows.len(), rows.get(0, 0)), (2, Some(Cell::Float(1.0))), "{raw}");
            assert_eq!(
                (rows.presence(1, 0), rows.presence(1, 2)),
                (Presence::Missing, Presence::Absent),
                "{raw}"
            );
            assert_eq!(rows.get(1, 1), Some(Cell::Text("v")), "{raw}");
        }
    }

    #[test]
    fn columns_that_disagree_are_refused_by_name() {
        for (raw, kind, says) in [
            (r#"{"a":[1,2],"b":["u"]}"#, Kind::WrongShape, "feature 'b'"),
            (r#"{"a":[1],"b":["u","v"]}"#, Kind::WrongShape, "feature 'b'"),
            (r#"{"a":[],"b":["v"]}"#, Kind::WrongShape, "one length"),
            (r#"{"a":[1],"a":[1]}"#, Kind::DuplicateKey, "feature 'a'"),
            (r#"{"a":[[1,2]]}"#, Kind::WrongShape, "one value per row"),
            (r#"{"a":[[]]}"#, Kind::WrongShape, "one value per row"),
            (r#"{"a":[[[1]]]}"#, Kind::WrongType, "a list"),
            (r#"{"a":[1,"x"]}"#, Kind::WrongType, "row 1, feature 'a'"),
            (r#"{"a":1}"#, Kind::WrongType, "a list of values"),
            (r#"{"a":[1,2,3,4]}"#, Kind::TooManyRows, "at most 3"),
            (r#"{"x":[1]}"#, Kind::EmptyRequest, "no row"),
            ("{}", Kind::EmptyRequest, "no row"),
            ("[]", Kind::WrongType, "an object"),
        ] {
            let e = read(raw).unwrap_err();
            assert_eq!(e.kind, kind, "{raw}: {e}");
            assert!(e.message.contains(says), "{raw}: {e}");
        }
    }
}
