//! Whoever is slow, idle or in flood is cut by its limit, and nobody else notices: raw sockets against small limits.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::client::{Answer, get, raw, request, rest};
use crate::support::h2::{
    self, CONTINUATION, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, frame, head,
};
use crate::support::{gateway_with, until};

fn connect(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

const HALF_A_BODY: &[u8] = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{";

/// Sends a byte again and again, far more often than any limit here, until the server has had enough of it.
fn drip(stream: &mut TcpStream) -> Duration {
    let start = Instant::now();
    while stream.write_all(b" ").is_ok() {
        assert!(start.elapsed() < Duration::from_secs(30), "never cut");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    start.elapsed()
}

fn is_timeout(answer: &Answer, says: &str) -> bool {
    answer.status == 408 && answer.json()["code"] == "timeout" && answer.text().contains(says)
}

#[test]
fn a_body_that_pauses_is_answered_long_before_its_whole_time_is_over() {
    let gateway = gateway_with("body_timeout = \"1h\"\nbody_idle_timeout = \"300ms\"\n");
    let answer = rest(&mut connect(gateway.data, HALF_A_BODY)).unwrap();
    assert!(
        is_timeout(&answer, "nothing of the body arrived for 300ms"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_body_that_drips_is_cut_although_bytes_keep_coming() {
    let gateway = gateway_with("body_timeout = \"1s\"\nbody_idle_timeout = \"1h\"\n");
    let mut stream = connect(gateway.data, HALF_A_BODY);
    let mut reader = stream.try_clone().unwrap();
    let answer = std::thread::spawn(move || rest(&mut reader));
    let took = drip(&mut stream);
    assert!(took >= Duration::from_millis(900), "{took:?}");
    // Whoever sends on after the answer may lose it to a reset; whoever reads it reads this.
    if let Ok(answer) = answer.join().unwrap() {
        assert!(is_timeout(&answer, "within 1s"), "{}", answer.text());
    }
}

/// Asks for more than the system's buffers hold and reads nothing of it.
fn does_not_read(to: SocketAddr) -> TcpStream {
    let ask = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000);
    connect(to, &ask)
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let gateway = gateway_with("write_timeout = \"500ms\"\nidle_timeout = \"1h\"\nheader_timeout = \"1h\"\n");
    let mut stream = does_not_read(gateway.data);
    drip(&mut stream);
    assert_eq!(get(gateway.data, "/v2/health/live").status, 200);
}

/// A row of the system's table of connections: state, bytes that wait to be sent, and the number of the socket, which is 0
/// once no process has it.
struct Row {
    state: u8,
    unsent: u64,
    inode: u64,
}

/// The server's side of this client's connection.
fn server_side(server: SocketAddr, client: SocketAddr) -> Option<Row> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let end = |address: SocketAddr| format!(":{:04X}", address.port());
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words[1].ends_with(&end(server)) && words[2].ends_with(&end(client));
        let unsent = words[4].split_once(':').unwrap().0;
        is_it.then(|| Row {
            state: u8::from_str_radix(words[3], 16).unwrap(),
            unsent: u64::from_str_radix(unsent, 16).unwrap(),
            inode: words[9].parse().unwrap(),
        })
    })
}

/// What the gateway has told the system about this socket of its own.
fn user_timeout(pid: u32, inode: u64) -> u32 {
    let wanted = format!("socket:[{inode}]");
    let number = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .find(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()))
        .and_then(|entry| entry.file_name().to_str()?.parse().ok())
        .unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let socket = rustix::process::pidfd_getfd(process, number, rustix::process::PidfdGetfdFlags::empty()).unwrap();
    rustix::net::sockopt::tcp_user_timeout(socket).unwrap()
}

#[test]
fn what_a_client_that_was_cut_has_not_taken_is_given_up_by_the_system_too() {
    let gateway = gateway_with("write_timeout = \"500ms\"\nidle_timeout = \"1h\"\nheader_timeout = \"1h\"\n");
    // It stays, and never reads: until the end of the test its system takes no more.
    let client = does_not_read(gateway.data);
    let own = client.local_addr().unwrap();
    let row = until("the connection", || {
        server_side(gateway.data, own).filter(|row| row.inode != 0)
    });
    assert_eq!(user_timeout(gateway.pid(), row.inode), 500);
    let cut = until("the connection to be cut", || {
        // Gone altogether is as good.
        match server_side(gateway.data, own) {
            Some(row) if row.inode != 0 => None,
            other => Some(other),
        }
    });
    // FIN-WAIT-1: the process has let it go, and what it wrote lies in the system.
    if let Some(row) = &cut {
        println!("cut with {} bytes unsent, state {}", row.unsent, row.state);
    }
    let cut = Instant::now();
    // Left alone it would be there for a minute and a half.
    until("the system to give it up", || {
        assert!(cut.elapsed() < Duration::from_secs(60), "held by the system");
        server_side(gateway.data, own).is_none().then_some(())
    });
    println!("gone after {:?}", cut.elapsed());
    drop(client);
}

#[test]
fn a_client_that_reads_slowly_but_steadily_is_served() {
    let gateway = gateway_with("write_timeout = \"2s\"\n");
    let asks = 200;
    let mut ask = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(asks - 1);
    ask.extend(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut stream = connect(gateway.data, &ask);
    let (mut all, mut piece) = (Vec::new(), vec![0; 256 * 1024]);
    loop {
        // It rests after each piece, and all rests together are longer than the limit.
        std::thread::park_timeout(Duration::from_millis(50));
        match stream.read(&mut piece).unwrap() {
            0 => break,
            read => all.extend_from_slice(&piece[..read]),
        }
    }
    let answers = all.windows(15).filter(|w| w == b"HTTP/1.1 200 OK").count();
    assert_eq!(answers, asks);
}

#[test]
fn many_slow_clients_of_all_kinds_are_cut_and_others_are_served_meanwhile() {
    // The long form: `DETHRONE_SLOW_CLIENTS=2000`, with as many open files allowed.
    let many = std::env::var("DETHRONE_SLOW_CLIENTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(60);
    let gateway = gateway_with(
        "header_timeout = \"2s\"\nbody_timeout = \"2s\"\nbody_idle_timeout = \"2s\"\nwrite_timeout = \"2s\"\nidle_timeout = \"2s\"\n",
    );
    let one = |kind: usize| match kind % 4 {
        0 => connect(gateway.data, b"GET /v2 HTTP/1.1\r\nhost: x\r\na"),
        1 => connect(gateway.data, HALF_A_BODY),
        2 => does_not_read(gateway.data),
        _ => connect(gateway.data, b""),
    };
    let mut slow: Vec<TcpStream> = (0..many).map(one).collect();
    let fine = br#"{"model":"plain","inputs":{"features":[[0.1,0.2,0.3]]}}"#;
    let ask = || {
        assert_eq!(
            raw(gateway.data, &request("POST", "/predict", "", fine))
                .unwrap()
                .status,
            200
        )
    };
    for (kind, stream) in slow.iter_mut().enumerate() {
        ask();
        if kind % 4 == 2 {
            drip(stream);
            continue;
        }
        // To the end, which comes without a word from us.
        let mut all = Vec::new();
        match stream.read_to_end(&mut all) {
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => drop(other.expect("the server holds the connection")),
        }
    }
}

#[test]
fn a_head_is_as_large_as_is_allowed() {
    let gateway = gateway_with("max_head_bytes = \"2KiB\"\n");
    let head = |bytes: usize| get(gateway.data, &format!("/v2?{}", "a".repeat(bytes))).status;
    assert_eq!((head(1_800), head(2_200)), (200, 414));
    let headers = format!("a: {}\r\n", "b".repeat(2_000));
    let answer = raw(gateway.data, &request("GET", "/v2", &headers, b"")).unwrap();
    assert_eq!((answer.status, &answer.json()["code"]), (431, &"head_too_large".into()));
}

/// Floods a connection until it is closed, reading all the while; what came back.
fn flood(to: SocketAddr, mut part: impl FnMut(u32) -> Vec<u8>) -> Vec<Frame> {
    let mut stream = h2::connect(to, b"");
    let mut reader = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || h2::rest(&mut reader));
    for turn in 0..200_000 {
        if stream.write_all(&part(turn)).is_err() {
            break;
        }
        assert!(turn < 199_999, "the flood was taken");
    }
    reader.join().unwrap()
}

fn goaway(frames: &[Frame]) -> Option<u32> {
    frames.iter().find(|frame| frame.kind == GOAWAY).map(Frame::code)
}

const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

#[test]
fn floods_of_http2_end_in_goaway() {
    let gateway = gateway_with("");
    let get = head("GET", "/v2");
    let resets = flood(gateway.data, |turn| {
        let stream = 2 * turn + 1;
        let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get);
        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        bytes
    });
    assert_eq!(goaway(&resets), Some(ENHANCE_YOUR_CALM), "rapid reset");

    let post = head("POST", "/predict");
    let parts = flood(gateway.data, |turn| match turn {
        0 => frame(HEADERS, 0, 1, &post),
        // A literal name and value, never the last.
        _ => frame(
            CONTINUATION,
            0,
            1,
            &[&b"\0\x01a\x7f\x81\x07"[..], &[b'b'; 262]].concat(),
        ),
    });
    assert!(
        matches!(goaway(&parts), Some(PROTOCOL_ERROR | ENHANCE_YOUR_CALM)),
        "continuation: {:?}",
        parts.last()
    );

    let empty = flood(gateway.data, |turn| match turn {
        0 => frame(HEADERS, END_HEADERS, 1, &post),
        _ => frame(h2::DATA, 0, 1, b""),
    });
    assert_eq!(goaway(&empty), Some(ENHANCE_YOUR_CALM), "empty data");
    assert_eq!(crate::support::client::get(gateway.data, "/v2/health/live").status, 200);
}

/// The most memory that a process has held so far, in bytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_block_of_headers_that_unpacks_to_thousands_of_times_its_size_is_refused_and_takes_no_memory() {
    let gateway = gateway_with("");
    // A value of 3,900 bytes goes into the connection's table once, and is named twelve thousand times: 47 MB.
    let mut block = head("GET", "/v2");
    block.extend(b"\x40\x01a\x7f\xbd\x1d");
    block.extend([b'b'; 3_900]);
    block.extend([0xbe; 12_000]);
    assert_eq!(crate::support::client::get(gateway.data, "/v2").status, 200);
    let before = peak(gateway.pid());
    let mut stream = h2::connect(gateway.data, b"");
    let mut reader = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || h2::rest(&mut reader));
    for turn in 0..50 {
        let part = frame(HEADERS, END_HEADERS | END_STREAM, 2 * turn + 1, &block);
        if stream.write_all(&part).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let frames = reader.join().unwrap();
    // 0x88: status 200.
    let is_answered = |frame: &&Frame| frame.kind == HEADERS && frame.payload.first() == Some(&0x88);
    assert_eq!(frames.iter().filter(is_answered).count(), 0, "{frames:?}");
    assert!(
        frames
            .iter()
            .any(|frame| [HEADERS, RST_STREAM, GOAWAY].contains(&frame.kind)),
        "{frames:?}"
    );
    let grown = peak(gateway.pid()).saturating_sub(before);
    assert!(grown <= 32 << 20, "{grown} bytes");
    assert_eq!(crate::support::client::get(gateway.data, "/v2").status, 200);
}

