//! TLS of the API: the node's certificate for clients, and both sides' certificates between nodes. The files are
//! read anew when they change. The node's agent reads the files of its own sessions with the same functions.

use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Why nothing can be secured.
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
    /// The node's certificate names no host.
    #[error("the node's certificate names no host")]
    NoName,
}

/// What this node shows to another one.
pub struct Client {
    /// The configuration.
    pub config: Arc<ClientConfig>,
    /// The name that every node's certificate is valid for: they share one.
    pub server_name: String,
}

/// What clients and other nodes are accepted with. A certificate is asked for and not demanded.
pub fn server(directory: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(directory)?), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(directory, "tls.crt")?, key(directory)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What another node is connected to with.
pub fn client(directory: &Path) -> Result<Client, TlsError> {
    let own = certificates(directory, "tls.crt")?;
    let server_name = own.first().and_then(host).ok_or(TlsError::NoName)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(directory)?)
        .with_client_auth_cert(own, key(directory)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Client {
        config: Arc::new(config),
        server_name,
    })
}

/// The subject's common name of the node's own certificate; another node's is the same.
pub fn own_name(directory: &Path) -> Result<String, TlsError> {
    let own = certificates(directory, "tls.crt")?;
    own.first().and_then(common_name).ok_or(TlsError::NoName)
}

/// The first line of a certificate's subject.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

fn host(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        x509_parser::extensions::GeneralName::DNSName(host) if !host.contains('*') => {
            Some((*host).to_owned())
        }
        _ => None,
    })
}

/// The authority that every certificate must chain to.
pub fn roots(directory: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(directory, "ca.crt")? {
        roots.add(authority)?;
    }
    Ok(roots)
}

/// The node's own key.
pub fn key(directory: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let path = directory.join("tls.key");
    PrivateKeyDer::from_pem_file(&path).map_err(|error| TlsError::File(path.display().to_string(), error))
}

/// All certificates of a file.
pub fn certificates(directory: &Path, name: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let path = directory.join(name);
    let fail = |error| TlsError::File(path.display().to_string(), error);
    CertificateDer::pem_file_iter(&path)
        .map_err(fail)?
        .collect::<Result<_, _>>()
        .map_err(fail)
}
