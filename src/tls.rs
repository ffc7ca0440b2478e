//! TLS on the listeners, and to one: certificates and keys from PEM files.
//!
//! Always holds: TLS 1.2 and 1.3 alone; a connection keeps what it was opened under; files that cannot be used change
//! nothing; no byte of a key is shown or logged.
//! Leaves to others: when the files are read again (`gateway`), how long a handshake may take (`http::listener`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Where certificate and key stand, and who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and what leads from it to an authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Only clients with a certificate by one of these authorities; `None`: any.
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<PathBuf> {
        let own = [&self.cert, &self.key].into_iter().chain(&self.client_ca);
        own.cloned().collect()
    }
}

/// What a listener speaks under TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/2 or HTTP/1.1.
    Http,
    /// HTTP/2.
    Grpc,
}

/// The certificate in force.
pub struct Tls {
    files: TlsFiles,
    in_force: ArcSwap<InForce>,
}

struct InForce {
    http: Arc<ServerConfig>,
    grpc: Arc<ServerConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// By these files.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn load(files: TlsFiles) -> Result<Self, String> {
        let in_force = ArcSwap::from_pointee(read(&files)?);
        Ok(Self { files, in_force })
    }

    /// Where they stand.
    #[must_use]
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// New connections have the files as they are now.
    ///
    /// # Errors
    /// As [`Tls::load`]; nothing has changed then.
    pub fn reload(&self) -> Result<(), String> {
        self.in_force.store(Arc::new(read(&self.files)?));
        Ok(())
    }

    /// What a connection that is accepted now is to do first.
    pub(crate) fn acceptor(&self, speaks: Speaks) -> TlsAcceptor {
        let in_force = self.in_force.load();
        TlsAcceptor::from(Arc::clone(match speaks {
            Speaks::Http => &in_force.http,
            Speaks::Grpc => &in_force.grpc,
        }))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(files: &TlsFiles) -> Result<InForce, String> {
    let chain = certificates(&files.cert)?;
    let key = private_key(&files.key)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider())
                .build()
                .map_err(|error| format!("{}: {error}", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        format!(
            "{} and {} do not go together: {error}",
            files.cert.display(),
            files.key.display()
        )
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let grpc = Arc::new(config.clone());
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(InForce {
        http: Arc::new(config),
        grpc,
    })
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = crate::config::bytes_of(path).and_then(|bytes| bytes.ok_or_else(|| "does not exist".into()));
    bytes.map_err(|why| format!("{} {why}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = bytes(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    // What is wrong with it is not said in the parser's words: they may be the file's.
    chain
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| format!("{} holds no certificate in PEM form, or a damaged one", path.display()))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&bytes(path)?)
        .map_err(|_| format!("{} holds no private key in PEM form, or a damaged one", path.display()))
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

/// What a client does first who trusts the authorities of `ca`, and shows the certificate of `own`, which holds its key
/// too.
///
/// # Errors
/// What is wrong with the files.
pub(crate) fn connector(ca: &Path, own: Option<&Path>) -> Result<TlsConnector, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(ca)?);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(path) => builder
            .with_client_auth_cert(certificates(path)?, private_key(path)?)
            .map_err(|error| format!("{}: {error}", path.display()))?,
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(dir: &Path, name: &str) -> TlsFiles {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = TlsFiles {
            cert: dir.join(format!("{name}.crt")),
            key: dir.join(format!("{name}.key")),
            client_ca: None,
        };
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn files_that_cannot_be_used_are_named_and_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (files, other) = (pair(dir.path(), "a"), pair(dir.path(), "b"));
        let tls = Tls::load(files.clone()).unwrap();
        let in_force = || Arc::as_ptr(&tls.in_force.load().http);
        let before = in_force();
        let refused = |says: &str| {
            let why = tls.reload().unwrap_err();
            assert!(why.contains(says) && in_force() == before, "{why}");
            why
        };
        let key = std::fs::read_to_string(&files.key).unwrap();
        std::fs::copy(&other.key, &files.key).unwrap();
        refused("do not go together");
        let cut = &key[..key.len() - 40];
        std::fs::write(&files.key, cut).unwrap();
        let why = refused("no private key");
        assert!(!key.lines().any(|line| line.len() > 20 && why.contains(line)), "{why}");
        std::fs::remove_file(&files.key).unwrap();
        refused("does not exist");
        std::fs::copy(&other.key, &files.key).unwrap();
        std::fs::copy(&other.cert, &files.cert).unwrap();
        tls.reload().unwrap();
        assert!(in_force() != before);
        let strict = TlsFiles {
            client_ca: Some(other.key.clone()),
            ..other
        };
        assert!(Tls::load(strict).unwrap_err().contains("holds no certificate"));
        assert!(!format!("{tls:?}").contains("PRIVATE"));
    }
}
