//! What happens to models is told to the address that the settings name: signed, in order, again until it is taken.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::support::{Site, shipped, stream, until};

/// A call as it came.
#[derive(Debug, Clone)]
pub(super) struct Call {
    id: String,
    timestamp: String,
    signature: Option<String>,
    body: String,
}

impl Call {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(super) fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }
}

/// Somebody who is told: answers with these statuses in turn, and 204 when they are used up.
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Listener {
    pub(super) fn start(statuses: &[u16]) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (kept, mut statuses) = (Arc::clone(&calls), VecDeque::from(statuses.to_vec()));
        // Ends with the process of the tests.
        std::thread::spawn(move || {
            for stream in socket.incoming() {
                let status = statuses.pop_front().unwrap_or(204);
                let _ = answer(stream.unwrap(), status, &kept);
            }
        });
        Self { address, calls }
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    fn until(&self, kind: &str) -> Call {
        until(kind, || self.calls().into_iter().find(|call| call.kind() == kind))
    }
}

fn answer(mut stream: TcpStream, status: u16, kept: &Mutex<Vec<Call>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut headers = std::collections::BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            // Whoever called hung up, as one that stood still does: that was no call.
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            if line.trim_end().is_empty() {
                break;
            }
            continue;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    // Kept before it is answered: whoever sees the answer's effect finds the call.
    kept.lock().unwrap().push(Call {
        id: headers.get("webhook-id").cloned().unwrap_or_default(),
        timestamp: headers.get("webhook-timestamp").cloned().unwrap_or_default(),
        signature: headers.get("webhook-signature").cloned(),
        body: String::from_utf8(body).unwrap(),
    });
    write!(
        stream,
        "HTTP/1.1 {status} x\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
}

const SECRET: &str = "a secret of thirty-two characters";

fn settings(address: SocketAddr, secret: &Path, more: &str) -> String {
    format!(
        "settle_ms = 20\npoll = \"50ms\"\n[webhook]\nurl = \"http://{address}/told\"\nsecret_file = \"{}\"\n{more}",
        secret.display()
    )
}

fn signature(call: &Call) -> String {
    use base64::Engine as _;
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{}.{}.{}", call.id, call.timestamp, call.body).as_bytes());
    let encoded = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    format!("v1,{encoded}")
}

#[test]
fn what_happens_is_told_signed_in_order_until_it_is_taken_and_not_again_after_a_restart() {
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    // The first call fails twice, and a redirect is refused.
    let listener = Listener::start(&[500, 429]);
    let site = Site::new(&settings(listener.address, &secret, ""));
    site.model_toml("elec2", "champion = \"e06_flipped\"\n");
    for name in ["e06_flipped", "e01_logreg"] {
        site.drop_file("elec2", name, &shipped(name));
    }
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e01_logreg", "challenger");
    site.drop_bytes("elec2", "page", b"<!DOCTYPE html><html></html>");
    let refusal = listener.until("refusal");
    assert_eq!(refusal.json()["data"]["version"], "page", "{refusal:?}");
    assert!(
        refusal.json()["data"]["reason"].as_str().unwrap().contains("web page"),
        "{refusal:?}"
    );
    assert_eq!(gateway.act("elec2", "promote", Some("e01_logreg")).0, 200);
    let promoted = until("the promotion by a person", || {
        listener
            .calls()
            .into_iter()
            .find(|call| call.json()["data"]["to"] == "e01_logreg")
    });
    assert_eq!(promoted.json()["data"]["from"], "e06_flipped", "{promoted:?}");
    let calls = listener.calls();
    assert!(
        calls
            .iter()
            .all(|call| call.signature.as_ref() == Some(&signature(call))),
        "{calls:?}"
    );
    // Whatever was not taken came again as it was.
    assert!(
        calls[0].id == calls[1].id && calls[1].id == calls[2].id && calls[2].body == calls[0].body,
        "{calls:?}"
    );
    let count = |result: &str| gateway.metric(&format!("dethrone_webhook_calls_total{{result=\"{result}\"}}"));
    assert_eq!((count("failed"), count("refused")), (Some(2.0), Some(0.0)));
    let told = || {
        let state = std::fs::read_to_string(site.state().join("webhook.json")).unwrap();
        serde_json::from_str::<Value>(&state).unwrap()["decision"]
            .as_i64()
            .unwrap()
    };
    let n = promoted.json()["data"]["n"].as_i64().unwrap();
    until("it is noted what was told", || (told() >= n).then_some(()));
    gateway.kill();

    let gateway = site.start().ready();
    assert_eq!(gateway.act("elec2", "resume", None).0, 200);
    until("what happened after the restart", || {
        listener
            .calls()
            .into_iter()
            .find(|call| call.json()["data"]["kind"] == "resume")
    });
    let mut ids: Vec<String> = listener.calls().into_iter().skip(2).map(|call| call.id).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "nothing is told twice: {ids:?}");
}

#[test]
fn a_refusing_listener_is_not_asked_again_and_only_what_was_chosen_is_told() {
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let listener = Listener::start(&[301]);
    let more = "events = [\"refusal\", \"labels_silent\", \"labels_back\"]\nlabel_silence = \"1s\"\n";
    let site = Site::new(&settings(listener.address, &secret, more));
    site.model_toml("elec2", "champion = \"e06_flipped\"\n");
    site.drop_file("elec2", "e06_flipped", &shipped("e06_flipped"));
    let gateway = site.start().ready();
    let rows = stream(20_000, 60);
    gateway.feed("elec2", &rows[..20]);
    until("the labels are seen", || {
        let text = std::fs::read_to_string(site.state().join("webhook.json")).ok()?;
        let told: Value = serde_json::from_str(&text).ok()?;
        (told["labels"].as_object()?.values().next()?["count"] == 20).then_some(())
    });
    for (row, _) in &rows[20..40] {
        assert_eq!(gateway.predict(&json!({"model": "elec2", "instances": [row]})).0, 200);
    }
    let silent = listener.until("labels_silent");
    assert_eq!(silent.json()["data"]["model"], "elec2");
    gateway.feed("elec2", &rows[40..]);
    listener.until("labels_back");
    site.drop_bytes("elec2", "empty", b"");
    listener.until("refusal");
    let kinds: Vec<String> = listener.calls().iter().map(Call::kind).collect();
    assert_eq!(
        kinds,
        ["labels_silent", "labels_back", "refusal"],
        "301 is not asked again"
    );
}
