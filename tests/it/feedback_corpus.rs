//! A corpus of feedback, each entry made on the spot with the exact answer that it must get: to one item its status, to a
//! whole body its HTTP status and what became of its items.

use dethrone::id::{IdGenerator, IdKey};
use serde_json::{Value, json};

use super::support::client::{Answer, raw, request};
use super::support::{Gateway, Site, data, elec2_row, ids, shipped, until};

const DAY: i64 = 86_400_000;

/// What an item must come to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expect {
    /// This status.
    Item(&'static str),
    /// This status, and these words in its error.
    Told(&'static str, &'static str),
}

use Expect::{Item, Told};

struct Scene {
    gateway: Gateway,
    site: Site,
    other: Gateway,
    _other_site: Site,
}

impl Scene {
    fn new() -> Self {
        let site = Site::new("max_body_bytes = \"16MiB\"\nmax_rows = 200000\nrecorder_percent = 100\n");
        site.model_toml("elec2", "pins = true\n[record]\nopt_out = \"out.txt\"\n")
            .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
        site.drop_file("elec2", "e02_tree", &shipped("e02_tree"));
        site.model_toml("elec2", "champion = \"e01_logreg\"\n[record]\nopt_out = \"out.txt\"\n");
        std::fs::write(site.models().join("elec2/out.txt"), "somebody\n").unwrap();
        site.model_toml(
            "values",
            "task = \"regression\"\nmetric = \"squared_error\"\nbound = 100.0\n",
        )
        .drop_file("values", "mean", &data("mean"));
        site.model_toml("paid", "metric = \"rewards\"\nbound = 2.0\n")
            .drop_file("paid", "e01_logreg", &shipped("e01_logreg"));
        let gateway = site.start().ready();
        for model in ["elec2", "values", "paid"] {
            until(model, || (gateway.view(model)["ready"] == true).then_some(()));
        }
        gateway.until_role("elec2", "e02_tree", "challenger");
        let other_site = Site::new("");
        other_site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
        let other = other_site.start().ready();
        Self {
            gateway,
            site,
            other,
            _other_site: other_site,
        }
    }

    fn key(&self) -> IdKey {
        IdKey::load(&self.site.state().join("ids.key")).unwrap()
    }

    /// As the gateway issues, or issued, ids at this distance from now.
    fn issued(&self, from_now_ms: i64) -> String {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let now = i64::try_from(now.as_millis()).unwrap();
        IdGenerator::new(self.key(), 0).issue(now + from_now_ms, 1).to_string()
    }
}

/// The id of a row that was answered with more top-level keys.
fn ask(gateway: &Gateway, model: &str, more: &Value) -> String {
    let mut body = match model {
        "values" => json!({"model": model, "inputs": {"x": [[0.1, 0.2, 0.3]]}}),
        _ => json!({"model": model, "instances": [elec2_row()]}),
    };
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = gateway.predict(&body);
    assert_eq!(status, 200, "{answer}");
    ids(&answer).remove(0)
}

fn send(gateway: &Gateway, media: &str, body: &[u8]) -> Answer {
    raw(
        gateway.data,
        &request("POST", "/feedback", &format!("content-type: {media}\r\n"), body),
    )
    .unwrap()
}

fn swapped(id: &str, at: usize) -> String {
    let mut bytes = id.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    String::from_utf8(bytes).unwrap()
}

