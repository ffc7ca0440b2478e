//! `{"instances":[[…]]}` or `{"instances":[{…}]}` into one flat buffer, and scores back into JSON.

use std::fmt;
use std::io::Write;
use std::sync::LazyLock;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::Fallible;
use super::super::models::{FEATURES, feature_names};

static NAMES: LazyLock<Vec<String>> = LazyLock::new(feature_names);

/// All numbers, row by row.
pub(super) fn rows(body: &[u8]) -> Fallible<Vec<f32>> {
    let mut flat = Vec::with_capacity(FEATURES);
    let mut json = serde_json::Deserializer::from_slice(body);
    Top(&mut flat).deserialize(&mut json)?;
    json.end()?;
    Ok(flat)
}

/// `{"predictions":[{"score":…},…]}`: of each row the second class.
pub(super) fn write(out: &mut Vec<u8>, scores: &[f32]) {
    out.extend_from_slice(b"{\"predictions\":[");
    for (at, row) in scores.chunks(2).enumerate() {
        let comma = if at > 0 { "," } else { "" };
        // Writing into memory does not fail.
        let _ = write!(out, "{comma}{{\"score\":");
        let _ = serde_json::to_writer(&mut *out, &row.last());
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

/// Makes of a visitor that fills a buffer a seed.
macro_rules! seed {
    ($name:ident, $method:ident) => {
        struct $name<'a>(&'a mut Vec<f32>);
        impl<'de> DeserializeSeed<'de> for $name<'_> {
            type Value = ();
            fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
                d.$method(self)
            }
        }
    };
}
seed!(Top, deserialize_map);
seed!(Rows, deserialize_seq);
seed!(Row, deserialize_any);

fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("rows of numbers")
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        expected(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "instances" => map.next_value_seed(Rows(self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        expected(f)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Row(self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        expected(f)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(x) = list.next_element()? {
            self.0.push(x);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let from = self.0.len();
        self.0.resize(from + FEATURES, f32::NAN);
        let mut next = 0;
        while let Some(name) = map.next_key::<&str>()? {
            // Clients send the features in one order: mostly it is the next one.
            if NAMES.get(next).is_none_or(|expected| expected != name) {
                next = NAMES.iter().position(|known| known == name).unwrap_or(FEATURES);
            }
            let value = map.next_value()?;
            if let Some(cell) = self.0.get_mut(from + next) {
                *cell = value;
            }
            next += 1;
        }
        Ok(())
    }
}
