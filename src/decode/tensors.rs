//! `inputs` by tensor name: nested lists whose shape is read off the nesting, or flat ones where the interface leaves
//! one dimension open.

use std::fmt;

use half::f16;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::json::{clip, located, nearest, stop};
use super::number::{self, Misfit};
use super::value::{Scalar, Sink, Value};
use super::{Missing, Rules};
use crate::batch::Batch;
use crate::error::{Error, Kind};
use crate::model::signature::{Signature, TensorSpec};
use crate::model::tensor::{Data, Datatype, Tensor, Text};

/// Deepest nesting of a tensor's lists.
const MAX_RANK: usize = 32;

/// The interface's inputs from the text of an `inputs` object, in the interface's order, and how many rows they are
/// (1 where the interface leaves no room for more).
///
/// # Errors
/// The first thing that does not fit, with the input's name and the remedy.
pub fn tensors(raw: &str, signature: &Signature, rules: Rules) -> Result<Batch, Error> {
    let mut reader = Object {
        signature,
        missing: rules.missing,
        found: signature.inputs.iter().map(|_| None).collect(),
        fault: None,
        input: None,
    };
    let mut d = serde_json::Deserializer::from_str(raw);
    let done = (&mut reader).deserialize(&mut d).and_then(|()| d.end());
    if let Some(fault) = reader.fault.take() {
        return Err(fault);
    }
    if let Err(e) = done {
        let place = reader
            .input
            .map_or_else(|| "inputs".to_owned(), |i| format!("input '{i}'"));
        return Err(located(&place, &e));
    }
    let inputs = all(reader.found, signature)?;
    let rows = rows(&inputs, signature, rules.max_rows)?;
    Ok(Batch::Tensors { inputs, rows })
}

/// The elements of one tensor, from flat or nested lists. `special` gives the numbers that words stand for in float
/// tensors.
///
/// # Errors
/// As [`tensors`].
pub fn elements(
    raw: &str,
    name: &str,
    datatype: Datatype,
    missing: Missing,
    special: fn(&str) -> Option<f64>,
) -> Result<Data, Error> {
    let spec = TensorSpec {
        name: clip(name),
        datatype,
        shape: Vec::new(),
    };
    let mut builder = Builder::new(&spec, missing)?;
    builder.special = special;
    let mut d = serde_json::Deserializer::from_str(raw);
    let done = Value(&mut builder).deserialize(&mut d).and_then(|()| d.end());
    if let Some(fault) = builder.fault.take() {
        return Err(fault);
    }
    done.map_err(|e| located(&format!("input '{}'", spec.name), &e))?;
    Ok(builder.data)
}

/// The same for a model of one input, from the text of its value.
///
/// # Errors
/// As [`tensors`].
pub(super) fn single(raw: &str, signature: &Signature, rules: Rules) -> Result<Batch, Error> {
    let Some(spec) = signature.inputs.first() else {
        return Err(Error::new(Kind::UnknownFeature, "the model has no input"));
    };
    let mut builder = Builder::new(spec, rules.missing)?;
    let mut d = serde_json::Deserializer::from_str(raw);
    let done = Value(&mut builder).deserialize(&mut d).and_then(|()| d.end());
    if let Some(fault) = builder.fault.take() {
        return Err(fault);
    }
    done.map_err(|e| located("instances", &e))?;
    let inputs = vec![builder.finish(&signature.sent_shape(spec))?];
    let rows = rows(&inputs, signature, rules.max_rows)?;
    Ok(Batch::Tensors { inputs, rows })
}

fn all(found: Vec<Option<Tensor>>, signature: &Signature) -> Result<Vec<Tensor>, Error> {
    let named = found.into_iter().zip(&signature.inputs);
    named
        .map(|(tensor, spec)| {
            tensor.ok_or_else(|| {
                let TensorSpec { name, datatype, shape } = spec;
                let text = format!("input '{name}' is missing: send it as {datatype} of shape {shape:?}");
                Error::new(Kind::MissingFeature, text)
            })
        })
        .collect()
}

fn rows(inputs: &[Tensor], signature: &Signature, max_rows: usize) -> Result<usize, Error> {
    if !signature.takes_rows() {
        return Ok(1);
    }
    let rows = inputs.first().map_or(0, Tensor::rows);
    for (tensor, spec) in inputs.iter().zip(&signature.inputs) {
        if tensor.rows() != rows {
            let (name, sent) = (&spec.name, tensor.rows());
            let text = format!("input '{name}' has {sent} rows where the first has {rows}: send equally many");
            return Err(Error::new(Kind::WrongShape, text));
        }
    }
    if rows == 0 {
        return Err(Error::new(Kind::EmptyRequest, "inputs have no row: send at least one"));
    }
    if rows > max_rows {
        let text = format!("{rows} rows in one request: send at most {max_rows}, or raise max_rows");
        return Err(Error::new(Kind::TooManyRows, text));
    }
    Ok(rows)
}

