//! W3C Trace Context, level 1: `traceparent` in, `traceresponse` out.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};

/// A place in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    pub(super) sampled: bool,
    /// What other systems put beside it, handed on as it is.
    pub(super) state: String,
}

/// A longer `tracestate` is left out, as the specification allows.
const STATE_BYTES: usize = 512;

impl Context {
    /// What the caller says; `None` where it says nothing, or nothing that can be read.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all("traceparent").iter();
        let (Some(text), None) = (all.next(), all.next()) else {
            return None;
        };
        let mut parts = text.to_str().ok()?.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // A later version may have more behind it; this one has not, and 255 is none.
        let version: [u8; 1] = hex(version)?;
        if version == [255] || (version == [0] && parts.next().is_some()) {
            return None;
        }
        let (trace, span, [flags]) = (hex(trace)?, hex(span)?, hex(flags)?);
        if trace == [0; 16] || span == [0; 8] {
            return None;
        }
        let state = headers.get("tracestate").and_then(|state| state.to_str().ok());
        let state = state.filter(|state| state.len() <= STATE_BYTES).unwrap_or_default();
        Some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
            state: state.to_owned(),
        })
    }

    /// A span of our own: in the caller's trace, or in a new one. Without randomness (which a running system has) it would be
    /// no valid id, and the collector drops it.
    pub(super) fn new(parent: Option<&Self>) -> Self {
        let mut span = [0; 8];
        let mut trace = [0; 16];
        let _ = getrandom::fill(&mut span);
        if let Some(parent) = parent {
            trace = parent.trace;
        } else {
            let _ = getrandom::fill(&mut trace);
        }
        Self {
            trace,
            span,
            sampled: true,
            state: parent.map(|parent| parent.state.clone()).unwrap_or_default(),
        }
    }

    /// For the answer.
    pub(super) fn response(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&format!("00-{}-{}-01", text(&self.trace), text(&self.span))).ok()
    }
}

/// Lower-case digits.
pub(super) fn text(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let lower = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * N || !text.bytes().all(lower) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Context> {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", text.parse().unwrap());
        Context::of(&headers)
    }

    #[test]
    fn a_sound_traceparent_is_taken_up_and_any_other_is_none() {
        let sound = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = of(sound).unwrap();
        assert!(context.sampled && context.state.is_empty());
        let own = Context::new(Some(&context));
        assert_eq!(own.trace, context.trace);
        assert_ne!(own.span, context.span);
        let response = own.response().unwrap();
        assert!(
            response
                .to_str()
                .unwrap()
                .starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")
        );
        assert!(!of(&sound.replace("-01", "-00")).unwrap().sampled);
        assert!(
            of(&format!("cc{}-what-comes", &sound[2..])).is_some(),
            "a later version"
        );
        for wrong in [
            "",
            "00",
            &format!("{sound}-more"),
            &format!("ff{}", &sound[2..]),
            &sound.to_uppercase(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0é",
        ] {
            if let Ok(value) = HeaderValue::from_str(wrong) {
                let mut headers = HeaderMap::new();
                headers.insert("traceparent", value);
                assert_eq!(Context::of(&headers), None, "{wrong}");
            }
        }
        let mut twice = HeaderMap::new();
        twice.append("traceparent", sound.parse().unwrap());
        twice.append("traceparent", sound.parse().unwrap());
        assert_eq!(Context::of(&twice), None);
    }
}
