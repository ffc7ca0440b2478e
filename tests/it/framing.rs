//! Requests whose end could be read in two ways are refused, by JSON, and end their connection: raw bytes with the exact
//! statuses of all that comes back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Gateway, gateway_with};

/// A name, the bytes, and the statuses of everything that comes back before the connection is closed.
type Case = (String, Vec<u8>, Vec<u16>);

const BODY: &str = r#"{"model":"plain","inputs":{"features":[[0.1,0.2,0.3]]}}"#;
const GET: &str = "GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n";
const LAST: &str = "GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// A GET of `/v2` with these header lines.
fn get(headers: &str) -> String {
    format!("GET /v2 HTTP/1.1\r\nconnection: close\r\n{headers}\r\n")
}

/// A prediction with these header lines and this body.
fn post(headers: &str, body: &str) -> String {
    format!("POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n{body}")
}

/// The body in one chunk, the size line and the end given.
fn chunks(size: &str, after: &str) -> String {
    post("transfer-encoding: chunked\r\n", &format!("{size}{BODY}{after}"))
}

fn case(name: &str, text: impl AsRef<[u8]>, statuses: &[u16]) -> Case {
    (name.to_owned(), text.as_ref().to_vec(), statuses.to_vec())
}

/// Values of one header, each with the status of a request that carries it.
fn values(header: &str, body: &str, values: &[(&str, u16)]) -> Vec<Case> {
    let one = |(value, status): &(&str, u16)| {
        let text = post(&format!("{header}: {value}\r\n"), body);
        case(&format!("{header}: {value:?}"), text, &[*status])
    };
    values.iter().map(one).collect()
}

fn lengths() -> Vec<Case> {
    let n = BODY.len();
    let of = |value: String| post(&format!("content-length: {value}\r\n"), BODY);
    let mut cases = vec![
        case("a length", of(n.to_string()), &[200]),
        case("a length between white space", of(format!(" \t{n} \t")), &[200]),
        case("a length with zeros before it", of(format!("000{n}")), &[200]),
        // One that asks before it sends: of any other the rest would be waited for.
        case(
            "a length of ten gigabytes",
            of("10737418240\r\nexpect: 100-continue".into()),
            &[413],
        ),
        case("equal lengths in a list", of(format!("{n}, {n}")), &[400]),
        case("a length with a plus", of(format!("+{n}")), &[400]),
        case("a length with a fraction", of(format!("{n}.0")), &[400]),
        case("two lengths in one line", of(format!("{n} {n}")), &[400]),
        case("a length and a no-break space", of(format!("{n}\u{a0}")), &[400]),
        case("equal lengths twice", of(format!("{n}\r\nContent-Length: {n}")), &[400]),
        case("two lengths", of(format!("{n}\r\ncontent-length: {}", n + 1)), &[400]),
        case(
            "a length, then chunks",
            of(format!("{n}\r\ntransfer-encoding: chunked")),
            &[400],
        ),
        case(
            "chunks, then a length",
            post(&format!("transfer-encoding: chunked\r\ncontent-length: {n}\r\n"), BODY),
            &[400],
        ),
        case(
            "a space before the colon",
            post(&format!("content-length : {n}\r\n"), BODY),
            &[400],
        ),
        case(
            "a tab before the colon",
            post(&format!("content-length\t: {n}\r\n"), BODY),
            &[400],
        ),
        case(
            "a NUL before the colon",
            post(&format!("content-length\0: {n}\r\n"), BODY),
            &[400],
        ),
        case(
            "a name with an underscore is another name",
            post(&format!("content_length: 1\r\ncontent-length: {n}\r\n"), BODY),
            &[200],
        ),
        case("a body on GET", get("host: x\r\ncontent-length: 2\r\n") + "{}", &[400]),
        case("no body on GET, said", get("host: x\r\ncontent-length: 0\r\n"), &[200]),
        case("no length at all", post("", ""), &[400]),
    ];
    cases.extend(values(
        "content-length",
        BODY,
        &[
            ("-1", 400),
            ("0x37", 400),
            ("", 400),
            ("18446744073709551616", 400),
            ("18446744073709551671", 400),
            ("99999999999999999999", 400),
            ("1e2", 400),
            ("\"55\"", 400),
            ("55;", 400),
            ("５５", 400),
        ],
    ));
    cases
}