/// The object of inputs.
struct Object<'s> {
    signature: &'s Signature,
    missing: Missing,
    found: Vec<Option<Tensor>>,
    fault: Option<Error>,
    /// The input being read, for errors.
    input: Option<&'s str>,
}

impl<'s> Object<'s> {
    fn find(&self, name: &str) -> Result<(usize, &'s TensorSpec), Error> {
        let mut inputs = self.signature.inputs.iter().enumerate();
        let Some((at, spec)) = inputs.find(|(_, spec)| spec.name == name) else {
            let known: Vec<&str> = self.signature.inputs.iter().map(|i| i.name.as_str()).collect();
            let near = nearest(name, known.iter().copied());
            let (name, known) = (clip(name), clip(&known.join(", ")));
            let text = format!("the model has no input '{name}' (it has {known}){near}");
            return Err(Error::new(Kind::UnknownFeature, text));
        };
        if self.found.get(at).is_some_and(Option::is_some) {
            let text = format!("input '{name}' was sent twice: send each input once");
            return Err(Error::new(Kind::DuplicateKey, text));
        }
        Ok((at, spec))
    }

    fn read<'de, A: MapAccess<'de>>(&mut self, map: &mut A, name: &str) -> Result<(), A::Error> {
        let (at, spec) = self.find(name).map_err(|e| stop(&mut self.fault, e))?;
        self.input = Some(&spec.name);
        let mut builder = Builder::new(spec, self.missing).map_err(|e| stop(&mut self.fault, e))?;
        let done = map.next_value_seed(Value(&mut builder));
        if let Some(fault) = builder.fault.take() {
            self.fault.get_or_insert(fault);
        }
        done?;
        let shape = self.signature.sent_shape(spec);
        let tensor = builder.finish(&shape).map_err(|e| stop(&mut self.fault, e))?;
        if let Some(slot) = self.found.get_mut(at) {
            *slot = Some(tensor);
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Object<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list per input")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            self.read(&mut map, &name)?;
        }
        Ok(())
    }
}

/// One tensor while its lists are walked.
struct Builder<'s> {
    spec: &'s TensorSpec,
    missing: Missing,
    data: Data,
    /// Length of the lists at each depth, once one has ended.
    lengths: Vec<Option<usize>>,
    depth: usize,
    /// Depth at which values stand.
    leaf: Option<usize>,
    /// Numbers that are written as words.
    special: fn(&str) -> Option<f64>,
    fault: Option<Error>,
}

impl<'s> Builder<'s> {
    fn new(spec: &'s TensorSpec, missing: Missing) -> Result<Self, Error> {
        let data = match spec.datatype {
            Datatype::Bool => Data::Bool(Vec::new()),
            Datatype::Uint8 => Data::Uint8(Vec::new()),
            Datatype::Uint16 => Data::Uint16(Vec::new()),
            Datatype::Uint32 => Data::Uint32(Vec::new()),
            Datatype::Uint64 => Data::Uint64(Vec::new()),
            Datatype::Int8 => Data::Int8(Vec::new()),
            Datatype::Int16 => Data::Int16(Vec::new()),
            Datatype::Int32 => Data::Int32(Vec::new()),
            Datatype::Int64 => Data::Int64(Vec::new()),
            Datatype::Fp16 => {
                let name = &spec.name;
                let text = format!("input '{name}' is FP16, which has no JSON form: send it as binary tensor data");
                return Err(Error::new(Kind::WrongType, text));
            }
            Datatype::Fp32 => Data::Fp32(Vec::new()),
            Datatype::Fp64 => Data::Fp64(Vec::new()),
            Datatype::Bytes => Data::Bytes(Text::default()),
        };
        Ok(Self {
            spec,
            missing,
            data,
            lengths: Vec::new(),
            depth: 0,
            leaf: None,
            special: |_| None,
            fault: None,
        })
    }

    fn misfit(&self, (kind, text): Misfit) -> Error {
        let (name, at) = (&self.spec.name, self.data.len());
        Error::new(kind, format!("input '{name}', element {at}: {text}"))
    }

    fn ragged(&self) -> Error {
        self.misfit((
            Kind::WrongShape,
            "the lists are ragged: send lists of one length at each depth".into(),
        ))
    }

