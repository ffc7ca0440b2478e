//! Where a version comes from: what its toml says, and what its file says of itself.
//!
//! Always holds: whatever a file carries, what is shown of it is bounded.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::ledger::VersionRow;
use crate::model::facts::Facts;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// One version among many.
    Brief,
    /// The one that was asked for.
    Whole,
}

impl Detail {
    /// Most metadata keys, and most characters of each value.
    const fn most(self) -> (usize, usize) {
        match self {
            Self::Brief => (32, 200),
            Self::Whole => (1_000, 4_000),
        }
    }
}

/// What was recorded of a version's making: the keys that its toml states, and `file`, what the file says of itself.
#[must_use]
pub fn lineage(version: &VersionRow, facts: Option<&Facts>, detail: Detail) -> Value {
    let stated: Option<Map<String, Value>> = version
        .lineage
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok());
    let mut told = stated.unwrap_or_default();
    told.retain(|_, value| !is_empty(value));
    if let Some(facts) = facts {
        let scan = &facts.scan;
        let (keys, chars) = detail.most();
        let metadata: BTreeMap<String, String> = scan
            .metadata
            .iter()
            .take(keys)
            .map(|(key, value)| (clipped(key, chars), clipped(value, chars)))
            .collect();
        let mut file = Map::new();
        file.insert("producer".into(), json!(clipped(&scan.producer, chars)));
        file.insert("producer_version".into(), json!(clipped(&scan.producer_version, chars)));
        file.insert("ir_version".into(), json!(scan.ir_version));
        let opsets = scan.opsets.iter();
        let opsets: BTreeMap<&str, i64> = opsets.map(|(domain, opset)| (named(domain), *opset)).collect();
        file.insert("opsets".into(), json!(opsets));
        file.insert("metadata".into(), json!(metadata));
        file.retain(|_, value| !is_empty(value));
        let left_out = scan.metadata.len().saturating_sub(keys);
        if left_out > 0 {
            file.insert("metadata_left_out".into(), json!(left_out));
        }
        told.insert("file".into(), Value::Object(file));
    }
    Value::Object(told)
}

/// The domain of the standard operators has no name in files.
fn named(domain: &str) -> &str {
    match domain {
        "" => "ai.onnx",
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    }
}

fn clipped(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::onnx::Scan;
    use crate::model::signature::Signature;
    use crate::score::{ModelNo, VersionNo};

    #[test]
    fn a_file_with_endless_metadata_is_told_within_bounds() {
        let metadata = (0..5_000).map(|i| (format!("key{i:04}"), "ä".repeat(10_000)));
        let facts = Facts {
            scan: Scan {
                producer: "skl2onnx".into(),
                metadata: metadata.collect(),
                ..Scan::default()
            },
            signature: Signature::default(),
            names: None,
            batched: false,
            probe_rows: 0,
            probe_inputs: Vec::new(),
            probe_outputs: Vec::new(),
            latency_us_p50: 0,
            latency_us_p99: 0,
            cpu_ns: 0,
            memory_bytes: 0,
            runtime: String::new(),
        };
        let version = VersionRow {
            no: VersionNo(1),
            model: ModelNo(1),
            name: "a".into(),
            digest: "sha256:00".into(),
            stored_digest: None,
            role: "champion".into(),
            reason: None,
            arrived_ms: 0,
            facts: None,
            lineage: Some(r#"{"data":"d","author":null,"metrics":{},"other":{"ticket":17}}"#.into()),
        };
        let told = lineage(&version, Some(&facts), Detail::Brief);
        assert!(told.to_string().len() < 32 * 500, "{}", told.to_string().len());
        assert_eq!(told["file"]["metadata_left_out"], 4_968);
        assert_eq!((&told["data"], &told["other"]["ticket"]), (&json!("d"), &json!(17)));
        assert!(told.get("author").is_none() && told.get("metrics").is_none() && told["file"]["opsets"].is_null());
    }
}
