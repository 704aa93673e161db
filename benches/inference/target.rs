//! Who is measured, and with which generator: `wrk` for HTTP, `h2load` for gRPC, a loop in place of
//! both for an engine without a server.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::{
    engine::Engine,
    grpc::Grpc,
    models::{Form, Request},
    support::{
        group::{Awake, Sleeper},
        load::{self, Loaded, Measured},
    },
};

/// Something under load.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) way: Way,
    /// Who has to be woken for it.
    sleeper: Option<Sleeper>,
}

/// How it is loaded.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    Http(load::Target),
    Grpc(Grpc),
    Engine(Engine),
}

impl Target {
    /// A server that takes the request at this address; of gRPC, at this origin.
    pub(crate) fn new(
        name: &str,
        url: String,
        request: &Request,
        sleeper: Option<Sleeper>,
    ) -> Self {
        let way = match request.form {
            Form::Grpc => Way::Grpc(Grpc {
                name: name.to_owned(),
                origin: url,
                request: request.clone(),
                answer_bytes: None,
            }),
            Form::Json | Form::Binary | Form::Base64 => Way::Http(load::Target {
                name: name.to_owned(),
                url,
                body: Some(request.file.clone()),
                headers: request.headers.clone(),
            }),
        };
        Self { way, sleeper }
    }

    /// The engine without a server.
    pub(crate) fn engine(engine: Engine) -> Self {
        Self { way: Way::Engine(engine), sleeper: None }
    }

    /// Lets its server run until the guard is dropped.
    pub(crate) fn awake(&self) -> Option<Awake> {
        self.sleeper.map(Sleeper::awake)
    }

    /// What `wrk` and the open loop load.
    pub(crate) fn http(&self) -> Result<&load::Target> {
        match &self.way {
            Way::Http(target) => Ok(target),
            Way::Grpc(_) | Way::Engine(_) => bail!("{} is not called over HTTP/1", self.name()),
        }
    }
}

impl Loaded for Target {
    fn name(&self) -> &str {
        match &self.way {
            Way::Http(target) => &target.name,
            Way::Grpc(target) => &target.name,
            Way::Engine(engine) => &engine.name,
        }
    }

    async fn load(&self, connections: u32, time: Duration) -> Result<Measured> {
        let _awake = self.awake();
        match &self.way {
            Way::Http(target) => target.load(connections, time).await,
            Way::Grpc(target) => target.load(connections, time).await,
            Way::Engine(engine) => engine.load(time).await,
        }
        .with_context(|| self.name().to_owned())
    }
}
