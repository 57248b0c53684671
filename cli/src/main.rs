//! The program `kubectl-ddb`: arguments, runtime, exit code; everything else is in the library.
//!
//! Exit codes: 0 done, 1 failed or refused, 2 wrong arguments.

use std::process::ExitCode;

use clap::Parser;
use cli::arguments::Arguments;
use cli::commands;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider was installed before"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(commands::run(arguments));
    // Whatever still waits, such as a read of stdin, must not hold the program back.
    runtime.shutdown_background();
    Ok(code?)
}

/// `kubectl ddb logs … | head` is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
