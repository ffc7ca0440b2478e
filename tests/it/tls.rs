//! TLS on every listener, with clients that are not ours: what is spoken, who may connect, and certificates that change.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::client::request;
use crate::support::{Gateway, Site, elec2_row, shipped, until};

/// An authority, and what it has given out.
struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    /// Certificate and key in PEM.
    fn give(&self, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name.push(DnType::CommonName, "localhost");
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A certificate for the gateway of this site.
    fn give_to(&self, site: &Site) {
        let (certificate, key) = self.give(ExtendedKeyUsagePurpose::ServerAuth);
        for (name, text) in [("tls.crt", certificate), ("tls.key", key)] {
            write(&home(site).join(name), &text);
        }
    }

    fn client(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.issuer.pem().as_bytes()).unwrap())
            .unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// A connection that is to be under TLS at its first byte.
    fn connect(&self, to: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        StreamOwned::new(ClientConnection::new(self.client(&[]), name).unwrap(), stream)
    }

    /// One request over a connection of its own: status and body, or why there is none.
    fn ask(&self, to: SocketAddr, bytes: &[u8]) -> std::io::Result<(u16, String)> {
        let mut stream = self.connect(to);
        stream.write_all(bytes)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        status
            .map(|status| (status, body))
            .ok_or_else(|| std::io::Error::other(answer))
    }

    fn get(&self, to: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
        self.ask(to, &request("GET", path, "", b""))
    }

    fn ready(&self, site: &Site) -> Gateway {
        let gateway = site.start();
        until("readiness over TLS", || {
            (self.get(gateway.data, "/v2/health/ready").ok()?.0 == 200).then_some(())
        });
        gateway
    }
}

fn home(site: &Site) -> PathBuf {
    site.models().parent().unwrap().to_owned()
}

/// Whole, under another name first.
fn write(path: &Path, text: &str) {
    let draft = path.with_extension("part");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, path).unwrap();
}

fn site(more: &str, tls: &str) -> Site {
    let site = Site::new(&format!(
        "poll = \"100ms\"\nsettle_ms = 20\n{more}[tls]\ncert = \"tls.crt\"\nkey = \"tls.key\"\n{tls}"
    ));
    site.model_toml("elec2", "")
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    site
}

fn predict() -> Vec<u8> {
    let body = json!({"instances": [elec2_row()]}).to_string();
    request(
        "POST",
        "/predict",
        "content-type: application/json\r\n",
        body.as_bytes(),
    )
}

/// What Python's own client (OpenSSL) makes of it: the version, what was agreed on, and the answer's first line.
const PYTHON: &str = "
import socket, ssl, sys
port, ca, alpn, most = int(sys.argv[1]), sys.argv[2], sys.argv[3].split(','), sys.argv[4]
context = ssl.create_default_context(cafile=ca)
context.set_alpn_protocols(alpn)
if most == '1.1':
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers('ALL:@SECLEVEL=0')
if most == '1.2':
    context.maximum_version = ssl.TLSVersion.TLSv1_2
try:
    with context.wrap_socket(socket.create_connection(('127.0.0.1', port)), server_hostname='localhost') as s:
        s.settimeout(60)
        if s.selected_alpn_protocol() == 'h2':
            s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        else:
            s.sendall(b'GET /v2 HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n')
        print(s.version(), s.selected_alpn_protocol(), s.recv(12)[:12])
except ssl.SSLError as e:
    print('refused', e.reason)
";

