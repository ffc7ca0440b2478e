//! A REST request: JSON, and behind it the bytes of its binary tensors.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Request, datatype, lenient, shape, tensor};
use crate::decode::{self, Missing, clip};
use crate::error::{Error, Kind};
use crate::model::tensor::Tensor;

/// Most outputs that one request names.
const MAX_OUTPUTS: usize = 256;

/// A request and how its outputs are to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The request.
    pub request: Request,
    /// The form of its outputs.
    pub binary: Binary,
}

/// Which outputs come as bytes behind the JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binary {
    /// Unless an output says otherwise.
    pub default: bool,
    /// What the named outputs say, in their order.
    pub named: Vec<Option<bool>>,
}

impl Binary {
    /// All outputs as bytes.
    #[must_use]
    pub fn all() -> Self {
        Self {
            default: true,
            named: Vec::new(),
        }
    }

    /// Whether output `at` comes as bytes.
    #[must_use]
    pub fn of(&self, at: usize) -> bool {
        self.named.get(at).copied().flatten().unwrap_or(self.default)
    }
}

/// What a body is.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked<'a> {
    /// Tensors by name.
    Named(Parsed),
    /// The bytes of the model's only input.
    Raw(&'a [u8]),
}

/// A text that borrows from the body unless it has escapes.
#[derive(Debug, Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

/// Sizes, with a sentence of our own where they are something else.
#[derive(Debug)]
struct Shape(Vec<i64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Sizes;

        impl<'de> Visitor<'de> for Sizes {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("'shape' as a list of sizes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut sizes = Vec::new();
                while let Some(size) = list.next_element()? {
                    sizes.push(size);
                }
                Ok(Shape(sizes))
            }
        }

        d.deserialize_seq(Sizes)
    }
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with inputs")]
struct Body<'a> {
    #[serde(borrow)]
    id: Option<Word<'a>>,
    parameters: Option<BodyParameters>,
    #[serde(borrow)]
    inputs: Option<Vec<Input<'a>>>,
    #[serde(borrow)]
    outputs: Option<Vec<Output<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "parameters as an object")]
struct BodyParameters {
    binary_data_output: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an input as an object with name, shape, datatype and data")]
struct Input<'a> {
    #[serde(borrow)]
    name: Word<'a>,
    shape: Shape,
    #[serde(borrow)]
    datatype: Word<'a>,
    parameters: Option<InputParameters>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "parameters as an object")]
struct InputParameters {
    binary_data_size: Option<u64>,
    shared_memory_region: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an output as an object with its name")]
struct Output<'a> {
    #[serde(borrow)]
    name: Word<'a>,
    parameters: Option<OutputParameters>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "parameters as an object")]
struct OutputParameters {
    binary_data: Option<bool>,
    classification: Option<IgnoredAny>,
    shared_memory_region: Option<IgnoredAny>,
}

/// Reads a body. `header` is the length of its JSON where the client says one (`Inference-Header-Content-Length`); 0
/// means that there is none.
///
/// # Errors
/// What is wrong, and with which input.
pub fn parse(body: &[u8], header: Option<usize>) -> Result<Asked<'_>, Error> {
    let (json, tail) = match header {
        Some(0) => return Ok(Asked::Raw(body)),
        Some(length) => body.split_at_checked(length).ok_or_else(|| {
            let text = format!(
                "Inference-Header-Content-Length is {length}, and the body has {} bytes: send the length of the JSON",
                body.len()
            );
            Error::new(Kind::MalformedBody, text)
        })?,
        None => (body, &[][..]),
    };
    let json = decode::text(json)?;
    if !json.trim_start().starts_with('{') {
        let text = "the body is no JSON object: send {\"inputs\":[{\"name\":…,\"shape\":…,\"datatype\":…,\"data\":…}]}";
        let kind = if json.trim().is_empty() {
            Kind::EmptyRequest
        } else {
            Kind::MalformedJson
        };
        return Err(Error::new(kind, text));
    }
    let parsed = match serde_json::from_str::<Body<'_>>(json) {
        Ok(body) => request(body, tail),
        Err(error) => match lenient::quoted(json) {
            Some(quoted) => serde_json::from_str::<Body<'_>>(&quoted)
                .map_err(|e| decode::whole(&quoted, &e))
                .and_then(|body| request(body, tail)),
            None => Err(decode::whole(json, &error)),
        },
    };
    parsed.map(Asked::Named)
}

