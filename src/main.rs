//! Arguments, logging, run; nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use longshore::cli::Cli;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    longshore_heap::map_large_blocks();
    run()
}

#[actix_web::main]
async fn run() -> ExitCode {
    let cli = Cli::parse();
    let filter =
        EnvFilter::try_from_env("LONGSHORE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match cli.run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("longshore: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
