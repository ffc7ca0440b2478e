//! The usual `instances`, read in one pass: rows of plain numbers for features that are all FP32.
//!
//! Always holds: what is read here is what [`super::rows`] reads; whatever is not as usual (another datatype, a null, a
//! key that is unknown, escaped or repeated, a value that is missing, too many rows, anything that is not JSON) gives
//! nothing, and that reader takes the text from its beginning: it knows what to say.

use std::sync::Arc;

use super::Rules;
use crate::batch::{Rows, Schema};
use crate::model::tensor::{Data, Datatype, Tensor};

/// Whether all features of a schema are FP32.
pub(super) fn is_usual(schema: &Schema) -> bool {
    !schema.is_empty() && schema.features().iter().all(|f| f.datatype == Datatype::Fp32)
}

/// The rows of the text; `None` where the careful reader must look.
pub(super) fn rows(raw: &str, schema: &Arc<Schema>, columns: &[u32], rules: Rules) -> Option<Rows> {
    let width = schema.len();
    let in_order = columns.len() == width && (0_u32..).zip(columns).all(|(k, &column)| k == column);
    let mut text = Text(raw.as_bytes());
    let mut values: Vec<f32> = Vec::with_capacity(width);
    let mut seen: Vec<bool> = Vec::new();
    let mut count = 0;
    text.expect(b'[')?;
    loop {
        if count == rules.max_rows {
            return None;
        }
        match text.next()? {
            b'[' if in_order => text.list(width, &mut values)?,
            b'{' => {
                seen.clear();
                seen.resize(width, false);
                text.object(schema, &mut values, &mut seen)?;
            }
            _ => return None,
        }
        count += 1;
        match text.next()? {
            b',' => {}
            b']' => break,
            _ => return None,
        }
    }
    text.end()?;
    let table = Tensor::new(vec![count, width], Data::Fp32(values))?;
    Rows::table(Arc::clone(schema), table).ok()
}

