//! Who may do what: keys by scope, model and limit, over HTTP and gRPC; and no secret is ever seen.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dethrone::grpc::pb::inference as pb;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::client::{Answer, get, raw, request};
use crate::support::grpc::{self, Client, codes};
use crate::support::{Gateway, Site, elec2_row, holds, shipped, until};

pub(crate) const SETTINGS: &str = "poll = \"100ms\"\nsettle_ms = 20\n[auth]\nkeys = \"keys.toml\"\n";

/// Somebody's key: the secret, and the line of the file.
pub(crate) struct Key {
    pub(crate) secret: String,
    pub(crate) line: String,
}

/// Where to, how, what, what body; who is let in, and the scope that a refusal names.
type Asked<'a> = (SocketAddr, &'a str, &'a str, &'a Value, &'a [&'a Key], &'a str);

/// As a person makes one.
pub(crate) fn key(name: &str, words: &[&str]) -> Key {
    let made = Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .args(["key", "new", "--json", "--name", name])
        .args(words)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let word = |key: &str| made[key].as_str().unwrap().to_owned();
    let key = Key {
        secret: word("secret"),
        line: word("line"),
    };
    assert!(!key.line.contains(&key.secret));
    key
}

impl Key {
    /// The line with more in it.
    fn with(&self, more: &str) -> String {
        format!("{}, {more} }}", self.line.trim_end_matches(" }"))
    }
}

fn keys_file(site: &Site) -> PathBuf {
    site.models().parent().unwrap().join("keys.toml")
}

/// The whole file, under another name first.
pub(crate) fn write_keys(site: &Site, lines: &[&str]) {
    let draft = keys_file(site).with_extension("part");
    std::fs::write(&draft, lines.join("\n")).unwrap();
    std::fs::rename(draft, keys_file(site)).unwrap();
}

pub(crate) fn ask(to: SocketAddr, method: &str, path: &str, secret: &str, body: &Value) -> Answer {
    let mut headers = "content-type: application/json\r\n".to_owned();
    if !secret.is_empty() {
        headers.push_str(&format!("authorization: Bearer {secret}\r\n"));
    }
    let body = if method == "GET" {
        String::new()
    } else {
        body.to_string()
    };
    raw(to, &request(method, path, &headers, body.as_bytes())).unwrap()
}

/// Whether a text that is no secret stands anywhere that somebody could look.
fn assert_unseen(site: &Site, gateway: &Gateway, eyes: &str, secrets: &[&str]) {
    let of_process = |name: &str| std::fs::read(format!("/proc/{}/{name}", gateway.pid())).unwrap();
    let shown = Command::new(env!("CARGO_BIN_EXE_dethrone"))
        .args(["config", "--json", "--config", "dethrone.toml"])
        .current_dir(site.models().parent().unwrap())
        .output()
        .unwrap();
    let mut said = format!(
        "{}{}{}",
        site.log(),
        ask(gateway.admin, "GET", "/metrics", eyes, &json!(null)).text(),
        ask(gateway.admin, "GET", "/api/models", eyes, &json!(null)).text(),
    );
    for bytes in [of_process("cmdline"), of_process("environ"), shown.stdout, shown.stderr] {
        said.push_str(&String::from_utf8_lossy(&bytes));
    }
    assert!(
        said.contains("keys.toml") && said.contains("dethrone_requests_total"),
        "{said}"
    );
    for secret in secrets {
        assert!(!said.contains(secret), "{said}");
        assert!(!holds(site.models().parent().unwrap(), secret), "a file holds a secret");
    }
}

fn predict() -> Value {
    json!({"model": "elec2", "instances": [elec2_row()]})
}

fn infer(version: &str) -> pb::ModelInferRequest {
    let mut request = grpc::request("plain", vec![grpc::fp32("features", &[1, 3], &[0.1, 0.2, 0.3])], vec![]);
    request.model_version = version.into();
    request
}

