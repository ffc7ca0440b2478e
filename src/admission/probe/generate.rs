//! Inputs made up from a signature: ordinary values, the same for the same seed.
//!
//! Always holds: a generated input has the declared datatype and rank; rows differ from one another, so that a row
//! which leaks into its neighbour's answer shows.

use half::f16;

use crate::model::signature::{Signature, TensorSpec};
use crate::model::tensor::{Data, Datatype, Tensor, Text};

/// Most elements of one generated tensor: a signature may declare what no machine holds.
const MOST_ELEMENTS: usize = 1 << 24;

/// What kind of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flavour {
    /// Floats beyond the unit interval, ints up to 9.
    pub(super) wild: bool,
    /// What stands in text inputs.
    pub(super) text: &'static str,
}

/// Tried in this order.
pub(super) const FLAVOURS: [Flavour; 4] = [
    Flavour { wild: false, text: "1" },
    Flavour { wild: true, text: "1" },
    Flavour { wild: false, text: "a" },
    Flavour { wild: true, text: "a" },
];

/// What dynamic dimensions become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// The first.
    pub(super) rows: usize,
    /// All others.
    pub(super) free: usize,
}

/// splitmix64: small, seeded, the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is small.
    fn below(&mut self, end: u8) -> u8 {
        u8::try_from(self.next() % u64::from(end.max(1))).unwrap_or(0)
    }

    /// In [0, 1), or now and then negative or large.
    fn float(&mut self, wild: bool) -> f32 {
        let unit = f32::from(u16::try_from(self.next() >> 48).unwrap_or(0)) / 65_536.0;
        match (wild, self.below(8)) {
            (true, 0..=1) => -unit,
            (true, 2) => unit * -3.0,
            (true, 3) => unit * 1_000.0,
            _ => unit,
        }
    }
}

/// One tensor per input.
///
/// # Errors
/// Names the input whose declared shape is too large to try.
pub(super) fn inputs(signature: &Signature, flavour: Flavour, sizes: Sizes, seed: u64) -> Result<Vec<Tensor>, String> {
    let mut numbers = Numbers(seed);
    let made = signature.inputs.iter().map(|spec| {
        tensor(spec, flavour, sizes, &mut numbers).ok_or_else(|| {
            format!(
                "input {} is declared as {:?}: too large to try; export it with dynamic or smaller dimensions",
                spec.name, spec.shape
            )
        })
    });
    made.collect()
}

fn tensor(spec: &TensorSpec, flavour: Flavour, sizes: Sizes, numbers: &mut Numbers) -> Option<Tensor> {
    let size = |(axis, &dimension): (usize, &i64)| match usize::try_from(dimension) {
        Ok(fixed) => fixed,
        Err(_) if axis == 0 => sizes.rows,
        Err(_) => sizes.free,
    };
    let shape: Vec<usize> = spec.shape.iter().enumerate().map(size).collect();
    let count = shape.iter().try_fold(1usize, |product, &d| product.checked_mul(d))?;
    if count > MOST_ELEMENTS {
        return None;
    }
    Tensor::new(shape, data(spec.datatype, count, flavour, numbers))
}

fn data(datatype: Datatype, count: usize, flavour: Flavour, numbers: &mut Numbers) -> Data {
    let wild = flavour.wild;
    macro_rules! ints {
        ($numbers:ident) => {
            (0..count).map(|_| int($numbers, wild).into()).collect()
        };
    }
    match datatype {
        Datatype::Bool => Data::Bool((0..count).map(|_| numbers.below(2) == 1).collect()),
        Datatype::Uint8 => Data::Uint8(ints!(numbers)),
        Datatype::Uint16 => Data::Uint16(ints!(numbers)),
        Datatype::Uint32 => Data::Uint32(ints!(numbers)),
        Datatype::Uint64 => Data::Uint64(ints!(numbers)),
        Datatype::Int8 => Data::Int8((0..count).map(|_| int(numbers, wild).cast_signed()).collect()),
        Datatype::Int16 => Data::Int16(ints!(numbers)),
        Datatype::Int32 => Data::Int32(ints!(numbers)),
        Datatype::Int64 => Data::Int64(ints!(numbers)),
        Datatype::Fp16 => Data::Fp16((0..count).map(|_| f16::from_f32(numbers.float(wild))).collect()),
        Datatype::Fp32 => Data::Fp32((0..count).map(|_| numbers.float(wild)).collect()),
        Datatype::Fp64 => Data::Fp64((0..count).map(|_| numbers.float(wild).into()).collect()),
        Datatype::Bytes => {
            let mut text = Text::default();
            for _ in 0..count {
                text.push(flavour.text.as_bytes());
            }
            Data::Bytes(text)
        }
    }
}

/// Small: an index into a vocabulary, or into one of two segments, must exist. Mostly 1: a mask of zeros hides all.
fn int(numbers: &mut Numbers, wild: bool) -> u8 {
    if wild {
        return 1 + numbers.below(9);
    }
    u8::from(numbers.below(4) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let spec = |name: &str, datatype, shape: &[i64]| TensorSpec {
            name: name.into(),
            datatype,
            shape: shape.to_vec(),
        };
        Signature {
            inputs: vec![
                spec("x", Datatype::Fp32, &[-1, 3]),
                spec("ids", Datatype::Int64, &[-1, -1]),
                spec("day", Datatype::Bytes, &[-1, 1]),
                spec("scale", Datatype::Fp64, &[]),
            ],
            outputs: Vec::new(),
            crossed: false,
        }
    }

    #[test]
    fn inputs_have_the_declared_form_and_depend_on_the_seed_alone() {
        let sizes = Sizes { rows: 4, free: 8 };
        for flavour in FLAVOURS {
            let made = inputs(&signature(), flavour, sizes, 7).unwrap();
            let shapes: Vec<&[usize]> = made.iter().map(Tensor::shape).collect();
            assert_eq!(shapes, [&[4, 3][..], &[4, 8], &[4, 1], &[]]);
            assert_eq!(made, inputs(&signature(), flavour, sizes, 7).unwrap());
            assert_ne!(made, inputs(&signature(), flavour, sizes, 8).unwrap());
            assert_ne!(made[0].slice_rows(0, 1), made[0].slice_rows(1, 2));
        }
    }

    #[test]
    fn a_shape_that_no_machine_holds_is_refused_by_name() {
        let mut signature = signature();
        signature.inputs[0].shape = vec![-1, 1 << 40, 1 << 40];
        let flavour = FLAVOURS[0];
        let error = inputs(&signature, flavour, Sizes { rows: 1, free: 1 }, 7).unwrap_err();
        assert!(error.contains("input x"), "{error}");
    }
}
