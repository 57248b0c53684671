//! The node's side of the session's TLS: its own certificate, and who may connect. The files are read anew for each
//! session, so that a rotated certificate needs no restart.

use std::{path::Path, sync::Arc};

use api::names::OPERATOR_COMMON_NAME;
use data::tls::{TlsError, certificates, key, roots};
use rustls::{ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use rustls_pki_types::CertificateDer;

/// What a session is accepted with.
pub fn server_config(directory: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(directory)?), Arc::clone(&provider))
            .build()?;
    let key = key(directory)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(directory, "tls.crt")?, key)?;
    Ok(Arc::new(config))
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
