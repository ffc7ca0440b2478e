//! `instances`: a list of rows, each an object of features or a list in column order.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json::{clip, located, nearest, stop};
use super::value::{Scalar, Sink, Value};
use super::{Missing, Rules, Unknown};
use super::{number, quick};
use crate::batch::{Cell, Presence, Rows, Schema};
use crate::error::{Error, Kind};
use crate::model::tensor::Datatype;

/// Rows from the text of `instances`. `columns` are the features of a row that is a list, in order.
///
/// # Errors
/// The first thing that does not fit, with its row, its feature and the remedy.
pub fn instances(raw: &str, schema: &Arc<Schema>, columns: &[u32], rules: Rules) -> Result<Rows, Error> {
    if quick::is_usual(schema)
        && let Some(rows) = quick::rows(raw, schema, columns, rules)
    {
        return Ok(rows);
    }
    careful(raw, schema, columns, rules)
}

/// The same for any text.
pub(super) fn careful(raw: &str, schema: &Arc<Schema>, columns: &[u32], rules: Rules) -> Result<Rows, Error> {
    let mut reader = Reader::new(schema, columns, rules);
    let mut d = serde_json::Deserializer::from_str(raw);
    let done = List(&mut reader).deserialize(&mut d).and_then(|()| d.end());
    reader.finish(done, "instances")
}

/// What is being filled, and where the parser stands.
pub(super) struct Reader<'a> {
    schema: &'a Arc<Schema>,
    columns: &'a [u32],
    pub(super) rules: Rules,
    pub(super) rows: Rows,
    /// Row and feature of the value being read.
    pub(super) row: usize,
    pub(super) feature: Option<u32>,
    /// The features of the row before, in the order they came: the guess for the next row.
    order: Vec<u32>,
    pub(super) next: usize,
    pub(super) fault: Option<Error>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(schema: &'a Arc<Schema>, columns: &'a [u32], rules: Rules) -> Self {
        Self {
            schema,
            columns,
            rules,
            rows: Rows::new(Arc::clone(schema), 0),
            row: 0,
            feature: None,
            order: Vec::with_capacity(schema.len()),
            next: 0,
            fault: None,
        }
    }

    fn place(&self) -> String {
        match self.feature.and_then(|f| self.schema.features().get(f as usize)) {
            Some(feature) => format!("row {}, feature '{}'", self.row, feature.name),
            None => format!("row {}", self.row),
        }
    }

    pub(super) fn misfit(&self, (kind, text): number::Misfit) -> Error {
        Error::new(kind, format!("{}: {text}", self.place()))
    }

    /// The rows, or the error that stopped the parser.
    pub(super) fn finish(mut self, done: serde_json::Result<()>, what: &str) -> Result<Rows, Error> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if let Err(e) = done {
            let place = if self.rows.is_empty() {
                what.to_owned()
            } else {
                self.place()
            };
            return Err(located(&place, &e));
        }
        if self.rows.is_empty() {
            return Err(Error::new(
                Kind::EmptyRequest,
                format!("{what} has no row: send at least one"),
            ));
        }
        Ok(self.rows)
    }

    pub(super) fn push_row(&mut self) -> Result<(), Error> {
        if self.rows.len() >= self.rules.max_rows {
            let most = self.rules.max_rows;
            return Err(Error::new(
                Kind::TooManyRows,
                format!("more than {most} rows in one request: send at most {most}, or raise max_rows"),
            ));
        }
        self.row = self.rows.push_row();
        (self.feature, self.next) = (None, 0);
        Ok(())
    }

    /// The feature of this name; `None` when no version takes it and that is allowed.
    pub(super) fn lookup(&mut self, name: &str) -> Result<Option<u32>, Error> {
        let guess = self.order.get(self.next).copied();
        self.next += 1;
        let guessed = guess.filter(|&g| self.schema.features().get(g as usize).is_some_and(|f| f.name == name));
        let found = guessed.or_else(|| self.schema.number(name));
        match (found, guessed) {
            (Some(number), None) => self.remember(number),
            (Some(_), Some(_)) => {}
            (None, _) => {
                self.next -= 1;
                self.refuse_unknown(name)?;
            }
        }
        self.feature = found;
        Ok(found)
    }

    fn remember(&mut self, number: u32) {
        if let Some(slot) = self.order.get_mut(self.next - 1) {
            *slot = number;
        } else if self.order.len() < self.schema.len() {
            self.order.push(number);
        }
    }

    fn refuse_unknown(&self, name: &str) -> Result<(), Error> {
        if self.rules.unknown == Unknown::Ignore {
            self.rows.schema().carried().note(name);
            return Ok(());
        }
        let near = nearest(name, self.schema.features().iter().map(|f| f.name.as_str()));
        let name = clip(name);
        Err(Error::new(
            Kind::UnknownFeature,
            format!("row {}: no version takes the feature '{name}'{near}", self.row),
        ))
    }

    /// The cell of the current row and feature, which must be free.
    fn check_free(&self, feature: u32) -> Result<(), Error> {
        if self.rows.presence(self.row, feature) == Presence::Absent {
            return Ok(());
        }
        Err(Error::new(
            Kind::DuplicateKey,
            format!("{}: sent twice: send each feature once per row", self.place()),
        ))
    }
}

