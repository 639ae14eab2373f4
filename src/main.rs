//! The entry point: parses the arguments, sets up logging and runs.

use std::process::ExitCode;

use clap::Parser as _;
use longshore::cli::Cli;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Namespaces must be created while the process has one thread and no handles.
    if let Some(code) = longshore::sandbox::entry() {
        return code;
    }
    longshore_heap::map_large_blocks();
    // The process holds the key, so other processes of the account must not read its memory.
    if let Err(error) = longshore::sandbox::hide_process() {
        eprintln!("longshore: the process cannot be hidden from its account: {error}");
    }
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
        // A line that cannot be written, for example because the disk is full, is dropped and does
        // not end a thread.
        .log_internal_errors(false)
        .init();
    match cli.run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("longshore: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