fn encodings() -> Vec<Case> {
    let chunked = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    let n = BODY.len();
    let mut cases = values(
        "transfer-encoding",
        &chunked,
        &[
            ("chunked", 200),
            ("CHUNKED", 200),
            (" chunked\t", 200),
            ("identity", 400),
            ("gzip, chunked", 400),
            ("chunked, identity", 400),
            ("chunked, chunked", 400),
            ("xchunked", 400),
            ("chunkedx", 400),
            ("chunked;q=1", 400),
            ("\u{b}chunked", 400),
            ("chunked\0", 400),
            ("", 400),
            ("\"chunked\"", 400),
            (",chunked", 400),
            ("\r\n chunked", 400),
        ],
    );
    let with = |headers: &str| post(headers, &chunked);
    cases.extend([
        case(
            "chunked twice",
            with("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
            &[400],
        ),
        case(
            "chunked and identity",
            with("transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n"),
            &[400],
        ),
        case(
            "a space before the colon of chunked",
            with("transfer-encoding : chunked\r\n"),
            &[400],
        ),
        case(
            "chunks over HTTP/1.0",
            with("transfer-encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0"),
            &[400],
        ),
        case(
            "an encoding with an underscore is another name",
            post(&format!("transfer_encoding: chunked\r\ncontent-length: {n}\r\n"), BODY),
            &[200],
        ),
    ]);
    let size = format!("{n:x}");
    let end = "\r\n0\r\n\r\n";
    cases.extend([
        case(
            "capital digits, zeros, an extension",
            chunks(&format!("00{:X};a=\"b\"\r\n", n), "\r\n000\r\n\r\n"),
            &[200],
        ),
        case(
            "a chunk of 2^64 + 5 bytes",
            chunks("10000000000000005\r\n", end),
            &[400],
        ),
        case(
            "a bare line feed after the size",
            chunks(&format!("{size}\n"), end),
            &[400],
        ),
        case(
            "a bare line feed after the data",
            chunks(&format!("{size}\r\n"), "\n0\r\n\r\n"),
            &[400],
        ),
        case(
            "a bare line feed at the end",
            chunks(&format!("{size}\r\n"), "\r\n0\r\n\n"),
            &[400],
        ),
        case(
            "an extension of 100 KB",
            chunks(&format!("{size};{}\r\n", "a".repeat(100_000)), end),
            &[400],
        ),
        case(
            "a carriage return in an extension",
            chunks(&format!("{size};a\rb\r\n"), end),
            &[400],
        ),
        case(
            "a size in another notation",
            chunks(&format!("0x{size}\r\n"), end),
            &[400],
        ),
        case("a size below zero", chunks("-1\r\n", end), &[400]),
        case("no size", chunks("\r\n", end), &[400]),
        case("a space before the size", chunks(&format!(" {size}\r\n"), end), &[400]),
        case("a space after the size", chunks(&format!("{size} \r\n"), end), &[400]),
        case(
            "more data than the size says",
            chunks(&format!("{:x}\r\n", n - 1), end),
            &[400],
        ),
        case(
            "less data than the size says",
            chunks(&format!("{:x}\r\n", n + 1), end),
            &[400],
        ),
        case(
            "a line after the last chunk",
            chunks(&format!("{size}\r\n"), "\r\n0\r\nx-sum: 1\r\n\r\n"),
            &[200],
        ),
        case(
            "a length after the last chunk",
            chunks(&format!("{size}\r\n"), "\r\n0\r\ncontent-length: 1\r\n\r\n"),
            &[400],
        ),
        case(
            "a folded line after the last chunk",
            chunks(&format!("{size}\r\n"), "\r\n0\r\na: b\r\n c\r\n\r\n"),
            &[400],
        ),
        case(
            "16 KB after the last chunk",
            chunks(
                &format!("{size}\r\n"),
                &format!("\r\n0\r\na: {}\r\n\r\n", "b".repeat(16 << 10)),
            ),
            &[400],
        ),
    ]);
    cases
}

fn heads() -> Vec<Case> {
    let lines = |count: usize| get(&format!("host: x\r\n{}", "a: b\r\n".repeat(count - 2)));
    let line = |text: &str, statuses: &[u16]| {
        case(
            &format!("a head with {text:?}"),
            get(&format!("host: x\r\n{text}\r\n")),
            statuses,
        )
    };
    vec![
        case(
            "bare line feeds",
            "GET /v2 HTTP/1.1\nhost: x\nconnection: close\n\n",
            &[400],
        ),
        case("one bare line feed", get("host: x\na: b\r\n"), &[400]),
        case(
            "a bare line feed at the end",
            "GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\n",
            &[400],
        ),
        line("a: b\rc", &[400]),
        line("a: b\r", &[400]),
        line(" a: b", &[400]),
        line("a: b\r\n\tc", &[400]),
        line("a: b\0c", &[400]),
        line("a: b\u{7f}", &[400]),
        line("a: b\u{1}", &[400]),
        line("a b", &[400]),
        line("a b: c", &[400]),
        line(": b", &[400]),
        line("ä: b", &[400]),
        line("a[]: b", &[400]),
        line("a: b\tc", &[200]),
        line("a: ä\u{1F980}", &[200]),
        line("a:", &[200]),
        case(
            "a first header that is folded",
            "GET /v2 HTTP/1.1\r\n host: x\r\n\r\n",
            &[400],
        ),
        case("100 headers", lines(100), &[200]),
        case("101 headers", lines(101), &[431]),
        case(
            "a header of 40 KB",
            get(&format!("host: x\r\na: {}\r\n", "b".repeat(40_000))),
            &[431],
        ),
        case(
            "a header of 1 MB",
            get(&format!("host: x\r\na: {}\r\n", "b".repeat(1_000_000))),
            &[431],
        ),
        case(
            "a target of 100 KB",
            format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000)),
            &[414],
        ),
        case("an empty line before", format!("\r\n{LAST}"), &[200]),
        case("a bare line feed before", format!("\n{LAST}"), &[400]),
        case(
            "a TLS hello",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\x0a\r\n",
            &[400],
        ),
        case("nothing but zeros", [0; 64], &[400]),
    ]
}

