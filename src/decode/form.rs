//! A model's interface as the readers need it, and the one choice of reader.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::json::located;
use super::{Rules, Source, columns, instances, tensors};
use crate::batch::{Batch, Rows, Schema};
use crate::error::{Error, Kind};
use crate::model::layout::native;
use crate::model::signature::Signature;

/// What clients of a model send.
#[derive(Debug, Clone)]
pub enum Form {
    /// Named features.
    Features {
        /// The known features.
        schema: Arc<Schema>,
        /// Features of a row that is a list, in order.
        columns: Vec<u32>,
        /// The first champion's signature where it has a single input, whose columns are `columns`: the second spelling.
        native: Option<Arc<Signature>>,
    },
    /// Named tensors.
    Tensors {
        /// The first champion's inputs and outputs.
        signature: Arc<Signature>,
        /// What a client can send instead of `instances`, and how features get names.
        instead: String,
    },
}

impl Form {
    /// The rows of a request.
    ///
    /// # Errors
    /// The first thing that does not fit, in words.
    pub fn read(&self, source: Source<'_>, rules: Rules) -> Result<Batch, Error> {
        match (self, source) {
            (Self::Features { schema, columns, .. }, Source::Instances(raw)) => {
                instances(raw, schema, columns, rules).map(Batch::Features)
            }
            (
                Self::Features {
                    schema,
                    columns: order,
                    native,
                },
                Source::Inputs(raw),
            ) => {
                let named = native
                    .as_deref()
                    .and_then(|n| Some((n, n.inputs.first()?.name.as_str())));
                let rows = match named.filter(|(_, name)| schema.number(name).is_none()) {
                    Some((native, name)) => match only(raw, name)? {
                        Some(table) if is_flat(table.get()) => flat(table.get(), native, schema, rules),
                        Some(table) => instances(table.get(), schema, order, rules),
                        None => columns(raw, schema, rules),
                    },
                    None => columns(raw, schema, rules),
                };
                rows.map(Batch::Features)
            }
            (Self::Tensors { signature, .. }, Source::Inputs(raw)) => tensors::tensors(raw, signature, rules),
            (Self::Tensors { instead, .. }, Source::Instances(_)) => {
                let text = format!("'instances' need named features, and this model takes bare tensors: {instead}");
                Err(Error::new(Kind::WrongShape, text))
            }
        }
    }
}

/// A list whose first entry is no list.
fn is_flat(raw: &str) -> bool {
    let inside = raw.trim_start().strip_prefix('[').map(str::trim_start);
    inside.is_some_and(|inside| !inside.starts_with(['[', '{', ']']))
}

/// The rows of the second spelling sent as one flat list, as it is accepted of tensors.
fn flat(raw: &str, native: &Signature, schema: &Arc<Schema>, rules: Rules) -> Result<Rows, Error> {
    let misfit = || {
        Error::new(
            Kind::WrongShape,
            "the tensor is not the model's table of features: send one list per row",
        )
    };
    let Batch::Tensors { inputs, .. } = tensors::single(raw, native, rules)? else {
        return Err(misfit());
    };
    inputs
        .first()
        .and_then(|tensor| native::rows(tensor, schema))
        .ok_or_else(misfit)
}

/// The value of `name` when it is the only key.
fn only<'a>(raw: &'a str, name: &str) -> Result<Option<&'a RawValue>, Error> {
    let parts: BTreeMap<String, &RawValue> = serde_json::from_str(raw).map_err(|e| located("inputs", &e))?;
    Ok(if parts.len() == 1 {
        parts.get(name).copied()
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Cell, Feature};
    use crate::decode::{Missing, Unknown};
    use crate::model::signature::TensorSpec;
    use crate::model::tensor::Datatype;

    const RULES: Rules = Rules {
        missing: Missing::Reject,
        unknown: Unknown::Ignore,
        max_rows: 8,
    };

    #[test]
    fn named_features_come_by_row_by_column_and_as_the_first_champions_tensor() {
        let feature = |name: &str| Feature {
            name: name.into(),
            datatype: Datatype::Fp32,
        };
        let form = Form::Features {
            schema: Arc::new(Schema::new([feature("a"), feature("b")])),
            columns: vec![0, 1],
            native: Some(Arc::new(Signature {
                inputs: vec![TensorSpec {
                    name: "X".into(),
                    datatype: Datatype::Fp32,
                    shape: vec![-1, 2],
                }],
                outputs: vec![],
                crossed: false,
            })),
        };
        for source in [
            Source::Instances(r#"[{"a":1,"b":2}]"#),
            Source::Instances("[[1,2]]"),
            Source::Inputs(r#"{"a":[1],"b":[2]}"#),
            Source::Inputs(r#"{"X":[[1,2]]}"#),
            Source::Inputs(r#"{"X":[1,2]}"#),
        ] {
            let Batch::Features(rows) = form.read(source, RULES).unwrap() else {
                panic!("{source:?}")
            };
            assert_eq!(
                (rows.get(0, 0), rows.get(0, 1)),
                (Some(Cell::Float(1.0)), Some(Cell::Float(2.0)))
            );
        }
    }

    #[test]
    fn a_model_of_tensors_takes_inputs_and_says_so_of_instances() {
        let input = TensorSpec {
            name: "X".into(),
            datatype: Datatype::Fp32,
            shape: vec![-1, 2],
        };
        let form = Form::Tensors {
            signature: Arc::new(Signature {
                inputs: vec![input],
                outputs: vec![],
                crossed: false,
            }),
            instead: "do this".into(),
        };
        assert_eq!(
            form.read(Source::Inputs(r#"{"X":[[1,2],[3,4]]}"#), RULES)
                .unwrap()
                .rows(),
            2
        );
        for instances in [r#"[{"a":1,"b":2}]"#, "[[1,2]]"] {
            let e = form.read(Source::Instances(instances), RULES).unwrap_err();
            assert!(e.message.contains("do this"), "{e}");
        }
    }
}