#[test]
fn floods_whose_replies_nobody_reads_are_cut() {
    let gateway = gateway_with("write_timeout = \"500ms\"\nidle_timeout = \"1h\"\n");
    for (name, part) in [
        ("ping", frame(PING, 0, 0, &[7; 8])),
        ("settings", frame(SETTINGS, 0, 0, b"")),
    ] {
        let mut stream = h2::connect(gateway.data, b"");
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        let many = part.repeat(10_000);
        let mut sent = 0usize;
        let cut = loop {
            match stream.write(&many) {
                Ok(written) => sent += written,
                Err(e) => break e,
            }
            assert!(sent < 1 << 30, "{name}: a gigabyte was taken");
        };
        assert!(
            !matches!(
                cut.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ),
            "{name}: held after {sent} bytes"
        );
    }
}

#[test]
fn a_client_without_room_for_its_answer_is_told_to_go_when_it_idles() {
    let gateway = gateway_with("idle_timeout = \"1s\"\n");
    // SETTINGS_INITIAL_WINDOW_SIZE = 0.
    let mut stream = h2::connect(gateway.data, &[0, 4, 0, 0, 0, 0]);
    stream
        .write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("GET", "/v2")))
        .unwrap();
    let frames = h2::rest(&mut stream);
    assert!(frames.iter().any(|frame| frame.kind == HEADERS), "{frames:?}");
    assert!(
        frames
            .iter()
            .all(|frame| frame.kind != h2::DATA || frame.payload.is_empty()),
        "{frames:?}"
    );
    assert_eq!(goaway(&frames), Some(0), "{frames:?}");
}

