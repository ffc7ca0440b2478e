//! What a request's head must be, beyond what hyper refuses by itself.

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Version, request::Parts};
use tokio::time::Instant;

use crate::decode::clip;
use crate::error::{Error, Kind};

/// Longest deadline that a client may ask for.
const MAX_TIMEOUT_MS: u64 = 3_600_000;

/// Ambiguous heads: no or several hosts, a body on GET.
pub(crate) fn head(parts: &Parts) -> Result<(), Error> {
    let hosts = parts.headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && parts.version == Version::HTTP_11 && parts.uri.authority().is_none()) {
        return Err(Error::new(Kind::BadRequest, "send exactly one Host header"));
    }
    let has_body = parts.headers.contains_key(TRANSFER_ENCODING)
        || parts.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_body && matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Error::new(Kind::BadRequest, "a GET has no body: send none"));
    }
    Ok(())
}

/// Bodies come as they are.
pub(crate) fn encoding(headers: &HeaderMap) -> Result<(), Error> {
    match headers.get(CONTENT_ENCODING) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"identity") => Err(Error::new(
            Kind::UnsupportedMediaType,
            "compressed bodies are not taken: send the body without Content-Encoding",
        )),
        _ => Ok(()),
    }
}

/// The media type, lower case, without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Many clients send JSON under another type or none; only what is clearly something else is refused.
pub(crate) fn not_foreign_type(headers: &HeaderMap) -> Result<(), Error> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    if value == "application/json" {
        return Ok(());
    }
    let kind = media_type(headers);
    let foreign = [
        "multipart/",
        "image/",
        "audio/",
        "video/",
        "application/grpc",
        "text/html",
    ];
    if foreign.iter().any(|f| kind.starts_with(f)) || kind.ends_with("xml") {
        let kind = clip(&kind);
        return Err(Error::new(
            Kind::UnsupportedMediaType,
            format!("'{kind}' is not taken here: send application/json"),
        ));
    }
    Ok(())
}

/// An admin POST must say that it is JSON: a web page cannot send that to another origin unasked.
pub(crate) fn json_type(headers: &HeaderMap) -> Result<(), Error> {
    if media_type(headers) == "application/json" {
        return Ok(());
    }
    Err(Error::new(
        Kind::UnsupportedMediaType,
        "send Content-Type: application/json",
    ))
}

/// The admin listener answers to its own names only, so that no web page can reach it by rebinding a name; to any where
/// it need not know where it is bound.
pub(crate) fn own_host(parts: &Parts, bound: Option<std::net::IpAddr>, is_tls: bool) -> Result<(), Error> {
    let (scheme, port) = if is_tls {
        ("https://", ":443")
    } else {
        ("http://", ":80")
    };
    let host = parts.headers.get(HOST).map(|v| v.to_str().unwrap_or(""));
    let host = host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
    if bound.is_some_and(|bound| !host.is_some_and(|h| is_own(h, bound))) {
        let host = clip(host.unwrap_or(""));
        return Err(Error::new(
            Kind::Forbidden,
            format!("'{host}' is not a name of this listener: use localhost or its address"),
        ));
    }
    for origin in parts.headers.get_all(ORIGIN) {
        let origin = origin.to_str().unwrap_or("");
        // A page of another port of this machine, or of another scheme, is somebody else's.
        let bare = |host: &'_ str| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
        let named = origin.strip_prefix(scheme).map(bare);
        if named.is_none() || named != host.map(bare) {
            let origin = clip(origin);
            return Err(Error::new(
                Kind::Forbidden,
                format!("requests from pages of '{origin}' are not taken here"),
            ));
        }
    }
    let site = parts.headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes);
    if parts.method == Method::POST && site.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
        let text = "orders from pages of another site are not taken here: send them from this listener's own pages";
        return Err(Error::new(Kind::Forbidden, text));
    }
    Ok(())
}

fn is_own(host: &str, bound: std::net::IpAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback() || ip == bound)
}

/// When the client stops waiting: the nearer of the two headers. 0 is allowed: of a deadline passed on from hop to hop
/// nothing may be left.
pub(crate) fn deadline(headers: &HeaderMap, now: Instant) -> Result<Option<Instant>, Error> {
    let longest = Duration::from_millis(MAX_TIMEOUT_MS);
    let own = headers.get("x-dethrone-timeout-ms").map(|value| {
        let ms = value.to_str().ok().and_then(|v| v.parse::<u64>().ok());
        ms.filter(|ms| *ms <= MAX_TIMEOUT_MS)
            .map(Duration::from_millis)
            .ok_or_else(|| {
                Error::new(
                    Kind::BadRequest,
                    format!("x-dethrone-timeout-ms is not a number of milliseconds: send 0 to {MAX_TIMEOUT_MS}"),
                )
            })
    });
    let grpc = headers.get("grpc-timeout").map(|value| {
        value.to_str().ok().and_then(grpc_timeout).ok_or_else(|| {
            Error::new(
                Kind::BadRequest,
                "grpc-timeout is not a time: send 1 to 8 digits and one of H M S m u n",
            )
        })
    });
    let spans = [own.transpose()?, grpc.transpose()?];
    Ok(spans.into_iter().flatten().min().map(|span| now + span.min(longest)))
}

