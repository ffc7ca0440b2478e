//! What expressions mean, what is said of wrong ones, and that nothing makes them fail.

use proptest::prelude::*;

use super::*;

/// A row of a test.
fn holds(text: &str, row: &serde_json::Value) -> bool {
    let expr = Expr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    evaluate(&expr, row)
}

fn evaluate(expr: &Expr, row: &serde_json::Value) -> bool {
    expr.holds(|k| match &expr.fields[k] {
        Field::Feature(name) => value(row.get(name)?),
        Field::Context(key) => value(row.get("context")?.get(key)?),
        Field::LabelKey => value(row.get("label")?.get("key")?),
    })
}

fn value(json: &serde_json::Value) -> Option<Value<'_>> {
    match json {
        serde_json::Value::Number(x) => x.as_f64().map(Value::Number),
        serde_json::Value::String(text) => Some(Value::Text(text)),
        serde_json::Value::Bool(is) => Some(Value::Bool(*is)),
        _ => None,
    }
}

#[test]
fn conditions_on_features_and_context_mean_what_they_say() {
    let row = serde_json::json!({"age": 61, "day": "2", "vip": true, "hours per week": 40.5, "gone": null,
        "context": {"channel": "web", "a b": 1}});
    for text in [
        "age >= 60",
        "60 <= age",
        "age == 61 and day == \"2\"",
        "day == 2",
        "age < 60 or context.channel == 'web'",
        "context.channel in [\"app\", \"web\"]",
        "context.channel not in [\"app\"]",
        "!(age < 60) && !(gone > 1)",
        "`hours per week` > 40",
        "context.`a b` == 1",
        "vip",
        "not missing",
        "age > -1e2",
        "true",
        "age in [60, 61,]",
        "age > 60 or age > 70 and false",
        "\"b\" > \"a\"",
    ] {
        assert!(holds(text, &row), "{text}");
    }
    for text in [
        "age < 60",
        "missing == 1",
        "missing != 1",
        "missing not in [1]",
        "gone != 1",
        "gone == 0",
        "day == \"3\"",
        "vip == 1",
        "vip != 1",
        "context.channel > 3",
        "context.channel not in [3]",
        "age in []",
        "(age > 60 or age > 70) and false",
        "context.age == 61",
        "day",
    ] {
        assert!(!holds(text, &row), "{text}");
    }
    let expr = Expr::parse("a > 1 and context.a > b or a < 0").unwrap();
    let named: Vec<String> = expr.fields().iter().map(Field::to_string).collect();
    assert_eq!(named, ["a", "context.a", "b"]);
    let expr = Expr::parse("label.key in ['ops', 'audit'] or label > 1").unwrap();
    let named: Vec<String> = expr.fields().iter().map(Field::to_string).collect();
    assert_eq!(named, ["label.key", "label"]);
}

#[test]
fn a_wrong_expression_says_where_and_what_may_stand_there() {
    for (text, says) in [
        ("", "at character 1: found the end, expected a feature"),
        ("age >", "at character 6: found the end"),
        ("age = 60", "at character 5: found '=', expected '==' to compare"),
        (
            "age > 60 senior",
            "at character 10: found 'senior', expected \"and\", \"or\"",
        ),
        ("60", "expected a comparison"),
        ("1 < age < 3", "at character 9: found '<', expected \"and\" between"),
        ("(age > 1", "at character 9: found the end, expected ')'"),
        ("age in 3", "at character 8: found the number 3, expected a list"),
        ("age in [x]", "a list holds numbers"),
        ("age not 3", "expected \"in\""),
        ("name == \"x", "at character 9: the text has no closing \""),
        ("name == \"\\x\"", "after a backslash"),
        ("é > 1 # 2", "at character 7: '#' means nothing"),
        ("row.age > 1", "only context has keys"),
        ("label.value == 1", "only label.key can be asked"),
        ("context. == 1", "expected a key of the context"),
        ("age > - x", "found 'x', expected a number"),
        ("age > 1e999", "is no finite number"),
        ("and > 1", "found 'and', expected a feature"),
        ("`` > 1", "a name must not be empty"),
    ] {
        let error = Expr::parse(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
    let deep = format!("{}true{}", "(".repeat(40), ")".repeat(40));
    assert!(
        Expr::parse(&deep)
            .unwrap_err()
            .message
            .contains("nested deeper than 32")
    );
    assert!(
        Expr::parse(&"!".repeat(MAX_LENGTH))
            .unwrap_err()
            .message
            .contains("nested")
    );
    let long = format!("a == \"{}\"", "x".repeat(MAX_LENGTH));
    assert!(Expr::parse(&long).unwrap_err().message.contains("at most 2048"));
    let many = format!("a in [{}]", "1,".repeat(MAX_ITEMS + 1));
    assert!(Expr::parse(&many).unwrap_err().message.contains("at most 256 items"));
}

/// An expression as it is meant, to be written down and read again.
#[derive(Debug, Clone)]
enum Meant {
    Compare(usize, usize, i8),
    In(usize, Vec<i8>, bool),
    Alone(usize),
    Not(Box<Meant>),
    And(Box<Meant>, Box<Meant>),
    Or(Box<Meant>, Box<Meant>),
}

const NAMES: [&str; 4] = ["a", "context.b", "`c d`", "e"];
const COMPARISONS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];

fn meant() -> impl Strategy<Value = Meant> {
    let leaf = prop_oneof![
        (0usize..4, 0usize..6, -3i8..4).prop_map(|(f, c, x)| Meant::Compare(f, c, x)),
        (0usize..4, prop::collection::vec(-3i8..4, 0..4), any::<bool>()).prop_map(|(f, l, is)| Meant::In(f, l, is)),
        (0usize..4).prop_map(Meant::Alone),
    ];
    leaf.prop_recursive(5, 32, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|m| Meant::Not(Box::new(m))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Meant::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Meant::Or(Box::new(a), Box::new(b))),
        ]
    })
}