fn request(body: Body<'_>, mut tail: &[u8]) -> Result<Parsed, Error> {
    let sent = body.inputs.unwrap_or_default();
    if sent.is_empty() {
        return Err(Error::new(
            Kind::EmptyRequest,
            "the request has no inputs: send {\"inputs\":[{\"name\":…,\"shape\":…,\"datatype\":…,\"data\":…}]}",
        ));
    }
    let mut inputs = Vec::with_capacity(sent.len());
    for input in sent {
        let tensor = input.tensor(&mut tail)?;
        inputs.push((input.name.0.into_owned(), tensor));
    }
    if !tail.is_empty() {
        let text = format!(
            "{} bytes of input data are left over behind the last binary tensor: send none, or set binary_data_size",
            tail.len()
        );
        return Err(Error::new(Kind::MalformedBody, text));
    }
    let wanted = body.outputs.unwrap_or_default();
    if wanted.len() > MAX_OUTPUTS {
        return Err(Error::new(
            Kind::BadRequest,
            format!("more than {MAX_OUTPUTS} outputs are named: name fewer"),
        ));
    }
    let mut outputs = Vec::with_capacity(wanted.len());
    let mut named = Vec::with_capacity(wanted.len());
    for output in wanted {
        let name = output.name.0;
        let parameters = output.parameters.unwrap_or_default();
        let what = match (parameters.classification, parameters.shared_memory_region) {
            (Some(_), _) => "the classification extension",
            (_, Some(_)) => "shared memory",
            (None, None) => {
                named.push(parameters.binary_data);
                outputs.push(name.into_owned());
                continue;
            }
        };
        let text = format!(
            "output '{}' asks for {what}, which is not offered: leave it out",
            clip(&name)
        );
        return Err(Error::new(Kind::Unsupported, text));
    }
    Ok(Parsed {
        request: Request {
            id: body.id.map(|id| id.0.into_owned()).unwrap_or_default(),
            inputs,
            outputs,
        },
        binary: Binary {
            default: body.parameters.and_then(|p| p.binary_data_output).unwrap_or(false),
            named,
        },
    })
}

impl Input<'_> {
    /// The tensor, from the input's own data or from the front of `tail`.
    fn tensor(&self, tail: &mut &[u8]) -> Result<Tensor, Error> {
        let name = self.name.0.as_ref();
        let datatype = datatype(name, &self.datatype.0)?;
        let wrong = |kind, why: String| Error::new(kind, format!("input '{}' {why}", clip(name)));
        let size = match &self.parameters {
            Some(InputParameters {
                shared_memory_region: Some(_),
                ..
            }) => {
                let why = "asks for shared memory, which is not offered: send its data".to_owned();
                return Err(wrong(Kind::Unsupported, why));
            }
            Some(parameters) => parameters.binary_data_size,
            None => None,
        };
        match (size, self.data) {
            (Some(_), Some(_)) => Err(wrong(
                Kind::BadRequest,
                "has both data and binary_data_size: send one of them".to_owned(),
            )),
            (None, None) => Err(wrong(
                Kind::MissingFeature,
                "has no data: send data, or binary_data_size and its bytes behind the JSON".to_owned(),
            )),
            (Some(size), None) => {
                let split = usize::try_from(size).ok().and_then(|size| tail.split_at_checked(size));
                let (own, rest) = split.ok_or_else(|| {
                    let why = format!(
                        "has binary_data_size {size}, and {} bytes are left behind the JSON",
                        tail.len()
                    );
                    wrong(Kind::MalformedBody, why)
                })?;
                *tail = rest;
                tensor(name, datatype, &self.shape.0, own)
            }
            (None, Some(data)) => {
                let (shape, count) = shape(name, &self.shape.0)?;
                let data = decode::elements(data.get(), name, datatype, Missing::Reject, lenient::special)?;
                let sent = data.len();
                Tensor::new(shape, data).ok_or_else(|| {
                    let why = format!(
                        "has {sent} values, and its shape {:?} holds {count}: send as many",
                        self.shape.0
                    );
                    wrong(Kind::WrongShape, why)
                })
            }
        }
    }
}
