//! One tensor of a file: whether its data are as large as its dimensions claim, and where they lie.
//!
//! Always holds: sizes are multiplied with a check for overflow; nothing is made as large as a claim; a tensor that passes
//! has exactly the numbers that its dimensions need, in the file or in a stated part of another one.
//! Leaves to others: how long the other file is (`admission`), and whether it may be opened at all (`intake`).

use std::collections::BTreeMap;

use super::wire::{Field, Value, fields, push_ints, shown, text};
use super::{MAX_EXTERNAL, ScanError};

/// More dimensions than any operator takes.
const MAX_RANK: usize = 64;
/// More bytes than so many packed numbers take.
const MAX_PACKED: usize = MAX_RANK * 10;
/// More elements than a machine holds, and few enough that sizes in bits cannot overflow.
const MAX_ELEMENTS: u64 = 1 << 40;
/// What a sparse tensor may be unfolded to: ONNX Runtime does so when it loads.
const MAX_UNFOLDED_BYTES: u64 = 1 << 31;
/// The location by which ONNX Runtime marks an address in its own memory.
const MEMORY_MARK: &str = "_ORT_MEM_ADDR_";

/// External data by file: how many bytes of it the tensors take, at least.
pub(super) type External = BTreeMap<String, u64>;

/// How the numbers of a type are kept: the field of its own, how many entries there make up `per` elements, and the
/// bits of an element where they stand raw.
struct Kept {
    field: u64,
    entries: u64,
    per: u64,
    bits: Option<u64>,
}

/// By `TensorProto.DataType`; `None` for types of tomorrow.
fn kept(data_type: u64) -> Option<Kept> {
    let (field, entries, per, bits) = match data_type {
        1 => (4, 1, 1, Some(32)),
        14 => (4, 2, 1, Some(64)),
        2 | 3 | 9 | 17..=20 | 24 => (5, 1, 1, Some(8)),
        4 | 5 | 10 | 16 => (5, 1, 1, Some(16)),
        6 => (5, 1, 1, Some(32)),
        21..=23 => (5, 1, 2, Some(4)),
        25 | 26 => (5, 1, 4, Some(2)),
        8 => (6, 1, 1, None),
        7 => (7, 1, 1, Some(64)),
        11 => (10, 1, 1, Some(64)),
        15 => (10, 2, 1, Some(128)),
        12 => (11, 1, 1, Some(32)),
        13 => (11, 1, 1, Some(64)),
        _ => return None,
    };
    Some(Kept {
        field,
        entries,
        per,
        bits,
    })
}

/// A `TensorProto` as it stands in the file.
#[derive(Default)]
struct Tensor<'a> {
    name: &'a [u8],
    dims: Vec<i64>,
    data_type: u64,
    /// Entries of each field of numbers or text.
    entries: BTreeMap<u64, u64>,
    raw: Option<u64>,
    is_external: bool,
    external: BTreeMap<&'a [u8], &'a [u8]>,
}

/// Checks a tensor; gives its name.
pub(super) fn check<'a>(bytes: &'a [u8], external: &mut External) -> Result<&'a [u8], ScanError> {
    let tensor = Tensor::read(bytes)?;
    let elements = elements(&tensor.dims).ok_or_else(|| tensor.fault("claims impossible dimensions"))?;
    if tensor.is_external || !tensor.external.is_empty() {
        tensor.elsewhere(elements, external)?;
    } else {
        tensor.here(elements)?;
    }
    Ok(tensor.name)
}

/// Checks a `SparseTensorProto`; gives the name of its values.
pub(super) fn check_sparse<'a>(bytes: &'a [u8], external: &mut External) -> Result<&'a [u8], ScanError> {
    let (mut parts, mut dims, mut name) = ([0u8; 2], Vec::new(), &[][..]);
    for field in fields(bytes) {
        let field = field?;
        match (field.number, field.value) {
            (1 | 2, Value::Bytes(part)) => {
                let own = check(part, external)?;
                if field.number == 1 {
                    name = own;
                }
                // A second one would be merged into the first by whoever reads the file after us.
                if let Some(count) = parts.get_mut(usize::from(field.number == 2)) {
                    *count = count.saturating_add(1);
                }
            }
            (3, value) => push_dims(&mut dims, value)?,
            _ => {}
        }
    }
    let fault = |what: &str| ScanError(format!("sparse tensor {} {what}: export the model again", shown(name)));
    if parts.iter().any(|&count| count > 1) {
        return Err(fault("has its values or indices twice"));
    }
    // The widest type is taken: what is refused here is far beyond any use.
    let bytes = elements(&dims).and_then(|elements| elements.checked_mul(16));
    if bytes.is_none_or(|bytes| bytes > MAX_UNFOLDED_BYTES) {
        return Err(fault(&format!("unfolds to the impossible dimensions {}", list(&dims))));
    }
    Ok(name)
}