/// The gRPC protocol's `TimeoutValue TimeoutUnit`.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// True when the client keeps out of shadow, store and evidence.
pub(crate) fn opted_out(headers: &HeaderMap) -> Result<bool, Error> {
    match headers.get("x-dethrone-opt-out").map(http::HeaderValue::as_bytes) {
        None | Some(b"0" | b"false") => Ok(false),
        Some(b"1" | b"true") => Ok(true),
        Some(_) => Err(Error::new(
            Kind::BadRequest,
            "x-dethrone-opt-out is neither 1 nor 0: send 1 to keep out of shadow and evidence",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_deadlines_the_nearer_counts_and_nonsense_is_refused() {
        let now = Instant::now();
        let read = |own: &'static str, grpc: &'static str| {
            let mut headers = HeaderMap::new();
            for (name, value) in [("x-dethrone-timeout-ms", own), ("grpc-timeout", grpc)] {
                if !value.is_empty() {
                    headers.insert(name, http::HeaderValue::from_static(value));
                }
            }
            deadline(&headers, now).map(|at| at.map(|at| at - now))
        };
        let ms = |ms| Ok(Some(Duration::from_millis(ms)));
        assert_eq!(read("", ""), Ok(None));
        assert_eq!(read("0", ""), ms(0));
        assert_eq!(read("250", "1S"), ms(250));
        assert_eq!(read("5000", "1S"), ms(1_000));
        assert_eq!(read("", "20000u"), ms(20));
        assert_eq!(read("", "99999999H"), ms(MAX_TIMEOUT_MS));
        for (own, grpc) in [
            ("-1", ""),
            ("3600001", ""),
            ("1.5", ""),
            ("", "S"),
            ("", "1"),
            ("", "1s"),
            ("", "123456789m"),
        ] {
            assert!(read(own, grpc).is_err(), "{own} {grpc}");
        }
    }

    #[test]
    fn only_own_names_pass_as_host() {
        let bound = "10.1.2.3".parse().unwrap();
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8082",
            "[::1]",
            "[::1]:1",
            "10.1.2.3:9",
            "127.0.0.1",
        ] {
            assert!(is_own(host, bound), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "10.1.2.4",
            ":80",
            "localhost:x",
            "127.0.0.1.evil:80",
        ] {
            assert!(!is_own(host, bound), "{host}");
        }
    }

    #[test]
    fn only_pages_of_this_listener_itself_are_let_in() {
        let let_in = |method: &str, headers: &[(&str, &str)]| {
            let mut request = http::Request::builder().method(method).uri("/api/models");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            own_host(&parts, "127.0.0.1".parse().ok(), false).is_ok()
        };
        let host = ("host", "127.0.0.1:8082");
        assert!(let_in("POST", &[host]));
        assert!(let_in(
            "POST",
            &[
                host,
                ("origin", "http://127.0.0.1:8082"),
                ("sec-fetch-site", "same-origin")
            ]
        ));
        assert!(let_in(
            "POST",
            &[
                ("host", "LOCALHOST"),
                ("origin", "http://localhost:80"),
                ("sec-fetch-site", "none")
            ]
        ));
        for origin in [
            "http://localhost:3000",
            "http://localhost:8082",
            "http://127.0.0.1:8083",
            "http://127.0.0.1",
            "https://127.0.0.1:8082",
            "null",
            "",
        ] {
            assert!(!let_in("POST", &[host, ("origin", origin)]), "{origin}");
            assert!(!let_in("GET", &[host, ("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "?"] {
            assert!(!let_in("POST", &[host, ("sec-fetch-site", site)]), "{site}");
            assert!(
                let_in("GET", &[host, ("sec-fetch-site", site)]),
                "a link from elsewhere: {site}"
            );
        }
    }

    #[test]
    fn under_tls_a_page_of_this_listener_is_one_of_https() {
        let let_in = |origin: &str, is_tls| {
            let request = http::Request::get("/api/models")
                .header("host", "localhost:443")
                .header("origin", origin);
            let (parts, ()) = request.body(()).unwrap().into_parts();
            own_host(&parts, None, is_tls).is_ok()
        };
        assert!(let_in("https://localhost", true) && let_in("http://localhost:443", false));
        assert!(!let_in("http://localhost:443", true) && !let_in("https://localhost:443", false));
    }

    #[test]
    fn a_deadline_is_a_number_of_milliseconds() {
        let now = Instant::now();
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-dethrone-timeout-ms", text.parse().unwrap());
            deadline(&headers, now)
        };
        assert_eq!(read("250").unwrap(), Some(now + Duration::from_millis(250)));
        for text in ["", "-1", "1.5", "soon", "99999999999999999999", "3600001"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(deadline(&HeaderMap::new(), now).unwrap(), None);
    }

    #[test]
    fn clients_may_send_json_under_many_types_but_not_as_something_else() {
        for (kind, taken) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("application/x-www-form-urlencoded", true),
            ("application/octet-stream", true),
            ("text/plain", true),
            ("text/xml", false),
            ("application/soap+xml; a=b", false),
            ("multipart/form-data; boundary=x", false),
            ("IMAGE/png", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            assert_eq!(not_foreign_type(&headers).is_ok(), taken, "{kind}");
        }
    }
}
