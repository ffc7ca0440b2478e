//! When two answers are the same, or near enough.

use crate::model::tensor::{Data, Tensor};

/// What summing in another order may change, relative to the value.
const RELATIVE: f64 = 1e-5;
/// Below this size, differences count as if the value had it: scores near zero come from sums of larger terms.
const SMALL: f64 = 0.1;

/// Equal to the last bit; two NaNs of the same bits are equal.
pub(super) fn same_bits(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.shape() == b.shape() && bits(a.data(), b.data()))
}

fn bits(a: &Data, b: &Data) -> bool {
    match (a, b) {
        (Data::Fp16(a), Data::Fp16(b)) => a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())),
        (Data::Fp32(a), Data::Fp32(b)) => a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())),
        (Data::Fp64(a), Data::Fp64(b)) => a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())),
        _ => a == b,
    }
}

/// Floats within rounding, everything else equal.
pub(super) fn near(a: &Tensor, b: &Tensor) -> bool {
    if a.shape() != b.shape() || a.datatype() != b.datatype() {
        return false;
    }
    if !a.datatype().is_float() {
        return a.data() == b.data();
    }
    // Half precision keeps 11 bits of its own.
    let relative = if matches!(a.data(), Data::Fp16(_)) {
        2e-3
    } else {
        RELATIVE
    };
    (0..a.data().len()).all(|i| match (a.data().number(i), b.data().number(i)) {
        (Some(x), Some(y)) if x.is_finite() && y.is_finite() => {
            (x - y).abs() <= relative * x.abs().max(y.abs()).max(SMALL)
        }
        (Some(x), Some(y)) => x.total_cmp(&y).is_eq() || (x.is_nan() && y.is_nan()),
        _ => false,
    })
}

/// True when every float in them is finite.
pub(super) fn finite(tensors: &[Tensor]) -> bool {
    tensors
        .iter()
        .filter(|tensor| tensor.datatype().is_float())
        .all(|tensor| (0..tensor.data().len()).all(|i| tensor.data().number(i).is_some_and(f64::is_finite)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> Tensor {
        Tensor::new(vec![values.len()], Data::Fp32(values.to_vec())).unwrap()
    }

    #[test]
    fn rounding_is_forgiven_and_a_difference_is_not() {
        assert!(near(&floats(&[0.5, 1e-9]), &floats(&[0.500_001, -1e-9])));
        assert!(!near(&floats(&[0.5]), &floats(&[0.500_02])));
        assert!(near(&floats(&[f32::NAN]), &floats(&[f32::NAN])));
        assert!(!near(&floats(&[f32::NAN]), &floats(&[1.0])));
        assert!(!near(&floats(&[f32::INFINITY]), &floats(&[f32::NEG_INFINITY])));
    }

    #[test]
    fn bits_tell_apart_what_rounding_forgives() {
        assert!(same_bits(&[floats(&[f32::NAN])], &[floats(&[f32::NAN])]));
        assert!(!same_bits(&[floats(&[0.0])], &[floats(&[-0.0])]));
        assert!(finite(&[floats(&[1.0])]) && !finite(&[floats(&[1.0, f32::INFINITY])]));
    }
}
