//! What devices do for the tensors of functions, for `/metrics`. Reads it when it is asked, and
//! keeps nothing: what is gone has no series.

use std::sync::{Mutex, PoisonError, Weak};

use prometheus::{
    CounterVec, GaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::Shared;

/// Reads the devices while there are any.
pub(super) struct KernelsCollector {
    shared: Weak<Shared>,
    memory: GaugeVec,
    leased: GaugeVec,
    held: GaugeVec,
    sessions: GaugeVec,
    offered: GaugeVec,
    waiting: GaugeVec,
    lane_busy: CounterVec,
    tenant_leased: GaugeVec,
    tenant_used: GaugeVec,
    tenant_seconds: CounterVec,
    /// Held while the series are filled and read.
    collecting: Mutex<()>,
}

impl KernelsCollector {
    pub(super) fn new(shared: Weak<Shared>) -> Result<Self, prometheus::Error> {
        let gauge =
            |name: &str, help: &str, labels: &[&str]| GaugeVec::new(Opts::new(name, help), labels);
        let counter = |name: &str, help: &str, labels: &[&str]| {
            CounterVec::new(Opts::new(name, help), labels)
        };
        let (device, tenant) = (&["device"], &["device", "tenant"]);
        Ok(Self {
            shared,
            memory: gauge(
                "quern_device_tensor_memory_bytes",
                "Memory that there is for tensors of functions",
                device,
            )?,
            leased: gauge(
                "quern_device_tensor_leased_bytes",
                "Memory that sessions of tensors may use",
                device,
            )?,
            held: gauge(
                "quern_device_tensor_held_bytes",
                "Memory that sessions of tensors hold",
                device,
            )?,
            sessions: gauge("quern_device_sessions", "Sessions of tensors", device)?,
            offered: gauge(
                "quern_device_offered_tensors",
                "Tensors that wait for another session",
                device,
            )?,
            waiting: gauge(
                "quern_device_waiting_operators",
                "Operators that wait for a lane",
                device,
            )?,
            lane_busy: counter(
                "quern_device_lane_busy_seconds_total",
                "Time that a lane has computed tensors",
                &["device", "lane"],
            )?,
            tenant_leased: gauge(
                "quern_device_tenant_leased_bytes",
                "Memory that a tenant's sessions may use",
                tenant,
            )?,
            tenant_used: gauge(
                "quern_device_tenant_used_bytes",
                "Memory of a tenant's tensors",
                tenant,
            )?,
            tenant_seconds: counter(
                "quern_device_tenant_kernel_seconds_total",
                "Time that lanes have computed for a tenant",
                tenant,
            )?,
            collecting: Mutex::default(),
        })
    }

    fn families(&self) -> [&dyn Collector; 10] {
        [
            &self.memory,
            &self.leased,
            &self.held,
            &self.sessions,
            &self.offered,
            &self.waiting,
            &self.lane_busy,
            &self.tenant_leased,
            &self.tenant_used,
            &self.tenant_seconds,
        ]
    }

    fn reset(&self) {
        let gauges = [
            &self.memory,
            &self.leased,
            &self.held,
            &self.sessions,
            &self.offered,
            &self.waiting,
            &self.tenant_leased,
            &self.tenant_used,
        ];
        gauges.into_iter().for_each(GaugeVec::reset);
        [&self.lane_busy, &self.tenant_seconds].into_iter().for_each(CounterVec::reset);
    }

    fn read(&self, shared: &Shared) {
        let leases = shared.leases();
        for leased in leases.leased() {
            let device = leased.device.id.to_string();
            let labels = [device.as_str()];
            self.memory.with_label_values(&labels).set(leased.device.memory_bytes as f64);
            self.leased.with_label_values(&labels).set(leased.bytes as f64);
            self.sessions.with_label_values(&labels).set(leased.leases as f64);
        }
        // A tenant that has leases has an account, which says by what name it is shown.
        let of_tenants: Vec<_> = leases
            .of_tenants()
            .map(|(device, tenant, bytes)| (device, tenant.clone(), bytes))
            .collect();
        drop(leases);
        for (device, tenant, bytes) in of_tenants {
            let shown = shared.accounts.shown(&tenant, device);
            let labels = [device.to_string(), shown.as_str().to_owned()];
            self.tenant_leased.with_label_values(&labels).add(bytes as f64);
        }
        for ((tenant, device), account) in shared.accounts.all() {
            let labels = [device.to_string(), tenant.as_str().to_owned()];
            self.tenant_used.with_label_values(&labels).set(account.used_bytes() as f64);
            let seconds = account.computed_ns() as f64 / 1e9;
            self.tenant_seconds.with_label_values(&labels).inc_by(seconds);
        }
        for device in &shared.devices {
            let id = device.id().to_string();
            self.held.with_label_values(&[&id]).set(device.held_bytes() as f64);
            let offered = shared.offers.waiting(device.id());
            self.offered.with_label_values(&[&id]).set(offered as f64);
            let mut waiting = 0;
            for (lane, status) in device.status().iter().enumerate() {
                let labels = [id.clone(), lane.to_string()];
                self.lane_busy.with_label_values(&labels).inc_by(status.busy_ns as f64 / 1e9);
                waiting += status.waiting;
            }
            self.waiting.with_label_values(&[&id]).set(waiting as f64);
        }
    }
}

impl Collector for KernelsCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.families().into_iter().flat_map(|family| family.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _collecting = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        self.reset();
        if let Some(shared) = self.shared.upgrade() {
            self.read(&shared);
        }
        self.families().into_iter().flat_map(|family| family.collect()).collect()
    }
}
