//! `wasi:config`: what is set for the function, and below it what the manifest configures. Values are
//! read where they are kept: an instance has no copy beside what its guest makes.

use std::collections::BTreeMap;

use quern_types::Settings;
use wasmtime::component::{HasData, Linker};

use self::generated::wasi::config::store::{self, Error};
use super::Granted;
use crate::state::State;

mod generated {
    //! Bindings of the interface.

    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package quern:host;
            world configured {
                import wasi:config/store@0.2.0-rc.1;
            }
        ",
        world: "quern:host/configured",
        imports: { default: trappable },
    });
}

/// The configuration of one request.
pub(crate) struct ConfigView<'a> {
    pub(crate) granted: &'a Granted,
    pub(crate) settings: Option<&'a Settings>,
}

/// Names [`ConfigView`] for the linker.
struct Config;

impl HasData for Config {
    type Data<'a> = ConfigView<'a>;
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<State, Config>(linker, State::config)
}

impl store::Host for ConfigView<'_> {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, Error>> {
        let set = self.settings.and_then(|settings| settings.get(&key));
        let value = set.or_else(|| self.granted.config.get(&key).map(String::as_str));
        Ok(Ok(value.map(str::to_owned)))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, Error>> {
        let defaults = self.granted.config.iter().map(|(key, value)| (&**key, &**value));
        let mut all: BTreeMap<&str, &str> = defaults.collect();
        all.extend(self.settings.into_iter().flat_map(Settings::all));
        let owned = all.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(Ok(owned.collect()))
    }
}
