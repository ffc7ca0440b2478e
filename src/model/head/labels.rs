//! Classes by index, by name, and as clients write them.

use serde_json::Value as Json;

use super::LabelValue;
use crate::model::onnx::Classes;

/// The class's label; a class without a name is its number.
pub(super) fn value(classes: Option<&Classes>, index: usize) -> LabelValue {
    let named = match classes {
        Some(Classes::Ints(ints)) => ints.get(index).map(|&i| LabelValue::Int(i)),
        Some(Classes::Names(names)) => names.get(index).map(|n| LabelValue::Text(n.clone())),
        None => None,
    };
    named.unwrap_or_else(|| LabelValue::Int(i64::try_from(index).unwrap_or(i64::MAX)))
}

/// The index of the largest score, the first of equals.
pub(super) fn largest(scores: &[f64]) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, &score) in scores.iter().enumerate() {
        if score > best.1 {
            best = (index, score);
        }
    }
    best.0
}

/// All classes as texts.
pub(super) fn names(classes: &Classes) -> Vec<String> {
    match classes {
        Classes::Ints(ints) => ints.iter().map(ToString::to_string).collect(),
        Classes::Names(names) => names.clone(),
    }
}

/// The index of the class that the settings name.
pub(super) fn position(classes: &Classes, name: &str) -> Result<usize, String> {
    let at = match classes {
        Classes::Ints(ints) => ints.iter().position(|i| i.to_string() == name),
        Classes::Names(names) => names.iter().position(|n| n == name),
    };
    at.ok_or_else(|| format!("positive = \"{name}\" is none of the classes {}", list(classes)))
}

/// The index of a reported label; of two classes `true` is the positive one.
pub(super) fn index(classes: Option<&Classes>, positive: usize, label: &Json) -> Result<usize, String> {
    let Some(classes) = classes else {
        return Err("the model's classes are unknown".into());
    };
    let at = match (label, classes) {
        (Json::Bool(is_positive), _) if classes.len() == 2 => {
            let positive = positive.min(1);
            Some(if *is_positive { positive } else { 1 - positive })
        }
        (Json::Number(_), Classes::Ints(ints)) => whole(label).and_then(|x| ints.iter().position(|&i| i == x)),
        (Json::Number(_), Classes::Names(names)) => {
            whole(label).and_then(|x| names.iter().position(|n| *n == x.to_string()))
        }
        (Json::String(name), Classes::Names(names)) => names.iter().position(|n| n == name),
        _ => None,
    };
    at.ok_or_else(|| format!("label {} is none of the classes {}", short(label), list(classes)))
}

/// A whole number, also where a client writes `1.0`.
fn whole(label: &Json) -> Option<i64> {
    let float = |x: f64| (x.fract().abs().to_bits() == 0 && x.abs() < 9e15).then_some(x);
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    label
        .as_i64()
        .or_else(|| label.as_f64().and_then(float).map(|x| x as i64))
}

fn list(classes: &Classes) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<String> = match classes {
        Classes::Ints(ints) => ints.iter().take(SHOWN).map(ToString::to_string).collect(),
        Classes::Names(names) => names.iter().take(SHOWN).cloned().collect(),
    };
    if classes.len() > SHOWN {
        names.push("…".into());
    }
    names.join(", ")
}

/// A client's value in an error, cut.
fn short(label: &Json) -> String {
    let text = label.to_string();
    if text.chars().count() <= 60 {
        return text;
    }
    text.chars().take(60).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn true_is_the_positive_class_whichever_of_the_two_that_is() {
        let classes = Classes::Names(vec!["good".into(), "bad".into()]);
        for positive in [0, 1] {
            assert_eq!(index(Some(&classes), positive, &Json::Bool(true)), Ok(positive));
            assert_eq!(index(Some(&classes), positive, &Json::Bool(false)), Ok(1 - positive));
            assert_eq!(index(Some(&classes), positive, &Json::from("bad")), Ok(1));
        }
        let three = Classes::Ints(vec![0, 1, 2]);
        assert!(index(Some(&three), 1, &Json::Bool(true)).is_err());
    }
}
