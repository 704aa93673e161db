//! Where the instances of a function come from: made for one request, or, only where the manifest
//! asks for it, taken from those that have served one before.

use std::{future::Future, sync::Arc, time};

use quern_types::{Call, SpanKind};
use wasmtime::{PoolConcurrencyLimitError, Store, component::Component};
use wasmtime_wasi_http::handler::{Proxy, ProxyPre};

use crate::{
    Report,
    contract::{Contract, ContractPre},
    function::Setting,
    idle::Shelf,
    metrics::Metrics,
    output::Capture,
    report::Reporter,
    state::{self, State},
};

/// What instances are made from: a component, linked and checked.
pub(crate) trait Entry: Send + Sync {
    /// The exports of an instance.
    type Guest: Send + 'static;

    fn component(&self) -> &Component;

    fn instantiate(
        &self,
        store: &mut Store<State>,
    ) -> impl Future<Output = wasmtime::Result<Self::Guest>> + Send;
}

impl Entry for ProxyPre<State> {
    type Guest = Proxy;

    fn component(&self) -> &Component {
        match self {
            Self::P2(entry) => entry.instance_pre().component(),
            Self::P3(entry) => entry.instance_pre().component(),
        }
    }

    async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Proxy> {
        self.instantiate_async(store).await
    }
}

impl Entry for ContractPre<State> {
    type Guest = Contract;

    fn component(&self) -> &Component {
        self.instance_pre().component()
    }

    async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Contract> {
        self.instantiate_async(store).await
    }
}

/// One instance, for one request at a time.
pub(crate) struct Instance<G> {
    pub(crate) store: Store<State>,
    /// None before it is instantiated.
    guest: Option<G>,
    /// Requests that it has served to their good ends.
    served: u32,
    /// Handles that it held after the first of them.
    handles: usize,
    _counted: Counted,
}

/// An instance, as the gauge of them counts it.
struct Counted(Arc<Metrics>);

/// The instances of one function.
pub(crate) struct Instances<E: Entry> {
    entry: E,
    pub(crate) setting: Setting,
    /// Where they wait for their next requests, if they may.
    shelf: Option<Arc<Shelf<Instance<E::Guest>>>>,
}

impl<E: Entry> Instances<E> {
    pub(crate) fn new(entry: E, setting: Setting) -> Self {
        let shelf = setting.reuse.map(|reuse| Arc::new(Shelf::new(reuse.idle.0)));
        if let Some(shelf) = &shelf {
            setting.shelves.add(shelf);
            setting.memory.add(shelf);
        }
        Self { entry, setting, shelf }
    }

    /// What the instances are made of.
    pub(crate) fn component(&self) -> &Component {
        self.entry.component()
    }

    /// An instance for a request, and what reports how the request went.
    pub(crate) fn begin(
        &self,
        call: &Call,
        deliver: impl FnOnce(Report) + Send + 'static,
    ) -> (Instance<E::Guest>, Reporter) {
        let waiting = self.waiting(call);
        let reused = waiting.is_some();
        let instance = waiting.unwrap_or_else(|| Instance {
            store: self.store(call.clone(), &Capture::new(self.setting.limits.log)),
            guest: None,
            served: 0,
            handles: 0,
            _counted: Counted::new(self.setting.metrics.clone()),
        });
        let capture = instance.store.data().capture().clone();
        let mut reporter = self.setting.reporter(capture, deliver);
        if reused {
            reporter.reuses();
        }
        (instance, reporter)
    }

    /// An instance that has served before, with all that belongs to one request anew. Those that
    /// were made with other settings have seen them, and are dropped.
    fn waiting(&self, call: &Call) -> Option<Instance<E::Guest>> {
        let shelf = self.shelf.as_ref()?;
        let mut instance = shelf.take()?;
        while !instance.store.data().has_settings(call.settings.as_ref()) {
            instance = shelf.take()?;
        }
        instance.store.data_mut().renew(call.clone());
        instance.store.set_epoch_deadline(1);
        self.setting.metrics.reused.inc();
        Some(instance)
    }

    /// Makes sure that an instance is instantiated; returns its two parts.
    pub(crate) async fn ready<'a>(
        &self,
        instance: &'a mut Instance<E::Guest>,
        call: &Call,
    ) -> wasmtime::Result<(&'a mut Store<State>, &'a E::Guest)> {
        let Instance { store, guest, .. } = instance;
        if guest.is_none() {
            let start = time::Instant::now();
            let mut span = call.trace.begin(SpanKind::Internal, "instantiate");
            let made = self.instantiate(store, call).await;
            span.outcome(&made);
            *guest = Some(made?);
            let seconds = start.elapsed().as_secs_f64();
            self.setting.metrics.instantiate_seconds.observe(seconds);
        }
        Ok((store, guest.as_ref().expect("it was made above")))
    }

    /// Instantiates; where the pool is full, instances that only wait give way.
    async fn instantiate(
        &self,
        store: &mut Store<State>,
        call: &Call,
    ) -> wasmtime::Result<E::Guest> {
        loop {
            match self.entry.instantiate(store).await {
                Err(error)
                    if error.is::<PoolConcurrencyLimitError>()
                        && self.setting.shelves.make_room() =>
                {
                    // What exists of the instance already would take room too.
                    let capture = store.data().capture().clone();
                    *store = self.store(call.clone(), &capture);
                }
                outcome => return outcome,
            }
        }
    }

    /// Takes back an instance whose request ended well; it waits for the next one, if it may, which
    /// may have it before the last one is reported.
    pub(crate) fn take_back(&self, mut instance: Instance<E::Guest>, reporter: &mut Reporter) {
        if let (Some(shelf), Some(reuse)) = (&self.shelf, self.setting.reuse) {
            instance.served += 1;
            if instance.served < reuse.requests && instance.is_at_rest() {
                reporter.close();
                let bytes = instance.store.data().allowance.taken_bytes();
                shelf.put(instance, bytes);
            }
        }
    }

    fn store(&self, call: Call, capture: &Capture) -> Store<State> {
        state::store(self.component().engine(), &self.setting, call, capture)
    }
}

impl<G> Instance<G> {
    /// Whether nothing of its last request goes on or is kept: it has been refused nothing, and
    /// holds no more handles than after its first.
    fn is_at_rest(&mut self) -> bool {
        let state = self.store.data_mut();
        if !state.is_at_rest() {
            return false;
        }
        let handles = state.handles();
        // Those of the asynchronous component model: tasks, streams, futures.
        let concurrent = self.store.concurrent_resource_table();
        let handles = handles + concurrent.map_or(0, |table| table.iter_mut().count());
        if self.served == 1 {
            self.handles = handles;
        }
        handles <= self.handles
    }
}

impl Counted {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.instances.inc();
        Self(metrics)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.instances.dec();
    }
}