impl Sink for Reader<'_> {
    fn put(&mut self, value: Scalar<'_>) -> Result<(), Error> {
        let Some(feature) = self.feature else {
            return Ok(());
        };
        self.check_free(feature)?;
        let datatype = self
            .schema
            .features()
            .get(feature as usize)
            .map_or(Datatype::Fp32, |f| f.datatype);
        if value == Scalar::Null && self.rules.missing == Missing::Nan && datatype.is_float() {
            self.rows.set_missing(self.row, feature);
            return Ok(());
        }
        let cell = match datatype {
            Datatype::Int64 => number::narrow(datatype, value).map(Cell::Int),
            Datatype::Bytes => number::string(value).map(Cell::Text),
            _ => number::float(datatype, value).map(Cell::Float),
        };
        let cell = cell.map_err(|m| self.misfit(m))?;
        if self.rows.set(self.row, feature, cell) {
            Ok(())
        } else {
            Err(self.misfit((Kind::TooLarge, "too much text in one request: send fewer rows".into())))
        }
    }

    fn fault(&mut self) -> &mut Option<Error> {
        &mut self.fault
    }
}

/// The list of rows.
struct List<'r, 'a>(&'r mut Reader<'a>);

impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Row(self.0))?.is_some() {}
        Ok(())
    }
}

/// One row.
struct Row<'r, 'a>(&'r mut Reader<'a>);

impl<'de> DeserializeSeed<'de> for Row<'_, '_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        if let Err(e) = self.0.push_row() {
            return Err(stop(&mut self.0.fault, e));
        }
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Row<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of features or a list in column order")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(known) = map.next_key_seed(Key(self.0))? {
            if known {
                map.next_value_seed(Value(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let reader = self.0;
        let columns = reader.columns;
        let mut sent = 0;
        for &column in columns {
            reader.feature = Some(column);
            if list.next_element_seed(Value(reader))?.is_none() {
                break;
            }
            sent += 1;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            sent += 1;
        }
        reader.feature = None;
        if sent == columns.len() {
            return Ok(());
        }
        let text = if columns.is_empty() {
            "this model has no column order: send the row as an object of features".to_owned()
        } else {
            format!("{sent} values were sent where the model has {} columns", columns.len())
        };
        let e = reader.misfit((Kind::WrongShape, text));
        Err(stop(&mut reader.fault, e))
    }
}

/// A feature's name; true when the value is wanted.
pub(super) struct Key<'r, 'a>(pub(super) &'r mut Reader<'a>);

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = bool;

    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<bool, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a feature's name")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<bool, E> {
        match self.0.lookup(name) {
            Ok(found) => Ok(found.is_some()),
            Err(e) => Err(stop(&mut self.0.fault, e)),
        }
    }
}

#[cfg(test)]
mod tests;
