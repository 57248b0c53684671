//! TLS of the API: the user's certificate for clients, or the node's where there is none, and the nodes' between nodes.
//! The files are read anew when they change. The node's agent reads the files of its own sessions with the same functions.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// HTTP/2 in TLS's own words.
pub(crate) const HTTP2: &[u8] = b"h2";

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

/// The name by which nodes ask for each other: every node's certificate is valid for it, and no user's has to be.
const BETWEEN_NODES: &str = "localhost";

/// Shows nodes the node's certificate, which they verify by the database's authority, and everybody else the user's.
#[derive(Debug)]
struct Choice {
    node: Arc<CertifiedKey>,
    users: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let users = self
            .users
            .as_ref()
            .filter(|_| hello.server_name() != Some(BETWEEN_NODES));
        Some(Arc::clone(users.unwrap_or(&self.node)))
    }
}

/// What clients and other nodes are accepted with: the node's certificate, and the user's where there is one. A
/// certificate is asked for and not demanded.
pub fn server(directory: &Path, users: Option<Arc<CertifiedKey>>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(directory)?), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let choice = Choice {
        node: certified(directory)?,
        users,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(choice));
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificate of a directory with its key, which must belong to it.
pub fn certified(directory: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(directory, "tls.crt")?;
    let certified = CertifiedKey::from_der(chain, key(directory)?, &aws_lc_rs::default_provider())?;
    Ok(Arc::new(certified))
}

/// What another node is connected to with.
pub fn client(directory: &Path) -> Result<Client, TlsError> {
    let own = certificates(directory, "tls.crt")?;
    let server_name = own.first().and_then(host).ok_or(TlsError::NoName)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(directory)?)
        .with_client_auth_cert(own, key(directory)?)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
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
    let hosts = || {
        names.value.general_names.iter().filter_map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(host) if !host.contains('*') => Some(*host),
            _ => None,
        })
    };
    hosts()
        .find(|host| *host == BETWEEN_NODES)
        .or_else(|| hosts().next())
        .map(str::to_owned)
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
