//! The certificates of one database: its own authority, the certificate its nodes share, and the operator's client
//! identity. Makes and judges certificates; reads and writes no Secret, and reads no clock: the time is an argument.
//! Keys come from the operating system's randomness through rcgen and nowhere else.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::names;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use time::OffsetDateTime;

/// How long a database's authority is valid.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// How long the nodes' certificate is valid.
const NODE_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How long the operator's certificate is valid; it lives in memory and is made anew well before.
const OPERATOR_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Certificates are valid from a little before now, because the machines' clocks differ.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Why a certificate could not be made or read.
#[derive(Debug, Error)]
pub enum Error {
    /// A certificate or key could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// A stored certificate or key cannot be read.
    #[error("the stored {what} cannot be read: {reason}")]
    Read {
        /// Which part.
        what: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// TLS refuses the certificate.
    #[error("the certificate is not usable for TLS")]
    Tls(#[from] rustls::Error),
    /// A moment that no calendar reaches.
    #[error("the time is out of range")]
    Time(#[from] time::error::ComponentRange),
}

/// A certificate with its private key, both as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key; secret.
    pub key: String,
}

/// What a stored certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    not_before: Timestamp,
    not_after: Timestamp,
    hosts: BTreeSet<String>,
}

/// The DNS names that the nodes' certificate of a database must be valid for.
pub fn node_hosts(name: &str, namespace: &str) -> BTreeSet<String> {
    let nodes = names::nodes_service(name);
    let services = [
        name.to_owned(),
        names::master_service(name),
        names::slaves_service(name),
    ];
    let mut hosts = BTreeSet::from(["localhost".to_owned()]);
    for domain in [
        namespace.to_owned(),
        format!("{namespace}.svc"),
        format!("{namespace}.svc.cluster.local"),
    ] {
        hosts.insert(format!("*.{nodes}.{domain}"));
        hosts.extend(services.iter().map(|service| format!("{service}.{domain}")));
    }
    hosts.extend(services);
    hosts
}

/// Makes the authority of a database.
pub fn authority(name: &str, now: Timestamp) -> Result<Pair, Error> {
    let mut params = params(&format!("ddb authority {name}"), now, AUTHORITY_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes the certificate that all nodes of a database share, as servers and as each other's clients.
pub fn node(authority: &Pair, name: &str, namespace: &str, now: Timestamp) -> Result<Pair, Error> {
    let mut params = params(&format!("ddb node {name}"), now, NODE_LIFE)?;
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.subject_alt_names = node_hosts(name, namespace)
        .into_iter()
        .map(|host| Ok(SanType::DnsName(Ia5String::try_from(host)?)))
        .collect::<Result<_, rcgen::Error>>()?;
    sign(&params, authority)
}

/// Makes the operator's TLS client for the nodes of a database: it trusts the database's authority alone and shows
/// a certificate that only the operator can make.
pub fn client(authority: &Pair, now: Timestamp) -> Result<ClientConfig, Error> {
    let mut params = params(names::OPERATOR_COMMON_NAME, now, OPERATOR_LIFE)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let pair = sign(&params, authority)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&authority.certificate)?)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|error| Error::Read {
        what: "key",
        reason: error.to_string(),
    })?;
    // Named here because more than one library of this program could install another default.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(&pair.certificate)?], key)?;
    Ok(config)
}

/// Whether the operator's client made at `made` should be made anew.
pub fn client_is_due(made: Timestamp, now: Timestamp) -> bool {
    two_thirds_over(made, made + OPERATOR_LIFE, now)
}

/// Whether a pair still works together with an authority: both parts can be read and the key fits.
pub fn check_authority(authority: &Pair) -> Result<(), Error> {
    facts(&authority.certificate)?;
    let key = KeyPair::from_pem(&authority.key)?;
    Issuer::from_ca_cert_pem(&authority.certificate, &key)?;
    Ok(())
}

/// Reads a stored certificate.
pub fn facts(pem: &str) -> Result<Facts, Error> {
    let unreadable = |reason: String| Error::Read {
        what: "certificate",
        reason,
    };
    let der = certificate(pem)?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(&der).map_err(|error| unreadable(error.to_string()))?;
    let moment =
        |seconds: i64| Timestamp::from_second(seconds).map_err(|error| unreadable(error.to_string()));
    let names = parsed
        .subject_alternative_name()
        .map_err(|error| unreadable(error.to_string()))?;
    let hosts = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(host) => Some((*host).to_owned()),
            _ => None,
        })
        .collect();
    Ok(Facts {
        not_before: moment(parsed.validity().not_before.timestamp())?,
        not_after: moment(parsed.validity().not_after.timestamp())?,
        hosts,
    })
}

impl Facts {
    /// Whether the nodes' certificate must be made anew: two thirds of its life are over, or the names changed.
    pub fn is_due(&self, hosts: &BTreeSet<String>, now: Timestamp) -> bool {
        let Self {
            not_before,
            not_after,
            hosts: present,
        } = self;
        present != hosts || two_thirds_over(*not_before, *not_after, now)
    }
}

fn two_thirds_over(from: Timestamp, to: Timestamp, now: Timestamp) -> bool {
    let life = to.duration_since(from).as_secs();
    now.duration_since(from).as_secs() >= life / 3 * 2
}

fn params(common_name: &str, now: Timestamp, life: SignedDuration) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = moment(now - CLOCK_SKEW)?;
    params.not_after = moment(now + life)?;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn sign(params: &CertificateParams, authority: &Pair) -> Result<Pair, Error> {
    let authority_key = KeyPair::from_pem(&authority.key)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, &authority_key)?;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn moment(at: Timestamp) -> Result<OffsetDateTime, Error> {
    Ok(OffsetDateTime::from_unix_timestamp(at.as_second())?)
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| Error::Read {
        what: "certificate",
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn days(count: i64) -> SignedDuration {
        SignedDuration::from_hours(24 * count)
    }

    #[test]
    fn the_nodes_certificate_is_renewed_after_two_thirds_of_its_life_or_for_new_names() {
        let authority = authority("shop", now()).unwrap();
        let facts = facts(&node(&authority, "shop", "default", now()).unwrap().certificate).unwrap();
        let hosts = node_hosts("shop", "default");
        assert!(!facts.is_due(&hosts, now() + days(240)));
        assert!(facts.is_due(&hosts, now() + days(245)));
        assert!(facts.is_due(&node_hosts("shop", "other"), now()));
    }

    #[test]
    fn the_operators_client_is_made_from_the_stored_authority() {
        let authority = authority("shop", now()).unwrap();
        check_authority(&authority).unwrap();
        assert!(client(&authority, now()).is_ok());
        assert!(!client_is_due(now(), now() + days(19)) && client_is_due(now(), now() + days(21)));
    }

    #[test]
    fn a_damaged_authority_is_an_error_that_names_the_part() {
        let mut authority = authority("shop", now()).unwrap();
        authority.certificate = "nothing".to_owned();
        assert!(
            check_authority(&authority)
                .unwrap_err()
                .to_string()
                .contains("certificate")
        );
    }

    #[test]
    fn a_nodes_host_name_is_among_the_names_of_its_certificate() {
        let host = names::node_host("shop", "default", "shop-1");
        let (_, domain) = host.split_once('.').unwrap();
        assert!(node_hosts("shop", "default").contains(&format!("*.{domain}")));
    }
}
