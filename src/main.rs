//! Arguments, logging, run; nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use longshore::cli::Cli;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Namespaces are made by a process that has one thread and no handles yet.
    if let Some(code) = longshore::sandbox::entry() {
        return code;
    }
    longshore_heap::map_large_blocks();
    // Others of the account must not read this process: it has the key.
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
        // A line that cannot be written, because the disk with the log is full, is lost and ends no thread.
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