impl<'a> Tensor<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ScanError> {
        let mut tensor = Self::default();
        for field in fields(bytes) {
            let field = field?;
            match (field.number, field.value) {
                (1, value) => push_dims(&mut tensor.dims, value)?,
                (2, Value::Varint(data_type)) => tensor.data_type = data_type,
                (8, Value::Bytes(name)) => tensor.name = name,
                (9, Value::Bytes(raw)) => tensor.raw = Some(raw.len() as u64),
                (13, Value::Bytes(entry)) => tensor.entry(entry)?,
                (14, Value::Varint(place)) => tensor.is_external = place == 1,
                (4..=7 | 10 | 11, _) => {
                    *tensor.entries.entry(field.number).or_default() += entries(&field)?;
                }
                _ => {}
            }
        }
        Ok(tensor)
    }

    /// A `StringStringEntryProto` that says where data lie.
    fn entry(&mut self, bytes: &'a [u8]) -> Result<(), ScanError> {
        let (mut key, mut value) = (&[][..], &[][..]);
        for field in fields(bytes) {
            let field = field?;
            key = field.bytes(1).unwrap_or(key);
            value = field.bytes(2).unwrap_or(value);
        }
        if self.external.insert(key, value).is_some() || self.external.len() > MAX_RANK {
            return Err(self.fault("says twice where its data lie"));
        }
        Ok(())
    }

    /// Data in this file.
    fn here(&self, elements: u64) -> Result<(), ScanError> {
        // ONNX Runtime refuses types that it does not know.
        let Some(kept) = kept(self.data_type) else {
            return Ok(());
        };
        let typed: u64 = self.entries.values().sum();
        let (found, needed, unit) = match self.raw {
            Some(_) if typed > 0 => return Err(self.fault("has its data twice")),
            Some(found) => {
                let bits = kept.bits.ok_or_else(|| self.fault("has text as raw bytes"))?;
                (found, (elements * bits).div_ceil(8), "bytes")
            }
            None => {
                let own = self.entries.get(&kept.field).copied().unwrap_or(0);
                if own != typed {
                    return Err(self.fault("has data of another type than it states"));
                }
                (own, (elements * kept.entries).div_ceil(kept.per), "numbers")
            }
        };
        if found == needed {
            return Ok(());
        }
        Err(self.fault(&format!("has {found} {unit} and needs {needed}")))
    }

    /// Data in another file.
    fn elsewhere(&self, elements: u64, external: &mut External) -> Result<(), ScanError> {
        let location = self.external.get(&b"location"[..]).copied().unwrap_or_default();
        if location.is_empty() {
            return Err(self.fault("lies in another file, which it does not name"));
        }
        if text(location).contains(MEMORY_MARK) {
            return Err(self.fault("claims to lie at an address in memory"));
        }
        if self.raw.is_some_and(|raw| raw > 0) || self.entries.values().any(|&count| count > 0) {
            return Err(self.fault("has its data twice"));
        }
        let bits = kept(self.data_type).and_then(|kept| kept.bits);
        let needed = bits.map(|bits| (elements * bits).div_ceil(8));
        let needed = needed.ok_or_else(|| self.fault("is of a type that cannot lie in another file"))?;
        let offset = self.number(b"offset")?.unwrap_or(0);
        if let Some(length) = self.number(b"length")?
            && length != needed
        {
            return Err(self.fault(&format!("takes {length} bytes of another file and needs {needed}")));
        }
        let end = offset.checked_add(needed).filter(|end| i64::try_from(*end).is_ok());
        let end = end.ok_or_else(|| self.fault("lies at an impossible place of another file"))?;
        let known = external.entry(text(location)).or_default();
        *known = end.max(*known);
        if external.len() > MAX_EXTERNAL {
            return Err(ScanError(format!(
                "names more than {MAX_EXTERNAL} external data files: export it with one"
            )));
        }
        Ok(())
    }

    fn number(&self, key: &[u8]) -> Result<Option<u64>, ScanError> {
        let Some(value) = self.external.get(key) else {
            return Ok(None);
        };
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| {
            let (key, value) = (shown(key), shown(value));
            self.fault(&format!("gives \"{value}\" as {key} in another file, which is no size"))
        })
    }

    fn fault(&self, what: &str) -> ScanError {
        let (name, dims) = (shown(self.name), list(&self.dims));
        ScanError(format!("tensor {name} {dims} {what}: export the model again"))
    }
}

fn push_dims(dims: &mut Vec<i64>, value: Value<'_>) -> Result<(), ScanError> {
    let too_many = matches!(value, Value::Bytes(packed) if packed.len() > MAX_PACKED);
    if too_many || dims.len() > MAX_RANK {
        return Err(ScanError(format!(
            "a tensor claims impossible dimensions, more than {MAX_RANK} of them: export the model again"
        )));
    }
    push_ints(dims, value)
}

/// How many elements a tensor of these dimensions has, where that can be.
fn elements(dims: &[i64]) -> Option<u64> {
    let product = dims
        .iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(u64::try_from(dim).ok()?));
    product.filter(|&elements| dims.len() <= MAX_RANK && elements <= MAX_ELEMENTS)
}

/// How many entries a field adds, packed or not.
fn entries(field: &Field<'_>) -> Result<u64, ScanError> {
    let odd = || ScanError("not an onnx model: packed numbers end in the midst of one. export the model again".into());
    let Value::Bytes(packed) = field.value else {
        return Ok(1);
    };
    let length = packed.len() as u64;
    match field.number {
        6 => Ok(1),
        4 if length.is_multiple_of(4) => Ok(length / 4),
        10 if length.is_multiple_of(8) => Ok(length / 8),
        4 | 10 => Err(odd()),
        _ if packed.last().is_some_and(|last| last & 0x80 != 0) => Err(odd()),
        _ => Ok(packed.iter().filter(|&&byte| byte & 0x80 == 0).count() as u64),
    }
}

fn list(dims: &[i64]) -> String {
    format!("{:?}", dims.get(..dims.len().min(MAX_RANK)).unwrap_or_default())
}
