//! The listener's promises: slow and idle clients are cut, a full house makes room, HTTP/2 works on the same port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::client::{get, raw, request};
use crate::support::{gateway, gateway_with, until};

fn connect(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// What the server sends until it closes, and how long that took.
fn until_closed(mut stream: TcpStream) -> (String, Duration) {
    let start = Instant::now();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => drop(other.expect("the server holds the connection")),
    }
    (String::from_utf8_lossy(&bytes).into_owned(), start.elapsed())
}

#[test]
fn a_head_that_drips_is_cut_although_bytes_keep_coming() {
    let gateway = gateway_with("header_timeout = \"1s\"\n");
    let mut stream = connect(gateway.data, b"GET /v2 HTTP/1.1\r\nhost: x\r\n");
    let start = Instant::now();
    let reader = stream.try_clone().unwrap();
    let closed = std::thread::spawn(move || until_closed(reader));
    while !closed.is_finished() {
        // Half a dozen bytes in the limit: never a pause as long as it.
        let _ = stream.write_all(b"a");
        std::thread::park_timeout(Duration::from_millis(150));
        assert!(start.elapsed() < Duration::from_secs(15), "the head was never cut");
    }
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
}

#[test]
fn a_body_that_stops_is_answered_408() {
    let gateway = gateway_with("body_timeout = \"1s\"\n");
    let half = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    let (answer, _) = until_closed(connect(gateway.data, half));
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"timeout\""),
        "{answer}"
    );
}

#[test]
fn a_connection_lives_on_between_requests_and_ends_when_it_idles() {
    let gateway = gateway_with("header_timeout = \"1s\"\nidle_timeout = \"3s\"\n");
    let ask = b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut stream = connect(gateway.data, ask);
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer).unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 200 "));
    // Longer than a head may take: the time between requests is no head.
    std::thread::park_timeout(Duration::from_millis(1_500));
    stream.write_all(ask).unwrap();
    let (answer, took) = until_closed(stream);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(6),
        "{took:?}"
    );
}

#[test]
fn a_full_house_sends_the_longest_idle_away() {
    let gateway = gateway_with("max_connections = 16\n");
    let ask = b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n";
    // One after the other, so that the first is the one that has idled longest.
    let one = |_| {
        let mut stream = connect(gateway.data, ask);
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream
    };
    let mut idle: Vec<TcpStream> = (0..16).map(one).collect();
    assert_eq!(get(gateway.data, "/v2/health/live").status, 200);
    let (_, took) = until_closed(idle.remove(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn when_descriptors_run_out_accepting_rests_and_it_goes_on_once_there_are_some() {
    let gateway = gateway_with("header_timeout = \"1h\"\nidle_timeout = \"1h\"\n");
    let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid()))
        .unwrap()
        .count();
    let (pid, limit) = (gateway.pid().to_string(), format!("--nofile={}", open + 4));
    let limited = std::process::Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .status();
    assert!(limited.unwrap().success());
    let start = Instant::now();
    let many: Vec<TcpStream> = (0..40)
        .map(|_| connect(gateway.data, b"GET /v2 HTTP/1.1\r\nhost: x\r\na"))
        .collect();
    let said = || gateway.site().log().matches("cannot accept connections").count();
    until("it is said", || (said() >= 5).then_some(()));
    let (times, most) = (said() as u128, start.elapsed().as_millis() / 20 + 5);
    assert!(times <= most, "it spins: {times} times in {:?}", start.elapsed());
    drop(many);
    let ask = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    until("others are served", || {
        let answer = raw(gateway.data, ask).ok()?;
        (answer.status == 200).then_some(())
    });
}

#[test]
fn head_and_body_arrive_together() {
    let gateway = gateway();
    let mut stream = connect(gateway.data, b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..read]).to_lowercase();
    assert!(
        text.contains("content-length:") && text.contains("\"name\":\"dethrone\""),
        "{text}"
    );
}

#[test]
fn http2_with_prior_knowledge_is_spoken_on_the_same_port() {
    let gateway = gateway();
    // The preface and an empty SETTINGS frame; the server's own SETTINGS frame comes back.
    let mut stream = connect(gateway.data, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "{frame:?}");
}

#[test]
fn ambiguous_requests_never_get_an_answer_twice() {
    let gateway = gateway();
    for bytes in [
        &b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n{}GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\n\r\nGET /v2 HTTP/1.1\r\nconnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    ] {
        let answer = raw(gateway.data, bytes).map(|a| a.status);
        assert!(!matches!(answer, Ok(200..400)), "{answer:?} to {:?}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(raw(gateway.data, &request("GET", "/v2", "", b"")).unwrap().status, 200);
}