impl Meant {
    fn written(&self) -> String {
        match self {
            Self::Compare(field, comparison, x) => format!("{} {} {x}", NAMES[*field], COMPARISONS[*comparison]),
            Self::In(field, list, is_in) => {
                let list: Vec<String> = list.iter().map(i8::to_string).collect();
                let not = if *is_in { "" } else { "not " };
                format!("{} {not}in [{}]", NAMES[*field], list.join(", "))
            }
            Self::Alone(field) => NAMES[*field].to_owned(),
            Self::Not(inner) => format!("not ({})", inner.written()),
            Self::And(a, b) => format!("({}) and ({})", a.written(), b.written()),
            Self::Or(a, b) => format!("({}) || ({})", a.written(), b.written()),
        }
    }

    /// The reference: on numbers only.
    fn is_true(&self, row: &[Option<i8>; 4]) -> bool {
        match self {
            Self::Compare(field, comparison, x) => row[*field].is_some_and(|own| match comparison {
                0 => own == *x,
                1 => own != *x,
                2 => own < *x,
                3 => own <= *x,
                4 => own > *x,
                _ => own >= *x,
            }),
            Self::In(field, list, is_in) => row[*field].is_some_and(|own| list.contains(&own) == *is_in),
            Self::Alone(field) => row[*field].is_some_and(|own| own != 0),
            Self::Not(inner) => !inner.is_true(row),
            Self::And(a, b) => a.is_true(row) && b.is_true(row),
            Self::Or(a, b) => a.is_true(row) || b.is_true(row),
        }
    }
}

proptest! {
    #[test]
    fn what_is_read_holds_where_what_was_meant_does(meant in meant(), row in any::<[Option<i8>; 4]>()) {
        let row = row.map(|cell| cell.map(|x| x % 4));
        let mut json = serde_json::json!({"context": {}});
        for (name, cell) in ["a", "b", "c d", "e"].iter().zip(row) {
            let at = if *name == "b" { &mut json["context"] } else { &mut json };
            at[*name] = serde_json::json!(cell);
        }
        // Written in full it may be nested deeper than is read.
        if let Ok(expr) = Expr::parse(&meant.written()) {
            prop_assert_eq!(evaluate(&expr, &json), meant.is_true(&row), "{}", meant.written());
        }
    }

    #[test]
    fn no_text_makes_reading_or_evaluating_fail(
        text in prop_oneof![
            "\\PC{0,60}",
            prop::collection::vec(
                prop::sample::select(vec!["a", "context", ".", "`x y`", "(", ")", "[", "]", ",", "not", "in", "and", "||",
                    "==", "<", "!", "-", "1", "2.5e3", "\"t\"", "'", "true", " ", "é", "\\"]), 0..40).prop_map(|v| v.concat()),
        ],
        x in any::<f64>(),
    ) {
        match Expr::parse(&text) {
            Ok(expr) => {
                for value in [None, Some(Value::Number(x)), Some(Value::Text("1")), Some(Value::Bool(true))] {
                    expr.holds(|_| value);
                }
            }
            Err(error) => prop_assert!(error.at <= text.chars().count() + 1),
        }
    }
}
