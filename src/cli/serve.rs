//! `longshore serve`.

use std::net::SocketAddr;

use super::accounts::say;
use super::{CliError, Place};
use crate::app::App;
use crate::auth::setup_path;
use crate::server;

pub(super) async fn run(place: &Place, listen: Option<SocketAddr>) -> Result<(), CliError> {
    let mut settings = place.settings()?;
    settings.listen = listen.unwrap_or(settings.listen);
    if let Some(path) = &settings.git_ca_file {
        // Restarts the program if it must, so nothing may be open yet.
        crate::git::trust_ca_file(path).map_err(CliError::CaFile)?;
    }
    let address = settings.listen;
    let app = App::open(settings, &place.data)?;
    let failed = |cause| CliError::Listen { address, cause };
    let bound = server::bind(app.clone(), address).map_err(failed)?;
    say(&format!("Listening on http://{}", bound.address()))?;
    if app.auth().needs_setup()? {
        let link = app.auth().setup_link()?;
        say("This installation is new. Make the first account within a day at")?;
        say(&format!("http://{}{}", bound.address(), setup_path(&link)))?;
    }
    bound.run().await.map_err(failed)
}
