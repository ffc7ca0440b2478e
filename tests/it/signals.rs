//! Starting and stopping: what is asked is answered, whoever manages the process is told, and nobody has to ask twice.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::client::{get, rest};
use crate::support::h2::{self, END_HEADERS, END_STREAM, GOAWAY, HEADERS, frame, head};
use crate::support::{Gateway, Site, gateway_with, shipped, until};

const ASK: &[u8] = b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n";
const BODY: &str = r#"{"instances":[{"period":0.5,"nswprice":0.06,"nswdemand":0.4,"vicprice":0.003,"vicdemand":0.42,"transfer":0.41,"day":"2"}]}"#;

fn connect(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// One answer, head and body, of a connection that goes on.
fn answer(stream: &mut TcpStream) -> std::io::Result<(u16, String)> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length: usize = head
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.lines().next()?.parse().ok())
            .unwrap();
        if body.len() >= length {
            return Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned()));
        }
    }
}

/// SIGTERM, and waits until nobody new is let in.
fn stopping(gateway: &Gateway) {
    gateway.signal("TERM");
    until("a closed door", || {
        TcpStream::connect(gateway.admin).is_err().then_some(())
    });
}

#[test]
fn an_idle_connection_may_ask_once_more_after_sigterm_and_is_told_that_it_was_the_last_time() {
    let gateway = gateway_with("shutdown_linger = \"1h\"\nshutdown_grace = \"1h\"\n");
    let mut stream = connect(gateway.data, ASK);
    let (_, head) = answer(&mut stream).unwrap();
    assert!(!head.contains("connection: close"), "{head}");
    stopping(&gateway);
    stream.write_all(ASK).unwrap();
    let (status, head) = answer(&mut stream).unwrap();
    assert!(status == 200 && head.contains("connection: close"), "{head}");
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "closed");
    assert_eq!(gateway.ended(), Some(0));
}

#[test]
fn what_is_in_flight_at_sigterm_is_finished() {
    let gateway = gateway_with(
        "shutdown_linger = \"1s\"\nshutdown_grace = \"1h\"\nheader_timeout = \"1h\"\nbody_timeout = \"1h\"\nbody_idle_timeout = \"1h\"\n",
    );
    let body = r#"{"model":"plain","inputs":{"features":[[0.1,0.2,0.3]]}}"#;
    let request = format!(
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (front, back) = request.as_bytes().split_at(request.len() - 10);
    let mut http1 = connect(gateway.data, front);
    // Half a head is on its way too.
    let mut begun = connect(gateway.data, &ASK[..20]);
    let mut http2 = h2::connect(gateway.data, b"");
    http2
        .write_all(&frame(HEADERS, END_HEADERS, 1, &head("POST", "/predict")))
        .unwrap();
    // The server has read all of that when it has answered what came after it.
    http2
        .write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &head("GET", "/v2")))
        .unwrap();
    while h2::next(&mut http2).unwrap().stream != 3 {}
    assert_eq!(get(gateway.data, "/v2").status, 200);
    stopping(&gateway);
    let told = until("goodbye", || h2::next(&mut http2).filter(|frame| frame.kind == GOAWAY));
    assert_eq!(told.code(), 0);
    http1.write_all(back).unwrap();
    let (status, head) = answer(&mut http1).unwrap();
    assert!(status == 200 && head.contains("connection: close"), "{head}");
    // Idle connections are closed by now; this one is not idle.
    std::thread::park_timeout(Duration::from_millis(1_500));
    begun.write_all(&ASK[20..]).unwrap();
    assert_eq!(answer(&mut begun).unwrap().0, 200);
    http2
        .write_all(&frame(h2::DATA, END_STREAM, 1, body.as_bytes()))
        .unwrap();
    // Goodbye is said in two steps, the second once the first was acknowledged.
    let mut frames = Vec::new();
    while let Some(frame) = h2::next(&mut http2) {
        if frame.kind == h2::PING && frame.flags == 0 {
            let _ = http2.write_all(&h2::frame(h2::PING, 1, 0, &frame.payload));
        }
        frames.push(frame);
    }
    let body: Vec<u8> = frames
        .iter()
        .filter(|f| f.stream == 1 && f.kind == h2::DATA)
        .flat_map(|f| f.payload.clone())
        .collect();
    assert!(String::from_utf8_lossy(&body).contains("\"predictions\""), "{frames:?}");
    assert_eq!(gateway.ended(), Some(0));
}

#[test]
fn what_never_ends_is_cut_after_the_grace() {
    let gateway = gateway_with("shutdown_grace = \"500ms\"\nbody_timeout = \"1h\"\nbody_idle_timeout = \"1h\"\n");
    let mut half = connect(
        gateway.data,
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
    );
    assert_eq!(get(gateway.data, "/v2").status, 200);
    stopping(&gateway);
    assert_eq!(gateway.ended(), Some(0));
    assert!(rest(&mut half).is_err(), "no answer");
}

