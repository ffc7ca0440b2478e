//! What the settings promise and this version cannot do yet: the one list, to be shortened as the parts arrive.

/// A key, the value that is meant (`None`: any but an empty table or list), and what to do instead.
type Entry = (&'static str, Option<&'static str>, &'static str);

const ENTRIES: &[Entry] = &[
    ("metric", Some("cost"), "use \"zero_one\" or \"brier\""),
    ("metric", Some("auc"), "use \"brier\" or \"log_loss\""),
    ("metric", Some("pinball"), "use \"absolute_error\""),
    ("metric", Some("rewards"), "use a loss on labels"),
    ("cost", None, "remove it"),
    ("quantile", None, "remove it"),
    ("record.hash", None, "list the fields in record.drop, or remove it"),
    ("record.retention", None, "remove it (nothing is pruned)"),
    (
        "calibration",
        None,
        "remove it, and export the model with its calibration inside",
    ),
];

/// What to do instead of the key (`value`: the value, where it is a string), when it is not available.
pub(super) fn remedy(key: &str, value: Option<&str>) -> Option<String> {
    ENTRIES
        .iter()
        .find(|(name, meant, _)| *name == key && (meant.is_none() || *meant == value))
        .map(|(_, _, instead)| format!("not available in this version: {instead}"))
}
