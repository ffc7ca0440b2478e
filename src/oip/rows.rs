//! From named tensors to the rows of a model.

use std::sync::Arc;

use super::{Contract, Request};
use crate::batch::{Batch, Cell, Rows, Schema};
use crate::champion::VersionInfo;
use crate::decode::{Form, Missing, Rules, Unknown, clip, nearest};
use crate::error::{Error, Kind};
use crate::model::layout::native;
use crate::model::signature::{Signature, TensorSpec};
use crate::model::tensor::{Data, Datatype, Tensor};

/// The rows of a request, and whether it was spelled in a version's own tensors. `pinned` is the version that it names.
///
/// # Errors
/// The first input that does not fit, and what to change.
pub fn rows(
    request: Request,
    (contract, form, rules): (&Contract, &Form, Rules),
    pinned: Option<&VersionInfo>,
) -> Result<(Batch, bool), Error> {
    let Form::Features { schema, .. } = form else {
        let signature = &contract.native;
        let inputs = ordered(request.inputs, signature)?;
        let rows = count(&inputs, signature, rules.max_rows)?;
        return Ok((Batch::Tensors { inputs, rows }, pinned.is_some()));
    };
    let spelled = table_of(&request, schema, contract, pinned);
    let (rows, native) = match spelled {
        Some(Table { spec, columns }) => {
            let tensor = request.inputs.into_iter().next().map(|(_, tensor)| tensor);
            let tensor = tensor.ok_or_else(|| Error::new(Kind::EmptyRequest, "the request has no inputs"))?;
            (table(tensor, &spec, &columns, schema, rules)?, true)
        }
        None => (features(request, schema, rules)?, false),
    };
    if rows.is_empty() {
        return Err(Error::new(Kind::EmptyRequest, "inputs have no row: send at least one"));
    }
    Ok((Batch::Features(rows), native || pinned.is_some()))
}

/// The one input that a request without JSON fills: the model's only one. Its open dimension follows from the length.
///
/// # Errors
/// There are several, or the bytes do not fill it.
pub fn raw(body: &[u8], contract: &Contract, pinned: Option<&VersionInfo>) -> Result<Request, Error> {
    let own = pinned.map(|info| info.signature.inputs.as_slice());
    let known = [own.unwrap_or(&contract.inputs), &contract.native.inputs];
    let Some([spec]) = known.into_iter().find(|inputs| inputs.len() == 1) else {
        let text = "a request without JSON needs a model of one input: send the JSON, and its length in Inference-Header-Content-Length";
        return Err(Error::new(Kind::BadRequest, text));
    };
    let name = &spec.name;
    let Some(size) = spec.datatype.size() else {
        // One element, which is the whole body.
        let mut bytes = Vec::with_capacity(4 + body.len());
        let length =
            u32::try_from(body.len()).map_err(|_| Error::new(Kind::TooLarge, "the text is longer than 4 GiB"))?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(body);
        let shape: Vec<i64> = spec.shape.iter().map(|&d| if d < 0 { 1 } else { d }).collect();
        return named(name, super::tensor(name, spec.datatype, &shape, &bytes)?);
    };
    let mut shape = spec.shape.clone();
    if shape.iter().filter(|&&d| d < 0).count() > 1
        && let Some(rows) = shape.first_mut().filter(|rows| **rows < 0)
    {
        *rows = 1;
    }
    if shape.iter().filter(|&&d| d < 0).count() > 1 {
        let text = format!("input '{name}' leaves more than one dimension open: send the JSON with its shape");
        return Err(Error::new(Kind::BadRequest, text));
    }
    let fixed = shape.iter().filter(|&&d| d >= 0).try_fold(size, |product, &d| {
        usize::try_from(d).ok().and_then(|d| product.checked_mul(d))
    });
    let open = fixed.and_then(|fixed| body.len().checked_div(fixed)).unwrap_or(0);
    for dimension in shape.iter_mut().filter(|d| **d < 0) {
        *dimension = i64::try_from(open).unwrap_or(i64::MAX);
    }
    named(name, super::tensor(name, spec.datatype, &shape, body)?)
}

fn named(name: &str, tensor: Tensor) -> Result<Request, Error> {
    Ok(Request {
        inputs: vec![(name.to_owned(), tensor)],
        ..Request::default()
    })
}

/// A version's single tensor as columns of features.
struct Table {
    spec: TensorSpec,
    /// The feature of each column.
    columns: Vec<u32>,
}

