//! What the top level reads, and what it refuses.

use super::*;

#[test]
fn the_top_level_borrows_its_parts_and_ignores_other_keys() {
    let body = br#"{"model":"elec2","extra":[[[{}]]],"instances":[{}],"ids":["a"],"entities":["e"],
        "context":[{"channel":"web"}],"version":"e02","outputs":["y","y","z"],"shadow":false}"#;
    let mut read = PredictBody::parse(body).unwrap();
    assert_eq!(
        (read.model(), read.version(), read.shadow()),
        (Some("elec2"), Some("e02"), false)
    );
    assert_eq!(read.source().unwrap(), Source::Instances("[{}]"));
    assert_eq!(read.outputs(), Wanted::Names(vec!["y".into(), "z".into()]));
    let keys = read.keys(1).unwrap();
    assert_eq!(keys.context.unwrap(), [r#"{"channel":"web"}"#]);
    assert_eq!(
        (keys.ids.unwrap().to_vec(), keys.entities.unwrap()),
        (vec!["a".to_owned()], vec!["e".to_owned()])
    );
    let mut plain = PredictBody::parse(br#"{"inputs":{},"outputs":true,"ids":null}"#).unwrap();
    assert_eq!(
        (plain.outputs(), plain.shadow(), plain.keys(5).unwrap()),
        (Wanted::All, true, Keys::default())
    );
}

#[test]
fn a_body_that_is_no_request_is_refused_in_words() {
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    for (body, kind, says) in [
        (&b""[..], Kind::EmptyRequest, "empty"),
        (b" \n", Kind::EmptyRequest, "empty"),
        (b"{", Kind::MalformedJson, "not JSON"),
        (b"[]", Kind::WrongType, "the body"),
        (b"{} x", Kind::MalformedJson, "trailing"),
        (b"\xef\xbb\xbf{}", Kind::MalformedJson, "byte order mark"),
        (b"{\"model\":\"\xff\"}", Kind::MalformedJson, "UTF-8"),
        (b"{\"instances\":[{\"a\":NaN}]}", Kind::MalformedJson, "NaN"),
        (b"{\"instances\":[[\n-Infinity]]}", Kind::MalformedJson, "NaN"),
        (b"{\"inputs\":{},\"inputs\":{}}", Kind::DuplicateKey, "inputs"),
        (b"{\"model\":1}", Kind::WrongType, "string"),
        (b"{\"outputs\":1}", Kind::WrongType, "outputs"),
        (deep.as_bytes(), Kind::MalformedJson, "not JSON"),
    ] {
        let e = PredictBody::parse(body)
            .err()
            .or_else(|| PredictBody::complaint(body))
            .unwrap();
        assert_eq!(e.kind, kind, "{e}");
        assert!(e.message.contains(says), "{e}");
    }
    for (body, kind) in [
        (&b"{}"[..], Kind::EmptyRequest),
        (b"{\"inputs\":1,\"instances\":1}", Kind::BadRequest),
    ] {
        assert_eq!(PredictBody::parse(body).unwrap().source().unwrap_err().kind, kind);
    }
}

#[test]
fn ids_entities_and_context_go_with_the_rows() {
    let long = format!("{{\"ids\":[\"{}\",\"b\"]}}", "x".repeat(257));
    let fat = format!("{{\"context\":[{{\"a\":\"{}\"}},{{}}]}}", "x".repeat(20_000));
    for (body, kind, says) in [
        (r#"{"ids":["a"]}"#, Kind::WrongShape, "'ids' has 1 entries for 2 rows"),
        (r#"{"ids":["a","a"]}"#, Kind::BadRequest, "repeats 'a'"),
        (r#"{"ids":["a","p1_b"]}"#, Kind::BadRequest, "p1_"),
        (r#"{"ids":["a",""]}"#, Kind::BadRequest, "row 1"),
        (&long, Kind::BadRequest, "257 bytes"),
        (r#"{"ids":["a",5]}"#, Kind::WrongType, "'ids'"),
        (r#"{"entities":["a",null]}"#, Kind::WrongType, "'entities'"),
        (r#"{"entities":["a","b","c"]}"#, Kind::WrongShape, "'entities'"),
        (r#"{"context":[{},[]]}"#, Kind::WrongType, "'context' of row 1"),
        (
            r#"{"context":[{},{"a":"\ud800"}]}"#,
            Kind::MalformedJson,
            "'context' of row 1",
        ),
        (&fat, Kind::BadRequest, "'context' of row 0"),
    ] {
        let e = PredictBody::parse(body.as_bytes()).unwrap().keys(2).unwrap_err();
        assert_eq!(e.kind, kind, "{body}: {e}");
        assert!(e.message.contains(says), "{body}: {e}");
    }
}

#[test]
fn a_list_as_the_body_is_told_what_to_send() {
    for body in ["[]", " [[1.0, 2.0]]"] {
        let error = PredictBody::parse(body.as_bytes()).unwrap_err();
        assert_eq!(error.code(), "wrong_type");
        assert!(error.message.contains("{\"instances\":[…]}"), "{error}");
    }
}