/// Items as they stand in a body, in the order in which they are sent; some mean something after those before them.
fn items(scene: &Scene) -> Vec<(&'static str, String, Expect)> {
    let fresh = |model| ask(&scene.gateway, model, &json!({}));
    let say = |id: &str, label: &str| format!("{{\"id\":{},\"label\":{label}}}", json!(id));
    let (a, b, c) = (fresh("elec2"), fresh("elec2"), fresh("elec2"));
    let (value, paid) = (fresh("values"), fresh("paid"));
    let elsewhere = ask(&scene.other, "elec2", &json!({}));
    let pinned = ask(&scene.gateway, "elec2", &json!({"version": "e02_tree"}));
    let opted_out = ask(&scene.gateway, "elec2", &json!({"shadow": false}));
    let listed = ask(&scene.gateway, "elec2", &json!({"entities": ["somebody"]}));
    let own = ask(&scene.gateway, "elec2", &json!({"ids": ["order-1"]}));
    let of = |model: &str, item: String| item.replacen('{', &format!("{{\"model\":\"{model}\","), 1);
    vec![
        ("the truth", say(&a, "1"), Item("accepted")),
        ("a replay", say(&a, "1"), Item("duplicate")),
        ("a replay in another spelling", say(&a, "true"), Item("duplicate")),
        ("another label", say(&a, "0"), Item("conflict")),
        (
            "the same with another weight",
            format!("{{\"id\":\"{a}\",\"label\":1,\"weight\":0.5}}"),
            Item("conflict"),
        ),
        (
            "a bad tag",
            say(&swapped(&b, 28), "1"),
            Told("unknown", "another instance"),
        ),
        (
            "a bad number",
            say(&swapped(&b, 12), "1"),
            Told("unknown", "another instance"),
        ),
        (
            "truncated by one",
            say(&b[..28], "1"),
            Told("unknown", "not written as"),
        ),
        (
            "truncated to its prefix",
            say("p1_", "1"),
            Told("unknown", "not written as"),
        ),
        (
            "longer by one",
            say(&format!("{b}0"), "1"),
            Told("unknown", "not written as"),
        ),
        (
            "in capitals",
            say(&format!("p1_{}", b[3..].to_uppercase()), "1"),
            Told("unknown", "not written as"),
        ),
        (
            "a letter that is none of ours",
            say(&format!("{}u", &b[..28]), "1"),
            Told("unknown", "not written as"),
        ),
        (
            "a row that the request did not have",
            say(&format!("{b}.1"), "1"),
            Told("unknown", "another instance"),
        ),
        (
            "a row with a sign",
            say(&format!("{b}.-0"), "1"),
            Told("unknown", "not written as"),
        ),
        (
            "beyond every number",
            say(&format!("p1_{}", "z".repeat(26)), "1"),
            Told("unknown", "not written as"),
        ),
        (
            "of another instance",
            say(&elsewhere, "1"),
            Told("unknown", "another instance"),
        ),
        ("of 121 days ago", say(&scene.issued(-121 * DAY), "1"), Item("expired")),
        (
            "of last week, never recorded",
            say(&scene.issued(-7 * DAY), "1"),
            Item("unrecorded"),
        ),
        ("of next year", say(&scene.issued(365 * DAY), "1"), Item("unrecorded")),
        ("of another model", of("values", say(&b, "1")), Item("unknown")),
        ("of no model", of("nobodys", say(&b, "1")), Told("invalid", "nobodys")),
        ("of a pinned row", say(&pinned, "1"), Item("unrecorded")),
        ("of an opted-out row", say(&opted_out, "1"), Item("unrecorded")),
        ("of an entity on the list", say(&listed, "1"), Item("unrecorded")),
        ("the caller's own", say(&own, "1"), Item("accepted")),
        ("the caller's own, unknown", say("order-2", "1"), Item("unknown")),
        ("an id that is a query", say("' OR 1=1 --", "1"), Item("unknown")),
        ("an id with a zero in it", say("order\u{0}1", "1"), Item("unknown")),
        (
            "an id of 257 bytes",
            say(&"x".repeat(257), "1"),
            Told("invalid", "'id' has 257 bytes"),
        ),
        ("no id", "{\"label\":1}".into(), Told("invalid", "id")),
        (
            "an id that is a number",
            "{\"id\":7,\"label\":1}".into(),
            Told("invalid", "a string"),
        ),
        ("no label", format!("{{\"id\":\"{b}\"}}"), Told("invalid", "no 'label'")),
        ("a label of NaN", say(&b, "NaN"), Told("invalid", "send {")),
        ("a label of infinity", say(&b, "1e999"), Told("invalid", "send {")),
        ("a class too many", say(&b, "2"), Told("invalid", "label")),
        ("a class below none", say(&b, "-1"), Told("invalid", "label")),
        ("half a class", say(&b, "0.5"), Told("invalid", "label")),
        ("a class by a wrong name", say(&b, "\"yes\""), Told("invalid", "label")),
        ("a list of labels", say(&b, "[1]"), Told("invalid", "single value")),
        ("a label of nothing", say(&b, "null"), Told("invalid", "no 'label'")),
        (
            "twice a label",
            format!("{{\"id\":\"{b}\",\"label\":1,\"label\":0}}"),
            Told("invalid", "duplicate"),
        ),
        (
            "a weight of 0",
            format!("{{\"id\":\"{b}\",\"label\":1,\"weight\":0}}"),
            Told("invalid", "'weight'"),
        ),
        (
            "a weight of 2",
            format!("{{\"id\":\"{b}\",\"label\":1,\"weight\":2}}"),
            Told("invalid", "'weight'"),
        ),
        (
            "a weight that is text",
            format!("{{\"id\":\"{b}\",\"label\":1,\"weight\":\"1\"}}"),
            Told("invalid", "a number"),
        ),
        (
            "rewards for nobody",
            format!("{{\"id\":\"{b}\",\"rewards\":{{}}}}"),
            Told("invalid", "'rewards'"),
        ),
        (
            "rewards by a wrong name",
            of("paid", format!("{{\"id\":\"{paid}\",\"rewards\":{{\"2\":1}}}}")),
            Told("invalid", "'rewards' pays"),
        ),
        (
            "rewards",
            of("paid", format!("{{\"id\":\"{paid}\",\"rewards\":{{\"0\":0,\"1\":1}}}}")),
            Item("accepted"),
        ),
        (
            "a value that is text",
            of("values", say(&value, "\"3\"")),
            Told("invalid", "finite number"),
        ),
        ("a value", of("values", say(&value, "-3.25")), Item("accepted")),
        ("an item that is a list", "[1]".into(), Told("invalid", "expected")),
        ("an item that is nothing", "null".into(), Told("invalid", "an object")),
        ("nothing of all that was kept", say(&b, "1"), Item("accepted")),
        (
            "with keys that nobody knows",
            format!("{{\"id\":\"{c}\",\"label\":0,\"who\":\"me\"}}"),
            Item("accepted"),
        ),
    ]
}