#[test]
fn a_connection_has_no_more_streams_than_are_allowed() {
    let gateway = gateway_with("max_h2_streams = 2\nbody_timeout = \"2s\"\nidle_timeout = \"2s\"\n");
    let mut stream = h2::connect(gateway.data, b"");
    // Its bodies never come.
    for number in [1, 3, 5] {
        stream
            .write_all(&frame(HEADERS, END_HEADERS, number, &head("POST", "/predict")))
            .unwrap();
    }
    let frames = h2::rest(&mut stream);
    let limit = [0, 3, 0, 0, 0, 2];
    assert!(
        frames[0].payload.windows(6).any(|setting| setting == limit),
        "{:?}",
        frames[0]
    );
    let refused = frames
        .iter()
        .find(|frame| frame.kind == RST_STREAM)
        .map(|frame| (frame.stream, frame.code()));
    assert_eq!(refused, Some((5, 7)), "REFUSED_STREAM: {frames:?}");
}

#[test]
fn an_idle_connection_of_http2_is_ended_by_goaway() {
    let gateway = gateway_with("idle_timeout = \"500ms\"\n");
    let frames = h2::rest(&mut h2::connect(gateway.data, b""));
    assert_eq!(goaway(&frames), Some(0), "{frames:?}");
    until("others are served", || {
        (get(gateway.data, "/v2/health/live").status == 200).then_some(())
    });
}
