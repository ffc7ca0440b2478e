//! `[webhook]`: who is told what happens to models.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::super::reader::Section;
use super::super::value::{Value, choose, expected};
use crate::webhook::{Hook, Kind};

const DAY: Duration = Duration::from_secs(86_400);

/// A list of kinds of events.
struct Kinds(Vec<Kind>);

impl Value for Kinds {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let DeValue::Array(items) = value else {
            return Err(expected("a list of kinds of events", value));
        };
        let kinds = items.iter().map(|item| choose(item.get_ref(), &Kind::ALL));
        kinds.collect::<Result<_, _>>().map(Self)
    }
}

pub(super) fn read(s: &mut Section<'_>) -> Hook {
    let is_url = |url: &String| super::trace::is_url(url);
    if !s.has("url") {
        s.fault("url", "is missing: name the address to post to, or leave [webhook] out");
    }
    let url = s.opt_if("url", is_url, "must be an address that begins with http:// or https://");
    let timeout = |time: &Duration| (Duration::from_millis(10)..=Duration::from_secs(60)).contains(time);
    let silence = |time: &Duration| (Duration::from_secs(1)..=DAY * 366).contains(time);
    let hook = Hook {
        url: url.unwrap_or_default(),
        secret_file: s.opt::<PathBuf>("secret_file"),
        ca_file: s.opt::<PathBuf>("ca_file"),
        events: s.opt::<Kinds>("events").map(|kinds| kinds.0).unwrap_or_default(),
        timeout: s.get_if(
            "timeout",
            Duration::from_secs(5),
            timeout,
            "must lie between 10ms and 60s",
        ),
        silence: s.get_if("label_silence", DAY, silence, "must lie between 1s and 366d"),
    };
    s.note("url", &hook.url, false);
    s.note("secret_file", &hook.secret_file, false);
    s.note("ca_file", &hook.ca_file, false);
    let events = |all: &[Kind]| -> Vec<String> {
        let named = Kind::ALL.iter().filter(|(_, kind)| all.contains(kind));
        named.map(|(name, _)| (*name).to_owned()).collect()
    };
    s.note("events", &events(&hook.events), false);
    s.note("timeout", &hook.timeout, false);
    s.note("label_silence", &hook.silence, false);
    hook
}
