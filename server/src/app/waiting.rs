//! What is served while the database does not answer yet: that the process lives, and is not ready.
//!
//! Owns: the node's address until the node takes it. Refuses to know: what is waited for. Whoever looks after processes would else
//! find nothing there and start this one over and over; a balancer is told to send nobody.

use super::{StartError, listen};
use crate::config::Config;
use crate::tls::{self, Tls};
use crate::web;
use actix_http::HttpService;
use actix_server::{Server, ServerHandle};
use actix_service::{ServiceFactoryExt, map_config};
use actix_web::dev::AppConfig;
use std::sync::Arc;

/// Serves until it is stopped.
pub struct Waiting {
    server: ServerHandle,
}

impl Waiting {
    /// Takes the node's address.
    ///
    /// # Errors
    /// [`StartError`]: somebody else has it, or the certificate is of no use.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let tls = config.tls.as_ref().map(Tls::new).transpose()?.map(Arc::new);
        let listener = listen(config.listen)?;
        let server = Server::build()
            .workers(1)
            .disable_signals()
            .listen("waiting", listener, move || {
                let http = HttpService::build().finish(map_config(web::waiting(), |_| AppConfig::default()));
                tls::accepting(tls.clone()).and_then(http)
            })
            .map_err(|source| StartError::Listen { address: config.listen, source })?
            .run();
        let handle = server.handle();
        tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::warn!(%error, "nobody is told any more that the database is waited for");
            }
        });
        Ok(Self { server: handle })
    }

    /// Gives the address free.
    pub async fn stop(self) {
        self.server.stop(false).await;
    }
}
