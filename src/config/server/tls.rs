//! `[tls]`: certificate and key of the listeners.

use super::super::reader::Section;
use super::{ServeArgs, optional};
use crate::tls::TlsFiles;

/// Names of the listeners.
const LISTENERS: [&str; 4] = ["data", "grpc", "admin", "metrics"];

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Where they stand.
    pub files: TlsFiles,
    /// Which listeners speak TLS.
    pub listeners: Vec<String>,
}

impl TlsConfig {
    /// Whether this listener speaks TLS.
    #[must_use]
    pub fn is_for(&self, listener: &str) -> bool {
        self.listeners.iter().any(|name| name == listener)
    }
}

pub(super) fn read(s: &mut Section<'_>, args: &ServeArgs) -> Option<TlsConfig> {
    let cert = optional(s, args.tls_cert.clone(), "cert");
    let key = optional(s, args.tls_key.clone(), "key");
    let client_ca = optional(s, args.tls_client_ca.clone(), "client_ca");
    let listeners: Option<Vec<String>> = optional(s, args.tls_listeners.clone(), "listeners");
    if let Some(name) = listeners
        .iter()
        .flatten()
        .find(|name| !LISTENERS.contains(&name.as_str()))
    {
        let name = crate::decode::clip(name);
        s.fault(
            "listeners",
            format!("'{name}' is no listener: name some of {}", LISTENERS.join(", ")),
        );
    }
    let (cert, key) = match (cert, key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => {
            for (name, is_set) in [("client_ca", client_ca.is_some()), ("listeners", listeners.is_some())] {
                if is_set {
                    s.fault(name, "means nothing without tls.cert and tls.key: set both");
                }
            }
            return None;
        }
        (cert, _) => {
            let missing = if cert.is_some() { "key" } else { "cert" };
            s.fault(missing, "is missing: TLS needs tls.cert and tls.key");
            return None;
        }
    };
    Some(TlsConfig {
        files: TlsFiles { cert, key, client_ca },
        listeners: listeners.unwrap_or_else(|| LISTENERS.map(str::to_owned).to_vec()),
    })
}
