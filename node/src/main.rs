//! `ddb-node`: reads arguments, starts logging and the runtime, and hands over to the library.

use clap::Parser;
use node::settings::Settings;

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(tracing_subscriber::EnvFilter::new(&settings.log))
        .init();
    // Two threads: while one is in a TLS handshake the other still answers.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()?;
    let result = runtime.block_on(node::run(settings));
    // A write to a frozen disk must not keep the agent from ending.
    runtime.shutdown_background();
    result
}
