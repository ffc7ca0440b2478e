//! The top level of a `/predict` body. Unknown keys are ignored; the parts stay text until the model is known.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::json::{clip, located, text, whole};
use super::top;
use crate::error::{Error, Kind};

/// Longest id or entity.
pub(super) const MAX_ID_BYTES: usize = 256;
/// Longest context of one row.
const MAX_CONTEXT_BYTES: usize = 16 * 1024;
/// Most outputs that one request names.
const MAX_OUTPUTS: usize = 256;

/// Which raw outputs the reply carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Wanted {
    /// None, unless the model's task is unknown.
    #[default]
    None,
    /// All.
    All,
    /// These.
    Names(Vec<String>),
    /// Of these, those that the answering version has.
    Known(Vec<Arc<str>>),
}

/// A text that borrows from the body unless it has escapes.
#[derive(Debug, Default, Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

/// The body, its parts not yet read.
#[derive(Debug)]
pub struct PredictBody<'a> {
    model: Option<Word<'a>>,
    version: Option<Word<'a>>,
    instances: Option<&'a str>,
    inputs: Option<&'a str>,
    ids: Option<&'a str>,
    entities: Option<&'a str>,
    context: Option<&'a str>,
    outputs: Option<Wanted>,
    shadow: Option<bool>,
}

/// The same as a parser reads it, which goes through every value to its end.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with 'instances' or 'inputs'")]
struct Whole<'a> {
    #[serde(borrow)]
    model: Option<Word<'a>>,
    #[serde(borrow)]
    version: Option<Word<'a>>,
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
    #[serde(borrow)]
    ids: Option<&'a RawValue>,
    #[serde(borrow)]
    entities: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    outputs: Option<Wanted>,
    shadow: Option<bool>,
}

const KEYS: [&str; 9] = [
    "model",
    "version",
    "instances",
    "inputs",
    "ids",
    "entities",
    "context",
    "outputs",
    "shadow",
];

/// The parts of a body without surprises; `None`: the parser must look.
fn cut(body: &str) -> Option<PredictBody<'_>> {
    let [
        model,
        version,
        instances,
        inputs,
        ids,
        entities,
        context,
        outputs,
        shadow,
    ] = top::cut(body, &KEYS)?;
    fn read<'a, T: Deserialize<'a>>(part: Option<&'a str>) -> Option<Option<T>> {
        part.map_or(Some(None), |part| serde_json::from_str(part).ok())
    }
    let there = |part: Option<&'_ str>| part.is_some_and(|part| part != "null");
    Some(PredictBody {
        model: read(model)?,
        version: read(version)?,
        instances: instances.filter(|_| there(instances)),
        inputs: inputs.filter(|_| there(inputs)),
        ids: ids.filter(|_| there(ids)),
        entities: entities.filter(|_| there(entities)),
        context: context.filter(|_| there(context)),
        outputs: read(outputs)?,
        shadow: read(shadow)?,
    })
}

/// Where the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// Text of `instances`.
    Instances(&'a str),
    /// Text of `inputs`.
    Inputs(&'a str),
}

/// What the caller said about each row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// The caller's own id per row; shared, because both the reply and the record need it.
    pub ids: Option<Arc<Vec<String>>>,
    /// The entity per row.
    pub entities: Option<Vec<String>>,
    /// A JSON object per row, as text.
    pub context: Option<Vec<String>>,
}

impl<'a> PredictBody<'a> {
    /// Reads the top level.
    ///
    /// # Errors
    /// Not UTF-8, not JSON, a key twice, or a key of the wrong type.
    pub fn parse(body: &'a [u8]) -> Result<Self, Error> {
        let body = text(body)?;
        if body.bytes().all(|b| b.is_ascii_whitespace()) {
            return Err(Error::new(
                Kind::EmptyRequest,
                "the body is empty: send {\"instances\":[…]} or {\"inputs\":{…}}",
            ));
        }
        // The derived reading would take a list for the fields in order.
        if body.trim_start().starts_with('[') {
            return Err(Error::new(
                Kind::WrongType,
                "the body is a list: send an object, {\"instances\":[…]} or {\"inputs\":{…}}",
            ));
        }
        cut(body).map_or_else(|| Self::whole(body), Ok)
    }

    /// What a parser says of a body of which a part turned out to be no JSON: it knows the place.
    #[must_use]
    pub fn complaint(body: &[u8]) -> Option<Error> {
        PredictBody::whole(std::str::from_utf8(body).ok()?).err()
    }

    fn whole(body: &'a str) -> Result<Self, Error> {
        let parts: Whole<'a> = serde_json::from_str(body).map_err(|e| whole(body, &e))?;
        Ok(Self {
            model: parts.model,
            version: parts.version,
            instances: parts.instances.map(RawValue::get),
            inputs: parts.inputs.map(RawValue::get),
            ids: parts.ids.map(RawValue::get),
            entities: parts.entities.map(RawValue::get),
            context: parts.context.map(RawValue::get),
            outputs: parts.outputs,
            shadow: parts.shadow,
        })
    }

