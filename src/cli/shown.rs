//! What somebody else wrote, on its way to a terminal: nothing of it acts there.

use std::borrow::Cow;

/// True of what moves the cursor, colours, or turns the line around.
fn acts(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON that says the same: what acts is written as `\uXXXX`. Outside of texts JSON has nothing of it.
pub(crate) fn as_json(text: &str) -> Cow<'_, str> {
    escaped(text, |c| format!("\\u{:04x}", u32::from(c)))
}

/// A plain text, for people.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.escape_unicode().to_string())
}

fn escaped(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().map(|c| if acts(c) { escape(c) } else { c.to_string() });
    Cow::Owned(shown.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_acts_on_the_terminal_and_json_still_says_the_same() {
        let words = "a\u{1b}[2J\u{9b}31m\u{202e}b\u{7f}\r\nc";
        let json = serde_json::json!({"comment": words}).to_string();
        let shown = as_json(&json);
        assert!(!shown.chars().any(acts) && shown.contains("\\u009b"), "{shown}");
        let back: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(back["comment"], words);
        assert_eq!(plain("x\u{7}y"), "x\\u{7}y");
        assert!(matches!(plain("plain ä"), Cow::Borrowed(_)));
    }
}
