use proptest::prelude::*;

use super::*;

const GET: &str = "GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n";

/// Follows pieces; gives how many bytes were handed on whole, and the fault.
fn follow<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> (usize, Option<Halt>) {
    let (mut framing, mut passed) = (Framing::new(1024), 0);
    for piece in pieces {
        if let Err(halt) = framing.follow(piece) {
            return (passed, Some(halt));
        }
        passed += piece.len();
    }
    (passed, None)
}

fn fault(text: &str) -> Option<Fault> {
    follow([text.as_bytes()]).1.map(|halt| halt.fault)
}

#[test]
fn requests_in_a_row_pass_whatever_frames_their_bodies() {
    for text in [
        GET.repeat(3),
        format!("\r\n{GET}\r\n\r\n{GET}"),
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n\n\0\r\n{GET}"),
        format!(
            "POST / HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: Chunked\r\n\r\n4;a=b\r\n\n\0\r\n\r\n00\r\nx: y\r\n\r\n{GET}"
        ),
        format!("GET / HTTP/1.0\r\n\r\n{GET}"),
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\n{GET}\n"),
    ] {
        assert_eq!(follow([text.as_bytes()]), (text.len(), None), "{text:?}");
    }
}

#[test]
fn a_fault_is_placed_so_that_what_lies_before_it_can_be_answered() {
    let bad = "GET /v2 HTTP/1.1\nHost: x\r\n\r\n";
    let text = format!("{GET}{bad}");
    let place = |pieces: &[&[u8]]| follow(pieces.iter().copied()).1.map(|halt| halt.place);
    assert_eq!(place(&[text.as_bytes()]), Some(Place::Head(GET.len())));
    let (front, back) = text.as_bytes().split_at(GET.len() + 3);
    assert_eq!(place(&[front, back]), Some(Place::HeadBefore));
    let body = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\naxy";
    assert_eq!(place(&[body.as_bytes()]), Some(Place::Body(body.len() - 2)));
}

#[test]
fn another_protocol_is_told_by_the_first_line_alone() {
    assert_eq!(fault("\r\nPRI * HTTP/2.0\r\n\r\n"), Some(Fault::VERSION));
    assert_eq!(fault(&format!("{GET}PRI * HTTP/2.0\r\n\r\n")), Some(Fault::VERSION));
}

#[test]
fn a_head_has_a_limit_to_the_byte() {
    let head = |bytes: usize| {
        let text = "GET / HTTP/1.1\r\nhost: x\r\na: \r\n\r\n";
        text.replace("a: ", &format!("a: {}", "b".repeat(bytes - text.len())))
    };
    assert_eq!(fault(&head(1024)), None);
    assert_eq!(fault(&head(1025)), Some(Fault::HEAD_TOO_LARGE));
    assert_eq!(
        fault(&format!("GET /{}", "a".repeat(1024))),
        Some(Fault::TARGET_TOO_LONG)
    );
    assert_eq!(fault(&"\r\n".repeat(600)), Some(Fault::TARGET_TOO_LONG));
    let lines = |lines: usize| format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a:\r\n".repeat(lines - 1));
    assert_eq!(
        (fault(&lines(100)), fault(&lines(101))),
        (None, Some(Fault::TOO_MANY_LINES))
    );
}

/// Pieces of requests, sound and faulty, of which any row may come.
fn part() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a HTTP/1.0\r\n",
        "GET  / HTTP/1.1\r\n",
        "host: x\r\n",
        "Host:y\r\n",
        "\r\n",
        "\n",
        "\r",
        "content-length: 3\r\n",
        "content-length: 3, 3\r\n",
        "transfer-encoding: chunked\r\n",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n",
        "0\r\n\r\n",
        "a: b\r\n",
        " folded\r\n",
        "x : y\r\n",
        "PRI * HTTP/2.0\r\n",
        "ffffffffffffffff\r\n",
    ])
}

proptest! {
    #[test]
    fn how_bytes_are_cut_into_pieces_changes_no_verdict(parts in prop::collection::vec(part(), 1..12), cuts in prop::collection::vec(0usize..200, 0..8)) {
        let text = parts.concat();
        // Which of several faults is named may depend on it.
        let whole = fault(&text).is_some();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (text.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut rest = text.as_bytes();
        let mut done = 0;
        for cut in cuts {
            let (piece, more) = rest.split_at(cut - done);
            pieces.push(piece);
            (rest, done) = (more, cut);
        }
        pieces.push(rest);
        prop_assert_eq!(follow(pieces).1.is_some(), whole);
        prop_assert_eq!(follow(text.as_bytes().chunks(1)).1.is_some(), whole);
    }
}