fn call<T>(secret: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if !secret.is_empty() {
        let value = format!("Bearer {secret}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// `elec2` and `plain`, as [`crate::support::gateway_with`] has them, for whoever has a key.
fn site(lines: &[&str]) -> Site {
    let site = Site::new(SETTINGS);
    site.model_toml("elec2", "unknown = \"reject\"\n")
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    site.model_toml("plain", "interface = \"tensors\"\n")
        .drop_file("plain", "e02_tree", &shipped("e02_tree"));
    write_keys(&site, lines);
    site
}

fn start(site: &Site) -> Gateway {
    let gateway = site.start().ready();
    for model in ["elec2", "plain"] {
        until(model, || {
            (get(gateway.data, &format!("/v2/models/{model}/ready")).status == 200).then_some(())
        });
    }
    gateway
}

#[test]
fn each_route_wants_a_scope_over_http_and_grpc_and_no_secret_is_seen() {
    let shop = key("shop", &["--scope", "predict", "--model", "elec2"]);
    let tester = key("tester", &["--scope", "predict", "--scope", "pin"]);
    let labels = key("labels", &["--scope", "feedback"]);
    let eyes = key("eyes", &["--scope", "read"]);
    let ops = key("ops", &["--scope", "admin"]);
    let all = [&shop, &tester, &labels, &eyes, &ops];
    let site = site(&all.map(|key| key.line.as_str()));
    let gateway = start(&site);
    let stranger = key("shop", &["--scope", "admin"]);

    let pinned = json!({"model": "elec2", "instances": [elec2_row()], "version": "e01_logreg"});
    let plain = json!({"model": "plain", "inputs": {"features": [[0.1, 0.2, 0.3]]}});
    let report = json!({"model": "elec2", "labels": [{"id": "order-1", "label": 1}]});
    let order = json!({"author": "ada", "reason": "tried"});
    let nothing = json!(null);
    let (data, admin) = (gateway.data, gateway.admin);
    let none: &[&Key] = &[];
    // Who is let in; everybody else is 403, and whoever has no key 401.
    let routes: &[Asked<'_>] = &[
        (data, "POST", "/predict", &predict(), &[&shop, &tester], "predict"),
        (
            data,
            "POST",
            "/models/elec2/predict",
            &predict(),
            &[&shop, &tester],
            "predict",
        ),
        (data, "POST", "/predict", &plain, &[&tester], "predict"),
        (data, "POST", "/predict", &pinned, &[&tester], "p"),
        (data, "POST", "/feedback", &report, &[&labels], "feedback"),
        (data, "GET", "/v2", &nothing, &[&shop, &tester, &eyes], "predict"),
        (
            data,
            "GET",
            "/v2/models/elec2",
            &nothing,
            &[&shop, &tester, &eyes],
            "predict",
        ),
        (
            data,
            "GET",
            "/v2/models/plain/config",
            &nothing,
            &[&tester, &eyes],
            "predict",
        ),
        (data, "GET", "/v2/models", &nothing, &[&eyes], "read"),
        (data, "GET", "/v2/models/stats", &nothing, &[&eyes], "read"),
        (data, "POST", "/v2/repository/index", &json!({}), &[&eyes], "read"),
        (
            data,
            "POST",
            "/v2/repository/models/plain/load",
            &json!({}),
            &[&ops],
            "admin",
        ),
        (admin, "GET", "/metrics", &nothing, &[&eyes], "read"),
        (admin, "GET", "/api/models", &nothing, &[&eyes], "read"),
        (admin, "GET", "/api/models/elec2", &nothing, &[&eyes], "read"),
        (admin, "GET", "/api/models/elec2/decisions", &nothing, &[&eyes], "read"),
        (admin, "POST", "/api/models/elec2/hold", &order, &[&ops], "admin"),
        (admin, "POST", "/api/models/elec2/resume", &order, &[&ops], "admin"),
        (admin, "POST", "/api/rotate-key", &order, &[&ops], "admin"),
        // What is held on persons is for nobody who only looks; here nothing is.
        (admin, "GET", "/api/models/elec2/rows/order-9", &nothing, none, "admin"),
    ];
    for (to, method, path, body, allowed, scope) in routes {
        for secret in ["", "dk_", "dk_nobody", &stranger.secret] {
            let refused = ask(*to, method, path, secret, body);
            assert_eq!(refused.status, 401, "{method} {path}: {}", refused.text());
            assert!(refused.head.contains("www-authenticate: bearer"), "{}", refused.head);
            assert_eq!(refused.json()["code"], "unauthenticated");
            assert!(!refused.text().contains(&stranger.secret), "{}", refused.text());
        }
        for one in all {
            let answer = ask(*to, method, path, &one.secret, body);
            if allowed.iter().any(|key| std::ptr::eq(*key, one)) {
                assert_eq!(answer.status, 200, "{method} {path} {}: {}", one.line, answer.text());
            } else if answer.status != 404 || !std::ptr::eq(one, &ops) {
                assert_eq!(answer.status, 403, "{method} {path} {}: {}", one.line, answer.text());
                let text = answer.text();
                assert!(
                    text.contains(&format!("'{scope}")) || text.contains("model"),
                    "{path}: {text}"
                );
            }
        }
    }
    // Probes have no key.
    for (to, path) in [
        (data, "/v2/health/live"),
        (data, "/v2/health/ready"),
        (data, "/v2/models/elec2/ready"),
        (data, "/openapi.json"),
    ] {
        assert_eq!(get(to, path).status, 200, "{path}");
    }

    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut client = Client::connect(gateway.grpc).await;
        let mut codes_of = async |secret: &str, version: &str| {
            let answer = client.infer(call(secret, infer(version))).await;
            answer.map_or_else(
                |status| (codes(&status).0, status.message().to_owned()),
                |_| (Code::Ok, String::new()),
            )
        };
        assert_eq!(codes_of(&tester.secret, "").await.0, Code::Ok);
        assert_eq!(codes_of(&tester.secret, "e02_tree").await.0, Code::Ok);
        for secret in ["", "dk_nobody", &stranger.secret] {
            assert_eq!(codes_of(secret, "").await.0, Code::Unauthenticated);
        }
        let (code, said) = codes_of(&labels.secret, "").await;
        assert!(code == Code::PermissionDenied && said.contains("'predict'"), "{said}");
        let (code, said) = codes_of(&shop.secret, "").await;
        assert!(code == Code::PermissionDenied && said.contains("'plain'"), "{said}");
        let load = || pb::RepositoryModelLoadRequest {
            model_name: "plain".into(),
            ..Default::default()
        };
        let mut loads = async |secret: &str| {
            let asked = call(secret, load());
            let path = "inference.GRPCInferenceService/RepositoryModelLoad";
            let loaded = client.call::<pb::RepositoryModelLoadRequest, pb::RepositoryModelLoadResponse>(path, asked);
            loaded.await.map_or_else(|status| status.code(), |_| Code::Ok)
        };
        assert_eq!(loads(&eyes.secret).await, Code::PermissionDenied);
        assert_eq!(loads(&ops.secret).await, Code::Ok);
        let live = client.ask::<pb::ServerLiveRequest, pb::ServerLiveResponse>("ServerLive", pb::ServerLiveRequest {});
        assert!(live.await.unwrap().live, "probes have no key");
    });

    // The author of an order is whoever has the key.
    let secret = site.models().parent().unwrap().join("ops.secret");
    std::fs::write(&secret, format!("{}\n", ops.secret)).unwrap();
    let words = [
        "hold", "--model", "elec2", "--author", "bob", "--reason", "by hand", "--admin",
    ];
    let held = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dethrone"));
        let command = command.args(words).arg(gateway.admin.to_string()).args(more);
        let done = command.output().unwrap();
        (
            done.status.success(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    };
    let (done, said) = held(&[]);
    assert!(!done && said.contains("--key-file"), "{said}");
    assert!(held(&["--key-file", secret.to_str().unwrap()]).0);
    let decisions = ask(admin, "GET", "/api/models/elec2/decisions", &eyes.secret, &nothing).json();
    let last = decisions["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .max_by_key(|d| d["n"].as_i64())
        .unwrap()
        .clone();
    assert_eq!(
        (&last["author"], &last["reason"]),
        (&json!("ops"), &json!("by hand (signed: bob)"))
    );
    std::fs::remove_file(secret).unwrap();

    let secrets: Vec<&str> = all.iter().map(|key| key.secret.as_str()).collect();
    assert_unseen(&site, &gateway, &eyes.secret, &secrets);
}

#[test]
fn keys_are_changed_under_traffic_without_a_failed_request_and_a_faulty_file_changes_nothing() {
    let shop = key("shop", &["--scope", "predict"]);
    let (gone, late) = (
        key("gone", &["--scope", "predict"]),
        key("late", &["--scope", "predict"]),
    );
    let site = site(&[&shop.line, &gone.line]);
    let gateway = start(&site);
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (stop, asked, to, secret) = (Arc::clone(&stop), Arc::clone(&asked), gateway.data, shop.secret.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask(to, "POST", "/predict", &secret, &predict());
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let status = |key: &Key| ask(gateway.data, "POST", "/predict", &key.secret, &predict()).status;
    assert_eq!((status(&gone), status(&late)), (200, 401));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        // Two streams are open; the key of one is about to go.
        let mut streams = Vec::new();
        for key in [&gone, &shop] {
            let (give, take) = tokio::sync::mpsc::channel(1);
            let mut client = Client::connect(gateway.grpc).await;
            let messages = tokio_stream::wrappers::ReceiverStream::new(take);
            give.send(infer("")).await.unwrap();
            let path = "inference.GRPCInferenceService/ModelStreamInfer";
            let mut answers = client
                .stream::<_, pb::ModelStreamInferResponse>(path, call(&key.secret, messages))
                .await
                .unwrap();
            assert_eq!(answers.message().await.unwrap().unwrap().error_message, "");
            streams.push((give, answers));
        }
        // Faulty: nothing changes, and it is told; also when nobody waits.
        write_keys(&site, &[&late.line, "shop = { sha256 = "]);
        gateway.signal("HUP");
        until("a complaint", || {
            site.log().contains("what is in force stays").then_some(())
        });
        assert_eq!((status(&gone), status(&late)), (200, 401));
        write_keys(&site, &[&late.line, &shop.line]);
        until("the new key", || (status(&late) == 200).then_some(()));
        assert_eq!(status(&gone), 401);
        for ((give, mut answers), ends) in streams.into_iter().zip([true, false]) {
            give.send(infer("")).await.unwrap();
            let answer = answers.message().await;
            match ends {
                true => assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated),
                false => assert_eq!(answer.unwrap().unwrap().error_message, ""),
            }
        }
    });
    std::fs::remove_file(keys_file(&site)).unwrap();
    gateway.signal("HUP");
    until("another complaint", || {
        site.log().contains("does not exist").then_some(())
    });
    assert_eq!((status(&late), status(&gone)), (200, 401));
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 10);
}

