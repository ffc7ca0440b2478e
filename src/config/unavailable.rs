//! What the settings promise and this version cannot do yet: the one list, to be shortened as the parts arrive.

/// A key, the value that is meant (`None`: any but an empty table or list), and what to do instead.
type Entry = (&'static str, Option<&'static str>, &'static str);

const ENTRIES: &[Entry] = &[(
    "record.retention",
    None,
    "write it into the server's settings, as the table [retention]",
)];

/// What to do instead of the key (`value`: the value, where it is a string), when it is not available.
pub(super) fn remedy(key: &str, value: Option<&str>) -> Option<String> {
    ENTRIES
        .iter()
        .find(|(name, meant, _)| *name == key && (meant.is_none() || *meant == value))
        .map(|(_, _, instead)| format!("not available in this version: {instead}"))
}
