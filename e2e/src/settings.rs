//! Where to run and with which images. Programs get this from their flags, tests from the environment that
//! `cargo xtask test` sets: the only variables read here are the four below.

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

/// Images as `cargo xtask images --output json` prints them: `{"operator":…,"node":…,"mysql":…}`.
pub const IMAGES_VARIABLE: &str = "DDB_E2E_IMAGES";
/// A context of the kubeconfig; without it the current one.
pub const CONTEXT_VARIABLE: &str = "DDB_E2E_CONTEXT";
/// The process number of the `cargo xtask` that runs this on its local cluster; none on another cluster.
pub const LOCAL_VARIABLE: &str = "DDB_E2E_LOCAL";
/// The path of `kubectl-ddb`, for tests of what people do with it.
pub const PLUGIN_VARIABLE: &str = "DDB_E2E_PLUGIN";

/// References of the three images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// The operator's.
    pub operator: String,
    /// The node agent's and supervisor's.
    pub node: String,
    /// The MySQL server's.
    pub mysql: String,
}

/// The cluster that is worked on and what is installed there.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Context of the kubeconfig; without it the current one.
    #[arg(long)]
    pub context: Option<String>,
    /// The images, as JSON: {"operator":"…","node":"…","mysql":"…"}.
    #[arg(long, value_parser = parse_images)]
    pub images: Images,
    /// A further value of the operator's chart, as KEY=VALUE; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub values: Vec<String>,
    /// The process number of the `cargo xtask` that runs this on its local cluster: machines are broken through it.
    #[arg(long)]
    pub local: Option<u32>,
}

/// The path of `kubectl-ddb`.
pub fn plugin() -> Result<String> {
    variable(PLUGIN_VARIABLE).with_context(|| {
        format!("this test runs kubectl-ddb; name it in {PLUGIN_VARIABLE}, or run `cargo xtask test`")
    })
}

fn parse_images(text: &str) -> Result<Images, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("{error}; expected {{\"operator\":…,\"node\":…,\"mysql\":…}}"))
}

impl Target {
    /// The target that `cargo xtask test` chose.
    pub fn from_environment() -> Result<Self> {
        let images = variable(IMAGES_VARIABLE).with_context(|| {
            format!("these tests need a cluster; run them as `cargo xtask test`, which brings one up and sets {IMAGES_VARIABLE}")
        })?;
        let images =
            serde_json::from_str(&images).with_context(|| format!("{IMAGES_VARIABLE} is not understood"))?;
        Ok(Self {
            context: variable(CONTEXT_VARIABLE),
            images,
            values: Vec::new(),
            local: variable(LOCAL_VARIABLE).and_then(|number| number.parse().ok()),
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment, because tests have no main"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