fn request_lines() -> Vec<Case> {
    let line = |line: &str, statuses: &[u16]| {
        case(
            &format!("{line:?}"),
            format!("{line}\r\nhost: x\r\nconnection: close\r\n\r\n"),
            statuses,
        )
    };
    vec![
        line("GET /v2", &[400]),
        line("GET /v2 HTTP/0.9", &[400]),
        line("GET /v2 HTTP/1.2", &[400]),
        line("GET /v2 HTTP/2.0", &[400]),
        line("GET /v2 http/1.1", &[400]),
        line("GET /v2 HTTP/1.1 ", &[400]),
        line("GET /v2 HTTP/01.1", &[400]),
        line("GET  /v2 HTTP/1.1", &[400]),
        line("GET /v2  HTTP/1.1", &[400]),
        line("GET\t/v2\tHTTP/1.1", &[400]),
        line(" GET /v2 HTTP/1.1", &[400]),
        line("GET /v2 /v2 HTTP/1.1", &[400]),
        line("GET HTTP/1.1", &[400]),
        line("G(T /v2 HTTP/1.1", &[400]),
        line("GET /v\0 HTTP/1.1", &[400]),
        line("PRI * HTTP/2.0 ", &[400]),
        line("get /v2 HTTP/1.1", &[405]),
        line("TRACE /v2 HTTP/1.1", &[405]),
        line("OPTIONS * HTTP/1.1", &[404]),
        line("CONNECT x:80 HTTP/1.1", &[404]),
        line("GET http://x/v2 HTTP/1.1", &[200]),
        line("GET /v%32 HTTP/1.1", &[404]),
        line("GET /v2?a=%00&b HTTP/1.1", &[200]),
        line("GET /./v2 HTTP/1.1", &[404]),
        line("GET /%2e%2e/v2 HTTP/1.1", &[404]),
        line("GET //v2 HTTP/1.1", &[404]),
        line("GET /v2/models/ä HTTP/1.1", &[404]),
        line("GET /v2/models/%C3%A4 HTTP/1.1", &[404]),
    ]
}