/// What is left to read.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// The next byte that is no space, without taking it.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let (&byte, rest) = self.0.split_first()?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.0 = rest;
        }
    }

    /// The next byte that is no space.
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.0 = self.0.get(1..)?;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn end(mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    /// `width` numbers to the end of their list.
    fn list(&mut self, width: usize, values: &mut Vec<f32>) -> Option<()> {
        for k in 0..width {
            values.push(self.number()?);
            self.expect(if k + 1 == width { b']' } else { b',' })?;
        }
        Some(())
    }

    /// Every feature once, to the end of the object.
    fn object(&mut self, schema: &Schema, values: &mut Vec<f32>, seen: &mut [bool]) -> Option<()> {
        let start = values.len();
        values.resize(start + seen.len(), 0.0);
        for k in 0..seen.len() {
            let key = self.key()?;
            // Clients send features in the order in which the model lists them, more often than not.
            let number = match schema.features().get(k) {
                Some(feature) if feature.name.as_bytes() == key => k,
                _ => schema.number(std::str::from_utf8(key).ok()?)? as usize,
            };
            if std::mem::replace(seen.get_mut(number)?, true) {
                return None;
            }
            self.expect(b':')?;
            *values.get_mut(start + number)? = self.number()?;
            self.expect(if k + 1 == seen.len() { b'}' } else { b',' })?;
        }
        Some(())
    }

    /// A key without escapes.
    fn key(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let length = self.0.iter().position(|&b| matches!(b, b'"' | b'\\' | 0..0x20))?;
        let (key, rest) = self.0.split_at_checked(length)?;
        let (&quote, rest) = rest.split_first()?;
        self.0 = rest;
        (quote == b'"').then_some(key)
    }

    /// A number in JSON's grammar that fits single precision.
    fn number(&mut self) -> Option<f32> {
        self.peek()?;
        let length = length(self.0)?;
        let (own, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        // Correctly rounded, as the careful reader's is.
        let x: f64 = std::str::from_utf8(own).ok()?.parse().ok()?;
        #[expect(clippy::cast_possible_truncation, reason = "single precision is the feature's")]
        let x = x as f32;
        x.is_finite().then_some(x)
    }
}

/// How many bytes the number at the front takes.
fn length(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        bytes
            .get(from..)
            .map_or(0, |rest| rest.iter().take_while(|b| b.is_ascii_digit()).count())
    };
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && bytes.get(at) == Some(&b'0')) {
        return None;
    }
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        at += 1 + (fraction > 0).then_some(fraction)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at);
        at += (exponent > 0).then_some(exponent)?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rows::careful;
    use super::super::{Missing, Unknown};
    use super::*;
    use crate::batch::{Cell, Feature};

    const RULES: Rules = Rules {
        missing: Missing::Reject,
        unknown: Unknown::Reject,
        max_rows: 3,
    };

    fn schema() -> Arc<Schema> {
        Arc::new(Schema::new(["a", "b", "ä"].map(|name| Feature {
            name: name.into(),
            datatype: Datatype::Fp32,
        })))
    }

    /// Both readers agree; gives whether the quick one read it.
    fn agree(text: &str) -> bool {
        let (schema, columns) = (schema(), [0, 1, 2]);
        let Some(quick) = rows(text, &schema, &columns, RULES) else {
            return false;
        };
        let slow = careful(text, &schema, &columns, RULES).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(quick.len(), slow.len(), "{text}");
        #[expect(clippy::cast_possible_truncation, reason = "single precision is the feature's")]
        for (row, feature) in (0..slow.len()).flat_map(|row| (0..3).map(move |feature| (row, feature))) {
            let (Some(Cell::Float(a)), Some(Cell::Float(b))) = (quick.get(row, feature), slow.get(row, feature)) else {
                panic!("{text}");
            };
            assert_eq!((a as f32).to_bits(), (b as f32).to_bits(), "{text}");
        }
        true
    }

    #[test]
    fn the_usual_is_read_and_what_is_not_is_left_to_the_careful_reader() {
        for text in [
            "[[1,2,3]]",
            " [ [ -1.5e-3 , 0 , 16777217 ] , [0.1,1E5,-0] ] ",
            r#"[{"a":1,"b":2,"ä":3},{"b":0.30000000000000004,"ä":1e38,"a":0}]"#,
            "[[0.123456789012345678901234567890,1e-400,3]]",
        ] {
            assert!(agree(text), "{text}");
        }
        for text in [
            "",
            "[]",
            "[[1,2]]",
            "[[1,2,3,4]]",
            "[[1,2,3],]",
            "[[1,2,3]] x",
            "[[1,2,null]]",
            "[[1,2,\"3\"]]",
            "[[1,2,true]]",
            "[[1,2,1e39]]",
            "[[01,2,3]]",
            "[[1.,2,3]]",
            "[[.5,2,3]]",
            "[[+1,2,3]]",
            "[[1e,2,3]]",
            "[[-,2,3]]",
            "[[NaN,2,3]]",
            "[[1,2,3],[1,2,3],[1,2,3],[1,2,3]]",
            r#"[{"a":1,"b":2}]"#,
            r#"[{"a":1,"b":2,"c":3}]"#,
            r#"[{"a":1,"a":2,"b":3}]"#,
            r#"[{"a":1,"b":2,"\u00e4":3}]"#,
            r#"[{"a":1,"b":2,"ä":3,"x":4}]"#,
        ] {
            assert!(!agree(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn both_readers_read_the_same(table in prop::collection::vec(prop::collection::vec(any::<f64>(), 3), 1..4), named in any::<bool>()) {
            let row = |row: &Vec<f64>| match named {
                true => format!("{{\"b\":{:?},\"a\":{:e},\"ä\":{}}}", row[0], row[1], row[2]),
                false => format!("[{:?},{:e},{}]", row[0], row[1], row[2]),
            };
            let text = format!("[{}]", table.iter().map(row).collect::<Vec<_>>().join(","));
            #[expect(clippy::cast_possible_truncation, reason = "single precision is the feature's")]
            let fits = table.iter().flatten().all(|x| (*x as f32).is_finite());
            prop_assert_eq!(agree(&text), fits, "{}", text);
        }

        #[test]
        fn no_text_is_read_in_two_ways(text in "[\\[\\]{}\",:ab0-9.eE\\- ]{0,40}") {
            agree(&text);
        }
    }
}
