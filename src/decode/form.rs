//! A model's interface as the readers need it, and the one choice of reader.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::json::located;
use super::{Rules, Source, columns, instances, tensors};
use crate::batch::{Batch, Schema};
use crate::error::{Error, Kind};
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
        /// Name of the first champion's single input tensor, whose columns are `columns`: the second spelling.
        native: Option<String>,
    },
    /// Named tensors.
    Tensors {
        /// The first champion's inputs and outputs.
        signature: Arc<Signature>,
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
                let rows = match native.as_deref().filter(|n| schema.number(n).is_none()) {
                    Some(native) => match only(raw, native)? {
                        Some(table) => instances(table.get(), schema, order, rules),
                        None => columns(raw, schema, rules),
                    },
                    None => columns(raw, schema, rules),
                };
                rows.map(Batch::Features)
            }
            (Self::Tensors { signature }, Source::Inputs(raw)) => tensors::tensors(raw, signature, rules.max_rows),
            (Self::Tensors { signature }, Source::Instances(raw)) => match signature.inputs.as_slice() {
                [_] => tensors::single(raw, signature, rules.max_rows),
                inputs => {
                    let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
                    let text = format!("this model takes tensors: send 'inputs' with {}", names.join(", "));
                    Err(Error::new(Kind::WrongShape, text))
                }
            },
        }
    }
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
            columns: vec![1, 0],
            native: Some("X".into()),
        };
        for source in [
            Source::Instances(r#"[{"a":1,"b":2}]"#),
            Source::Instances("[[2,1]]"),
            Source::Inputs(r#"{"a":[1],"b":[2]}"#),
            Source::Inputs(r#"{"X":[[2,1]]}"#),
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
    fn a_model_of_one_tensor_takes_plain_rows() {
        let input = |name: &str| TensorSpec {
            name: name.into(),
            datatype: Datatype::Fp32,
            shape: vec![-1, 2],
        };
        let mut signature = Signature {
            inputs: vec![input("X")],
            outputs: vec![],
        };
        let read = |s: &Signature, source: Source<'_>| {
            Form::Tensors {
                signature: Arc::new(s.clone()),
            }
            .read(source, RULES)
        };
        assert_eq!(read(&signature, Source::Instances("[[1,2],[3,4]]")).unwrap().rows(), 2);
        assert_eq!(read(&signature, Source::Inputs(r#"{"X":[[1,2]]}"#)).unwrap().rows(), 1);
        assert!(read(&signature, Source::Instances(r#"[{"a":1}]"#)).is_err());
        signature.inputs.push(input("Y"));
        let e = read(&signature, Source::Instances("[[1,2]]")).unwrap_err();
        assert!(e.message.contains("X, Y"), "{e}");
    }
}
