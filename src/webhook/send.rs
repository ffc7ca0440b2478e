//! One event over HTTP, signed.
//!
//! Always holds: a call ends within the timeout; what comes back is not read beyond its status. The secret is read from its
//! file at each call, so that a rotated one is used at once, and stands nowhere else.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::news::{Event, Kind};

/// Where to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// `http://` or `https://`.
    pub url: String,
    /// File with the secret that signs; `None`: unsigned.
    pub secret_file: Option<PathBuf>,
    /// PEM file with the only certificates to trust; `None`: the well-known ones.
    pub ca_file: Option<PathBuf>,
    /// What to tell; empty: everything.
    pub events: Vec<Kind>,
    /// Longest time for a call.
    pub timeout: Duration,
    /// Labels that used to come have fallen silent after this long.
    pub silence: Duration,
}

/// What became of a call.
#[derive(Debug)]
pub(super) enum Sent {
    /// 2xx.
    Taken,
    /// An answer that will be the same next time.
    Refused(String),
    /// No answer, or one that may be another next time.
    Failed(String),
}

impl Hook {
    /// True for what is to be told.
    pub(super) fn wants(&self, kind: Kind) -> bool {
        self.events.is_empty() || self.events.contains(&kind)
    }

    pub(super) fn send(&self, event: &Event) -> Sent {
        let body = event.body();
        // Of this call: whoever checks it takes an old one for a replay.
        let seconds = crate::time::now_ms() / 1_000;
        let signed = match self.sign(&event.id, seconds, &body) {
            Ok(signed) => signed,
            Err(why) => return Sent::Failed(why),
        };
        let agent = match self.agent() {
            Ok(agent) => agent,
            Err(why) => return Sent::Failed(why),
        };
        let mut request = agent
            .post(&self.url)
            .content_type("application/json")
            .header("webhook-id", &event.id)
            .header("webhook-timestamp", seconds.to_string());
        if let Some(signature) = signed {
            request = request.header("webhook-signature", signature);
        }
        match request.send(&body) {
            Ok(answer) => judged(answer.status().as_u16()),
            Err(error) => Sent::Failed(error.to_string()),
        }
    }

    fn agent(&self) -> Result<ureq::Agent, String> {
        let mut tls = ureq::tls::TlsConfig::builder();
        if let Some(path) = &self.ca_file {
            let text = std::fs::read(path).map_err(|e| format!("ca_file {}: {e}", path.display()))?;
            let trusted: Result<Vec<_>, _> = ureq::tls::parse_pem(&text)
                .filter_map(|item| match item {
                    Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(Ok(certificate)),
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                })
                .collect();
            let trusted = trusted.map_err(|e| format!("ca_file {}: {e}", path.display()))?;
            if trusted.is_empty() {
                return Err(format!("ca_file {} holds no certificate", path.display()));
            }
            tls = tls.root_certs(ureq::tls::RootCerts::new_with_certs(&trusted));
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(self.timeout))
            .http_status_as_error(false)
            // Nobody is contacted whom the settings do not name.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("dethrone/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build());
        Ok(config.build().into())
    }

    /// HMAC-SHA-256 over `id.timestamp.body`, as the Standard Webhooks specification has it.
    fn sign(&self, id: &str, seconds: i64, body: &str) -> Result<Option<String>, String> {
        let Some(path) = &self.secret_file else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|e| format!("secret_file {}: {e}", path.display()))?;
        let secret = secret_of(text.trim()).ok_or_else(|| {
            format!(
                "secret_file {} must hold a secret: whsec_ and base64, or any text of 16 characters or more",
                path.display()
            )
        })?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).map_err(|e| e.to_string())?;
        mac.update(format!("{id}.{seconds}.{body}").as_bytes());
        Ok(Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))))
    }
}

fn secret_of(text: &str) -> Option<Vec<u8>> {
    match text.strip_prefix("whsec_") {
        Some(encoded) => STANDARD.decode(encoded).ok().filter(|secret| !secret.is_empty()),
        None => (text.len() >= 16).then(|| text.as_bytes().to_vec()),
    }
}

/// Timeouts, floods and faults of a server pass; that it does not want the request does not.
fn judged(status: u16) -> Sent {
    match status {
        200..=299 => Sent::Taken,
        408 | 425 | 429 | 500..=599 => Sent::Failed(format!("status {status}")),
        300..=399 => Sent::Refused(format!(
            "status {status}: redirects are not followed, give the final address"
        )),
        _ => Sent::Refused(format!("status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_that_of_the_standard_webhooks_specification() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let hook = Hook {
            url: String::new(),
            secret_file: Some(file.clone()),
            ca_file: None,
            events: Vec::new(),
            timeout: Duration::from_secs(1),
            silence: Duration::from_secs(1),
        };
        let signed = hook.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(
            signed.unwrap().as_deref(),
            Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        );
        for bad in ["", "short", "whsec_", "whsec_!!"] {
            std::fs::write(&file, bad).unwrap();
            assert!(hook.sign("a", 0, "{}").is_err(), "{bad}");
        }
    }
}
