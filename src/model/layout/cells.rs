//! Cells of named features as the elements of a version's tensors.

use std::ops::Range;

use half::f16;

use super::Column;
use crate::batch::{Cell, Presence, Rows};
use crate::model::tensor::{Data, Datatype, Tensor, Text};

/// A number that a cell can become.
trait Element: Sized {
    /// What `null` is, where it is anything.
    const MISSING: Option<Self> = None;

    fn of(cell: Cell<'_>) -> Option<Self>;
}

macro_rules! floats {
    ($($t:ty: $from_float:expr, $from_int:expr, $nan:expr;)*) => {$(
        impl Element for $t {
            const MISSING: Option<Self> = Some($nan);

            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "the version's own precision")]
            fn of(cell: Cell<'_>) -> Option<Self> {
                match cell {
                    Cell::Float(x) => Some($from_float(x)),
                    Cell::Int(x) => Some($from_int(x)),
                    Cell::Text(_) => None,
                }
            }
        }
    )*};
}

floats! {
    f16: f16::from_f64, |x: i64| f16::from_f64(x as f64), f16::NAN;
    f32: |x: f64| x as f32, |x: i64| x as f32, f32::NAN;
    f64: |x: f64| x, |x: i64| x as f64, f64::NAN;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Element for $t {
            fn of(cell: Cell<'_>) -> Option<Self> {
                whole(cell).and_then(|x| <$t>::try_from(x).ok())
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);

impl Element for bool {
    fn of(cell: Cell<'_>) -> Option<Self> {
        match whole(cell)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// The cell as a whole number, without loss.
fn whole(cell: Cell<'_>) -> Option<i64> {
    /// 2^63: from here on a float is no `i64`.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    match cell {
        Cell::Int(x) => Some(x),
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
        Cell::Float(x) if (-BEYOND..BEYOND).contains(&x) && x.fract().abs().to_bits() == 0 => Some(x as i64),
        Cell::Float(_) | Cell::Text(_) => None,
    }
}

fn element<T: Element>(rows: &Rows, row: usize, column: &Column) -> Option<T> {
    match rows.presence(row, column.number) {
        Presence::Present => rows.get(row, column.number).and_then(T::of),
        Presence::Missing => T::MISSING,
        Presence::Absent => None,
    }
}

fn text<'a>(rows: &'a Rows, row: usize, column: &Column) -> Option<&'a str> {
    match rows.get(row, column.number)? {
        Cell::Text(text) => Some(text),
        Cell::Float(_) | Cell::Int(_) => None,
    }
}

/// True when the row carries the feature in a form that the column takes.
pub(super) fn fits(rows: &Rows, row: usize, column: &Column) -> bool {
    match column.datatype {
        Datatype::Bytes => text(rows, row, column).is_some(),
        // Every number fits a float: no need to look at it.
        Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64 => rows.presence(row, column.number) != Presence::Absent,
        Datatype::Bool => element::<bool>(rows, row, column).is_some(),
        Datatype::Uint8 => element::<u8>(rows, row, column).is_some(),
        Datatype::Uint16 => element::<u16>(rows, row, column).is_some(),
        Datatype::Uint32 => element::<u32>(rows, row, column).is_some(),
        Datatype::Uint64 => element::<u64>(rows, row, column).is_some(),
        Datatype::Int8 => element::<i8>(rows, row, column).is_some(),
        Datatype::Int16 => element::<i16>(rows, row, column).is_some(),
        Datatype::Int32 => element::<i32>(rows, row, column).is_some(),
        Datatype::Int64 => element::<i64>(rows, row, column).is_some(),
    }
}

/// These columns of all parts' rows as a tensor `[rows, columns]`; the columns share a datatype.
pub(super) fn block(parts: &[(&Rows, Range<usize>)], columns: &[Column]) -> Result<Tensor, String> {
    let rows: usize = parts.iter().map(|(_, range)| range.len()).sum();
    let count = rows * columns.len();
    macro_rules! numbers {
        ($variant:ident) => {{
            let mut elements = Vec::with_capacity(count);
            for (rows, row, column) in cells(parts, columns) {
                elements.push(element(rows, row, column).ok_or_else(|| lacks(row, column))?);
            }
            Data::$variant(elements)
        }};
    }
    let data = match columns.first().map_or(Datatype::Fp32, |column| column.datatype) {
        Datatype::Bool => numbers!(Bool),
        Datatype::Uint8 => numbers!(Uint8),
        Datatype::Uint16 => numbers!(Uint16),
        Datatype::Uint32 => numbers!(Uint32),
        Datatype::Uint64 => numbers!(Uint64),
        Datatype::Int8 => numbers!(Int8),
        Datatype::Int16 => numbers!(Int16),
        Datatype::Int32 => numbers!(Int32),
        Datatype::Int64 => numbers!(Int64),
        Datatype::Fp16 => numbers!(Fp16),
        Datatype::Fp32 => numbers!(Fp32),
        Datatype::Fp64 => numbers!(Fp64),
        Datatype::Bytes => {
            let mut elements = Text::default();
            for (rows, row, column) in cells(parts, columns) {
                let value = text(rows, row, column).ok_or_else(|| lacks(row, column))?;
                if !elements.push(value.as_bytes()) {
                    return Err("the rows hold more than 4 GiB of text".into());
                }
            }
            Data::Bytes(elements)
        }
    };
    Tensor::new(vec![rows, columns.len()], data).ok_or_else(|| "the rows do not fill the tensor".into())
}

/// Row by row, and in a row column by column.
fn cells<'a>(
    parts: &'a [(&'a Rows, Range<usize>)],
    columns: &'a [Column],
) -> impl Iterator<Item = (&'a Rows, usize, &'a Column)> {
    parts.iter().flat_map(move |(rows, range)| {
        range
            .clone()
            .flat_map(move |row| columns.iter().map(move |column| (*rows, row, column)))
    })
}

fn lacks(row: usize, column: &Column) -> String {
    format!("row {row} carries no usable value of feature {}", column.name)
}
