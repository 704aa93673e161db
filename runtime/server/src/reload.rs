//! Reads the configuration and the certificate again while a server runs, and takes over what can
//! be changed. What can't be read, or is wrong, changes nothing.

use std::{sync::Arc, time::Duration};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use quern_gateway::{Gateway, Tls, Trouble};

use crate::{
    certificates::{CertificateError, CertificateFiles, Changes, Loaded, Look},
    config::{Config, ConfigError, Flags},
    logging::Log,
};

/// The certificate in use.
pub(crate) struct Certificate {
    tls: Arc<Tls>,
    /// What is shown.
    shown: Look,
    /// What was read last, whether or not it could be used.
    seen: Look,
    changes: Option<Changes>,
}

/// What is in force, and how it is changed.
pub(crate) struct Reloader {
    flags: Flags,
    running: Config,
    gateway: Arc<Gateway>,
    log: Arc<Log>,
    certificate: Option<Certificate>,
    metrics: Metrics,
}

/// Why nothing is changed.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Certificate {
    /// Begins to watch over the certificate that `tls` shows.
    pub(crate) fn new(tls: Arc<Tls>, look: Look, files: &CertificateFiles) -> Self {
        Self { tls, shown: look, seen: look, changes: watch(files) }
    }

    /// What connections are encrypted with.
    pub(crate) fn tls(&self) -> Arc<Tls> {
        self.tls.clone()
    }

    /// Shows another one if there is another one; says so.
    fn replace(
        &mut self,
        files: &CertificateFiles,
        loaded: Loaded,
    ) -> Result<bool, CertificateError> {
        if loaded.look == self.shown {
            return Ok(false);
        }
        warn_of_rights(files, loaded.wide);
        self.tls.replace(loaded.identity).map_err(|cause| files.refuse(cause))?;
        self.shown = loaded.look;
        Ok(true)
    }

    async fn changed(&mut self) {
        match &mut self.changes {
            Some(changes) => changes.next().await,
            None => std::future::pending().await,
        }
    }
}

impl Reloader {
    /// Takes care of a server that was started with these flags and this configuration.
    pub(crate) fn new(
        flags: Flags,
        running: Config,
        gateway: Arc<Gateway>,
        log: Arc<Log>,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::register(registry)?;
        Ok(Self { flags, running, gateway, log, certificate: None, metrics })
    }

    /// With a certificate to take care of, too.
    pub(crate) fn with(mut self, certificate: Option<Certificate>) -> Self {
        self.certificate = certificate;
        self
    }

    /// Time that requests get to finish.
    pub(crate) fn drain_timeout(&self) -> Duration {
        self.running.options.server.drain_timeout.0.0
    }

    /// Takes every certificate that comes, for ever. May be dropped at any time.
    pub(crate) async fn follow_certificate(&mut self) {
        loop {
            match &mut self.certificate {
                Some(certificate) => certificate.changed().await,
                None => std::future::pending().await,
            }
            self.reload_certificate();
        }
    }

    /// Reads everything again.
    pub(crate) fn reload(&mut self) {
        match self.try_reload() {
            Ok(()) => {
                self.metrics.reloaded.inc();
                self.gateway.set_trouble(Trouble::Configuration, false);
            }
            Err(error) => {
                self.metrics.refused.inc();
                tracing::error!(%error, "nothing is reloaded: the server goes on as it is");
                let trouble = match error {
                    ReloadError::Configuration(_) => Trouble::Configuration,
                    ReloadError::Certificate(_) => Trouble::Certificate,
                };
                self.gateway.set_trouble(trouble, true);
            }
        }
    }

    fn try_reload(&mut self) -> Result<(), ReloadError> {
        let wanted = self.flags.clone().load()?;
        let mut next = self.running.clone();
        next.take_live(&wanted);
        if let Some(files) = next.options.tls.files() {
            self.take_certificate(
                &files,
                self.running.options.tls.files().as_ref() != Some(&files),
            )?;
        }
        for change in self.running.changes(&next) {
            tracing::info!(option = change.key, from = change.from, to = change.to, "changed");
        }
        for change in next.changes(&wanted) {
            tracing::warn!(
                option = change.key,
                runs_with = change.from,
                configured = change.to,
                "needs a restart to change"
            );
        }
        let (before, after) = (&self.running.options.server, &next.options.server);
        if before.log_filter != after.log_filter {
            self.log.set_filter(&after.log_filter);
        }
        self.gateway.set_limits(next.options.http.limits());
        self.running = next;
        tracing::info!("reloaded");
        Ok(())
    }

    fn reload_certificate(&mut self) {
        let Some(files) = self.running.options.tls.files() else { return };
        let Some(certificate) = &mut self.certificate else { return };
        // Something else in their folders may have changed, such as the log that says so.
        let look = files.look();
        if look == certificate.seen {
            return;
        }
        certificate.seen = look;
        if let Err(error) = self.take_certificate(&files, false) {
            tracing::error!(%error, "the changed certificate is not used: the server shows the one before");
        }
    }

    /// Uses what the files hold, and watches them from now on where they are others than before.
    fn take_certificate(
        &mut self,
        files: &CertificateFiles,
        are_others: bool,
    ) -> Result<(), CertificateError> {
        let Some(certificate) = &mut self.certificate else { return Ok(()) };
        let replaced = files.load().and_then(|loaded| certificate.replace(files, loaded));
        self.gateway.set_trouble(Trouble::Certificate, replaced.is_err());
        match &replaced {
            Ok(true) => {
                self.metrics.certificate_taken.inc();
                tracing::info!(certificate = %files.certificate.display(), "a new certificate is used");
            }
            Ok(false) => {}
            Err(_) => self.metrics.certificate_refused.inc(),
        }
        replaced?;
        if are_others {
            certificate.changes = watch(files);
        }
        Ok(())
    }
}

fn watch(files: &CertificateFiles) -> Option<Changes> {
    match files.watch() {
        Ok(changes) => Some(changes),
        Err(error) => {
            tracing::warn!(%error, "changes of the certificate are seen at SIGHUP alone");
            None
        }
    }
}

/// A key is for the server alone.
pub(crate) fn warn_of_rights(files: &CertificateFiles, wide: Option<u32>) {
    if let Some(mode) = wide {
        let (key, mode) = (files.key.display(), format!("{mode:o}"));
        tracing::warn!(%key, %mode, "others may read or change the private key: chmod 600 it");
    }
}

struct Metrics {
    reloaded: IntCounter,
    refused: IntCounter,
    certificate_taken: IntCounter,
    certificate_refused: IntCounter,
}

impl Metrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let reloads = IntCounterVec::new(
            Opts::new("quern_reloads_total", "Reloads of configuration or certificate, by outcome"),
            &["of", "outcome"],
        )?;
        registry.register(Box::new(reloads.clone()))?;
        let of = |labels: [&str; 2]| reloads.with_label_values(&labels);
        Ok(Self {
            reloaded: of(["configuration", "taken"]),
            refused: of(["configuration", "refused"]),
            certificate_taken: of(["certificate", "taken"]),
            certificate_refused: of(["certificate", "refused"]),
        })
    }
}