/// The table that the request's only input is: the pinned version's own, or the first champion's.
fn table_of(request: &Request, schema: &Schema, contract: &Contract, pinned: Option<&VersionInfo>) -> Option<Table> {
    let [(name, _)] = request.inputs.as_slice() else {
        return None;
    };
    if schema.number(name).is_some() {
        return None;
    }
    if let Some(info) = pinned
        && let [spec] = info.signature.inputs.as_slice()
        && spec.name == *name
        && let Some(columns) = info.layout.matrix()
    {
        return Some(Table {
            spec: spec.clone(),
            columns,
        });
    }
    let [spec] = contract.native.inputs.as_slice() else {
        return None;
    };
    let width = spec.shape.get(1).and_then(|&d| u32::try_from(d).ok());
    let width = width.or_else(|| u32::try_from(schema.len()).ok())?;
    (spec.name == *name).then(|| Table {
        spec: spec.clone(),
        columns: (0..width).collect(),
    })
}

fn table(
    tensor: Tensor,
    spec: &TensorSpec,
    columns: &[u32],
    schema: &Arc<Schema>,
    rules: Rules,
) -> Result<Rows, Error> {
    let name = &spec.name;
    same_datatype(name, tensor.datatype(), spec.datatype)?;
    if !matches!(*tensor.shape(), [_, width] if width == columns.len()) {
        return Err(misshapen(
            name,
            tensor.shape(),
            &[-1, i64::try_from(columns.len()).unwrap_or(-1)],
        ));
    }
    within(tensor.rows(), rules.max_rows)?;
    let is_in_order = (0_u32..).zip(columns).all(|(k, &column)| k == column);
    let tensor = match is_in_order.then(|| Arc::clone(schema)) {
        Some(schema) => match Rows::table(schema, tensor) {
            Ok(rows) => return Ok(rows),
            Err(tensor) => tensor,
        },
        None => tensor,
    };
    let mut rows = Rows::new(Arc::clone(schema), tensor.rows());
    for row in 0..tensor.rows() {
        for (k, &column) in columns.iter().enumerate() {
            let value = (tensor.data(), row * columns.len() + k);
            put(&mut rows, schema, (row, column), value, rules)?;
        }
    }
    Ok(rows)
}

fn features(request: Request, schema: &Arc<Schema>, rules: Rules) -> Result<Rows, Error> {
    let mut rows: Option<Rows> = None;
    let mut seen = vec![false; schema.len()];
    for (name, tensor) in request.inputs {
        let Some(number) = schema.number(&name) else {
            unknown(&name, schema, rules)?;
            continue;
        };
        if std::mem::replace(seen.get_mut(number as usize).unwrap_or(&mut false), true) {
            return Err(twice(&name));
        }
        if !matches!(*tensor.shape(), [_] | [_, 1]) {
            return Err(misshapen(&name, tensor.shape(), &[-1, 1]));
        }
        let sent = tensor.rows();
        if rows.is_none() {
            within(sent, rules.max_rows)?;
        }
        let rows = rows.get_or_insert_with(|| Rows::new(Arc::clone(schema), sent));
        if sent != rows.len() {
            let text = format!(
                "input '{}' has {sent} rows where the first has {}: send equally many",
                clip(&name),
                rows.len()
            );
            return Err(Error::new(Kind::WrongShape, text));
        }
        for row in 0..sent {
            put(rows, schema, (row, number), (tensor.data(), row), rules)?;
        }
    }
    rows.ok_or_else(|| {
        Error::new(
            Kind::UnknownFeature,
            "no input is a feature of this model: see its metadata",
        )
    })
}

fn unknown(name: &str, schema: &Schema, rules: Rules) -> Result<(), Error> {
    if rules.unknown == Unknown::Ignore {
        schema.carried().note(name);
        return Ok(());
    }
    let near = nearest(name, schema.features().iter().map(|f| f.name.as_str()));
    let text = format!("no version takes the feature '{}'{near}", clip(name));
    Err(Error::new(Kind::UnknownFeature, text))
}

