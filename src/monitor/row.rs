//! A recorded row's inputs, read feature by feature without building a tree of them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::sketch::Value;

/// One recorded cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// null.
    Missing,
    /// A number, or a truth value.
    Number(f64),
    /// A text.
    Text(Cow<'a, str>),
}

impl Cell<'_> {
    /// What a profile takes.
    #[must_use]
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Missing => Value::Missing,
            Self::Number(x) => Value::Number(*x),
            Self::Text(text) => Value::Text(text),
        }
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Cell<'de>, E> {
        Ok(Cell::Missing)
    }

    fn visit_bool<E: Error>(self, x: bool) -> Result<Cell<'de>, E> {
        Ok(Cell::Number(f64::from(u8::from(x))))
    }

    fn visit_i64<E: Error>(self, x: i64) -> Result<Cell<'de>, E> {
        Ok(Cell::Number(x as f64))
    }

    fn visit_u64<E: Error>(self, x: u64) -> Result<Cell<'de>, E> {
        Ok(Cell::Number(x as f64))
    }

    fn visit_f64<E: Error>(self, x: f64) -> Result<Cell<'de>, E> {
        Ok(Cell::Number(x))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Cell<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Cell::Text(Cow::Borrowed("[…]")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cell<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Cell::Text(Cow::Borrowed("{…}")))
    }
}

impl<'de> Deserialize<'de> for Cell<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(CellVisitor)
    }
}

struct Each<F>(F);

impl<'de, F: FnMut(&str, Cell<'de>)> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key<'de>>()? {
            let cell = map.next_value()?;
            (self.0)(&key.0, cell);
        }
        Ok(())
    }
}

/// A key, borrowed wherever it stands in the text as it is.
struct Key<'a>(Cow<'a, str>);

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(text.to_owned())))
    }
}

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(KeyVisitor)
    }
}

/// Calls `each` with every feature of a recorded object; what is no object has none. False when it was not read to its end.
pub fn each_feature<'a>(inputs: &'a str, each: impl FnMut(&str, Cell<'a>)) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(inputs);
    deserializer.deserialize_map(Each(each)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_object_is_read_name_by_name_and_nothing_else_is() {
        let mut seen = Vec::new();
        let text = r#"{"a":1.5,"b\n":"x\t","c":null,"d":true,"e":[1,{}],"f":-3,"g":"plain"}"#;
        assert!(each_feature(text, |name, cell| seen.push(format!("{name}={:?}", cell.value()))));
        assert_eq!(
            seen,
            [
                "a=Number(1.5)",
                "b\n=Text(\"x\\t\")",
                "c=Missing",
                "d=Number(1.0)",
                "e=Text(\"[…]\")",
                "f=Number(-3.0)",
                "g=Text(\"plain\")"
            ]
        );
        for none in ["", "[1]", "7", "{\"a\":"] {
            assert!(!each_feature(none, |_, _| {}), "{none}");
        }
    }
}
