//! The document that describes the routes against the routes themselves: each answers, and as it says.

use serde_json::{Map, Value, json};

use crate::support::client::{Answer, get, post, raw, request};
use crate::support::{Gateway, Site, elec2_row, shipped};

/// What is wrong with a value, by the part of JSON Schema that the document uses; a key that this does not know fails.
fn fault(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    const SILENT: [&str; 5] = ["description", "default", "minimum", "contentMediaType", "pattern"];
    let keys = schema.as_object()?;
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    for (key, rule) in keys {
        let wrong = match key.as_str() {
            "$ref" => {
                let pointer = rule.as_str().unwrap().trim_start_matches('#');
                fault(document, document.pointer(pointer).unwrap(), value, at)
            }
            "type" => {
                let one = |name: &Value| name == kind || (name == "number" && kind == "integer");
                let fits = rule.as_array().map_or_else(|| one(rule), |all| all.iter().any(one));
                (!fits).then(|| format!("{at} is {kind}, not {rule}"))
            }
            "enum" => (!rule.as_array().unwrap().contains(value)).then(|| format!("{at} is {value}, none of {rule}")),
            "required" => {
                let missing = rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|name| value.get(name.as_str().unwrap()).is_none());
                missing.map(|name| format!("{at} lacks {name}"))
            }
            "properties" => rule.as_object().unwrap().iter().find_map(|(name, schema)| {
                let inner = value.get(name)?;
                fault(document, schema, inner, &format!("{at}.{name}"))
            }),
            "additionalProperties" => value
                .as_object()?
                .iter()
                .find_map(|(name, inner)| fault(document, rule, inner, &format!("{at}.{name}"))),
            "items" => value
                .as_array()?
                .iter()
                .enumerate()
                .find_map(|(k, inner)| fault(document, rule, inner, &format!("{at}[{k}]"))),
            "minItems" => (value.as_array()?.len() as u64)
                .lt(&rule.as_u64().unwrap())
                .then(|| format!("{at} is too short")),
            "anyOf" | "oneOf" => {
                let all = rule.as_array().unwrap();
                let faults: Vec<String> = all.iter().filter_map(|one| fault(document, one, value, at)).collect();
                (faults.len() == all.len()).then(|| faults.join(" and "))
            }
            silent if SILENT.contains(&silent) => None,
            unknown => panic!("{unknown} is not checked"),
        };
        if wrong.is_some() {
            return wrong;
        }
    }
    None
}

/// The answer's schema: of its status, or the default one.
fn schema<'a>(document: &'a Value, path: &str, method: &str, status: u16) -> Option<&'a Value> {
    let responses = &document["paths"][path][method]["responses"];
    let response = responses.get(status.to_string()).or_else(|| responses.get("default"));
    let response = response.unwrap_or_else(|| panic!("{method} {path} says nothing of {status}"));
    let response = match response["$ref"].as_str() {
        Some(pointer) => document.pointer(pointer.trim_start_matches('#')).unwrap(),
        None => response,
    };
    response.pointer("/content/application~1json/schema")
}

fn is_admin(operation: &Value) -> bool {
    operation["tags"]
        .as_array()
        .is_some_and(|tags| tags.contains(&json!("admin")))
}

fn send(gateway: &Gateway, document: &Value, path: &str, method: &str, body: Option<&Value>) -> Answer {
    let to = match is_admin(&document["paths"][path][method]) {
        true => gateway.admin,
        false => gateway.data,
    };
    let real = path.replace("{model}", "elec2").replace("{version}", "e01_logreg");
    let real = real
        .replace("{n}", "1")
        .replace("{id}", "order-17")
        .replace("{entity}", "customer-9");
    match body {
        Some(body) => post(to, &real, body),
        None if method == "get" => get(to, &real),
        None => raw(to, &request("POST", &real, "content-type: application/json\r\n", b"")).unwrap(),
    }
}

