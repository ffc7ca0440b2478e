//! Numbers stored as their bits.
//!
//! A snapshot of the judge must come back bit for bit. JSON parsers may round the last digit of a float, an
//! integer they never do; so evidence travels as `u64`, and a stored policy carries the bits of its numbers
//! beside the text that people read.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes the bits of `x`; for `#[serde(with = "exact")]`.
pub(super) fn serialize<S: Serializer>(x: &f64, s: S) -> Result<S::Ok, S::Error> {
    x.to_bits().serialize(s)
}

/// Reads what [`serialize`] wrote.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    u64::deserialize(d).map(f64::from_bits)
}

/// An optional number.
pub(super) mod option {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the bits of `x`, if any.
    pub(in super::super) fn serialize<S: Serializer>(x: &Option<f64>, s: S) -> Result<S::Ok, S::Error> {
        x.map(f64::to_bits).serialize(s)
    }

    /// Reads what [`serialize`] wrote.
    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<f64>, D::Error> {
        Option::<u64>::deserialize(d).map(|bits| bits.map(f64::from_bits))
    }
}

/// A policy with the bits of its numbers.
pub(super) mod policy {
    use super::super::policy::Policy;
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the policy and its bits.
    pub(in super::super) fn serialize<S: Serializer>(policy: &Policy, s: S) -> Result<S::Ok, S::Error> {
        let mut copy = policy.clone();
        let bits: Vec<u64> = copy.numbers_mut().map(|x| x.to_bits()).collect();
        (policy, bits).serialize(s)
    }

    /// Reads what [`serialize`] wrote.
    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Policy, D::Error> {
        let (mut policy, bits) = <(Policy, Vec<u64>)>::deserialize(d)?;
        for (number, bits) in policy.numbers_mut().zip(bits) {
            *number = f64::from_bits(bits);
        }
        Ok(policy)
    }
}