fn hosts() -> Vec<Case> {
    let host = |headers: &str, statuses: &[u16]| case(&format!("{headers:?}"), get(headers), statuses);
    vec![
        host("", &[400]),
        host("host: a\r\nhost: b\r\n", &[400]),
        host("host: a\r\nHOST: a\r\n", &[400]),
        host("host: a, b\r\n", &[400]),
        host("host: a b\r\n", &[400]),
        host("host: me@a\r\n", &[400]),
        host("host: a/b\r\n", &[400]),
        host("host: http://a\r\n", &[400]),
        host("host:\r\n", &[200]),
        host("host: [::1]:8080\r\n", &[200]),
        host("host: my_service.my-space:80\r\n", &[200]),
        case(
            "a whole address without Host",
            "GET http://x/v2 HTTP/1.1\r\n\r\n",
            &[400],
        ),
        case("HTTP/1.0 without Host", "GET /v2 HTTP/1.0\r\n\r\n", &[200]),
        case(
            "HTTP/1.0 with two",
            "GET /v2 HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n",
            &[400],
        ),
    ]
}

fn sequences() -> Vec<Case> {
    let n = BODY.len();
    let predict = format!("POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {n}\r\n\r\n{BODY}");
    let chunked =
        format!("POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{n:x}\r\n{BODY}\r\n0\r\n\r\n");
    let bad = "GET /v2 HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n";
    let both = format!(
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        5 + GET.len()
    );
    let broken = "POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\n0\r\n\r\n";
    vec![
        case("three in a row", format!("{GET}{predict}{LAST}"), &[200, 200, 200]),
        case("chunks in a row", format!("{chunked}{chunked}{LAST}"), &[200, 200, 200]),
        case(
            "an empty line after a body",
            format!("{predict}\r\n{LAST}"),
            &[200, 200],
        ),
        case(
            "two good ones, then a bad one, then a good one",
            format!("{predict}{GET}{bad}{GET}"),
            &[200, 200, 400],
        ),
        case("a bad one, then a good one", format!("{bad}{GET}"), &[400]),
        case("one hidden behind a length and chunks", format!("{both}{GET}"), &[400]),
        case("one hidden behind a broken chunk", format!("{broken}{GET}"), &[400]),
        case(
            "one after a good one, hidden behind a broken chunk",
            format!("{GET}{broken}{GET}"),
            &[200, 400],
        ),
        case(
            "a body longer than it is said to be",
            format!(
                "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{BODY}{LAST}",
                n - 1
            ),
            &[400, 400],
        ),
        case(
            "a request where no body was said to be",
            format!("POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n{LAST}"),
            &[400, 200],
        ),
        case("what follows the last request", format!("{LAST}{bad}"), &[200]),
        case("garbage after the last request", format!("{LAST}\n\0garbage"), &[200]),
        case(
            "what follows a request of HTTP/1.0",
            format!("GET /v2 HTTP/1.0\r\n\r\n{GET}"),
            &[200],
        ),
        case(
            "an upgrade nobody offers, then its protocol",
            "GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &[200, 400],
        ),
        case(
            "another upgrade, then a request",
            format!("GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n{LAST}"),
            &[200, 200],
        ),
        case(
            "a header named by Connection is a header",
            post(&format!("connection: content-length\r\ncontent-length: {n}\r\n"), BODY),
            &[200],
        ),
        case(
            "a client that asks before it sends, and sends",
            post(&format!("expect: 100-continue\r\ncontent-length: {n}\r\n"), BODY),
            &[100, 200],
        ),
        case(
            "an expectation that nobody knows",
            post(&format!("expect: the-unexpected\r\ncontent-length: {n}\r\n"), BODY),
            &[200],
        ),
        case(
            "a connect, then a request",
            format!("CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n{LAST}"),
            &[404, 200],
        ),
        case("half a head", "GET /v2 HTTP/1.1\r\nhost: x\r\n", &[]),
        case(
            "half a body",
            format!("POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {n}\r\n\r\n{{"),
            &[408],
        ),
        case(
            "half of HTTP/2's first words",
            "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
            &[400],
        ),
    ]
}

