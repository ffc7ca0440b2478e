//! Numbers as a datatype takes them: exact for integers, in range for floats.

use super::value::Scalar;
use crate::error::Kind;
use crate::model::tensor::Datatype;

/// Integers up to here are exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Why a value does not fit, without its place.
pub(super) type Misfit = (Kind, String);

fn wrong(datatype: Datatype, sent: Scalar<'_>, remedy: &str) -> Misfit {
    (
        Kind::WrongType,
        format!("{datatype} was expected, {sent} was sent: {remedy}"),
    )
}

fn too_large(datatype: Datatype, sent: Scalar<'_>) -> Misfit {
    (
        Kind::WrongType,
        format!("{sent} is out of range for {datatype}: send a smaller number"),
    )
}

/// A finite number that fits the float datatype.
#[expect(
    clippy::cast_precision_loss,
    reason = "a float feature rounds integers as its datatype does"
)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the rounding to single precision is what is being checked"
)]
pub(super) fn float(datatype: Datatype, sent: Scalar<'_>) -> Result<f64, Misfit> {
    let x = match sent {
        Scalar::Float(x) => x,
        Scalar::Unsigned(x) => x as f64,
        Scalar::Signed(x) => x as f64,
        Scalar::Null => return Err((Kind::WrongType, null(datatype))),
        Scalar::Bool(_) => return Err(wrong(datatype, sent, "send 0 or 1")),
        _ => return Err(wrong(datatype, sent, "send a number")),
    };
    let fits = datatype != Datatype::Fp32 || (x as f32).is_finite();
    if x.is_finite() && fits {
        Ok(x)
    } else {
        Err(too_large(datatype, sent))
    }
}

fn null(datatype: Datatype) -> String {
    if datatype.is_float() {
        format!("null was sent where {datatype} is expected: send a number, or set missing = \"nan\" for the model")
    } else {
        format!("null was sent where {datatype} is expected: send a value")
    }
}

/// An integer, exactly, as wide as any datatype needs.
#[expect(clippy::cast_possible_truncation, reason = "the value is integral and below 2^53")]
pub(super) fn integer(datatype: Datatype, sent: Scalar<'_>) -> Result<i128, Misfit> {
    match sent {
        Scalar::Unsigned(x) => Ok(i128::from(x)),
        Scalar::Signed(x) => Ok(i128::from(x)),
        Scalar::Float(x) if x.fract() != 0.0 => Err(wrong(datatype, sent, "send an integer")),
        Scalar::Float(x) if x.abs() <= EXACT => Ok(x as i128),
        Scalar::Float(_) => Err(too_large(datatype, sent)),
        Scalar::Null => Err((Kind::WrongType, null(datatype))),
        Scalar::Bool(_) => Err(wrong(datatype, sent, "send 0 or 1")),
        _ => Err(wrong(datatype, sent, "send an integer")),
    }
}

/// An integer that fits `T`.
pub(super) fn narrow<T: TryFrom<i128>>(datatype: Datatype, sent: Scalar<'_>) -> Result<T, Misfit> {
    T::try_from(integer(datatype, sent)?).map_err(|_| too_large(datatype, sent))
}

/// A string.
pub(super) fn string(sent: Scalar<'_>) -> Result<&str, Misfit> {
    match sent {
        Scalar::Text(text) => Ok(text),
        Scalar::Null => Err((Kind::WrongType, null(Datatype::Bytes))),
        _ => Err(wrong(Datatype::Bytes, sent, "send a string")),
    }
}

/// `true` or `false`.
pub(super) fn boolean(sent: Scalar<'_>) -> Result<bool, Misfit> {
    match sent {
        Scalar::Bool(x) => Ok(x),
        _ => Err(wrong(Datatype::Bool, sent, "send true or false")),
    }
}
