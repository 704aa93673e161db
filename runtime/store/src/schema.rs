//! The tables of the catalog, one version after the other. Never reads or changes a row.

/// Each brings the tables from one version to the next; a released one never changes.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("schema/01_versions.sql"),
    include_str!("schema/02_access.sql"),
    include_str!("schema/03_traffic.sql"),
    include_str!("schema/04_sharing.sql"),
    include_str!("schema/05_tenants.sql"),
    include_str!("schema/06_settings.sql"),
    include_str!("schema/07_schedules.sql"),
    include_str!("schema/08_webhooks.sql"),
];