/// A good body of each route that takes one.
fn bodies(id: &str) -> Map<String, Value> {
    let tensors = json!({"inputs": elec2_row().as_object().unwrap().iter().map(|(name, value)| {
        let datatype = if value.is_string() { "BYTES" } else { "FP32" };
        json!({"name": name, "shape": [1, 1], "datatype": datatype, "data": [value]})
    }).collect::<Vec<_>>()});
    let rows = json!({"instances": [elec2_row()]});
    let order = json!({"author": "test", "reason": "because the document says so"});
    let of = |version: &str| json!({"version": version, "author": "test", "reason": "because the document says so"});
    let all = json!({
        "/predict": {"model": "elec2", "instances": [elec2_row()], "outputs": true},
        "/models/{model}/predict": rows,
        "/feedback": {"model": "elec2", "labels": [{"id": id, "label": 1}]},
        "/v2/models/{model}/infer": tensors,
        "/v2/models/{model}/versions/{version}/infer": tensors,
        "/v2/repository/index": {"ready": true},
        "/v2/repository/models/{model}/load": {},
        "/v2/repository/models/{model}/unload": {},
        "/api/rotate-key": order,
        "/api/models/{model}/erase": {"ids": ["order-18"], "author": "test", "reason": "because the document says so"},
        "/api/models/{model}/promote": of("e02_tree"),
        "/api/models/{model}/rollback": of("e01_logreg"),
        "/api/models/{model}/retrain": order,
        "/api/models/{model}/hold": order,
        "/api/models/{model}/resume": order,
        "/api/models/{model}/retire": of("e03_demand_only"),
        "/api/models/{model}/approve": of("e02_tree"),
    });
    all.as_object().unwrap().clone()
}

#[test]
fn every_route_answers_as_the_document_says_well_and_badly_asked() {
    let site = Site::new("");
    site.model_toml("elec2", "champion = \"e01_logreg\"\n");
    for version in ["e01_logreg", "e02_tree", "e03_demand_only"] {
        site.drop_file("elec2", version, &shipped(version));
    }
    let gateway = site.start().ready();
    for version in ["e02_tree", "e03_demand_only"] {
        gateway.until_role("elec2", version, "challenger");
    }
    let document = get(gateway.data, "/openapi.json").json();
    let (_, answer) = gateway.predict(&json!({"model": "elec2", "instances": [elec2_row()]}));
    let named = json!({"model": "elec2", "instances": [elec2_row()], "ids": ["order-17"], "entities": ["customer-9"]});
    assert_eq!(gateway.predict(&named).0, 200);
    let bodies = bodies(answer["predictions"][0]["id"].as_str().unwrap());
    let mut asked = Vec::new();
    let paths = document["paths"].as_object().unwrap();
    let operations = || {
        let of = |(path, methods): (&String, &Value)| -> Vec<(String, String)> {
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(|m| (path.clone(), m.clone()))
                .collect()
        };
        paths.iter().flat_map(of)
    };
    let check = |path: &str, method: &str, answer: &Answer| {
        let Some(schema) = schema(&document, path, method, answer.status) else {
            return;
        };
        let value = answer.json();
        if let Some(fault) = fault(&document, schema, &value, "answer") {
            panic!("{method} {path} ({}): {fault}: {value}", answer.status);
        }
    };
    // What takes the model away comes last.
    let last = |(path, _): &(String, String)| path.ends_with("load");
    let (late, early): (Vec<_>, Vec<_>) = operations().partition(last);
    for (path, method) in early.into_iter().chain(late) {
        let body = bodies.get(&path);
        assert_eq!(body.is_some(), method == "post", "{path} has no body to be tried with");
        let answer = send(&gateway, &document, &path, &method, body);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        check(&path, &method, &answer);
        if method == "post" {
            let bad = send(&gateway, &document, &path, &method, Some(&json!([7])));
            assert!((400..500).contains(&bad.status), "{path}: {}", bad.text());
            check(&path, &method, &bad);
        }
        asked.push(path);
    }
    assert!(asked.len() >= 30, "{asked:?}");
}