/// All that the server sends until it closes.
fn answers(to: SocketAddr, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_nodelay(true).unwrap();
    // A server that refuses early may stop reading.
    let _ = bytes.chunks(piece).try_for_each(|piece| stream.write_all(piece));
    let mut answers = Vec::new();
    match stream.read_to_end(&mut answers) {
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => drop(other.expect("the server holds the connection")),
    }
    answers
}

/// Begins as HTTP/2: what comes of it depends on how much hyper has read before the fault was there.
const HALF_OF_HTTP2: &str = "half of HTTP/2's first words";

/// The status of each answer; every one that is an error must say so in JSON, unless it is hyper's own.
fn parsed(mut bytes: &[u8], is_ours: bool) -> Result<Vec<u16>, String> {
    let mut statuses = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").ok_or("no whole head")?;
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let status: u16 = head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .ok_or_else(|| head.clone())?;
        statuses.push(status);
        bytes = &bytes[end + 4..];
        let length = head
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.lines().next()?.parse().ok());
        let (body, rest) = bytes.split_at_checked(length.unwrap_or(0)).ok_or("half a body")?;
        bytes = rest;
        if status >= 400 && is_ours {
            let json: Value = serde_json::from_slice(body).map_err(|_| format!("{status} without JSON"))?;
            if !json["error"].is_string() || !json["code"].is_string() {
                return Err(format!("{status}: {json}"));
            }
        }
    }
    Ok(statuses)
}

fn check(gateway: &Gateway, (name, bytes, expected): &Case) -> Vec<String> {
    // In pieces too, where that does not take long: how bytes arrive changes nothing.
    let pieces = if bytes.len() < 1_000 {
        vec![bytes.len(), 7]
    } else {
        vec![bytes.len()]
    };
    let one = |piece: usize| {
        let answers = answers(gateway.data, bytes, piece);
        let statuses = parsed(&answers, name != HALF_OF_HTTP2);
        (statuses.as_ref() != Ok(expected)).then(|| {
            let text = String::from_utf8_lossy(&answers);
            format!("{name} (pieces of {piece}): {statuses:?}, not {expected:?}: {text}")
        })
    };
    pieces.into_iter().filter_map(one).collect()
}

#[test]
fn every_raw_request_gets_exactly_the_answers_it_is_due() {
    let gateway = gateway_with("header_timeout = \"1s\"\nbody_timeout = \"2s\"\n");
    let all = [lengths(), encodings(), heads(), request_lines(), hosts(), sequences()].concat();
    assert!(all.len() >= 80, "{}", all.len());
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let parts: Vec<_> = all
            .chunks(all.len().div_ceil(8))
            .map(|part| scope.spawn(|| part.iter().flat_map(|case| check(&gateway, case)).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        all.len(),
        wrong.join("\n")
    );
    let refused = crate::support::client::get(gateway.admin, "/metrics").text();
    let counted = refused
        .lines()
        .find(|line| line.contains("route=\"none\"") && line.contains("code=\"431\""));
    assert!(counted.is_some_and(|line| !line.ends_with(" 0")), "{counted:?}");
}