    /// The model named in the body.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_ref().map(|w| w.0.as_ref())
    }

    /// The version that the request is pinned to.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_ref().map(|w| w.0.as_ref())
    }

    /// False when the request keeps out of shadow, store and evidence.
    #[must_use]
    pub fn shadow(&self) -> bool {
        self.shadow.unwrap_or(true)
    }

    /// Which raw outputs are asked for.
    #[must_use]
    pub fn outputs(&mut self) -> Wanted {
        self.outputs.take().unwrap_or_default()
    }

    /// The rows' text.
    ///
    /// # Errors
    /// Neither or both of `instances` and `inputs`.
    pub fn source(&self) -> Result<Source<'a>, Error> {
        match (self.instances, self.inputs) {
            (Some(raw), None) => Ok(Source::Instances(raw)),
            (None, Some(raw)) => Ok(Source::Inputs(raw)),
            (None, None) => Err(Error::new(
                Kind::EmptyRequest,
                "the request has neither 'instances' nor 'inputs': send one of them",
            )),
            (Some(_), Some(_)) => Err(Error::new(
                Kind::BadRequest,
                "the request has both 'instances' and 'inputs': send one of them",
            )),
        }
    }

    /// Ids, entities and context, which must go with `rows` rows.
    ///
    /// # Errors
    /// A list of another length, an id that is empty, too long, reserved or twice in the request, a context that is
    /// not an object or too long.
    pub fn keys(&self, rows: usize) -> Result<Keys, Error> {
        let ids = self.list::<String>("ids", self.ids, rows)?;
        if let Some(ids) = &ids {
            check_ids(ids)?;
        }
        let entities = self.list::<String>("entities", self.entities, rows)?;
        for (row, entity) in entities.iter().flatten().enumerate() {
            check_length("entities", row, entity)?;
        }
        let context = self.list::<Box<RawValue>>("context", self.context, rows)?;
        let context = context.map(|list| list.iter().enumerate().map(|(i, c)| object(i, c.get())).collect());
        Ok(Keys {
            ids: ids.map(Arc::new),
            entities,
            context: context.transpose()?,
        })
    }

    fn list<T: Deserialize<'a>>(&self, key: &str, raw: Option<&'a str>, rows: usize) -> Result<Option<Vec<T>>, Error> {
        let Some(raw) = raw else { return Ok(None) };
        let list: Vec<T> = serde_json::from_str(raw).map_err(|e| located(&format!("'{key}'"), &e))?;
        if list.len() == rows {
            return Ok(Some(list));
        }
        let sent = list.len();
        Err(Error::new(
            Kind::WrongShape,
            format!("'{key}' has {sent} entries for {rows} rows: send one per row"),
        ))
    }
}

fn check_length(key: &str, row: usize, text: &str) -> Result<(), Error> {
    if (1..=MAX_ID_BYTES).contains(&text.len()) {
        return Ok(());
    }
    let length = text.len();
    Err(Error::new(
        Kind::BadRequest,
        format!("'{key}' of row {row} has {length} bytes: send 1 to {MAX_ID_BYTES}"),
    ))
}

fn check_ids(ids: &[String]) -> Result<(), Error> {
    let mut seen = HashSet::with_capacity(ids.len());
    for (row, id) in ids.iter().enumerate() {
        check_length("ids", row, id)?;
        if id.starts_with("p1_") {
            return Err(Error::new(
                Kind::BadRequest,
                format!("'ids' of row {row} begins with 'p1_', which is kept for generated ids: choose another"),
            ));
        }
        if !seen.insert(id) {
            let id = clip(id);
            return Err(Error::new(
                Kind::BadRequest,
                format!("'ids' of row {row} repeats '{id}' inside one request: send each id once"),
            ));
        }
    }
    Ok(())
}

/// A context's text, once it is known to be an object that parses.
fn object(row: usize, raw: &str) -> Result<String, Error> {
    let place = format!("'context' of row {row}");
    if raw.len() > MAX_CONTEXT_BYTES {
        return Err(Error::new(
            Kind::BadRequest,
            format!("{place} is longer than {MAX_CONTEXT_BYTES} bytes: send less"),
        ));
    }
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(raw).map_err(|e| located(&place, &e))?;
    Ok(raw.to_owned())
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(WantedVisitor)
    }
}

struct WantedVisitor;

impl<'de> Visitor<'de> for WantedVisitor {
    type Value = Wanted;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'outputs' as true, false or a list of names")
    }

    fn visit_bool<E: de::Error>(self, all: bool) -> Result<Wanted, E> {
        Ok(if all { Wanted::All } else { Wanted::None })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Wanted, A::Error> {
        let mut names: Vec<String> = Vec::new();
        while let Some(name) = list.next_element::<String>()? {
            if names.len() >= MAX_OUTPUTS {
                return Err(de::Error::custom("too many names in 'outputs'"));
            }
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(Wanted::Names(names))
    }
}

#[cfg(test)]
mod tests;
