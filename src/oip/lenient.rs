//! `NaN` and `Infinity`, which are no JSON and which a widespread client sends all the same.

/// The words, longest first where one begins like another.
const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// The text with those words in quotes wherever they stand outside a string, so that it parses; `None` where there is
/// none. A float tensor takes them as text, too.
pub(super) fn quoted(json: &str) -> Option<String> {
    let mut out = String::new();
    let (mut rest, mut is_text) = (json, false);
    while let Some(at) = rest.find(['"', '\\', 'N', 'I', '-']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let word = if is_text {
            None
        } else {
            WORDS.iter().find(|word| from.starts_with(**word))
        };
        let taken = match (word, from.as_bytes()) {
            (Some(word), _) => {
                out.push('"');
                out.push_str(word);
                out.push('"');
                rest = from.get(word.len()..).unwrap_or_default();
                continue;
            }
            (None, [b'\\', ..]) if is_text => 1 + from.chars().nth(1).map_or(0, char::len_utf8),
            (None, [b'"', ..]) => {
                is_text = !is_text;
                1
            }
            (None, _) => 1,
        };
        let (taken, after) = from.split_at_checked(taken).unwrap_or((from, ""));
        out.push_str(taken);
        rest = after;
    }
    out.push_str(rest);
    (out.len() > json.len()).then_some(out)
}

/// The number that a word stands for.
pub(super) fn special(word: &str) -> Option<f64> {
    match word {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_outside_strings_are_quoted() {
        for (sent, expected) in [
            ("[1.0,NaN,-Infinity]", Some(r#"[1.0,"NaN","-Infinity"]"#)),
            (r#"{"NaN":Infinity}"#, Some(r#"{"NaN":"Infinity"}"#)),
            (r#"["a\"NaN","\\",NaN]"#, Some(r#"["a\"NaN","\\","NaN"]"#)),
            (r#"["NaN é \u00e9 -Infinity"]"#, None),
            ("[-1,-2.5e-3]", None),
            ("", None),
        ] {
            assert_eq!(quoted(sent).as_deref(), expected, "{sent}");
        }
    }
}