#[test]
fn while_balancers_are_given_time_requests_are_answered_and_readiness_is_not_and_a_second_signal_ends_it() {
    let gateway = gateway_with("shutdown_delay = \"1h\"\nshutdown_grace = \"1h\"\n");
    gateway.signal("TERM");
    until("not ready", || {
        (get(gateway.data, "/v2/health/ready").status == 503).then_some(())
    });
    let ready = get(gateway.data, "/v2/health/ready").json();
    assert!(ready["error"].as_str().unwrap().contains("stopping"), "{ready}");
    assert_eq!(get(gateway.data, "/v2/models/plain/ready").status, 503);
    let mut stream = connect(gateway.data, ASK);
    let (status, head) = answer(&mut stream).unwrap();
    assert!(status == 200 && head.contains("connection: close"), "{head}");
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(1));
}

fn site() -> Site {
    let site = Site::new("");
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    site
}

#[test]
fn the_service_manager_is_told_of_the_start_and_of_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let site = site();
    let gateway = site.start_env("NOTIFY_SOCKET", path.to_str().unwrap());
    let told = || {
        let mut buffer = [0; 256];
        let read = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    };
    assert!(told().starts_with("READY=1\n"));
    assert_eq!(gateway.stop(), Some(0));
    assert!(told().starts_with("STOPPING=1\n"));
}

/// Clients that keep their connections, and count.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Clients {
    pub(crate) fn of(to: SocketAddr) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = (0..4)
            .map(|number| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                std::thread::spawn(move || match number % 2 {
                    0 => keep_alive(to, &stop, &answered),
                    _ => over_http2(to, &stop, &answered),
                })
            })
            .collect();
        Self {
            stop,
            answered,
            threads,
        }
    }

    pub(crate) fn more(&self, answers: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + answers;
        until("more answers", || {
            (self.answered.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    pub(crate) fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self
            .threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        (self.answered.load(Ordering::Relaxed), failed)
    }
}

/// HTTP/1.1, a connection until its last answer; a request is never sent twice.
fn keep_alive(to: SocketAddr, stop: &AtomicBool, answered: &AtomicUsize) -> Vec<String> {
    let request = format!(
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let (mut failed, mut open) = (Vec::new(), None);
    while !stop.load(Ordering::Relaxed) {
        let mut stream = open.take().unwrap_or_else(|| connect(to, b""));
        match stream.write_all(request.as_bytes()).and_then(|()| answer(&mut stream)) {
            Ok((200, head)) if head.contains("connection: close") => {}
            Ok((200, _)) => open = Some(stream),
            Ok((status, head)) => failed.push(format!("{status}: {head}")),
            Err(error) => failed.push(error.to_string()),
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    failed
}

/// HTTP/2, a connection until it says goodbye. What was never sent is sent on the next; nothing else is sent twice.
fn over_http2(to: SocketAddr, stop: &AtomicBool, answered: &AtomicUsize) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut failed = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let stream = tokio::net::TcpStream::connect(to).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            #[expect(clippy::disallowed_methods, reason = "a test's runtime ends with it")]
            tokio::spawn(connection);
            while !stop.load(Ordering::Relaxed) {
                if sender.ready().await.is_err() {
                    break;
                }
                let request = http::Request::post(format!("http://{to}/predict"))
                    .body(Full::new(Bytes::from_static(BODY.as_bytes())));
                match sender.send_request(request.unwrap()).await {
                    Ok(response) => {
                        let status = response.status();
                        match response.into_body().collect().await {
                            Ok(_) if status == 200 => {}
                            other => failed.push(format!("{status}: {other:?}")),
                        }
                    }
                    Err(error) if error.is_canceled() || error.is_closed() => break,
                    Err(error) => failed.push(format!("{error:?}")),
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
        failed
    })
}

#[test]
fn no_request_fails_over_restarts_on_a_socket_that_stays_open() {
    // The long form: `DETHRONE_RESTARTS=100`.
    let restarts = std::env::var("DETHRONE_RESTARTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = site();
    let mut gateway = site.start_on_socket(&socket);
    assert_eq!(
        gateway.data,
        socket.local_addr().unwrap(),
        "the socket that was handed over"
    );
    gateway = gateway.ready();
    let clients = Clients::of(gateway.data);
    for _ in 0..restarts {
        clients.more(200);
        assert_eq!(gateway.stop(), Some(0));
        gateway = site.start_on_socket(&socket);
    }
    clients.more(200);
    let (answered, failed) = clients.end();
    assert!(
        failed.is_empty(),
        "{} of {answered} failed: {}",
        failed.len(),
        failed[0]
    );
    println!("{answered} answered over {restarts} restarts, none failed");
}

#[test]
fn an_admin_socket_that_is_open_to_the_network_is_not_taken_over() {
    let socket = TcpListener::bind("0.0.0.0:0").unwrap();
    let site = site();
    let (code, said) = site.refused_on_socket(&socket, "admin");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("loopback"), "{said}");
}