#[test]
fn every_item_of_the_corpus_comes_to_exactly_what_is_listed() {
    let scene = Scene::new();
    let items = items(&scene);
    assert!(items.len() >= 30);
    let mut wrong = Vec::new();
    for (name, item, expect) in &items {
        // NaN is no JSON, so that it spoils a whole body; of lines it spoils its own.
        let line = item.replacen('{', "{\"model\":\"elec2\",", usize::from(!item.contains("\"model\"")));
        let said = send(&scene.gateway, "application/x-ndjson", line.as_bytes()).json();
        let counts = said["counts"].as_object().cloned().unwrap_or_default();
        let status = counts.keys().next().cloned().unwrap_or_default();
        let error = said["rejected"][0]["error"].as_str().unwrap_or_default().to_owned();
        let is_right = match expect {
            Item(expected) => status == *expected && error.is_empty(),
            Told(expected, words) => status == *expected && error.contains(words),
        };
        if !is_right || counts.len() != 1 {
            wrong.push(format!("{name}: expected {expect:?}, got {said}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        items.len(),
        wrong.join("\n")
    );
    // The same as one body says the same, in the order sent; what was taken before is there already.
    let listed: Vec<&(&str, String, Expect)> = items.iter().filter(|(name, ..)| !name.contains("NaN")).collect();
    let body = listed
        .iter()
        .map(|(_, item, _)| item.as_str())
        .collect::<Vec<_>>()
        .join(",");
    let said = send(
        &scene.gateway,
        "application/json",
        format!("{{\"model\":\"elec2\",\"labels\":[{body}]}}").as_bytes(),
    );
    let (status, said) = (said.status, said.json());
    let results = said["results"].as_array().unwrap();
    assert_eq!((status, results.len()), (200, listed.len()));
    for ((name, _, expect), result) in listed.iter().zip(results) {
        let (Item(expected) | Told(expected, _)) = expect;
        let expected = if *expected == "accepted" { "duplicate" } else { expected };
        assert_eq!(result["status"], expected, "{name}: {result}");
    }
}

#[test]
fn whole_bodies_of_the_corpus_are_refused_by_their_status_or_spoil_nothing_but_what_is_bad() {
    let scene = Scene::new();
    let gateway = &scene.gateway;
    let json = "application/json";
    let good = ask(gateway, "elec2", &json!({}));
    let ten_megabytes = format!(
        "{{\"model\":\"elec2\",\"labels\":[{{\"id\":\"x\",\"label\":\"{}\"}}]}}",
        "x".repeat(10 << 20)
    );
    let seventeen = format!(
        "{{\"model\":\"elec2\",\"labels\":[],\"pad\":\"{}\"}}",
        "x".repeat(17 << 20)
    );
    let deep = format!("{{\"model\":\"elec2\",\"labels\":{}", "[".repeat(100_000));
    for (name, media, body, status, says) in [
        ("no JSON", json, "{".to_owned(), 400, "JSON"),
        (
            "cut off",
            json,
            format!("{{\"model\":\"elec2\",\"labels\":[{{\"id\":\"{good}\""),
            400,
            "JSON",
        ),
        (
            "NaN",
            json,
            format!("{{\"model\":\"elec2\",\"labels\":[{{\"id\":\"{good}\",\"label\":NaN}}]}}"),
            400,
            "JSON",
        ),
        ("no labels", json, "{\"model\":\"elec2\"}".into(), 400, "no label"),
        (
            "no models",
            json,
            format!("{{\"labels\":[{{\"id\":\"{good}\",\"label\":1}}]}}"),
            400,
            "several models",
        ),
        (
            "another model",
            json,
            "{\"model\":\"nobodys\",\"labels\":[{\"id\":\"x\",\"label\":1}]}".into(),
            404,
            "nobodys",
        ),
        ("a hundred thousand brackets", json, deep, 400, ""),
        (
            "a form",
            "application/x-www-form-urlencoded",
            "id=1".into(),
            400,
            "JSON",
        ),
        ("10 MB in one label", json, ten_megabytes, 200, "longer than"),
        ("17 MB", json, seventeen, 413, ""),
    ] {
        let answer = send(gateway, media, body.as_bytes());
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert!(answer.text().contains(says), "{name}: {}", answer.text());
    }
    // A hundred thousand items, one of them bad: as one body, and as lines.
    let mut rows = Vec::new();
    while rows.len() < 1_000 {
        let (_, answer) = gateway.predict(&json!({"model": "elec2", "instances": vec![elec2_row(); 1_000]}));
        rows.extend(ids(&answer));
    }
    let item = |k: usize| match k {
        77_777 => "{\"id\":\"x\",\"label\":[]}".to_owned(),
        k => format!("{{\"id\":\"{}\",\"label\":{}}}", rows[k % 1_000], k % 2),
    };
    let items: Vec<String> = (0..100_000).map(item).collect();
    let body = format!("{{\"model\":\"elec2\",\"labels\":[{}]}}", items.join(","));
    let said = send(gateway, json, body.as_bytes()).json();
    let results = said["results"].as_array().unwrap();
    let count = |status: &str| results.iter().filter(|r| r["status"] == status).count();
    assert_eq!((said["accepted"].as_u64(), results.len()), (Some(1_000), 100_000));
    assert_eq!((count("duplicate"), count("invalid")), (98_999, 1));
    assert_eq!(results[77_777]["status"], "invalid");
    let lines = items
        .iter()
        .map(|item| item.replacen('{', "{\"model\":\"elec2\",", 1))
        .collect::<Vec<_>>()
        .join("\n");
    let said = send(gateway, "application/x-ndjson", lines.as_bytes()).json();
    assert_eq!(said["counts"], json!({"duplicate": 99_999, "invalid": 1}), "{said}");
    assert_eq!(
        said["rejected"][999]["status"], "duplicate",
        "of those not accepted the first thousand are listed"
    );
    assert_eq!(gateway.label("elec2", &[(&good, json!(1))]), ["accepted"]);
}