    fn push(&mut self, value: Scalar<'_>) -> Result<(), Misfit> {
        let datatype = self.spec.datatype;
        if let Scalar::Text(word) = value
            && datatype.is_float()
            && let Some(x) = (self.special)(word)
        {
            match &mut self.data {
                #[expect(clippy::cast_possible_truncation, reason = "infinities and NaN stay what they are")]
                Data::Fp32(v) => v.push(x as f32),
                Data::Fp64(v) => v.push(x),
                _ => {}
            }
            return Ok(());
        }
        if matches!(value, Scalar::Null) && self.missing == Missing::Nan {
            match &mut self.data {
                Data::Fp32(v) => {
                    v.push(f32::NAN);
                    return Ok(());
                }
                Data::Fp64(v) => {
                    v.push(f64::NAN);
                    return Ok(());
                }
                _ => {}
            }
        }
        match &mut self.data {
            Data::Bool(v) => v.push(number::boolean(value)?),
            Data::Uint8(v) => v.push(number::narrow(datatype, value)?),
            Data::Uint16(v) => v.push(number::narrow(datatype, value)?),
            Data::Uint32(v) => v.push(number::narrow(datatype, value)?),
            Data::Uint64(v) => v.push(number::narrow(datatype, value)?),
            Data::Int8(v) => v.push(number::narrow(datatype, value)?),
            Data::Int16(v) => v.push(number::narrow(datatype, value)?),
            Data::Int32(v) => v.push(number::narrow(datatype, value)?),
            Data::Int64(v) => v.push(number::narrow(datatype, value)?),
            Data::Fp16(v) => v.push(f16::from_f64(number::float(datatype, value)?)),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "checked to be in range; rounding is the datatype"
            )]
            Data::Fp32(v) => v.push(number::float(datatype, value)? as f32),
            Data::Fp64(v) => v.push(number::float(datatype, value)?),
            Data::Bytes(v) => {
                if !v.push(number::string(value)?.as_bytes()) {
                    return Err((Kind::TooLarge, "too much text in one request: send fewer rows".into()));
                }
            }
        }
        Ok(())
    }

    /// A list of `length` entries has ended at the current depth.
    fn close(&mut self, length: usize) -> Result<(), Error> {
        let depth = self.depth;
        let ragged = match self.lengths.get_mut(depth) {
            Some(slot) => *slot.get_or_insert(length) != length,
            None => true,
        };
        if ragged { Err(self.ragged()) } else { Ok(()) }
    }

    fn finish(self, wanted: &[i64]) -> Result<Tensor, Error> {
        let sent: Vec<usize> = self.lengths.iter().map(|l| l.unwrap_or(0)).collect();
        let count = self.data.len();
        let shape = fit(&sent, count, wanted);
        let name = &self.spec.name;
        shape.and_then(|shape| Tensor::new(shape, self.data)).ok_or_else(|| {
            let text = format!("input '{name}' has shape {sent:?}, {wanted:?} is expected (-1 is any size)");
            Error::new(Kind::WrongShape, text)
        })
    }
}

/// The shape that was meant: as nested, or a flat list cut to the interface's shape.
fn fit(sent: &[usize], count: usize, spec: &[i64]) -> Option<Vec<usize>> {
    let matches = |(&d, &s): (&usize, &i64)| s < 0 || usize::try_from(s) == Ok(d);
    if sent.len() == spec.len() {
        return sent.iter().zip(spec).all(matches).then(|| sent.to_vec());
    }
    let open = spec.iter().filter(|&&s| s < 0).count();
    if sent.len() != 1 || open > 1 {
        return None;
    }
    let mut sizes = spec.iter().filter(|&&s| s >= 0);
    let fixed = sizes.try_fold(1usize, |product, &s| product.checked_mul(usize::try_from(s).ok()?))?;
    let free = count.checked_div(fixed)?;
    if free * fixed != count || (open == 0 && free != 1) {
        return None;
    }
    Some(spec.iter().map(|&s| usize::try_from(s).unwrap_or(free)).collect())
}

impl Sink for Builder<'_> {
    fn put(&mut self, value: Scalar<'_>) -> Result<(), Error> {
        if self.depth != *self.leaf.get_or_insert(self.depth) || self.lengths.len() > self.depth {
            return Err(self.ragged());
        }
        self.push(value).map_err(|m| self.misfit(m))
    }

    fn fault(&mut self) -> &mut Option<Error> {
        &mut self.fault
    }

    fn list<'de, A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        if self.depth >= MAX_RANK {
            let e = self.misfit((Kind::WrongShape, format!("lists are nested deeper than {MAX_RANK}")));
            return Err(stop(&mut self.fault, e));
        }
        if self.leaf.is_some_and(|leaf| self.depth >= leaf) {
            let e = self.ragged();
            return Err(stop(&mut self.fault, e));
        }
        if self.lengths.len() == self.depth {
            self.lengths.push(None);
        }
        self.depth += 1;
        let mut length = 0;
        while list.next_element_seed(Value(self))?.is_some() {
            length += 1;
        }
        self.depth -= 1;
        self.close(length).map_err(|e| stop(&mut self.fault, e))
    }
}

#[cfg(test)]
mod tests;
