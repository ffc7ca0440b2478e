//! One JSON value handed to whoever stores it, without a tree in between.

use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::json::{clip, stop};
use crate::error::Error;

/// A JSON value that is not a list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a str),
    List,
    Object,
}

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Unsigned(x) => write!(f, "the number {x}"),
            Self::Signed(x) => write!(f, "the number {x}"),
            Self::Float(x) => write!(f, "the number {x:?}"),
            Self::Text(text) => write!(f, "the string {:?}", clip(text)),
            Self::List => f.write_str("a list"),
            Self::Object => f.write_str("an object"),
        }
    }
}

/// Who stores values.
pub(super) trait Sink {
    /// Stores one value.
    fn put(&mut self, value: Scalar<'_>) -> Result<(), Error>;

    /// Where an error of ours waits while serde's unwinds.
    fn fault(&mut self) -> &mut Option<Error>;

    /// A list in the place of a value: refused, unless the sink knows better.
    fn list<'de, A: SeqAccess<'de>>(&mut self, _list: A) -> Result<(), A::Error> {
        self.store(Scalar::List)
    }

    /// [`Sink::put`] with serde's error.
    fn store<E: de::Error>(&mut self, value: Scalar<'_>) -> Result<(), E> {
        self.put(value).map_err(|e| stop(self.fault(), e))
    }
}

/// Reads one value into its sink.
pub(super) struct Value<'s, S>(pub(super) &'s mut S);

impl<'de, S: Sink> DeserializeSeed<'de> for Value<'_, S> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Value<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.0.store(Scalar::Null)
    }

    fn visit_bool<E: de::Error>(self, x: bool) -> Result<(), E> {
        self.0.store(Scalar::Bool(x))
    }

    fn visit_u64<E: de::Error>(self, x: u64) -> Result<(), E> {
        self.0.store(Scalar::Unsigned(x))
    }

    fn visit_i64<E: de::Error>(self, x: i64) -> Result<(), E> {
        self.0.store(Scalar::Signed(x))
    }

    fn visit_f64<E: de::Error>(self, x: f64) -> Result<(), E> {
        self.0.store(Scalar::Float(x))
    }

    fn visit_str<E: de::Error>(self, x: &str) -> Result<(), E> {
        self.0.store(Scalar::Text(x))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        self.0.list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, _map: A) -> Result<(), A::Error> {
        self.0.store(Scalar::Object)
    }
}