fn python(to: SocketAddr, ca: &Path, alpn: &str, most: &str) -> String {
    let done = Command::new("python3")
        .args(["-W", "ignore", "-c", PYTHON, &to.port().to_string()])
        .arg(ca)
        .args([alpn, most])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

#[test]
fn each_listener_speaks_tls_within_the_limits_of_the_bare_ones_and_nothing_else() {
    let authority = Authority::new();
    let site = site("header_timeout = \"500ms\"\n", "");
    authority.give_to(&site);
    let gateway = authority.ready(&site);
    let ca = authority.ca();

    let (status, body) = authority.ask(gateway.data, &predict()).unwrap();
    assert!(status == 200 && body.contains("e01_logreg"), "{body}");
    assert_eq!(authority.get(gateway.admin, "/api/models").unwrap().0, 200);
    let said = |to, alpn, most| python(to, &ca, alpn, most);
    assert_eq!(said(gateway.data, "http/1.1", ""), "TLSv1.3 http/1.1 b'HTTP/1.1 200'");
    assert_eq!(
        said(gateway.data, "http/1.1", "1.2"),
        "TLSv1.2 http/1.1 b'HTTP/1.1 200'"
    );
    assert!(said(gateway.data, "h2,http/1.1", "").starts_with("TLSv1.3 h2 "));
    assert!(said(gateway.grpc, "h2", "").starts_with("TLSv1.3 h2 "));
    assert!(said(gateway.grpc, "http/1.1", "").starts_with("refused "));
    assert!(said(gateway.data, "http/1.1", "1.1").starts_with("refused "));
    // A certificate of somebody else is not taken for the gateway's.
    assert!(Authority::new().get(gateway.data, "/v2").is_err());

    // gRPC, as its clients do it.
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let connector = tokio_rustls::TlsConnector::from(authority.client(&[b"h2"]));
        let stream = tokio::net::TcpStream::connect(gateway.grpc).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        let request = http::Request::post("https://localhost/grpc.health.v1.Health/Check")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from_static(&[0; 5])))
            .unwrap();
        let answering = async {
            sender
                .send_request(request)
                .await
                .unwrap()
                .into_body()
                .collect()
                .await
                .unwrap()
        };
        let body = tokio::select! {
            body = answering => body,
            ended = connection => panic!("the connection ended first: {ended:?}"),
        };
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(&*body.to_bytes(), [0, 0, 0, 0, 2, 8, 1], "SERVING");
    });

    // Framing is as strict, and clients who are slow are cut: before the handshake, within it, within a head.
    let twice = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}";
    let (status, body) = authority.ask(gateway.data, twice).unwrap();
    assert!(status == 400 && body.contains("length is said twice"), "{body}");
    let mut silent = TcpStream::connect(gateway.data).unwrap();
    let mut begun = TcpStream::connect(gateway.grpc).unwrap();
    begun.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    let mut head = authority.connect(gateway.data);
    head.write_all(b"GET /v2 HT").unwrap();
    for stream in [&mut silent, &mut begun] {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let ended = stream.read(&mut [0; 64]);
        assert!(matches!(ended, Ok(0)) || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    }
    let mut rest = Vec::new();
    // It may end without the protocol's goodbye.
    let ended = head.read_to_end(&mut rest);
    assert!(
        ended.as_ref().is_ok_and(|read| *read == 0) || ended.is_err_and(|e| e.kind() != std::io::ErrorKind::WouldBlock)
    );

    // Whoever speaks HTTP where TLS is spoken gets no answer of HTTP.
    let mut bare = TcpStream::connect(gateway.data).unwrap();
    bare.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    bare.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = bare.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(authority.get(gateway.data, "/v2").unwrap().0, 200);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn certificates_are_changed_under_traffic_without_a_failed_request_and_faulty_ones_change_nothing() {
    let (old, new) = (Authority::new(), Authority::new());
    let site = site("", "listeners = [\"data\", \"grpc\"]\n");
    old.give_to(&site);
    let gateway = old.ready(&site);
    // The admin listener was left bare.
    assert_eq!(gateway.admin("/api/models")["models"][0]["name"], "elec2");
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let both = {
        let mut roots = RootCertStore::empty();
        for authority in [&old, &new] {
            roots
                .add(CertificateDer::from_pem_slice(authority.issuer.pem().as_bytes()).unwrap())
                .unwrap();
        }
        roots
    };
    let client = {
        let (stop, asked, to) = (Arc::clone(&stop), Arc::clone(&asked), gateway.data);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(both)
            .with_no_client_auth();
        let config = Arc::new(config);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let name = ServerName::try_from("127.0.0.1").unwrap();
                let stream = TcpStream::connect(to).unwrap();
                let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(&config), name).unwrap(), stream);
                stream.write_all(&predict()).unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).unwrap();
                assert!(
                    answer.starts_with(b"HTTP/1.1 200"),
                    "{}",
                    String::from_utf8_lossy(&answer)
                );
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let (_, key) = new.give(ExtendedKeyUsagePurpose::ServerAuth);
    write(&home(&site).join("tls.key"), &key);
    until("a complaint", || {
        site.log().contains("do not go together").then_some(())
    });
    assert_eq!(old.get(gateway.data, "/v2").unwrap().0, 200);
    assert!(new.get(gateway.data, "/v2").is_err());
    new.give_to(&site);
    gateway.signal("HUP");
    until("the new certificate", || new.get(gateway.data, "/v2").ok());
    assert!(old.get(gateway.data, "/v2").is_err());
    stop.store(true, Ordering::Relaxed);
    client.join().unwrap();
    assert!(asked.load(Ordering::Relaxed) > 3);
    let log = site.log();
    assert!(!key.lines().any(|line| line.len() > 20 && log.contains(line)), "{log}");
}

#[test]
fn where_clients_need_a_certificate_none_is_served_without_one_and_the_command_line_shows_its_own() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let site = site("", "client_ca = \"ca.crt\"\nlisteners = [\"admin\"]\n");
    authority.give_to(&site);
    std::fs::copy(authority.ca(), home(&site).join("ca.crt")).unwrap();
    let gateway = site.start().ready();
    assert!(authority.get(gateway.admin, "/api/models").is_err(), "no certificate");
    let status = |authority_of_client: Option<&Authority>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dethrone"));
        command
            .args(["status", "--admin", &format!("https://{}", gateway.admin), "--ca-file"])
            .arg(authority.ca());
        if let Some(giver) = authority_of_client {
            let (certificate, key) = giver.give(ExtendedKeyUsagePurpose::ClientAuth);
            let pem = giver.dir.path().join("client.pem");
            std::fs::write(&pem, format!("{certificate}{key}")).unwrap();
            command.arg("--client-pem").arg(pem);
        }
        let done = command.output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (done, said) = status(Some(&authority));
    assert!(done && said.contains("elec2"), "{said}");
    assert!(!status(None).0 && !status(Some(&stranger)).0);
    let mut faulty = Site::new("[tls]\ncert = \"nowhere.crt\"\n");
    let (code, said) = faulty.refused();
    assert!(code == Some(78) && said.contains("tls.key"), "{said}");
    faulty.set("[tls]\ncert = \"nowhere.crt\"\nkey = \"nowhere.key\"\n");
    let (code, said) = faulty.refused();
    assert!(
        code == Some(78) && said.contains("nowhere.crt does not exist"),
        "{said}"
    );
}