#[test]
fn a_key_has_no_more_than_its_rate_and_its_day_and_is_told_when_to_come_again() {
    let (slow, few) = (
        key("slow", &["--scope", "predict"]),
        key("few", &["--scope", "predict", "--scope", "feedback"]),
    );
    let slow_line = slow.with("requests_per_second = 0.001, burst = \"1ms\"");
    let site = site(&[&slow_line, &few.with("rows_per_day = 3")]);
    let gateway = start(&site);
    let send = |key: &Key, path: &str, body: &Value| ask(gateway.data, "POST", path, &key.secret, body);
    let waits = |answer: &Answer| -> u64 {
        let line = answer.head.lines().find_map(|line| line.strip_prefix("retry-after: "));
        line.unwrap_or_else(|| panic!("{}", answer.head)).parse().unwrap()
    };
    assert_eq!(send(&slow, "/predict", &predict()).status, 200);
    let refused = send(&slow, "/predict", &predict());
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("rate_limited")));
    assert!((900..=1_000).contains(&waits(&refused)), "{}", refused.head);
    let two = json!({"model": "elec2", "instances": [elec2_row(), elec2_row()]});
    assert_eq!(send(&few, "/predict", &two).status, 200);
    let refused = send(&few, "/predict", &two);
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(
        (1..=86_400).contains(&waits(&refused)) && refused.text().contains("day"),
        "{}",
        refused.text()
    );
    // Labels count too, one by one.
    let label = json!({"model": "elec2", "labels": [{"id": "order-1", "label": 1}]});
    assert_eq!(send(&few, "/feedback", &label).status, 200);
    assert_eq!(send(&few, "/feedback", &label).status, 429);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut client = Client::connect(gateway.grpc).await;
        let refused = client.infer(call(&slow.secret, infer(""))).await.unwrap_err();
        assert_eq!(codes(&refused), (Code::ResourceExhausted, "rate_limited"));
        assert!(refused.metadata().contains_key("retry-after"));
    });
}

