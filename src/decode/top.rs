//! The top level of a JSON object, cut into its values without reading them: a body's rows are read once, not twice.
//!
//! Always holds: what is cut here is read by a parser afterwards, value by value; whatever looks odd (an unknown or a
//! repeated key, an escape in a key, text behind the end) gives nothing, and the whole body goes to the parser, which
//! knows what to say about it. So nothing passes here that a parser would refuse.

/// Texts of the values of `keys`, in their order; `None` where the parser must look.
pub(super) fn cut<'a, const N: usize>(body: &'a str, keys: &[&str; N]) -> Option<[Option<&'a str>; N]> {
    let mut values = [None; N];
    let mut rest = space(body).strip_prefix('{').map(space)?;
    if let Some(after) = rest.strip_prefix('}') {
        return space(after).is_empty().then_some(values);
    }
    loop {
        let (key, after) = rest.strip_prefix('"')?.split_once('"')?;
        let at = keys.iter().position(|known| *known == key)?;
        let after = space(space(after).strip_prefix(':')?);
        let (value, after) = after.split_at_checked(length(after.as_bytes())?)?;
        if values.get_mut(at)?.replace(value).is_some() {
            return None;
        }
        let after = space(after);
        match after.strip_prefix(',') {
            Some(next) => rest = space(next),
            None => {
                let end = space(after.strip_prefix('}')?);
                return end.is_empty().then_some(values);
            }
        }
    }
}

fn space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
}

/// How many bytes the value at the front takes, if it is well nested.
fn length(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            b'"' => at = text_end(bytes, at + 1)?,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.checked_sub(1)?,
            // A scalar ends before what follows it.
            _ if depth == 0 => return scalar(bytes, at),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

fn scalar(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let length = rest
        .iter()
        .position(|b| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'))?;
    (length > 0).then_some(from + length)
}

/// Where the string that began before `at` has its closing quote.
fn text_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: [&str; 3] = ["a", "b", "c"];

    #[test]
    fn values_are_cut_whole_and_odd_bodies_are_left_to_the_parser() {
        let all = cut(r#" { "b" : [1,{"x":"]\"}"}] , "a":-1.5e3 , "c":"q\\" } "#, &KEYS).unwrap();
        assert_eq!(all, [Some("-1.5e3"), Some(r#"[1,{"x":"]\"}"}]"#), Some(r#""q\\""#)]);
        assert_eq!(cut("{}", &KEYS), Some([None; 3]));
        for odd in [
            "",
            "[]",
            "{",
            r#"{"a":1"#,
            r#"{"a":1}}"#,
            r#"{"a":1} x"#,
            r#"{"a":1,}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"d":1}"#,
            r#"{"\u0061":1}"#,
            r#"{"a":}"#,
            r#"{"a":[}"#,
            r#"{"a":"x}"#,
            r#"{"a" 1}"#,
            "{a:1}",
        ] {
            assert_eq!(cut(odd, &KEYS), None, "{odd}");
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            "[\\PC\"\\\\]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::hash_map("[a-c\"\\\\]{0,3}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_cut_is_what_a_parser_finds(a in json(), b in json(), pretty in any::<bool>()) {
            let body = serde_json::json!({"a": a, "b": b});
            let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();
            let [first, second, none] = cut(&text, &KEYS).unwrap();
            let read = |part: Option<&str>| serde_json::from_str::<serde_json::Value>(part.unwrap()).unwrap();
            prop_assert_eq!(read(first), a);
            prop_assert_eq!(read(second), b);
            prop_assert_eq!(none, None);
        }

        #[test]
        fn no_text_is_too_odd(text in "[\\[\\]{}\",:ab0\\\\ ]{0,40}") {
            if let Some(values) = cut(&text, &KEYS) {
                // Cut, or refused by the parser of the value: never a panic.
                for value in values.into_iter().flatten() {
                    let _ = serde_json::from_str::<serde_json::Value>(value);
                }
            }
        }
    }
}
