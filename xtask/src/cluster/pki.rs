//! Certificates and kubeconfigs of the local cluster: one authority, made anew with each cluster.
//!
//! For a throw-away cluster only: all keys lie in the cluster's folder, readable by root.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::plan::{self, Folders, Node};
use crate::process::write_atomically;

/// Makes everything below `pki/` and one kubeconfig for each user.
pub fn create(folders: &Folders, nodes: u8) -> Result<()> {
    let pki = folders.pki();
    fs::create_dir_all(&pki).with_context(|| format!("{} cannot be made", pki.display()))?;
    fs::set_permissions(&pki, fs::Permissions::from_mode(0o700))?;
    let authority = Authority::create(&pki)?;
    let service_accounts = KeyPair::generate()?;
    put(&pki, "sa.key", &service_accounts.serialize_pem())?;
    put(&pki, "sa.pub", &service_accounts.public_key_pem())?;

    let api_names = [
        "localhost",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        plan::CONTROL_ADDRESS,
        plan::API_SERVICE_ADDRESS,
    ];
    authority.server("apiserver", "kube-apiserver", &api_names)?;
    authority.client(
        "kubelet-client",
        "kube-apiserver-kubelet-client",
        Some("system:masters"),
    )?;
    let users = [
        ("admin", "admin", Some("system:masters")),
        ("controller-manager", "system:kube-controller-manager", None),
        ("scheduler", "system:kube-scheduler", None),
        ("proxy", "system:kube-proxy", None),
    ];
    for (file, name, group) in users {
        authority.client(file, name, group)?;
        kubeconfig(folders, file)?;
    }
    for node in Node::all(nodes) {
        authority.client(
            &node.name(),
            &format!("system:node:{}", node.name()),
            Some("system:nodes"),
        )?;
        kubeconfig(folders, &node.name())?;
        authority.server(
            &format!("{}-serving", node.name()),
            &node.name(),
            &[&node.name(), &node.address()],
        )?;
    }
    Ok(())
}

struct Authority<'a> {
    issuer: Issuer<'static, KeyPair>,
    pki: &'a Path,
}

impl<'a> Authority<'a> {
    fn create(pki: &'a Path) -> Result<Self> {
        let mut params = parameters("local", None, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        put(pki, "ca.crt", &params.self_signed(&key)?.pem())?;
        put(pki, "ca.key", &key.serialize_pem())?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            pki,
        })
    }

    fn client(&self, file: &str, name: &str, group: Option<&str>) -> Result<()> {
        let mut params = parameters(name, group, &[])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, &params)
    }

    fn server(&self, file: &str, name: &str, addresses: &[&str]) -> Result<()> {
        let mut params = parameters(name, None, addresses)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(file, &params)
    }

    fn sign(&self, file: &str, params: &CertificateParams) -> Result<()> {
        let key = KeyPair::generate()?;
        put(
            self.pki,
            &format!("{file}.crt"),
            &params.signed_by(&key, &self.issuer)?.pem(),
        )?;
        put(self.pki, &format!("{file}.key"), &key.serialize_pem())
    }
}

fn parameters(name: &str, group: Option<&str>, addresses: &[&str]) -> Result<CertificateParams> {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(addresses)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    // Wide on purpose: a cluster that lives for weeks, or a machine with a wrong clock, must not expire.
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn put(pki: &Path, name: &str, pem: &str) -> Result<()> {
    write_atomically(&pki.join(name), pem.as_bytes())
}

fn kubeconfig(folders: &Folders, user: &str) -> Result<()> {
    let (pki, server) = (folders.pki(), plan::CONTROL_ADDRESS);
    let pki = pki.display();
    let text = format!(
        "apiVersion: v1
kind: Config
current-context: local
contexts:
- name: local
  context: {{cluster: local, user: {user}}}
clusters:
- name: local
  cluster: {{server: \"https://{server}:6443\", certificate-authority: {pki}/ca.crt}}
users:
- name: {user}
  user: {{client-certificate: {pki}/{user}.crt, client-key: {pki}/{user}.key}}
"
    );
    write_atomically(&folders.kubeconfig(user), text.as_bytes())
}
