//! What to do about a file that is refused, or that lacks something: per habit of the exporters, in lines to copy.
//!
//! Always holds: a remedy names a change to the export or a line to add; where none is known there is none.
//! Leaves to others: finding the fault (`onnx`, `session`, `head`, `layout`), showing it (`cli`, `admission`).

use super::onnx::Scan;
use super::session::Provider;
use super::signature::Signature;
use crate::config::{Isolation, ModelConfig};

/// The remedy for a refusal by ONNX Runtime, by the file and the runtime's words.
#[must_use]
pub fn remedy(scan: &Scan, error: &str) -> Option<String> {
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if scan.operators.contains_key("ai.onnx.ml:ZipMap") && says(&["tensor(double)", "ZipMap"]) {
        return Some(
            "the model computes in float64, and ZipMap takes only float32: export with float32 inputs \
             (to_onnx(model, X[:1].astype(numpy.float32))) or with zipmap=False \
             (options={id(model): {\"zipmap\": False}})"
                .into(),
        );
    }
    if !scan.external.is_empty() && says(&["xternal", "open file", "No such file", "does not exist"]) {
        return Some(format!(
            "the weights stand in {}: copy that file beside the model under this very name, or save all in one file \
             (onnx.save(onnx.load(\"model.onnx\"), \"model.onnx\", save_as_external_data=False))",
            scan.external.join(", ")
        ));
    }
    if says(&["IR version"]) {
        return Some(format!(
            "the file has IR version {}, newer than the runtime: export with an older onnx package, or set \
             model.ir_version = 10 before saving",
            scan.ir_version
        ));
    }
    if says(&["No opset import for domain"]) {
        return Some(
            "the file uses operators of a domain whose version it does not state: export without custom operators, opset 18"
                .into(),
        );
    }
    if says(&["opset", "Opset"]) {
        let opset = scan.opsets.get("").or_else(|| scan.opsets.get("ai.onnx"));
        let opset = opset.map_or_else(|| "none for the default domain".into(), ToString::to_string);
        return Some(format!(
            "the file has opset {opset}: export again with target_opset (opset_version) 18"
        ));
    }
    if says(&[
        "is not a registered function/op",
        "No Op registered",
        "could not find an implementation",
        "NOT_IMPLEMENTED",
    ]) {
        return Some("onnx runtime lacks an operator of the file: export without custom operators, opset 18".into());
    }
    None
}

/// Why a file would not answer inside the gateway, but from processes of its own; `None`: inside.
#[must_use]
pub fn answers_apart(scan: &Scan, config: &ModelConfig) -> Option<String> {
    match (config.isolation, scan.hazard()) {
        (Isolation::Inline, _) | (Isolation::Auto, None) => None,
        (Isolation::Process, _) => Some("as champion it runs in processes of its own: isolation = \"process\"".into()),
        (Isolation::Auto, Some(operator)) => Some(format!(
            "its operator {operator} may bring down the process that runs it: as champion it runs in processes of its \
             own (isolation = \"inline\" would run it inside the gateway all the same)"
        )),
    }
}

/// Why a file may not answer under these settings, and the line that lets it.
#[must_use]
pub fn unfit_to_answer(scan: &Scan, config: &ModelConfig) -> Option<String> {
    let why = answers_apart(scan, config)?;
    let providers = &config.execution.options.providers;
    let is_plain = providers.iter().all(|&provider| provider == Provider::Cpu);
    (!is_plain).then(|| {
        format!(
            "{why}; these compute on the processor alone: set execution.providers = [\"cpu\"], or isolation = \"inline\""
        )
    })
}

/// What a file that loads could do better; each a sentence with what to add.
#[must_use]
pub fn advice(scan: &Scan, signature: &Signature, named: bool) -> Vec<String> {
    let mut advice = Vec::new();
    if !named && let Some(lines) = feature_names(signature) {
        advice.push(lines);
    }
    let fixed = signature.inputs.iter().any(|input| input.shape.first() == Some(&1));
    if fixed && !signature.inputs.is_empty() {
        advice.push(
            "the batch is fixed to 1, so that rows are run one by one: export with dynamic_shapes (PyTorch) or an \
             initial type of [None, n] (scikit-learn) to have them run together"
                .into(),
        );
    }
    if scan.operators.contains_key("ai.onnx.ml:ZipMap") {
        advice.push("ZipMap is cut out of the stored copy; export with zipmap=False to keep the digest".into());
    }
    advice
}

/// How to give the columns of a single-tensor model their names.
fn feature_names(signature: &Signature) -> Option<String> {
    let [input] = signature.inputs.as_slice() else {
        return None;
    };
    let &[_, width] = input.shape.as_slice() else {
        return None;
    };
    if signature.is_columns() || width == 0 {
        return None;
    }
    let columns = if width > 0 {
        format!("{width} columns")
    } else {
        "columns".to_owned()
    };
    Some(format!(
        "the {columns} of input {} have no names, so that clients must send bare tensors. add to model.toml \
         features = [\"first\", \"second\", …], or to the file, in Python:\n\
         \x20   import json, onnx; model = onnx.load(\"model.onnx\")\n\
         \x20   onnx.helper.set_model_props(model, {{\"feature_names\": json.dumps([\"first\", \"second\"])}})\n\
         \x20   onnx.save(model, \"model.onnx\")",
        input.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::onnx;
    use crate::model::signature::TensorSpec;
    use crate::model::tensor::Datatype;

    #[test]
    fn a_model_without_feature_names_is_told_the_lines_to_add() {
        let input = TensorSpec {
            name: "X".into(),
            datatype: Datatype::Fp32,
            shape: vec![1, 3],
        };
        let signature = Signature {
            inputs: vec![input],
            outputs: vec![],
            crossed: false,
        };
        let given = advice(&Scan::default(), &signature, false);
        assert!(
            given[0].contains("the 3 columns of input X") && given[0].contains("features = ["),
            "{given:?}"
        );
        assert!(given[0].contains("onnx.save(model"), "{given:?}");
        assert!(given[1].contains("fixed to 1"), "{given:?}");
        assert_eq!(advice(&Scan::default(), &signature, true).len(), 1);
    }

    #[test]
    fn a_file_that_answers_apart_is_unfit_only_where_processes_cannot_do_what_the_settings_want() {
        let hazard = Scan {
            hazards: Some(vec!["Loop".into()]),
            rules: onnx::RULES,
            ..Scan::default()
        };
        let plain = Scan {
            hazards: Some(Vec::new()),
            rules: onnx::RULES,
            ..Scan::default()
        };
        let settings = |text: &str| ModelConfig::parse("model.toml", text).unwrap();
        let cuda = "execution.providers = [\"cuda\", \"cpu\"]\n";
        for (scan, text, is_apart) in [
            (&hazard, "", true),
            (&plain, "", false),
            (&hazard, "isolation = \"inline\"\n", false),
            (&plain, "isolation = \"process\"\n", true),
        ] {
            assert_eq!(answers_apart(scan, &settings(text)).is_some(), is_apart, "{text}");
            assert_eq!(unfit_to_answer(scan, &settings(text)), None, "{text}");
            let unfit = unfit_to_answer(scan, &settings(&format!("{text}{cuda}")));
            assert_eq!(
                unfit.is_some_and(|why| why.contains("execution.providers")),
                is_apart,
                "{text}"
            );
        }
    }

    #[test]
    fn an_unknown_fault_has_no_invented_remedy() {
        assert_eq!(remedy(&Scan::default(), "the moon is full"), None);
    }
}
