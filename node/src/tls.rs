//! The node's side of the session's TLS: its own certificate, and who may connect. The files are read anew for each
//! session, so that a rotated certificate needs no restart.

use std::{path::Path, sync::Arc};

use api::names::OPERATOR_COMMON_NAME;
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Why no session can be secured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or no PEM.
    #[error("cannot read {0}")]
    File(String, #[source] rustls_pki_types::pem::Error),
    /// The files do not fit together.
    #[error("the certificates do not fit together")]
    Config(#[from] rustls::Error),
    /// The authority is unusable.
    #[error("the certificate authority is unusable")]
    Authority(#[from] rustls::server::VerifierBuilderError),
}

/// What a session is accepted with.
pub fn server_config(directory: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in certificates(directory, "ca.crt")? {
        roots.add(authority)?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let key_file = directory.join("tls.key");
    let key = PrivateKeyDer::from_pem_file(&key_file)
        .map_err(|error| TlsError::File(key_file.display().to_string(), error))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(directory, "tls.crt")?, key)?;
    Ok(Arc::new(config))
}

fn certificates(directory: &Path, name: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let path = directory.join(name);
    let fail = |error| TlsError::File(path.display().to_string(), error);
    CertificateDer::pem_file_iter(&path)
        .map_err(fail)?
        .collect::<Result<_, _>>()
        .map_err(fail)
}

/// True for the operator's certificate; that it chains to the authority was checked by the handshake.
pub fn is_operator(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return false;
    };
    let mut names = parsed.subject().iter_common_name();
    names
        .next()
        .is_some_and(|name| name.as_str() == Ok(OPERATOR_COMMON_NAME))
        && names.next().is_none()
}