#[test]
fn the_admin_listener_is_open_to_the_network_only_where_it_asks_for_keys() {
    let ops = key("ops", &["--scope", "admin", "--scope", "read"]);
    let public = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let mut site = Site::new("");
    let (code, said) = site.refused_on_socket(&public, "admin");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("loopback") && said.contains("auth.keys"), "{said}");
    site.set(SETTINGS);
    let (code, said) = site.refused();
    assert!(code == Some(78) && said.contains("does not exist"), "{said}");
    std::fs::write(
        keys_file(&site),
        "ops = { sha256 = \"dk_c2VjcmV0\", scopes = [\"admin\"] }",
    )
    .unwrap();
    let (code, said) = site.refused();
    assert!(
        code == Some(78) && said.contains("keys.toml line 1: ops.sha256"),
        "{said}"
    );
    assert!(!said.contains("c2VjcmV0"), "{said}");
    write_keys(&site, &[&ops.line]);
    let gateway = site.start_open(&public);
    let nothing = json!(null);
    assert_eq!(ask(gateway.admin, "GET", "/api/models", "", &nothing).status, 401);
    assert_eq!(
        ask(gateway.admin, "GET", "/api/models", &ops.secret, &nothing).status,
        200
    );
    // By any name: a web page that rebinds one has no key.
    let headers = format!("host: gateway.internal\r\nauthorization: Bearer {}\r\n", ops.secret);
    let asked = |more: &str| {
        let headers = format!("{headers}{more}");
        raw(gateway.admin, &request("GET", "/api/models", &headers, b""))
            .unwrap()
            .status
    };
    assert_eq!((asked(""), asked("origin: http://evil.example\r\n")), (200, 403));
}