/// Stores element `at` as the row's value of the feature. A NaN is a missing value, whoever sends it.
fn put(
    rows: &mut Rows,
    schema: &Schema,
    (row, feature): (usize, u32),
    (data, at): (&Data, usize),
    rules: Rules,
) -> Result<(), Error> {
    let Some(known) = schema.features().get(feature as usize) else {
        return Ok(());
    };
    let misfit = |kind, why: &str| Error::new(kind, format!("row {row}, feature '{}': {why}", known.name));
    let wrong = || {
        let sent = data.datatype();
        misfit(
            Kind::WrongType,
            &format!(
                "{} was expected, {sent} was sent: see the model's metadata",
                known.datatype
            ),
        )
    };
    let cell = native::cell(data, at);
    let stored = match (known.datatype, cell) {
        (Datatype::Bytes, Some(cell @ Cell::Text(_))) => rows.set(row, feature, cell),
        (Datatype::Bytes, None) => return Err(misfit(Kind::WrongType, "the text is not UTF-8")),
        (Datatype::Int64, Some(cell @ Cell::Int(_))) => rows.set(row, feature, cell),
        (Datatype::Int64, Some(Cell::Float(x))) => {
            let whole = whole(x).ok_or_else(|| misfit(Kind::WrongType, &format!("{x} is no integer: send one")))?;
            rows.set(row, feature, Cell::Int(whole))
        }
        (Datatype::Fp32 | Datatype::Fp64, Some(Cell::Float(x))) if x.is_nan() => {
            if rules.missing == Missing::Reject {
                let why = "NaN was sent: send a number, or set missing = \"nan\" for the model";
                return Err(misfit(Kind::WrongType, why));
            }
            rows.set_missing(row, feature);
            true
        }
        (Datatype::Fp32 | Datatype::Fp64, Some(cell @ Cell::Float(_))) => rows.set(row, feature, cell),
        #[expect(
            clippy::cast_precision_loss,
            reason = "a float feature rounds integers as its datatype does"
        )]
        (Datatype::Fp32 | Datatype::Fp64, Some(Cell::Int(x))) => rows.set(row, feature, Cell::Float(x as f64)),
        _ => return Err(wrong()),
    };
    if stored {
        Ok(())
    } else {
        Err(misfit(Kind::TooLarge, "too much text in one request: send fewer rows"))
    }
}

/// A float that is an integer of 64 bits.
fn whole(x: f64) -> Option<i64> {
    /// 2^63: from here on a float is no `i64`.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
    ((-BEYOND..BEYOND).contains(&x) && x.fract().abs().to_bits() == 0).then_some(x as i64)
}

/// The interface's tensors in its order.
fn ordered(sent: Vec<(String, Tensor)>, signature: &Signature) -> Result<Vec<Tensor>, Error> {
    let mut found: Vec<Option<Tensor>> = signature.inputs.iter().map(|_| None).collect();
    for (name, tensor) in sent {
        let known = signature.inputs.iter().position(|spec| spec.name == name);
        let slot = known.and_then(|at| Some((signature.inputs.get(at)?, found.get_mut(at)?)));
        let Some((spec, slot)) = slot else {
            let known = || signature.inputs.iter().map(|i| i.name.as_str());
            let (near, all) = (nearest(&name, known()), known().collect::<Vec<_>>().join(", "));
            let text = format!("the model has no input '{}' (it has {}){near}", clip(&name), clip(&all));
            return Err(Error::new(Kind::UnknownFeature, text));
        };
        same_datatype(&name, tensor.datatype(), spec.datatype)?;
        let fits = |(&d, &s): (&usize, &i64)| s < 0 || usize::try_from(s) == Ok(d);
        let wanted = signature.sent_shape(spec);
        if tensor.shape().len() != wanted.len() || !tensor.shape().iter().zip(&wanted).all(fits) {
            return Err(misshapen(&name, tensor.shape(), &wanted));
        }
        if slot.replace(tensor).is_some() {
            return Err(twice(&name));
        }
    }
    let named = found.into_iter().zip(&signature.inputs);
    let all = named.map(|(tensor, TensorSpec { name, datatype, shape })| {
        tensor.ok_or_else(|| {
            let text = format!("input '{name}' is missing: send it as {datatype} of shape {shape:?}");
            Error::new(Kind::MissingFeature, text)
        })
    });
    all.collect()
}

/// How many rows the tensors are: 1 where the interface leaves no room for more, and none where an empty tensor was sent.
fn count(inputs: &[Tensor], signature: &Signature, max_rows: usize) -> Result<usize, Error> {
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
    within(rows, max_rows).map(|()| rows)
}

fn within(rows: usize, max_rows: usize) -> Result<(), Error> {
    if rows <= max_rows {
        return Ok(());
    }
    let text = format!("{rows} rows in one request: send at most {max_rows}, or raise max_rows");
    Err(Error::new(Kind::TooManyRows, text))
}

fn same_datatype(name: &str, sent: Datatype, known: Datatype) -> Result<(), Error> {
    if sent == known {
        return Ok(());
    }
    let text = format!(
        "input '{}' is {sent}, the model takes {known}: send {known}",
        clip(name)
    );
    Err(Error::new(Kind::WrongType, text))
}

fn misshapen(name: &str, sent: &[usize], known: &[i64]) -> Error {
    let text = format!(
        "input '{}' has shape {sent:?}, {known:?} is expected (-1 is any size)",
        clip(name)
    );
    Error::new(Kind::WrongShape, text)
}

fn twice(name: &str) -> Error {
    let text = format!("input '{}' was sent twice: send each input once", clip(name));
    Error::new(Kind::DuplicateKey, text)
}
